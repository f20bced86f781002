"""Markov chains towards a density that is known up to a constant: Langevin, MALA, Metropolis; and AIS for the constant.

Chains run without a graph: samples come back detached.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from .rng import randn_like, uniform_t

__all__ = ["annealed_importance", "langevin", "mala", "metropolis"]

LogProb = Callable[[Tensor], Tensor]  # (B, *shape) -> (B,), nats, any constant may be missing


def langevin(
    score: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    step: float,
    n: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """n steps of unadjusted Langevin dynamics (ULA): x <- x + step score(x) + sqrt(2 step) z.

    Biased: its long-run density is not p. On N(0, s^2) the variance is s^2 / (1 - step/(2 s^2)), 14% too large at
    step = s^2/4, and at step >= 2 s^2 it diverges. `mala` has no bias. NCSN's paper writes step/2 and sqrt(step).

    score: (B, *shape) -> (B, *shape); x: (B, *shape). Returns (B, *shape), detached.

    Raises ValueError unless step > 0 and n >= 1.   Source: Roberts & Tweedie 1996; NCSN, eq. 4.   Book: ch. 3
    """
    _check(x, step, n)
    with torch.no_grad():
        for _ in range(n):
            x = x + step * score(x) + math.sqrt(2 * step) * randn_like(x, generator=generator)
    return x


def mala(
    log_prob: LogProb, x: Tensor, *, step: float, n: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """n Langevin steps, each kept or refused so that p stays exactly as it is (Metropolis-adjusted Langevin).

    y = x + step score(x) + sqrt(2 step) z, kept with probability min(1, p(y) q(x|y) / (p(x) q(y|x))), where
    q(y|x) = N(y; x + step score(x), 2 step I). Unbiased in the long run; like `langevin` it seldom crosses valleys.

    log_prob: (B, *shape) -> (B,), differentiable, without its constant; x: (B, *shape).
    Returns (B, *shape), detached, and the share of proposals that each chain kept, (B,).

    Raises ValueError unless step > 0, n >= 1 and log_prob returns (B,).   Source: Roberts & Tweedie 1996.   Book: ch. 3
    """
    _check(x, step, n)
    kept = torch.zeros(len(x), device=x.device)
    with torch.no_grad():
        log_p, score = value_and_gradient(log_prob, x)
        for _ in range(n):
            z = randn_like(x, generator=generator)
            y = x + step * score + math.sqrt(2 * step) * z
            log_p_y, score_y = value_and_gradient(log_prob, y)
            back = (x - y - step * score_y) / math.sqrt(2 * step)  # the noise that would lead from y to x
            log_q_ratio = _sum(z.square() - back.square()) / 2  # log q(x|y) - log q(y|x)
            keep = _keep(log_p_y - log_p + log_q_ratio, generator)
            x, score = _choose(keep, y, x), _choose(keep, score_y, score)
            log_p = torch.where(keep, log_p_y, log_p)
            kept += keep
    return x.detach(), kept / n


def metropolis(
    log_prob: LogProb, x: Tensor, *, step: float, n: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """n steps of random-walk Metropolis: y = x + step z, kept with probability min(1, p(y) / p(x)).

    The proposal is symmetric, so Hastings' ratio of proposals is 1; `mala` is the case where it is not. Unbiased in
    the long run, and log_prob needs no gradient and may be -inf. Here step is a standard deviation.

    log_prob: (B, *shape) -> (B,), without its constant; x: (B, *shape).
    Returns (B, *shape), detached, and the share of proposals that each chain kept, (B,).

    Raises ValueError unless step > 0, n >= 1 and log_prob returns (B,).
    Source: Metropolis et al. 1953; Hastings 1970.   Book: ch. 3
    """
    _check(x, step, n)
    kept = torch.zeros(len(x), device=x.device)
    with torch.no_grad():
        log_p = _value(log_prob, x)
        for _ in range(n):
            y = x + step * randn_like(x, generator=generator)
            log_p_y = _value(log_prob, y)
            keep = _keep(log_p_y - log_p, generator)
            x, log_p = _choose(keep, y, x), torch.where(keep, log_p_y, log_p)
            kept += keep
    return x.detach(), kept / n


def annealed_importance(
    log_prob: LogProb,
    base_log_prob: LogProb,
    x: Tensor,
    *,
    betas: Tensor,
    step: float,
    n: int = 1,
    move: Callable[..., tuple[Tensor, Tensor]] = mala,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Annealed importance sampling: from draws of the base to weighted draws of p, along base^(1 - b) p^b.

    log w = sum_k (b_k - b_{k-1}) (log_prob - base_log_prob)(x_{k-1}), where x_k comes from x_{k-1} by n moves that
    keep the density of b_k. The constant: log Z = logsumexp(log_w) - log B + log Z_base. The mean of w is exact for
    any betas and moves, E[w] = Z / Z_base; the log of a mean of B weights is low, by Var(w) / (2 B E[w]^2) for large B.
    Where the base has the lighter tails that variance may be infinite, and every estimate far too low.

    x: (B, *shape), drawn from the base; betas: (K+1,), rising from 0 to 1; step, n: as `move` takes them, `mala`
    or `metropolis`. Returns x (B, *shape), detached, at the last level below 1, and log w (B,), nats.

    Raises ValueError unless betas rise strictly from 0 to 1.   Source: Neal 2001.   Book: ch. 22
    """
    if betas.ndim != 1 or betas[0] != 0 or betas[-1] != 1 or not (betas.diff() > 0).all():
        raise ValueError(f"betas = {betas}: give rising numbers from 0 (the base) to 1 (the target), shape (K+1,)")
    log_w: Tensor = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for before, beta in pairwise(betas.tolist()):
        with torch.no_grad():
            log_w = log_w + (beta - before) * (_value(log_prob, x) - _value(base_log_prob, x))
        if beta < 1:
            x, _ = move(_between(base_log_prob, log_prob, beta), x, step=step, n=n, generator=generator)
    return x.detach(), log_w


def _between(base_log_prob: LogProb, log_prob: LogProb, beta: float) -> LogProb:
    return lambda x: (1 - beta) * base_log_prob(x) + beta * log_prob(x)


def value_and_gradient(log_prob: LogProb, x: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x), (B,), and its gradient, (B, *shape): differentiable again where gradients are on, else detached."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad and again else x.detach().requires_grad_()
        value = _value(log_prob, x)
        if not value.requires_grad:  # a constant
            return value, torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=again, materialize_grads=True)
    return (value, gradient) if again else (value.detach(), gradient)


def _value(log_prob: LogProb, x: Tensor) -> Tensor:
    value = log_prob(x)
    if value.shape != x.shape[:1]:
        raise ValueError(
            f"log_prob or energy returned shape {tuple(value.shape)}: it must return ({len(x)},), one a sample"
        )
    return value


def _keep(log_ratio: Tensor, generator: torch.Generator | None) -> Tensor:
    """True with probability min(1, ratio); a ratio that is not a number is refused."""
    u = uniform_t(len(log_ratio), generator=generator, dtype=log_ratio.dtype, device=log_ratio.device)
    return u.log() <= log_ratio


def _choose(keep: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(keep[:, None], new.flatten(1), old.flatten(1)).reshape(old.shape)


def _sum(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def _check(x: Tensor, step: float, n: int) -> None:
    if x.ndim < 2:
        raise ValueError(f"x has shape {tuple(x.shape)}: give (B, *shape), one axis at least beside the batch")
    if not 0 < step < math.inf:
        raise ValueError(f"step = {step}: give a positive number")
    if n < 1:
        raise ValueError(f"n = {n}: give the number of steps, at least 1")
