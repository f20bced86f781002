"""Chains against their papers' formulas, exact recursions, acceptance rates by quadrature, and known constants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm
from torch import nn
from worlds import normal, random_mixture, scipy_log_prob, seeded, within_law

import ddpm_lite as dl

MOVES = {"mala": dl.mala, "metropolis": dl.metropolis}
each_move = pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
TAIL = 4.9  # a normal variable lies further out with probability 1e-6


def unit_normal(x):
    """log N(0, I) less its constant."""
    return -x.square().flatten(1).sum(1) / 2


def bound(n: int) -> float:
    """Hoeffding for a mean of n independent numbers in [0, 1]: beyond it with probability 1e-6."""
    return math.sqrt(math.log(2e6) / (2 * n))


# --- Langevin


def test_langevin_is_its_formula():
    x, mixture, step = normal(0, 4, 2), random_mixture(2), 0.07
    generator, y = seeded(1), x
    for _ in range(3):
        z = torch.randn(4, 2, generator=generator, dtype=torch.float64)
        y = y + step * mixture.score(y) + math.sqrt(2 * step) * z
    got = dl.langevin(mixture.score, x, step=step, n=3, generator=seeded(1))
    torch.testing.assert_close(got, y, rtol=1e-12, atol=1e-12)


def test_langevin_in_ncsns_letters():
    """NCSN, eq. 4: x + eps/2 score + sqrt(eps) z, so eps is twice our step."""
    x, eps = normal(0, 4, 2), 0.3
    z = torch.randn(4, 2, generator=seeded(1), dtype=torch.float64)
    got = dl.langevin(lambda x: -x, x, step=eps / 2, n=1, generator=seeded(1))
    torch.testing.assert_close(got, x - eps / 2 * x + math.sqrt(eps) * z)


def variance_of_langevin(step: float, var: float, n: int, start: float) -> float:
    """Of n steps on N(0, var), without chance: each is x -> A x + B z, read off with z = 0 and with x = 0."""
    score = lambda x: -x / var  # noqa: E731
    z = torch.randn(2, 1, generator=seeded(1), dtype=torch.float64)
    y = dl.langevin(score, torch.tensor([[0.0], [1.0]]).double(), step=step, n=1, generator=seeded(1))
    B = (y[0] / z[0]).item()
    A = (y[1] - B * z[1]).item()
    for _ in range(n):
        start = A**2 * start + B**2
    return start


@pytest.mark.parametrize("var", [1.0, 0.3])
@pytest.mark.parametrize("ratio", [0.25, 0.01, 1.0])
def test_langevins_variance_is_too_large_by_a_known_factor(var, ratio):
    """s^2 / (1 - step/(2 s^2)), from above and from below."""
    step = ratio * var
    want = var / (1 - step / (2 * var))
    assert variance_of_langevin(step, var, 2000, 0.0) == pytest.approx(want, rel=1e-10)
    assert variance_of_langevin(step, var, 2000, 9.0) == pytest.approx(want, rel=1e-10)


def test_langevin_diverges_at_twice_the_variance():
    assert variance_of_langevin(2.0 * 0.3, 0.3, 100, 1.0) == pytest.approx(1 + 100 * 4 * 0.3, rel=1e-10)
    assert variance_of_langevin(2.1 * 0.3, 0.3, 100, 1.0) > 1e6
    assert variance_of_langevin(1.9 * 0.3, 0.3, 2000, 1.0) == pytest.approx(0.3 / 0.05, rel=1e-6)


# --- Metropolis and MALA


def test_mala_is_metropolis_hastings_with_a_langevin_proposal():
    """Two steps on a full-covariance mixture, p and q by scipy's densities, with the same draws."""
    x, mixture, step, n = normal(0, 400, 2), random_mixture(2), 0.15, 2
    generator, y, kept = seeded(1), x.clone(), np.zeros(400)

    def log_q(to, origin):
        mean = origin + step * mixture.score(origin)
        return np.array([multivariate_normal(m, 2 * step * np.eye(2)).logpdf(p) for p, m in zip(to, mean, strict=True)])

    for _ in range(n):
        z = torch.randn(400, 2, generator=generator, dtype=torch.float64)
        new = y + step * mixture.score(y) + math.sqrt(2 * step) * z
        ratio = scipy_log_prob(mixture, new) + log_q(y, new) - scipy_log_prob(mixture, y) - log_q(new, y)
        u = 1 - torch.rand(400, generator=generator, dtype=torch.float64)
        keep = u.numpy() < np.exp(ratio)
        y[keep], kept = new[keep], kept + keep
    got, rate = dl.mala(lambda x: mixture.log_prob(x) + 7.0, x, step=step, n=n, generator=seeded(1))
    torch.testing.assert_close(got, y, rtol=1e-9, atol=1e-9)
    assert rate.tolist() == (kept / n).tolist()
    assert 0.2 < rate.mean() < 0.8


