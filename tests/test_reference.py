"""The oracle against other libraries, other roads and brute force."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
import tqdm
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from torch.utils._python_dispatch import TorchDispatchMode
from worlds import PATHS, by_hand, noisy_points, normal, random_mixture, scipy_log_prob, seeded, times, within_law

import ddpm_lite as dl
from ddpm_lite import reference

each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
each_dim = pytest.mark.parametrize("dim", [2, 5])


def coef(path: dl.Path, t: float) -> tuple[float, float]:
    c = path.coefs(torch.tensor(t, dtype=torch.float64))
    return c.alpha.item(), c.sigma.item()


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_log_prob_is_scipys_and_torchs(dim):
    mixture, x = random_mixture(dim), 2 * normal(0, 20, dim)
    torch.testing.assert_close(
        mixture.log_prob(x), torch.from_numpy(scipy_log_prob(mixture, x)), rtol=1e-10, atol=1e-10
    )
    peer = MixtureSameFamily(Categorical(mixture.weights), MultivariateNormal(mixture.means, mixture.covs))
    torch.testing.assert_close(mixture.log_prob(x), peer.log_prob(x), rtol=1e-9, atol=1e-9)


@each_path
@each_dim
@pytest.mark.parametrize("t", [0.05, 0.5, 1.0])
def test_noised_log_prob_is_scipys(path, dim, t):
    mixture = random_mixture(dim)
    x = noisy_points(mixture, path, t)
    want = scipy_log_prob(mixture, x, *coef(path, t))
    torch.testing.assert_close(mixture.log_prob(x, path, t), torch.from_numpy(want), rtol=1e-10, atol=1e-10)


@each_path
@each_dim
def test_score_is_the_gradient_of_log_prob(path, dim):
    mixture, t = random_mixture(dim), times(0, 6)
    x = noisy_points(mixture, path, t).requires_grad_()
    for args in ((), (path, t), (path, 0.3)):
        (grad,) = torch.autograd.grad(mixture.log_prob(x, *args).sum(), x)
        torch.testing.assert_close(mixture.score(x, *args), grad, rtol=1e-9, atol=1e-10)


@each_dim
def test_score_is_a_central_difference_of_scipys_density(dim):
    mixture, path, h = random_mixture(dim), dl.VP(), 1e-5
    x = noisy_points(mixture, path, 0.4)
    for k in range(dim):
        e = torch.zeros(dim, dtype=torch.float64)
        e[k] = h
        up, down = (scipy_log_prob(mixture, y, *coef(path, 0.4)) for y in (x + e, x - e))
        assert mixture.score(x, path, 0.4)[:, k].numpy() == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-6)


@each_path
@each_dim
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_denoiser_is_tweedies_formula(path, dim, t):
    mixture = random_mixture(dim)
    x = noisy_points(mixture, path, t)
    e = mixture.denoiser(path)(x, t)
    x0, eps = by_hand(mixture, x.numpy(), *coef(path, t))
    np.testing.assert_allclose(e.x0.numpy(), x0, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(e.eps.numpy(), eps, rtol=1e-7, atol=1e-7)


@each_path
@each_dim
def test_estimate_adds_up_to_x(path, dim):
    mixture, t = random_mixture(dim), times(1, 6)
    x = noisy_points(mixture, path, t)
    e, c = mixture.denoiser(path)(x, t), path.at(t, x)
    torch.testing.assert_close(c.alpha * e.x0 + c.sigma * e.eps, x, rtol=1e-11, atol=1e-11)


@each_path
@pytest.mark.parametrize("t", [0.2, 0.6])
def test_denoiser_is_the_posterior_mean_by_quadrature(path, t):
    """1-D: E[x0 | x_t] = int x0 p(x0) N(x_t; alpha x0, sigma^2) / int p(x0) N(...)."""
    mixture, (alpha, sigma) = dl.book_mixture(1), coef(path, t)
    grid = np.linspace(-8, 8, 400_001)
    for xt in (-1.1, 0.2, 1.9):
        xt *= math.hypot(alpha, sigma)
        p = sum(
            w * np.exp(-((grid - m) ** 2) / (2 * s**2)) / s
            for w, m, s in ((0.3, -2, 0.4), (0.5, 0.5, 0.7), (0.2, 2.5, 0.3))
        )
        p = p * np.exp(-((xt - alpha * grid) ** 2) / (2 * sigma**2))
        e = mixture.denoiser(path)(torch.tensor([[xt]], dtype=torch.float64), t)
        assert e.x0.item() == pytest.approx((p * grid).sum() / p.sum(), rel=1e-8, abs=1e-8)
        assert e.eps.item() == pytest.approx((p * (xt - alpha * grid) / sigma).sum() / p.sum(), rel=1e-7, abs=1e-7)


@each_dim
def test_denoiser_is_the_posterior_mean_by_importance_sampling(dim):
    """False-alarm rate under 1e-6: 6 standard errors of a self-normalised mean, per coordinate."""
    mixture, path, t = random_mixture(dim), dl.VP(), 0.4
    x0 = mixture.sample(200_000, generator=seeded(3)).double()
    alpha, sigma = coef(path, t)
    for xt in noisy_points(mixture, path, t, n=3):
        w = torch.softmax(-((xt - alpha * x0) ** 2).sum(1) / (2 * sigma**2), 0)
        mean = w @ x0
        error = (w**2 @ (x0 - mean) ** 2).sqrt()
        assert (abs(mixture.denoiser(path)(xt[None], t).x0[0] - mean) < 6 * error).all()


@each_dim
def test_at_the_ends_of_a_path(dim):
    mixture, x = random_mixture(dim), normal(1, 4, dim)
    mean = mixture.weights @ mixture.means
    for path in (dl.RectifiedFlow(), dl.Cosine()):
        noise, clean = mixture.denoiser(path)(x, 1.0), mixture.denoiser(path)(x, 0.0)
        torch.testing.assert_close(noise.x0, mean.expand(4, dim), rtol=1e-12, atol=1e-12)  # alpha = 0: nothing is known
        torch.testing.assert_close(noise.eps, x, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(clean.x0, x, rtol=1e-9, atol=1e-9)
        assert (clean.eps == 0).all()
    torch.testing.assert_close(mixture.log_prob(x, dl.VP(), 0.0), mixture.log_prob(x), rtol=1e-12, atol=1e-12)


def test_a_flat_covariance_has_a_density_only_under_noise():
    mixture = dl.GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 1.0], [1.0, 1.0]]])  # a line in the plane
    x = normal(2, 4, 2)
    with pytest.raises(ValueError, match="without spread has no density: give path and a t with sigma > 0"):
        mixture.log_prob(x)
    want = scipy_log_prob(mixture, x, *coef(dl.VP(), 0.3))
    torch.testing.assert_close(mixture.log_prob(x, dl.VP(), 0.3), torch.from_numpy(want))
    drawn = mixture.sample(100, generator=seeded(0))
    torch.testing.assert_close(drawn[:, 0], drawn[:, 1], rtol=1e-5, atol=1e-5)


@each_path
@pytest.mark.parametrize("shape", [(2,), (1, 3, 3)], ids=str)
def test_from_points_is_a_softmax_over_the_points(path, shape):
    points = normal(3, 7, *shape)
    mixture, t = dl.GaussianMixture.from_points(points), 0.4
    alpha, sigma = coef(path, t)
    x = path.mix(points[:4], normal(4, 4, *shape), t)
    e = mixture.denoiser(path)(x, t)
    for i in range(4):
        w = [math.exp(-((x[i] - alpha * p) ** 2).sum().item() / (2 * sigma**2)) for p in points]
        mean = sum(a * p for a, p in zip(w, points, strict=True)) / sum(w)
        torch.testing.assert_close(e.x0[i], mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(e.eps[i], (x[i] - alpha * mean) / sigma, rtol=1e-8, atol=1e-8)
        density = sum(w) / 7 / (2 * math.pi * sigma**2) ** (points[0].numel() / 2)
        assert mixture.log_prob(x, path, t)[i].item() == pytest.approx(math.log(density), abs=1e-9)


# --- components without axes: C_k = c_k I


def isotropic(dim: int, offset: float = 0.0) -> dl.GaussianMixture:
    stds = torch.tensor([0.3, 1.0, 0.05, 0.3], dtype=torch.float64)
    covs = stds[:, None, None] ** 2 * torch.eye(dim, dtype=torch.float64)
    return dl.GaussianMixture([0.1, 0.4, 0.3, 0.2], normal(20, 4, dim) + offset, covs)


@each_path
@pytest.mark.parametrize("dim", [1, 2, 4])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_isotropic_components_are_scipys_and_tweedies(path, dim, offset):
    """dim 4 is the trap K == D; the offset is far from the origin in the scale of the components."""
    mixture, x0 = isotropic(dim, offset), None
    for t in (0.05, 0.5, 1.0):
        x = noisy_points(mixture, path, t)
        alpha, sigma = coef(path, t)
        want = torch.from_numpy(scipy_log_prob(mixture, x, alpha, sigma))
        torch.testing.assert_close(mixture.log_prob(x, path, t), want, rtol=1e-9, atol=1e-9)
        each = torch.full((len(x),), t, dtype=torch.float64)
        torch.testing.assert_close(mixture.log_prob(x, path, each), want, rtol=1e-9, atol=1e-9)
        if alpha > 1e-3:
            x0, eps = by_hand(mixture, x.numpy(), alpha, sigma)
            for e in (mixture.denoiser(path)(x, t), mixture.denoiser(path)(x, each)):
                np.testing.assert_allclose(e.x0.numpy(), x0, rtol=1e-6, atol=1e-6)
                np.testing.assert_allclose(e.eps.numpy(), eps, rtol=1e-6, atol=1e-6)
                np.testing.assert_allclose(mixture.score(x, path, t).numpy(), -eps / sigma, rtol=1e-6, atol=1e-6)
    assert x0 is not None


def test_isotropic_components_without_a_path_and_at_the_ends():
    mixture, x = isotropic(3), normal(21, 5, 3)
    torch.testing.assert_close(
        mixture.log_prob(x), torch.from_numpy(scipy_log_prob(mixture, x)), rtol=1e-11, atol=1e-11
    )
    clean, noise = (mixture.denoiser(dl.RectifiedFlow())(x, t) for t in (0.0, 1.0))
    torch.testing.assert_close(clean.x0, x, rtol=1e-12, atol=1e-12)
    assert (clean.eps == 0).all()
    torch.testing.assert_close(noise.x0, (mixture.weights @ mixture.means).expand(5, 3), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(noise.eps, x, rtol=1e-12, atol=1e-12)


def test_samples_of_isotropic_components():
    """False-alarm rate under 1e-6: each mean and variance of a single component within 6 standard errors."""
    mixture = dl.GaussianMixture([1.0], [[1.0, -2.0]], [0.09 * torch.eye(2)])
    x = mixture.sample(40_000, generator=seeded(22)).double()
    assert (abs(x.mean(0) - mixture.means[0]) < 6 * 0.3 / 200).all()
    assert (abs(x.var(0) - 0.09) < 6 * 0.09 * math.sqrt(2) / 200).all()


@pytest.mark.parametrize(
    "make", [lambda: random_mixture(2), lambda: isotropic(2), lambda: POINTS], ids=["full", "isotropic", "points"]
)
@pytest.mark.parametrize("path", [dl.VP(), dl.RectifiedFlow()], ids=["VP", "RectifiedFlow"])
def test_derivatives_to_second_order(make, path):
    """Against differences of the function itself; second ones serve the divergence and guidance."""
    mixture, t = make(), torch.tensor([0.3, 0.6], dtype=torch.float64)
    x = noisy_points(mixture, path, t, n=2).requires_grad_()
    for f in (lambda x: mixture.log_prob(x, path, t), lambda x: mixture.denoiser(path)(x, t)):
        assert torch.autograd.gradcheck(f, (x,))
        assert torch.autograd.gradgradcheck(f, (x,))


POINTS = dl.GaussianMixture.from_points(normal(23, 6, 2))


# --- spikes on many points


def directly(points: torch.Tensor, x: torch.Tensor, alpha: float, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """log p_t and E[x0 | x_t], from every difference; (B,) and (B, D)."""
    log_each = -((x[:, None] - alpha * points) ** 2).sum(-1) / (2 * sigma**2)
    scale = math.log(len(points)) + points.shape[1] / 2 * math.log(2 * math.pi * sigma**2)
    return log_each.logsumexp(1) - scale, log_each.softmax(1) @ points


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("sigma", [1e-6, 1e-4, 1e-2, 0.3, 3.0])
def test_near_a_point_at_any_noise(sigma, offset):
    """One point stands there three times, one has a neighbour at sigma's distance; the matrix product alone fails."""
    points = normal(24, 200, 64) + offset
    points[1] = points[2] = points[0]
    points[4] = points[3] + sigma * normal(25, 64) / 8
    mixture, path = dl.GaussianMixture.from_points(points), dl.EDM(10.0)
    x = points[:6] + sigma * normal(26, 6, 64)
    log_p, x0 = directly(points, x, 1.0, sigma)
    # half a unit in the last place of x makes this much of a difference to the truth
    slack = 64 * offset * 2**-53 * 10 / sigma + 1e-8
    torch.testing.assert_close(mixture.log_prob(x, path, sigma / 10), log_p, rtol=1e-12, atol=slack)
    torch.testing.assert_close(mixture.denoiser(path)(x, sigma / 10).x0, x0, rtol=1e-12, atol=1e-9)
    if sigma == 1e-6:
        mixture._narrow = False
        assert abs(mixture.log_prob(x, path, sigma / 10) - log_p).max() > 1e-3


