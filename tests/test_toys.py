"""Toy data against their laws. Statistical checks use 200,000 points and 6 standard errors: a false alarm has
probability below 2e-9 each, below 1e-6 for the file; seeds are fixed besides."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from ddpm_lite import toys

N = 200_000
TOYS = [
    toys.moons,
    toys.eight_gaussians,
    toys.checkerboard,
    toys.swiss_roll,
    toys.spirals,
    toys.rings,
    toys.pinwheel,
]


def draw(toy, seed=0, n=N):
    return toy(n, generator=torch.Generator().manual_seed(seed))


def within(values, exact, se=6.0):
    values = np.asarray(values, dtype=np.float64)
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - exact) <= se * error, (values.mean(), exact, error)


def curve_moments(u, x, y, noise):
    """E of x, y, x^2, y^2, xy by the trapezoidal rule on a fine grid of u in [0, 1], noise added to the squares."""
    mean = [np.trapezoid(f, u) for f in (x, y, x * x, y * y, x * y)]
    return np.array(mean) + np.array([0, 0, noise**2, noise**2, 0])


def law(toy):
    """The moments by quadrature over the curve parameter, from the docstrings and in numpy."""
    u = np.linspace(0, 1, 400_001)
    if toy is toys.moons:
        root = math.sqrt(2)
        top = curve_moments(u, root * (np.cos(np.pi * u) - 0.5), root * (np.sin(np.pi * u) - 0.25), 0.1)
        low = curve_moments(u, root * (0.5 - np.cos(np.pi * u)), root * (0.25 - np.sin(np.pi * u)), 0.1)
        return (top + low) / 2
    if toy is toys.swiss_roll:
        phi = 1.5 * np.pi * (1 + 2 * u)
        x, y = phi * np.cos(phi), phi * np.sin(phi)
        return curve_moments(u, (x - np.trapezoid(x, u)) / 6.8, (y - np.trapezoid(y, u)) / 6.8, 0.05)
    if toy is toys.spirals:
        r = np.sqrt(u)
        a, b = 2 * r * np.cos(3 * np.pi * r), 2 * r * np.sin(3 * np.pi * r)
        return (curve_moments(u, a, b, 0.05) + curve_moments(u, -a, -b, 0.05)) / 2
    variance = {
        toys.eight_gaussians: 1.4**2 / 2 + 0.14**2,
        toys.checkerboard: 1.0,
        toys.rings: np.mean([0.25, 1, 2.25, 4]) / 2 + 0.05**2,
        toys.pinwheel: 1.35**2 * (1 + 0.3**2 + 0.1**2) / 2,
    }[toy]
    # an even column or row has mean -1/2, an odd one +1/2, in squares of side sqrt(3)/2
    covariance = 0.25 * 0.75 if toy is toys.checkerboard else 0
    return np.array([0, 0, variance, variance, covariance])


@pytest.mark.parametrize("toy", TOYS)
def test_moments(toy):
    x, y = draw(toy).double().numpy().T
    exact = law(toy)
    for values, value in zip((x, y, x * x, y * y, x * y), exact, strict=True):
        within(values, value)
    assert np.abs(exact[:2]).max() < 1e-8  # the mean is 0 by law
    assert 0.9 < (exact[2] + exact[3]) / 2 < 1.05  # and the scale near 1


def test_documented_variances():
    moons = law(toys.moons)
    assert moons[2] == pytest.approx(1.5 + 0.01, abs=1e-8)
    assert moons[3] == pytest.approx(9 / 8 - 2 / math.pi + 0.01, abs=1e-8)
    swiss = (39 * math.pi**2 / 4 - 4 - 4 / (9 * math.pi**2)) / 6.8**2 + 0.005
    assert law(toys.swiss_roll)[2:4].sum() == pytest.approx(swiss, abs=1e-8)
    assert swiss == pytest.approx(1.9986, abs=5e-5)
    assert law(toys.spirals)[2:4].sum() == pytest.approx(2.005, abs=1e-8)


def distance_to(points, curve):
    """Distance of each point to the nearest of the curve's points."""
    return torch.cdist(points.double(), torch.as_tensor(curve)).min(1).values


def arc(u, name):
    """The noise-free curves again, in numpy, (K, 2) each."""
    if name == "moon 0":
        return math.sqrt(2) * np.stack([np.cos(np.pi * u) - 0.5, np.sin(np.pi * u) - 0.25], 1)
    if name == "moon 1":
        return math.sqrt(2) * np.stack([0.5 - np.cos(np.pi * u), 0.25 - np.sin(np.pi * u)], 1)
    if name == "swiss":
        phi = 1.5 * np.pi * (1 + 2 * u)
        centre = np.array([2, 2 / (3 * np.pi)])
        return (np.stack([phi * np.cos(phi), phi * np.sin(phi)], 1) - centre) / 6.8
    sign = 1 if name == "arm 0" else -1
    return sign * 2 * u[:, None] * np.stack([np.cos(3 * np.pi * u), np.sin(3 * np.pi * u)], 1)


def test_points_lie_on_their_curves():
    # the distance to the curve is at most |z| noise, and P(|z| > 6.5) < 7e-10 in two dimensions: 4,000 points
    # of each give a false alarm below 1e-5 if the seed were free; the grid of the curve adds at most .005
    u = np.linspace(0, 1, 2001)
    x, label = toys.moons_labelled(4_000, generator=torch.Generator().manual_seed(1))
    for k in (0, 1):
        assert distance_to(x[label == k], arc(u, f"moon {k}")).max() < 6.5 * 0.1 + 0.005
    roll = draw(toys.swiss_roll, n=4_000)
    assert distance_to(roll, arc(u, "swiss")).max() < 6.5 * 0.05 + 0.005
    spirals = draw(toys.spirals, n=4_000)
    both = np.concatenate([arc(u, "arm 0"), arc(u, "arm 1")])
    assert distance_to(spirals, both).max() < 6.5 * 0.05 + 0.005
    # and the noise has the stated size: across a nearly straight curve E d^2 is the noise's variance
    assert distance_to(roll, arc(u, "swiss")).square().mean().sqrt() == pytest.approx(0.05, rel=0.08)
    assert distance_to(x[label == 0], arc(u, "moon 0")).square().mean().sqrt() == pytest.approx(0.1, rel=0.12)


