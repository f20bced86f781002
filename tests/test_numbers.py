"""Numbers that the chapters print, from the package's own functions; beside each its closed form or a second road."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from worlds import PATHS, exact_flow, linear, noisy_points, random_mixture, slope_of

import ddpm_lite as dl

ONE = torch.ones(1, 1, dtype=torch.float64)


def gaussian(var: float) -> dl.GaussianMixture:
    return dl.GaussianMixture([1.0], [[0.0]], [[[var]]])


@pytest.mark.parametrize("var", [1.0, 0.25])
def test_the_linear_denoiser_is_the_mixtures(var):
    path, x, t = dl.VP(), torch.tensor([[1.0], [-2.0]], dtype=torch.float64), torch.tensor([0.3, 0.7]).double()
    for got, want in zip(linear(path, var)(x, t), gaussian(var).denoiser(path)(x, t), strict=True):
        torch.testing.assert_close(got, want)


def test_chapter_1_entropy_of_the_normal():
    x = torch.linspace(-12, 12, 100_001, dtype=torch.float64)[:, None]
    log_p = gaussian(1.0).log_prob(x)
    nats = -(log_p.exp() * log_p).sum() * 24 / 100_000
    assert nats.item() == pytest.approx(1.41894, abs=5e-6)
    assert nats.item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=1e-10)
    assert dl.bits_per_dim(nats, (1,), levels=2).item() == pytest.approx(2.0471, abs=5e-5)


def langevin_law(score, step: float, x):
    """The law of a point after one `langevin` step from x: its mean (N,) and standard deviation, without chance."""
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = dl.langevin(score, x, step=step, n=1, generator=torch.Generator().manual_seed(0))
    away = dl.langevin(score, x, step=step, n=1, generator=torch.Generator().manual_seed(1))
    z_away = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    std = ((y - away) / (z - z_away)).mean()
    return (y - std * z)[:, 0], std.item()


def test_chapter_3_stationary_variance_of_langevin_and_mala():
    """N(0, 1), step .25: x -> A x + B z gives 1/(1 - .125); MALA's 1 within 4.9 standard errors, a rate of 1e-6."""
    (low, high), std = langevin_law(lambda x: -x, 0.25, torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    var = std**2 / (1 - (high - low).item() ** 2)
    assert var == pytest.approx(1.142857, abs=5e-7)
    assert var == pytest.approx(1 / (1 - 0.25 / 2), rel=1e-10)
    n, generator = 40_000, torch.Generator().manual_seed(0)
    start = 2 * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    end, _ = dl.mala(lambda x: -(x[:, 0] ** 2) / 2, start, step=0.25, n=60, generator=generator)
    assert abs(end.var() - 1) < 4.9 * math.sqrt(2 / n)


def test_chapter_3_precision_that_cd_1_fits():
    """Unit-variance data, E = k x^2/2, one `langevin` step of .25: where the mean gradient in k changes sign."""
    h = 0.25

    def gradient(k):
        energy = lambda x: k * x[:, 0] ** 2 / 2  # noqa: E731
        (low, high), std = langevin_law(dl.score_of(energy), h, torch.tensor([[0.0], [1.0]], dtype=torch.float64))
        after = math.sqrt((high - low).item() ** 2 + std**2)  # the standard deviation that the data get
        k = torch.tensor(k, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(dl.cd_loss(lambda x: k * x[:, 0] ** 2 / 2, ONE, after * ONE).mean(), k)
        return slope.item()

    for low, high, root, sign in ((0.5, 2.0, 1.1716, -1), (5.0, 7.5, 6.83, 1)):
        stable = gradient(low) < 0 < gradient(high)  # descent comes back to it
        assert stable == (sign < 0)
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if (gradient(middle) < 0) == stable else (low, middle)
        assert low == pytest.approx(root, abs=5e-5 if stable else 5e-3)
        assert low == pytest.approx((1 + sign * math.sqrt(1 - 2 * h)) / h, rel=1e-10)


@pytest.mark.parametrize("k", [0.3, 0.8, 1.5])
def test_chapters_4_and_5_constants(k, monkeypatch):
    """d = 2, data and noise N(0, I), score -k x: losses are quadratic, so means over signs for normals are exact."""
    d, s, sigma = 2, 1.0, 0.5
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2 * d)), dtype=torch.float64)
    x, z = s * signs[:, :d], signs[:, d:]
    noisy, score = math.sqrt(s**2 + sigma**2) * signs[:, :d], lambda x: -k * x
    explicit = dl.explicit_sm(score, noisy, -noisy / (s**2 + sigma**2)).mean()
    assert (explicit - dl.implicit_sm(score, noisy).mean()).item() == pytest.approx(0.800, abs=1e-12)
    assert d / (2 * (s**2 + sigma**2)) == pytest.approx(0.800)
    monkeypatch.setattr("ddpm_lite.scorematch.randn_like", lambda x, generator=None: z)
    denoising = dl.denoising_sm(score, x, sigma=sigma).mean()
    assert (denoising - explicit).item() == pytest.approx(3.200, abs=1e-12)
    assert d * s**2 / (2 * sigma**2 * (s**2 + sigma**2)) == pytest.approx(3.200)


