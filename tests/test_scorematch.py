"""Score matching objectives against quadrature, enumeration of probes, Jacobians by another road, and one another."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from worlds import normal, random_mixture, seeded, slope_of

import ddpm_lite as dl
from ddpm_lite.scorematch import rademacher_like


class Field(nn.Module):
    """A small score network in float64; its Jacobian is neither constant nor symmetric."""

    def __init__(self, dim: int, seed: int = 0) -> None:
        super().__init__()
        self.first = nn.Parameter(normal(seed, dim, 7) / math.sqrt(dim))
        self.last = nn.Parameter(normal(seed + 1, 7, dim) / 2)
        self.bias = nn.Parameter(normal(seed + 2, dim))

    def forward(self, x):
        return (torch.tanh(x.flatten(1) @ self.first) @ self.last - 0.3 * x.flatten(1) + self.bias).reshape(x.shape)


class Energy(nn.Module):
    def __init__(self, dim: int, seed: int = 3) -> None:
        super().__init__()
        self.first, self.last = nn.Parameter(normal(seed, dim, 7) / math.sqrt(dim)), nn.Parameter(normal(seed + 1, 7))

    def forward(self, x):
        return torch.sin(x.flatten(1) @ self.first) @ self.last + 0.4 * x.square().flatten(1).sum(1)


def jacobian(score, x):
    """(B, D, D), by torch.func."""
    flat = lambda y: score(y.reshape(1, *x.shape[1:])).flatten()  # noqa: E731
    return torch.stack([torch.func.jacrev(flat)(row.flatten()) for row in x])


def by_hand(score, x):
    return torch.stack([J.trace() for J in jacobian(score, x)]) + score(x).flatten(1).square().sum(1) / 2


def grid(dim: int, half: float = 7.0, n: int = 161):
    """Points (N, dim) and the volume of each: the rectangle rule, exact to round-off for smooth bumps."""
    axis = torch.linspace(-half, half, n, dtype=torch.float64)
    return torch.cartesian_prod(*[axis] * dim).reshape(-1, dim), (2 * half / (n - 1)) ** dim


def hermite(dim: int, n: int = 3):
    """Points and weights for N(0, I): exact for polynomials of degree 2n - 1 in each coordinate."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(n))
    weights = weights / weights.sum()
    return torch.cartesian_prod(*[nodes] * dim).reshape(-1, dim), torch.cartesian_prod(*[weights] * dim).reshape(
        -1, dim
    ).prod(1)


def use_noise(monkeypatch, z):
    """Lay the noise of the losses on chosen points."""
    monkeypatch.setattr("ddpm_lite.scorematch.randn_like", lambda x, generator=None: z.to(x).reshape(x.shape))


def gradients(value, model):
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])


SHAPES = [(5, 2), (2, 2), (3, 3), (4, 1), (3, 1, 2, 2)]  # B == D is the trap of broadcasting
each_shape = pytest.mark.parametrize("shape", SHAPES)


# --- one sample at a time


@each_shape
def test_explicit_is_half_the_squared_distance(shape):
    x, target = normal(0, *shape), normal(1, *shape)
    field = Field(math.prod(shape[1:]))
    want = ((field(x) - target) ** 2).reshape(len(x), -1).sum(1) / 2
    torch.testing.assert_close(dl.explicit_sm(field, x, target), want)
    assert (dl.explicit_sm(field, x, field(x)) == 0).all()


@each_shape
def test_implicit_has_the_exact_trace(shape):
    x, field = normal(0, *shape), Field(math.prod(shape[1:]))
    torch.testing.assert_close(dl.implicit_sm(field, x), by_hand(field, x))


@each_shape
@pytest.mark.parametrize("variance_reduced", [True, False])
def test_sliced_is_the_quadratic_form_of_its_probe(shape, variance_reduced):
    x, v, field = normal(0, *shape), normal(1, *shape), Field(math.prod(shape[1:]))
    s, flat = field(x).flatten(1), v.flatten(1)
    square = s.square().sum(1) if variance_reduced else (s * flat).sum(1) ** 2
    want = torch.einsum("bi,bij,bj->b", flat, jacobian(field, x), flat) + square / 2
    got = dl.sliced_sm(field, x, variance_reduced=variance_reduced, probe=lambda x, generator: v)
    torch.testing.assert_close(got, want)


