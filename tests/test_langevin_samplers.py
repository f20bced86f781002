"""Annealed Langevin and the corrector against the papers' loops, closed-form variances and the mixture's law."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import norm
from worlds import PATHS, normal, random_mixture, seeded, within_law

import ddpm_lite as dl

each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
TS = torch.tensor([0.9, 0.5, 0.2, 0.05], dtype=torch.float64)


def den(x, t):
    """Some denoiser that depends on everything; on no path exact."""
    t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, *(1 for _ in x.shape[1:]))
    return dl.Estimate(torch.tanh(x) + t, torch.sin(2 * x) - t)


# --- annealed Langevin


@each_path
@pytest.mark.parametrize("shape", [(4, 2), (2, 2), (3, 1, 2, 2)])
def test_annealed_langevin_is_its_double_loop(path, shape):
    x, generator = normal(0, *shape), seeded(1)
    rule = lambda c: 0.02 * (c.alpha**2 + c.sigma**2)  # noqa: E731
    got = dl.annealed_langevin(den, path, x, TS, n=3, step=rule, generator=generator)
    generator, y = seeded(1), x
    for t in TS.tolist():
        c = path.coefs(torch.tensor(t, dtype=torch.float64))
        h = 0.02 * (c.alpha**2 + c.sigma**2)
        for _ in range(3):
            z = torch.randn(shape, generator=generator, dtype=torch.float64)
            y = y + h * (-den(y, t).eps / c.sigma) + math.sqrt(2 * h) * z
    torch.testing.assert_close(got, y, rtol=1e-10, atol=1e-10)
    assert not got.requires_grad


def test_ncsns_algorithm_1():
    """In the paper's letters: alpha_i = eps sigma_i^2/sigma_L^2, x <- x + alpha_i/2 s + sqrt(alpha_i) z."""
    mixture, sigmas, eps, x = random_mixture(2), np.geomspace(5, 0.1, 10), 2e-3, 5 * normal(0, 4, 2)
    path, generator, y = dl.VE(0.1, 5.0), seeded(1), x
    for sigma in sigmas:
        alpha = eps * sigma**2 / sigmas[-1] ** 2
        for _ in range(4):
            z = torch.randn(4, 2, generator=generator, dtype=torch.float64)
            y = y + alpha / 2 * mixture.score(y, dl.EDM(5.0), sigma / 5.0) + math.sqrt(alpha) * z
    rule = lambda c: eps / 2 * c.sigma**2 / 0.1**2  # noqa: E731
    got = dl.annealed_langevin(mixture.denoiser(path), path, x, dl.linear_ts(9), n=4, step=rule, generator=seeded(1))
    torch.testing.assert_close(got, y, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["VP", "SubVP", "Cosine", "EDM", "RectifiedFlow", "BetaTable"])
def test_no_field_is_asked_where_sigma_is_0(name):
    asked, x, ts = [], normal(0, 4, 2), torch.tensor([0.5, 0.125, 0.0])
    spy = lambda x, t: asked.append(float(t)) or den(x, t)  # noqa: E731
    run = partial(dl.annealed_langevin, spy, PATHS[name], x, n=2, step=lambda c: 0.01)
    with pytest.raises(ValueError, match=r"ts ends at 0.0, where sigma = 0 and no score is defined: end above it"):
        run(ts)
    assert asked == []
    run(ts[:-1].double())
    assert asked == [0.5, 0.5, 0.125, 0.125]


