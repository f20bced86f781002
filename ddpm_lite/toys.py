"""Two-dimensional data sets with known laws, and the 8x8 digits that come with scikit-learn.

Every toy is a function `(n, *, generator=None) -> (n, 2)` in float32 on the generator's device. Its mean is 0
and its variance, averaged over the two coordinates, is close to 1; the docstring states it exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

__all__ = [
    "checkerboard",
    "digits",
    "eight_gaussians",
    "eight_gaussians_labelled",
    "moons",
    "moons_labelled",
    "pinwheel",
    "rings",
    "spirals",
    "swiss_roll",
]


def moons_labelled(n: int, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw two interleaved half circles and which half each point is on.

    theta ~ U[0, pi]; label 0: (cos theta, sin theta), label 1: (1 - cos theta, 1/2 - sin theta), each with
    probability 1/2; then x = sqrt(2) (point - (1/2, 1/4)) + .1 z with z ~ N(0, I).
    Variances: 3/2 + .01 and 9/8 - 2/pi + .01. Returns (n, 2) float32 and (n,) int64. Raises ValueError for n
    < 1.

    Book: ch. 12
    """
    theta = math.pi * _uniform(n, generator)
    label = _choice(n, 2, generator)
    upper = torch.stack([theta.cos(), theta.sin()], 1)  # (n, 2)
    lower = torch.stack([1 - theta.cos(), 0.5 - theta.sin()], 1)
    point = torch.where(label[:, None] == 0, upper, lower)
    centre = point.new_tensor([0.5, 0.25])
    return math.sqrt(2) * (point - centre) + 0.1 * _normal(n, generator), label


def moons(n: int, *, generator: Generator | None = None) -> Tensor:
    """Draw two interleaved half circles; `moons_labelled` states the law. Returns (n, 2).

    Book: ch. 12
    """
    return moons_labelled(n, generator=generator)[0]


