"""Chapter 3: particles on an energy that the reader edits, by Langevin steps with or without MALA's test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..energy import score_of
from ..viz import PALETTE
from .controls import Choice, Clock, Knobs, Presets, Question, Slider, Stops
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

__all__ = ["EnergyParticles"]

SEED = 5  # a seed whose particles in one bowl lie near their long-run variance, so that chance hides no bias
WIDTH = 0.6  # of a well
PARTICLES = {"line": 1000, "plane": 600}
START = {"line": -2.5, "plane": -2.0}  # each coordinate of the middle of the cloud; its standard deviation is 0.2
PLACES = 2.0**20  # positions are kept to 1/PLACES: browser and package agree also where steps are chaotic
GRID = torch.linspace(-12, 12, 161, dtype=torch.float64)
FINE = torch.linspace(-12, 12, 1601, dtype=torch.float64)


@dataclass(frozen=True)
class Energy:
    """|x|^2/2 minus a bump of this depth at each centre, over the temperature.

    centres: (3, D); depths: (3,). Called with (B, D) it returns (B,).
    """

    centres: Tensor
    depths: Tensor
    temperature: float

    def __call__(self, x: Tensor) -> Tensor:
        away = (x[:, None] - self.centres).square().sum(2)  # (B, 3)
        wells = torch.exp(-away / (2 * WIDTH**2)) @ self.depths
        return (x.square().sum(1) / 2 - wells) / self.temperature


def energy_of(state: Mapping[str, Any]) -> Energy:
    axes = [state["x"]] if state["dim"] == "line" else [state["x"], state["y"]]
    centres = torch.tensor(axes, dtype=torch.float64).T
    return Energy(centres, torch.tensor(state["depth"], dtype=torch.float64), state["T"])


class Noise(NamedTuple):
    """start: (N, D); z: (n, N, D), normal; u: (n, N), uniform in (0, 1]."""

    start: Tensor
    z: Tensor
    u: Tensor


def noise_of(dim: str, n: int) -> Noise:
    """The draws of a seed, in the order of the module: the start, then in each step the normals and the uniforms."""
    rng, N, D = np.random.RandomState(SEED), PARTICLES[dim], 1 if dim == "line" else 2
    start = START[dim] + 0.2 * rng.standard_normal((N, D))
    draws = [(rng.standard_normal((N, D)), 1 - rng.random_sample(N)) for _ in range(n)]
    z, u = np.zeros((n, N, D)), np.zeros((n, N))
    for i, (normals, uniforms) in enumerate(draws):
        z[i], u[i] = normals, uniforms
    return Noise(torch.from_numpy(start), torch.from_numpy(z), torch.from_numpy(u))


def langevin_step(energy: Energy, x: Tensor, step: float, z: Tensor) -> Tensor:
    """`dl.langevin` for one step, with the noise given."""
    return x + step * score_of(energy)(x) + math.sqrt(2 * step) * z


def mala_step(energy: Energy, x: Tensor, step: float, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """`dl.mala` for one step, with the noise given: the states, and which proposals were kept."""
    y = langevin_step(energy, x, step, z)
    back = (x - y - step * score_of(energy)(y)) / math.sqrt(2 * step)
    keep = u.log() <= energy(x) - energy(y) + (z.square() - back.square()).sum(1) / 2
    return torch.where(keep[:, None], y, x), keep


@torch.no_grad()
def particles(state: Mapping[str, Any]) -> tuple[Tensor, float]:
    """Where the particles stand after n steps, (N, D), and the share of the proposals that were kept."""
    energy, noise = energy_of(state), noise_of(state["dim"], state["n"])
    x, kept = noise.start, 0.0
    for z, u in zip(noise.z, noise.u, strict=True):
        if state["move"] == "mala":
            x, keep = mala_step(energy, x, state["step"], z, u)
            kept += keep.double().mean().item()
        else:
            x = langevin_step(energy, x, state["step"], z)
        x = (x * PLACES).round() / PLACES
    return x, kept / max(1, state["n"])


def boltzmann(state: Mapping[str, Any]) -> tuple[Tensor, Tensor, float]:
    """The exact density of the first coordinate on a grid, (M,) and (M,), and Z, by the midpoint rule."""
    axis = FINE if state["dim"] == "line" else GRID
    points = axis[:, None] if state["dim"] == "line" else torch.cartesian_prod(axis, axis)
    width = (axis[1] - axis[0]).item()
    weights = torch.exp(-energy_of(state)(points)).view(len(axis), -1).sum(1) * width ** (points.shape[1] - 1)
    total = weights.sum().item() * width
    return axis, weights / total, total


class EnergyParticles(Figure):
    """Particles on an energy with three wells or hills to drag, on the line or in the plane.   Book: ch. 3"""

    module = "particles"
    title = "Particles on an energy"
    controls = (
        Choice("dim", "World", (("line", "on the line"), ("plane", "in the plane")), "line"),
        Choice("move", "Steps", (("langevin", "Langevin, unadjusted"), ("mala", "MALA")), "langevin"),
        Stops("step", "Step h", (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 1.5), 0.5),
        Slider("T", "Temperature T", 0.25, 4.0, 0.05, 1.0),
        Presets(
            "Energy",
            (
                ("one bowl", {"x": [-1.8, 0.0, 1.8], "y": [-1.0, 1.2, -1.0], "depth": [0.0, 0.0, 0.0]}),
                ("two wells", {"x": [-1.6, 0.0, 1.6], "y": [-1.0, 1.5, 1.0], "depth": [3.0, 0.0, 3.5]}),
                ("three wells", {"x": [-2.2, 0.0, 2.2], "y": [-1.0, 1.5, -1.0], "depth": [4.0, 2.0, 4.5]}),
                ("a hill", {"x": [-1.8, 0.0, 1.8], "y": [-1.0, 0.0, 1.0], "depth": [0.0, -2.5, 0.0]}),
            ),
        ),
        Knobs("x", -3.0, 3.0, (-1.8, 0.0, 1.8)),
        Knobs("y", -3.0, 3.0, (-1.0, 1.2, -1.0)),
        Knobs("depth", -3.0, 5.0, (0.0, 0.0, 0.0)),
        Clock("n", "Steps taken", 0, 300, 1, 8.0, "{value:.0f}"),
    )
    sentence = (
        "After {n} steps the particles have mean {mean:.3f} and variance {variance:.3f}{along}. "
        "The Boltzmann density has mean {exact_mean:.3f} and variance {exact_variance:.3f}; Z is {Z:.3f}.{kept}"
    )
    question = Question(
        "A thousand particles begin at the left, in the energy x²/2 whose density is N(0, 1). They take as many "
        "Langevin steps of h = 0.5 as you like. What is their variance in the end?",
        ("1, that of the density", "less than 1", "more than 1"),
        answer=2,
        reply="It settles at 1/(1 − h/2) = 1.3333. Take a smaller step, or MALA, and the error goes. Then drag the "
        "handles: they move the wells and make them deeper, or hills.",
    )

    def constants(self) -> dict[str, Any]:
        return {"seed": SEED, "width": WIDTH, "particles": PARTICLES, "begin": START, "places": PLACES}

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        x, kept = particles(state)
        axis, density, Z = boltzmann(state)
        share = density * (axis[1] - axis[0])
        mean = (share @ axis).item()
        return {
            "n": state["n"],
            "mean": x[:, 0].mean().item(),
            "variance": x[:, 0].var().item(),
            "along": "" if state["dim"] == "line" else " along the horizontal axis",
            "exact_mean": mean,
            "exact_variance": (share @ (axis - mean) ** 2).item(),
            "Z": Z,
            "kept": f" MALA kept {100 * kept:.1f}% of the proposals." if state["move"] == "mala" and state["n"] else "",
        }

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        x, _ = particles(state)
        axis, density, _ = boltzmann(state)
        picture, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.2))
        (draw_line if state["dim"] == "line" else draw_plane)(left, state, x)
        right.hist(
            x[:, 0].numpy(), bins=np.linspace(-4.5, 4.5, 46).tolist(), density=True, color=PALETTE.sky, alpha=0.6
        )
        right.plot(axis, density, color="black")
        right.set(xlabel="x", xlim=(-4.5, 4.5), ylabel="density", title="bars: particles; line: exact")
        return picture


def draw_line(ax: Axes, state: Mapping[str, Any], x: Tensor) -> None:
    """The energy, the particles on it."""
    energy, T = energy_of(state), state["T"]
    ax.plot(FINE, T * energy(FINE[:, None]), color="black", lw=1.5)
    lift = 0.3 + 1.7 * (torch.arange(len(x)) * 0.618034 % 1)  # so that no particle hides another
    ax.plot(x[:, 0], T * energy(x) + lift, ".", color=PALETTE.vermilion, ms=3, alpha=0.35)
    ax.set(xlabel="x", ylabel="energy", xlim=(-4.5, 4.5), ylim=(-6, 9), title=f"{len(x):,} particles")


def draw_plane(ax: Axes, state: Mapping[str, Any], x: Tensor) -> None:
    """Level lines of the energy, the particles over them."""
    axis = torch.linspace(-4, 4, 61, dtype=torch.float64)
    energy = state["T"] * energy_of(state)(torch.cartesian_prod(axis, axis)).view(61, 61).T
    ax.contour(axis, axis, energy, levels=np.arange(-6, 10), colors="0.6", linewidths=1, linestyles="solid")
    ax.plot(*x.T, ".", color=PALETTE.vermilion, ms=3, alpha=0.5)
    ax.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(-4, 4), ylim=(-4, 4), title=f"{len(x)} particles")