@each_shape
def test_denoising_is_the_regression_on_the_noise(shape):
    x, sigma, field = normal(0, *shape), 0.3, Field(math.prod(shape[1:]))
    z = torch.randn(shape, generator=seeded(5), dtype=torch.float64)
    noisy = x + sigma * z
    target = (x - noisy) / sigma**2  # the score of N(noisy; x, sigma^2 I)
    got = dl.denoising_sm(field, x, sigma=sigma, generator=seeded(5))
    torch.testing.assert_close(got, dl.explicit_sm(field, noisy, target))


@each_shape
def test_finite_difference_is_the_papers_formula(shape):
    x, radius, energy = normal(0, *shape), 0.3, Energy(math.prod(shape[1:]))
    z = torch.randn(shape, generator=seeded(5), dtype=torch.float64)
    want = []
    for point, direction in zip(x, z, strict=True):
        v = radius * direction / direction.square().sum().sqrt()
        here, plus, minus = (-energy(y[None])[0] for y in (point, point + v, point - v))
        want.append(point.numel() / radius**2 * (plus + minus - 2 * here + (plus - minus) ** 2 / 8))
    got = dl.finite_difference_sm(lambda y: -energy(y), x, radius=radius, generator=seeded(5))
    torch.testing.assert_close(got, torch.stack(want))


# --- means over probes and data, without chance

DATA = dl.book_mixture(2)
FIELDS = {
    "net": Field(2),
    "linear": lambda x: -0.8 * x,
    "rotation": lambda x: torch.stack([x[:, 1], -x[:, 0]], 1) - x,  # the gradient of nothing
    "truth": DATA.score,
}
each_field = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)


def test_explicit_less_implicit_is_one_constant():
    """1/2 E|grad log p|^2 for the book's mixture in the plane; every field has its own explicit loss."""
    x, volume = grid(2, half=4.0, n=201)
    p = DATA.log_prob(x).exp() * volume
    truth = DATA.score(x)
    constant = (p * truth.square().sum(1)).sum() / 2
    explicit = [(p * dl.explicit_sm(field, x, truth)).sum() for field in FIELDS.values()]
    implicit = [(p * dl.implicit_sm(field, x)).sum() for field in FIELDS.values()]
    for J, I in zip(explicit, implicit, strict=True):  # noqa: E741
        torch.testing.assert_close(J - I, constant, rtol=1e-8, atol=1e-8)
    assert explicit[-1] == 0
    assert min(explicit[:-1]) > 1


def test_implicit_fails_at_an_edge():
    """Data of density exp(-x) on x > 0: a constant score -k, and a score that is 0 at the edge."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.laguerre.laggauss(20))
    x, truth = nodes[:, None], -torch.ones(20, 1, dtype=torch.float64)

    def gap(score):
        return (weights * (dl.explicit_sm(score, x, truth) - dl.implicit_sm(score, x))).sum().item()

    constants = {k: lambda x, k=k: -k * torch.ones_like(x) for k in (0.0, 0.5, 1.0)}
    for k, score in constants.items():
        assert (weights * dl.implicit_sm(score, x)).sum().item() == pytest.approx(k**2 / 2)
        assert gap(score) == pytest.approx(0.5 - k)  # the missing term is p(0) s(0) = -k
    assert gap(lambda x: -x) == pytest.approx(0.5)
    assert gap(lambda x: -(x**2)) == pytest.approx(0.5)


@each_field
@pytest.mark.parametrize("variance_reduced", [True, False])
@pytest.mark.parametrize("law", ["signs", "normal"])
def test_sliced_mean_and_variance_over_all_probes(field, variance_reduced, law):
    """All four sign vectors, or a quadrature exact to degree 5; J of the first two rows of the docstring's formula."""
    if law == "signs":
        v, weights = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2))).double(), torch.full((4,), 0.25)
    else:
        v, weights = hermite(2)
    for point in normal(3, 5, 2):
        x = point.expand(len(v), 2)
        loss = dl.sliced_sm(field, x, variance_reduced=variance_reduced, probe=lambda x, generator: v)
        mean = (weights * loss).sum()
        torch.testing.assert_close(mean, by_hand(field, point[None])[0])
        J, s = jacobian(field, point[None])[0], field(point[None])[0]
        S = (J + J.T) / 2 + (0 if variance_reduced else torch.outer(s, s) / 2)
        want = 2 * (S.square().sum() if law == "normal" else 2 * S[0, 1] ** 2)
        torch.testing.assert_close((weights * (loss - mean) ** 2).sum(), want, rtol=1e-7, atol=1e-10)


