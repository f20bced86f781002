"""Likelihoods and their units."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["bits_per_dim"]


def bits_per_dim(nats: Tensor, shape: tuple[int, ...], *, levels: int) -> Tensor:
    """Bits a dimension of discrete data, from -log p in nats of its dequantised copy in [-1, 1].

    bits = nats / (D ln 2) + log2(levels / 2): a level is 2/levels wide, x = 2 (k + u)/levels - 1.

    nats: (B,), -log p(x); shape: of one sample, without B; levels: 256 for photographs, 17 for
    scikit-learn's digits. Returns (B,).

    Raises ValueError unless levels >= 2 and shape holds positive sizes.   Source: Theis et al. 2016, sec. 3.1.
    Book: ch. 1
    """
    if levels < 2:
        raise ValueError(f"levels = {levels}: give the number of values a pixel can take, at least 2")
    dimensions = math.prod(shape)
    if dimensions < 1:
        raise ValueError(f"shape = {shape}: give the sizes of one sample, without the batch")
    return nats / (dimensions * math.log(2)) + math.log2(levels / 2)