@pytest.mark.parametrize("path", [dl.VE(0.1, 10.0), dl.VP(), dl.RectifiedFlow()], ids=["VE", "VP", "RectifiedFlow"])
def test_annealed_langevin_ends_with_the_ula_variance_of_its_last_level(path):
    """Data N(.7, .25), h = r (variance of p_t): that variance / (1 - r/2) and the exact mean, 4.9 standard errors."""
    data, n, r = dl.GaussianMixture([1.0], [[0.7]], [[[0.25]]]), 20_000, 0.3
    ts = dl.logsnr_ts(path, 5, t_max=0.95, t_min=0.1)
    x = normal(0, n, 1)
    end = dl.annealed_langevin(
        data.denoiser(path), path, x, ts, n=30, step=lambda c: r * (0.25 * c.alpha**2 + c.sigma**2), generator=seeded(1)
    )
    c = path.coefs(ts[-1])
    var = (0.25 * c.alpha**2 + c.sigma**2).item() / (1 - r / 2)
    assert abs(end.mean() - 0.7 * c.alpha) < 4.9 * math.sqrt(var / n)
    assert abs(end.var() / var - 1) < 4.9 * math.sqrt(2 / n)


def test_the_denoiser_takes_the_last_noise_away():
    """Point masses: after the last level a step to x0 lands on them."""
    points = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    ideal, path, ts = dl.GaussianMixture.from_points(points), dl.VE(0.05, 5.0), dl.linear_ts(15)
    den = ideal.denoiser(path)
    rule = lambda c: 0.1 * c.sigma**2  # noqa: E731
    x = dl.annealed_langevin(den, path, 5 * normal(0, 2000, 2), ts, n=10, step=rule, generator=seeded(1))
    left = (x[:, None] - points).norm(dim=2).min(1).values
    assert left.min() > 0
    assert left.median() == pytest.approx(0.05 * math.sqrt(2 * math.log(2) / 0.95), rel=0.08)  # Rayleigh's median, 1e-6
    clean = den(x, ts[-1]).x0
    assert (clean[:, None] - points).norm(dim=2).min(1).values.max() < 1e-9


# --- the corrector


def corrector_by_hand(path, x, t, snr, n, generator):
    """Score-SDE's corrector, as in the authors' code: norms of each sample, then their mean over the batch."""
    sigma = path.coefs(torch.tensor(t, dtype=torch.float64)).sigma
    for _ in range(n):
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        score = -den(x, t).eps / sigma
        norms = [np.mean([np.linalg.norm(row.numpy()) for row in y.flatten(1)]) for y in (z, score)]
        h = 2 * (snr * norms[0] / norms[1]) ** 2
        x = x + h * score + np.sqrt(2 * h) * z
    return x


@each_path
@pytest.mark.parametrize("shape", [(4, 2), (2, 2), (3, 1, 2, 2)])
def test_corrector_is_the_papers(path, shape):
    x = normal(0, *shape)
    got = dl.langevin_corrector(den, path, x, 0.4, snr=0.3, n=2, generator=seeded(1))
    torch.testing.assert_close(got, corrector_by_hand(path, x, 0.4, 0.3, 2, seeded(1)), rtol=1e-9, atol=1e-9)
    got = dl.langevin_corrector(den, path, x, 0.4, generator=seeded(1))
    torch.testing.assert_close(got, corrector_by_hand(path, x, 0.4, 0.16, 1, seeded(1)), rtol=1e-9, atol=1e-9)


def test_a_sample_depends_on_its_batch():
    """The same first row of x and of the noise, alone and among others: the batch's mean norms set the step."""
    x, path = normal(0, 4, 2), dl.VP()
    alone = dl.langevin_corrector(den, path, x[:1], 0.4, generator=seeded(1))
    among = dl.langevin_corrector(den, path, x, 0.4, generator=seeded(1))[:1]
    assert (alone - among).abs().max() > 1e-3
    torch.testing.assert_close(alone, corrector_by_hand(path, x[:1], 0.4, 0.16, 1, seeded(1)), rtol=1e-9, atol=1e-9)


