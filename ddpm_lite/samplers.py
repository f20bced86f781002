"""A sampler is a step (den, path, x, t, s) -> x_s from t to the cleaner s, folded over falling times."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .mcmc import langevin
from .paths import Coefs, Path, Time, as_tensor, bcast, can_check, check_falls, posterior, transition
from .predict import DenoiseFn, edm, encode
from .rng import randn_like

__all__ = [
    "AngleScales",
    "Step",
    "adams",
    "ancestral_step",
    "angle_scales",
    "angle_ts",
    "annealed_langevin",
    "ddim_step",
    "dpmpp_2m",
    "dpmpp_3m",
    "em_step",
    "euler_step",
    "heun_step",
    "iterate",
    "karras_ts",
    "langevin_corrector",
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
    den: DenoiseFn,
    path: Path,
    x: Tensor,
    t: Time,
    s: Time,
    *,
    eta: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Euler-Maruyama on the reverse SDE: x_s = x + (s - t) (f x - (1 + eta^2)/2 g^2 score) + eta g sqrt(t - s) z.

    Every eta >= 0 has the same marginals in the limit of short steps: 1 is the reversal of the forward SDE, 0 the
    probability-flow ODE and `euler_step`. Weak order 1.

    x: (B, *shape). Returns (B, *shape).

    Raises ValueError where alpha = 0, start at t_max < 1, unless s < t, and for a negative eta.
    Source: Anderson 1982; Song et al. 2021 (Score-SDE), eq. 6; Karras et al. 2022, eq. 6.   Book: ch. 10
    """
    if not 0 <= eta < math.inf:
        raise ValueError(f"eta = {eta}: give 0 (the ODE), 1 (the reversal of the forward SDE) or another number >= 0")
    check_falls(t, s, x)
    score = encode(den(x, t), path.at(t, x), "score")
    f, g2, h = path.drift(t, x), path.g2(t, x), bcast(t, x) - bcast(s, x)
    mean = x - h * (f * x - (1 + eta**2) / 2 * g2 * score)
    return mean + eta * (g2 * h).sqrt() * randn_like(x, generator=generator)


def pc(predict: Step, correct: Callable[..., Tensor]) -> Step:
    """Predictor-corrector: a step, then correct(den, path, x, s) at the new level, but not at t = 0.

    Returns a step, which raises ValueError when s is 0 for some samples only.
    Source: Song et al. 2021 (Score-SDE), alg. 1.   Book: ch. 10
    """

    def step(den: DenoiseFn, path: Path, x: Tensor, t: Time, s: Time, **kw: torch.Generator | None) -> Tensor:
        x = predict(den, path, x, t, s, **kw)
        return x if _lands(s) else correct(den, path, x, s, **kw)

    return step


