"""Editing with a trained model: a sample's own noise, the way between two noises, noise added and taken away again."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from .paths import Path, as_tensor, bcast, can_check
from .predict import DenoiseFn
from .rng import randn_like
from .samplers import Step, ddim_step, sample

__all__ = ["invert", "sdedit", "slerp"]


def invert(den: DenoiseFn, path: Path, x0: Tensor, ts: Tensor, *, step: Step = ddim_step) -> Tensor:
    """The noise that a deterministic sampler turns into x0: its ODE run from data to noise, without gradients.

    x0 is taken as the state at ts[0], the result is the state at ts[-1], with an error of order 1 in the steps for
    ddim_step and euler_step, 2 for heun_step. Sampling back over ts.flip(0) returns x0 to order 1, and 3.

    x0: (B, *shape); ts: (n+1,), strictly increasing, ts[0] > 0 as no field is evaluated at t = 0: for example
    linear_ts(50, t_min=1e-3).flip(0). Returns (B, *shape).

    Raises ValueError for another grid.   Source: Song et al. 2021 (DDIM), sec. 4.3.   Book: ch. 16
    """
    if ts.ndim != 1 or len(ts) < 2:
        raise ValueError(f"ts has shape {tuple(ts.shape)}: give at least two times, shape (n+1,)")
    if can_check(ts) and not (ts.diff() > 0).all():
        raise ValueError(f"ts = {ts.tolist()} must strictly increase, from data to noise: flip a sampler's grid")
    if can_check(ts) and not ts[0] > 0:
        raise ValueError(f"ts starts at {ts[0]}: no field is evaluated at t = 0; start at t_min > 0, for example 1e-3")
    with torch.no_grad():
        for t, s in pairwise(ts):
            x0 = step(den, path, x0, t, s)
    return x0


def slerp(a: Tensor, b: Tensor, u: float | Tensor) -> Tensor:
    """Along the great circle from a to b: (sin((1-u) theta) a + sin(u theta) b)/sin theta, theta their angle.

    For |a| = |b| the norm stays what it is. Two normal vectors of many dimensions are nearly orthogonal: the norm of
    lerp's middle is .7071 of theirs, so it is no draw of the prior, that of slerp's middle 1. Parallel: lerp.

    a, b: (B, *shape), an angle a sample; u: a number or (B,), 0 gives a and 1 gives b. Returns (B, *shape).

    Raises ValueError when a and b differ in shape, u has the wrong shape, or a and b are opposite: many half circles
    join them.   Source: Shoemake 1985; Song et al. 2021 (DDIM), sec. 5.3.   Book: ch. 16
    """
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"a has shape {tuple(a.shape)}, b {tuple(b.shape)}: give both the same (B, *shape)")
    u = as_tensor(u)
    if u.ndim and u.shape != a.shape[:1]:
        raise ValueError(f"u has shape {tuple(u.shape)}: give a number or shape ({len(a)},)")
    norm_a, norm_b = a.flatten(1).norm(dim=1), b.flatten(1).norm(dim=1)  # (B,)
    p, q = bcast(norm_b, a) * a, bcast(norm_a, a) * b  # |p| = |q|, so |p - q|/|p + q| is tan(theta/2)
    theta = 2 * torch.atan2((p - q).flatten(1).norm(dim=1), (p + q).flatten(1).norm(dim=1))  # (B,)
    if can_check(theta) and (math.pi - theta < torch.finfo(theta.dtype).eps ** 0.5).any():
        raise ValueError("a and b hold a pair of opposite samples: no single great circle joins them; draw another b")

    def share(k: Tensor) -> Tensor:  # sin(k theta)/sin(theta), which is k at theta = 0
        return bcast(k * torch.sinc(k * theta / math.pi) / torch.sinc(theta / math.pi), a)

    u = u.to(a)
    return share(1 - u) * a + share(u) * b


def sdedit(
    step: Step,
    den: DenoiseFn,
    path: Path,
    x0: Tensor,
    ts: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """SDEdit: x0 noised to ts[0] = t, then sampled down over ts. Without gradients.

    The larger t, the more of x0 is forgotten. Exactly solved to s = 0, for data N(0, v) and given x0, the ODE gives
    N(r^(1/2) x0, v (1 - r)) and the reverse SDE N(r x0, v (1 - r^2)),  r = alpha^2 v/(alpha^2 v + sigma^2).

    x0: (B, *shape); ts: (n+1,), strictly decreasing. Returns (B, *shape).

    Raises ValueError for a grid that does not strictly decrease.   Source: Meng et al. 2022 (SDEdit).   Book: ch. 16
    """
    noised = path.mix(x0, randn_like(x0, generator=generator), ts[0])
    return sample(step, den, path, noised, ts, generator=generator)
