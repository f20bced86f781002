"""A small U-Net for images, conditional on time and class."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear, scaled_dot_product_attention, silu

from .embed import ClassEmbedding, Sinusoidal, check_time

__all__ = ["UNet", "UNetConfig"]

_GROUPS = 8


@dataclass(frozen=True)
class UNetConfig:
    """The sizes of a `UNet`.

    Level i = 0, 1, ... works at the resolution divided by 2^i (rounded up) with width * multipliers[i]
    channels in `blocks` residual blocks on the way down and as many on the way up. attention: the levels with
    self-attention.
    classes: 0 for none. dropout: the probability inside the blocks. The default has 464,769 parameters.
    Raises ValueError for a width that 8 does not divide, levels that do not exist, and numbers out of range.
    """

    channels: int = 1
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[int, ...] = (1,)
    classes: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "multipliers", tuple(self.multipliers))  # JSON gives lists
        object.__setattr__(self, "attention", tuple(self.attention))
        if self.width < _GROUPS or self.width % _GROUPS:
            raise ValueError(f"width must be a multiple of {_GROUPS} (groups of the normalisation); got {self.width}")
        if not self.multipliers or min(self.multipliers) < 1 or self.channels < 1 or self.blocks < 1:
            raise ValueError(f"channels, blocks and every multiplier must be at least 1; got {self}")
        if not set(self.attention) <= set(range(len(self.multipliers))):
            raise ValueError(f"attention names levels 0..{len(self.multipliers) - 1}; got {self.attention}")
        if self.classes < 0 or not 0 <= self.dropout < 1:
            raise ValueError(f"classes must be at least 0 and dropout in [0, 1); got {self}")


class UNet(nn.Module):
    """A U-Net: down through the levels, one middle block, up again with the way down concatenated.

    The time enters as waves at angular frequencies 1 to 1000 through two linear layers; the class vector is
    added; every residual block turns the sum into a scale and a shift of its second normalisation. The last
    convolution starts at 0.
    forward(x, t, cond=None): x (B, channels, H, W), t (B,) in [0, 1], cond (B,) integer labels, None or the
    label `classes` for no class -> the shape and dtype of x. H and W may be odd; at least 2^(levels - 1).
    Raises ValueError for other shapes, and for a cond where classes = 0.

    Source: Ho et al., "Denoising diffusion probabilistic models" (2020), appendix B; scale and shift:
    Dhariwal and Nichol, "Diffusion models beat GANs on image synthesis" (2021), section 3.1.
    """

    def __init__(self, config: UNetConfig = UNetConfig()) -> None:
        super().__init__()
        self.config = config
        n, widths, embedding = config.blocks, [config.width * m for m in config.multipliers], 4 * config.width
        before = [widths[0], *widths[:-1]]
        self.time = nn.Sequential(
            Sinusoidal(config.width),
            nn.Linear(config.width, embedding),
            nn.SiLU(),
            nn.Linear(embedding, embedding),
        )
        self.label = ClassEmbedding(config.classes, embedding) if config.classes else None
        self.first = nn.Conv2d(config.channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            _blocks(config, i, [b, *[w] * (n - 1)], w) for i, (b, w) in enumerate(zip(before, widths, strict=True))
        )
        self.shrink = nn.ModuleList(nn.Conv2d(b, b, 3, stride=2, padding=1) for b in widths[:-1])
        self.middle = Block(widths[-1], widths[-1], embedding, dropout=config.dropout, attends=bool(config.attention))
        self.grow = nn.ModuleList(nn.Conv2d(w, b, 3, padding=1) for b, w in pairwise(widths))
        self.up = nn.ModuleList(_blocks(config, i, [2 * w] * n, w) for i, w in enumerate(widths))
        self.norm = nn.GroupNorm(_GROUPS, widths[0])
        self.last = _zero(nn.Conv2d(widths[0], config.channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        self._check(x, t)
        e = self._embed(t, cond)  # (B, E)
        h = self.first(x.to(self.first.weight.dtype))
        skips: list[Tensor] = []
        for i, blocks in enumerate(self.down):
            h = h if i == 0 else self.shrink[i - 1](h)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, e)
                skips.append(h)
        h = self.middle(h, e)
        for i in reversed(range(len(self.up))):
            for block in self.up[i]:  # type: ignore[attr-defined]
                h = block(torch.cat([h, skips.pop()], 1), e)
            if i > 0:
                h = self.grow[i - 1](interpolate(h, size=skips[-1].shape[-2:], mode="nearest"))
        return self.last(silu(self.norm(h))).to(x.dtype)

    def _embed(self, t: Tensor, cond: Tensor | None) -> Tensor:
        e = self.time(t)
        if self.label is not None:
            e = e + self.label(cond, len(t))
        elif cond is not None:
            raise ValueError("cond was given to a network without classes: set UNetConfig(classes=...)")
        return silu(e)

    def _check(self, x: Tensor, t: Tensor) -> None:
        smallest = 2 ** (len(self.config.multipliers) - 1)
        if x.ndim != 4 or x.shape[1] != self.config.channels or min(x.shape[2:]) < smallest:
            raise ValueError(
                f"x must have shape (B, {self.config.channels}, H, W) with H, W at least {smallest} for "
                f"{len(self.config.multipliers)} levels; got {tuple(x.shape)}"
            )
        check_time(x, t)


class Block(nn.Module):
    """A residual block: normalise, SiLU, convolve, twice; e scales and shifts the second normalisation.

    h = conv1(SiLU(norm(x))); (s, b) = linear(e); output = skip(x) + conv2(SiLU((1 + s) norm(h) + b)), then
    attention where asked. conv2 starts at 0. x: (B, c_in, H, W), e: (B, E) -> (B, c_out, H, W).
    """

    def __init__(self, c_in: int, c_out: int, embedding: int, *, dropout: float = 0.0, attends: bool = False) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(_GROUPS, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * c_out)
        self.norm2 = nn.GroupNorm(_GROUPS, c_out, affine=False)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _zero(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        self.attention = Attention(c_out) if attends else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))
        scale, shift = self.modulation(e)[:, :, None, None].chunk(2, 1)  # (B, c_out, 1, 1)
        h = silu((1 + scale) * self.norm2(h) + shift)
        return self.attention(self.skip(x) + self.conv2(self.dropout(h)))


class Attention(nn.Module):
    """Residual self-attention between all pixels, in heads of 32 channels: x + P softmax(q k^T / sqrt(32)) v.

    A width that 32 does not divide gets one head. The projection starts at 0. (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // 32 if channels % 32 == 0 else 1
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.projection = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = _pixelwise(self.qkv, self.norm(x).flatten(2).mT)  # (B, H W, 3 C)
        q, k, v = tokens.reshape(b, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        return x + _pixelwise(self.projection, mixed).mT.reshape(b, c, h, w)


def _pixelwise(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
    """A 1x1 convolution on the list of pixels, (B, H W, C_in) -> (B, H W, C_out): the layout that attention needs."""
    return linear(tokens, layer.weight.flatten(1), layer.bias)


def _blocks(config: UNetConfig, level: int, inputs: list[int], width: int) -> nn.ModuleList:
    attends = level in config.attention
    return nn.ModuleList(Block(c, width, 4 * config.width, dropout=config.dropout, attends=attends) for c in inputs)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
