"""A prediction kind is a row (a, b) of y = a x0 + b eps; with x_t it is a 2x2 system.

One `encode` and one `decode` replace every conversion between x0, eps, score, v, velocity and EDM's F.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from .paths import Coefs, Path, all_finite, bcast, can_check

__all__ = [
    "ROWS",
    "DenoiseFn",
    "Denoiser",
    "Estimate",
    "Kind",
    "Preconditioned",
    "Row",
    "call_net",
    "decode",
    "determinant",
    "edm",
    "encode",
]

Row = Callable[[Coefs], tuple[Tensor, Tensor]]
Kind = Literal["x0", "eps", "score", "v", "velocity", "edm"] | Row


class Estimate(NamedTuple):
    """What a denoiser believes of x_t: the pair with x_t = alpha x0 + sigma eps.   Book: ch. 8"""

    x0: Tensor
    eps: Tensor


DenoiseFn = Callable[[Tensor, float | Tensor], Estimate]


def edm(sigma_data: float) -> Row:
    """EDM's output F as a row: a = sigma/(sd q), b = -sd alpha/q, q = sqrt(sigma^2 + sd^2 alpha^2).

    For data of standard deviation sd, F has unit variance at every t.

    Raises ValueError unless sigma_data > 0.   Source: Karras et al. 2022, eq. 7, Table 1.   Book: ch. 8
    """
    if not sigma_data > 0:
        raise ValueError(f"sigma_data = {sigma_data}: give the data's standard deviation, a positive number")

    def row(c: Coefs) -> tuple[Tensor, Tensor]:
        q = torch.sqrt(c.sigma**2 + (sigma_data * c.alpha) ** 2)
        return c.sigma / (sigma_data * q), -sigma_data * c.alpha / q

    return row


ROWS: dict[str, Row] = {
    "x0": lambda c: (torch.ones_like(c.alpha), torch.zeros_like(c.alpha)),
    "eps": lambda c: (torch.zeros_like(c.alpha), torch.ones_like(c.alpha)),
    "score": lambda c: (torch.zeros_like(c.alpha), -1 / c.sigma),
    "v": lambda c: (-c.sigma, c.alpha),
    "velocity": lambda c: (c.dalpha, c.dsigma),
    "edm": edm(0.5),
}


def _row(kind: Kind, c: Coefs) -> tuple[Tensor, Tensor]:
    if callable(kind):
        return kind(c)
    if kind not in ROWS:
        raise ValueError(f"kind = {kind!r} is unknown: give one of {', '.join(ROWS)} or a function Coefs -> (a, b)")
    return ROWS[kind](c)


def determinant(c: Coefs, kind: Kind) -> Tensor:
    """det = alpha b - sigma a of the system that `decode` solves; 0 where the kind says nothing new.

    It also gives the loss weights: an error in one kind is det/det' times that in another.   Book: ch. 8
    """
    a, b = _row(kind, c)
    return c.alpha * b - c.sigma * a


def encode(e: Estimate, c: Coefs, kind: Kind) -> Tensor:
    """y = a x0 + b eps, the estimate in the given kind.

    e: two tensors (B, *shape); c from `path.at(t, x)`. Returns (B, *shape).

    Raises ValueError for an unknown kind, and where it is infinite (the score at sigma = 0).
    Source: Salimans & Ho 2022, sec. 4 and app. D.   Book: ch. 8
    """
    a, b = _row(kind, c)
    if can_check(b) and not all_finite(a + b):
        raise ValueError(f"kind = {kind!r} is infinite where sigma = 0: choose another kind, or keep t above 0")
    return a * e.x0 + b * e.eps


def decode(y: Tensor, xt: Tensor, c: Coefs, kind: Kind) -> Estimate:
    """Solve [alpha sigma; a b] (x0, eps) = (x_t, y) for the pair.

    y, xt: (B, *shape); c from `path.at(t, xt)`. Returns two tensors (B, *shape).

    Raises ValueError for an unknown kind, and where its determinant is 0 or not finite.
    Source: Salimans & Ho 2022, sec. 4 and app. D.   Book: ch. 8
    """
    if y.shape != xt.shape:
        raise ValueError(f"y has shape {tuple(y.shape)}: give it the shape of xt, {tuple(xt.shape)}")
    a, b = _row(kind, c)
    det = c.alpha * b - c.sigma * a
    if can_check(det) and not ((det != 0) & det.isfinite()).all():
        raise ValueError(
            f"kind = {kind!r} does not determine x0 and eps where alpha = {c.alpha.min().item():.3g}, "
            f"sigma = {c.sigma.min().item():.3g}: choose another kind, or keep t away from that end"
        )
    return Estimate((b * xt - c.sigma * y) / det, (c.alpha * y - a * xt) / det)


def call_net(net: Callable[..., Tensor], x: Tensor, t: float | Tensor, cond: Tensor | None = None) -> Tensor:
    """Call a network: net(x, t) or net(x, t, cond), with t of shape (B,) in the dtype of x.

    x: (B, *shape). Returns (B, *shape).

    Raises ValueError when t or the output has the wrong shape.   Book: ch. 8
    """
    times = t if isinstance(t, Tensor) and t.shape == x.shape[:1] else bcast(t, x).expand(len(x))
    times = times.to(x)
    y = net(x, times) if cond is None else net(x, times, cond)
    if y.shape != x.shape:
        raise ValueError(f"net returned shape {tuple(y.shape)}: it must return the shape of x, {tuple(x.shape)}")
    return y


@dataclass(frozen=True)
class Denoiser:
    """A denoiser (x, t) -> Estimate around a network that predicts the given kind on the given path.   Book: ch. 8"""

    net: Callable[..., Tensor]
    path: Path
    kind: Kind = "eps"
    cond: Tensor | None = None

    def __call__(self, x: Tensor, t: float | Tensor) -> Estimate:
        return decode(call_net(self.net, x, t, self.cond), x, self.path.at(t, x), self.kind)

    def read(self, x: Tensor, t: float | Tensor, kind: Kind) -> Tensor:
        """The estimate in another kind, for example read(x, t, "score"); (B, *shape).   Book: ch. 8"""
        return encode(self(x, t), self.path.at(t, x), kind)


class Preconditioned(nn.Module):
    """A network whose input has unit variance and whose time is the log noise: net(x / q, log(sigma/alpha) / 4).

    q = sqrt(sigma^2 + sd^2 alpha^2). With kind="edm" or edm(sd) the target has unit variance too.

    Raises ValueError unless sigma_data > 0; t must lie where alpha > 0 and sigma > 0.
    Source: Karras et al. 2022, eq. 7, Table 1.   Book: ch. 8
    """

    def __init__(self, net: nn.Module, path: Path, sigma_data: float) -> None:
        super().__init__()
        if not sigma_data > 0:
            raise ValueError(f"sigma_data = {sigma_data}: give the data's standard deviation, a positive number")
        self.net, self.path, self.sigma_data = net, path, sigma_data

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        c = self.path.at(t, x)
        scaled = x / torch.sqrt(c.sigma**2 + (self.sigma_data * c.alpha) ** 2)
        return call_net(self.net, scaled, -self.path.lam(t) / 4, cond)