def test_times_may_differ_by_sample():
    x, path, t = normal(0, 2, 2), dl.VP(), torch.tensor([0.2, 0.7], dtype=torch.float64)  # B == D
    sigma = path.coefs(t).sigma[:, None]
    score = -den(x, t).eps / sigma
    z = torch.randn(2, 2, generator=seeded(1), dtype=torch.float64)
    h = 2 * (0.16 * z.norm(dim=1).mean() / score.norm(dim=1).mean()) ** 2
    got = dl.langevin_corrector(den, path, x, t, generator=seeded(1))
    torch.testing.assert_close(got, x + h * score + (2 * h).sqrt() * z)


@pytest.mark.parametrize("snr", [0.16, 0.5])
def test_the_correctors_variance_is_too_large_by_snr_squared(snr):
    """N(0, v) under VE at sigma = 1: (1 + snr^2) v, from below; 200,000 points, 4.9 standard errors."""
    path, data, n = dl.EDM(10.0), dl.GaussianMixture([1.0], [[0.0]], [[[0.25]]]), 200_000
    linear = lambda x, t: dl.Estimate(0.25 * x / 1.25, x / 1.25)  # noqa: E731
    x = normal(0, 5, 1)
    torch.testing.assert_close(linear(x, 0.1).eps, data.denoiser(path)(x, 0.1).eps)
    steps = math.ceil(2 / snr**2)
    end = dl.langevin_corrector(linear, path, normal(0, n, 1), 0.1, snr=snr, n=steps, generator=seeded(1))
    assert abs(end.var() / (1.25 * (1 + snr**2)) - 1) < 4.9 * math.sqrt(2 / n)


def marginal_cdf(v):
    return 0.3 * norm.cdf(v, -2, 0.4) + 0.5 * norm.cdf(v, 0.5, 0.7) + 0.2 * norm.cdf(v, 2.5, 0.3)


def test_predictor_corrector_samples_the_mixture():
    """VP in 100 steps, two corrections each: 1e-6 false alarms, bias under .02 in the distribution function."""
    mixture, path, n = dl.book_mixture(1), dl.VP(), 4000
    step = dl.pc(dl.em_step, partial(dl.langevin_corrector, n=2))
    end = dl.sample(step, mixture.denoiser(path), path, normal(7, n, 1), dl.linear_ts(100), generator=seeded(8))
    assert within_law(end[:, 0], marginal_cdf, slack=0.02)


# --- manners


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_randomness(dtype):
    x, path = normal(0, 4, 2).to(dtype), dl.VP()
    before = torch.get_rng_state()
    for run in (
        lambda: dl.annealed_langevin(den, path, x, TS, n=2, step=lambda c: 0.1 * c.sigma**2, generator=seeded(1)),
        lambda: dl.langevin_corrector(den, path, x, 0.4, generator=seeded(1)),
    ):
        first = run()
        assert (first.dtype, first.shape) == (dtype, x.shape)
        assert torch.equal(first, run())
    assert torch.equal(before, torch.get_rng_state())


X = normal(0, 4, 2)
run_annealed = partial(dl.annealed_langevin, den, dl.VP(), X, n=1, step=lambda c: 0.1)
BAD = {
    "ts rises": (lambda: run_annealed(TS.flip(0)), r"ts must strictly decrease, from noise to data"),
    "ts outside": (lambda: run_annealed(torch.tensor([1.5, 0.5])), r"ts runs from 1.5 to 0.5: keep it in \[0, 1\]"),
    "n": (lambda: run_annealed(TS, n=0), r"n = 0: give the number of steps, at least 1"),
    "step": (lambda: run_annealed(TS, step=lambda c: 0.0 * c.sigma), r"step = 0.0: give a positive number"),
    "snr": (lambda: dl.langevin_corrector(den, dl.VP(), X, 0.5, snr=0.0), r"snr = 0.0: give a positive number"),
    "corrections": (lambda: dl.langevin_corrector(den, dl.VP(), X, 0.5, n=0), r"n = 0: give the number of steps"),
    "clean level": (lambda: dl.langevin_corrector(den, dl.VP(), X, 0.0), r"'score' is infinite where sigma = 0"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input_names_argument_value_and_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