def test_sliced_averages_its_projections():
    x, field = normal(0, 4, 3), Field(3)
    generator = seeded(1)
    each = [dl.sliced_sm(field, x, generator=generator) for _ in range(5)]
    torch.testing.assert_close(dl.sliced_sm(field, x, n_proj=5, generator=seeded(1)), torch.stack(each).mean(0))


def test_sliced_draws_signs():
    """In three dimensions v^T J v takes at most four values, not a continuum; Gaussian probes on request."""
    x, J = torch.zeros(400, 3, dtype=torch.float64), normal(1, 3, 3)
    assert len(dl.sliced_sm(lambda x: x @ J.T, x, generator=seeded(1)).round(decimals=9).unique()) == 4
    assert len(dl.sliced_sm(lambda x: x @ J.T, x, probe=dl.randn_like, generator=seeded(1)).unique()) == 400


def test_signs_are_fair_and_independent():
    """Each of 3 means and 3 products of pairs beyond .0283 has probability 1.2e-7 by Hoeffding: 7e-7 in all."""
    v = rademacher_like(torch.zeros(40_000, 3, dtype=torch.float32), generator=seeded(1))
    assert v.dtype == torch.float32
    assert set(v.unique().tolist()) == {-1.0, 1.0}
    pairs = torch.stack([v[:, 0] * v[:, 1], v[:, 1] * v[:, 2], v[:, 0] * v[:, 2]], 1)
    assert torch.cat([v.mean(0), pairs.mean(0)]).abs().max() < 0.0289


def laplacians(l, x):  # noqa: E741
    """Of l on R^D at each x: lap lap l and s . grad lap l, by nested automatic derivatives."""
    one = lambda y: l(y[None])[0]  # noqa: E731
    lap = lambda y: torch.func.hessian(one)(y).trace()  # noqa: E731
    laplap = torch.stack([torch.func.hessian(lap)(y).trace() for y in x])
    along = torch.stack([torch.func.grad(one)(y) @ torch.func.grad(lap)(y) for y in x])
    return laplap, along


@pytest.mark.parametrize("dim", [1, 2])
def test_finite_difference_is_off_by_its_formula(monkeypatch, dim):
    """The mean over all directions (32 on the circle, two on the line): order 2, and the coefficient."""
    energy, points = Energy(dim), normal(5, 4, dim)
    l = lambda y: -energy(y)  # noqa: E731, E741
    angle = torch.arange(32, dtype=torch.float64) * math.pi / 16
    directions = torch.stack([angle.cos(), angle.sin()], 1) if dim == 2 else torch.ones(32, 1).double()
    laplap, along = laplacians(l, points)
    coefficient = (laplap / 4 + along / 2) / (dim + 2)
    use_noise(monkeypatch, directions.repeat(4, 1) * 3)  # the length of the draw does not count
    exact, radii = by_hand(lambda x: dl.score_of(energy)(x), points), [0.2, 0.1, 0.05]
    bias = []
    for radius in radii:
        loss = dl.finite_difference_sm(l, points.repeat_interleave(32, 0), radius=radius)
        bias.append(loss.reshape(4, 32).mean(1) - exact)
    torch.testing.assert_close(bias[-1] / 0.05**2, coefficient, rtol=0.02, atol=0.02)
    assert slope_of([b.norm().item() for b in bias], [1 / r for r in radii]) == pytest.approx(2, abs=0.03)


