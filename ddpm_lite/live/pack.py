"""A small network as bytes, for the figures that run it in the browser (`mlp.js`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

import torch
from torch.nn.utils import parameters_to_vector

from ..nets import MLP

__all__ = ["pack_mlp"]

DTYPES = {"float32": (torch.float32, "<f4"), "float16": (torch.float16, "<f2")}


def pack_mlp(model: MLP, dtype: Literal["float32", "float16"] = "float32") -> tuple[dict[str, Any], bytes]:
    """The config of an `MLP` with the dtype, and its parameters one after the other, as little-endian bytes.

    In the browser `mlp(config, decodeWeights(bytes, config.dtype))` is the same function, evaluated in float64. float16
    halves the bytes and rounds a weight by up to 1 part in 2048.

    Raises ValueError for another dtype, and where a weight is not finite in it.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype = {dtype!r}: give one of {', '.join(DTYPES)}")
    rounded, little_endian = DTYPES[dtype]
    weights = parameters_to_vector(model.parameters()).detach().cpu().to(rounded)
    if not weights.isfinite().all():
        raise ValueError(f"model holds a weight that is not finite in {dtype}: give float32, or train again")
    return {**asdict(model.config), "dtype": dtype}, weights.numpy().astype(little_endian).tobytes()
