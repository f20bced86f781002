"""A small multilayer perceptron for points in a few dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .embed import ClassEmbedding, Sinusoidal, check_time

__all__ = ["MLP", "MLPConfig"]


@dataclass(frozen=True)
class MLPConfig:
    """The sizes of an `MLP`: `depth` hidden layers of `width`, and the number of waves that go in.

    coordinate_waves: features of each coordinate beside the coordinate itself (even; 0 for none), at angular
    frequencies 1 to 8. time_waves: features of t (even), at angular frequencies 1 to time_high. classes: 0
    for none.
    Raises ValueError for sizes below 1 or odd numbers of waves.
    """

    dim: int = 2
    width: int = 128
    depth: int = 3
    classes: int = 0
    coordinate_waves: int = 8
    time_waves: int = 16
    time_high: float = 32.0

    def __post_init__(self) -> None:
        if min(self.dim, self.width, self.depth) < 1 or self.classes < 0:
            raise ValueError(f"dim, width and depth must be at least 1 and classes at least 0; got {self}")
        if self.coordinate_waves < 0 or self.coordinate_waves % 2 or self.time_waves < 2 or self.time_waves % 2:
            raise ValueError(f"coordinate_waves and time_waves must be even, time_waves at least 2; got {self}")


class MLP(nn.Module):
    """A multilayer perceptron of a point, its time and its class.

    h_1 = SiLU(W_1 [x, waves(x), waves(t)] + b_1 + class), h_{k+1} = SiLU(W_{k+1} h_k + b_{k+1}), output W
    h_depth + b.
    With F = dim (1 + coordinate_waves) + time_waves it has (F + 1) width + (depth - 1)(width + 1) width +
    (width + 1) dim parameters, and (classes + 1) width more where there are classes: 37,762 by default.
    forward(x, t, cond=None): x (B, dim), t (B,) in [0, 1], cond (B,) integer labels, None or the label
    `classes` for no class -> (B, dim) in x's dtype. Raises ValueError for other shapes, and for a cond where
    classes = 0.
    """

    def __init__(self, config: MLPConfig = MLPConfig()) -> None:
        super().__init__()
        self.config = config
        waves = config.coordinate_waves
        self.coordinates = Sinusoidal(waves, low=1.0, high=8.0) if waves else None
        self.time = Sinusoidal(config.time_waves, low=1.0, high=config.time_high)
        self.label = ClassEmbedding(config.classes, config.width) if config.classes else None
        features = config.dim * (1 + waves) + config.time_waves
        self.first = nn.Linear(features, config.width)
        self.hidden = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(config.depth - 1))
        self.last = nn.Linear(config.width, config.dim)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.config.dim:
            raise ValueError(f"x must have shape (B, {self.config.dim}); got {tuple(x.shape)}")
        check_time(x, t)
        h = self.first(self._features(x.to(self.first.weight.dtype), t))  # (B, width)
        if self.label is not None:
            h = h + self.label(cond, len(x))
        elif cond is not None:
            raise ValueError("cond was given to a network without classes: set MLPConfig(classes=...)")
        h = nn.functional.silu(h)
        for layer in self.hidden:
            h = nn.functional.silu(layer(h))
        return self.last(h).to(x.dtype)

    def _features(self, x: Tensor, t: Tensor) -> Tensor:
        waves = [] if self.coordinates is None else [self.coordinates(x).flatten(1)]
        return torch.cat([x, *waves, self.time(t)], 1)  # (B, F)