def test_finite_difference_on_the_books_mixture():
    """Of one dimension, r = .05: off by -1.44 r^2 in the mean; in the limit by -1/12 of the mean fourth derivative."""
    mixture, (x, volume) = dl.book_mixture(1), grid(1, half=8.0, n=3001)
    p = mixture.log_prob(x).exp() * volume
    exact = (p * dl.implicit_sm(mixture.score, x)).sum()
    off = [(p * dl.finite_difference_sm(mixture.log_prob, x, radius=r)).sum() - exact for r in (0.05, 0.02)]
    assert off[0].item() / 0.05**2 == pytest.approx(-1.44, abs=5e-3)
    points = x.clone().requires_grad_()
    derivative = mixture.log_prob(points)
    for _ in range(4):
        (derivative,) = torch.autograd.grad(derivative.sum(), points, create_graph=True)
    limit = -(p * derivative[:, 0]).sum().item() / 12
    assert limit == pytest.approx(-1.456, abs=1e-3)
    assert off[1].item() / 0.02**2 == pytest.approx(limit, rel=3e-3)


def test_finite_difference_has_no_bias_on_a_gaussian(monkeypatch):
    angle = torch.arange(32, dtype=torch.float64) * math.pi / 16
    use_noise(monkeypatch, torch.stack([angle.cos(), angle.sin()], 1))
    precision = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    x = normal(0, 1, 2).expand(32, 2)
    loss = dl.finite_difference_sm(lambda y: -torch.einsum("bi,ij,bj->b", y, precision, y) / 2, x, radius=0.7)
    want = dl.implicit_sm(lambda y: -y @ precision, x[:1])[0]
    assert loss.mean().item() == pytest.approx(want.item(), rel=1e-12)


def test_finite_difference_in_float32_errs_as_its_docstring_says(monkeypatch):
    x, radius = normal(0, 200, 2).float(), 0.02
    log_prob = lambda y: 5 - 3 * y.square().sum(1)  # noqa: E731
    use_noise(monkeypatch, normal(1, 200, 2))
    narrow, wide = (dl.finite_difference_sm(log_prob, y, radius=radius) for y in (x, x.double()))
    error = (narrow - wide).square().mean().sqrt().item()
    stated = 2 * log_prob(x).abs().mean().item() * 1e-7 / radius**2
    assert stated / 4 < error < 4 * stated


# --- denoising against quadrature


def noised(score, sigma, monkeypatch):
    """Means of the denoising loss and of the explicit loss on p_sigma, data and noise on grids; 1/2 E|truth|^2."""
    data = dl.book_mixture(1)
    x, volume = grid(1, half=10.0, n=801)
    z, width = grid(1, half=7.0, n=201)
    normal_density = torch.exp(-(z[:, 0] ** 2) / 2) / math.sqrt(2 * math.pi)
    weight = (data.log_prob(x).exp() * volume)[:, None] * normal_density * width
    pairs, noise = x.repeat_interleave(len(z), 0), z.repeat(len(x), 1)
    use_noise(monkeypatch, noise)
    denoising = (weight.flatten() * dl.denoising_sm(score, pairs, sigma=sigma)).sum()
    path, t = dl.EDM(10.0), sigma / 10
    p = data.log_prob(x, path, t).exp() * volume
    truth = data.score(x, path, t)
    return denoising, (p * dl.explicit_sm(score, x, truth)).sum(), (p * truth.square().sum(1)).sum() / 2


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_denoising_is_explicit_on_the_noised_density_plus_its_floor(monkeypatch, sigma):
    data, path = dl.book_mixture(1), dl.EDM(10.0)
    for score in (Field(1), lambda x: -0.7 * x, lambda x: data.score(x, path, sigma / 10)):
        with torch.no_grad():
            denoising, explicit, energy = noised(score, sigma, monkeypatch)
        floor = 1 / (2 * sigma**2) - energy
        assert (denoising - explicit).item() == pytest.approx(floor.item(), rel=1e-7)
    assert explicit == pytest.approx(0, abs=1e-12)  # the last score is the noised truth: only the floor is left
    assert floor > 0.1


