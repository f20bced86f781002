"""Guidance by measurements against exact posteriors; replacement and RePaint against their loops by hand."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import MultivariateNormal
from worlds import PATHS, noisy_points, normal, random_mixture, seeded, times

import ddpm_lite as dl
from ddpm_lite.nets import MLP

each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
TIGHT = {"rtol": 1e-9, "atol": 1e-9}
A = normal(20, 2, 3)  # two measurements of three numbers
Y = normal(21, 2)


def den(x, t):
    """Some denoiser that depends on everything; on no path exact."""
    t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, *(1 for _ in x.shape[1:]))
    return dl.Estimate(torch.tanh(x) + t, torch.sin(2 * x) - t)


# --- operators and the exact posterior


@pytest.mark.parametrize(("shape", "k"), [((1, 4, 4), 2), ((3, 4, 8), 4), ((2, 3, 3), 1)])
def test_average_pooling_and_its_adjoint(shape, k):
    """<A x, y> = <x, A^T y>, the adjoint written as an enlargement."""
    pool, x = dl.average_pooling(shape, k), normal(0, 5, *shape)
    small = F.avg_pool2d(x, k)
    torch.testing.assert_close(x.flatten(1) @ pool.mT, small.flatten(1))
    y = normal(1, *small.shape)
    enlarged = y.repeat_interleave(k, 2).repeat_interleave(k, 3) / k**2
    torch.testing.assert_close(y.flatten(1) @ pool, enlarged.flatten(1))
    torch.testing.assert_close((small * y).sum(), (x * enlarged).sum())


def test_gaussian_posterior_is_bayes():
    """log p(x | y) - log p(x) - log p(y | x) does not depend on x; and the two ways to write the matrices agree."""
    mixture, noise = random_mixture(3, k=1), 0.4
    mean, cov = dl.gaussian_posterior(mixture.means[0], mixture.covs[0], A, Y, noise=noise)
    x = normal(2, 10, 3)
    rest = (
        MultivariateNormal(mean, cov).log_prob(x)
        - mixture.log_prob(x)
        - MultivariateNormal(x @ A.mT, noise**2 * torch.eye(2).double()).log_prob(Y)
    )
    torch.testing.assert_close(rest, rest[:1].expand(10), rtol=1e-9, atol=1e-9)
    precise = torch.linalg.inv(torch.linalg.inv(mixture.covs[0]) + A.mT @ A / noise**2)
    torch.testing.assert_close(cov, precise)


def test_gaussian_posterior_without_noise_meets_the_measurement():
    mixture, y = random_mixture(3, k=1), normal(3, 4, 2)
    mean, cov = dl.gaussian_posterior(mixture.means[0], mixture.covs[0], A, y, noise=0.0)
    assert mean.shape == (4, 3)
    torch.testing.assert_close(mean @ A.mT, y)
    torch.testing.assert_close(A @ cov, torch.zeros(2, 3).double(), rtol=0, atol=1e-12)
    for row, one in zip(mean, y, strict=True):
        torch.testing.assert_close(row, dl.gaussian_posterior(mixture.means[0], mixture.covs[0], A, one, noise=0.0)[0])


@pytest.mark.parametrize("noise", [0.4, 0.05])
def test_mixture_posterior_is_bayes(noise):
    """log p(x | y) - log p(x) - log p(y | x) does not depend on x, and is -log p(y)."""
    mixture, y = random_mixture(3, seed=7), torch.tensor([0.4, -0.3], dtype=torch.float64)
    after, x = dl.mixture_posterior(mixture, A, y, noise=noise), normal(2, 10, 3)
    seen = MultivariateNormal(x @ A.mT, noise**2 * torch.eye(2).double())
    evidence = mixture.log_prob(x) + seen.log_prob(y) - after.log_prob(x)
    covs = A @ mixture.covs @ A.mT + noise**2 * torch.eye(2).double()
    each = MultivariateNormal(mixture.means @ A.mT, covs).log_prob(y) + mixture.weights.log()
    torch.testing.assert_close(evidence, each.logsumexp(0).expand(10), rtol=1e-8, atol=1e-8)


def test_mixture_posterior_of_far_y_and_of_points():
    """The posterior of points has the same points; those of weights below the smallest number are left out."""
    points = normal(8, 5, 3)
    data = dl.GaussianMixture.from_points(points)
    near, far = (dl.mixture_posterior(data, A, scale * Y, noise=0.5) for scale in (1, 1e4))
    torch.testing.assert_close(near.means, points)
    torch.testing.assert_close(near.weights, (-(Y - points @ A.mT).square().sum(1) / 0.5).softmax(0))
    best = (1e4 * Y - points @ A.mT).square().sum(1).argmin(keepdim=True)
    torch.testing.assert_close(far.means, points[best])


# --- replacement and RePaint


@each_path
@pytest.mark.parametrize("s", [0.3, 0.0, torch.tensor([0.1, 0.2, 0.0, 0.3]).double()], ids=["0.3", "0", "each"])
def test_replacement_by_hand(path, s):
    """First the step's draws, then those of the known numbers; known itself where the step lands on data."""
    x, known, generator = normal(4, 4, 2), normal(5, 4, 2), seeded(1)
    mask = torch.tensor([[True, False], [False, True], [True, True], [False, False]])
    free = dl.ancestral_step(den, path, x, 0.6, s, generator=generator)
    want = path.mix(known, torch.randn(4, 2, generator=generator, dtype=torch.float64), s)
    step = dl.replacement(dl.ancestral_step, known, mask)
    got = step(den, path, x, 0.6, s, generator=seeded(1))
    torch.testing.assert_close(got, torch.where(mask, want, free), **TIGHT)
    if not isinstance(path, dl.VE):  # whose t = 0 is sigma_min
        clean = step(den, path, x, 0.6, 0.0, generator=seeded(1))
        assert torch.equal(clean[mask], known[mask])


