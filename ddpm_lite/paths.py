"""A path is (alpha_t, sigma_t): x_t = alpha x0 + sigma x1, data at t = 0 and noise at t = 1.

A subclass of `Path` writes `coefs` and, where there is a closed form, `t_of`. Drift, diffusion,
posterior and every other coefficient of the book are derived from these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .rng import randn_like

__all__ = [
    "EDM",
    "VE",
    "VP",
    "BetaTable",
    "Coefs",
    "Cosine",
    "Path",
    "RectifiedFlow",
    "SubVP",
    "bcast",
    "linear_betas",
    "posterior",
    "transition",
]


Time = float | Tensor  # a number, 0-d, or (B,): one time a sample


class Coefs(NamedTuple):
    """The two coefficients of a path at a time, and their derivatives in t.   Book: ch. 7"""

    alpha: Tensor
    sigma: Tensor
    dalpha: Tensor
    dsigma: Tensor


def bcast(t: Time, x: Tensor) -> Tensor:
    """Pad t with ones so that it multiplies x sample by sample.

    A float or 0-d t stays 0-d, in its own precision, and takes no part in type promotion.
    A t of shape (B,) becomes (B, 1, ..., 1) in the dtype and on the device of x: (B, *shape).

    Raises ValueError when t is neither a number nor one number a sample.   Book: ch. 7
    """
    t = _pad(as_tensor(t), x)
    return t.to(x) if t.ndim else t


def _pad(t: Tensor, x: Tensor) -> Tensor:
    if t.ndim == 0:
        return t
    if t.shape != x.shape[:1]:
        raise ValueError(f"t has shape {tuple(t.shape)}: give a number or shape ({len(x)},), one time a sample of x")
    return t.reshape(-1, *[1] * (x.ndim - 1))


def as_tensor(t: Time) -> Tensor:
    t = t if isinstance(t, Tensor) else torch.tensor(float(t), dtype=torch.float64)
    return t if t.is_floating_point() else t.double()


def can_check(t: Tensor) -> bool:
    return t.device.type == "cpu" and not torch.compiler.is_compiling()


def _time(t: Time) -> Tensor:
    t = as_tensor(t)
    if can_check(t):
        low, high = t.aminmax()  # both NaN where t holds one
        if not (low.item() >= 0 and high.item() <= 1):
            raise ValueError(f"t = {_first(t, (t >= 0) & (t <= 1))} lies outside [0, 1]: 0 is data, 1 is noise")
    return t


def all_finite(x: Tensor) -> bool:
    """Whether every number is finite; the sum, which is cheap, tells unless it overflows."""
    return math.isfinite(x.sum()) or bool(x.isfinite().all())


def _first(values: Tensor, fine: Tensor) -> float:
    return values[~fine].flatten()[0].item() if values.ndim else values.item()


def _lam(c: Coefs) -> Tensor:
    return c.alpha.log() - c.sigma.log()


class Path:
    """How data turns into noise: x_t = alpha_t x0 + sigma_t x1, with t in [0, 1].   Book: ch. 7"""

    def coefs(self, t: Tensor) -> Coefs:
        """alpha, sigma and their derivatives at t, each of the shape of t.   Book: ch. 7"""
        raise NotImplementedError(f"{type(self).__name__} must define coefs(t) -> Coefs")

    def t_of(self, lam: Tensor) -> Tensor:
        """The time at which log(alpha/sigma) = lam; lam falls as t grows.

        Bisection to float64 round-off; a subclass with a closed form replaces it, and gives a t outside
        [0, 1], which every other method refuses, where the path never has that lam.

        Raises ValueError when the bisection finds no such t.   Book: ch. 7
        """
        lam = as_tensor(lam)
        low, high = torch.zeros_like(lam), torch.ones_like(lam)
        fine = (self.lam(low) >= lam) & (self.lam(high) <= lam)
        if can_check(lam) and not fine.all():
            ends = self.lam(1.0).item(), self.lam(0.0).item()
            raise ValueError(f"lam = {_first(lam, fine)} lies outside this path's [{ends[0]:.4g}, {ends[1]:.4g}]")
        for _ in range(64):
            middle = (low + high) / 2
            cleaner = self.lam(middle) > lam
            low, high = torch.where(cleaner, middle, low), torch.where(cleaner, high, middle)
        return (low + high) / 2

    def at(self, t: Time, x: Tensor) -> Coefs:
        """`coefs` at t, padded to multiply x: (B, *shape).

        Raises ValueError when t lies outside [0, 1] or has the wrong shape.   Book: ch. 7
        """
        c = self.coefs(_pad(_time(t), x))
        return Coefs(*[value.to(x) if value.ndim else value for value in c])

    def lam(self, t: Time) -> Tensor:
        """Half the log signal-to-noise ratio, lam = log(alpha/sigma), of the shape of t.   Book: ch. 7"""
        return _lam(self.coefs(_time(t)))

    def drift(self, t: Time, x: Tensor) -> Tensor:
        """f = alpha'/alpha of the forward SDE dx = f x dt + g dw, padded against x.

        Raises ValueError where alpha = 0.   Source: Lu et al. 2022 (DPM-Solver), eq. 3.2.   Book: ch. 7
        """
        c = self.at(t, x)
        if can_check(c.alpha) and (c.alpha == 0).any():
            raise ValueError(
                f"the SDE of {type(self).__name__} has no drift where alpha = 0: start at t_max < 1, "
                "for example linear_ts(n, t_max=0.999)"
            )
        return c.dalpha / c.alpha

    def g2(self, t: Time, x: Tensor) -> Tensor:
        """g^2 = 2 sigma sigma' - 2 f sigma^2 of the forward SDE, padded against x.

        Raises ValueError where alpha = 0.   Source: Lu et al. 2022 (DPM-Solver), eq. 3.2.   Book: ch. 7
        """
        c = self.at(t, x)
        return 2 * c.sigma * (c.dsigma - self.drift(t, x) * c.sigma)

    def mix(self, x0: Tensor, x1: Tensor, t: Time) -> Tensor:
        """x_t = alpha x0 + sigma x1.

        x0, x1: (B, *shape). Returns (B, *shape).

        Raises ValueError when x0 and x1 differ in shape.   Source: Ho et al. 2020, eq. 4.   Book: ch. 7
        """
        if x0.shape != x1.shape:
            raise ValueError(f"x1 has shape {tuple(x1.shape)}: give it the shape of x0, {tuple(x0.shape)}")
        c = self.at(t, x0)
        return c.alpha * x0 + c.sigma * x1

    def prior(self, shape: tuple[int, ...], *, generator: torch.Generator | None = None) -> Tensor:
        """Starting points of a sampler, N(0, sigma(1)^2 I), of the given shape (B, ...).   Book: ch. 7"""
        device = None if generator is None else generator.device
        x = torch.empty(shape, device=device)
        return self.at(1.0, x).sigma * randn_like(x, generator=generator)


def check_falls(t: Time, s: Time, x: Tensor) -> None:
    early, late = as_tensor(s), as_tensor(t)
    bcast(early, x), bcast(late, x)  # each is a number or one a sample
    if can_check(early) and can_check(late) and not (early < late).all():
        raise ValueError(f"s = {s} is not below t = {t}: give s, the cleaner time, below t")


def _require(fine: bool, message: str) -> None:
    if not fine:
        raise ValueError(message)


@dataclass(frozen=True)
class VP(Path):
    """Variance preserving, beta(t) linear: alpha = exp(-B/2), sigma^2 = 1 - exp(-B), B = int_0^t beta.

    Raises ValueError unless 0 < beta_min <= beta_max.   Source: Song et al. 2021, eq. 11.   Book: ch. 7
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        _require(
            0 < self.beta_min <= self.beta_max < math.inf,
            f"beta_min = {self.beta_min}, beta_max = {self.beta_max}: give 0 < beta_min <= beta_max",
        )

    def beta(self, t: Tensor) -> Tensor:
        """Rate of noising at t.   Book: ch. 7"""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def total(self, t: Tensor) -> Tensor:
        """B(t) = int_0^t beta.   Book: ch. 7"""
        return t * (self.beta_min + (self.beta_max - self.beta_min) / 2 * t)

    def coefs(self, t: Tensor) -> Coefs:
        beta, total = self.beta(t), self.total(t)
        alpha, sigma = torch.exp(-0.5 * total), torch.sqrt(-torch.expm1(-total))
        dalpha = -0.5 * beta * alpha
        return Coefs(alpha, sigma, dalpha, -alpha * dalpha / sigma)

    def t_of(self, lam: Tensor) -> Tensor:
        return self._t_of_total(-F.logsigmoid(2 * as_tensor(lam)))

    def _t_of_total(self, total: Tensor) -> Tensor:
        slope = self.beta_max - self.beta_min
        return 2 * total / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * total))


