"""A sampler is a step (den, path, x, t, s) -> x_s from t to the cleaner s, folded over falling times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from .paths import Path, Time, as_tensor, bcast, can_check, check_falls, posterior, transition
from .predict import DenoiseFn, encode
from .rng import randn_like

__all__ = [
    "Step",
    "ancestral_step",
    "ddim_step",
    "dpmpp_2m",
    "em_step",
    "euler_step",
    "heun_step",
    "iterate",
    "karras_ts",
    "last",
    "linear_ts",
    "logsnr_ts",
    "pc",
    "sample",
]

Step = Callable[..., Tensor]  # (den, path, x, t, s, *, generator=None) -> x_s


def ddim_step(
    den: DenoiseFn,
    path: Path,
    x: Tensor,
    t: Time,
    s: Time,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """DDIM: x_s = alpha_s x0 + sigma_s (sqrt(1 - r) eps + sqrt(r) z),  r = eta^2 var_ts/sigma_t^2.

    eta = 0 is deterministic, exact for a constant estimate, and also runs from data to noise, s > t.
    eta = 1 is DDPM with the posterior's variance.

    x: (B, *shape). Returns (B, *shape).

    Raises ValueError unless 0 <= eta <= 1 and, for eta > 0, s < t.
    Source: Song et al. 2021 (DDIM), eq. 12 and 16.   Book: ch. 8
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta = {eta}: give a number from 0 (deterministic) to 1 (DDPM)")
    cs, e = path.at(s, x), den(x, t)
    if eta == 0:
        return cs.alpha * e.x0 + cs.sigma * e.eps
    _, var_ts = transition(path, t, s, x)
    fresh = eta**2 * var_ts / path.at(t, x).sigma ** 2  # at most 1: the part of sigma_s^2 that is drawn anew
    mean = cs.alpha * e.x0 + cs.sigma * (1 - fresh).sqrt() * e.eps
    return mean + cs.sigma * fresh.sqrt() * randn_like(x, generator=generator)


def ancestral_step(
    den: DenoiseFn,
    path: Path,
    x: Tensor,
    t: Time,
    s: Time,
    *,
    variance: Literal["posterior", "forward"] = "posterior",
    generator: torch.Generator | None = None,
) -> Tensor:
    """DDPM: a draw from the posterior q(x_s | x_t, x0) at the estimated x0; no noise in a step to sigma = 0.

    variance "posterior" is DDPM's beta-tilde, the lower bound; "forward" is var_ts, its beta, the upper one.

    x: (B, *shape). Returns (B, *shape).

    Raises ValueError for another variance, and unless s < t.   Source: Ho et al. 2020, alg. 2, sec. 3.2.   Book: ch. 8
    """
    mean, var = posterior(path, den(x, t).x0, x, t, s)
    if variance == "forward":
        var = transition(path, t, s, x)[1]
    elif variance != "posterior":
        raise ValueError(f"variance = {variance!r}: give 'posterior' (beta-tilde) or 'forward' (beta)")
    noise = torch.where(path.at(s, x).sigma > 0, var.sqrt(), 0.0)
    return mean + noise * randn_like(x, generator=generator)


def _velocity(den: DenoiseFn, path: Path, x: Tensor, t: Time) -> Tensor:
    return encode(den(x, t), path.at(t, x), "velocity")


def _lands(s: Time) -> bool:
    """Whether the step ends at t = 0, where no field is evaluated."""
    lands = as_tensor(s) == 0
    if lands.any() and not lands.all():
        raise ValueError("s is 0 for some samples only: step those apart from the others")
    return bool(lands.all())


def euler_step(
    den: DenoiseFn, path: Path, x: Tensor, t: Time, s: Time, *, generator: torch.Generator | None = None
) -> Tensor:
    """Euler on the probability-flow ODE: x_s = x + (s - t) u,  u = alpha' x0 + sigma' eps. Order 1.

    Deterministic: generator is taken so that every step is called alike.

    x: (B, *shape). Returns (B, *shape).   Source: Song et al. 2021 (Score-SDE), eq. 13.   Book: ch. 9
    """
    return x + (bcast(s, x) - bcast(t, x)) * _velocity(den, path, x, t)


