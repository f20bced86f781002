"""Likelihoods against closed forms, enumerations and the exact mixture; bits against entropies that are known."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence
from worlds import PATHS, linear, noisy_points, normal, random_mixture, seeded, slope_of

import ddpm_lite as dl

each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


def signs(d: int) -> Tensor:
    """Every vector of d signs: the mean of v v^T over them is I exactly."""
    return torch.tensor(list(itertools.product([1.0, -1.0], repeat=d)), dtype=torch.float64)


# --- divergence


def curved(x: Tensor) -> Tensor:
    """f_i = sin(x_i) + x_i sum_j j x_j."""
    flat = x.flatten(1)
    j = torch.arange(flat.shape[1]).to(x)
    return (flat.sin() + flat * (flat * j).sum(1, keepdim=True)).reshape(x.shape)


def by_hand(x: Tensor) -> Tensor:
    """d f_i / d x_i = cos(x_i) + sum_j j x_j + i x_i."""
    flat = x.flatten(1)
    j = torch.arange(flat.shape[1]).to(x)
    return flat.cos().sum(1) + (flat.shape[1] + 1) * (flat * j).sum(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(4, 1), (3, 3), (2, 5), (3, 2, 2, 2)], ids=str)
def test_exact_divergence(shape, dtype):
    x = normal(0, *shape).to(dtype)
    y, div = dl.divergence(curved, x)
    torch.testing.assert_close(y, curved(x))
    torch.testing.assert_close(div, by_hand(x))
    assert div.dtype == dtype


@pytest.mark.parametrize("shape", [(3, 3), (2, 1, 2, 2)], ids=str)
def test_hutchinson_over_all_signs_is_the_trace(shape):
    x = normal(1, *shape)
    vectors = signs(x[0].numel())
    probe = vectors[:, None].expand(-1, shape[0], -1).reshape(-1, *shape)
    y, div = dl.divergence(curved, x, probe=probe)
    torch.testing.assert_close(div, by_hand(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(y, curved(x))
    each = torch.stack([dl.divergence(curved, x, probe=v)[1] for v in probe])
    torch.testing.assert_close(each.mean(0), div, rtol=1e-12, atol=1e-12)
    assert (each.std(0) > 0.01).all()


def test_variance_of_hutchinsons_estimate():
    """2 sum_{i != j} S_ij^2 for signs, by enumeration; 2 |S|_F^2 for Gaussian v, by a quadrature that is exact here."""
    A = normal(2, 2, 2)
    S = (A + A.T) / 2
    corner = torch.tensor([-math.sqrt(3), 0, math.sqrt(3)], dtype=torch.float64)  # Gauss-Hermite, exact to degree 5
    rules = {
        "signs": (signs(2), torch.full((4,), 0.25).double(), 2 * (S.square().sum() - S.diagonal().square().sum())),
        "normal": (
            torch.cartesian_prod(corner, corner),
            torch.cartesian_prod(*2 * [torch.tensor([1, 4, 1]).double() / 6]).prod(1),
            2 * S.square().sum(),
        ),
    }
    for vectors, weights, variance in rules.values():
        _, div = dl.divergence(lambda x: x @ A.T, normal(3, len(vectors), 2), probe=vectors)
        mean = weights @ div
        assert mean.item() == pytest.approx(A.trace().item(), abs=1e-12)
        assert (weights @ (div - mean) ** 2).item() == pytest.approx(variance.item(), abs=1e-12)


def test_divergence_is_differentiable():
    """div f of f = x |x|^2 is (D + 2) |x|^2, and its gradient 2 (D + 2) x."""
    x = normal(4, 5, 3).requires_grad_()
    _, div = dl.divergence(lambda x: x * x.square().sum(1, keepdim=True), x)
    torch.testing.assert_close(div, 5 * x.square().sum(1))
    torch.testing.assert_close(torch.autograd.grad(div.sum(), x)[0], 10 * x)
    with torch.no_grad():
        y, div = dl.divergence(curved, x)
    assert not y.requires_grad
    assert not div.requires_grad


# --- the probability-flow ODE


def angles(path: dl.Path, n: int, *, std: float = 0.5, r_min: float = 1e-4) -> Tensor:
    """n steps up to t = 1, even in atan(sigma / (alpha std)), from sigma/alpha = r_min or what the path has."""
    c = path.coefs(torch.tensor([1e-9, 1.0], dtype=torch.float64))
    low, high = torch.atan2(c.sigma, std * c.alpha).tolist()
    phi = torch.linspace(max(low, math.atan(r_min / std)), high, n + 1, dtype=torch.float64)
    ts = path.t_of(-(std * phi.tan()).log())
    ts[-1] = 1
    return ts


def log_prob(mixture: dl.GaussianMixture, path: dl.Path, x: Tensor, ts: Tensor, **options) -> Tensor:
    """By the ODE, with the noised mixture itself as the prior."""
    prior = lambda x: mixture.log_prob(x, path, ts[-1])  # noqa: E731
    return dl.ode_log_prob(mixture.denoiser(path), path, x, ts, prior=prior, **options)


@each_path
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_log_prob_of_a_mixture(path, dim):
    """B == D among them."""
    mixture, ts = random_mixture(dim, seed=dim), angles(path, 12)
    x = noisy_points(mixture, path, ts[0], n=3)
    got = log_prob(mixture, path, x, ts)
    assert got.shape == (3,)
    torch.testing.assert_close(got, mixture.log_prob(x, path, ts[0]), rtol=0, atol=1e-4)


@each_path
def test_log_prob_between_two_levels(path):
    mixture, ts = dl.book_mixture(2), path.t_of(torch.linspace(0.7, -1.0, 9).double())
    x = noisy_points(mixture, path, ts[0], n=20)
    torch.testing.assert_close(log_prob(mixture, path, x, ts), mixture.log_prob(x, path, ts[0]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["VP", "RectifiedFlow"])
def test_order_4_in_the_steps(name):
    path, mixture = PATHS[name], dl.book_mixture(2)
    n, finest = [4, 8, 16], angles(path, 16, std=0.7)
    x = noisy_points(mixture, path, finest[0], n=40)
    want = mixture.log_prob(x, path, finest[0])
    errors = [(log_prob(mixture, path, x, finest[:: 16 // k]) - want).abs().mean().item() for k in n]
    assert slope_of(errors, n) > 4
    assert errors[-1] < 1e-6


@pytest.mark.parametrize("name", ["VP", "RectifiedFlow"])
def test_the_same_by_another_solver_in_another_frame(name):
    """dopri5 on x itself along the velocity, with int div u dt as one more coordinate of the state."""
    path, mixture, ts = PATHS[name], random_mixture(2), torch.tensor([0.05, 0.9], dtype=torch.float64)
    den, x = mixture.denoiser(path), noisy_points(mixture, path, 0.05, n=5)

    def f(state, t):
        velocity = lambda x: dl.encode(den(x, t), path.at(t, x), "velocity")  # noqa: E731
        u, div = dl.divergence(velocity, state[:, :2])
        return torch.cat([u, div[:, None]], 1)

    with torch.no_grad():
        end = dl.dopri5(f, torch.cat([x, torch.zeros(5, 1)], 1), ts, rtol=1e-8, atol=1e-8)[-1]
    fine = path.t_of(torch.linspace(*path.lam(ts).tolist(), 25, dtype=torch.float64))
    got = dl.ode_log_prob(den, path, x, fine, prior=lambda x: x[:, 0])  # any function will do
    torch.testing.assert_close(got, end[:, 0] + end[:, 2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("data_std", [0.1, 0.5, 3.0])
def test_any_data_std_gives_the_same(data_std):
    path, mixture = dl.VP(), dl.book_mixture(2)
    ts = angles(path, 16)
    x = noisy_points(mixture, path, ts[0], n=20)
    want = mixture.log_prob(x, path, ts[0])
    torch.testing.assert_close(log_prob(mixture, path, x, ts, data_std=data_std), want, rtol=0, atol=1e-4)


@each_path
def test_gaussian_data_of_that_std_needs_one_step(path):
    """The slope in the angle is 0: nothing is left but the change of scale."""
    data = dl.GaussianMixture([1.0], [[0.0, 0.0]], [0.49 * torch.eye(2)])
    ts, x = torch.tensor([1e-3, 1.0]).double(), normal(5, 6, 2)
    torch.testing.assert_close(
        log_prob(data, path, x, ts, data_std=0.7), data.log_prob(x, path, 1e-3), rtol=0, atol=1e-8
    )


def isotropic(weights: Tensor, means: Tensor, stds: Tensor) -> dl.GaussianMixture:
    return dl.GaussianMixture(weights / weights.sum(), means, stds[:, None, None] ** 2 * torch.eye(2).double())


def benchmark_a() -> dl.GaussianMixture:
    phi = 2 * math.pi * torch.arange(5).double() / 5
    means = 0.7 * torch.stack([phi.cos(), phi.sin()], 1) * torch.tensor([1, 1, 1, 1, 0.3]).double()[:, None]
    return isotropic(
        torch.tensor([6.0, 3, 4, 5, 2]).double(), means, torch.tensor([0.05, 0.1, 0.05, 0.15, 0.08]).double()
    )


def benchmark_b() -> dl.GaussianMixture:
    line = torch.tensor([-0.8, -0.4, 0, 0.4, 0.8]).double()
    return isotropic(
        1 + torch.arange(25).double() % 3, torch.cartesian_prod(line, line), torch.full((25,), 0.04).double()
    )


@pytest.mark.parametrize(
    ("mixture", "std", "n"),
    [(dl.book_mixture(2), 0.45, 9), (benchmark_a(), 0.16, 11), (benchmark_b(), 0.1, 13)],
    ids=["book", "a", "b"],
)
def test_6e_6_nats_on_1000_points(mixture, std, n):
    """Angles whose middle lies between the finest std and that of all the data; 16 evaluations an interval, and one."""
    path, asked = dl.RectifiedFlow(), []
    ts, den = angles(path, n, std=std, r_min=1e-8), mixture.denoiser(path)
    x = mixture.sample(1000, generator=seeded(1)).double()
    got = dl.ode_log_prob(
        lambda x, t: asked.append(float(t)) or den(x, t), path, x, ts, prior=lambda x: mixture.log_prob(x, path, 1.0)
    )
    assert (got - mixture.log_prob(x)).abs().mean() < 6e-6
    assert len(asked) == 16 * n + 1
    assert min(asked) == pytest.approx(ts[0].item(), rel=1e-6)  # and so never at t = 0


def test_a_probe_is_unbiased_in_nats():
    """The mean over all signs is the log-density by the exact trace, as the flow is the same for every probe."""
    path, mixture = dl.VP(), random_mixture(2)
    ts = angles(path, 6)
    x = noisy_points(mixture, path, ts[0], n=5)
    want = log_prob(mixture, path, x, ts)
    each = torch.stack([log_prob(mixture, path, x, ts, probe=v.expand(5, 2)) for v in signs(2)])
    torch.testing.assert_close(each.mean(0), want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_prob(mixture, path, x, ts, probe=signs(2)[:, None].expand(4, 5, 2)), want)
    assert (each.std(0) > 1e-3).all()


@pytest.mark.parametrize("shape", [(2, 1, 2, 2), (4, 4)], ids=str)
def test_a_network_in_float32_and_images(shape):
    """A network that is exact for N(0, v I), by its noise and by its velocity."""
    path, var = dl.VP(), 0.3
    data = dl.GaussianMixture([1.0], [[0.0] * 4], [var * torch.eye(4)])
    ts = angles(path, 12, r_min=1e-3)

    def net(kind):
        def predict(x, t):
            c = path.at(t.double(), x.double())
            share = x.double() / (c.alpha**2 * var + c.sigma**2)
            return dl.encode(dl.Estimate(c.alpha * var * share, c.sigma * share), c, kind).to(x)

        return predict

    x = 0.5 * normal(6, *shape).float()
    for kind in ("eps", "v", "velocity"):
        got = dl.ode_log_prob(
            dl.Denoiser(net(kind), path, kind), path, x, ts, prior=lambda x: data.log_prob(x, path, 1.0)
        )
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, data.log_prob(x, path, ts[0]), rtol=0, atol=2e-4)


def test_without_gradients_and_without_changes():
    path, mixture = dl.VP(), random_mixture(2)
    x = normal(7, 3, 2).requires_grad_()
    before = x.detach().clone()
    assert not log_prob(mixture, path, x, angles(path, 2)).requires_grad
    assert torch.equal(x, before)
    assert x.grad is None


# --- the variational bound


@each_path
@pytest.mark.parametrize("shape", [(3, 3), (2, 1, 2, 2)], ids=str)
def test_vlb_is_the_sum_of_kl_divergences(path, shape):
    """Term by term from torch's own divergences of the package's posteriors, with the same noise."""
    mixture = random_mixture(math.prod(shape[1:]))
    den, ts, x0 = mixture.denoiser(path), angles(path, 5, r_min=0.05)[:-1], normal(8, *shape)
    got = dl.vlb(den, path, x0, ts, generator=seeded(0))

    def law(mean: Tensor, var: Tensor) -> Independent:
        return Independent(Normal(mean, torch.as_tensor(var).sqrt().expand_as(mean)), len(shape) - 1)

    generator = seeded(0)
    noisy = [path.mix(x0, torch.randn(shape, generator=generator, dtype=torch.float64), t) for t in ts]
    c0, cT = path.at(ts[0], x0), path.at(ts[-1], x0)
    want = kl_divergence(law(cT.alpha * x0, cT.sigma**2), law(0 * x0, cT.sigma**2))
    want = want - law(den(noisy[0], ts[0]).x0, (c0.sigma / c0.alpha) ** 2).log_prob(x0)
    for s, t, xt in zip(ts[:-1], ts[1:], noisy[1:], strict=True):
        true, model = (dl.posterior(path, guess, xt, t, s) for guess in (x0, den(xt, t).x0))
        want = want + kl_divergence(law(*true), law(*model))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n", [3, 30])
def test_vlb_bounds_the_models_own_density(n):
    """The model of a linear denoiser is Gaussian: its variance by running the chain. 6 standard errors: under 1e-8."""
    path, var = dl.VP(), 0.25
    den, ts = linear(path, var), angles(path, n, r_min=0.05)
    one, zero = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    model = path.at(1.0, one).sigma.item() ** 2
    for t, s in itertools.pairwise(ts.flip(0)):
        mean, noise = dl.posterior(path, den(one, t).x0, one, t, s)
        model = mean.item() ** 2 * model + noise.item()
    decoder = (-2 * path.lam(ts[0])).exp().item()
    model = den(one, ts[0]).x0.item() ** 2 * model + decoder
    assert den(zero, ts[0]).x0 == 0
    for value in (0.0, 0.5, 1.5):
        draws = dl.vlb(den, path, torch.full((20_000, 1), value).double(), ts, generator=seeded(1))
        nll = 0.5 * math.log(2 * math.pi * model) + value**2 / (2 * model)
        error = 6 * draws.std().item() / math.sqrt(20_000)
        assert draws.mean().item() > nll - error
        if n == 30:
            assert draws.mean().item() < nll + 0.6


def gap(path: dl.Path, ts: Tensor) -> float:
    """The mean of the bound minus the entropy for N(0, 1): e_t = 1 / (1 + SNR)."""
    snr = torch.exp(2 * path.lam(ts))
    e = 1 / (1 + snr)
    bound = snr[-1] / 2 + ((snr[:-1] - snr[1:]) / 2 * e[1:]).sum() + (snr[0] * e[0] + (2 * math.pi / snr[0]).log()) / 2
    return (bound - 0.5 * math.log(2 * math.pi * math.e)).item()


def test_gap_of_the_bound():
    """As the docstring says; and by draws, within 6 standard errors (false-alarm rate under 1e-8)."""
    path = dl.VP()
    few, many = (dl.logsnr_ts(path, n, t_min=1e-3).flip(0) for n in (100, 1000))
    assert gap(path, few) == pytest.approx(0.41, abs=0.005)
    assert gap(path, many) == pytest.approx(0.039, abs=0.0005)
    x = normal(9, 20_000, 2)
    draws = dl.vlb(linear(path, 1.0), path, x, few, generator=seeded(2)) / 2
    above = draws - (x.square() / 2).mean(1) - 0.5 * math.log(2 * math.pi)
    assert above.mean().item() == pytest.approx(gap(path, few), abs=6 * above.std().item() / math.sqrt(20_000))


# --- bad input


GRIDS = {
    "falls": (
        torch.tensor([1.0, 0.5]),
        r"ts must strictly increase, from data to noise: ts\[0\] = 1.0.*by ts.flip\(0\)",
    ),
    "stands": (torch.tensor([0.1, 0.5, 0.5]), r"ts must strictly increase.*ts\[1\] = 0.5, ts\[2\] = 0.5"),
    "NaN": (torch.tensor([0.1, math.nan]), r"ts must strictly increase.*nan"),
    "one time": (torch.tensor([0.5]), r"ts has shape \(1,\): give at least two times"),
    "a table": (torch.ones(2, 2), r"ts has shape \(2, 2\)"),
    "from 0": (torch.tensor([0.0, 0.5]), r"ts runs from 0.0 to 0.5: keep it in \(0, 1\], no field is defined at t = 0"),
    "beyond 1": (torch.tensor([0.5, 1.5]), r"ts runs from 0.5 to 1.5"),
}


@pytest.mark.parametrize(("ts", "message"), GRIDS.values(), ids=GRIDS)
def test_bad_grids_are_refused_before_any_evaluation(ts, message):
    path, x, asked = dl.VP(), normal(10, 3, 2), []
    den = lambda x, t: asked.append(t) or dl.Estimate(x, x)  # noqa: E731
    with pytest.raises(ValueError, match=message):
        dl.ode_log_prob(den, path, x, ts, prior=lambda x: x[:, 0])
    with pytest.raises(ValueError, match=message):
        dl.vlb(den, path, x, ts)
    assert asked == []


@pytest.mark.parametrize("data_std", [0.0, -1.0, math.nan])
def test_a_std_that_is_none(data_std):
    with pytest.raises(ValueError, match=r"data_std = .*: give a positive number"):
        log_prob(random_mixture(2), dl.VP(), normal(10, 3, 2), torch.tensor([0.5, 0.6]), data_std=data_std)


def test_a_prior_that_forgets_to_sum():
    path, x, ts = dl.VP(), normal(10, 3, 3), torch.tensor([0.5, 0.6])
    for prior, shape in ((Normal(0, 1).log_prob, r"\(3, 3\)"), (lambda x: x.sum(), r"\(\)")):
        with pytest.raises(ValueError, match=rf"prior returned shape {shape}: it must return \(3,\), one a sample"):
            dl.ode_log_prob(random_mixture(3).denoiser(path), path, x, ts, prior=prior)


@pytest.mark.parametrize("shape", [(2,), (3, 1), (1, 2), (4, 2, 3), (2, 3, 1)], ids=str)
def test_a_probe_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"probe has shape \(.*\): give that of x, \(3, 2\), or several stacked"):
        dl.divergence(curved, normal(11, 3, 2), probe=torch.ones(shape))


def test_a_field_cut_off_from_x():
    for f in (lambda x: curved(x.detach()), torch.no_grad()(curved)):
        with pytest.raises(ValueError, match=r"f\(x\) does not depend on x through autograd: remove torch.no_grad"):
            dl.divergence(f, normal(11, 3, 2))


# --- discrete data and bits


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_dequantised_values_fill_their_own_bins(levels, dtype):
    """Bin k is [2k/L - 1, 2(k + 1)/L - 1); mean and variance in it to 6 standard errors: false alarms under 1e-6."""
    n = 200_000 // levels
    k = torch.arange(levels).repeat(n, 1)
    x = (2 * k / (levels - 1) - 1).to(dtype)
    y = dl.dequantise(x, levels, generator=seeded(0))
    assert y.shape == x.shape
    assert y.dtype == dtype
    u = (y.double() + 1) / 2 * levels - k
    assert u.min() >= -1e-4
    assert u.max() <= 1 + 1e-4
    assert abs(u.mean().item() - 0.5) < 6 * math.sqrt(1 / 12 / u.numel())
    assert abs(u.var().item() - 1 / 12) < 6 * math.sqrt(1 / 180 / u.numel())
    assert torch.equal(y, dl.dequantise(x, levels, generator=seeded(0)))


def test_dequantise_takes_the_digits():
    x, _ = dl.digits()
    y = dl.dequantise(x, 17, generator=seeded(0))
    assert torch.equal(((y + 1) / 2 * 17).floor(), (x + 1) * 8)
    assert y.min() >= -1
    assert y.max() <= 1


@pytest.mark.parametrize(
    ("x", "levels", "message"),
    [
        ([[-1.0, 0.1]], 17, r"x holds 0.1, none of the 17 values 2 k/16 - 1: check levels"),
        ([[-1.0, 1.125]], 17, r"x holds 1.125, none of the 17"),
        ([[-1.0, math.nan]], 17, r"x holds nan, none of the 17"),
        ([[-1.0, 0.125]], 16, r"x holds 0.125, none of the 16"),
        ([[-1.0, 1.0]], 1, r"levels = 1: give the number of values a pixel can take, at least 2"),
    ],
)
def test_dequantise_refuses_other_values(x, levels, message):
    with pytest.raises(ValueError, match=message):
        dl.dequantise(torch.tensor(x), levels)


def test_bits_of_the_dequantised_copy_are_the_entropy():
    """A joint table over two pixels; the copy has density p (L/2)^2 on each square."""
    p = torch.tensor([[0.3, 0.05, 0.1], [0.05, 0.2, 0.02], [0.08, 0.1, 0.1]], dtype=torch.float64)
    k = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    y = dl.dequantise((k - 1).double(), 3, generator=seeded(1))
    found = ((y + 1) / 2 * 3).floor().long()
    nats = -(p[found[:, 0], found[:, 1]] * (3 / 2) ** 2).log()
    bits = dl.bits_per_dim(nats, (2,), levels=3)
    assert (p.flatten() @ bits).item() == pytest.approx(-(p * p.log2()).sum().item() / 2, rel=1e-12)


def test_bits_by_the_ode_are_the_entropy():
    """Data of three levels, their dequantised copy, its exact denoiser, the ODE: 1.4855 bits.

    The copy's density is a staircase, and noise of .005 does not reach the points from its steps.
    """
    p, path = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64), dl.EDM(20.0)
    low = torch.tensor([-1.0, -1 / 3, 1 / 3], dtype=torch.float64)

    def log_density(x: Tensor, sigma: Tensor) -> Tensor:  # of the staircase noised by sigma, (B, 1) -> (B,)
        inside = torch.special.ndtr((x - low) / sigma) - torch.special.ndtr((x - low - 2 / 3) / sigma)
        return (inside @ (p * 3 / 2)).log()

    def den(x: Tensor, t: Tensor) -> dl.Estimate:
        sigma = path.at(t, x).sigma
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            (score,) = torch.autograd.grad(log_density(x, sigma).sum(), x, create_graph=True)
        return dl.Estimate(x + sigma**2 * score, -sigma * score)

    u = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)  # where in bins 0, 1 and 2
    x = (2 * (torch.arange(3) + u) / 3 - 1)[:, None]
    ts = angles(path, 40, std=0.1, r_min=0.005)
    log_p = dl.ode_log_prob(den, path, x, ts, prior=lambda x: log_density(x, torch.tensor(20.0).double()))
    bits = dl.bits_per_dim(-log_p, (1,), levels=3)
    assert (p @ bits).item() == pytest.approx(-(p * p.log2()).sum().item(), abs=1e-4)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("shape", [(1,), (2,), (3, 4, 4)], ids=str)
def test_uniform_levels_cost_log2_levels(levels, shape):
    """Uniform over the levels: density 1/2 a dimension on [-1, 1], and log2(levels) bits."""
    nats = torch.full((4,), math.prod(shape) * math.log(2.0), dtype=torch.float64)
    bits = dl.bits_per_dim(nats, shape, levels=levels)
    assert bits.shape == (4,)
    torch.testing.assert_close(bits, torch.full((4,), math.log2(levels), dtype=torch.float64))


def test_a_histogram_costs_its_entropy():
    """Probabilities 1/2, 1/4, 1/4 over three levels cost 1.5 bits a pixel: density p / (2/3) in each level's bin."""
    p = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    nats = -(p * torch.log(p / (2 / 3))).sum() * 12
    assert dl.bits_per_dim(nats, (3, 2, 2), levels=3).item() == pytest.approx(1.5, rel=1e-14)


def test_256_levels_add_7_bits():
    assert dl.bits_per_dim(torch.zeros(1), (3, 32, 32), levels=256).item() == 7
