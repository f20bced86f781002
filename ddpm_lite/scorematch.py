"""Score matching without a time: five losses of a score, equal up to constants where their conditions hold.

The papers' own conventions: a factor 1/2, and the sum over dimensions. Each returns (B,), to be averaged over data.
In the formulas J is the Jacobian of the score s. Every loss can be trained: the graph to the parameters is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .rng import randn_like

__all__ = ["denoising_sm", "explicit_sm", "finite_difference_sm", "implicit_sm", "rademacher_like", "sliced_sm"]

Score = Callable[[Tensor], Tensor]  # (B, *shape) -> (B, *shape)


def explicit_sm(score: Score, x: Tensor, target: Tensor) -> Tensor:
    """Explicit score matching: 1/2 |s(x) - target|^2, whose mean over data is the Fisher divergence.

    For tests and teaching: target is the true score at x, which is not known for real data. Reaches 0.

    x, target: (B, *shape). Returns (B,).

    Raises ValueError when target or the score has another shape than x.   Source: Hyvarinen 2005.   Book: ch. 4
    """
    _check(x)
    if target.shape != x.shape:
        raise ValueError(f"target has shape {tuple(target.shape)}: give it the shape of x, {tuple(x.shape)}")
    return _half_square(_at(score, x) - target)


def implicit_sm(score: Score, x: Tensor) -> Tensor:
    """Implicit score matching: tr J(x) + 1/2 |s(x)|^2, the explicit loss less a constant of the data.

    The mean over data is the explicit one minus 1/2 E|grad log p|^2, .8 for N(0, 1.25 I) in two dimensions. That
    needs p s -> 0 at every edge: for data of density exp(-x) on x > 0 and a constant score -k the loss is k^2/2, least
    at 0 and not at the true k = 1. The exact trace costs D backward products. No sample may change another's score.

    x: (B, *shape). Returns (B,).

    Raises ValueError when the score has another shape than x.   Source: Hyvarinen 2005; NCSN, eq. 1.   Book: ch. 4
    """
    x, s = _differentiable(score, x)
    loss = _half_square(s)
    for unit in _units(x):
        loss = loss + _quadratic(s, x, unit)
    return loss


def sliced_sm(
    score: Score,
    x: Tensor,
    *,
    n_proj: int = 1,
    variance_reduced: bool = True,
    probe: Callable[..., Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sliced score matching: v^T J(x) v + 1/2 |s(x)|^2, or 1/2 (v^T s)^2 without variance reduction.

    The mean over v is `implicit_sm` if E v v^T = I. probe(x, generator=...) draws v: by default `rademacher_like`;
    `randn_like` is Gaussian. With S = (J + J^T)/2, or S = (J + J^T)/2 + s s^T/2 without variance reduction, the
    variance is 2 sum_{i != j} S_ij^2 / n_proj by signs and 2 |S|_F^2 / n_proj by normal v. One backward product
    a projection.

    x: (B, *shape). Returns (B,).

    Raises ValueError unless n_proj >= 1 and the score has the shape of x.
    Source: Song et al. 2019 (sliced score matching); NCSN, eq. 3.   Book: ch. 5
    """
    if n_proj < 1:
        raise ValueError(f"n_proj = {n_proj}: give the number of projections, at least 1")
    x, s = _differentiable(score, x)
    losses = []
    for _ in range(n_proj):
        v = (probe or rademacher_like)(x, generator=generator)
        square = _half_square(s) if variance_reduced else _sum(v * s).square() / 2
        losses.append(_quadratic(s, x, v) + square)
    return torch.stack(losses).mean(0)