def heun_step(
    den: DenoiseFn, path: Path, x: Tensor, t: Time, s: Time, *, generator: torch.Generator | None = None
) -> Tensor:
    """Heun on the probability-flow ODE: the mean of the slopes at both ends. Order 2; Euler where s = 0.

    Two evaluations a step, one in the step to t = 0, where no field is defined.

    x: (B, *shape). Returns (B, *shape).

    Raises ValueError when s is 0 for some samples only.   Source: Karras et al. 2022, alg. 1.   Book: ch. 9
    """
    h, u = bcast(s, x) - bcast(t, x), _velocity(den, path, x, t)
    guess = x + h * u
    return guess if _lands(s) else x + h * (u + _velocity(den, path, guess, s)) / 2


def em_step(
    den: DenoiseFn, path: Path, x: Tensor, t: Time, s: Time, *, generator: torch.Generator | None = None
) -> Tensor:
    """Euler-Maruyama on the reverse SDE: x_s = x + (s - t) (f x - g^2 score) + g sqrt(t - s) z.

    x: (B, *shape). Returns (B, *shape).

    Raises ValueError where alpha = 0, start at t_max < 1, and unless s < t.
    Source: Anderson 1982; Song et al. 2021 (Score-SDE), eq. 6.   Book: ch. 10
    """
    check_falls(t, s, x)
    score = encode(den(x, t), path.at(t, x), "score")
    f, g2, h = path.drift(t, x), path.g2(t, x), bcast(t, x) - bcast(s, x)
    return x - h * (f * x - g2 * score) + (g2 * h).sqrt() * randn_like(x, generator=generator)


def pc(predict: Step, correct: Callable[..., Tensor]) -> Step:
    """Predictor-corrector: a step, then correct(den, path, x, s) at the new level, but not at t = 0.

    Returns a step, which raises ValueError when s is 0 for some samples only.
    Source: Song et al. 2021 (Score-SDE), alg. 1.   Book: ch. 10
    """

    def step(den: DenoiseFn, path: Path, x: Tensor, t: Time, s: Time, **kw: torch.Generator | None) -> Tensor:
        x = predict(den, path, x, t, s, **kw)
        return x if _lands(s) else correct(den, path, x, s, **kw)

    return step


def dpmpp_2m(den: DenoiseFn, path: Path, x: Tensor, ts: Tensor) -> Iterator[Tensor]:
    """DPM-Solver++(2M): yields x at every time of ts. Order 2, one evaluation a step.

    x_s = (sigma_s/sigma_t) x - alpha_s (exp(-h) - 1) D,  h = lam_s - lam_t,  r = h_before/h,
    D = (1 + 1/2r) x0 - (1/2r) x0_before; D = x0 in the first step and in a step to sigma = 0.

    x: (B, *shape); ts: (n+1,), strictly decreasing.

    Raises ValueError for a grid that does not strictly decrease.   Source: Lu et al. 2022 (DPM-Solver++), alg. 2.
    Book: ch. 9
    """
    before: tuple[Tensor, Tensor] | None = None
    steps = pairwise(_grid(ts))
    yield x
    for t, s in steps:
        ct, cs, x0, h = path.at(t, x), path.at(s, x), den(x, t).x0, path.lam(s) - path.lam(t)
        mean = x0
        if before is not None and cs.sigma > 0:
            x0_before, h_before = before
            mean = x0 + h / (2 * h_before) * (x0 - x0_before)
        x = cs.sigma / ct.sigma * x - cs.alpha * torch.expm1(-h) * mean
        before = x0, h
        yield x


def iterate(step: Step, den: DenoiseFn, path: Path, x: Tensor, ts: Tensor, **kw: object) -> Iterator[Tensor]:
    """Yield x at every time of ts; options go to every step.

    x: (B, *shape); ts: (n+1,), strictly decreasing in [0, 1].

    Raises ValueError for a grid that does not strictly decrease.   Book: ch. 8
    """
    steps = pairwise(_grid(ts))
    yield x
    for t, s in steps:
        x = step(den, path, x, t, s, **kw)
        yield x


def last(states: Iterable[Tensor]) -> Tensor:
    """The last state of a sampler that yields them, without gradients.   Book: ch. 8"""
    with torch.no_grad():
        for x in states:
            end = x
    return end


