"""From denoisers to a denoiser: guided by a class, by a classifier, by several conditions at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .paths import Coefs, Path, Time, bcast, can_check
from .predict import DenoiseFn, Estimate

__all__ = ["add_score", "cfg", "classifier", "compose"]


def cfg(cond: DenoiseFn, uncond: DenoiseFn, w: float, *, interval: tuple[float, float] = (0.0, 1.0)) -> DenoiseFn:
    """Classifier-free guidance: uncond + w (cond - uncond) for t in the interval, cond alone outside it.

    w = 0 is unconditional, 1 conditional (one evaluation instead of two), more is guided. Ho & Salimans' w is ours
    minus 1. x0 and eps are guided alike, so x_t = alpha x0 + sigma eps still holds; guiding any other kind is the same.
    The interval is in t, `path.t_of` turns noise levels into it. Another prompt as `uncond` is a negative prompt.

    Biased for w other than 1: samples do not follow p(x) p(y|x)^w. For x given y ~ N(y, .25), y ~ N(0, 1), y = 1
    and w = 2 the probability-flow ODE gives mean 1.321 and variance .050, where that density has 1.111 and .139.

    Raises ValueError unless w is finite and 0 <= interval[0] <= interval[1] <= 1.
    Source: Ho & Salimans 2022, eq. 6; Kynkaanniemi et al. 2024 (the interval).   Book: ch. 13
    """
    _check(interval, w=w)

    def den(x: Tensor, t: Time) -> Estimate:
        yes, inside = cond(x, t), _inside(t, interval, x)
        if w == 1 or not inside.any():
            return yes
        no = uncond(x, t)
        return Estimate(*(torch.where(inside, n + w * (y - n), y) for y, n in zip(yes, no, strict=True)))

    return den


def classifier(
    den: DenoiseFn,
    path: Path,
    grad_log_prob: Callable[[Tensor, Time], Tensor],
    scale: float = 1.0,
    *,
    interval: tuple[float, float] = (0.0, 1.0),
) -> DenoiseFn:
    """Classifier guidance: the score plus scale * grad_x log p(y | x_t), for t in the interval.

    eps - scale sigma g,  x0 + scale (sigma^2/alpha) g,  g = grad_log_prob(x, t): (B, *shape), of a classifier
    that knows noisy x. With the exact classifier it is `cfg` with w = scale, and biased as that is.

    Raises ValueError for a bad interval or scale, for a gradient of another shape, and where alpha = 0.
    Source: Dhariwal & Nichol 2021, eq. 14.   Book: ch. 13
    """
    _check(interval, scale=scale)

    def guided(x: Tensor, t: Time) -> Estimate:
        e, inside = den(x, t), _inside(t, interval, x)
        if not inside.any():
            return e
        extra = grad_log_prob(x, t)
        if extra.shape != x.shape:
            raise ValueError(f"grad_log_prob returned shape {tuple(extra.shape)}: it must return {tuple(x.shape)}")
        return add_score(e, path.at(t, x), torch.where(inside, scale * extra, 0.0))

    return guided


def compose(base: DenoiseFn, parts: Sequence[tuple[DenoiseFn, float]]) -> DenoiseFn:
    """Conditions joined: base + sum_i w_i (part_i - base), for parts = [(part_1, w_1), ...].

    w > 0 is AND, w < 0 is NOT. Its score at every t is that of p_t(x) prod_i (p_t(x | c_i)/p_t(x))^w_i. Exact where
    all w_i = 1 and the conditions are independent given x_t: factors on different, independent coordinates.

    Elsewhere biased, as a product of noised densities is not the noised product: N(0, 1) times N(2, 1) at noise 1
    has the score -(2/3)(x - 1), the sum of the two scores is -(x - 1).

    Raises ValueError when a weight is not finite.
    Source: Liu et al. 2022 (Composable Diffusion); Du et al. 2023.   Book: ch. 13
    """
    for _, w in parts:
        _check((0.0, 1.0), w=w)

    def den(x: Tensor, t: Time) -> Estimate:
        start = base(x, t)
        x0, eps = start
        for part, w in parts:
            e = part(x, t)
            x0, eps = x0 + w * (e.x0 - start.x0), eps + w * (e.eps - start.eps)
        return Estimate(x0, eps)

    return den


def add_score(e: Estimate, c: Coefs, extra: Tensor) -> Estimate:
    """The estimate whose score is larger by `extra`: eps - sigma extra,  x0 + (sigma^2/alpha) extra.

    e, extra: (B, *shape); c from `path.at(t, x)`. It still holds that x_t = alpha x0 + sigma eps.

    Raises ValueError where alpha = 0: x0 does not follow from the score there.   Book: ch. 13
    """
    if can_check(c.alpha) and (c.alpha == 0).any():
        raise ValueError(
            "alpha = 0: the score does not give x0 there; start at t_max < 1, for example linear_ts(n, t_max=0.999)"
        )
    return Estimate(e.x0 + c.sigma**2 / c.alpha * extra, e.eps - c.sigma * extra)


def _inside(t: Time, interval: tuple[float, float], x: Tensor) -> Tensor:
    """Whether t lies in the interval, padded against x."""
    times = bcast(t, x)
    return (times >= interval[0]) & (times <= interval[1])


def _check(interval: tuple[float, float], **numbers: float) -> None:
    for name, value in numbers.items():
        if not abs(value) < float("inf"):
            raise ValueError(f"{name} = {value}: give a finite number")
    if not 0 <= interval[0] <= interval[1] <= 1:
        raise ValueError(f"interval = {interval}: give (low, high) with 0 <= low <= high <= 1, in t")