def test_masks_of_images_broadcast_and_options_pass():
    x, known = normal(6, 3, 2, 4, 4).float(), normal(7, 2, 4, 4)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:2] = True
    for step, options in ((dl.ddim_step, {"eta": 0.5}), (dl.ancestral_step, {"variance": "forward"})):
        for kind in (dl.replacement, partial(dl.repaint, jumps=2)):
            painted = kind(step, known, mask)
            ts = dl.linear_ts(4)
            end = dl.sample(painted, den, dl.VP(), x, ts, generator=seeded(1), **options)
            assert end.dtype == torch.float32
            torch.testing.assert_close(end[:, :, :2], known.float()[None, :, :2].expand(3, 2, 2, 4))
            other = dl.sample(painted, den, dl.VP(), x, ts, generator=seeded(1))
            assert not torch.equal(end[:, :, 2:], other[:, :, 2:])


@each_path
def test_repaint_by_hand(path):
    """Down, up by q(x_t | x_s), down, up, down; alpha and variance of the way up from the coefficients."""
    x, known, mask, (t, s) = normal(8, 4, 2), normal(9, 4, 2), torch.tensor([True, False]), (0.6, 0.4)
    ct, cs = (path.coefs(torch.tensor(u, dtype=torch.float64)) for u in (t, s))
    ratio = ct.alpha / cs.alpha
    std = (ct.sigma**2 - ratio**2 * cs.sigma**2).sqrt()
    down, generator, state = dl.replacement(dl.ancestral_step, known, mask), seeded(1), x
    for i in range(3):
        if i:
            state = ratio * state + std * torch.randn(4, 2, generator=generator, dtype=torch.float64)
        state = down(den, path, state, t, s, generator=generator)
    got = dl.repaint(dl.ancestral_step, known, mask, jumps=2)(den, path, x, t, s, generator=seeded(1))
    torch.testing.assert_close(got, state, **TIGHT)
    none = dl.repaint(dl.ancestral_step, known, mask, jumps=0)(den, path, x, t, s, generator=seeded(1))
    assert torch.equal(none, down(den, path, x, t, s, generator=seeded(1)))


def test_repaint_costs_one_evaluation_more_a_jump():
    asked = []
    spy = lambda x, t: asked.append(t) or den(x, t)  # noqa: E731
    step = dl.repaint(dl.ddim_step, torch.zeros(2), torch.tensor([True, False]), jumps=3)
    dl.sample(step, spy, dl.VP(), normal(10, 4, 2), dl.linear_ts(5))
    assert len(asked) == 20


# --- DPS and Pi-GDM