def test_metropolis_is_a_random_walk_with_refusals():
    x, mixture, step, n = normal(0, 400, 2), random_mixture(2), 0.8, 2
    generator, y, kept = seeded(1), x.clone(), np.zeros(400)
    for _ in range(n):
        new = y + step * torch.randn(400, 2, generator=generator, dtype=torch.float64)
        u = 1 - torch.rand(400, generator=generator, dtype=torch.float64)
        keep = u.numpy() < np.exp(scipy_log_prob(mixture, new) - scipy_log_prob(mixture, y))
        y[keep], kept = new[keep], kept + keep
    got, rate = dl.metropolis(lambda x: mixture.log_prob(x) - 7.0, x, step=step, n=n, generator=seeded(1))
    torch.testing.assert_close(got, y, rtol=1e-9, atol=1e-9)
    assert rate.tolist() == (kept / n).tolist()
    assert 0.2 < rate.mean() < 0.8


def test_acceptance_of_metropolis_on_the_normal():
    """From N(0, 1) with steps of standard deviation s: (2/pi) arctan(2/s)."""
    x = normal(0, 100_000, 1)
    for s in (0.5, 2.0, 6.0):
        _, rate = dl.metropolis(unit_normal, x, step=s, n=1, generator=seeded(1))
        assert abs(rate.mean().item() - 2 / math.pi * math.atan(2 / s)) < bound(100_000)


def test_acceptance_of_mala_on_the_normal():
    """From N(0, 1): log ratio = -(h/4)(y^2 - x^2), integrated on a grid of x and z."""
    x, n = normal(0, 100_000, 1), 401
    axis = np.linspace(-8, 8, n)
    u, z = np.meshgrid(axis, axis, indexing="ij")
    density = norm.pdf(u) * norm.pdf(z) * (16 / (n - 1)) ** 2
    for h in (0.25, 1.0):
        y = (1 - h) * u + math.sqrt(2 * h) * z
        log_q = norm.logpdf(u, (1 - h) * y, math.sqrt(2 * h)) - norm.logpdf(y, (1 - h) * u, math.sqrt(2 * h))
        exact = (density * np.minimum(1, np.exp(norm.logpdf(y) - norm.logpdf(u) + log_q))).sum()
        _, rate = dl.mala(unit_normal, x, step=h, n=1, generator=seeded(1))
        assert abs(rate.mean().item() - exact) < bound(100_000) + 1e-4


LAW = dl.GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [[[0.25]], [[0.49]]])


def law_cdf(v):
    return 0.3 * norm.cdf(v, -1, 0.5) + 0.7 * norm.cdf(v, 1, 0.7)


@each_move
def test_a_move_leaves_the_density_as_it_is(move):
    """Exact draws stay exact; 1e-6 false alarms. The step is so long that half of the proposals are refused."""
    x = LAW.sample(20_000, generator=seeded(1)).double()
    y, rate = move(LAW.log_prob, x, step=1.2 if move is dl.mala else 1.5, n=10, generator=seeded(2))
    assert 0.3 < rate.mean() < 0.7
    assert within_law(y[:, 0], law_cdf)
    far = dl.langevin(LAW.score, x, step=0.5, n=10, generator=seeded(2))
    assert not within_law(far[:, 0], law_cdf)  # the test has the power to see a step without refusals


@each_move
def test_a_move_finds_the_density_from_elsewhere(move):
    """200 moves from a uniform start: 1e-6 false alarms, what is left of the start under .003."""
    x = 6 * torch.rand(20_000, 1, generator=seeded(1), dtype=torch.float64) - 3
    y, _ = move(LAW.log_prob, x, step=0.2 if move is dl.mala else 1.5, n=200, generator=seeded(2))
    assert within_law(y[:, 0], law_cdf, slack=0.003)


def test_a_density_with_an_edge():
    """log p = -inf outside [0, 1]: never entered, and uniform inside; 1e-6 false alarms. NaN is refused as well."""
    inside = lambda x: ((x > 0) & (x < 1)).all(1)  # noqa: E731
    for outside in (-math.inf, math.nan):
        log_prob = lambda x, outside=outside: torch.where(inside(x), 0.0, outside).double()  # noqa: E731
        x = torch.full((20_000, 1), 0.1, dtype=torch.float64)
        y, _ = dl.metropolis(log_prob, x, step=0.5, n=60, generator=seeded(1))
        assert inside(y).all()
        assert within_law(y[:, 0], lambda v: v)
        y, rate = dl.mala(log_prob, x, step=0.1, n=60, generator=seeded(1))  # a constant has no gradient: it is 0
        assert inside(y).all()
        assert within_law(y[:, 0], lambda v: v)
        assert rate.mean() < 0.9