@dataclass(frozen=True)
class SubVP(VP):
    """Below VP in variance: alpha = exp(-B/2), sigma = 1 - exp(-B).

    Source: Song et al. 2021, eq. 12.   Book: ch. 7
    """

    def coefs(self, t: Tensor) -> Coefs:
        beta, total = self.beta(t), self.total(t)
        alpha, sigma = torch.exp(-total / 2), -torch.expm1(-total)
        return Coefs(alpha, sigma, -beta / 2 * alpha, beta * alpha**2)

    def t_of(self, lam: Tensor) -> Tensor:
        return self._t_of_total(2 * torch.asinh(torch.exp(-as_tensor(lam)) / 2))


@dataclass(frozen=True)
class Cosine(Path):
    """A quarter circle: alpha = cos(pi t/2), sigma = sin(pi t/2); alpha(1) is exactly 0.

    Source: Nichol & Dhariwal 2021, eq. 17, without its offset s and its clipping.   Book: ch. 7
    """

    def coefs(self, t: Tensor) -> Coefs:
        half = math.pi / 2
        alpha, sigma = torch.sin(half * (1 - t)), torch.sin(half * t)
        return Coefs(alpha, sigma, -half * sigma, half * alpha)

    def t_of(self, lam: Tensor) -> Tensor:
        return torch.atan(torch.exp(-as_tensor(lam))) / (math.pi / 2)