def log_likelihood(mixture, path, x, t, cov):
    """log N(Y; A x0hat(x), cov); cov: (2, 2)."""
    x0 = mixture.denoiser(path)(x, t).x0
    return MultivariateNormal(x0 @ A.mT, cov).log_prob(Y)


def slope(f, x, h=1e-5):
    """Central differences of f: (B, D) -> (B,), one coordinate at a time."""
    return torch.stack([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in torch.eye(x.shape[1]).double()], 1)


@each_path
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_dps_adds_the_gradient_of_the_likelihood(path, scale):
    mixture, noise, t = random_mixture(3, seed=5), 0.7, 0.4
    x, c = noisy_points(mixture, path, t), path.at(t, normal(0, 6, 3))
    wanted = slope(lambda x: log_likelihood(mixture, path, x, t, noise**2 * torch.eye(2).double()), x)
    with torch.no_grad():
        e = dl.dps(mixture.denoiser(path), path, A, Y, noise=noise, scale=scale)(x, t)
    extra = dl.encode(e, c, "score") - mixture.score(x, path, t)
    torch.testing.assert_close(extra, scale * wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(path.mix(*e, t), x, **TIGHT)


@each_path
@pytest.mark.parametrize("noise", [0.7, 0.0])
def test_pigdm_adds_the_gradient_of_the_wider_likelihood(path, noise):
    mixture, t, v = random_mixture(3, seed=5), 0.4, 1.7
    x, c = noisy_points(mixture, path, t), path.at(t, normal(0, 6, 3))
    spread = 1 / (1 / v + c.alpha**2 / c.sigma**2)  # variance of x0 given x_t, by adding precisions
    cov = noise**2 * torch.eye(2).double() + spread * A @ A.mT
    wanted = slope(lambda x: log_likelihood(mixture, path, x, t, cov), x)
    e = dl.pigdm(mixture.denoiser(path), path, A, Y, noise=noise, data_var=v)(x, t)
    torch.testing.assert_close(dl.encode(e, c, "score") - mixture.score(x, path, t), wanted, rtol=1e-5, atol=1e-6)


@each_path
@pytest.mark.parametrize("t", [0.02, 0.3, 0.7, 0.98])
@pytest.mark.parametrize("noise", [0.5, 0.0])
def test_pigdm_is_exact_for_gaussian_data(path, t, noise):
    """Data N(m, v I): the guided denoiser is the denoiser of the exact posterior."""
    mean, v = normal(22, 3), 0.6
    data = dl.GaussianMixture([1.0], mean[None], v * torch.eye(3).double()[None])
    after = dl.gaussian_posterior(mean, v * torch.eye(3).double(), A, Y, noise=noise)
    x = noisy_points(data, path, t)
    want = dl.GaussianMixture([1.0], after[0][None], (after[1] + after[1].mT)[None] / 2).denoiser(path)(x, t)
    got = dl.pigdm(data.denoiser(path), path, A, Y, noise=noise, data_var=v)(x, t)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-7, atol=1e-7)


METHODS = {"dps": dl.dps, "pigdm": dl.pigdm}
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@each_method
def test_each_sample_has_its_own_time_and_measurement(method):
    """The trap B == M == D."""
    path, square = dl.VP(), normal(23, 3, 3)
    mixture, t, y = random_mixture(3, seed=6), times(1, 3), normal(24, 3, 3)
    x = noisy_points(mixture, path, t, n=3)
    whole = method(mixture.denoiser(path), path, square, y, noise=0.5)(x, t)
    for i in range(3):
        one = method(mixture.denoiser(path), path, square, y[i], noise=0.5)(x[i : i + 1], t[i].item())
        for w, o in zip(whole, one, strict=True):
            torch.testing.assert_close(w[i : i + 1], o, **TIGHT)


@each_method
def test_super_resolution_of_images_in_float32(method):
    """Around a denoiser that takes images; with pooling of each pixel alone it is the measurement of every number."""
    path, x = dl.RectifiedFlow(), normal(25, 2, 1, 4, 4)
    pool = dl.average_pooling((1, 4, 4), 2)
    y = F.avg_pool2d(normal(26, 2, 1, 4, 4), 2).flatten(1)
    same = lambda x, t: dl.Estimate(torch.tanh(x), (x - path.at(t, x).alpha * torch.tanh(x)) / path.at(t, x).sigma)  # noqa: E731
    double = method(same, path, pool, y, noise=0.5)(x, 0.5)
    single = method(same, path, pool, y, noise=0.5)(x.float(), 0.5)
    assert [v.shape for v in single] == [(2, 1, 4, 4)] * 2
    assert [v.dtype for v in single] == [torch.float32] * 2
    torch.testing.assert_close(single.x0.double(), double.x0, rtol=1e-4, atol=1e-4)
    nearer = F.avg_pool2d(double.x0, 2).flatten(1) - y
    assert nearer.norm() < (F.avg_pool2d(torch.tanh(x), 2).flatten(1) - y).norm()