# --- annealed importance sampling

BETAS = torch.linspace(0, 1, 6, dtype=torch.float64)


def double_well(x):
    return -((x[:, 0] ** 2 - 4) ** 2) / 4 + x[:, 0] / 2


def normal_3(x):
    return -(x[:, 0] ** 2) / 18 - math.log(3 * math.sqrt(2 * math.pi))


TARGETS = {  # log p without its constant, log Z
    "double well": (double_well, math.log(quad(lambda x: math.exp(-((x**2 - 4) ** 2) / 4 + x / 2), -8, 8)[0])),
    "normal": (lambda x: 0.7 - (x[:, 0] - 1) ** 2 / 0.5, 0.7 + math.log(math.sqrt(2 * math.pi * 0.25))),
    "mixture": (lambda x: LAW.log_prob(x) + 1.5, 1.5),
}


@each_move
@pytest.mark.parametrize(("log_prob", "log_z"), TARGETS.values(), ids=TARGETS)
def test_the_mean_weight_is_exact_for_few_levels_and_short_moves(move, log_prob, log_z):
    """5 levels, 2 moves each: mean of w/Z is 1 within 4.9 standard errors, 1e-6; so are the weighted moments of p."""
    x = 3 * normal(1, 20_000, 1)
    y, log_w = dl.annealed_importance(
        log_prob, normal_3, x, betas=BETAS, step=0.1 if move is dl.mala else 1.0, n=2, move=move, generator=seeded(2)
    )
    w = (log_w - log_z).exp()
    error = w.std() / math.sqrt(len(w))
    assert error < 0.02
    assert abs(w.mean() - 1) < TAIL * error
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    p = (log_prob(grid) - log_z).exp() * 16 / 4000
    for f in (lambda x: x[:, 0], lambda x: (x[:, 0] - 1) ** 2):
        value = w * (f(y) - (p * f(grid)).sum())
        assert abs(value.mean()) < TAIL * value.std() / math.sqrt(len(w))


def exact_move(log_prob, x, *, step, n, generator):
    """Fresh draws of a Gaussian level, whose mean and variance come from three values of its log-density."""
    low, here, high = log_prob(torch.tensor([[-1.0], [0.0], [1.0]]).double()).tolist()
    var = -1 / (low + high - 2 * here)
    mean = var * (high - low) / 2
    return mean + math.sqrt(var) * dl.randn_like(x, generator=generator), torch.ones(len(x))


def test_with_perfect_moves_the_mean_log_weight_is_low_by_the_divergences():
    """E log w = log Z - sum_k KL(p_{k-1} || p_k), each in closed form; within 4.9 standard errors."""
    log_prob, log_z = TARGETS["normal"]  # N(1, .25) from N(0, 9)
    for levels, least, most in ((5, 3.0, 4.0), (40, 0.1, 0.4)):
        betas = torch.linspace(0, 1, levels + 1).double()
        _, log_w = dl.annealed_importance(
            log_prob, normal_3, 3 * normal(1, 20_000, 1), betas=betas, step=1.0, move=exact_move, generator=seeded(2)
        )
        var = 1 / ((1 - betas) / 9 + betas / 0.25)
        mean = var * betas / 0.25
        kl = (var[:-1] / var[1:] + mean.diff() ** 2 / var[1:] - 1 - (var[:-1] / var[1:]).log()).sum().item() / 2
        assert least < kl < most
        assert abs(log_w.mean().item() - (log_z - kl)) < TAIL * log_w.std().item() / math.sqrt(len(log_w))


def test_one_level_is_importance_sampling():
    x = 3 * normal(1, 50, 1)
    y, log_w = dl.annealed_importance(double_well, normal_3, x, betas=torch.tensor([0.0, 1.0]), step=0.1)
    assert torch.equal(x, y)
    torch.testing.assert_close(log_w, double_well(x) - normal_3(x))


def test_the_log_of_the_mean_is_low_by_half_the_variance_of_the_mean():
    """N(0, 9) for exp(-x^2/2): w = exp(-(1/2 - 1/18) x^2) 3 sqrt(2 pi), E[w^2]/E[w]^2 = 9/sqrt(17) in closed form.

    40,000 estimates from 100 weights each: their mean within 4.9 standard errors of -Var/(2 B), with .001 for O(1/B^2).
    """
    batches, B = 40_000, 100
    x = 3 * normal(1, batches * B, 1)
    _, log_w = dl.annealed_importance(
        unit_normal, normal_3, x, betas=torch.tensor([0.0, 1.0]), step=0.1, generator=seeded(1)
    )
    log_z = log_w.reshape(batches, B).logsumexp(1) - math.log(B) - math.log(math.sqrt(2 * math.pi))
    stated = -(9 / math.sqrt(17) - 1) / (2 * B)
    assert stated == pytest.approx(-0.0059, abs=1e-4)
    assert abs(log_z.mean().item() - stated) < TAIL * log_z.std().item() / math.sqrt(batches) + 1e-3


