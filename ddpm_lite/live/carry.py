"""Chapter 11: the probability-flow ODE carries a mesh of small squares from data to noise; one square is followed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..likelihood import divergence
from ..ode import dopri5
from ..paths import RectifiedFlow
from ..predict import encode
from ..reference import book_mixture
from ..viz import PALETTE
from .controls import Clock, Knobs, Presets, Question
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

__all__ = ["CarriedGrid"]

WORLD, PATH = book_mixture(2), RectifiedFlow()
DENOISER = WORLD.denoiser(PATH)
SIDE = 0.2  # of the square that is drawn
START = (-1.4, -0.6)  # the middle of a cluster


class CarriedGrid(Figure):
    """The flow of the book's plane mixture carries a mesh; the area of one square gives the density.   Book: ch. 11

    `at` is the place of the square in the data, t = 0. Its area is that of a very small one around the same point.
    """

    module = "carry"
    title = "The flow carries a mesh of small squares"
    controls = (
        Clock("t", "Time t", 0.0, 1.0, 0.01, 6.0),
        Knobs("at", -2.0, 2.0, START),
        Presets(
            "Put the square",
            (
                ("in a cluster", {"at": list(START)}),
                ("at its edge", {"at": [-1.9, -1.1]}),
                ("between the clusters", {"at": [0.0, 0.0]}),
            ),
        ),
    )
    sentence = (
        "At t = {t:.2f} the log-density at the square is {log_p:.3f} and the log of its area, relative to the start, "
        "{log_area:.3f}: together {sum:.3f}. "
        "At the end they are {last_log_p:.3f} and {last_log_area:.3f}, hence log p₀ = {log_p0:.3f}."
    )
    question = Question(
        "The square sits where the data have density 0.61. The flow carries it to the dot, where the noise has "
        "density 0.12. What happens to the area of the square?",
        (
            "Nothing: the flow neither makes nor loses points",
            "It grows to about 5 times its size",
            "It shrinks to about a fifth",
            "One cannot tell without following the flow",
        ),
        answer=1,
        reply=(
            "The square keeps its mass, which is density times area: 0.608 / 0.117 = 5.2. Play, then drag the square "
            "by its handle. Between the clusters it shrinks a thousandfold. The sum of the two logs never moves."
        ),
    )

    def constants(self) -> dict[str, Any]:
        return {"world": {name: getattr(WORLD, name).tolist() for name in ("weights", "means", "covs")}, "side": SIDE}

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        now, end = followed(state["at"], [state["t"], 1.0]).tolist()
        return {
            "t": state["t"],
            "log_p": now[2],
            "log_area": now[3],
            "sum": now[2] + now[3],
            "last_log_p": end[2],
            "last_log_area": end[3],
            "log_p0": end[2] + end[3],
        }

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        picture, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.5))
        draw_mesh(left, state["t"], state["at"])
        times = torch.linspace(0, 1, 41, dtype=torch.float64)
        times = torch.cat([times[times < state["t"]], torch.tensor([state["t"]], dtype=torch.float64)])
        _, _, log_p, log_area = followed(state["at"], times.tolist()).T
        right.plot(times, log_p, color=PALETTE.blue, label="log p")
        right.plot(times, log_area, color=PALETTE.vermilion, label="log area")
        right.plot(times, log_p + log_area, color="black", ls="--", label="sum")
        right.set(xlabel="time t", ylabel="nats", xlim=(0, 1))
        right.legend()
        return picture


def flow(x: Tensor, t: Tensor) -> Tensor:
    """The velocity of the flow, (B, 2)."""
    return encode(DENOISER(x, t), PATH.at(t, x), "velocity")


def carried(x: Tensor, t: float) -> Tensor:
    """Points of the data at time t, (B, 2)."""
    ends = torch.tensor([0.0, t], dtype=torch.float64)
    return dopri5(flow, x, ends, rtol=1e-8, atol=1e-8)[-1] if t > 0 else x


def followed(at: list[float], times: list[float]) -> Tensor:
    """One point at the times: its two coordinates, log p_t there and the integral of the divergence; (n, 4)."""

    def field(state: Tensor, t: Tensor) -> Tensor:
        velocity, div = divergence(lambda x: flow(x, t), state[:, :2])
        return torch.cat([velocity, div[:, None]], 1)

    ts = torch.tensor([0.0, *times], dtype=torch.float64)
    kept, back = ts.unique(return_inverse=True)
    start = torch.tensor([[*at, 0.0]], dtype=torch.float64)
    with torch.no_grad():
        states = dopri5(field, start, kept, rtol=1e-7, atol=1e-7) if len(kept) > 1 else start[None]
    log_p = torch.stack([WORLD.log_prob(x[:, :2], PATH, t) for x, t in zip(states, kept, strict=True)])
    return torch.cat([states[:, 0, :2], log_p, states[:, 0, 2:]], 1)[back[1:]]


def draw_mesh(axes: Axes, t: float, at: list[float]) -> None:
    """The mesh at time t, darker where the density is high, and the square."""
    line = torch.linspace(-2.4, 2.4, 25, dtype=torch.float64)
    nodes = carried(torch.cartesian_prod(line, line), t).view(25, 25, 2)
    middles = line[:-1] + 0.1
    density = WORLD.log_prob(carried(torch.cartesian_prod(middles, middles), t), PATH, t).exp().view(24, 24)
    x, y = nodes.permute(2, 0, 1).numpy()
    top = 1.6 * density.max().item()
    axes.pcolormesh(x, y, density.numpy(), cmap="Blues", vmax=top, edgecolors="0.6", lw=0.4)
    rim = SIDE * torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]], dtype=torch.float64)
    start = torch.tensor(at, dtype=torch.float64) + rim
    axes.fill(*start.T, edgecolor=PALETTE.vermilion, fill=False)
    axes.fill(*carried(start, t).T, color=PALETTE.vermilion)
    axes.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
