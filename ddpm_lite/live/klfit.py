"""Chapter 2: fit one Gaussian to two modes by either KL divergence, by hand or by gradient descent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..reference import GaussianMixture
from ..viz import PALETTE
from .controls import Choice, Clock, Question, Slider
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

__all__ = ["KLFit"]

WEIGHTS, MODES, STD = (0.65, 0.35), (-2.0, 2.0), 0.5
RATE, STEPS = 0.1, 400  # of gradient descent on (mu, log sigma)
HALF_LOG_2PI = math.log(2 * math.pi) / 2
Z = torch.linspace(-8.5, 8.5, 2001, dtype=torch.float64)[:, None]
Q_WEIGHT = torch.exp(-(Z[:, 0] ** 2) / 2 - HALF_LOG_2PI) * (Z[1, 0] - Z[0, 0])  # of the draw mu + sigma z


def moments(p: GaussianMixture) -> tuple[float, float]:
    """Mean and variance of a mixture on the line."""
    mean = p.weights @ p.means[:, 0]
    return mean.item(), (p.weights @ (p.covs[:, 0, 0] + p.means[:, 0] ** 2) - mean**2).item()


def entropy(p: GaussianMixture) -> float:
    line = torch.linspace(-12, 12, 4801, dtype=torch.float64)[:, None]
    log_p = p.log_prob(line)
    return -torch.trapezoid(log_p.exp() * log_p, line[:, 0]).item()


def divergence_of(p: GaussianMixture, direction: str, mu: float, sigma: float) -> float:
    """KL(q || p) by quadrature over q = N(mu, sigma^2), or KL(p || q) by the moments of p."""
    if direction == "forward":
        mean, var = moments(p)
        return HALF_LOG_2PI + math.log(sigma) + (var + (mean - mu) ** 2) / (2 * sigma**2) - entropy(p)
    return (-HALF_LOG_2PI - math.log(sigma) - 0.5 - Q_WEIGHT @ p.log_prob(mu + sigma * Z)).item()


def slope(p: GaussianMixture, direction: str, mu: float, sigma: float) -> tuple[float, float]:
    """The gradient by mu and log sigma; that of KL(q || p) goes through the draw mu + sigma z."""
    if direction == "forward":
        mean, var = moments(p)
        return (mu - mean) / sigma**2, 1 - (var + (mean - mu) ** 2) / sigma**2
    weighted = Q_WEIGHT * p.score(mu + sigma * Z)[:, 0]
    return -weighted.sum().item(), (-1 - sigma * (weighted @ Z[:, 0])).item()


def descend(p: GaussianMixture, direction: str, mu: float, sigma: float, steps: int) -> list[tuple[float, float]]:
    """(mu, sigma) after 0, 1, ..., steps steps; a gradient longer than 1 is shortened to 1."""
    found = [(mu, sigma)]
    for _ in range(steps):
        by_mu, by_log_sigma = slope(p, direction, mu, sigma)
        rate = RATE / max(1.0, math.hypot(by_mu, by_log_sigma))
        mu, sigma = mu - rate * by_mu, sigma * math.exp(-rate * by_log_sigma)
        found.append((mu, sigma))
    return found


class KLFit(Figure):
    """A density with two modes, a Gaussian q over it, and either KL divergence over (mu, sigma).   Book: ch. 2"""

    module = "klfit"
    title = "One Gaussian for two modes, by either KL divergence"
    controls = (
        Choice("direction", "Make small", (("reverse", "KL(q ‖ p)"), ("forward", "KL(p ‖ q)")), "reverse"),
        Slider("mu", "Start: mean μ", -3.0, 3.0, 0.01, 0.5),
        Slider("sigma", "Start: standard deviation σ", 0.2, 3.0, 0.01, 2.5),
        Clock("steps", "Steps of gradient descent", 0, STEPS, 1, 8.0, "{value:.0f}"),
    )
    sentence = (
        "After {steps} steps q has mean {mu:.2f} and standard deviation {sigma:.2f}. "
        "KL(q ‖ p) is {reverse:.3f} nats and KL(p ‖ q) is {forward:.3f}. "
        "The least possible {name} is {least:.3f}, at mean {best_mu:.2f} and standard deviation {best_sigma:.2f}."
    )
    question = Question(
        "The density p has two bumps. Which mean has the Gaussian q with the smallest KL(q ‖ p)?",
        (
            "about −0.6, the mean of p",
            "about −2, the middle of the higher bump",
            "0, half-way between the bumps",
        ),
        answer=1,
        reply="Press Play and watch q fall into a bump. Then make KL(p ‖ q) small: now q covers both.",
    )

    def __init__(self, **state: Any) -> None:
        means = [[mode] for mode in MODES]
        self.density = GaussianMixture(WEIGHTS, means, [[[STD**2]]] * len(MODES))
        super().__init__(**state)

    def constants(self) -> dict[str, Any]:
        return {"weights": WEIGHTS, "modes": MODES, "std": STD, "rate": RATE}

    def best(self, direction: str) -> tuple[float, float]:
        """The q of least divergence: the moments of p, or where descent from the highest mode ends."""
        if direction == "forward":
            mean, var = moments(self.density)
            return mean, math.sqrt(var)
        return descend(self.density, direction, MODES[0], STD, STEPS)[-1]

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        p, direction = self.density, state["direction"]
        mu, sigma = descend(p, direction, state["mu"], state["sigma"], state["steps"])[-1]
        best = self.best(direction)
        return {
            "steps": state["steps"],
            "mu": mu,
            "sigma": sigma,
            "reverse": divergence_of(p, "reverse", mu, sigma),
            "forward": divergence_of(p, "forward", mu, sigma),
            "name": dict(self.controls[0].options)[direction],
            "least": divergence_of(p, direction, *best),
            "best_mu": best[0],
            "best_sigma": best[1],
        }

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        p, direction = self.density, state["direction"]
        trace = torch.tensor(descend(p, direction, state["mu"], state["sigma"], state["steps"]))
        mu, sigma = trace[-1].tolist()
        line = torch.linspace(-5, 5, 401, dtype=torch.float64)[:, None]
        picture, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.0))
        left.plot(line, p.log_prob(line).exp(), color="black")
        left.plot(line, gaussian_density(line, mu, sigma), color=PALETTE.blue)
        left.text(-1.4, 0.45, "p")
        left.text(mu + 0.8 * sigma, 0.05 + 0.28 / sigma, "q", color=PALETTE.blue)
        left.set(xlabel="x", ylabel="density", ylim=(0, 0.82))
        means, stds = torch.linspace(-3, 3, 60).tolist(), torch.linspace(0.2, 3, 50).tolist()
        values = torch.tensor([[divergence_of(p, direction, m, s) for m in means] for s in stds])
        levels = values.min() + 0.06 * torch.arange(1, 16) ** 2
        right.contour(means, stds, values, levels=levels, colors="0.6", linewidths=1)
        right.plot(*trace.T, color=PALETTE.vermilion)
        right.plot(mu, sigma, "o", color=PALETTE.vermilion)
        right.set(xlabel=r"mean $\mu$", ylabel=r"standard deviation $\sigma$")
        return picture


def gaussian_density(x: Tensor, mu: float, sigma: float) -> Tensor:
    return GaussianMixture([1.0], [[mu]], [[[sigma**2]]]).log_prob(x).exp()
