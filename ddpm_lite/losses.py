"""One regression for denoising score matching, NCSN, DDPM, v-prediction, EDM and flow matching."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .paths import Path, all_finite, as_tensor, can_check
from .predict import Estimate, Kind, call_net, determinant, encode
from .rng import randn_like, uniform_t

__all__ = [
    "discrete_t",
    "elbo_weight",
    "lognormal_t",
    "matching_loss",
    "reweight",
    "stratified_t",
]

Times = Callable[..., Tensor]  # times(n, *, generator, dtype, device) -> (n,)
Weight = Callable[[Tensor], Tensor]  # t (B,) -> (B,)


def matching_loss(
    net: Callable[..., Tensor],
    path: Path,
    x0: Tensor,
    *,
    kind: Kind = "eps",
    t: float | Tensor | None = None,
    x1: Tensor | None = None,
    weight: Weight | None = None,
    times: Times = uniform_t,
    cond: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Squared error of a network that predicts the given kind, at random t and noise.

    L = w(t) mean_d (net(x_t, t) - y)^2,  x_t = alpha x0 + sigma x1,  y = a x0 + b x1.

    x0, x1: (B, *shape); t: a number or (B,). Returns (B,): take .mean(). The mean is over dimensions.
    DDPM's L_simple is kind="eps" on `BetaTable`; NCSN is `VE`, EDM kind="edm" on `EDM`, flow matching
    kind="velocity" on `RectifiedFlow`.

    Raises ValueError when x0 holds a number that is not finite, or the shape of x0, x1, t, weight or net is wrong.
    Source: Ho et al. 2020, eq. 14; Vincent 2011; Lipman et al. 2022, eq. 9.   Book: ch. 8
    """
    if x0.ndim < 2:
        raise ValueError(f"x0 has shape {tuple(x0.shape)}: give (B, *shape), one axis at least beside the batch")
    if can_check(x0) and not all_finite(x0):
        raise ValueError("x0 holds a number that is not finite: remove it from the data")
    if t is None:
        t = times(len(x0), generator=generator, dtype=x0.dtype, device=x0.device)
    if x1 is None:
        x1 = randn_like(x0, generator=generator)
    if x1.shape != x0.shape:
        raise ValueError(f"x1 has shape {tuple(x1.shape)}: give it the shape of x0, {tuple(x0.shape)}")
    c = path.at(t, x0)
    xt = c.alpha * x0 + c.sigma * x1
    target = encode(Estimate(x0, x1), c, kind)
    error = (call_net(net, xt, t, cond) - target).square().flatten(1).mean(1)
    if weight is None:
        return error
    w = weight(as_tensor(t).to(error).expand(len(x0)))
    if w.shape != error.shape:
        raise ValueError(f"weight returned shape {tuple(w.shape)}: it must return {tuple(error.shape)}, one a sample")
    return w * error


def reweight(path: Path, kind: Kind, to: Kind) -> Weight:
    """The weight that turns the loss of one kind into the loss of another: w(t) = (det_to / det_kind)^2.

    reweight(path, "score", "eps") is NCSN's sigma^2; reweight(path, "x0", "edm") is EDM's lambda(sigma).

    Returns a function of t, (B,) -> (B,).   Source: Salimans & Ho 2022, sec. 4; Karras et al. 2022, eq. 8.
    Book: ch. 8
    """

    def weight(t: Tensor) -> Tensor:
        c = path.coefs(t)
        return (determinant(c, to) / determinant(c, kind)) ** 2

    return weight


def elbo_weight(path: Path) -> Weight:
    """The weight of the eps loss in the bound on -log p: w(t) = -lam'(t), per dimension and for t uniform on (0, 1].

    L_T + D E[w(t) mean_d |eps - eps_hat|^2] bounds -log p(x0) as the steps become infinitely small (without L_0).

    Returns a function of t, (B,) -> (B,).
    Source: Kingma et al. 2021 (VDM), the continuous-time loss (its lam is twice ours).   Book: ch. 8
    """

    def weight(t: Tensor) -> Tensor:
        c = path.coefs(t)
        return c.dsigma / c.sigma - c.dalpha / c.alpha

    return weight


def stratified_t(
    n: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Evenly spread times with one common random shift: t_i = 1 - ((u + i/n) mod 1), each uniform on (0, 1].

    Returns (n,).   Source: Kingma et al. 2021 (VDM), app. I.1.   Book: ch. 8
    """
    shift = 1 - uniform_t(1, generator=generator, dtype=dtype, device=device)
    return 1 - (shift + torch.arange(n, dtype=shift.dtype, device=shift.device) / n) % 1


def discrete_t(steps: int) -> Times:
    """DDPM's times, uniform on i/T for i = 1 to T.

    Raises ValueError unless steps >= 1.   Source: Ho et al. 2020, alg. 1.   Book: ch. 8
    """
    if steps < 1:
        raise ValueError(f"steps = {steps}: give the number of noising steps, at least 1")

    def times(
        n: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        source = device if generator is None else generator.device
        i = torch.randint(1, steps + 1, (n,), generator=generator, device=source)
        return (i.to(dtype or torch.get_default_dtype()) / steps).to(device or source)

    return times


def lognormal_t(path: Path, *, mean: float = -1.2, std: float = 1.2) -> Times:
    """EDM's times: log(sigma/alpha) ~ N(mean, std^2), as the path's t; beyond the path's noisiest level, that level.

    Raises ValueError unless std > 0.   Source: Karras et al. 2022, Table 1.   Book: ch. 8
    """
    if not 0 < std < math.inf:
        raise ValueError(f"std = {std}: give a positive number")

    def times(
        n: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        source = device if generator is None else generator.device
        z = torch.randn(n, generator=generator, dtype=dtype, device=source)
        lam = torch.clamp(-(mean + std * z), path.lam(1.0).item(), path.lam(0.0).item())
        return path.t_of(lam).clamp(0, 1).to(device or source)

    return times
