"""Random numbers: drawn where the generator lives, then moved to where they are needed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["derived_seed", "randn_like", "uniform_t"]


def derived_seed(*numbers: int) -> int:
    """A seed for a torch.Generator that is its own for every row of numbers, such as (seed, step).

    Neighbouring numbers give unrelated streams, which seed + step would not promise. Returns 0..2^63 - 1.
    Raises ValueError for a negative number.   Source: O'Neill, "Developing a seed_seq alternative" (2015), as in numpy.
    Book: ch. 17
    """
    if min(numbers) < 0:
        raise ValueError(f"numbers = {numbers}: give numbers that are not negative")
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


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
