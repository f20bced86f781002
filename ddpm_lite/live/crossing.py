"""Chapter 14: lines of pairs that cross, the flow of their mean velocity that does not, and a few steps along it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..ode import rk4
from ..reference import book_mixture
from ..viz import PALETTE
from .controls import Choice, Question, Stops
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

__all__ = ["CrossingPairs"]

LAW = book_mixture(1)
SEED, PAIRS, POINTS, PIECES = 31, 64, 21, 40
BATCH = {"independent": 1, "ot4": 4, "ot16": 16, "reflow": 0}  # 0: the flow's own pairs
NODES = torch.linspace(-8, 8, 241, dtype=torch.float64)  # of the integral over the pairs that pass a place
COUNTS = (1, 2, 3, 5, 10, 20, 50)


def shares(n: int) -> Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def below(x: Tensor) -> Tensor:
    """The mass of the data below x."""
    std = LAW.covs[:, 0, 0].sqrt()
    return (LAW.weights * torch.special.ndtr((x[..., None] - LAW.means[:, 0]) / std)).sum(-1)


def end_of(x1: Tensor) -> Tensor:
    """Where every flow from noise to data takes x1, (N,): to the data with as much mass below, by bisection."""
    low, high = torch.full_like(x1, -9.0), torch.full_like(x1, 9.0)
    for _ in range(60):
        middle = (low + high) / 2
        small = below(middle) < torch.special.ndtr(x1)
        low, high = torch.where(small, middle, low), torch.where(small, high, middle)
    return (low + high) / 2


@cache
def drawn() -> tuple[Tensor, Tensor]:
    """64 points of data and of noise, (PAIRS,) each, in the order of the draw."""
    rng = np.random.RandomState(SEED)
    data = end_of(torch.from_numpy(rng.standard_normal(PAIRS)))
    return data, torch.from_numpy(rng.standard_normal(PAIRS))


def pairs(coupling: str) -> tuple[Tensor, Tensor]:
    """The pairs that are drawn as lines, data and noise."""
    x0, x1 = drawn()
    if coupling == "reflow":
        return end_of(x1), x1
    return tuple(x.view(-1, BATCH[coupling]).sort(1).values.flatten() for x in (x0, x1))  # type: ignore[return-value]


def crossings(x0: Tensor, x1: Tensor) -> int:
    """How many pairs of lines cross."""
    order = (x0[:, None] - x0) * (x1[:, None] - x1)
    return int((order < 0).sum()) // 2


def sorting(a: Tensor, b: Tensor, batch: int) -> Tensor:
    """The factor by which sorted batches change the density of independent pairs, by their ranks a and b."""
    up, down = a * b, (1 - a) * (1 - b)
    terms = [math.comb(batch - 1, k) ** 2 * up**k * down ** (batch - 1 - k) for k in range(batch)]
    return batch * torch.stack(terms).sum(0)


def mean_velocity(x: Tensor, t: float, batch: int) -> Tensor:
    """The mean of x1 - x0 over the pairs that pass x at t, (N,)."""
    if t >= 0.5:
        x0 = NODES.expand(len(x), -1)
        x1 = (x[:, None] - (1 - t) * x0) / t
    else:
        x1 = NODES.expand(len(x), -1)
        x0 = (x[:, None] - t * x1) / (1 - t)
    density = (LAW.log_prob(x0.reshape(-1, 1)).view_as(x0) - x1**2 / 2).exp()
    weight = density * sorting(below(x0), torch.special.ndtr(x1), batch)
    return (weight * (x1 - x0)).sum(1) / weight.sum(1)


@cache
def starts() -> tuple[Tensor, Tensor]:
    """The quantiles of the noise from which the flow is followed, and where they end; (POINTS,) each."""
    x1 = torch.special.ndtri(shares(POINTS))
    return x1, end_of(x1)


@cache
def exact_paths(coupling: str) -> Tensor:
    """The paths of the flow at PIECES + 1 times from 1 to 0, (PIECES + 1, POINTS)."""
    x1, x0 = starts()
    times = torch.linspace(1, 0, PIECES + 1, dtype=torch.float64)
    if coupling == "reflow":
        return x0 + times[:, None] * (x1 - x0)
    return rk4(lambda x, t: mean_velocity(x, float(t), BATCH[coupling]), x1, times)


def straightness(paths: Tensor) -> float:
    """The mean square of the velocity's distance from the mean velocity of its path, by pieces."""
    speeds = -PIECES * paths.diff(dim=0)
    return (speeds - (paths[0] - paths[-1])).square().mean().item()


