"""Chapter 6: plain and annealed Langevin side by side in a world of two far modes, with the exact score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..paths import EDM
from ..reference import GaussianMixture
from ..viz import PALETTE
from .controls import Clock, Question, Slider, Stops
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

__all__ = ["AnnealedParticles"]

SEED, PARTICLES, STEPS = 6, 500, 400
CENTRE = 5.0  # the modes are at (-CENTRE, -CENTRE) and (CENTRE, CENTRE), with unit covariance
SQUARE = 8.0  # plain particles begin evenly in the square from -SQUARE to SQUARE
RATE = 0.2  # a step is RATE (1 + sigma^2)
SMALLEST = 0.1
PLACES = 2.0**20  # positions are kept to 1/PLACES, so that browser and package agree also on the ridge
NOISE_CLOCK = EDM(100.0)  # its time is sigma / 100


def world_of(share: float) -> GaussianMixture:
    means = [[-CENTRE, -CENTRE], [CENTRE, CENTRE]]
    return GaussianMixture([1 - share, share], means, torch.eye(2, dtype=torch.float64).repeat(2, 1, 1))


def ladder(largest: float, levels: int) -> list[float]:
    """Levels from the largest to the smallest, with one ratio."""
    return [largest * (SMALLEST / largest) ** (i / (levels - 1)) for i in range(levels)]


class Noise(NamedTuple):
    """start: (N, 2), uniform in the square; normals: (N, 2), the annealed start; z: (n, N, 2), of each step."""

    start: Tensor
    normals: Tensor
    z: Tensor


def noise_of(n: int) -> Noise:
    """The draws of a seed, in the order of the module."""
    rng = np.random.RandomState(SEED)
    start = SQUARE * (2 * rng.random_sample((PARTICLES, 2)) - 1)
    normals = rng.standard_normal((PARTICLES, 2))
    z = rng.standard_normal((n, PARTICLES, 2))
    return Noise(*map(torch.from_numpy, (start, normals, z)))


def langevin_step(world: GaussianMixture, x: Tensor, sigma: float, step: float, z: Tensor) -> Tensor:
    """`dl.langevin` for one step on the noised world, with the noise given."""
    score = world.score(x, NOISE_CLOCK, sigma / NOISE_CLOCK.sigma_max) if sigma else world.score(x)
    x = x + step * score + math.sqrt(2 * step) * z
    return (x * PLACES).round() / PLACES


def upper(x: Tensor) -> float:
    """The share of the particles on the side of the upper mode."""
    return (x.sum(1) > 0).double().mean().item()


class Swarms(NamedTuple):
    """plain, annealed: (N, 2); the shares of both after 0, 1, ..., n steps."""

    plain: Tensor
    annealed: Tensor
    plain_shares: list[float]
    annealed_shares: list[float]


def swarms(state: Mapping[str, Any]) -> Swarms:
    """Both swarms after n steps."""
    n, world, sigmas = round(state["n"]), world_of(state["share"]), ladder(state["largest"], state["levels"])
    noise = noise_of(n)
    plain, annealed = noise.start, state["largest"] * noise.normals
    shares: tuple[list[float], list[float]] = ([upper(plain)], [upper(annealed)])
    for k, z in enumerate(noise.z):
        sigma = sigmas[level_at(k, state["levels"])]
        plain = langevin_step(world, plain, 0.0, RATE, z)
        annealed = langevin_step(world, annealed, sigma, RATE * (1 + sigma**2), z)
        shares[0].append(upper(plain))
        shares[1].append(upper(annealed))
    return Swarms(plain, annealed, *shares)


def level_at(k: int, levels: int) -> int:
    """The place in the ladder of step k = 0, 1, ..."""
    return min(k // (STEPS // levels), levels - 1)


class AnnealedParticles(Figure):
    """Plain and annealed Langevin with the exact score of two far modes, and the share of the upper one.

    Book: ch. 6
    """

    module = "anneal"
    title = "Plain and annealed Langevin between two far modes"
    controls = (
        Clock("n", "Steps taken", 0, STEPS, 1, 12.0, "{value:.0f}"),
        Stops("levels", "Levels of noise", (2, 4, 8, 20, 40), 20),
        Stops("largest", "Largest noise", (1.0, 2.0, 5.0, 10.0, 20.0), 20.0),
        Slider("share", "Share of the upper mode", 0.1, 0.9, 0.1, 0.8),
    )
    sentence = (
        "After {n} steps the annealed swarm is at level {level} of {levels}, noise {sigma:.2f}. "
        "The upper mode has {plain:.3f} of the plain swarm and {annealed:.3f} of the annealed one; exact: {exact:.2f}."
    )
    question = Question(
        "One fifth of the data lie around (−5, −5), four fifths around (5, 5). Five hundred particles, spread evenly "
        "over a square, take 400 Langevin steps with the exact score. Which share ends in the upper heap?",
        ("about 1/5", "about 1/2", "about 4/5", "all"),
        answer=1,
        reply="Each falls into the heap on whose side it began. Press Play: the annealed swarm begins with much "
        "noise, and ends at 0.78, near 4/5. Then give it too few levels, or too little noise.",
    )

    def constants(self) -> dict[str, Any]:
        names = ("seed", "particles", "steps", "centre", "square", "rate", "smallest", "places")
        return dict(zip(names, (SEED, PARTICLES, STEPS, CENTRE, SQUARE, RATE, SMALLEST, PLACES), strict=True))

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        found, level = swarms(state), level_at(max(0, round(state["n"]) - 1), state["levels"])
        return {
            "n": state["n"],
            "level": level + 1,
            "levels": state["levels"],
            "sigma": ladder(state["largest"], state["levels"])[level],
            "plain": found.plain_shares[-1],
            "annealed": found.annealed_shares[-1],
            "exact": state["share"],
        }

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        found = swarms(state)
        picture, (left, middle, right) = plt.subplots(1, 3, figsize=(8.4, 2.9))
        draw_swarm(left, found.plain, PALETTE.vermilion, "plain")
        draw_swarm(middle, found.annealed, PALETTE.blue, "annealed")
        right.plot(found.plain_shares, color=PALETTE.vermilion)
        right.plot(found.annealed_shares, color=PALETTE.blue)
        right.axhline(state["share"], color="black", linestyle="--", linewidth=1)
        right.set(xlabel="steps", xlim=(0, STEPS), ylim=(0, 1), title="share of the upper mode")
        return picture


def draw_swarm(ax: Axes, x: Tensor, colour: str, title: str) -> None:
    ax.plot(*x.T, ".", color=colour, ms=2.5, alpha=0.6)
    ax.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(-12, 12), ylim=(-12, 12), aspect="equal", title=title)
