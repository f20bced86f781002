"""Log-likelihoods, by the probability-flow ODE and by the variational bound, and their units."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .ode import rk4_step
from .paths import Coefs, Path, can_check
from .predict import DenoiseFn
from .rng import randn_like

__all__ = ["bits_per_dim", "dequantise", "divergence", "ode_log_prob", "vlb"]

# Gauss and Lobatto's rule on [0, 1]: five nodes, both ends among them, exact for polynomials up to degree 7
NODES = (0.0, 0.5 - math.sqrt(3 / 28), 0.5, 0.5 + math.sqrt(3 / 28), 1.0)
WEIGHTS = (1 / 20, 49 / 180, 16 / 45, 49 / 180, 1 / 20)


def divergence(f: Callable[[Tensor], Tensor], x: Tensor, *, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """f(x) and its divergence tr(df/dx): the exact trace, or Hutchinson's v^T (df/dx) v when a probe v is given.

    The trace takes a backward pass for each of the D numbers of a sample, a probe takes one. Hutchinson's is unbiased
    where E v v^T = I; with S the symmetric part of df/dx its variance is 2 |S|_F^2 for Gaussian v and
    2 sum_{i != j} S_ij^2 for random signs.

    f: (B, *shape) -> (B, *shape), each sample by itself. probe: (B, *shape), or (P, B, *shape), averaged over P.
    Returns f(x) and (B,), both differentiable unless under torch.no_grad().

    Raises ValueError when the probe has another shape, or f(x) does not depend on x through autograd.
    Source: Hutchinson 1989; Grathwohl et al. 2019 (FFJORD).   Book: ch. 11
    """
    if probe is not None and x.shape not in (probe.shape, probe.shape[1:]):
        raise ValueError(f"probe has shape {tuple(probe.shape)}: give that of x, {tuple(x.shape)}, or several stacked")
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if graph and x.requires_grad else x.detach().requires_grad_()
        y = f(x)
        if not y.requires_grad:
            raise ValueError("f(x) does not depend on x through autograd: remove torch.no_grad() or detach() inside f")

        def pull(v: Tensor) -> Tensor:  # v^T (df/dx), (B, D)
            return torch.autograd.grad(y, x, v, retain_graph=True, create_graph=graph)[0].flatten(1)

        if probe is None:
            div = torch.stack([pull(_unit(d, x))[:, d] for d in range(x[0].numel())]).sum(0)
        else:
            div = torch.stack([(pull(v) * v.flatten(1)).sum(1) for v in probe.reshape(-1, *x.shape)]).mean(0)
    return (y, div) if graph else (y.detach(), div)


def _unit(d: int, x: Tensor) -> Tensor:
    """The unit vector of coordinate d, the same for every sample of x."""
    e = torch.zeros(x[0].numel(), dtype=x.dtype, device=x.device)
    e[d] = 1
    return e.reshape(x.shape[1:]).expand_as(x)


def ode_log_prob(
    den: DenoiseFn,
    path: Path,
    x: Tensor,
    ts: Tensor,
    *,
    prior: Callable[[Tensor], Tensor],
    probe: Tensor | None = None,
    data_std: float = 0.5,
) -> Tensor:
    """log p(x) at the level ts[0]: the probability-flow ODE to ts[-1] and the change of variables; (B,), nats.

    log p(x) = log prior(x_1) + int div u dt, solved for z = x / q by the angle phi; with sd = data_std
    tan phi = sigma / (sd alpha),  q = sqrt(sigma^2 + sd^2 alpha^2),  dz/dphi = cos(phi) eps - sin(phi) x0 / sd.
    This slope, minus EDM's F, is 0 for N(0, sd^2 I) and mild for other data; x for z adds D log(q_1 / q_0). Each
    interval of ts holds four Runge-Kutta steps, and the divergence, on which the flow does not depend, is integrated
    over their ends: 16 evaluations, 4 of them with `divergence`. Order 4, whatever data_std.

    x: (B, *shape), noised to ts[0], or clean where 1 - alpha and sigma^2 are negligible there; ts: (n+1,), strictly
    increasing in (0, 1], best even in atan(sigma / (s alpha)) with s between the std of the finest detail and that of
    all data: 9 to 13 intervals then leave 6e-6 nats on mixtures in the plane; prior: (B, *shape) -> (B,), log-density
    at ts[-1]; probe: see `divergence`, the same at every t, which leaves log p unbiased. Without gradients.

    Biased by the prior: N(0, sigma^2 I) in place of the data's own p_1 is off by .016 nats under `VP` and .047 under
    `VE`, one std out on .2 N(-4, 1) + .8 N(4, 1).

    Raises ValueError for another ts, unless data_std > 0, and when prior returns another shape.
    Source: Chen et al. 2018, theorem 1; Song et al. 2021 (Score-SDE), app. D.2.   Book: ch. 11
    """
    if not data_std > 0:
        raise ValueError(f"data_std = {data_std}: give a positive number")
    ts = _rising(ts).double()

    def slope(z: Tensor, phi: Tensor) -> Tensor:
        t = path.t_of(-(data_std * phi.tan()).log()).clamp(ts[0], ts[-1])
        e = den(_radius(path.coefs(t), data_std) * z, t)
        return phi.cos() * e.eps - phi.sin() / data_std * e.x0

    c = path.coefs(ts)
    q = _radius(c, data_std)
    phis, weights = _lobatto(torch.atan2(c.sigma, data_std * c.alpha))
    with torch.no_grad():
        z, log_det = x / q[0], x[0].numel() * (q[-1] / q[0]).log()
        for i, phi in enumerate(phis):
            k, div = divergence(partial(slope, phi=phi), z, probe=probe)
            log_det = log_det + weights[i] * div
            if i + 1 < len(phis):
                z = rk4_step(slope, z, phi, phis[i + 1], k)
        log_prior = prior(q[-1] * z)
    if log_prior.shape != x.shape[:1]:
        raise ValueError(f"prior returned shape {tuple(log_prior.shape)}: it must return ({len(x)},), one a sample")
    return log_prior + log_det


def _radius(c: Coefs, data_std: float) -> Tensor:
    return torch.sqrt(c.sigma**2 + (data_std * c.alpha) ** 2)


def _lobatto(ends: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the integral over the intervals between neighbouring ends; (4 n + 1,) each."""
    h = ends.diff()[:, None]
    nodes = ends[:-1, None] + h * ends.new_tensor(NODES)  # (n, 5), the last of each the first of the next
    parts = h * ends.new_tensor(WEIGHTS)
    weights = F.pad(parts[:, :-1].flatten(), (0, 1))
    weights[4::4] += parts[:, -1]
    return torch.cat([nodes[:, :-1].flatten(), ends[-1:]]), weights


