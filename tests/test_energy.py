"""Learning energies: scores by another road, gradients of the likelihood by quadrature, fixed points in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from worlds import normal, random_mixture, seeded

import ddpm_lite as dl


class Quadratic(nn.Module):
    """E = k |x|^2/2: the model N(0, 1/k)."""

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(k, dtype=torch.float64))

    def forward(self, x):
        return self.k * x.square().flatten(1).sum(1) / 2


class Wave(nn.Module):
    """A smooth energy on the line with three parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.7, 0.9, 1.3], dtype=torch.float64))

    def forward(self, x):
        return self.w[0] * x[:, 0] ** 2 / 2 + self.w[1] * torch.sin(self.w[2] * x[:, 0])


# --- the score


@pytest.mark.parametrize("shape", [(5, 3), (3, 3), (4, 1, 3)])
def test_score_of_the_mixtures_energy_is_its_score(shape):
    mixture, x = random_mixture(3), normal(0, *shape)
    score = dl.score_of(lambda y: 2.0 - mixture.log_prob(y))
    torch.testing.assert_close(score(x), mixture.score(x))
    with torch.no_grad():
        value = score(x)
    assert not value.requires_grad
    torch.testing.assert_close(value, mixture.score(x))
    assert not x.requires_grad


def test_score_is_differentiable_again():
    """By x, -E'' and by the parameters, against derivatives written out."""
    energy, x = Wave(), normal(0, 6, 1).requires_grad_()
    a, b, c = energy.w.detach()
    score = dl.score_of(energy)(x)
    torch.testing.assert_close(score, -(a * x + b * c * torch.cos(c * x)))
    second, by_w = torch.autograd.grad(score.sum(), [x, energy.w])
    y = x.detach()
    torch.testing.assert_close(second, -(a - b * c**2 * torch.sin(c * y)))
    want = [-y.sum(), -(c * torch.cos(c * y)).sum(), -b * (torch.cos(c * y) - c * y * torch.sin(c * y)).sum()]
    torch.testing.assert_close(by_w, torch.stack(want))


def test_score_for_training_at_points_that_want_no_gradient():
    energy, x = Quadratic(2.0), normal(0, 6, 2)
    (by_k,) = torch.autograd.grad(dl.score_of(energy)(x).sum(), energy.k)
    torch.testing.assert_close(by_k, -x.sum())
    assert not x.requires_grad


def test_score_of_a_constant_is_zero():
    x = normal(0, 4, 2)
    assert (dl.score_of(lambda y: torch.ones(len(y)))(x) == 0).all()
    constant = nn.Parameter(torch.tensor(3.0))
    assert (dl.score_of(lambda y: constant.expand(len(y)))(x) == 0).all()


# --- the loss


def quantiles(density, n: int = 200_001):
    """Points that carry equal mass under a density on [-12, 12]: samples without chance, error O(1/n)."""
    x = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    cdf = torch.cumsum(density(x[:, None]), 0)
    ranks = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return x[torch.searchsorted(cdf / cdf[-1], ranks)][:, None]


def test_gradient_is_that_of_the_likelihood_at_samples_of_the_model():
    energy, data = Wave(), dl.book_mixture(1)
    x_pos = quantiles(lambda x: data.log_prob(x).exp())
    with torch.no_grad():
        x_neg = quantiles(lambda x: (-energy(x)).exp())
    (got,) = torch.autograd.grad(dl.cd_loss(energy, x_pos, x_neg).mean(), energy.w)
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
    log_z = (-energy(grid)).logsumexp(0) + math.log(24 / 4000)
    p = data.log_prob(grid).exp() * 24 / 4000
    (want,) = torch.autograd.grad((p * (energy(grid) + log_z)).sum(), energy.w)
    assert want.norm() > 0.1
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)


def test_loss_by_hand_and_no_gradient_through_the_chain():
    energy, x = Quadratic(1.5), normal(0, 3, 2)
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    pos, neg = 0.75 * x.square().sum(1), 3.0 * x.square().sum(1)
    loss = dl.cd_loss(energy, x, scale * x, reg=0.1)
    torch.testing.assert_close(loss, pos - neg + 0.1 * (pos**2 + neg**2))
    loss.sum().backward()
    assert scale.grad is None
    want = (pos - neg + 0.2 * (pos**2 + neg**2)).sum() / 1.5  # E is k times a constant
    torch.testing.assert_close(energy.k.grad, want)


# --- where contrastive divergence comes to rest

CLASSIC = (-math.sqrt(3), 0.0, math.sqrt(3)), (1 / 6, 2 / 3, 1 / 6)  # a rule for N(0, 1), exact to degree 5


