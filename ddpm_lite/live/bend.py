"""Chapter 4: bend a vector field; the explicit and the implicit loss of score matching move together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..reference import book_mixture
from ..scorematch import explicit_sm, implicit_sm
from ..viz import PALETTE, density
from .controls import Choice, Knobs, Presets, Question, Slider
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

__all__ = ["BentScore"]

ANCHORS = ((-1.4, -0.6), (1.2, 0.9), (0.4, -1.3), (-0.6, 1.4))  # the hills of the mixture
RADIUS = 0.6  # of the bump around an anchor
CUT = 0.2
LIMIT = 3.6  # the density is 0 to nine digits outside
STRAIGHT = (0.0,) * 8


class BentScore(Figure):
    """A score model on the book's plane mixture, its two losses, and what an edge does to them.   Book: ch. 4

    The model is the true score, scaled by `strength` and turned by `turn` degrees, plus a bump at each of four places.
    """

    module = "bend"
    title = "A bent score field and its two losses"
    controls = (
        Choice("region", "Data", (("whole", "the whole plane"), ("cut", f"cut at x₁ = {CUT}")), "whole"),
        Slider("strength", "Strength of the field", 0.0, 1.5, 0.01, 0.6),
        Slider("turn", "Turned by (degrees)", -60.0, 60.0, 1.0, 25.0, "{value:.0f}"),
        Knobs("bends", -4.0, 4.0, (0.0, 0.0, -2.0, 1.5, 0.0, 0.0, 1.0, 2.0)),
        Presets(
            "Set",
            (
                ("the true score", {"strength": 1.0, "turn": 0.0, "bends": list(STRAIGHT)}),
                ("no field", {"strength": 0.0, "turn": 0.0, "bends": list(STRAIGHT)}),
            ),
        ),
    )
    sentence = (
        "The explicit loss is {explicit:.3f}, the implicit loss {implicit:.3f}: their difference is {difference:.3f}. "
        "Half the mean square of the true score is {constant:.3f}, and the edge adds {edge:.3f}."
    )
    question = Question(
        "The explicit loss compares the blue field with the grey one, the true score. The implicit loss never sees "
        "the grey one. You bend the blue field, and its explicit loss grows from 4 to 8. "
        "What does the implicit loss do?",
        (
            "It doubles too",
            "It grows by 4",
            "It depends on where the field was bent",
        ),
        answer=1,
        reply=(
            "Drag the four handles, turn the field, make it stronger: the point stays on its line. "
            "Then cut the data, and do it again."
        ),
    )

    def constants(self) -> dict[str, Any]:
        mixture = book_mixture(2)
        parts = ("weights", "means", "covs")
        world = {name: getattr(mixture, name).tolist() for name in parts}
        return {"world": world, "anchors": ANCHORS, "radius": RADIUS, "cut": CUT}

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        mixture, model = book_mixture(2), field(state)
        cut = state["region"] == "cut"
        x, p = laid(CUT if cut else -LIMIT)
        score = mixture.score(x)
        explicit = (p * explicit_sm(model, x, score)).sum().item()
        with torch.no_grad():
            implicit = (p * implicit_sm(model, x)).sum().item()
        return {
            "explicit": explicit,
            "implicit": implicit,
            "difference": explicit - implicit,
            "constant": (p * explicit_sm(torch.zeros_like, x, score)).sum().item(),
            "edge": at_edge(model) if cut else 0.0,
        }

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        told = self.truth(state)
        picture, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.5))
        axis = torch.linspace(-2.2, 2.2, 10, dtype=torch.float64)
        x = torch.cartesian_prod(axis, axis)
        density(left, book_mixture(2).log_prob, limits=(-2.4, 2.4), levels=5)
        for s, colour, width in ((book_mixture(2).score(x), "0.6", 0.004), (field(state)(x), PALETTE.blue, 0.007)):
            short = 0.5 * s / (8 + s.norm(dim=1, keepdim=True))
            left.quiver(*x.T, *short.T, color=colour, angles="xy", scale_units="xy", scale=1, width=width)
        left.set(xlabel="$x_1$", ylabel="$x_2$")
        right.plot([-17, 23], [told["constant"] - 17, told["constant"] + 23], color="0.6")
        right.plot(told["implicit"], told["explicit"], "o", color=PALETTE.blue)
        right.set(xlabel="implicit loss", ylabel="explicit loss", xlim=(-17, 23), ylim=(0, 40), aspect="equal")
        return picture


def field(state: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """The model's score: (B, 2) -> (B, 2)."""
    mixture, angle = book_mixture(2), math.radians(state["turn"])
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    anchors = torch.tensor(ANCHORS, dtype=torch.float64)
    bends = torch.tensor(state["bends"], dtype=torch.float64).view(-1, 2)

    def score(x: Tensor) -> Tensor:
        bumps = torch.exp(-(x[:, None] - anchors).square().sum(2) / (2 * RADIUS**2))  # (B, 4)
        return state["strength"] * mixture.score(x) @ turn.T + bumps @ bends

    return score


def laid(start: float) -> tuple[Tensor, Tensor]:
    """Points right of x1 = start, (n, 2), and their probabilities: Gauss-Legendre in both directions."""
    (x1, w1), (x2, w2) = nodes(start, LIMIT), nodes(-LIMIT, LIMIT)
    x = torch.cartesian_prod(x1, x2)
    p = book_mixture(2).log_prob(x).exp() * torch.outer(w1, w2).flatten()
    kept = p > 1e-13
    return x[kept], p[kept] / p.sum()


def at_edge(model: Callable[[Tensor], Tensor]) -> float:
    """Integral of p s1 along the cut, for p that is 0 left of it and integrates to 1 on the right."""
    x2, w2 = nodes(-LIMIT, LIMIT)
    edge = torch.stack([torch.full_like(x2, CUT), x2], 1)
    normal = torch.distributions.Normal(0.0, 1.0)
    mixture = book_mixture(2)
    spread = (CUT - mixture.means[:, 0]) / mixture.covs[:, 0, 0].sqrt()
    mass = mixture.weights @ (1 - normal.cdf(spread))
    return ((w2 * mixture.log_prob(edge).exp() * model(edge)[:, 0]).sum() / mass).item()


def nodes(low: float, high: float, n: int = 160) -> tuple[Tensor, Tensor]:
    """Points and weights of the Gauss-Legendre rule on an interval, (n,) each."""
    x, w = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(n))
    return (low + high + (high - low) * x) / 2, (high - low) / 2 * w