def test_denoising_fits_the_noised_density_and_its_gradient_is_noisy(monkeypatch):
    """Data N(0, 1), score -k x: the mean gradient is 0 at k = 1/(1 + sigma^2), its variance about 1/sigma^2."""
    nodes, weights = hermite(2, n=6)
    x, z = nodes[:, :1], nodes[:, 1:]
    use_noise(monkeypatch, z)
    for sigma in (0.5, 0.01):
        k = torch.full((len(x), 1), 1 / (1 + sigma**2), dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(dl.denoising_sm(lambda y, k=k: -k * y, x, sigma=sigma).sum(), k)
        assert (weights * gradient[:, 0]).sum().item() == pytest.approx(0, abs=1e-10)
    assert (weights * gradient[:, 0] ** 2).sum().item() * sigma**2 == pytest.approx(1, rel=0.01)


# --- learning: gradients in the parameters, each against the explicit loss


def test_gradients_of_implicit_and_sliced_are_those_of_explicit():
    field = Field(2)
    x, volume = grid(2, half=4.0, n=121)
    p, truth = DATA.log_prob(x).exp() * volume, DATA.score(x)
    want = gradients((p * dl.explicit_sm(field, x, truth)).sum(), field)
    assert want.norm() > 1
    losses = {"implicit": dl.implicit_sm(field, x)}
    for reduced in (True, False):
        signs = [torch.tensor([[a, b]]).double().expand_as(x) for a, b in itertools.product([-1.0, 1.0], repeat=2)]
        each = iter(signs)
        losses[f"sliced {reduced}"] = dl.sliced_sm(
            field, x, n_proj=4, variance_reduced=reduced, probe=lambda x, generator, each=each: next(each)
        )
    for loss in losses.values():
        torch.testing.assert_close(gradients((p * loss).sum(), field), want, rtol=1e-6, atol=1e-6)


def test_gradients_of_denoising_are_those_of_explicit_on_the_noised_density(monkeypatch):
    field = Field(1)
    denoising, explicit, _ = noised(field, 0.5, monkeypatch)
    torch.testing.assert_close(gradients(denoising, field), gradients(explicit, field), rtol=1e-6, atol=1e-6)


def test_gradients_of_an_energy(monkeypatch):
    """Implicit through the score of an energy (three derivatives), finite differences through its values."""
    energy = Energy(1)
    x, volume = grid(1, half=6.0, n=801)
    data = dl.book_mixture(1)
    p, truth = data.log_prob(x).exp() * volume, data.score(x)
    want = gradients((p * dl.explicit_sm(dl.score_of(energy), x, truth)).sum(), energy)
    got = gradients((p * dl.implicit_sm(dl.score_of(energy), x)).sum(), energy)
    torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-7)
    values = dl.finite_difference_sm(lambda y: -energy(y), x, radius=0.01)
    torch.testing.assert_close(gradients((p * values).sum(), energy), want, rtol=1e-3, atol=1e-3)


def test_training_reaches_the_minimum_in_closed_form():
    """A linear score x -> A x on a finite sample: the implicit loss is least at A = -C^-1, C = mean of x x^T."""
    x = random_mixture(2).sample(500, generator=seeded(1)).double()
    net = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    nn.init.zeros_(net.weight)
    want = -torch.linalg.inv(x.T @ x / len(x))
    dl.fit(lambda batch: dl.implicit_sm(net, batch), net, itertools.repeat(x), steps=400, lr=0.02)
    torch.testing.assert_close(net.weight.detach(), want, rtol=1e-3, atol=1e-3)


# --- what they cost, and what they leave alone


def test_cost_in_calls_of_the_network():
    """One evaluation each; backward products through it: D for implicit, n_proj for sliced, none for denoising."""
    forward, backward, field = [], [], Field(6)

    def score(x):
        y = field(x)
        forward.append(1)
        y.register_hook(lambda g: backward.append(1))
        return y

    x = normal(0, 4, 6)
    for loss, products in (
        (lambda: dl.implicit_sm(score, x), 6),
        (lambda: dl.sliced_sm(score, x), 1),
        (lambda: dl.sliced_sm(score, x, n_proj=3), 3),
        (lambda: dl.denoising_sm(score, x, sigma=1.0), 0),
    ):
        forward.clear(), backward.clear()
        loss()
        assert (len(forward), len(backward)) == (1, products)