@each_method
def test_networks_are_used_and_left_alone(method):
    torch.manual_seed(0)
    net, path, x = MLP(), dl.VP(), normal(27, 4, 2).float()
    guided = method(dl.Denoiser(net, path), path, torch.tensor([[1.0, 0.0]]), torch.tensor([0.5]), noise=0.3)
    end = dl.sample(dl.ddim_step, guided, path, x, dl.linear_ts(5))
    assert not torch.allclose(end, dl.sample(dl.ddim_step, dl.Denoiser(net, path), path, x, dl.linear_ts(5)))
    assert not guided(x, 0.5).x0.requires_grad
    assert not x.requires_grad
    assert all(p.grad is None for p in net.parameters())


X, EYE, MASK = normal(0, 4, 3), torch.eye(3).double(), torch.tensor([True, False, True])
VP = dl.VP()
BAD = {
    "pooling": (lambda: dl.average_pooling((1, 4, 6), 4), r"shape = \(1, 4, 6\), k = 4: give \(C, H, W\)"),
    "pooling by 0": (lambda: dl.average_pooling((1, 4, 4), 0), r"k = 0: give"),
    "image without channels": (lambda: dl.average_pooling((4, 4), 2), r"give \(C, H, W\)"),
    "mean": (
        lambda: dl.gaussian_posterior(normal(1, 2), EYE, A, Y, noise=1.0),
        r"mean has shape \(2,\), cov \(3, 3\), A \(2, 3\)",
    ),
    "y": (lambda: dl.dps(den, VP, A, normal(1, 3), noise=1.0), r"A has shape \(2, 3\), y \(3,\): give \(M, D\)"),
    "A a vector": (lambda: dl.pigdm(den, VP, A[0], Y, noise=1.0), r"A has shape \(3,\)"),
    "negative noise": (lambda: dl.pigdm(den, VP, A, Y, noise=-1.0), r"noise = -1.0: give a standard deviation"),
    "NaN noise": (lambda: dl.gaussian_posterior(Y, EYE, A, Y, noise=math.nan), r"noise = nan"),
    "no noise in dps": (lambda: dl.dps(den, VP, A, Y, noise=0.0), r"noise = 0: give a positive .* or use pigdm"),
    "mixture and y": (
        lambda: dl.mixture_posterior(random_mixture(3), A, normal(1, 4, 2), noise=1.0),
        r"A has shape \(2, 3\), y \(4, 2\): give \(M, 3\) and \(M,\)",
    ),
    "points without noise": (
        lambda: dl.mixture_posterior(dl.GaussianMixture.from_points(X), A, Y, noise=0.0),
        r"fewer than M dimensions: give noise > 0",
    ),
    "the same row twice": (
        lambda: dl.pigdm(den, VP, A[[0, 0]], Y, noise=0.0),
        r"noise = 0 and the rows of A depend on each other",
    ),
    "data_var": (lambda: dl.pigdm(den, VP, A, Y, noise=1.0, data_var=0.0), r"data_var = 0.0: give the variance"),
    "x of other size": (
        lambda: dl.dps(den, VP, A, Y, noise=1.0)(normal(0, 4, 2), 0.5),
        r"x has shape \(4, 2\), A \(2, 3\): each sample must hold 3 numbers",
    ),
    "alpha = 0": (lambda: dl.dps(den, dl.Cosine(), A, Y, noise=1.0)(X, 1.0), r"alpha = 0: the score does not give x0"),
    "mask of numbers": (
        lambda: dl.replacement(dl.ddim_step, X, MASK.double()),
        r"mask has dtype torch.float64: give bool",
    ),
    "jumps": (lambda: dl.repaint(dl.ddim_step, X, MASK, jumps=-1), r"jumps = -1: give how often to go back, 0 or"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