def test_chapter_6_mass_of_the_heavier_mode():
    """.2 N(-4, 1) + .8 N(4, 1). The laws of the package's own steps, iterated on a grid, then a run with particles.

    True .80. Plain: .5232, annealed: .7900; the plan's short runs of 20,000 particles, .525 and .787, lie within 1
    standard error (.0035 and .0029). The runs here are within 4.9 of theirs, a rate of 1e-6.
    """
    mixture = dl.GaussianMixture([0.2, 0.8], [[-4.0], [4.0]], [[[1.0]], [[1.0]]])
    path, levels = dl.VE(0.05, 20.0), dl.linear_ts(39)
    rule = lambda c: 0.05 * (1 + c.sigma**2)  # noqa: E731
    sigma = path.coefs(levels).sigma
    assert (len(sigma), *sigma[[0, -1]].tolist()) == (40, pytest.approx(20), pytest.approx(0.05))
    assert (sigma[1:] / sigma[:-1]).tolist() == pytest.approx([400 ** (-1 / 39)] * 39)

    def push(p, x, score, step, n):
        mean, std = langevin_law(score, step, x)
        move = torch.exp(-((x - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi)) * (x[1] - x[0])
        for _ in range(n):
            p = move @ p
        return p

    def heavier(p, x):
        return ((p * (x[:, 0] > 0)).sum() + (p * (x[:, 0] == 0)).sum() / 2).item() / p.sum().item()

    x = torch.linspace(-16, 16, 321, dtype=torch.float64)[:, None]
    start = (x[:, 0].abs() < 7.99).double() + 0.5 * ((x[:, 0].abs() - 8).abs() < 0.01)
    plain = heavier(push(start, x, mixture.score, 0.05, 1000), x)
    x = torch.linspace(-120, 120, 1201, dtype=torch.float64)[:, None]
    p = torch.exp(-(x[:, 0] ** 2) / (2 * 20**2))
    for t in levels:
        p = push(p, x, lambda y, t=t: mixture.score(y, path, t), rule(path.coefs(t)).item(), 50)
    annealed = heavier(p, x)
    assert (plain, annealed) == (pytest.approx(0.5232, abs=2e-4), pytest.approx(0.7900, abs=2e-4))
    assert abs(plain - 0.525) < math.sqrt(0.25 / 20_000)
    assert abs(annealed - 0.787) < 1.1 * math.sqrt(0.16 / 20_000)

    n, generator = 2000, torch.Generator().manual_seed(0)
    x = 16 * torch.rand(n, 1, generator=generator, dtype=torch.float64) - 8
    end = dl.langevin(mixture.score, x, step=0.05, n=1000, generator=generator)
    assert abs((end > 0).double().mean() - plain) < 4.9 * math.sqrt(0.25 / n)
    x = 20 * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    end = dl.annealed_langevin(mixture.denoiser(path), path, x, levels, n=50, step=rule, generator=generator)
    assert abs((end > 0).double().mean() - annealed) < 4.9 * math.sqrt(0.16 / n)


def test_chapter_7_end_of_ddpms_chain():
    betas = dl.linear_betas()
    c = dl.BetaTable(betas).coefs(torch.ones((), dtype=torch.float64))
    assert (c.alpha**2).item() == pytest.approx(4.04e-5, abs=5e-8)
    mean, var = 1.0, 0.25
    for beta in betas.tolist():
        mean, var = math.sqrt(1 - beta) * mean, (1 - beta) * var + beta
    assert mean == pytest.approx(c.alpha.item(), rel=1e-10)
    assert var == pytest.approx((0.25 * c.alpha**2 + c.sigma**2).item(), rel=1e-10)
    assert (mean, math.sqrt(var)) == (pytest.approx(0, abs=0.007), pytest.approx(1, abs=1e-4))


def test_chapter_7_the_published_bug():
    """beta * rand for sqrt(beta) * randn: rand has mean 1/2 and variance 1/12."""
    beta, path = 0.035, dl.BetaTable(torch.full((100,), 0.035))
    mean, var = 0.0, 0.25
    for i in range(1, 101):
        alpha_ts = dl.transition(path, i / 100, (i - 1) / 100, ONE)[0].item()
        mean, var = alpha_ts * mean + beta / 2, alpha_ts**2 * var + beta**2 / 12
    assert (mean, math.sqrt(var)) == (pytest.approx(0.82, abs=0.005), pytest.approx(0.10, abs=0.005))
    c = path.coefs(torch.ones((), dtype=torch.float64))
    right = math.sqrt((0.25 * c.alpha**2 + c.sigma**2).item())
    assert right == pytest.approx(0.99, abs=0.005)


@pytest.mark.parametrize("path", [dl.VP(), dl.RectifiedFlow(), dl.Cosine(), dl.VE(1e-4, 50.0)])
def test_chapter_7_the_bound_does_not_see_the_schedule(path):
    """int -lam' E|eps - eps_hat|^2 dt for unit Gaussian data, SNR from 1e3 to 1e-3: (1/2) ln((1 + 1e3)/(1 + 1e-3))."""
    lam = 0.5 * math.log(1e3) * torch.tensor([1.0, -1.0], dtype=torch.float64)
    low, high = path.t_of(lam).tolist()
    n = 50_000
    t = low + (high - low) * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    c = path.coefs(t)
    floor = c.alpha**2 / (c.alpha**2 + c.sigma**2)
    bound = (dl.elbo_weight(path)(t) * floor).mean() * (high - low)
    assert bound.item() == pytest.approx(3.453878, abs=2e-6)
    assert 0.5 * math.log(1001 / 1.001) == pytest.approx(3.453878, abs=5e-7)


def test_chapter_8_floor_of_the_eps_loss():
    """Unit Gaussian data: the mean of abar. Both as the table says and as the exact denoiser leaves it."""
    path = dl.BetaTable(dl.linear_betas())
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    assert path.coefs(t).alpha.square().mean().item() == pytest.approx(0.27551, abs=5e-6)
    den = gaussian(1.0).denoiser(path)
    x = torch.ones(1000, 1, dtype=torch.float64)
    gain = den(x, t).eps[:, 0]  # eps_hat = gain x_t, so E|eps - eps_hat|^2 = 1 - 2 gain sigma + gain^2
    loss = 1 - 2 * gain * path.coefs(t).sigma + gain**2
    assert loss.mean().item() == pytest.approx(0.27551, abs=5e-6)


VARIANCES = {1000: (0.2508, 0.2461), 100: (0.2578, 0.2192), 25: (0.2855, 0.1618)}


@pytest.mark.parametrize("steps", VARIANCES)
@pytest.mark.parametrize("variance", ["forward", "posterior"])
def test_chapter_8_variance_of_ancestral_samples(steps, variance):
    """Data N(0, .25), beta from .1/T to 20/T: each step is x_s = A x + B z, so variances follow without chance."""
    path = dl.BetaTable(torch.linspace(0.1 / steps, 20 / steps, steps, dtype=torch.float64))
    den, var = linear(path, 0.25), 1.0
    points, z = (
        torch.tensor([[0.0], [1.0]], dtype=torch.float64),
        torch.randn(2, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
    )
    for t, s in itertools.pairwise(dl.linear_ts(steps).tolist()):
        generator = torch.Generator().manual_seed(0)
        y = dl.ancestral_step(den, path, points, t, s, variance=variance, generator=generator)
        B = (y[0] / z[0]).item()
        A = (y[1] - B * z[1]).item()
        var = A**2 * var + B**2
    assert var == pytest.approx(VARIANCES[steps][variance == "posterior"], abs=5e-5)


def by_hand(n: int, heun: bool, correct_at_0: bool) -> float:
    """x = 1 at sigma = 10 along dx/dsigma = x sigma/(1 + sigma^2), n equal steps to sigma = 0."""
    x, h = 1.0, 10 / n
    for i in range(n, 0, -1):
        sigma, after = i * h, (i - 1) * h
        slope = x * sigma / (1 + sigma**2)
        if heun and (after > 0 or correct_at_0):
            slope = (slope + (x - h * slope) * after / (1 + after**2)) / 2
        x -= h * slope
    return x


def test_chapter_9_slopes_of_the_error():
    """N(0, 1), sigma from 10 to 0: x = 1 ends at 1/sqrt(101); slopes between 800 and 1,600 steps.

    Heun's 1.997 is with the corrector in the last step too, at sigma = 0, where this one field is defined.
    `heun_step`, like EDM's algorithm, leaves it out: 2.001.
    """
    path, steps, exact = dl.EDM(10.0), [800, 1600], 1 / math.sqrt(101)
    den = linear(path, 1.0)
    for step, heun, order in ((dl.euler_step, False, 0.998), (dl.heun_step, True, 2.001)):
        ends = [dl.sample(step, den, path, ONE, dl.linear_ts(n)).item() for n in steps]
        assert ends == pytest.approx([by_hand(n, heun, False) for n in steps], abs=1e-12)
        assert slope_of([abs(end - exact) for end in ends], steps) == pytest.approx(order, abs=5e-4)
    errors = [abs(by_hand(n, True, True) - exact) for n in steps]
    assert slope_of(errors, steps) == pytest.approx(1.997, abs=5e-4)


TWO = dl.GaussianMixture([0.2, 0.8], [[-4.0], [4.0]], [[[1.0]], [[1.0]]])  # of chapter 6


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("mixture", [TWO, dl.book_mixture(2), random_mixture(3)], ids=["two", "book", "random"])
def test_chapter_11_log_likelihood_by_the_ode(path, mixture):
    ts = path.t_of(torch.linspace(4.0, path.lam(0.99).item(), 17, dtype=torch.float64)).clamp(min=1e-6)
    x = noisy_points(mixture, path, ts[0], n=8)
    prior = lambda x: mixture.log_prob(x, path, ts[-1])  # noqa: E731
    got = dl.ode_log_prob(mixture.denoiser(path), path, x, ts, prior=prior)
    torch.testing.assert_close(got, mixture.log_prob(x, path, ts[0]), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("path", "off"), [(dl.VP(), 0.016), (dl.VE(), 0.047)])
def test_chapter_11_the_wrong_prior(path, off):
    """N(0, sigma^2 I) for p_1, at the point that flows to x_1 = sigma; also from the moments of p_1."""
    c = path.coefs(torch.ones((), dtype=torch.float64))
    x1 = c.sigma.reshape(1, 1)
    ts = dl.logsnr_ts(path, 40).flip(0)
    x = exact_flow(TWO, path, x1, 1.0, ts[0].item())
    right = lambda x: TWO.log_prob(x, path, 1.0)  # noqa: E731
    wrong = lambda x: -0.5 * (x[:, 0] / c.sigma) ** 2 - c.sigma.log() - 0.5 * math.log(2 * math.pi)  # noqa: E731
    good, bad = (dl.ode_log_prob(TWO.denoiser(path), path, x, ts, prior=prior) for prior in (right, wrong))
    truth = TWO.log_prob(x, path, ts[0])
    assert good.item() == pytest.approx(truth.item(), abs=1e-5)
    assert (truth - bad).item() == pytest.approx(off, abs=5e-4)
    mean, var = 2.4 * c.alpha.item(), c.sigma.item() ** 2 + 11.24 * c.alpha.item() ** 2  # of p_1, nearly Gaussian
    near = 0.5 - (c.sigma.item() - mean) ** 2 / (2 * var) - 0.5 * math.log(var / c.sigma.item() ** 2)
    assert near == pytest.approx(off, abs=1e-3)


def every_step(step, ts, dim=1, draws=0):
    """The steps of a grid on Gaussian data, x_s = A x + c + noise of covariance Q, all from one call of the step.

    Each step sees as many random rows as it has unknowns; `draws` is how often it draws noise.
    """
    rows = dim * (draws + 1) + 1
    n, generator = (len(ts) - 1) * rows, torch.Generator().manual_seed(1)
    x = torch.randn(n, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = [torch.randn(n, dim, generator=generator, dtype=torch.float64) for _ in range(draws)]
    y = step(x, ts[:-1].repeat_interleave(rows), ts[1:].repeat_interleave(rows), generator=generator.manual_seed(1))
    known = torch.cat([x, *z, torch.ones(n, 1, dtype=torch.float64)], 1).reshape(-1, rows, rows)
    maps = torch.linalg.solve(known, y.reshape(-1, rows, dim)).mT
    A, B, c = maps[:, :, :dim], maps[:, :, dim:-1], maps[:, :, -1]
    return zip(A.numpy(), c.numpy(), (B @ B.mT).numpy(), strict=True)


def push(steps, mean, cov):
    """Mean and covariance after all steps."""
    for A, c, Q in steps:
        mean, cov = A @ mean + c, A @ cov @ A.T + Q
    return mean, cov


def along_noise(slopes, start):
    """Mean and variance at sigma = 0 of d(mean, var)/d(sigma^2) from sigma = 300, by another solver."""
    q = (math.log1p(300.0**2), 0.0)  # in log(1 + sigma^2), where the fields change evenly
    f = lambda u, y: [math.exp(u) * d for d in slopes(math.expm1(u), *y)]  # noqa: E731
    return solve_ivp(f, q, start, method="DOP853", rtol=1e-11, atol=1e-13).y[:, -1].tolist()


@pytest.mark.parametrize(
    ("w", "mean", "var", "tilted"),
    [(1, 1.0, 0.25, (1.0, 0.25)), (2, 1.321, 0.0500, (1.111, 0.1389)), (4, 1.396, 0.0020, (1.176, 0.0735))],
)
def test_chapter_13_guided_samples_do_not_follow_the_tilted_density(w, mean, var, tilted):
    """x given y ~ N(y, .25), y ~ N(0, 1), y = 1: the guided flow is affine, so its law comes without chance."""
    path = dl.EDM(300.0)
    cond = dl.GaussianMixture([1.0], [[1.0]], [[[0.25]]])
    den = dl.cfg(cond.denoiser(path), linear(path, 1.25), w)
    steps = every_step(partial(dl.heun_step, den, path), dl.logsnr_ts(path, 4000, t_min=1e-6))
    got_mean, got_var = push(steps, np.zeros(1), np.full((1, 1), 300.0**2))
    assert got_mean.item() == pytest.approx(mean, abs=2e-3)
    assert got_var.item() == pytest.approx(var, abs=5e-5)
    assert got_var.item() == pytest.approx(0.25**w / 1.25 ** (w - 1), rel=1e-3)

    def slopes(q, m, v):  # dx/dq = -score/2
        a = w / (0.25 + q) - (w - 1) / (1.25 + q)
        return (a * m - w / (0.25 + q)) / 2, a * v

    assert [got_mean.item(), got_var.item()] == pytest.approx(along_noise(slopes, [0.0, 300.0**2]), rel=1e-4)
    gain, noise = 1 / 1.25, 1 - 1 / 1.25  # y given x ~ N(gain x, noise)
    precision = 1 / 1.25 + w * gain**2 / noise
    assert (w * gain / noise / precision, 1 / precision) == pytest.approx(tilted, abs=5e-4)


@pytest.mark.parametrize(("n", "std"), [(1, 0), (2, 0.2), (5, 0.369), (10, 0.431), (50, 0.485)])
def test_chapter_14_std_after_n_euler_steps(n, std):
    """N(0, 1) to N(0, .25) on the straight path, independent coupling: the flow is linear, so one point tells."""
    path = dl.RectifiedFlow()
    end = dl.sample(dl.euler_step, gaussian(0.25).denoiser(path), path, ONE, dl.linear_ts(n)).item()
    assert abs(end) == pytest.approx(std, abs=5e-4)
    factor = 1.0
    for i in range(n, 0, -1):  # u = (sigma - alpha/4)/(alpha^2/4 + sigma^2) x at t = i/n
        t = i / n
        factor *= 1 - (t - (1 - t) / 4) / ((1 - t) ** 2 / 4 + t**2) / n
    assert end == pytest.approx(factor, abs=1e-12)


def test_chapter_14_optimal_pairs_need_one_step():
    """Paired by optimal transport, N(0, 1) to N(0, .25) is x0 = x1/2: u = x1 - x0 = x_t/(1 + t), one step is exact."""
    path, order = dl.RectifiedFlow(), torch.randperm(999, generator=torch.Generator().manual_seed(0))
    x1 = torch.special.ndtri(torch.arange(1, 1000, dtype=torch.float64) / 1000)[:, None]
    x0 = 0.5 * x1[order]
    net = lambda x, t: x / (1 + t[:, None])  # noqa: E731
    t = torch.linspace(0.001, 1, 999, dtype=torch.float64)
    losses = [
        dl.matching_loss(net, path, x0, kind="velocity", t=t, x1=pairs).mean().item()
        for pairs in (dl.ot_couple(x0, x1), x1)
    ]
    assert losses[0] == pytest.approx(0, abs=1e-25)
    assert losses[1] > 0.2
    end = dl.sample(dl.euler_step, dl.Denoiser(net, path, "velocity"), path, x1, dl.linear_ts(1))
    assert (end.std() / x1.std()).item() == pytest.approx(0.5, abs=1e-12)


CORRELATED = dl.GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.9], [0.9, 1.0]]])
FIRST = torch.tensor([1.5, 0.0], dtype=torch.float64), torch.tensor([True, False])  # 1.5 is known


