"""Chapter 12: a reverse chain of a digit, its estimate of the image, and the frequencies that are already fixed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..viz import PALETTE, image_grid
from .controls import Choice, Clock, Question
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

__all__ = ["CoarseToFine"]

EDGES = (0.5, 2.5, 4.5, 6.5, 10.0)  # of the bands, in half waves across the image
BANDS = ("coarse", "middle", "fine", "finest")
COLOURS = (PALETTE.blue, PALETTE.green, PALETTE.orange, PALETTE.vermilion)
TIMES = 26  # t = 1, .96, ..., 0
DECIMALS = 2  # of the pixels that travel with the page


class CoarseToFine(Figure):
    """Reverse chains of 8x8 images, and for four bands of frequencies how much of the end is fixed.   Book: ch. 12

    states, estimates: (3, 26, 8, 8), x_t and the estimate of x0 of three chains at t = 1, .96, ..., 0, the last state
    being the sample; curves: (26, 4), by band the share of variance that is fixed, a mean over many chains;
    mean: (8, 8), the mean image of the data.
    Raises ValueError for other shapes.
    """

    module = "coarse"
    title = "What a reverse chain fixes first"
    controls = (
        Choice("chain", "Chain", (("0", "first"), ("1", "second"), ("2", "third")), "0"),
        Clock("t", "Time t", 1.0, 0.0, 0.04, 8.0),
    )
    sentence = (
        "At t = {t:.2f} the estimate of this chain has fixed {coarse:.2f} of the coarse band of its end, "
        "{middle:.2f} of the middle, {fine:.2f} of the fine and {finest:.2f} of the finest band. "
        "The mean over many chains, the lines across the bars, is "
        "{mean_coarse:.2f}, {mean_middle:.2f}, {mean_fine:.2f} and {mean_finest:.2f}."
    )
    question = Question(
        "The waves of an 8x8 image fall into four bands, from coarse (half a wave or one across the image) to finest. "
        "Which band of the final image is fixed first on the way from noise to digit?",
        (
            "the coarse band, then the middle, the fine and the finest",
            "coarse and middle together, then the fine, then the finest",
            "all four together",
            "the finest, because each step removes a little noise",
        ),
        answer=1,
        reply="Coarse and middle waves have the same power in these digits, and they are fixed together. "
        "The weaker bands follow. Move the time and watch the bars fill.",
    )

    def __init__(self, states: Tensor, estimates: Tensor, curves: Tensor, mean: Tensor, **state: Any) -> None:
        wanted = {"states": (3, TIMES, 8, 8), "estimates": (3, TIMES, 8, 8), "curves": (TIMES, 4), "mean": (8, 8)}
        given = {"states": states, "estimates": estimates, "curves": curves, "mean": mean}
        for name, value in given.items():
            if tuple(value.shape) != wanted[name]:
                raise ValueError(f"{name} has shape {tuple(value.shape)}: give {wanted[name]}")
        self.states, self.estimates = rounded(states), rounded(estimates)
        self.curves, self.mean = rounded(curves, 4), rounded(mean, 4)
        super().__init__(**{"t": 0.52, **state})

    def constants(self) -> dict[str, Any]:
        return {
            "states": self.states.flatten(2).tolist(),
            "estimates": self.estimates.flatten(2).tolist(),
            "curves": self.curves.tolist(),
            "mean": self.mean.flatten().tolist(),
            "edges": list(EDGES),
            "bands": list(BANDS),
        }

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        i, chain = place(state["t"]), int(state["chain"])
        shares = self.shares(chain)[i]
        return {
            "t": 1 - i / (TIMES - 1),
            **dict(zip(BANDS, shares.tolist(), strict=True)),
            **{f"mean_{name}": value for name, value in zip(BANDS, self.curves[i].clamp(min=0).tolist(), strict=True)},
        }

    def shares(self, chain: int) -> Tensor:
        """By time and band, the part of the final image's difference from the mean that the estimate has; (n, 4)."""
        final, waves = self.states[chain, -1], band_waves()
        parts = []
        for band in waves:
            wrong = (self.estimates[chain] - final).flatten(1) @ band.T
            whole = (final - self.mean).flatten() @ band.T
            parts.append(1 - wrong.square().sum(1) / whole.square().sum())
        return torch.stack(parts, 1).clamp(min=0)

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        i, chain = place(state["t"]), int(state["chain"])
        picture, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.2), width_ratios=[1.5, 1])
        three = torch.stack([self.states[chain, i], self.estimates[chain, i], self.states[chain, -1]])[:, None]
        ts = torch.linspace(1, 0, TIMES)
        image_grid(left, three.clamp(-1, 1), columns=3).set_title(f"$x_t$ at t = {ts[i]:.2f}, estimate, end")
        for name, colour, curve in zip(BANDS, COLOURS, self.curves.clamp(min=0).T, strict=True):
            right.plot(ts, curve, color=colour, label=name)
        right.axvline(state["t"], color=PALETTE.black, linewidth=1, linestyle=":")
        right.set(xlabel="$t$", xlim=(1, 0), ylim=(0, 1.02), title="share fixed, many chains")
        right.legend()
        return picture


def place(t: float) -> int:
    """The index of the time nearest to t; of two the later one, which is cleaner."""
    return math.floor((1 - t) * (TIMES - 1) + 0.5 + 1e-9)


def rounded(x: Tensor, decimals: int = DECIMALS) -> Tensor:
    """In float64, as the page has it."""
    return x.detach().cpu().double().round(decimals=decimals)


def band_waves() -> list[Tensor]:
    """The cosine waves of an 8x8 image by band, each (waves, 64) with rows of length 1."""
    n = torch.arange(8, dtype=torch.float64)
    k = n[:, None]
    cosines = torch.cos(math.pi * k * (n + 0.5) / 8) / 2
    cosines[0] /= math.sqrt(2)
    basis, radius = torch.kron(cosines, cosines), (k**2 + n**2).sqrt().flatten()
    return [basis[(radius >= low) & (radius < high)] for low, high in pairwise(EDGES)]
