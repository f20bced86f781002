"""Numbers that the chapters print, from the package's own functions; beside each its closed form or a second road."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from worlds import slope_of

import ddpm_lite as dl

ONE = torch.ones(1, 1, dtype=torch.float64)


def gaussian(var: float) -> dl.GaussianMixture:
    return dl.GaussianMixture([1.0], [[0.0]], [[[var]]])


def linear(path: dl.Path, var: float) -> dl.DenoiseFn:
    """The exact denoiser of N(0, var), in one line: x0 = alpha var x / (alpha^2 var + sigma^2)."""

    def den(x, t):
        c = path.at(t, x)
        share = x / (c.alpha**2 * var + c.sigma**2)
        return dl.Estimate(c.alpha * var * share, c.sigma * share)

    return den


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