@cache
def euler(coupling: str, steps: int) -> Tensor:
    """The states of Euler's method, (steps + 1, POINTS). Reflow's pairs do not cross: a step stays on its line."""
    x1, x0 = starts()
    states, ts = [x1], torch.linspace(1, 0, steps + 1, dtype=torch.float64).tolist()
    for t, s in pairwise(ts):
        speed = x1 - x0 if coupling == "reflow" else mean_velocity(states[-1], t, BATCH[coupling])
        states.append(states[-1] + (s - t) * speed)
    return torch.stack(states)


class CrossingPairs(Figure):
    """Lines of pairs on the book's mixture on a line, the exact flow of their mean velocity, and Euler's steps.

    Book: ch. 14
    """

    module = "crossing"
    title = "Straight lines of pairs, and the flow of their mean velocity"
    controls = (
        Choice(
            "coupling",
            "Pairs",
            (
                ("independent", "independent"),
                ("ot4", "OT in batches of 4"),
                ("ot16", "OT in batches of 16"),
                ("reflow", "reflow"),
            ),
            "independent",
        ),
        Stops("steps", "Euler steps", COUNTS, 5),
    )
    sentence = (
        "{crossing} of 2,016 pairs of lines cross; no two paths of the flow do. The straightness is S = {bent:.4f}. "
        "With {steps} Euler steps the ends miss the exact ones by {error:.4f} (root mean square)."
    )
    question = Question(
        "64 random pairs of noise (t = 1, left) and data (t = 0, right), joined by straight lines. A perfect network "
        "knows the mean velocity of all lines at each place. Where does one single step along it, from t = 1 to "
        "t = 0, put the noise?",
        ("on the data: the lines are straight", "all at one point", "spread like the noise, but narrower"),
        answer=1,
        reply="At t = 1 each place has one noise point, whose partner can be any data point. The mean velocity leads "
        "to the mean of the data, 0.15. Choose 1 step to see it. Then choose other pairs.",
    )

    def constants(self) -> dict[str, Any]:
        law = {name: getattr(LAW, name).tolist() for name in ("weights", "means", "covs")}
        x0, x1 = drawn()
        first, last = starts()
        return {
            "law": law,
            "data": x0.tolist(),
            "noise": x1.tolist(),
            "ends": end_of(x1).tolist(),
            "starts": first.tolist(),
            "goals": last.tolist(),
            "pieces": PIECES,
            "nodes": [NODES[0].item(), NODES[-1].item(), len(NODES)],
            "batch": BATCH,
        }

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        coupling, steps = state["coupling"], state["steps"]
        away = euler(coupling, steps)[-1] - starts()[1]
        return {
            "steps": steps,
            "crossing": crossings(*pairs(coupling)),
            "bent": straightness(exact_paths(coupling)),
            "error": away.square().mean().sqrt().item(),
        }

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        picture, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.5), sharey=True)
        draw_pairs(left, state["coupling"])
        draw_flow(right, state["coupling"], state["steps"])
        return picture


def draw_pairs(ax: Axes, coupling: str) -> None:
    x0, x1 = pairs(coupling)
    ax.plot([1, 0], torch.stack([x1, x0]).numpy(), color=PALETTE.blue, lw=0.7)
    ax.set(xlabel="t", ylabel="x", xlim=(1, 0), ylim=(-3.2, 3.4), title="lines of pairs")


def draw_flow(ax: Axes, coupling: str, steps: int) -> None:
    paths, states = exact_paths(coupling), euler(coupling, steps)
    ax.plot(torch.linspace(1, 0, PIECES + 1), paths, color="0.6", lw=1.2)
    ax.plot(torch.linspace(1, 0, steps + 1), states, ".-", color=PALETTE.vermilion, lw=0.8, ms=4)
    ax.set(xlabel="t", xlim=(1, -0.03), title="flow (grey) and Euler's steps")
