"""Solvers for dx/dt = f(x, t): fixed steps of order 4, and steps that choose their own length, of order 5."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["dopri5", "rk4"]

Field = Callable[[Tensor, Tensor], Tensor]  # f(x, t) -> dx/dt, of the shape of x

# Dormand and Prince 1980, table 2: row i holds the weights of the slopes that stage i starts from. The last row is the
# step of order 5, so that its slope is the first one of the next step; ERROR is that row minus the one of order 4.
NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
ROWS = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def rk4(f: Field, x: Tensor, ts: Tensor) -> Tensor:
    """The classical Runge-Kutta method, one step between neighbours of ts. Order 4, four evaluations a step.

    A step that lands on t = 0, where no field is defined, is Ralston's of order 3, whose last slope is taken a quarter
    of the step before; the whole stays at order 4.

    f(x, t) with t 0-d; x: (B, *shape); ts: (n+1,), strictly monotone. Returns the states at ts, (n+1, B, *shape).

    Raises ValueError for other grids.   Source: Hairer, Norsett & Wanner 1993, sec. II.1; Ralston 1962.   Book: ch. 9
    """
    check_grid(ts)
    states = [x]
    for t, s in pairwise(ts):
        x = _ralston_step(f, x, t, s) if s == 0 else rk4_step(f, x, t, s, f(x, t))
        states.append(x)
    return torch.stack(states)


def rk4_step(f: Field, x: Tensor, t: Tensor, s: Tensor, k1: Tensor) -> Tensor:
    h, middle = s - t, (t + s) / 2
    k2 = f(x + h / 2 * k1, middle)
    k3 = f(x + h / 2 * k2, middle)
    k4 = f(x + h * k3, s)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _ralston_step(f: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    h, k1 = s - t, f(x, t)
    k2 = f(x + h / 2 * k1, t + h / 2)
    k3 = f(x + 3 * h / 4 * k2, t + 3 * h / 4)
    return x + h / 9 * (2 * k1 + 3 * k2 + 4 * k3)


def check_grid(ts: Tensor) -> None:
    if ts.ndim != 1 or len(ts) < 2:
        raise ValueError(f"ts has shape {tuple(ts.shape)}: give at least two times, shape (n+1,)")
    if not ((ts.diff() > 0).all() or (ts.diff() < 0).all()):
        raise ValueError(f"ts must strictly rise or strictly fall: {ts.tolist()[:5]} ... does neither")


def dopri5(
    f: Field, x: Tensor, ts: Tensor, *, rtol: float = 1e-6, atol: float = 1e-6, max_evals: int = 100_000
) -> Tensor:
    """Dormand and Prince's method with steps of its own choice. Order 5, six evaluations a step.

    A step stands where the root mean square over a sample of error / (atol + rtol |x|) is at most 1. Every sample has
    its own clock and steps, so that its result does not depend on the batch; the calls of f are those of the hardest
    sample. Steps end at each time of ts, so that every state is as exact as the last. The errors of the steps add up,
    in tests to less than 10 times the tolerance.

    f(x, t) with t (B,); x: (B, *shape); ts: (n+1,), strictly monotone. Returns the states at ts, (n+1, B, *shape).

    Raises ValueError for other grids, for one that ends at t = 0, where the last stages would stand, and unless the
    tolerances are positive; RuntimeError when max_evals calls of f do not suffice or steps shrink to nothing.
    Source: Dormand & Prince 1980; Hairer, Norsett & Wanner 1993, sec. II.4.   Book: ch. 9
    """
    check_grid(ts)
    if ts[-1] == 0:
        raise ValueError("ts ends at 0, where no field is defined: end above it, for example at 1e-3, or use rk4")
    if not (rtol > 0 and atol > 0):
        raise ValueError(f"rtol = {rtol}, atol = {atol}: give positive numbers")
    ts, each = ts.to(x.device), torch.arange(len(x), device=x.device)
    states = x.expand(len(ts), *x.shape).clone()
    t, goal = ts[0].expand(len(x)), torch.ones_like(each)  # (B,): the clocks, and which time of ts each runs to
    k, evals = f(x, t.to(x.dtype)), 1
    h = 0.01 * _size(x, x, x, rtol, atol) / _size(k, x, x, rtol, atol)  # (B,): till x moves by a hundredth
    h = h.nan_to_num(0.0).clamp(1e-6 * (ts[1] - ts[0]).abs(), (ts[-1] - ts[0]).abs())
    while _runs(t, h, goal, ts, evals + 6, max_evals):
        evals += 6
        end = ts[goal.clamp(max=len(ts) - 1)]
        lands = h >= (end - t).abs()
        step = torch.where(lands, end - t, h.copysign(ts[-1] - ts[0]))
        y, k_end, error = _stages(f, x, t, step, k)
        size = _size(error, x, y, rtol, atol)
        stands = size <= 1
        x, k = torch.where(_pad(stands, x), y, x), torch.where(_pad(stands, x), k_end, k)
        t = torch.where(stands, torch.where(lands, end, t + step), t)
        states[goal.clamp(max=len(ts) - 1), each] = x  # the last one written is the state at that time
        wish = step.abs() * (0.9 * size**-0.2).nan_to_num(0.2).clamp(0.2, 10)
        h = torch.where(stands & lands, torch.maximum(h, wish), wish)  # a step cut short says little about the next
        goal = goal + (stands & lands)
    return states


def _stages(f: Field, x: Tensor, t: Tensor, step: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The state after a step, the slope there, and the difference between orders 5 and 4."""
    h, slopes = _pad(step.to(x.dtype), x), [k]
    for node, row in zip(NODES, ROWS, strict=True):
        y = x + h * _mean(row, slopes)
        slopes.append(f(y, (t + node * step).to(x.dtype)))
    return y, slopes[-1], h * _mean(ERROR, slopes)


def _mean(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    return sum((w * k for w, k in zip(weights, slopes, strict=True) if w), torch.zeros_like(slopes[0]))


def _pad(value: Tensor, x: Tensor) -> Tensor:
    return value.reshape(-1, *(1 for _ in x.shape[1:]))


def _size(value: Tensor, x: Tensor, y: Tensor, rtol: float, atol: float) -> Tensor:
    """Root mean square of value in units of the error allowed between x and y; (B,), without gradients."""
    allowed = atol + rtol * torch.maximum(x.abs(), y.abs())
    return (value / allowed).detach().reshape(len(x), -1).square().mean(1).sqrt()


def _runs(t: Tensor, h: Tensor, goal: Tensor, ts: Tensor, evals: int, max_evals: int) -> bool:
    """Whether a sample is still on its way; the one look at numbers a step."""
    busy = goal < len(ts)
    running, stuck = torch.stack([busy.any(), (busy & (t + h == t)).any()]).tolist()
    if running and (stuck or evals > max_evals):
        slow = t[busy][0].item()
        reason = "its steps shrink to nothing" if stuck else f"max_evals = {max_evals} calls of f do not suffice"
        raise RuntimeError(
            f"dopri5 stops at t = {slow:.6g}: {reason}. The field is singular or not smooth there, or the tolerance is "
            "below the rounding of its dtype: end before that time, loosen rtol and atol, or raise max_evals"
        )
    return bool(running)