def _rising(ts: Tensor) -> Tensor:
    if ts.ndim != 1 or len(ts) < 2:
        raise ValueError(f"ts has shape {tuple(ts.shape)}: give at least two times, shape (n+1,)")
    if can_check(ts) and not (ts.diff() > 0).all():
        i = int((~(ts.diff() > 0)).nonzero()[0])
        raise ValueError(
            f"ts must strictly increase, from data to noise: ts[{i}] = {ts[i]}, ts[{i + 1}] = {ts[i + 1]}; "
            "turn a sampler's grid round by ts.flip(0)"
        )
    if can_check(ts) and not (ts[0] > 0 and ts[-1] <= 1):
        raise ValueError(f"ts runs from {ts[0]} to {ts[-1]}: keep it in (0, 1], no field is defined at t = 0")
    return ts


def vlb(den: DenoiseFn, path: Path, x0: Tensor, ts: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """An upper bound on -log p(x0), L_T + sum L_{t-1} + L_0, with one draw of the noise for each term; (B,), nats.

    p draws x_T ~ N(0, sigma_T^2 I), goes down ts by `posterior` at the estimated x0, its variance included, and ends
    with the decoder N(x0_hat, I / SNR) at ts[0], a density. With square errors e_t = |x0 - x0_hat(x_t)|^2:
    L_T = SNR_T |x0|^2 / 2,  L_{t-1} = (SNR_s - SNR_t) e_t / 2,  L_0 = SNR_0 e_0 / 2 + (D/2) log(2 pi / SNR_0).

    The mean over the noise is the bound. With the exact denoiser its mean over data exceeds their entropy by a gap
    that falls as 1/n: .41 nats a dimension for N(0, I) under `VP` in 100 steps even in log-SNR from t = 1e-3, .039 in
    1000.

    x0: (B, *shape), data with a density (`dequantise`); ts: (n+1,), strictly increasing in (0, 1]: n + 1 evaluations.

    Raises ValueError for another ts.   Source: Ho et al. 2020, eq. 5; Kingma et al. 2021 (VDM).   Book: ch. 11
    """
    snr = torch.exp(2 * path.lam(_rising(ts)))
    weights = torch.cat([snr[:1], -snr.diff()])  # of L_0, then of each L_{t-1}
    total = snr[-1] / 2 * _square(x0) - x0[0].numel() / 2 * (snr[0] / (2 * math.pi)).log()
    for t, weight in zip(ts, weights, strict=True):
        xt = path.mix(x0, randn_like(x0, generator=generator), t)
        total = total + weight / 2 * _square(x0 - den(xt, t).x0)
    return total


def _square(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(1)


def dequantise(x: Tensor, levels: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Spread each value of discrete data over its own bin: 2 k/(levels - 1) - 1 becomes 2 (k + u)/levels - 1.

    u is uniform on [0, 1). A density on this copy, turned to bits by `bits_per_dim` with the same levels, bounds the
    bits of the data from above, and is equal to them where it is constant on each bin.

    x: (B, *shape), values even from -1 to 1: 17 levels for `digits`, 256 for photographs. Returns (B, *shape).

    Raises ValueError unless levels >= 2 and x holds those values alone.   Source: Theis et al. 2016, sec. 3.1.
    Book: ch. 11
    """
    _check_levels(levels)
    k = (x + 1) / 2 * (levels - 1)
    fine = ((k - k.round()).abs() < 0.01) & (k > -0.5) & (k < levels - 0.5)
    if can_check(x) and not fine.all():
        raise ValueError(f"x holds {x[~fine][0]:.6g}, none of the {levels} values 2 k/{levels - 1} - 1: check levels")
    source = x.device if generator is None else generator.device
    u = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=source).to(x.device)
    return 2 * (k.round() + u) / levels - 1


def bits_per_dim(nats: Tensor, shape: tuple[int, ...], *, levels: int) -> Tensor:
    """Bits a dimension of discrete data, from -log p in nats of its dequantised copy in [-1, 1].

    bits = nats / (D ln 2) + log2(levels / 2): a level is 2/levels wide, x = 2 (k + u)/levels - 1.

    nats: (B,), -log p(x); shape: of one sample, without B; levels: 256 for photographs, 17 for
    scikit-learn's digits. Returns (B,).

    Raises ValueError unless levels >= 2 and shape holds positive sizes.   Source: Theis et al. 2016, sec. 3.1.
    Book: ch. 1
    """
    _check_levels(levels)
    dimensions = math.prod(shape)
    if dimensions < 1:
        raise ValueError(f"shape = {shape}: give the sizes of one sample, without the batch")
    return nats / (dimensions * math.log(2)) + math.log2(levels / 2)


def _check_levels(levels: int) -> None:
    if levels < 2:
        raise ValueError(f"levels = {levels}: give the number of values a pixel can take, at least 2")