def cd_gradient(k: float, h: float, monkeypatch) -> float:
    """d/dk of the mean cd_loss of CD-1 with `langevin` on N(0, 1) data; data and noise on the nodes of the rule."""
    nodes, weights = (torch.tensor(values, dtype=torch.float64) for values in CLASSIC)
    x, z = nodes.repeat_interleave(3)[:, None], nodes.repeat(3)[:, None]
    monkeypatch.setattr("ddpm_lite.mcmc.randn_like", lambda x, generator=None: z)
    energy = Quadratic(k)
    loss = dl.cd_loss(energy, x, dl.langevin(dl.score_of(energy), x, step=h, n=1))
    (gradient,) = torch.autograd.grad((weights.repeat_interleave(3) * weights.repeat(3) * loss).sum(), energy.k)
    return gradient.item()


def root(f, low: float, high: float) -> float:
    assert f(low) * f(high) < 0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if f(low) * f(middle) > 0 else (low, middle)
    return low


@pytest.mark.parametrize("h", [0.25, 0.05])
def test_cd_with_langevin_rests_at_a_biased_precision(monkeypatch, h):
    """(1 - sqrt(1 - 2h))/h is stable under gradient descent; (1 + sqrt(1 - 2h))/h, the other root, is not."""
    f = lambda k: cd_gradient(k, h, monkeypatch)  # noqa: E731
    stable, other = ((1 + sign * math.sqrt(1 - 2 * h)) / h for sign in (-1, 1))
    assert root(f, 0.5, 2.0) == pytest.approx(stable, rel=1e-10)
    assert root(f, 0.75 * other, 1.5 * other) == pytest.approx(other, rel=1e-10)
    assert f(stable + 0.01) > 0 > f(stable - 0.01)  # descent moves k back
    assert f(other + 0.01) < 0 < f(other - 0.01)


def test_longer_chains_rest_at_the_same_precision(monkeypatch):
    """The bias is that of `langevin`: its map of variances has 1 as a fixed point at this k, however often applied."""
    h = 0.25
    k = (1 - math.sqrt(1 - 2 * h)) / h
    moves = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)  # (x, z): read B, then A
    monkeypatch.setattr("ddpm_lite.mcmc.randn_like", lambda x, generator=None: moves[:, 1:])
    B, A = dl.langevin(dl.score_of(Quadratic(k)), moves[:, :1], step=h, n=1)[:, 0].tolist()
    assert pytest.approx(1, abs=1e-12) == A**2 + B**2
    assert pytest.approx(1, abs=1e-12) == B**2 / (1 - A**2)  # so the chain's long-run variance is 1 too
    assert pytest.approx(2 * h) == B**2


def test_cd_with_mala_rests_at_the_truth():
    """At k = 1 the mean gradient is 0 within 4.9 standard errors (1e-6); that of `langevin` is (1 - 9/16 - 1/2)/2."""
    energy, x, n, h = Quadratic(1.0), normal(0, 200_000, 1), 200_000, 0.25
    chains = {
        "mala": dl.mala(lambda y: -energy(y), x, step=h, n=1, generator=seeded(1))[0],
        "langevin": dl.langevin(dl.score_of(energy), x, step=h, n=1, generator=seeded(1)),
    }
    for name, x_neg in chains.items():
        gradient = (x**2 - x_neg**2)[:, 0] / 2  # by k, one sample at a time
        (mean,) = torch.autograd.grad(dl.cd_loss(energy, x, x_neg).mean(), energy.k)
        torch.testing.assert_close(mean, gradient.mean())
        error = 4.9 * gradient.std() / math.sqrt(n)
        assert abs(mean - {"mala": 0.0, "langevin": -1 / 32}[name]) < error
        assert error < 0.01


# --- the buffer


def test_draw_gives_different_chains_and_put_stores_them():
    start = normal(0, 50, 2, 3)
    buffer = dl.ReplayBuffer(start)
    x, slots = buffer.draw(normal(1, 20, 2, 3), restart=0.0, generator=seeded(1))
    assert len(slots.unique()) == 20
    assert torch.equal(x, start[slots])
    x += 100
    assert torch.equal(buffer.x, start)  # neither the caller's points nor those that were drawn are its own
    buffer.put(slots, x.requires_grad_() * 1)
    others = torch.ones(50, dtype=torch.bool)
    others[slots] = False
    assert torch.equal(buffer.x[slots], x.detach())
    assert torch.equal(buffer.x[others], start[others])
    assert not buffer.x.requires_grad
    assert start.max() < 50