def eight_gaussians_labelled(n: int, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw eight Gaussians on a circle and which of them each point is from.

    k uniform on 0..7; x = 1.4 (cos(pi k/4), sin(pi k/4)) + .14 z with z ~ N(0, I).
    Covariance: .9996 I. Returns (n, 2) float32 and k as (n,) int64. Raises ValueError for n < 1.

    Book: ch. 12
    """
    label = _choice(n, 8, generator)
    return 1.4 * _polar(label * (math.pi / 4)) + 0.14 * _normal(n, generator), label


def eight_gaussians(n: int, *, generator: Generator | None = None) -> Tensor:
    """Draw eight Gaussians on a circle; `eight_gaussians_labelled` states the law. Returns (n, 2).

    Book: ch. 12
    """
    return eight_gaussians_labelled(n, generator=generator)[0]


def checkerboard(n: int, *, generator: Generator | None = None) -> Tensor:
    """Draw uniformly from the eight dark squares of a 4 x 4 board on [-sqrt(3), sqrt(3)]^2.

    Square (i, j), counted from the lower left, is dark when i + j is even. Each coordinate is uniform, with
    variance 1; their covariance is 3/16.
    Returns (n, 2) float32. Raises ValueError for n < 1.

    Book: ch. 12
    """
    column = _choice(n, 4, generator)
    row = 2 * _choice(n, 2, generator) + column % 2
    corner = torch.stack([column, row], 1)  # (n, 2)
    inside = torch.stack([_uniform(n, generator), _uniform(n, generator)], 1)
    return (corner + inside - 2) * (math.sqrt(3) / 2)


def swiss_roll(n: int, *, generator: Generator | None = None) -> Tensor:
    """Draw from one spiral of one and a half turns whose radius grows with its angle.

    phi ~ U[3 pi/2, 9 pi/2]; x = (phi (cos phi, sin phi) - (2, 2/(3 pi))) / 6.8 + .05 z with z ~ N(0, I).
    Sum of the two variances: (39 pi^2/4 - 4 - 4/(9 pi^2)) / 6.8^2 + .005 = 1.9986. Returns (n, 2) float32.
    Raises ValueError for n < 1.

    Book: ch. 12
    """
    phi = math.pi * (1.5 + 3 * _uniform(n, generator))
    point = phi[:, None] * _polar(phi)
    centre = point.new_tensor([2.0, 2 / (3 * math.pi)])
    return (point - centre) / 6.8 + 0.05 * _normal(n, generator)


def spirals(n: int, *, generator: Generator | None = None) -> Tensor:
    """Draw from two spiral arms of one and a half turns, one the other turned by half a turn.

    u ~ U[0, 1], k uniform on {0, 1}; x = 2 sqrt(u) (cos phi, sin phi) + .05 z, phi = 3 pi sqrt(u) + pi k, z ~
    N(0, I).
    Sum of the two variances: 2.005. Returns (n, 2) float32. Raises ValueError for n < 1.

    Book: ch. 12
    """
    root = _uniform(n, generator).sqrt()
    phi = math.pi * (3 * root + _choice(n, 2, generator))
    return 2 * root[:, None] * _polar(phi) + 0.05 * _normal(n, generator)


def rings(n: int, *, generator: Generator | None = None) -> Tensor:
    """Draw from four concentric circles.

    r uniform on {.5, 1, 1.5, 2}, phi ~ U[0, 2 pi]; x = r (cos phi, sin phi) + .05 z with z ~ N(0, I).
    Covariance: .94 I. Returns (n, 2) float32. Raises ValueError for n < 1.

    Book: ch. 12
    """
    r = 0.5 * (1 + _choice(n, 4, generator))
    phi = 2 * math.pi * _uniform(n, generator)
    return r[:, None] * _polar(phi) + 0.05 * _normal(n, generator)


def pinwheel(n: int, *, generator: Generator | None = None) -> Tensor:
    """Draw from five bent arms.

    k uniform on 0..4; a = 1 + .3 z1, b = .1 z2 with z1, z2 ~ N(0, 1); x = 1.35 R (a, b), where R turns by the
    angle 2 pi k/5 + exp(a)/4. Covariance: 1.35^2 * 1.1 / 2 I = 1.002375 I. Returns (n, 2) float32. Raises
    ValueError for n < 1.

    Source: Johnson et al., "Composing graphical models with neural networks" (2016), for the shape.   Book: ch. 12
    """
    z = _normal(n, generator)
    a, b = 1 + 0.3 * z[:, 0], 0.1 * z[:, 1]
    angle = 2 * math.pi / 5 * _choice(n, 5, generator) + 0.25 * a.exp()
    c, s = angle.cos(), angle.sin()
    return 1.35 * torch.stack([c * a - s * b, s * a + c * b], 1)


def digits() -> tuple[Tensor, Tensor]:
    """Load the 1797 handwritten digits of scikit-learn: images with 17 grey levels, and their classes.

    x = level / 8 - 1 for levels 0..16: -1 is paper, 1 is ink. Returns (1797, 1, 8, 8) float32 in [-1, 1] and
    (1797,) int64 in 0..9. Needs no network. Raises ImportError when scikit-learn is missing.

    Source: UCI "Optical Recognition of Handwritten Digits", test part (Alpaydin and Kaynak, 1998).   Book: ch. 7
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("digits() reads data that comes with scikit-learn: pip install scikit-learn") from error
    bunch = load_digits()
    levels = torch.tensor(bunch.images, dtype=torch.float32)  # (1797, 8, 8)
    return levels[:, None] / 8 - 1, torch.tensor(bunch.target, dtype=torch.int64)


def _device(generator: Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def _uniform(n: int, generator: Generator | None) -> Tensor:
    if n < 1:
        raise ValueError(f"n must be at least 1; got {n}")
    return torch.rand(n, generator=generator, device=_device(generator), dtype=torch.float32)


def _normal(n: int, generator: Generator | None) -> Tensor:
    if n < 1:
        raise ValueError(f"n must be at least 1; got {n}")
    return torch.randn(n, 2, generator=generator, device=_device(generator), dtype=torch.float32)


def _choice(n: int, k: int, generator: Generator | None) -> Tensor:
    if n < 1:
        raise ValueError(f"n must be at least 1; got {n}")
    return torch.randint(k, (n,), generator=generator, device=_device(generator))


def _polar(phi: Tensor) -> Tensor:
    return torch.stack([phi.cos(), phi.sin()], -1)