@pytest.mark.parametrize(("variance", "var"), [("posterior", 0.3078), ("forward", 0.3125)])
def test_chapter_15_replacement(variance, var):
    path = dl.BetaTable(dl.linear_betas())
    step = partial(dl.replacement(dl.ancestral_step, *FIRST), CORRELATED.denoiser(path), path, variance=variance)
    mean, cov = push(every_step(step, dl.linear_ts(1000), 2, draws=2), np.zeros(2), np.eye(2))
    assert (mean[1], cov[1, 1]) == (pytest.approx(0.9384, abs=5e-5), pytest.approx(var, abs=5e-5))
    assert (mean[0], cov[0, 0]) == (pytest.approx(1.5), pytest.approx(0, abs=1e-12))


def test_chapter_15_replacement_with_infinitely_many_steps():
    """Noise on the known number averages out between steps: the other follows its reverse SDE at the mean, 1.5 alpha.

    Beside it the package's steps for 1,000 and 2,000 levels, extrapolated.
    """

    def slopes(clock, y):
        t, (m, v) = 1 - clock, y
        beta, alpha = 0.1 + 19.9 * t, math.exp(-0.05 * t - 4.975 * t**2)
        pull = beta / (1 - 0.81 * alpha**4)  # score of the second number: -(x - .9 alpha^2 known)/(1 - .81 alpha^4)
        return beta / 2 * m - pull * (m - 0.9 * alpha**2 * 1.5 * alpha), beta * v - 2 * pull * v + beta

    limit = solve_ivp(slopes, (0, 1), [0.0, 1.0], rtol=1e-10, atol=1e-12).y[:, -1]
    assert limit.tolist() == [pytest.approx(0.9402, abs=5e-5), pytest.approx(0.3108, abs=5e-5)]
    ends = []
    for n in (1000, 2000):
        path = dl.BetaTable(torch.linspace(0.1 / n, 20 / n, n, dtype=torch.float64))
        step = partial(dl.replacement(dl.ancestral_step, *FIRST), CORRELATED.denoiser(path), path, variance="forward")
        mean, cov = push(every_step(step, dl.linear_ts(n), 2, draws=2), np.zeros(2), np.eye(2))
        ends.append(np.array([mean[1], cov[1, 1]]))
    assert (2 * ends[1] - ends[0]).tolist() == pytest.approx(limit.tolist(), abs=2e-5)