def finite_difference_sm(
    log_prob: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    radius: float = 0.05,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Finite-difference score matching: `implicit_sm` of an energy model from three values of log p, no derivative.

    D/r^2 (l(x+v) + l(x-v) - 2 l(x) + 1/8 (l(x+v) - l(x-v))^2),  l = log p without its constant,  v on a sphere of
    radius r. Its mean over v is off by r^2/(D + 2) (lap lap l/4 + s . grad lap l/2) + O(r^4), lap the Laplacian: 0 for
    a Gaussian, and in the mean -1.44 r^2 for the book's 1-D mixture at r = .05. In float32 rounding adds about
    D |l| 1e-7/r^2: choose r not too small, or compute in float64.

    log_prob: (B, *shape) -> (B,); x: (B, *shape). Returns (B,).

    Raises ValueError unless radius > 0 and log_prob returns (B,).   Source: Pang et al. 2020 (FD-SSM).   Book: ch. 5
    """
    _check(x)
    if not radius > 0:
        raise ValueError(f"radius = {radius}: give a positive number, small against the details of log_prob")
    z = randn_like(x, generator=generator).flatten(1)
    v = (radius * z / z.norm(dim=1, keepdim=True)).reshape(x.shape)
    here, plus, minus = (log_prob(point) for point in (x, x + v, x - v))
    if here.shape != x.shape[:1]:
        raise ValueError(f"log_prob returned shape {tuple(here.shape)}: it must return ({len(x)},), one a sample")
    return z.shape[1] / radius**2 * (plus + minus - 2 * here + (plus - minus).square() / 8)


def denoising_sm(score: Score, x: Tensor, *, sigma: float, generator: torch.Generator | None = None) -> Tensor:
    """Denoising score matching: 1/2 |s(x + sigma z) + z/sigma|^2, z ~ N(0, I). No derivative of the score.

    It fits the score of the noised density p_sigma, not that of p: for data N(0, 1) the slope is -1/(1 + sigma^2).
    Its mean is the explicit loss on p_sigma plus a floor D/(2 sigma^2) - 1/2 E|grad log p_sigma|^2, so that it does
    not reach 0: 3.2 for N(0, I) in two dimensions at sigma = .5. The variance of its gradient grows like 1/sigma^2 too.

    x: (B, *shape). Returns (B,).

    Raises ValueError unless sigma > 0 and the score has the shape of x.
    Source: Vincent 2011; NCSN, eq. 2.   Book: ch. 5
    """
    _check(x)
    if not sigma > 0:
        raise ValueError(f"sigma = {sigma}: give the standard deviation of the noise, a positive number")
    z = randn_like(x, generator=generator)
    return _half_square(_at(score, x + sigma * z) + z / sigma)


def rademacher_like(x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Signs, -1 or 1 with probability 1/2 each, in the shape, dtype and device of x.   Book: ch. 5"""
    device = x.device if generator is None else generator.device
    return (2 * torch.randint(0, 2, x.shape, generator=generator, device=device) - 1).to(x)


def _differentiable(score: Score, x: Tensor) -> tuple[Tensor, Tensor]:
    """x and the score there, joined by a graph, under no_grad too."""
    _check(x)
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        return x, _at(score, x)


def _quadratic(s: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """v^T J v, (B,), by one backward product; differentiable again where gradients are on."""
    if not s.requires_grad:  # a constant
        return torch.zeros_like(_sum(x))
    again = torch.is_grad_enabled()
    (product,) = torch.autograd.grad(s, x, v, retain_graph=True, create_graph=again, materialize_grads=True)
    return _sum(product * v)


def _units(x: Tensor) -> Iterator[Tensor]:
    """For each coordinate of a sample, the unit vector along it; D times (B, *shape)."""
    for i in range(x[0].numel()):
        unit = torch.zeros_like(x.flatten(1))
        unit[:, i] = 1
        yield unit.reshape(x.shape)


def _at(score: Score, x: Tensor) -> Tensor:
    s = score(x)
    if s.shape != x.shape:
        raise ValueError(f"score returned shape {tuple(s.shape)}: it must return the shape of x, {tuple(x.shape)}")
    return s


def _half_square(x: Tensor) -> Tensor:
    return _sum(x.square()) / 2


def _sum(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def _check(x: Tensor) -> None:
    if x.ndim < 2:
        raise ValueError(f"x has shape {tuple(x.shape)}: give (B, *shape), one axis at least beside the batch")
