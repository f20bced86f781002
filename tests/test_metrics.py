"""Metrics against loops, scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_lite import metrics

METRICS = [metrics.energy_distance, metrics.mmd, metrics.sliced_wasserstein, metrics.frechet_distance]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(metric, x, y):
    if metric is metrics.sliced_wasserstein:
        return metric(x, y, generator=torch.Generator().manual_seed(0))
    return metric(x, y)


def loop(f, x, y):
    return sum(f(math.dist(a, b)) for a in x.tolist() for b in y.tolist()) / (len(x) * len(y))


@pytest.mark.parametrize("block", [1, 50, 2**22])
def test_energy_distance_and_mmd_equal_double_loops(block, monkeypatch):
    monkeypatch.setattr(metrics, "_BLOCK", block)  # also when cut into single rows
    x, y = normal(13, 3), 1.5 * normal(17, 3, seed=1) + 0.3
    energy = 2 * loop(float, x, y) - loop(float, x, x) - loop(float, y, y)
    assert metrics.energy_distance(x, y) == pytest.approx(energy, rel=1e-12)

    def kernel(d):
        return math.exp(-(d**2) / (2 * 0.7**2))

    square = loop(kernel, x, x) + loop(kernel, y, y) - 2 * loop(kernel, x, y)
    assert metrics.mmd(x, y, bandwidth=0.7) == pytest.approx(square, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_one_dimension_against_scipy(n, m, seed):
    x, y = normal(n, 1, seed=seed), 2 * normal(m, 1, seed=seed + 1)
    a, b = x[:, 0].numpy(), y[:, 0].numpy()
    assert metrics.energy_distance(x, y) == pytest.approx(scipy.stats.energy_distance(a, b) ** 2, rel=1e-9, abs=1e-12)
    # on a line every direction is +1 or -1, and both give the same distance
    w1 = metrics.sliced_wasserstein(x, y, p=1, n_proj=3)
    assert w1 == pytest.approx(scipy.stats.wasserstein_distance(a, b), rel=1e-9)
    # any p at unequal sizes: repeat the points to a common size, then sort
    big_a, big_b = np.sort(np.repeat(a, m)), np.sort(np.repeat(b, n))
    w3 = np.mean(np.abs(big_a - big_b) ** 3) ** (1 / 3)
    assert metrics.sliced_wasserstein(x, y, p=3, n_proj=2) == pytest.approx(w3, rel=1e-9)


def test_energy_distance_of_two_gaussians():
    # X - Y ~ N(m, s^2 + 1), and E|N(m, v)| = sqrt(2 v/pi) exp(-m^2/(2v)) + m erf(m/sqrt(2v))
    def mean_abs(m, v):
        return math.sqrt(2 * v / math.pi) * math.exp(-m * m / (2 * v)) + m * math.erf(m / math.sqrt(2 * v))

    m, s, n, runs = 1.0, 0.5, 10, 3000
    exact = 2 * mean_abs(m, s * s + 1) - mean_abs(0, 2) - mean_abs(0, 2 * s * s)
    # the diagonal of zeros raises the expectation by (E|X - X'| + E|Y - Y'|)/n
    bias = (mean_abs(0, 2) + mean_abs(0, 2 * s * s)) / n
    x, y = normal(runs, n, 1), m + s * normal(runs, n, 1, seed=1)
    values = [metrics.energy_distance(a, b) for a, b in zip(x, y, strict=True)]
    error = np.std(values, ddof=1) / math.sqrt(runs)  # six of them: a false alarm below 2e-9
    assert abs(np.mean(values) - exact - bias) < 6 * error
    assert 6 * error < bias / 2  # so that means without the diagonal would fail


def test_mmd_of_two_gaussians():
    # E k = (h^2/(h^2 + v))^(d/2) exp(-m^2/(2 (h^2 + v))) for a difference N(m, v I) in d dimensions
    def mean_kernel(m2, v, h=0.8, d=3):
        return (h * h / (h * h + v)) ** (d / 2) * math.exp(-m2 / (2 * (h * h + v)))

    n, shift, runs = 10, 0.6, 3000
    x_x, x_y = mean_kernel(0, 2), mean_kernel(3 * shift**2, 2)
    exact = 2 * (x_x + (1 - x_x) / n - x_y)  # V-statistic: the diagonal is 1
    x, y = normal(runs, n, 3), shift + normal(runs, n, 3, seed=1)
    values = [metrics.mmd(a, b, bandwidth=0.8) for a, b in zip(x, y, strict=True)]
    error = np.std(values, ddof=1) / math.sqrt(runs)  # as above
    assert abs(np.mean(values) - exact) < 6 * error
    assert 6 * error < (1 - x_x) / n


def test_sliced_wasserstein_of_a_shift_and_a_scale():
    x = normal(500, 4)
    shift = torch.tensor([3.0, -1.0, 2.0, 0.5], dtype=torch.float64)
    u2 = []
    for seed in range(50):
        distance = metrics.sliced_wasserstein(x, x + shift, generator=torch.Generator().manual_seed(seed))
        u2.append(distance**2)  # mean of (u.m)^2, whose expectation is |m|^2/d
    error = np.std(u2, ddof=1) / math.sqrt(50)
    assert abs(np.mean(u2) - shift.square().sum().item() / 4) < 7 * error  # t with 49 degrees: below 1e-8
    # scaling by c moves each sorted projection by (c - 1) itself: compare direction by direction
    one = metrics.sliced_wasserstein(x, 3 * x, n_proj=5, generator=torch.Generator().manual_seed(1))
    half = metrics.sliced_wasserstein(x, 2 * x, n_proj=5, generator=torch.Generator().manual_seed(1))
    assert one == pytest.approx(2 * half, rel=1e-12)


def test_sliced_wasserstein_blocks_do_not_matter(monkeypatch):
    x, y = normal(20, 3), normal(30, 3, seed=1)
    whole = seeded(metrics.sliced_wasserstein, x, y)
    monkeypatch.setattr(metrics, "_BLOCK", 60)
    assert seeded(metrics.sliced_wasserstein, x, y) == pytest.approx(whole, rel=1e-12)


def test_frechet_distance_against_scipy_square_root():
    a, b = normal(200, 6) @ normal(6, 6, seed=1), 0.5 * normal(150, 6, seed=2) + 1
    ca, cb = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = scipy.linalg.sqrtm(ca @ cb).real
    exact = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(ca + cb - 2 * root)
    assert metrics.frechet_distance(a, b) == pytest.approx(exact, rel=1e-9)
    assert metrics.frechet_distance(a.float(), b.float()) == pytest.approx(exact, rel=1e-4)


def test_gaussian_frechet_distance_in_closed_form():
    eye = torch.eye(3, dtype=torch.float64)
    m = torch.tensor([1.0, 2.0, -2.0])
    # commuting covariances: |m|^2 + sum (std - std')^2
    value = metrics.gaussian_frechet_distance(m, 4 * eye, 0 * m, torch.diag(torch.tensor([1.0, 9.0, 0.0])))
    assert value == pytest.approx(9 + 1 + 1 + 4, rel=1e-12)
    assert metrics.gaussian_frechet_distance(m, 4 * eye, m, 4 * eye) == pytest.approx(0, abs=1e-12)
    # optimal maps of Gaussians are linear: for y = T x with T symmetric and positive the cost is tr (T - I) C (T - I)
    g = normal(3, 3)
    c, t = g @ g.T, eye + normal(3, 3, seed=4) @ normal(3, 3, seed=4).T
    cost = ((t - eye) @ c @ (t - eye)).trace().item()
    assert metrics.gaussian_frechet_distance(m, c, m, t @ c @ t) == pytest.approx(cost, rel=1e-10)


def test_frechet_distance_with_fewer_rows_than_features():
    x = normal(5, 20)
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert metrics.frechet_distance(x, x + 2) == pytest.approx(80, rel=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_invariances(metric):
    x, y = normal(60, 2), 0.5 * normal(80, 2, seed=1) + 1
    value = seeded(metric, x, y)
    assert seeded(metric, y, x) == pytest.approx(value, rel=1e-9)
    assert seeded(metric, x + 7, y + 7) == pytest.approx(value, rel=1e-9)
    assert seeded(metric, x.flip(0), y) == pytest.approx(value, rel=1e-9)
    assert seeded(metric, x, x) == pytest.approx(0, abs=1e-9)
    assert value > 0.01
    if metric is not metrics.sliced_wasserstein:  # whose directions are drawn
        turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
        assert metric(x @ turn, y @ turn) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_images_are_flattened_and_float32_is_enough(metric):
    x, y = normal(20, 1, 3, 3), normal(25, 1, 3, 3, seed=1)
    assert seeded(metric, x.float(), y.float()) == pytest.approx(seeded(metric, x.flatten(1), y.flatten(1)), rel=1e-3)
    assert isinstance(seeded(metric, x, y), float)


@pytest.mark.parametrize("metric", METRICS)
def test_bad_samples(metric):
    x = normal(10, 2)
    bad = x.clone()
    bad[3, 1] = math.nan
    for a, b, words in [
        (x, normal(10, 3), "samples must be"),
        (x[:, 0], x[:, 0], "x\\[:, None\\]"),
        (x, x[:0], "samples must be"),
        (bad, x, "the first sample"),
        (x, bad, "the second sample"),
    ]:
        with pytest.raises(ValueError, match=words):
            metric(a, b)


def test_bad_options():
    x, eye = normal(10, 2), torch.eye(2)
    with pytest.raises(ValueError, match="bandwidth"):
        metrics.mmd(x, x, bandwidth=0)
    with pytest.raises(ValueError, match="p and n_proj"):
        metrics.sliced_wasserstein(x, x, p=0.5)
    with pytest.raises(ValueError, match="p and n_proj"):
        metrics.sliced_wasserstein(x, x, n_proj=0)
    with pytest.raises(ValueError, match="at least 2 rows"):
        metrics.frechet_distance(x[:1], x)
    with pytest.raises(ValueError, match="means"):
        metrics.gaussian_frechet_distance(torch.zeros(3), eye, torch.zeros(2), eye)
    with pytest.raises(ValueError, match="cov_a must be a symmetric"):
        metrics.gaussian_frechet_distance(torch.zeros(2), torch.ones(2, 3), torch.zeros(2), eye)
    with pytest.raises(ValueError, match="cov_b is no covariance"):
        metrics.gaussian_frechet_distance(torch.zeros(2), eye, torch.zeros(2), -eye)
