"""Chapter 13: guided samples over the tilted density that they do not follow, by the scale."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..guidance import cfg
from ..paths import EDM
from ..reference import GaussianMixture, book_mixture
from ..samplers import adams, karras_ts, last
from ..viz import PALETTE
from .controls import Choice, Question, Slider
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

__all__ = ["GuidanceScale"]

LOUDEST, QUIETEST, STEPS, POINTS = 300.0, 0.002, 80, 300
PATH = EDM(LOUDEST)
BOOK = book_mixture(1)
LAWS = {  # all data, and the data given y
    "gauss": (
        GaussianMixture([1.0], [[0.0]], [[[1.25]]]),
        GaussianMixture([1.0], [[1.0]], [[[0.25]]]),
    ),
    "mixture": (BOOK, GaussianMixture([1.0], BOOK.means[1:2], BOOK.covs[1:2])),
}
LOW, HIGH, CELLS = -9.0, 9.0, 3600  # of the sums for the tilted density
SEEN = (-3.2, 3.6)
SCALES = [k / 4 for k in range(25)]


def starts() -> Tensor:
    """The middles of equal shares of the noise, (POINTS, 1)."""
    shares = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    return LOUDEST * torch.special.ndtri(shares)[:, None]


@cache
def samples(law: str, w: float) -> Tensor:
    """The ends of the probability-flow ODE with the guided denoiser, (POINTS,)."""
    everyone, given = LAWS[law]
    den = cfg(given.denoiser(PATH), everyone.denoiser(PATH), w)
    ts = karras_ts(PATH, STEPS, sigma_max=LOUDEST, sigma_min=QUIETEST)
    return last(adams(den, PATH, starts(), ts))[:, 0]


def tilted(law: str, w: float) -> tuple[Tensor, Tensor]:
    """Places on the line and the density p(x) (p(x|y)/p(x))^w there, (CELLS + 1,) each."""
    everyone, given = LAWS[law]
    x = torch.linspace(LOW, HIGH, CELLS + 1, dtype=torch.float64)
    log_q = (1 - w) * everyone.log_prob(x[:, None]) + w * given.log_prob(x[:, None])
    return x, log_q.softmax(0) * CELLS / (HIGH - LOW)


def moments(law: str, w: float) -> tuple[float, float]:
    """Mean and variance of the tilted density."""
    x, q = tilted(law, w)
    p = q / q.sum()
    mean = p @ x
    return mean.item(), (p @ (x - mean) ** 2).item()


def plain(law: GaussianMixture) -> dict[str, Any]:
    return {"weights": law.weights.tolist(), "means": law.means.tolist(), "covs": law.covs.tolist()}


class GuidanceScale(Figure):
    """Guided samples beside the tilted density p(x) p(y|x)^w, with exact scores, by the scale w.   Book: ch. 13"""

    module = "guidance"
    title = "Guided samples and the tilted density"
    controls = (
        Slider("w", "Scale w", 0.0, 6.0, 0.25, 2.0),
        Choice("law", "Data", (("gauss", "Gaussian, y = 1"), ("mixture", "mixture, y = middle")), "gauss"),
    )
    sentence = (
        "At w = {w:.2f} the guided samples have mean {mean:.3f} and variance {variance:.5f}. "
        "The tilted density has mean {tilted_mean:.3f} and variance {tilted_variance:.5f}."
    )
    question = Question(
        "Solid: the density of x given y, with variance 0.25. Dashed: the tilted density for w = 2, with variance "
        "0.139. The exact scores are guided with w = 2. What is the variance of the samples?",
        ("0.25", "0.139", "0.050", "0.19, between the two"),
        answer=2,
        reply="At every noise level guidance follows the score of a tilted density. These densities are not noised "
        "versions of the last one, so the samples end elsewhere: narrower, and farther out.",
    )

    def constants(self) -> dict[str, Any]:
        return {
            "laws": {name: [plain(law) for law in pair] for name, pair in LAWS.items()},
            "starts": starts()[:, 0].tolist(),
            "steps": STEPS,
            "loudest": LOUDEST,
            "quietest": QUIETEST,
            "grid": [LOW, HIGH, CELLS],
            "seen": list(SEEN),
            "scales": SCALES,
        }

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        x = samples(state["law"], state["w"])
        mean, variance = moments(state["law"], state["w"])
        return {
            "w": state["w"],
            "mean": x.mean().item(),
            "variance": x.var(correction=0).item(),
            "tilted_mean": mean,
            "tilted_variance": variance,
        }

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        picture, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.4), layout="constrained")
        draw_densities(left, state["law"], state["w"])
        found = [samples(state["law"], w).var(correction=0).item() for w in SCALES]
        right.semilogy(SCALES, found, color=PALETTE.blue, label="samples")
        right.semilogy(
            SCALES, [moments(state["law"], w)[1] for w in SCALES], "--", color=PALETTE.vermilion, label="tilted density"
        )
        right.axvline(state["w"], color="0.6", lw=1)
        right.set(xlabel="scale w", ylabel="variance")
        right.legend()
        return picture


def draw_densities(axes: Axes, law: str, w: float) -> None:
    everyone, given = LAWS[law]
    x, q = tilted(law, w)
    axes.hist(samples(law, w).numpy(), bins=68, range=SEEN, density=True, color=PALETTE.sky, label="samples")
    axes.plot(x, everyone.log_prob(x[:, None]).exp(), color="0.6", lw=1, label="all data")
    axes.plot(x, given.log_prob(x[:, None]).exp(), color="black", lw=1, label="given y")
    axes.plot(x, q, "--", color=PALETTE.vermilion, label="tilted density")
    axes.set(xlim=SEEN, xlabel="x", ylabel="density")
    axes.legend(fontsize=8)
