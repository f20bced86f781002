"""Random numbers: drawn where the generator lives, then moved to where they are needed."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["randn_like", "uniform_t"]


def randn_like(x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise with the shape, dtype and device of x.

    Drawn on the generator's device, so that one CPU seed gives one result on every machine.

    x: (B, *shape). Returns (B, *shape).   Book: ch. 1
    """
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(x.device)


def uniform_t(
    n: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Times drawn uniformly from (0, 1]: t = 0, where no field is defined, never comes.

    Returns (n,).   Book: ch. 8
    """
    source = device if generator is None else generator.device
    return 1 - torch.rand(n, generator=generator, dtype=dtype, device=source).to(device or source)
