"""How far two samples are from each other. All compute in float64 and return a float."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

__all__ = ["energy_distance", "frechet_distance", "gaussian_frechet_distance", "mmd", "sliced_wasserstein"]

_BLOCK = 2**22  # pairs that are held at once, 32 MB of float64


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Return the energy distance of two samples, in its squared form.

    2 E|X - Y| - E|X - X'| - E|Y - Y'|, each mean over all pairs, a point with itself included (V-statistic):
    never negative, 0 for equal samples. `scipy.stats.energy_distance` is its square root.
    x: (N, *), y: (M, *); one sample a row, flattened. Memory is bounded, the time grows like (N + M)^2.
    Raises ValueError for shapes that do not match, empty samples or values that are not finite.

    Source: Szekely and Rizzo, "Energy statistics" (2013).   Book: ch. 8
    """
    x, y = _pair(x, y)
    return 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)


def mmd(x: Tensor, y: Tensor, *, bandwidth: float = 1.0) -> float:
    """Return the squared maximum mean discrepancy under a Gaussian kernel.

    E k(X, X') + E k(Y, Y') - 2 E k(X, Y) with k(x, y) = exp(-|x - y|^2 / (2 bandwidth^2)), each mean over all
    pairs, a point with itself included: the biased V-statistic, never negative, too large by about 1/N + 1/M
    at most.
    x: (N, *), y: (M, *). Memory is bounded. Raises ValueError as `energy_distance` does, and for bandwidth <=
    0.

    Source: Gretton et al., "A kernel two-sample test" (2012), eq. (5).   Book: ch. 12
    """
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive; got {bandwidth}. Start with the standard deviation of the data.")
    x, y = _pair(x, y)

    def mean_kernel(a: Tensor, b: Tensor) -> float:
        return sum((-d.square() / (2 * bandwidth**2)).exp().sum().item() for d in _distances(a, b)) / (len(a) * len(b))

    return mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)


def sliced_wasserstein(
    x: Tensor, y: Tensor, *, p: float = 2.0, n_proj: int = 128, generator: Generator | None = None
) -> float:
    """Return the sliced Wasserstein distance: one-dimensional distances averaged over random directions.

    (mean over directions u of W_p(u.x, u.y)^p)^(1/p), u uniform on the unit sphere; W_p of two samples on a
    line is the L_p distance of their quantile functions, exact for any N and M. In d dimensions a shift of
    both means by m alone gives |m| / sqrt(d) for p = 2.
    x: (N, *), y: (M, *). Raises ValueError as `energy_distance` does, and for p < 1 or n_proj < 1.

    Source: Bonneel et al., "Sliced and Radon Wasserstein barycenters of measures" (2015).   Book: ch. 12
    """
    if not p >= 1 or n_proj < 1:
        raise ValueError(f"p and n_proj must be at least 1; got p={p}, n_proj={n_proj}")
    x, y = _pair(x, y)
    device = x.device if generator is None else generator.device
    u = torch.randn(n_proj, x.shape[1], generator=generator, device=device, dtype=torch.float64).to(x.device)
    u = u / u.norm(dim=1, keepdim=True)  # (P, D)
    ix, iy, weight = _quantile_pairs(len(x), len(y), x.device)
    total = 0.0
    for block in u.split(max(1, _BLOCK // (len(x) + len(y)))):
        qx, qy = (x @ block.T).sort(0).values, (y @ block.T).sort(0).values  # (N, P), (M, P)
        total += (weight @ (qx[ix] - qy[iy]).abs().pow(p)).sum().item()
    return (total / n_proj) ** (1 / p)


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Return the Frechet distance of the Gaussians fitted to two sets of features.

    `gaussian_frechet_distance` of the sample means and of the covariances with divisor N - 1. On Inception
    features it is the FID. Finite samples bias it upwards, by about 1/N: compare at equal N only, beside the
    distance of data to data.
    features: (N, D) and (M, D), N and M at least 2. Raises ValueError for other shapes or values that are not
    finite.

    Source: Heusel et al., "GANs trained by a two time-scale update rule" (2017), eq. (6).   Book: ch. 17
    """
    a, b = _pair(features_a, features_b)
    if min(len(a), len(b)) < 2:
        raise ValueError(f"features need at least 2 rows each for a covariance; got {len(a)} and {len(b)}")
    return gaussian_frechet_distance(a.mean(0), _covariance(a), b.mean(0), _covariance(b))


def gaussian_frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Return the squared 2-Wasserstein distance of two Gaussians.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^(1/2) C_b C_a^(1/2))^(1/2)), with symmetric eigenvalue square roots,
    so that singular covariances are fine.
    means: (D,), covariances: (D, D). Raises ValueError for shapes that do not match and for a covariance that
    is not symmetric or has an eigenvalue below -1e-8 of its largest; smaller negative ones are round-off and
    count as 0.

    Source: Dowson and Landau, "The Frechet distance between multivariate normal distributions" (1982).   Book: ch. 17
    """
    mean_a, mean_b = mean_a.double(), mean_b.double()
    d = mean_a.shape[0] if mean_a.ndim == 1 else -1
    if mean_a.shape != (d,) or mean_b.shape != (d,):
        raise ValueError(f"means must both be (D,); got {tuple(mean_a.shape)} and {tuple(mean_b.shape)}")
    root_a, root_b = _square_root("cov_a", cov_a.double(), d), _square_root("cov_b", cov_b.double(), d)
    cross = torch.linalg.svdvals(root_a @ root_b).sum()
    return ((mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross).item()


def _pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both samples as float64 matrices, (N, D) and (M, D)."""
    if x.ndim < 2 or y.ndim < 2 or x.shape[1:] != y.shape[1:] or len(x) == 0 or len(y) == 0:
        raise ValueError(
            f"samples must be (N, *) and (M, *) with N, M > 0 and equal *; got {tuple(x.shape)} and "
            f"{tuple(y.shape)}. Points on a line are x[:, None]."
        )
    for name, value in (("the first", x), ("the second", y)):
        if not value.isfinite().all():
            raise ValueError(f"{name} sample holds values that are not finite. Look for the step that made them.")
    return x.detach().double().flatten(1), y.detach().double().flatten(1).to(x.device)


def _distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Blocks of |x_i - y_j|, a bounded number of pairs at a time."""
    for block in x.split(max(1, _BLOCK // len(y))):
        yield torch.cdist(block, y, compute_mode="donot_use_mm_for_euclid_dist")


def _mean_distance(x: Tensor, y: Tensor) -> float:
    return sum(block.sum().item() for block in _distances(x, y)) / (len(x) * len(y))


def _quantile_pairs(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The intervals of (0, 1) where both quantile functions are constant: index in x, index in y, length."""
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # in units of 1/(nm)
    lengths = torch.diff(ends, prepend=ends.new_zeros(1)).double() / (n * m)
    return ((ends - 1) // m).to(device), ((ends - 1) // n).to(device), lengths.to(device)


def _covariance(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)


def _square_root(name: str, cov: Tensor, d: int) -> Tensor:
    if cov.shape != (d, d) or not torch.allclose(cov, cov.T, rtol=1e-6, atol=1e-12):
        raise ValueError(f"{name} must be a symmetric ({d}, {d}) matrix; got shape {tuple(cov.shape)}")
    values, vectors = torch.linalg.eigh(cov)
    if values.min() < -1e-8 * values.abs().max():
        raise ValueError(f"{name} is no covariance: its smallest eigenvalue is {values.min():.3g}")
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