def test_every_chain_is_drawn_alike():
    """A chain of 50 is among 20 with probability .4: 2,000 draws, each frequency within Hoeffding at 1e-6 / 50."""
    buffer, generator, count = dl.ReplayBuffer(torch.arange(50.0)[:, None]), seeded(1), torch.zeros(50)
    for _ in range(2000):
        count[buffer.draw(torch.zeros(20, 1), generator=generator)[1]] += 1
    assert (count / 2000 - 0.4).abs().max() < math.sqrt(math.log(2 * 50 / 1e-6) / 4000)


def test_restarts():
    """fresh takes over at random with the stated probability, in its own row; Hoeffding at 1e-6."""
    buffer, fresh = dl.ReplayBuffer(torch.zeros(20_000, 1)), torch.arange(1.0, 20_001)[:, None]
    for restart in (0.0, 0.05, 1.0):
        x, _ = buffer.draw(fresh, restart=restart, generator=seeded(1))
        again = x[:, 0] != 0
        assert torch.equal(x[again], fresh[again])
        assert abs(again.double().mean() - restart) < (0 if restart in (0, 1) else 0.0191) + 1e-12
    assert (buffer.x == 0).all()


def test_draw_takes_its_chance_from_the_generator():
    buffer, before = dl.ReplayBuffer(normal(0, 9, 2)), torch.get_rng_state()
    first, second = (buffer.draw(normal(1, 4, 2), restart=0.5, generator=seeded(1)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(before, torch.get_rng_state())


# --- the three methods learn


def learn(method: str, seed: int) -> tuple[float, float]:
    """Data of variance 1/4, k from 1 by 150 steps of descent: the mean of the last 50 k, and the best k."""
    energy, generator, ks = Quadratic(1.0), seeded(seed), []
    data = normal(0, 1000, 1) / 2
    noise = lambda: dl.randn_like(data, generator=generator)  # noqa: E731
    log_prob = lambda y: -energy(y)  # noqa: E731
    optimiser, buffer = torch.optim.SGD(energy.parameters(), lr=20.0), dl.ReplayBuffer(noise())
    for _ in range(150):
        if method == "CD-3":
            x_neg, _ = dl.mala(log_prob, data, step=0.1, n=3, generator=generator)
        elif method == "PCD":
            start, slots = buffer.draw(noise(), restart=0.0, generator=generator)
            x_neg, _ = dl.mala(log_prob, start, step=0.1, n=3, generator=generator)
            buffer.put(slots, x_neg)
        else:
            x_neg, _ = dl.mala(log_prob, noise(), step=0.1, n=15, generator=generator)
        optimiser.zero_grad()
        dl.cd_loss(energy, data, x_neg).mean().backward()
        optimiser.step()
        ks.append(energy.k.item())
    return sum(ks[-50:]) / 50, 1 / data.square().mean().item()


@pytest.mark.parametrize("method", ["CD-3", "PCD", "maximum likelihood"])
def test_the_three_methods_find_the_precision(method):
    """With MALA chains; the tolerance is more than 5 times the spread over seeds."""
    k, best = learn(method, seed=3)
    assert k == pytest.approx(best, rel=0.05)


X = normal(0, 4, 2)
ENERGY = Quadratic(1.0)
BUFFER = dl.ReplayBuffer(X)
BAD = {
    "energy of other shape": (
        lambda: dl.score_of(lambda x: x)(X),
        r"energy returned shape \(4, 2\): it must return \(4,\), one a sample",
    ),
    "energy as a column": (lambda: dl.cd_loss(lambda x: x[:, :1], X, X), r"energy returned shape \(4, 1\)"),
    "x_neg": (lambda: dl.cd_loss(ENERGY, X, X[:1]), r"x_neg has shape \(1, 2\): give it the shape of x_pos, \(4, 2\)"),
    "reg": (lambda: dl.cd_loss(ENERGY, X, X, reg=-1.0), r"reg = -1.0: give 0, or a small positive number"),
    "empty buffer": (lambda: dl.ReplayBuffer(X[:0]), r"x has shape \(0, 2\): give \(N, \*shape\)"),
    "too many": (
        lambda: BUFFER.draw(torch.zeros(5, 2)),
        r"fresh has shape \(5, 2\): give 1 to N samples like \(4, 2\)",
    ),
    "fresh of other shape": (lambda: BUFFER.draw(torch.zeros(2, 3)), r"fresh has shape \(2, 3\)"),
    "restart": (lambda: BUFFER.draw(X, restart=1.5), r"restart = 1.5: give the share of chains that start again"),
    "put": (lambda: BUFFER.put(torch.tensor([0, 1]), X), r"x has shape \(4, 2\): give \(2, 2\), a sample a slot"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input_names_argument_value_and_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
