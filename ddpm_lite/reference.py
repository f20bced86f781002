"""The oracle of every test and chapter: a Gaussian mixture, known exactly at every t of every path."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .paths import Path, can_check
from .predict import DenoiseFn, Estimate

__all__ = ["GaussianMixture", "book_mixture"]

LARGEST_BLOCK = 2**23  # float64 numbers of one block of points against all components: 64 MiB
NEAREST = 8  # how many distances of a mixture with narrow components are computed a second time


def _float64(values: Sequence | Tensor) -> Tensor:
    if isinstance(values, Tensor):
        return values.double()
    return torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in values])


def _progress(blocks: Sequence[Tensor]) -> Iterable[Tensor]:
    """The blocks; where tqdm is installed and they take more than five seconds, with a bar."""
    if len(blocks) == 1:
        return blocks
    try:
        from tqdm import tqdm
    except ImportError:
        return blocks
    return tqdm(blocks, unit="block", delay=5, leave=False)


class _Noised(NamedTuple):
    """A block of points against the noised components, whose covariances are alpha^2 C_k + sigma^2 I."""

    x: Tensor  # (b, D), about the centre where C_k = c_k I
    alpha: Tensor  # (b, 1) or ()
    sigma: Tensor
    pull: Tensor  # (b, D, K) whitened once: (alpha^2 C_k + sigma^2 I)^-1 (x - alpha m_k), in the eigenbasis of C_k;
    # where C_k = c_k I the factor 1 / (alpha^2 c_k + sigma^2) alone, (b, K) or (K,)
    log_joint: Tensor  # (b, K) log w_k N(x; alpha m_k, alpha^2 C_k + sigma^2 I)


class GaussianMixture:
    """p(x) = sum_k w_k N(x; m_k, C_k), with its density, score and denoiser under any path.

    weights: (K,), positive, summing to 1. means: (K, D). covs: (K, D, D), symmetric, no negative eigenvalue.
    Points may have any shape (B, *shape) with D numbers each. Everything is computed in float64.
    Where every C_k is c_k I this takes one matrix product and B K numbers, else B K D numbers, both in blocks.

    Raises ValueError when shapes disagree, weights do not sum to 1, a covariance is none, or a number is not finite.
    Source: Bishop 2006, sec. 2.3.   Book: ch. 1 and 7
    """

    def __init__(self, weights: Sequence | Tensor, means: Sequence | Tensor, covs: Sequence | Tensor) -> None:
        self._set_points(weights, means)
        self.covs = _float64(covs)  # (K, D, D)
        k, d = self.means.shape
        if self.covs.shape != (k, d, d):
            raise ValueError(f"covs has shape {tuple(self.covs.shape)}: give {(k, d, d)}, one matrix a component")
        if not torch.allclose(self.covs, self.covs.mT):
            raise ValueError("covs holds a matrix that is not symmetric (or not finite): give (C + C^T) / 2")
        eigenvalues, basis = torch.linalg.eigh(self.covs)
        if eigenvalues.min() < -1e-12 * eigenvalues.abs().max():
            raise ValueError(f"covs has the eigenvalue {eigenvalues.min():.4g}: a covariance has none below 0")
        first = self.covs[:, 0, 0]
        if torch.equal(self.covs, first[:, None, None] * torch.eye(d).to(first)):  # c_k I
            self._set_isotropic(first.clamp_min(0))
        else:
            self._set_axes(eigenvalues.clamp_min(0), basis)

    def _set_points(self, weights: Sequence | Tensor, means: Sequence | Tensor) -> None:
        self.weights = _float64(weights)  # (K,)
        self.means = _float64(means)  # (K, D)
        if self.means.ndim != 2 or self.weights.shape != self.means.shape[:1]:
            raise ValueError(
                f"weights has shape {tuple(self.weights.shape)}, means {tuple(self.means.shape)}: give (K,) and (K, D)"
            )
        if not self.means.isfinite().all():
            raise ValueError("means holds a number that is not finite: remove it from the data")
        if not (self.weights > 0).all() or not abs(self.weights.sum() - 1) < 1e-6:
            raise ValueError(f"weights = {self.weights.tolist()}: give positive numbers that sum to 1")
        self.weights = self.weights / self.weights.sum()

    def _set_axes(self, variances: Tensor, basis: Tensor) -> None:
        """C_k = U_k diag(variances) U_k^T: points are turned to the axes of each component."""
        self._variances = variances.mT.contiguous()  # (D, K)
        self._basis: Tensor | None = basis  # (K, D, D)
        self._bases = basis.permute(1, 2, 0).flatten(1)  # (D, D K)
        self._rotated_means = torch.einsum("kde,kd->ek", basis, self.means)  # (D, K)
        self._width = variances.numel()  # numbers that a point takes

    def _set_isotropic(self, variances: Tensor) -> None:
        """C_k = c_k I: every axis serves, and square distances come from one matrix product, about the centre."""
        self._variances = variances[None].clone()  # (1, K)
        self._basis = None
        self._centre = self.means.mean(0)
        self._centred = self.means - self._centre  # (K, D)
        self._squared = torch.einsum("kd,kd->k", self._centred, self._centred)
        self._narrow = bool(variances.min() < 1e-6 * self._squared.max())
        k, d = self.means.shape
        self._width = max(k, min(NEAREST, k) * d if self._narrow else d)

    @classmethod
    def from_points(cls, x: Tensor) -> GaussianMixture:
        """A spike of equal weight on each point of x; its denoiser is the ideal one for that finite set.

        x: (N, *shape). It has a density only under a path, at sigma > 0. Its `covs` are zeros that take no memory.

        Raises ValueError when x is empty or holds a number that is not finite.   Book: ch. 8
        """
        if x.ndim < 2 or not len(x):
            raise ValueError(f"x has shape {tuple(x.shape)}: give (N, *shape), at least one point")
        mixture = cls.__new__(cls)
        points = x.flatten(1)
        mixture._set_points(torch.full((len(x),), 1 / len(x), dtype=torch.float64, device=x.device), points)
        k, d = mixture.means.shape
        mixture.covs = mixture.means.new_zeros(()).expand(k, d, d)
        mixture._set_isotropic(mixture.means.new_zeros(k))
        return mixture

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n independent draws, (n, D), in torch's default dtype.

        Raises ValueError unless n >= 1.   Book: ch. 1
        """
        if n < 1:
            raise ValueError(f"n = {n}: give the number of draws, at least 1")
        device = self.means.device if generator is None else generator.device
        k = torch.multinomial(self.weights.to(device), n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, device=device, dtype=torch.float64)
        k, z = k.to(self.means.device), z.to(self.means.device)
        spread = z * self._variances[:, k].mT.sqrt()
        if self._basis is not None:
            spread = torch.einsum("ne,nde->nd", spread, self._basis[k])
        return (self.means[k] + spread).to(torch.get_default_dtype())

    def log_prob(self, x: Tensor, path: Path | None = None, t: float | Tensor | None = None) -> Tensor:
        """log p(x), or log p_t(x) of the noised mixture when path and t are given; (B,), nats.

        log p_t(x) = log sum_k w_k N(x; alpha m_k, alpha^2 C_k + sigma^2 I).

        Raises ValueError when only one of path and t is given, or a component has no density.   Book: ch. 1 and 7
        """
        return self._blocks(lambda noised: (noised.log_joint.logsumexp(1),), x, path, t)[0]

    def score(self, x: Tensor, path: Path | None = None, t: float | Tensor | None = None) -> Tensor:
        """grad_x log p(x), or that of the noised mixture when path and t are given; the shape of x.

        Raises ValueError as `log_prob` does.   Book: ch. 4 and 7
        """
        return self._blocks(lambda noised: (-self._average(noised)[1],), x, path, t)[0].reshape(x.shape)

    def denoiser(self, path: Path) -> DenoiseFn:
        """The exact denoiser (x, t) -> (E[x0 | x_t], E[eps | x_t]), x0 natively: it holds at alpha = 0 too.

        E[x0 | x_t] = sum_k r_k (m_k + alpha C_k (alpha^2 C_k + sigma^2 I)^-1 (x_t - alpha m_k)).   Book: ch. 8
        """

        def denoise(noised: _Noised) -> tuple[Tensor, Tensor]:
            x0, pull = self._average(noised)
            return x0, noised.sigma * pull

        def den(x: Tensor, t: float | Tensor) -> Estimate:
            x0, eps = self._blocks(denoise, x, path, t)
            return Estimate(x0.reshape(x.shape), eps.reshape(x.shape))

        return den

    def _blocks(
        self, f: Callable[[_Noised], tuple[Tensor, ...]], x: Tensor, path: Path | None, t: float | Tensor | None
    ) -> tuple[Tensor, ...]:
        """f over blocks of x small enough for memory, in the dtype of x."""
        if (path is None) != (t is None):
            raise ValueError(f"path = {path}, t = {t}: give both for the noised mixture, or neither")
        if x.ndim < 2 or x.shape[1:].numel() != self.means.shape[1]:
            raise ValueError(f"x has shape {tuple(x.shape)}: give (B, {self.means.shape[1]}), the mixture's dimension")
        flat = x.flatten(1)  # (B, D)
        size = max(1, LARGEST_BLOCK // self._width)
        each = t.split(size) if isinstance(t, Tensor) and t.ndim else None
        if each is not None and len(t) != len(x):  # type: ignore[arg-type]
            raise ValueError(f"t has length {len(t)}: give a number or one time a sample, ({len(x)},)")  # type: ignore[arg-type]
        blocks = enumerate(_progress(flat.split(size)))
        outs = [f(self._noised(block.double(), path, t if each is None else each[i])) for i, block in blocks]
        return tuple(torch.cat(parts).to(x.dtype) for parts in zip(*outs, strict=True))

    def _noised(self, x: Tensor, path: Path | None, t: float | Tensor | None) -> _Noised:
        alpha, sigma = x.new_ones(()), x.new_zeros(())
        if path is not None and t is not None:
            alpha, sigma, *_ = path.at(t.double() if isinstance(t, Tensor) else t, x)
        variances = alpha[..., None] ** 2 * self._variances.to(x) + sigma[..., None] ** 2  # (b, D, K) or (D, K)
        if can_check(variances) and not (variances > 0).all():
            raise ValueError("a component without spread has no density: give path and a t with sigma > 0")
        if self._basis is None:
            return self._noised_isotropic(x, alpha, sigma, variances.squeeze(-2))
        away = self._rotate(x) - alpha[..., None] * self._rotated_means.to(x)  # (b, D, K)
        pull = away / variances
        log_each = -0.5 * (away * pull + variances.log() + math.log(2 * math.pi)).sum(1)
        return _Noised(x, alpha, sigma, pull, self.weights.to(x).log() + log_each)

    def _noised_isotropic(self, x: Tensor, alpha: Tensor, sigma: Tensor, variances: Tensor) -> _Noised:
        """The same with one variance a component, (b, K) or (K,), and no array of shape (b, D, K)."""
        x = x - alpha * self._centre.to(x)
        precision = 1 / variances
        log_each = x.shape[1] / 2 * (precision / (2 * math.pi)).log() - precision / 2 * self._square_distances(x, alpha)
        return _Noised(x, alpha, sigma, precision, self.weights.to(x).log() + log_each)

    def _square_distances(self, x: Tensor, alpha: Tensor) -> Tensor:
        """|x - alpha m_k|^2, means and x centred, as |x|^2 - 2 alpha x.m_k + alpha^2 |m_k|^2; (b, K).

        Where a component is so narrow that the rounding of this sum would show, the nearest few by the difference.
        """
        means = self._centred.to(x)
        square = (x * x) @ x.new_ones(x.shape[1], 1) - 2 * (alpha * x) @ means.mT + alpha**2 * self._squared.to(x)
        if not self._narrow:
            return square
        near = square.detach().topk(min(NEAREST, len(means)), largest=False).indices  # (b, 8)
        return square.scatter(1, near, (x[:, None] - alpha[..., None] * means[near]).square().sum(-1))

    def _average(self, noised: _Noised) -> tuple[Tensor, Tensor]:
        """E[x0 | x_t] and minus the score, (b, D) each: means over the components by their posterior weights r_k."""
        x, alpha, sigma, pull, log_joint = noised
        r = log_joint.softmax(1)  # (b, K)
        spread = self._variances.to(x)
        if self._basis is None:
            share = r * pull
            near = share @ self._centred.to(x)
            x0 = self._centre.to(x) + sigma**2 * near + alpha * (share @ spread.mT) * x
            return x0, share.sum(1, keepdim=True) * x - alpha * near
        gain = alpha[..., None] * spread * pull
        x0 = r @ self.means.to(x) + self._rotate_back(r[:, None] * gain)
        return x0, self._rotate_back(r[:, None] * pull)

    def _rotate(self, x: Tensor) -> Tensor:
        """x in the eigenbasis of each component; (b, D, K)."""
        return (x @ self._bases.to(x)).unflatten(1, (x.shape[1], -1))

    def _rotate_back(self, value: Tensor) -> Tensor:
        """The sum over components of value (b, D, K), each turned back from its eigenbasis; (b, D)."""
        return value.flatten(1) @ self._bases.to(value).mT


def book_mixture(dim: Literal[1, 2] = 2) -> GaussianMixture:
    """The book's exactly solvable world: three bumps on a line, or four in the plane.

    Raises ValueError when dim is neither 1 nor 2.   Book: ch. 1
    """
    if dim == 1:
        variances = torch.tensor([0.4, 0.7, 0.3], dtype=torch.float64) ** 2
        return GaussianMixture([0.3, 0.5, 0.2], [[-2.0], [0.5], [2.5]], variances[:, None, None])
    if dim == 2:
        means = [[-1.4, -0.6], [1.2, 0.9], [0.4, -1.3], [-0.6, 1.4]]
        covs = [
            [[0.12, 0.06], [0.06, 0.10]],
            [[0.08, -0.03], [-0.03, 0.16]],
            [[0.10, 0.0], [0.0, 0.05]],
            [[0.05, 0.02], [0.02, 0.06]],
        ]
        return GaussianMixture([0.35, 0.25, 0.25, 0.15], means, covs)
    raise ValueError(f"dim = {dim}: the book's mixture is given in dimension 1 and 2")
