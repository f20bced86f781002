"""Networks: `net(x, t, cond=None)`, x: (B, *), t: (B,) in [0, 1], cond: (B,); one dataclass of sizes each."""

from __future__ import annotations

from .embed import ClassEmbedding, Sinusoidal
from .mlp import MLP, MLPConfig
from .unet import UNet, UNetConfig

__all__ = ["MLP", "ClassEmbedding", "MLPConfig", "Sinusoidal", "UNet", "UNetConfig"]
