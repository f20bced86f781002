"""How times, coordinates and classes enter a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ClassEmbedding", "Sinusoidal", "check_time"]


class Sinusoidal(nn.Module):
    """Waves of a number at angular frequencies in geometric progression.

    (cos(w_1 t), ..., cos(w_K t), sin(w_1 t), ..., sin(w_K t)), w_k = low (high/low)^((k-1)/(K-1)), K =
    size/2; K = 1 has low alone. Frequencies are radians per unit of t: for t in [0, 1], low = 1 never repeats
    and high = 1000 is the finest of DDPM, whose own clock runs to T = 1000. No parameters.
    (*S) -> (*S, size). Raises ValueError for an odd size and for frequencies that do not increase from above
    0.

    Source: Vaswani et al., "Attention is all you need" (2017), section 3.5, in another order.
    """

    omega: Tensor

    def __init__(self, size: int, *, low: float = 1.0, high: float = 1000.0) -> None:
        super().__init__()
        if size < 2 or size % 2 or not 0 < low <= high:
            raise ValueError(f"size must be even and 0 < low <= high; got size={size}, low={low}, high={high}")
        u = torch.linspace(0, 1, size // 2, dtype=torch.float64)
        self.register_buffer("omega", (low * (high / low) ** u).float(), persistent=False)  # (K,)

    def forward(self, t: Tensor) -> Tensor:
        angle = t[..., None].to(self.omega.dtype) * self.omega  # (*S, K)
        return torch.cat([angle.cos(), angle.sin()], -1)


class ClassEmbedding(nn.Module):
    """One learned vector a class, and one more for "no class".

    Labels are 0..classes-1. The null label `classes` means "no class", and cond=None gives it to the whole
    batch: to train for classifier-free guidance, set a part of the labels to `classes`.
    (B,) integers -> (B, width). Raises ValueError for other shapes or types, and on the CPU for labels
    outside 0..classes.

    Source: Ho and Salimans, "Classifier-free diffusion guidance" (2022), section 3.2. Book: ch. 13
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.table = nn.Embedding(classes + 1, width)

    def forward(self, cond: Tensor | None, batch: int) -> Tensor:
        if cond is None:
            return self.table.weight[self.classes].expand(batch, -1)
        if cond.shape != (batch,) or cond.is_floating_point() or cond.dtype == torch.bool:
            raise ValueError(
                f"cond must hold one integer label a sample, shape ({batch},); got {tuple(cond.shape)} "
                f"{cond.dtype}. Labels are cond.long()."
            )
        visible = cond.device.type == "cpu" and not torch.compiler.is_compiling()
        if visible and ((cond < 0) | (cond > self.classes)).any():
            raise ValueError(f"cond must be in 0..{self.classes}, {self.classes} for no class; got {cond.unique()}")
        return self.table(cond)


def check_time(x: Tensor, t: Tensor) -> None:
    """Raise ValueError unless t is a floating tensor with one time for each sample of x."""
    if t.shape != x.shape[:1] or not t.is_floating_point():
        raise ValueError(
            f"t must be floating with shape ({len(x)},), one time for each sample of x; got {tuple(t.shape)} "
            f"{t.dtype}. One time for all: t.expand(len(x)). A step i of T is the time i / T."
        )
