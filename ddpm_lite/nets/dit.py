"""A diffusion transformer: patches as tokens, time and class in every normalisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention, silu

from .embed import ClassEmbedding, Sinusoidal, check_time

__all__ = ["DiT", "DiTConfig"]


@dataclass(frozen=True)
class DiTConfig:
    """The sizes of a `DiT`.

    An image is cut into patch x patch squares, one token each, of `width` numbers; `depth` blocks with heads of
    width / heads numbers. classes: 0 for none. dropout: the probability inside the blocks. The default has
    2,815,684 parameters.
    Raises ValueError for a width that 4 or heads do not divide, and for numbers out of range.
    """

    channels: int = 1
    patch: int = 2
    width: int = 192
    depth: int = 4
    heads: int = 6
    classes: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if min(self.channels, self.patch, self.width, self.depth, self.heads) < 1:
            raise ValueError(f"channels, patch, width, depth and heads must be at least 1; got {self}")
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"width must be a multiple of heads and of 4; got width={self.width}, heads={self.heads}")
        if self.classes < 0 or not 0 <= self.dropout < 1:
            raise ValueError(f"classes must be at least 0 and dropout in [0, 1); got {self}")


class DiT(nn.Module):
    """A transformer on the patches of an image; time and class scale, shift and gate every block (adaLN-Zero).

    Positions are waves of the row and the column, so that any size works that `patch` divides. Every block
    starts as the identity and the output as 0.
    forward(x, t, cond=None): x (B, channels, H, W), t (B,) in [0, 1], cond (B,) integer labels, None or the
    label `classes` for no class -> the shape and dtype of x.
    Raises ValueError for other shapes, and for a cond where classes = 0.

    Source: Peebles and Xie, "Scalable diffusion models with transformers" (2023), section 3.2, the adaLN-Zero block.
    Book: ch. 17
    """

    def __init__(self, config: DiTConfig = DiTConfig()) -> None:
        super().__init__()
        self.config, w = config, config.width
        self.time = nn.Sequential(Sinusoidal(w), nn.Linear(w, w), nn.SiLU(), nn.Linear(w, w))
        self.label = ClassEmbedding(config.classes, w) if config.classes else None
        self.position = Sinusoidal(w // 2, low=1e-4, high=1.0)
        self.first = nn.Conv2d(config.channels, w, config.patch, stride=config.patch)
        self.blocks = nn.ModuleList(TransformerBlock(w, config.heads, config.dropout) for _ in range(config.depth))
        self.modulation = _zero(nn.Linear(w, 2 * w))
        self.last = _zero(nn.Linear(w, config.channels * config.patch**2))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        self._check(x, t)
        b, c, height, width = x.shape
        p, rows, columns = self.config.patch, height // self.config.patch, width // self.config.patch
        e = self._embed(t, cond)  # (B, W)
        h = self.first(x.to(self.first.weight.dtype)).flatten(2).mT  # (B, N, W)
        h = h + self._places(rows, columns, h)
        for block in self.blocks:
            h = block(h, e)
        scale, shift = self.modulation(e)[:, None].chunk(2, 2)
        y = self.last(modulated(h, scale, shift))  # (B, N, C p p)
        y = y.reshape(b, rows, columns, c, p, p).permute(0, 3, 1, 4, 2, 5)
        return y.reshape(b, c, height, width).to(x.dtype)

    def _embed(self, t: Tensor, cond: Tensor | None) -> Tensor:
        e = self.time(t)
        if self.label is not None:
            e = e + self.label(cond, len(t))
        elif cond is not None:
            raise ValueError("cond was given to a network without classes: set DiTConfig(classes=...)")
        return silu(e)

    def _places(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """Waves of the row and of the column of each patch, (N, W)."""
        row = self.position(torch.arange(rows, device=like.device, dtype=like.dtype))  # (rows, W/2)
        column = self.position(torch.arange(columns, device=like.device, dtype=like.dtype))
        both = [row[:, None].expand(-1, columns, -1), column[None].expand(rows, -1, -1)]
        return torch.cat(both, 2).flatten(0, 1).to(like.dtype)

    def _check(self, x: Tensor, t: Tensor) -> None:
        p = self.config.patch
        if x.ndim != 4 or x.shape[1] != self.config.channels or x.shape[2] % p or x.shape[3] % p:
            raise ValueError(
                f"x must have shape (B, {self.config.channels}, H, W) with H, W multiples of {p}; got {tuple(x.shape)}"
            )
        check_time(x, t)


class TransformerBlock(nn.Module):
    """Attention, then two layers at each token; e scales and shifts both inputs and gates both outputs.

    h <- h + g1 attention((1 + s1) norm(h) + b1);  h <- h + g2 mlp((1 + s2) norm(h) + b2), the six vectors linear in e
    and 0 at first. h: (B, N, W), e: (B, W) -> (B, N, W).
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.modulation = _zero(nn.Linear(width, 6 * width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        s1, b1, g1, s2, b2, g2 = self.modulation(e)[:, None].chunk(6, 2)  # (B, 1, W) each
        h = h + g1 * self.dropout(self._attend(modulated(h, s1, b1)))
        mixed = self.down(gelu(self.up(modulated(h, s2, b2)), approximate="tanh"))
        return h + g2 * self.dropout(mixed)

    def _attend(self, h: Tensor) -> Tensor:
        b, n, w = h.shape
        q, k, v = self.qkv(h).reshape(b, n, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        return self.projection(scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, w))


def modulated(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(1 + scale) norm(h) + shift, the mean 0 and the variance 1 at each token."""
    return (1 + scale) * layer_norm(h, h.shape[-1:], eps=1e-6) + shift


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
