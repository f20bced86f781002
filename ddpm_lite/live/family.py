"""Chapter 10: three crowds from noise to data by equations with the same marginals and different noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..paths import VE, VP, Path, Time
from ..reference import GaussianMixture, book_mixture
from ..samplers import em_step, linear_ts
from ..viz import PALETTE
from .controls import Choice, Clock, Question, Slider, Stops
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

__all__ = ["MarginalFamily"]

SEED, POINTS, DRAWN = 86, 1000, 40  # a seed whose normals have mean and variance near 0 and 1
GROUPS = 4  # colours, by the quarter of the start
LAW = book_mixture(1)
LAST = 0.01  # the time of the last step: below it the step of a grid in t is too long for the score
PATHS: dict[str, Path] = {"vp": VP(), "ve": VE(0.05, 10.0)}
REACH = {"vp": 4.0, "ve": 30.0}  # of the axis of x at t = 1
COLOURS = (PALETTE.blue, PALETTE.green, PALETTE.orange, PALETTE.purple)


def step_back(path: Path, x: Tensor, t: Time, s: Time, eta: float, z: Tensor) -> Tensor:
    """`em_step` with the noise given."""
    mean = drift_step(path, x, t, s, eta)
    return mean + eta * (path.g2(t, x) * (t - s)).sqrt() * z


def drift_step(path: Path, x: Tensor, t: Time, s: Time, eta: float) -> Tensor:
    """The mean of `em_step`: its step without noise, and the pull that makes up for the noise."""
    still = em_step(LAW.denoiser(path), path, x, t, s, eta=0.0)
    return still + (t - s) * eta**2 / 2 * path.g2(t, x) * LAW.score(x, path, t)


def times(steps: int) -> Tensor:
    return linear_ts(steps, t_min=LAST)


def steps_taken(t: float, steps: int) -> int:
    """How many whole steps lie above t."""
    return min(steps, math.floor((1 - t) / (1 - LAST) * steps + 1e-9))


def crowd(name: str, eta: float, steps: int, taken: int) -> Tensor:
    """The states after 0, 1, ..., taken steps, (taken + 1, POINTS); all crowds share their start and their noise."""
    path = PATHS[name]
    noise = torch.from_numpy(np.random.RandomState(SEED).standard_normal((taken + 1, POINTS, 1)))
    states = [start_of(path, noise[0])]
    for (t, s), z in zip(pairwise(times(steps)[: taken + 1]), noise[1:], strict=True):
        states.append(step_back(path, states[-1], t, s, eta, z))
    return torch.stack(states)[..., 0]


def exact_moments(law: GaussianMixture, path: Path, t: Time) -> tuple[float, float]:
    """Mean and standard deviation of p_t."""
    c = path.coefs(torch.as_tensor(t, dtype=torch.float64))
    mean = law.weights @ law.means[:, 0]
    variance = law.weights @ (law.covs[:, 0, 0] + law.means[:, 0] ** 2) - mean**2
    return (c.alpha * mean).item(), (c.alpha**2 * variance + c.sigma**2).sqrt().item()


def start_of(path: Path, z: Tensor) -> Tensor:
    """A Gaussian with the moments of p_1, which is nearly one."""
    mean, std = exact_moments(LAW, path, 1.0)
    return mean + std * z


def correlation(states: Tensor) -> float:
    return torch.corrcoef(states[[0, -1]])[0, 1].item()


class MarginalFamily(Figure):
    """1,000 points from noise to the book's mixture without noise, with some, and with that of the reverse SDE.

    Each point keeps the colour of its start: the histograms agree, the paths do not.   Book: ch. 10
    """

    module = "family"
    title = "Three crowds on the way from noise to data"
    controls = (
        Slider("eta", "Noise η in the middle", 0.0, 1.5, 0.05, 0.5),
        Clock("t", "Time t", 1.0, 0.0, 0.005, 7.0, "{value:.3f}"),
        Stops("steps", "Number of steps", (25, 50, 100, 200), 100),
        Choice("path", "Noise", (("vp", "variance preserving"), ("ve", "variance exploding")), "vp"),
    )
    sentence = (
        "At t = {t:.3f} the standard deviations for η = 0, {eta:.2f}, 1 are {ode:.3f}, {middle:.3f}, {sde:.3f}; exact: "
        "{exact:.3f}. The correlations of the points with their starts are {ode_kept:.3f}, {middle_kept:.3f}, "
        "{sde_kept:.3f}."
    )
    question = Question(
        "1,000 points go from noise to data with the exact score: without noise, with some, and with the full noise "
        "of the reverse SDE. Here are forty of the first and of the last crowd, halfway. Which crowd ends with the "
        "histogram of the data?",
        ("the one without noise", "the one with some noise", "the one with the full noise", "all three"),
        answer=3,
        reply="All three have the same density at every time, up to the error of their steps. What differs is who "
        "goes where: without noise the colours stay in order, with noise they mix.",
    )

    def constants(self) -> dict[str, Any]:
        law = {"weights": LAW.weights.tolist(), "means": LAW.means.tolist(), "covs": LAW.covs.tolist()}
        paths = {"ve": [PATHS["ve"].sigma_min, PATHS["ve"].sigma_max]}  # type: ignore[attr-defined]
        return {
            "law": law,
            "seed": SEED,
            "points": POINTS,
            "drawn": DRAWN,
            "groups": GROUPS,
            "last": LAST,
            "paths": paths,
            "reach": REACH,
        }

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        path, steps, taken = state["path"], state["steps"], steps_taken(state["t"], state["steps"])
        t = times(steps)[taken].item()
        found = {"t": t, "eta": state["eta"], "exact": exact_moments(LAW, PATHS[path], t)[1]}
        for name, eta in (("ode", 0.0), ("middle", state["eta"]), ("sde", 1.0)):
            states = crowd(path, eta, steps, taken)
            found |= {name: states[-1].std().item(), f"{name}_kept": correlation(states)}
        return found

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        steps, path = state["steps"], PATHS[state["path"]]
        taken = steps_taken(state["t"], steps)
        picture, axes = plt.subplots(3, 2, figsize=(7.4, 7.2))
        for row, eta in zip(axes, (0.0, state["eta"], 1.0), strict=True):
            states = crowd(state["path"], eta, steps, taken)
            group = states[0].argsort().argsort() * GROUPS // POINTS
            draw_paths(row[0], states, group, times(steps)[: taken + 1], REACH[state["path"]])
            row[0].set_title(f"$\\eta = {eta:g}$")
            draw_histogram(row[1], states[-1], group, path, times(steps)[taken].item())
        return picture


def draw_paths(ax: Axes, states: Tensor, group: Tensor, ts: Tensor, reach: float) -> None:
    for i in range(DRAWN):
        ax.plot(ts, states[:, i], color=COLOURS[group[i]], lw=0.8)
    ax.set(xlabel="t", xlim=(1, 0), ylim=(-reach, reach))


def draw_histogram(ax: Axes, x: Tensor, group: Tensor, path: Path, t: float) -> None:
    half = 2.6 * exact_moments(LAW, path, t)[1]
    line = torch.linspace(-half, half, 301, dtype=torch.float64)[:, None]
    edges = np.linspace(-half, half, 41)
    parts = [x[group == k].numpy() for k in range(GROUPS)]
    weights = [np.full(len(part), 1 / (POINTS * (edges[1] - edges[0]))) for part in parts]
    ax.hist(parts, bins=edges.tolist(), weights=weights, stacked=True, color=list(COLOURS))
    ax.plot(line, LAW.log_prob(line, path, t).exp(), color="black")
    ax.set(xlabel="x", xlim=(-half, half))