def test_a_base_sample_outside_the_target_has_weight_zero():
    """exp(-x^2/2) on x > 0 from N(0, 9): mean of w/Z is 1 within 4.9 standard errors; half of the weights are 0."""
    log_prob = lambda x: torch.where(x[:, 0] > 0, -(x[:, 0] ** 2) / 2, -math.inf)  # noqa: E731
    _, log_w = dl.annealed_importance(
        log_prob, normal_3, 3 * normal(1, 20_000, 1), betas=BETAS, step=1.0, move=dl.metropolis, generator=seeded(2)
    )
    w = log_w.exp() / math.sqrt(math.pi / 2)
    assert not w.isnan().any()
    assert abs((w == 0).double().mean() - 0.5) < bound(20_000)
    assert abs(w.mean() - 1) < TAIL * w.std() / math.sqrt(len(w))


# --- manners


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return -(x.flatten(1).square() @ self.weight)


RUNS = {
    "langevin": lambda net, x, **kw: (dl.langevin(lambda y: -2 * y * net.weight[0], x, step=0.1, n=2, **kw),),
    "mala": lambda net, x, **kw: dl.mala(net, x, step=0.1, n=2, **kw),
    "metropolis": lambda net, x, **kw: dl.metropolis(net, x, step=0.1, n=2, **kw),
    "ais": lambda net, x, **kw: dl.annealed_importance(net, unit_normal, x, betas=BETAS, step=0.1, **kw),
}
each_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


@each_run
@pytest.mark.parametrize("shape", [(3, 4), (4, 4), (3, 1, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_dtype_graph_and_randomness(run, shape, dtype):
    net, x = Net().to(dtype), normal(0, *shape).to(dtype).requires_grad_()
    before, start = torch.get_rng_state(), x.detach().clone()
    first, second = run(net, x, generator=seeded(1)), run(net, x, generator=seeded(1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(x, start)
    assert (first[0].shape, first[0].dtype) == (shape, dtype)
    assert all(value.shape == shape[:1] for value in first[1:])
    assert not any(value.requires_grad for value in first)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], x)
    assert net.weight.grad is None


@each_run
def test_samples_do_not_depend_on_their_shape(run):
    net, x = Net().double(), normal(0, 3, 4)
    flat, square = run(net, x, generator=seeded(1)), run(net, x.reshape(3, 1, 2, 2), generator=seeded(1))
    torch.testing.assert_close(square[0].flatten(1), flat[0])


X = normal(0, 4, 2)
BAD = {
    "step of langevin": (lambda: dl.langevin(LAW.score, X, step=0.0, n=1), r"step = 0.0: give a positive number"),
    "step of mala": (lambda: dl.mala(unit_normal, X, step=-1.0, n=1), r"step = -1.0: give"),
    "step of metropolis": (lambda: dl.metropolis(unit_normal, X, step=math.nan, n=1), r"step = nan: give"),
    "n of langevin": (lambda: dl.langevin(LAW.score, X, step=0.1, n=0), r"n = 0: give the number of steps, at least 1"),
    "n of mala": (lambda: dl.mala(unit_normal, X, step=0.1, n=0), r"n = 0: give"),
    "x": (lambda: dl.metropolis(unit_normal, X[:, 0], step=0.1, n=1), r"x has shape \(4,\): give \(B, \*shape\)"),
    "log_prob of mala": (
        lambda: dl.mala(lambda x: -x, X, step=0.1, n=1),
        r"log_prob or energy returned shape \(4, 2\): it must return \(4,\), one a sample",
    ),
    "log_prob as a column": (lambda: dl.metropolis(lambda x: x[:, :1], X, step=0.1, n=1), r"shape \(4, 1\): it must"),
    "base of ais": (
        lambda: dl.annealed_importance(unit_normal, lambda x: x, X, betas=BETAS, step=0.1),
        r"log_prob or energy returned shape \(4, 2\)",
    ),
    "betas from noise": (
        lambda: dl.annealed_importance(unit_normal, unit_normal, X, betas=BETAS.flip(0), step=0.1),
        r"betas = .*: give rising numbers from 0 \(the base\) to 1 \(the target\)",
    ),
    "betas without their end": (
        lambda: dl.annealed_importance(unit_normal, unit_normal, X, betas=BETAS[:-1], step=0.1),
        r"betas = ",
    ),
    "betas that stand": (
        lambda: dl.annealed_importance(unit_normal, unit_normal, X, betas=torch.tensor([0, 0.5, 0.5, 1]), step=0.1),
        r"betas = ",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input_names_argument_value_and_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