def sample(step: Step, den: DenoiseFn, path: Path, x: Tensor, ts: Tensor, **kw: object) -> Tensor:
    """x at the last time of ts, without gradients: last(iterate(...)).

    x: (B, *shape); ts: (n+1,), strictly decreasing in [0, 1].

    Raises ValueError for a grid that does not strictly decrease.   Book: ch. 8
    """
    return last(iterate(step, den, path, x, ts, **kw))


def _grid(ts: Tensor) -> Tensor:
    if ts.ndim != 1 or len(ts) < 2:
        raise ValueError(f"ts has shape {tuple(ts.shape)}: give at least two times, shape (n+1,)")
    if can_check(ts) and not (ts.diff() < 0).all():
        i = int((~(ts.diff() < 0)).nonzero()[0])
        raise ValueError(f"ts must strictly decrease, from noise to data: ts[{i}] = {ts[i]}, ts[{i + 1}] = {ts[i + 1]}")
    if can_check(ts) and not (ts[0] <= 1 and ts[-1] >= 0):
        raise ValueError(f"ts runs from {ts[0]} to {ts[-1]}: keep it in [0, 1], 0 is data, 1 is noise")
    return ts


def _steps(n: int) -> int:
    if n < 1:
        raise ValueError(f"n = {n}: give the number of steps, at least 1")
    return n


def linear_ts(n: int, *, t_max: float = 1.0, t_min: float = 0.0) -> Tensor:
    """n steps even in t, from t_max to t_min; (n+1,), float64, strictly decreasing.

    Raises ValueError unless 0 <= t_min < t_max <= 1 and n >= 1.   Book: ch. 8
    """
    if not 0 <= t_min < t_max <= 1:
        raise ValueError(f"t_min = {t_min}, t_max = {t_max}: give 0 <= t_min < t_max <= 1")
    return torch.linspace(t_max, t_min, _steps(n) + 1, dtype=torch.float64)


def logsnr_ts(path: Path, n: int, *, t_max: float = 1.0, t_min: float = 1e-3) -> Tensor:
    """n steps even in lam = log(alpha/sigma), from t_max to t_min; (n+1,), float64, strictly decreasing.

    Raises ValueError where lam is infinite: at alpha = 0 or sigma = 0.   Source: Lu et al. 2022 (DPM-Solver).
    Book: ch. 9
    """
    low, high = path.lam(t_max), path.lam(t_min)
    if not (low.isfinite() and high.isfinite() and low < high):
        raise ValueError(
            f"lam is {low:.4g} at t_max = {t_max} and {high:.4g} at t_min = {t_min}: both must be finite "
            "and t_min < t_max; move that end inside (0, 1)"
        )
    ts = path.t_of(torch.linspace(low.item(), high.item(), _steps(n) + 1, dtype=torch.float64))
    ts[0], ts[-1] = t_max, t_min
    return ts


def karras_ts(path: Path, n: int, *, sigma_max: float = 80.0, sigma_min: float = 0.002, rho: float = 7.0) -> Tensor:
    """EDM's levels as times: n levels of sigma/alpha, even in the power 1/rho, then t = 0; (n+1,), float64.

    Raises ValueError unless 0 < sigma_min < sigma_max, both within the path's sigma/alpha.
    Source: Karras et al. 2022, eq. 5.   Book: ch. 9
    """
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"sigma_min = {sigma_min}, sigma_max = {sigma_max}: give 0 < sigma_min < sigma_max")
    ramp = torch.linspace(0, 1, _steps(n), dtype=torch.float64)
    levels = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    ts = path.t_of(-levels.log())
    if ts[-1] <= 0 or ts[0] > 1 + 1e-9:
        least, most = (-path.lam(0.0)).exp().item(), (-path.lam(1.0)).exp().item()
        raise ValueError(
            f"sigma_max = {sigma_max}, sigma_min = {sigma_min}: this path's sigma/alpha runs from {least:.4g} "
            f"to {most:.4g}; keep sigma_min above the one and sigma_max at most the other"
        )
    return torch.cat([ts.clamp_max(1), ts.new_zeros(1)])