def test_chapter_15_repaint_and_pigdm_come_nearer():
    """RePaint with 10 jumps a step; Pi-GDM with r^2 for variance 1, in the ODE and the reverse SDE. Exact 1.35, .19."""
    A = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    exact = dl.gaussian_posterior(CORRELATED.means[0], CORRELATED.covs[0], A, FIRST[0][:1], noise=0.0)
    assert (exact[0][1].item(), exact[1][1, 1].item()) == pytest.approx((1.35, 0.19))
    path = dl.BetaTable(dl.linear_betas())
    step = partial(dl.repaint(dl.ancestral_step, *FIRST, jumps=10), CORRELATED.denoiser(path), path)
    mean, cov = push(every_step(step, dl.linear_ts(1000), 2, draws=32), np.zeros(2), np.eye(2))
    assert (mean[1], cov[1, 1]) == (pytest.approx(1.323, abs=5e-4), pytest.approx(0.186, abs=6e-4))
    path = dl.VP()
    den, ts = (
        dl.pigdm(CORRELATED.denoiser(path), path, A, FIRST[0][:1], noise=0.0),
        dl.logsnr_ts(path, 8000, t_min=1e-6),
    )
    for solver, draws, want in ((dl.heun_step, 0, (1.266, 0.232)), (dl.ancestral_step, 1, (1.281, 0.214))):
        mean, cov = push(every_step(partial(solver, den, path), ts, 2, draws), np.zeros(2), np.eye(2))
        assert (mean[1], cov[1, 1]) == pytest.approx(want, abs=6e-4)


