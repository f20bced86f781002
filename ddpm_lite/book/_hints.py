"""The relations between a wrong and a right result that a common mistake leaves behind."""

from __future__ import annotations

import torch
from torch import Tensor


def relation(mine: Tensor, ours: Tensor, width: Tensor) -> str:
    """Name the relation of `mine` to `ours`; `width` is D for each number. Empty when none is known."""
    if float((mine - ours).abs().max()) < 1e-6 * max(1.0, float(ours.abs().max())):
        return "the difference is the round-off of float32: keep the numbers in float64"
    guesses = [
        (-ours, "the sign is flipped"),
        (ours**2, "yours is the square of it (a variance for a standard deviation?)"),
        (ours.abs().sqrt(), "yours is the square root of it (a standard deviation for a variance?)"),
        (1 / ours, "yours is one over it"),
        (1 - ours, "yours is one minus it"),
        (ours.exp(), "yours is the exponential of it"),
        (ours.abs().log(), "yours is the logarithm of it"),
    ]
    for guess, words in guesses:
        if _close(mine, guess):
            return words
    return _constant(mine, ours) or _by_width(mine, ours, width)


def _constant(mine: Tensor, ours: Tensor) -> str:
    """Name a constant factor or a constant difference."""
    if bool((ours != 0).all()) and _level(mine / ours):
        return f"yours is {float((mine / ours)[0]):.6g} times it"
    if _level(mine - ours):
        return f"yours is it plus the constant {float((mine - ours)[0]):.6g}"
    return ""


def _by_width(mine: Tensor, ours: Tensor, width: Tensor) -> str:
    """Name a relation that goes with the dimension D."""
    if float(width.max()) == 1:
        return ""
    if _close(mine, ours * width):
        return "yours is D times it (a sum for a mean?)"
    if _close(mine, ours / width):
        return "yours is it over D (a mean for a sum?)"
    shift = (mine - ours) / width
    return f"yours is it plus the constant {float(shift[0]):.6g} for each dimension" if _level(shift) else ""


def _level(x: Tensor) -> bool:
    """Say whether all numbers are one number."""
    return _close(x, x[:1].expand_as(x))


def _close(a: Tensor, b: Tensor) -> bool:
    """Say whether two lists of at least two numbers agree."""
    return a.numel() > 1 and bool(torch.allclose(a, b, rtol=1e-7, atol=1e-9))