FIELD = Field(3)
LOSSES = {
    "explicit": lambda score, x: dl.explicit_sm(score, x, torch.ones_like(x)),
    "implicit": dl.implicit_sm,
    "sliced": lambda score, x: dl.sliced_sm(score, x, generator=seeded(1)),
    "sliced, plain": lambda score, x: dl.sliced_sm(score, x, variance_reduced=False, generator=seeded(1)),
    "denoising": lambda score, x: dl.denoising_sm(score, x, sigma=0.5, generator=seeded(1)),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@each_loss
def test_without_gradients_the_value_is_the_same_and_no_graph_is_left(loss):
    x = normal(0, 4, 3)
    with torch.no_grad():
        value = loss(FIELD, x)
    assert not value.requires_grad
    torch.testing.assert_close(value, loss(FIELD, x).detach())
    assert not x.requires_grad


@each_loss
def test_points_that_want_a_gradient_get_it(loss):
    x = normal(0, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(FIELD, x), x)


@each_loss
def test_a_score_that_does_not_depend_on_x(loss):
    x, s = normal(0, 4, 3), normal(1, 4, 3)
    if loss in (LOSSES["implicit"], LOSSES["sliced"]):
        torch.testing.assert_close(loss(lambda x: s, x), s.square().sum(1) / 2)
    assert loss(lambda x: s, x).shape == (4,)


@each_loss
def test_float32_stays_float32(loss):
    net = nn.Linear(3, 3)
    assert loss(net, torch.randn(4, 3, generator=seeded(0))).dtype == torch.float32


@each_loss
def test_draws_come_from_the_generator(loss):
    x = normal(0, 4, 3)
    before = torch.get_rng_state()
    assert torch.equal(loss(FIELD, x), loss(FIELD, x))
    assert torch.equal(before, torch.get_rng_state())


def test_finite_differences_leave_no_trace_either():
    x, energy = normal(0, 4, 3).float(), Energy(3).float()
    before = torch.get_rng_state()
    values = [dl.finite_difference_sm(energy, x, generator=seeded(1)) for _ in range(2)]
    assert torch.equal(*values)
    assert values[0].dtype == torch.float32
    assert torch.equal(before, torch.get_rng_state())


X = normal(0, 4, 2)
BAD = {
    "x of one axis": (lambda: dl.implicit_sm(FIELDS["linear"], X[:, 0]), r"x has shape \(4,\): give \(B, \*shape\)"),
    "x of one axis, sliced": (lambda: dl.sliced_sm(FIELDS["linear"], X[:, 0]), r"x has shape \(4,\)"),
    "x of one axis, explicit": (lambda: dl.explicit_sm(FIELDS["linear"], X[:, 0], X[:, 0]), r"x has shape \(4,\)"),
    "x of one axis, denoising": (lambda: dl.denoising_sm(FIELDS["linear"], X[:, 0], sigma=1), r"x has shape \(4,\)"),
    "x of one axis, differences": (lambda: dl.finite_difference_sm(DATA.log_prob, X[:, 0]), r"x has shape \(4,\)"),
    "score of other shape": (
        lambda: dl.implicit_sm(lambda x: x[:, :1], X),
        r"score returned shape \(4, 1\): it must return the shape of x, \(4, 2\)",
    ),
    "score of an energy": (lambda: dl.denoising_sm(lambda x: x.sum(1), X, sigma=1.0), r"score returned shape \(4,\)"),
    "target": (lambda: dl.explicit_sm(DATA.score, X, X[:1]), r"target has shape \(1, 2\): give it .* \(4, 2\)"),
    "n_proj": (lambda: dl.sliced_sm(DATA.score, X, n_proj=0), r"n_proj = 0: give the number of projections"),
    "radius": (lambda: dl.finite_difference_sm(DATA.log_prob, X, radius=0.0), r"radius = 0.0: give a positive number"),
    "log_prob": (
        lambda: dl.finite_difference_sm(lambda x: x, X),
        r"log_prob returned shape \(4, 2\): it must return \(4,\), one a sample",
    ),
    "sigma": (lambda: dl.denoising_sm(DATA.score, X, sigma=0.0), r"sigma = 0.0: give the standard deviation"),
    "NaN sigma": (lambda: dl.denoising_sm(DATA.score, X, sigma=math.nan), r"sigma = nan: give"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input_names_argument_value_and_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