@pytest.mark.parametrize(
    ("step", "draws", "mean", "var"), [(dl.heun_step, 0, 1.278, 0.0183), (dl.em_step, 1, 0.982, 0.125)]
)
def test_chapter_15_dps_in_one_dimension(step, draws, mean, var):
    path, one = dl.EDM(300.0), torch.ones(1, 1, dtype=torch.float64)
    den = dl.dps(linear(path, 1.0), path, one, one[0], noise=0.5)
    steps = every_step(partial(step, den, path), dl.logsnr_ts(path, 8000, t_min=1e-6), draws=draws)
    got_mean, got_var = push(steps, np.zeros(1), np.full((1, 1), 300.0**2))
    assert got_mean.item() == pytest.approx(mean, abs=5e-4)
    assert got_var.item() == pytest.approx(var, abs=1e-4)
    half = 0.5 if step is dl.heun_step else 1.0  # of the score in dx/dq

    def slopes(q, m, v):  # score a + b x; the SDE's noise is one unit of variance a unit of q
        b = -1 / (1 + q) - 4 / (1 + q) ** 2
        return -half * (4 / (1 + q) + b * m), -2 * half * b * v - (1 if draws else 0)

    road = along_noise(slopes, [0.0, 300.0**2])
    assert road == [pytest.approx(mean, abs=5e-4), pytest.approx(var, abs=6e-5)]
    exact = dl.gaussian_posterior(torch.zeros(1).double(), one, one, one[0], noise=0.5)
    assert (exact[0].item(), exact[1].item()) == pytest.approx((0.8, 0.2))


def test_chapter_16_the_middle_of_two_noises():
    """Over sqrt(d), d = 1e6: standard errors below .001, so .005 is missed by chance once in 1e6 at most."""
    a, b = torch.randn(2, 1, 1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert ((a + b) / 2).norm().item() / 1000 == pytest.approx(0.7071, abs=0.005)
    assert dl.slerp(a, b, 0.5).norm().item() / 1000 == pytest.approx(1, abs=0.005)
    b = b * a.norm() / b.norm()  # equal norms: then without chance
    assert dl.slerp(a, b, 0.5).norm().item() == pytest.approx(a.norm().item(), rel=1e-12)