@dataclass(frozen=True)
class VE(Path):
    """Variance exploding: alpha = 1, sigma = sigma_min (sigma_max/sigma_min)^t; t = 0 is sigma_min, not clean data.

    Raises ValueError unless 0 < sigma_min < sigma_max.   Source: Song et al. 2021, eq. 9, app. C.   Book: ch. 7
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        _require(
            0 < self.sigma_min < self.sigma_max < math.inf,
            f"sigma_min = {self.sigma_min}, sigma_max = {self.sigma_max}: give 0 < sigma_min < sigma_max",
        )

    def coefs(self, t: Tensor) -> Coefs:
        rate = math.log(self.sigma_max / self.sigma_min)
        sigma = self.sigma_min * torch.exp(rate * t)
        return Coefs(torch.ones_like(t), sigma, torch.zeros_like(t), rate * sigma)

    def t_of(self, lam: Tensor) -> Tensor:
        return (-as_tensor(lam) - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class EDM(Path):
    """Noise itself as the clock: alpha = 1, sigma = sigma_max t.

    Raises ValueError unless sigma_max > 0.   Source: Karras et al. 2022, Table 1.   Book: ch. 7
    """

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _require(0 < self.sigma_max < math.inf, f"sigma_max = {self.sigma_max}: give a positive number")

    def coefs(self, t: Tensor) -> Coefs:
        return Coefs(torch.ones_like(t), self.sigma_max * t, torch.zeros_like(t), torch.full_like(t, self.sigma_max))

    def t_of(self, lam: Tensor) -> Tensor:
        return torch.exp(-as_tensor(lam)) / self.sigma_max


@dataclass(frozen=True)
class RectifiedFlow(Path):
    """A straight line: alpha = 1 - t, sigma = t. Flow papers run the clock the other way, tau = 1 - t.

    Source: Liu et al. 2022; Lipman et al. 2022, eq. 20 to 22 with sigma_min = 0.   Book: ch. 7
    """

    def coefs(self, t: Tensor) -> Coefs:
        return Coefs(1 - t, t, torch.full_like(t, -1), torch.ones_like(t))

    def t_of(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-as_tensor(lam))


def linear_betas(n: int = 1000, *, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """DDPM's variances of the n noising steps, beta_1 to beta_n evenly spaced; (n,), float64.

    Source: Ho et al. 2020, sec. 4.   Book: ch. 7
    """
    return torch.linspace(start, end, n, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class BetaTable(Path):
    """Discrete DDPM: alpha^2 = abar_i = prod_{j<=i} (1 - beta_j), sigma^2 = 1 - abar_i at t = i/T.

    Between two steps log abar is linear in t; at t = i/T the derivative is that of step i.
    betas: (T,), each in (0, 1).

    Raises ValueError when a beta lies outside (0, 1).   Source: Ho et al. 2020, eq. 4.   Book: ch. 7
    """

    betas: Tensor
    log_abar: Tensor = field(init=False)  # (T+1,), float64: log abar_0 = 0 to log abar_T

    def __post_init__(self) -> None:
        betas = torch.as_tensor(self.betas, dtype=torch.float64)
        _require(betas.ndim == 1 and len(betas) > 0, f"betas has shape {tuple(betas.shape)}: give shape (T,)")
        fine = (betas > 0) & (betas < 1)
        if not fine.all():
            raise ValueError(f"betas holds {_first(betas, fine)}: each must be a variance in (0, 1)")
        object.__setattr__(self, "betas", betas)
        object.__setattr__(self, "log_abar", F.pad(torch.log1p(-betas).cumsum(0), (1, 0)))

    def coefs(self, t: Tensor) -> Coefs:
        table, steps = self.log_abar.to(t), len(self.betas)
        rounding = torch.finfo(t.dtype).eps * steps  # t = i/T as computed may lie above the true i/T
        i = torch.ceil(t * steps - rounding).long().clamp(1, steps)  # the step that ends at or after t
        slope = torch.log1p(-self.betas).to(t)[i - 1] * steps
        log_abar = table[i] + slope * (t - i.to(t) / steps)
        alpha, sigma = torch.exp(log_abar / 2), torch.sqrt(-torch.expm1(log_abar))
        return Coefs(alpha, sigma, slope / 2 * alpha, -slope / 2 * alpha**2 / sigma)

    def t_of(self, lam: Tensor) -> Tensor:
        lam = as_tensor(lam)
        table, steps = self.log_abar.to(lam), len(self.betas)
        log_abar = F.logsigmoid(2 * lam)
        i = torch.searchsorted(-table, -log_abar.contiguous()).clamp(1, steps)
        return (i - (log_abar - table[i]) / (table[i - 1] - table[i])) / steps


def transition(path: Path, t: Time, s: Time, x: Tensor) -> tuple[Tensor, Tensor]:
    """The step from s to the noisier t: q(x_t | x_s) = N(alpha_ts x_s, var_ts I), padded against x.

    alpha_ts = alpha_t/alpha_s,  var_ts = sigma_t^2 - alpha_ts^2 sigma_s^2 = -sigma_t^2 expm1(2 (lam_t - lam_s)).
    The last form is positive exactly when lam falls, and holds where alpha_t = 0 or sigma_s = 0.

    Raises ValueError unless s < t.   Source: Kingma et al. 2021 (VDM), app. A.1.   Book: ch. 7
    """
    check_falls(t, s, x)
    ct, cs = path.coefs(_time(t)), path.coefs(_time(s))
    fall = _lam(ct) - _lam(cs)
    var_ts = -(ct.sigma**2) * torch.expm1(2 * fall)
    return bcast(ct.alpha / cs.alpha, x), bcast(var_ts, x)


def posterior(path: Path, x0: Tensor, xt: Tensor, t: Time, s: Time) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t, x0) for any s < t.

    mean = (alpha_ts sigma_s^2 x_t + alpha_s var_ts x0) / sigma_t^2,  var = var_ts sigma_s^2 / sigma_t^2.

    x0, xt: (B, *shape). Returns the mean (B, *shape) and the variance, padded against x.

    Raises ValueError unless s < t and x0 has the shape of xt.   Source: Ho et al. 2020, eq. 6 and 7.   Book: ch. 8
    """
    if x0.shape != xt.shape:
        raise ValueError(f"x0 has shape {tuple(x0.shape)}: give it the shape of xt, {tuple(xt.shape)}")
    alpha_ts, var_ts = transition(path, t, s, xt)
    ct, cs = path.at(t, xt), path.at(s, xt)
    mean = (alpha_ts * cs.sigma**2 * xt + cs.alpha * var_ts * x0) / ct.sigma**2
    return mean, var_ts * cs.sigma**2 / ct.sigma**2
