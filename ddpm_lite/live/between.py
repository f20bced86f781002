"""Chapter 16: two ways between two noises, their norms in d dimensions, and what the exact flow makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..editing import slerp
from ..ode import dopri5
from ..paths import RectifiedFlow
from ..predict import encode
from ..reference import book_mixture
from ..viz import PALETTE
from .controls import Clock, Knobs, Question, Stops
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

__all__ = ["LatentWays"]

WORLD, PATH = book_mixture(2), RectifiedFlow()
DENOISER = WORLD.denoiser(PATH)
T_MIN = 1e-3  # where the way to the data ends
SEED = 3  # of the coordinates that are not seen
DIMENSIONS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class LatentWays(Figure):
    """Lerp and slerp between two noises: the norm on the way, and the decoded way in the data.   Book: ch. 16

    The data are d/2 independent copies of the book's plane mixture, so that the flow is exact for any d. The plane
    shows the first copy, `ends` the first two coordinates of both noises.
    """

    module = "between"
    title = "Two ways between two noises"
    controls = (
        Clock("u", "Position u", 0.0, 1.0, 0.01, 6.0),
        Stops("d", "Dimensions d", DIMENSIONS, 256),
        Knobs("ends", -2.0, 2.0, (-1.4, -0.3, 0.9, -1.3)),
    )
    sentence = (
        "At u = {u:.2f} in d = {d:.0f} dimensions the norm over the root of d is {lerp_norm:.3f} by lerp and "
        "{slerp_norm:.3f} by slerp. The log-density of the decoded point is {lerp_log_p:.2f} by lerp and "
        "{slerp_log_p:.2f} by slerp."
    )
    question = Question(
        "Two independent draws of N(0, I) in 256 dimensions each have a length of about 16. "
        "How long is their middle, (a + b)/2?",
        ("About 16", "About 11.3", "About 8", "Nearly 0"),
        answer=1,
        reply=(
            "Its coordinates have variance 1/2, so its length is 16 × 0.7071 = 11.3. Hardly any draw is so short: lerp "
            "leaves the band of typical norms, slerp stays in it. Set d to 2, and the band is as wide as the panel."
        ),
    )

    def constants(self) -> dict[str, Any]:
        return {"world": {name: getattr(WORLD, name).tolist() for name in ("weights", "means", "covs")}, "seed": SEED}

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        a, b = noises(state["ends"], state["d"])
        ways = {"lerp": a.lerp(b, state["u"]), "slerp": slerp(a, b, state["u"])}
        numbers: dict[str, Any] = {"u": state["u"], "d": state["d"]}
        for name, z in ways.items():
            numbers[f"{name}_norm"] = z.norm().item() / math.sqrt(state["d"])
            numbers[f"{name}_log_p"] = WORLD.log_prob(decoded(z[:, :2])).item()
        return numbers

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        picture, (right, left) = plt.subplots(1, 2, figsize=(7.0, 3.5))
        a, b = noises(state["ends"], state["d"])
        u = torch.linspace(0, 1, 101, dtype=torch.float64)
        many = a.expand(101, -1), b.expand(101, -1)
        ways = {"lerp": many[0].lerp(many[1], u[:, None]), "slerp": slerp(*many, u)}
        line = torch.linspace(-3, 3, 121, dtype=torch.float64)
        density = WORLD.log_prob(torch.cartesian_prod(line, line)).exp().view(121, 121).T
        left.contour(line, line, density, levels=[0.02, 0.1, 0.25, 0.45, 0.7], colors="0.6", linewidths=0.8)
        low, high = band(state["d"])
        right.axhspan(low, high, color="0.88")
        at = round(100 * state["u"])
        for name, colour in (("lerp", PALETTE.vermilion), ("slerp", PALETTE.blue)):
            x, norm = decoded(ways[name][:, :2]), ways[name].norm(dim=1) / math.sqrt(state["d"])
            left.plot(*x.T, color=colour)
            left.plot(*x[at], "o", color=colour)
            right.plot(u, norm, color=colour, label=name)
            right.plot(u[at], norm[at], "o", color=colour)
        left.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
        right.set(xlabel="position u", ylabel="norm / $\\sqrt{d}$", xlim=(0, 1), ylim=(0, 2))
        right.legend()
        return picture


def noises(ends: list[float], d: int) -> tuple[Tensor, Tensor]:
    """Both noises, (1, d) each: the first two coordinates are given, the others drawn once for all d."""
    rest = torch.as_tensor(np.random.RandomState(SEED).standard_normal(2 * (DIMENSIONS[-1] - 2))).view(2, -1)
    first = torch.tensor(ends, dtype=torch.float64).view(2, 2)
    a, b = torch.cat([first, rest[:, : d - 2]], 1)
    return a[None], b[None]


def decoded(z: Tensor) -> Tensor:
    """Noises of the plane at T_MIN, by the exact flow, (B, 2)."""

    def flow(x: Tensor, t: Tensor) -> Tensor:
        return encode(DENOISER(x, t), PATH.at(t, x), "velocity")

    return dopri5(flow, z, torch.tensor([1.0, T_MIN], dtype=torch.float64), rtol=1e-9, atol=1e-9)[-1]


def band(d: int) -> tuple[float, float]:
    """Where 99 of 100 norms over the root of d lie: Wilson and Hilferty's normal law of the cube root of chi-square."""
    centre, spread = 1 - 2 / (9 * d), 2.5758 * math.sqrt(2 / (9 * d))
    return max(0.0, centre - spread) ** 1.5, (centre + spread) ** 1.5