def langevin_corrector(
    den: DenoiseFn,
    path: Path,
    x: Tensor,
    t: Time,
    *,
    snr: float = 0.16,
    n: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The corrector of `pc`: n Langevin steps on p_t, x <- x + h score + sqrt(2h) z,  h = 2 (snr |z|/|score|)^2.

    |z| and |score| are means over the batch, as in the authors' code, so a sample depends on its batch; the code's
    further factor 1 - beta_i for VP, .98 to 1, is left out. Biased: on N(0, v I), with large batches, the variance
    tends to (1 + snr^2) v, 2.6% too large at .16.

    x: (B, *shape), where sigma_t > 0. Returns (B, *shape).

    Raises ValueError unless snr > 0 and n >= 1, and where sigma = 0.
    Source: Song et al. 2021 (Score-SDE), app. G and the authors' code.   Book: ch. 10
    """
    if not snr > 0:
        raise ValueError(f"snr = {snr}: give a positive number, such as the paper's 0.16")
    for _ in range(_steps(n)):
        score, z = _score(den, path, t, x), randn_like(x, generator=generator)
        step = 2 * (snr * _mean_norm(z) / _mean_norm(score)) ** 2
        x = x + step * score + (2 * step).sqrt() * z
    return x


def _score(den: DenoiseFn, path: Path, t: Time, x: Tensor) -> Tensor:
    return encode(den(x, t), path.at(t, x), "score")


def _mean_norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).mean()


def annealed_langevin(
    den: DenoiseFn,
    path: Path,
    x: Tensor,
    ts: Tensor,
    *,
    n: int,
    step: Callable[[Coefs], Tensor | float],
    generator: torch.Generator | None = None,
) -> Tensor:
    """Annealed Langevin dynamics: n steps of `langevin` on p_t at every t of ts, each level from where the last ended.

    x <- x + h score(x, t) + sqrt(2h) z,  h = step(coefficients at t). NCSN on `VE` has step=lambda c: eps * c.sigma**2
    / sigma_min**2, with half the eps of its paper. Ends on p_t of the last t, whose noise `den(x, ts[-1]).x0` removes.
    Biased at each level as `langevin` is, and the masses of modes are those where the chain could last cross: on
    .2 N(-4, 1) + .8 N(4, 1) the heavier gets .790 by 40 levels of 50 steps, against .523 by 1,000 steps on p itself.

    x: (B, *shape); ts: (levels,), strictly decreasing in [0, 1], sigma > 0 at its end. Returns (B, *shape), detached.

    Raises ValueError for another ts, for n < 1 and for a step that is not positive.
    Source: Song & Ermon 2019 (NCSN), alg. 1.   Book: ch. 6
    """
    cleanest = path.coefs(_grid(ts)[-1]).sigma
    if can_check(cleanest) and not cleanest > 0:
        raise ValueError(f"ts ends at {ts[-1]}, where sigma = 0 and no score is defined: end above it, t_min > 0")
    with torch.no_grad():
        for t in ts:
            x = langevin(partial(_score, den, path, t), x, step=float(step(path.at(t, x))), n=n, generator=generator)
    return x


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


def dpmpp_3m(den: DenoiseFn, path: Path, x: Tensor, ts: Tensor) -> Iterator[Tensor]:
    """DPM-Solver++(3M): yields x at every time of ts. Order 3, one evaluation a step.

    x_s = (sigma_s/sigma_t) x + alpha_s int_0^h exp(u - h) P(u) du,  h = lam_s - lam_t,  where P is the parabola
    through the last three x0, in lam. The first step uses x0 alone, the second a line, a step to sigma = 0 x0 alone.
    The authors' code, diffusers and k-diffusion halve the parabola's bend: those are of order 2.

    x: (B, *shape); ts: (n+1,), strictly decreasing.

    Raises ValueError for a grid that does not strictly decrease.
    Source: Lu et al. 2022 (DPM-Solver++), sec. 4.   Book: ch. 9
    """
    steps = pairwise(_grid(ts))
    past: list[tuple[Tensor, Tensor]] = []  # (lam, x0), newest first
    yield x
    for t, s in steps:
        ct, cs = path.at(t, x), path.at(s, x)
        past = [(path.lam(t), den(x, t).x0), *past[:2]]
        mean = _parabola(path.lam(s), past) if cs.sigma > 0 else past[0][1]
        x = cs.sigma / ct.sigma * x + cs.alpha * mean
        yield x


def _parabola(lam_s: Tensor, past: list[tuple[Tensor, Tensor]]) -> Tensor:
    """int_0^h exp(u - h) P(u) du for P = x0 + slope u/h + bend (u/h)^2 through up to three values."""
    (lam, x0), *before = past
    h = lam_s - lam
    p0 = -torch.expm1(-h)
    p1 = 1 - p0 / h
    p2 = 1 - 2 * p1 / h
    if not before:
        return p0 * x0
    r0 = (lam - before[0][0]) / h
    slope = (x0 - before[0][1]) / r0
    if len(before) == 1:
        return p0 * x0 + p1 * slope
    r1 = (before[0][0] - before[1][0]) / h
    bend = (slope - (before[0][1] - before[1][1]) / r1) / (r0 + r1)
    return p0 * x0 + p1 * (slope + r0 * bend) + p2 * bend


def adams(
    den: DenoiseFn, path: Path, x: Tensor, ts: Tensor, *, data_std: float = 1.0, order: int = 5
) -> Iterator[Tensor]:
    """Adams-Bashforth in the angle, the package's default sampler: yields x at every time of ts; one evaluation a step.

    phi = atan(sigma / (sd alpha)),  q = sqrt(sigma^2 + sd^2 alpha^2):  d(x/q)/dphi = -F, where F is EDM's output,
    `edm(sd)`. It is 0 for centred Gaussian data of standard deviation sd, and small and smooth for other data. The
    polynomial through the last `order` values of F is integrated exactly over the step. Only ratios sigma/alpha
    enter, so every path gives the same samples. Order 4 on `angle_ts`, whose short first steps make up for the
    missing past. A data_std half or twice the right one costs a factor of about 3 in the error: take it from
    `angle_scales`.

    A network that predicts eps leaves F an error that grows like sigma/alpha, which the polynomial carries on: start
    at sigma/alpha = 5 data_std, angle_ts(..., t_max=path.t_of(-log(5 data_std))). A learned v gains by
    it too; F and x0 need no such care.

    x: (B, *shape); ts: (n+1,), strictly decreasing; may start at alpha = 0 and end at sigma = 0.

    Raises ValueError for a grid that does not strictly decrease, and unless data_std > 0 and order >= 1.
    Source: Karras et al. 2022, Table 1, for F; Hairer, Norsett and Wanner, "Solving ODEs I", III.5.   Book: ch. 9
    """
    if order < 1:
        raise ValueError(f"order = {order}: give the number of values that a step uses, at least 1")
    row, c = edm(data_std), path.coefs(_grid(ts).double())
    angle = torch.atan2(c.sigma, data_std * c.alpha).tolist()
    scale = torch.hypot(c.sigma, data_std * c.alpha).tolist()
    past: list[Tensor] = []
    yield x
    for i, t in enumerate(ts[:-1]):
        past = [*past, encode(den(x, t), path.at(t, x), row)][-order:]
        weights = _integral_weights(angle[i + 1 - len(past) : i + 1], angle[i + 1])
        change = sum(w * slope for w, slope in zip(weights, past, strict=True))
        x = scale[i + 1] * (x / scale[i] - change)
        yield x


def _integral_weights(nodes: list[float], end: float) -> list[float]:
    """Weights of the values at the nodes in the integral, from the last node to end, of the polynomial through them."""
    h = end - nodes[-1]
    z = (torch.tensor(nodes, dtype=torch.float64) - nodes[-1]) / h
    power = torch.arange(len(nodes), dtype=torch.float64)[:, None]
    return (h * torch.linalg.solve(z**power, 1 / (power + 1))[:, 0]).tolist()


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


class AngleScales(NamedTuple):
    """Two lengths of a data set, for `adams` (data_std) and `angle_ts` (middle).   Book: ch. 9"""

    data_std: float
    middle: float


def angle_scales(x0: Tensor) -> AngleScales:
    """The scales of a data set: data_std = .85 sqrt(tr C^2 / tr C),  middle = .42 D^(1/4) sqrt(tr C / D).

    C is the covariance. data_std is near the standard deviation along the directions that hold most of the variance;
    for isotropic data it is .85 of the common one. middle is the sigma/alpha at which samples choose among the parts
    of the data; it grows slowly with the dimension. The factors and the power 1/4 were fitted to 18 mixtures in 2 to
    55 dimensions.

    x0: (N, *shape), N at least 2; a few thousand samples are enough.

    Raises ValueError for fewer samples or where all are equal.   Book: ch. 9
    """
    x = x0.flatten(1).double()
    if len(x) < 2 or not (x != x[0]).any():
        raise ValueError(f"x0 has shape {tuple(x0.shape)} and {len(x.unique(dim=0))} distinct samples: give 2 or more")
    x = (x - x.mean(0)) / len(x) ** 0.5
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
    total = gram.trace()
    middle = 0.42 * x.shape[1] ** 0.25 * (total / x.shape[1]).sqrt()
    return AngleScales(0.85 * (gram.square().sum() / total).sqrt().item(), middle.item())


def angle_ts(path: Path, n: int, *, middle: float = 0.5, t_max: float = 1.0, t_min: float = 0.0) -> Tensor:
    """n steps graded at both ends in the angle psi = atan((sigma/alpha)/middle); (n+1,), float64, strictly decreasing.

    psi = psi_min + (psi_max - psi_min) u^2 (3 - 2u) with u even from 1 to 0: half the steps lie above
    sigma/alpha = middle when the ends are 0 and infinity. Short steps at the noisy end let `adams` start at a low
    order without loss; short steps at the clean end resolve the finest parts of the data.

    Raises ValueError unless middle > 0, n >= 1 and 0 <= t_min < t_max <= 1.   Book: ch. 9
    """
    if not 0 < middle < math.inf:
        raise ValueError(f"middle = {middle}: give a positive ratio sigma/alpha, such as angle_scales(x0).middle")
    ts = linear_ts(n, t_max=t_max, t_min=t_min)
    c = path.coefs(ts[[0, -1]])
    psi_max, psi_min = torch.atan2(c.sigma, middle * c.alpha)
    u = torch.linspace(1, 0, n + 1, dtype=torch.float64)
    psi = psi_min + (psi_max - psi_min) * u**2 * (3 - 2 * u)
    ts[1:-1] = path.t_of(-torch.log(middle * torch.tan(psi[1:-1])))
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
