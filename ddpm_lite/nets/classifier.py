"""A small convolutional classifier: it reads images, and its features are what images are compared by."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

__all__ = ["Classifier", "ClassifierConfig"]


@dataclass(frozen=True)
class ClassifierConfig:
    """The sizes of a `Classifier`: level i has widths[i] channels at the resolution divided by 2^i.

    features: the length of the vector before the last layer. The default has 210,666 parameters.
    Raises ValueError for numbers below 1.
    """

    channels: int = 1
    classes: int = 10
    widths: tuple[int, ...] = (32, 64, 96)
    features: int = 64
    dropout: float = 0.3

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives lists
        if min(self.channels, self.classes, self.features, *self.widths, len(self.widths)) < 1:
            raise ValueError(f"channels, classes, features and every width must be at least 1; got {self}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1); got {self.dropout}")


class Classifier(nn.Module):
    """Two convolutions a level with batch normalisation, halved by the maximum, averaged over the image.

    forward(x): x (B, channels, H, W) in [-1, 1] -> log-odds (B, classes); H and W at least 2^(levels - 1).
    features(x) -> (B, features), not negative.

    Book: ch. 17
    """

    def __init__(self, config: ClassifierConfig = ClassifierConfig()) -> None:
        super().__init__()
        self.config = config
        inputs = (config.channels, *config.widths[:-1])
        self.levels = nn.ModuleList(_level(a, b) for a, b in zip(inputs, config.widths, strict=True))
        self.read = nn.Linear(config.widths[-1], config.features)
        self.dropout = nn.Dropout(config.dropout)
        self.last = nn.Linear(config.features, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.dropout(self.features(x)))

    def features(self, x: Tensor) -> Tensor:
        """Return what the last layer sees, (B, features)."""
        for i, level in enumerate(self.levels):
            x = level(x if i == 0 else max_pool2d(x, 2))
        return relu(self.read(x.mean((2, 3))))


def _level(inputs: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, width):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)