def test_eight_gaussians():
    x, label = toys.eight_gaussians_labelled(N, generator=torch.Generator().manual_seed(0))
    angle = np.pi / 4 * np.arange(8)
    centres = torch.tensor(1.4 * np.stack([np.cos(angle), np.sin(angle)], 1))
    for k in range(8):
        within((label == k).double(), 1 / 8)
        z = (x[label == k] - centres[k]) / 0.14
        for values, exact in ((z[:, 0], 0), (z[:, 1], 0), (z[:, 0] ** 2, 1), (z[:, 1] ** 2, 1), (z.prod(1), 0)):
            within(values, exact)
    # half the gap between neighbours is 3.8 standard deviations: P(nearest is another) is about 2 * 6.5e-5
    nearest = torch.cdist(x.double(), centres).argmin(1)
    assert (nearest != label).double().mean() < 5e-4


def test_checkerboard_fills_the_dark_squares_evenly():
    x = draw(toys.checkerboard).double() / (math.sqrt(3) / 2) + 2  # to [0, 4]^2
    assert x.min() >= -1e-6
    assert x.max() <= 4 + 1e-6
    cell = x.floor().long().clamp(0, 3)
    inside = ((x - x.round()).abs() > 1e-5).all(1)  # rounding may move a point over an edge
    assert (cell[inside].sum(1) % 2 == 0).all()
    for i in range(4):
        for j in range(4):
            member = ((cell == torch.tensor([i, j])).all(1) & inside).double()
            if (i + j) % 2 == 0:
                within(member, 1 / 8, se=7)  # the strip left out has mass below 1e-4
    uniform = x - x.floor()
    for k in (1, 2, 3):
        within(uniform[:, 0] ** k, 1 / (k + 1))
        within(uniform[:, 1] ** k, 1 / (k + 1))


def test_rings():
    x = draw(toys.rings).double()
    radius = x.norm(dim=1)
    ring = (2 * radius).round().clamp(1, 4)
    assert (radius - ring / 2).abs().max() < 0.26
    for k in (1, 2, 3, 4):
        within((ring == k).double(), 1 / 4)
        gap = radius[ring == k] - k / 2
        # the Rice distribution: mean r + s^2/(2 r) to second order, variance s^2
        assert gap.mean() == pytest.approx(0.05**2 / k, abs=6 * 0.05 / math.sqrt(N / 4) + 2e-5)
        assert gap.std() == pytest.approx(0.05, rel=0.03)
    phi = torch.atan2(x[:, 1], x[:, 0])
    for k in (1, 2, 3, 8):
        within((k * phi).cos(), 0)
        within((k * phi).sin(), 0)


def test_pinwheel_bends_and_has_five_arms():
    z = torch.view_as_complex(draw(toys.pinwheel).double()).numpy() / 1.35
    within(np.abs(z) ** 4, 1 + 6 * 0.09 + 3 * 0.09**2 + 2 * (1 + 0.09) * 0.01 + 3 * 0.01**2)
    for k in (1, 2, 3, 4):
        within((z**k).real, 0)
        within((z**k).imag, 0)
    # E z^5 by Gauss-Hermite quadrature: the fifth power removes the arm and keeps the bend
    node, weight = np.polynomial.hermite_e.hermegauss(80)
    a, b = np.meshgrid(1 + 0.3 * node, 0.1 * node, indexing="ij")
    w = np.outer(weight, weight) / (2 * np.pi)
    exact = (w * ((a + 1j * b) * np.exp(0.25j * np.exp(a))) ** 5).sum()
    within((z**5).real, exact.real)
    within((z**5).imag, exact.imag)


@pytest.mark.parametrize("toy", TOYS)
def test_seeding_shape_and_dtype(toy):
    state = torch.get_rng_state()
    first, again, other = draw(toy, 3, 50), draw(toy, 3, 50), draw(toy, 4, 50)
    assert torch.equal(torch.get_rng_state(), state)  # a generator keeps the global state as it was
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (50, 2)
    assert first.dtype == torch.float32
    assert toy(1).shape == (1, 2)
    with pytest.raises(ValueError, match="n must be at least 1; got 0"):
        toy(0)


def test_labelled_and_plain_draw_the_same_points():
    assert torch.equal(draw(toys.moons, 5, 99), draw(toys.moons_labelled, 5, 99)[0])
    assert torch.equal(draw(toys.eight_gaussians, 5, 99), draw(toys.eight_gaussians_labelled, 5, 99)[0])
    x, label = draw(toys.moons_labelled)
    within((label == 1).double(), 1 / 2)
    within(x[label == 0][:, 0].double(), -math.sqrt(2) / 2)  # E cos theta = 0, centred by 1/2


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    images, labels = toys.digits()
    raw = load_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.float32
    np.testing.assert_array_equal((images[:, 0].numpy() + 1) * 8, raw.images)
    np.testing.assert_array_equal(labels.numpy(), raw.target)
    assert images.unique().tolist() == [level / 8 - 1 for level in range(17)]
    assert labels.dtype == torch.int64


def test_digits_without_scikit_learn_name_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        toys.digits()
