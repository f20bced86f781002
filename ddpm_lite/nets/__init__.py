"""Networks: `net(x, t, cond=None)`, x: (B, *), t: (B,) in [0, 1], cond: (B,); one dataclass of sizes each."""

from __future__ import annotations

from .dit import DiT, DiTConfig
from .embed import ClassEmbedding, Sinusoidal
from .mlp import MLP, MLPConfig
from .unet import UNet, UNetConfig

__all__ = ["MLP", "ClassEmbedding", "DiT", "DiTConfig", "MLPConfig", "Sinusoidal", "UNet", "UNetConfig"]