class Largest(TorchDispatchMode):
    """Notes the largest tensor that anything makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [v for v in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(v, torch.Tensor)]
        self.numel = max([self.numel, *(v.untyped_storage().nbytes() // v.element_size() for v in made)])
        return out


@pytest.mark.parametrize(("n", "dim"), [(3000, 20), (300, 200)], ids=str)
def test_memory_of_many_points(n, dim, monkeypatch):
    """Never a number for each query, point and dimension: beside the points themselves, blocks of the given size."""
    mixture, x = dl.GaussianMixture.from_points(normal(27, n, dim)), normal(28, 60, dim)
    for block in (10 * n, 1):
        monkeypatch.setattr(reference, "LARGEST_BLOCK", block)
        with Largest() as largest:
            mixture.log_prob(x, dl.VP(), 0.3), mixture.score(x, dl.VP(), 0.3), mixture.denoiser(dl.VP())(x, 0.3)
        assert n * dim <= largest.numel <= max(block, n * dim)


def test_blocks_of_many_points_give_the_same(monkeypatch):
    mixture, x, t = dl.GaussianMixture.from_points(normal(29, 50, 7)), normal(30, 11, 7), times(31, 11)
    calls = [
        lambda: mixture.log_prob(x, dl.VP(), t),
        lambda: mixture.score(x, dl.VP(), 0.3),
        lambda: mixture.denoiser(dl.VP())(x, t).x0,
    ]
    whole = [f() for f in calls]
    for module in (tqdm, None):  # with a bar, and where tqdm is not installed
        monkeypatch.setitem(sys.modules, "tqdm", module)
        for block in (1, 200):
            monkeypatch.setattr(reference, "LARGEST_BLOCK", block)
            for f, want in zip(calls, whole, strict=True):
                torch.testing.assert_close(f(), want, rtol=1e-12, atol=1e-12)


def test_covariances_of_points_are_zeros_that_take_no_memory():
    mixture = dl.GaussianMixture.from_points(torch.zeros(1000, 3, 28, 28))
    assert mixture.covs.shape == (1000, 2352, 2352)
    assert mixture.covs.untyped_storage().nbytes() == 8
    assert (mixture.covs[3, :2, :2] == 0).all()


def test_from_points_draws_its_points():
    points = normal(5, 5, 2).float()
    drawn = dl.GaussianMixture.from_points(points).sample(200, generator=seeded(0))
    assert torch.cdist(drawn, points).min(1).values.max() < 1e-6
    assert len(drawn.unique(dim=0)) == 5  # false-alarm rate 5 (4/5)^200 < 1e-18


@each_dim
def test_sample_moments(dim):
    """False-alarm rate under 1e-6 a test: each mean and product moment within 6 standard errors."""
    mixture, n = random_mixture(dim), 40_000
    x = mixture.sample(n, generator=seeded(4)).double()
    mean = mixture.weights @ mixture.means
    second = torch.einsum("k,kde->de", mixture.weights, mixture.covs) + mixture.means.mT @ (
        mixture.weights[:, None] * mixture.means
    )
    assert (abs(x.mean(0) - mean) < 6 * x.std(0) / math.sqrt(n)).all()
    products = x[:, :, None] * x[:, None, :]
    assert (abs(products.mean(0) - second) < 6 * products.std(0) / math.sqrt(n)).all()


def test_sample_law():
    """False-alarm rate 1e-6."""
    x = dl.book_mixture(1).sample(20_000, generator=seeded(5))[:, 0]

    def cdf(v):
        z = [
            w * torch.special.ndtr((torch.from_numpy(v) - m) / s)
            for w, m, s in ((0.3, -2, 0.4), (0.5, 0.5, 0.7), (0.2, 2.5, 0.3))
        ]
        return sum(z).numpy()

    assert within_law(x, cdf)


def test_sample_uses_only_its_generator():
    mixture, state = random_mixture(2), torch.get_rng_state()
    assert torch.equal(mixture.sample(9, generator=seeded(1)), mixture.sample(9, generator=seeded(1)))
    assert not torch.equal(mixture.sample(9, generator=seeded(1)), mixture.sample(9, generator=seeded(2)))
    assert torch.equal(torch.get_rng_state(), state)
    assert mixture.sample(9).shape == (9, 2)
    assert mixture.sample(9).dtype == torch.get_default_dtype()


@each_path
def test_blocks_give_the_same(path, monkeypatch):
    mixture, t = random_mixture(2), times(2, 11)
    x = noisy_points(mixture, path, t, n=11)
    calls = [
        lambda: mixture.log_prob(x),
        lambda: mixture.log_prob(x, path, t),
        lambda: mixture.score(x, path, 0.3),
        lambda: mixture.score(x, path, t),
        lambda: mixture.denoiser(path)(x, t).x0,
        lambda: mixture.denoiser(path)(x, t).eps,
    ]
    whole = [f() for f in calls]
    for block in (1, 6, 24):  # 1, 1 and 4 points at once: 3 components in 2 dimensions are 6 numbers a point
        monkeypatch.setattr(reference, "LARGEST_BLOCK", block)
        for f, want in zip(calls, whole, strict=True):
            torch.testing.assert_close(f(), want, rtol=1e-12, atol=1e-12)


@each_path
@pytest.mark.parametrize("shape", [(2, 2), (6, 2), (2, 1, 2, 1)], ids=str)
def test_time_as_float_0d_and_vector_agree_and_shapes_stay(path, shape):
    mixture, x, t = random_mixture(2), normal(6, *shape), 0.37
    den, flat = mixture.denoiser(path), x.flatten(1)
    for when in (torch.tensor(t, dtype=torch.float64), torch.full(shape[:1], t, dtype=torch.float64)):
        assert mixture.log_prob(x, path, when).shape == shape[:1]
        torch.testing.assert_close(mixture.log_prob(x, path, when), mixture.log_prob(flat, path, t))
        torch.testing.assert_close(mixture.score(x, path, when), mixture.score(flat, path, t).reshape(shape))
        for got, want in zip(den(x, when), den(flat, t), strict=True):
            torch.testing.assert_close(got, want.reshape(shape))


@each_path
def test_each_sample_has_its_own_time(path):
    """The trap B == D."""
    mixture, x, t = random_mixture(2), normal(7, 2, 2), torch.tensor([0.2, 0.8], dtype=torch.float64)
    for i in range(2):
        one = x[i : i + 1]
        torch.testing.assert_close(mixture.score(x, path, t)[i], mixture.score(one, path, t[i].item())[0])
        torch.testing.assert_close(mixture.denoiser(path)(x, t).x0[i], mixture.denoiser(path)(one, t[i]).x0[0])


@each_path
def test_float32_points_are_computed_in_float64(path):
    mixture, x = random_mixture(2), normal(8, 5, 2).float()
    for when in (0.4, torch.tensor(0.4, dtype=torch.float64), torch.full((5,), 0.4, dtype=torch.float64)):
        for f in (mixture.log_prob, mixture.score, lambda *a: mixture.denoiser(a[1])(a[0], a[2]).x0):
            low, high = f(x, path, when), f(x.double(), path, when)
            assert low.dtype == torch.float32
            assert torch.equal(low, high.float())


@pytest.mark.parametrize("dim", [1, 2])
def test_book_mixture(dim):
    mixture = dl.book_mixture(dim)
    if dim == 1:
        numbers = [0.3, 0.5, 0.2], [[-2.0], [0.5], [2.5]], [[[0.16]], [[0.49]], [[0.09]]]
    else:
        numbers = (
            [0.35, 0.25, 0.25, 0.15],
            [[-1.4, -0.6], [1.2, 0.9], [0.4, -1.3], [-0.6, 1.4]],
            [
                [[0.12, 0.06], [0.06, 0.10]],
                [[0.08, -0.03], [-0.03, 0.16]],
                [[0.10, 0], [0, 0.05]],
                [[0.05, 0.02], [0.02, 0.06]],
            ],
        )
    for got, want in zip((mixture.weights, mixture.means, mixture.covs), numbers, strict=True):
        torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


def test_inputs_are_not_changed():
    weights, means, covs = torch.tensor([1.0, 1.0]) / 2, normal(9, 2, 2), torch.eye(2).expand(2, 2, 2).clone()
    copies = [v.clone() for v in (weights, means, covs)]
    mixture = dl.GaussianMixture(weights, means, covs)
    x = normal(10, 3, 2)
    before = x.clone()
    mixture.log_prob(x, dl.VP(), 0.3), mixture.score(x), mixture.denoiser(dl.VP())(x, 0.3)
    for now, then in zip((weights, means, covs, x), (*copies, before), strict=True):
        assert torch.equal(now, then)
