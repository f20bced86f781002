"""The KL divergence of Gaussians, and a latent-variable model whose posterior and likelihood are known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import solve_triangular

__all__ = ["PPCA", "gaussian_kl"]


def gaussian_kl(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> Tensor:
    """Return KL(a || b) = E_a[log a - log b] of two Gaussians, in nats.

    1/2 (tr(C_b^-1 C_a) + (m_a - m_b)^T C_b^-1 (m_a - m_b) - D + log det C_b - log det C_a), by Cholesky factors.
    means: (*B, D), covariances: (*B, D, D); the batches broadcast. Returns (*B), differentiable.
    Raises ValueError for shapes that do not match, and for a covariance that is not positive definite.

    Source: Kullback, "Information Theory and Statistics" (1959), ch. 9.   Book: ch. 2
    """
    d = _width(mean_a, cov_a, mean_b, cov_b)
    root_a, root_b = _cholesky("cov_a", cov_a), _cholesky("cov_b", cov_b)
    ratio = solve_triangular(root_b, root_a, upper=False)  # L_b^-1 L_a
    away = solve_triangular(root_b, (mean_a - mean_b)[..., None], upper=False)
    log_dets = 2 * (_log_diagonal(root_b) - _log_diagonal(root_a))
    trace, square = ratio.square().sum((-2, -1)), away.square().sum((-2, -1))
    return (trace + square - d + log_dets) / 2


@dataclass(frozen=True)
class PPCA:
    """Probabilistic PCA, a linear-Gaussian decoder: z ~ N(0, I), and x given z ~ N(W z + mean, var I).

    weight: W, (D, K); mean: (D,); var: the variance of the noise, a number or a 0-d tensor.
    Raises ValueError for shapes that do not match, and unless var is positive.

    Source: Tipping and Bishop, "Probabilistic principal component analysis" (1999).   Book: ch. 2
    """

    weight: Tensor
    mean: Tensor
    var: float | Tensor

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.mean.shape != self.weight.shape[:1]:
            shapes = tuple(self.weight.shape), tuple(self.mean.shape)
            raise ValueError(f"weight and mean have shapes {shapes[0]} and {shapes[1]}: give (D, K) and (D,)")
        if not self.var > 0:
            raise ValueError(f"var = {float(self.var)}: give a positive variance")

    @classmethod
    def fit(cls, x: Tensor, k: int) -> PPCA:
        """Return the maximum-likelihood model with k latent variables of x, (N, D).

        With the eigenvalues l_1 >= ... >= l_D and eigenvectors u_j of the covariance (divisor N): var is the mean of
        l_(k+1), ..., l_D, and column j of W is sqrt(l_j - var) u_j. Raises ValueError unless 1 <= k < D and the
        discarded eigenvalues have a positive mean.
        """
        if x.ndim != 2 or not 1 <= k < x.shape[1]:
            raise ValueError(f"k = {k}, x has shape {tuple(x.shape)}: give (N, D) and k from 1 to D - 1")
        values, vectors = torch.linalg.eigh(x.T.cov(correction=0))  # ascending
        var = values[:-k].mean()
        top, basis = values.flip(0)[:k], vectors.flip(1)[:, :k]
        return cls(basis * (top - var).clamp(min=0).sqrt(), x.mean(0), var)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the exact log p(x), in nats: x is N(mean, W W^T + var I). x: (B, D). Returns (B,)."""
        d = len(self.mean)
        root = _cholesky("W W^T + var I", self.weight @ self.weight.T + self.var * _eye(d, x))
        z = solve_triangular(root, (x - self.mean).T, upper=False)  # (D, B)
        return -(z.square().sum(0) + d * math.log(2 * math.pi)) / 2 - _log_diagonal(root)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (B, K) and covariance (K, K) of z given x, (B, D); the covariance is the same for every x.

        cov = (I + W^T W / var)^-1,  mean = cov W^T (x - mean) / var.
        """
        precision = _eye(self.weight.shape[1], x) + self.weight.T @ self.weight / self.var
        cov = torch.linalg.inv(precision)
        return (x - self.mean) @ self.weight @ cov / self.var, cov

    def elbo(self, x: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
        """Return E_q[log p(x | z)] - KL(q || p(z)) for q = N(mean, cov), exactly, in nats.

        x: (B, D), mean: (B, K), cov: (B, K, K) or (K, K). Returns (B,), at most log_prob(x).
        """
        square = (x - self.mean - mean @ self.weight.T).square().sum(1)
        spread = (self.weight.T @ self.weight * cov).sum((-2, -1))  # tr(W cov W^T)
        var = torch.as_tensor(self.var, dtype=x.dtype)
        misfit = (square + spread) / var + len(self.mean) * torch.log(2 * math.pi * var)
        rate = gaussian_kl(mean, cov, torch.zeros_like(mean), _eye(mean.shape[1], x))
        return -misfit / 2 - rate


def _width(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> int:
    d = mean_a.shape[-1] if mean_a.ndim else 0
    for name, value, shape in (("mean_b", mean_b, (d,)), ("cov_a", cov_a, (d, d)), ("cov_b", cov_b, (d, d))):
        if not d or value.shape[-len(shape) :] != shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}: give (*B, {', '.join(map(str, shape))})")
    return d


def _cholesky(name: str, cov: Tensor) -> Tensor:
    try:
        return torch.linalg.cholesky(cov)
    except torch.linalg.LinAlgError as error:
        raise ValueError(f"{name} is not positive definite: give a symmetric matrix with eigenvalues > 0") from error


def _log_diagonal(root: Tensor) -> Tensor:
    """Half the log-determinant of L L^T."""
    return root.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _eye(n: int, like: Tensor) -> Tensor:
    return torch.eye(n, dtype=like.dtype, device=like.device)
