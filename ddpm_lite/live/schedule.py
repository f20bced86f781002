"""Chapter 7: draw a noise schedule by hand; its signal-to-noise ratio, its variance and a noised digit follow."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..paths import VP, Coefs, Cosine, Path, RectifiedFlow
from ..reference import book_mixture
from ..viz import PALETTE, image_grid
from .controls import Choice, Clock, Knobs, Question
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

__all__ = ["NoiseSchedule"]

NAMED = {"VP": VP(), "Cosine": Cosine(), "RectifiedFlow": RectifiedFlow()}
LOOKS = {
    "VP": (PALETTE.blue, "-"),
    "Cosine": (PALETTE.vermilion, "--"),
    "RectifiedFlow": (PALETTE.green, "-."),
    "yours": (PALETTE.purple, "-"),
}
ASKED = 0.25
ENDS = math.log(1000) / 2  # lam where the SNR is 1000; minus this where it is 1/1000


@dataclass(frozen=True)
class Falling(Knobs):
    """Knobs of which none lies above the one before."""

    def allows(self, value: Any) -> bool:
        return super().allows(value) and all(late <= early for early, late in pairwise(value))

    def draw(self, rng: random.Random) -> list[float]:
        return sorted(super().draw(rng), reverse=True)


@dataclass(frozen=True)
class Drawn(Path):
    """Variance preserving, alpha^2 = sigmoid(2 lam), with lam the monotone cubic (PCHIP) through lams at even times."""

    lams: tuple[float, ...]

    def coefs(self, t: Tensor) -> Coefs:
        from scipy.interpolate import PchipInterpolator

        curve = PchipInterpolator(torch.linspace(0, 1, len(self.lams), dtype=torch.float64), self.lams)
        lam, slope = torch.as_tensor(curve(t)), torch.as_tensor(curve(t, 1))
        alpha, sigma = torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt()
        return Coefs(alpha, sigma, alpha * sigma**2 * slope, -sigma * alpha**2 * slope)


class NoiseSchedule(Figure):
    """Three noise schedules and one of the reader's own: SNR, scales, and an image that they noise.   Book: ch. 7

    image: (1, H, H) in [-1, 1].
    """

    module = "schedule"
    title = "A noise schedule, and what it does to a digit"
    controls = (
        Choice(
            "schedule",
            "Schedule",
            (
                ("VP", "VP"),
                ("Cosine", "cosine"),
                ("RectifiedFlow", "straight line (RectifiedFlow)"),
                ("yours", "yours"),
            ),
            "VP",
        ),
        Falling("lams", -5.0, 5.0, (5.0, 3.3, 1.7, 0.0, -1.7, -3.3, -5.0)),
        Clock("t", "Time t", 0.01, 0.99, 0.01, 6.0),
    )
    sentence = (
        "At t = {t:.2f}, α = {alpha:.3f} and σ = {sigma:.3f}, so the SNR α²/σ² is {snr:.3f} and λ is {lam:.2f}. "
        "The book's mixture has variance {variance:.3f} there. "
        "Between SNR {snr_max:.1f} and {snr_min:.3f} the bound for data N(0, 1) collects {bound:.4f} nats, "
        "{before:.4f} of them before t."
    )
    question = Question(
        f"At t = {ASKED}, under which schedule is the digit easiest to read?",
        (
            "VP, that of DDPM, the model of chapter 8",
            "the cosine",
            "the straight line (RectifiedFlow)",
        ),
        answer=2,
        reply=(
            "Its α is not the greatest, but it adds the least noise at that time. "
            "What can be read depends on α/σ: compare the digits. "
            "Then drag the handles and draw a schedule of your own."
        ),
    )

    def __init__(self, image: Tensor, **state: Any) -> None:
        if image.ndim != 3 or image.shape[0] != 1 or image.shape[1] != image.shape[2]:
            raise ValueError(f"image has shape {tuple(image.shape)}: give (1, H, H), one square image in grey")
        self.image = image.double()
        super().__init__(**{"t": ASKED, **state})

    def constants(self) -> dict[str, Any]:
        clean = NAMED["RectifiedFlow"]
        return {"image": self.image.flatten().tolist(), "seed": 1, "variance": variance(clean, torch.zeros(1)).item()}

    def path(self, state: Mapping[str, Any]) -> Path:
        return Drawn(tuple(state["lams"])) if state["schedule"] == "yours" else NAMED[state["schedule"]]

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        t = torch.tensor(state["t"], dtype=torch.float64)
        path = self.path(state)
        most, least = (path.lam(end).clamp(-ENDS, ENDS) for end in (0.0, 1.0))
        reached = path.lam(t).clamp(least, most)
        c = path.coefs(t)
        return {
            "t": state["t"],
            "alpha": c.alpha.item(),
            "sigma": c.sigma.item(),
            "snr": (c.alpha / c.sigma).square().item(),
            "lam": path.lam(t).item(),
            "variance": variance(path, t).item(),
            "snr_max": torch.exp(2 * most).item(),
            "snr_min": torch.exp(2 * least).item(),
            "bound": (information(most) - information(least)).item(),
            "before": (information(most) - information(reached)).item(),
        }

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        ts = torch.linspace(0, 1, 201, dtype=torch.float64)
        picture, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.2), width_ratios=[1, 2.2])
        image_grid(left, self.image[None]).set_title("$x_0$")
        for name, path in {**NAMED, state["schedule"]: self.path(state)}.items():
            colour, dash = LOOKS[name]
            right.plot(ts, path.coefs(ts).alpha, dash, color=colour, label=name)
        right.axvline(state["t"], color=PALETTE.black, linewidth=1, linestyle=":")
        right.set(xlabel="$t$", ylabel=r"$\alpha_t$", xticks=[0, 0.25, 0.5, 0.75, 1])
        right.legend()
        return picture


def variance(path: Path, t: Tensor) -> Tensor:
    """Variance of the book's mixture on the line, noised to t: the law of total variance over its components."""
    mixture, c = book_mixture(1), path.coefs(t.double())
    means = c.alpha * mixture.means[:, 0]
    variances = c.alpha**2 * mixture.covs[:, 0, 0] + c.sigma**2
    return mixture.weights @ (variances + means**2) - (mixture.weights @ means) ** 2


def information(lam: Tensor) -> Tensor:
    """Nats that x_t tells about x0 for data N(0, 1): 1/2 log(1 + SNR)."""
    return F.softplus(2 * lam) / 2
