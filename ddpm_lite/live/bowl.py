"""Chapter 1: drag mean and standard deviation over the bowl of the negative log-likelihood."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..reference import GaussianMixture
from ..viz import PALETTE
from .controls import Presets, Question, Slider
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

__all__ = ["LikelihoodBowl"]


def gaussian(mu: float | Tensor, sigma: float | Tensor) -> GaussianMixture:
    return GaussianMixture([1.0], [[float(mu)]], [[[float(sigma) ** 2]]])


class LikelihoodBowl(Figure):
    """Points on a line, a Gaussian over them, and its negative log-likelihood over (mu, sigma).   Book: ch. 1

    points: (N, 1).
    """

    module = "bowl"
    title = "A Gaussian and its negative log-likelihood"
    controls = (
        Slider("mu", "Mean μ", -2.0, 2.6, 0.01, 0.0),
        Slider("sigma", "Standard deviation σ", 0.5, 3.0, 0.01, 1.0),
        Presets(
            "Curve",
            (
                ("A", {"mu": 0.5, "sigma": 0.7}),
                ("B", {"mu": 0.2, "sigma": 1.7}),
                ("C", {"mu": 0.0, "sigma": 1.0}),
            ),
        ),
    )
    sentence = (
        "Mean {mu:.2f} and standard deviation {sigma:.2f}: the negative log-likelihood is {nll:.3f} nats a point, and "
        "the product of all densities is 10 to the power {log10_product:.1f}. The least possible is {least:.3f} nats, "
        "at mean {best_mu:.3f} and standard deviation {best_sigma:.3f}."
    )
    question = Question(
        "Twenty points lie on a line. Which curve gives them the greatest product of densities?",
        (
            "A, narrow, where the points are dense: mean 0.5, standard deviation 0.7",
            "B, wide: mean 0.2, standard deviation 1.7",
            "C, the standard curve: mean 0, standard deviation 1",
        ),
        answer=1,
        reply="Press A, B and C and compare. Then drag the handle to the bottom of the bowl.",
    )

    def __init__(self, points: Tensor, **state: Any) -> None:
        if points.ndim != 2 or points.shape[1] != 1:
            raise ValueError(f"points has shape {tuple(points.shape)}: give (N, 1), points on a line")
        self.points = points.double()
        super().__init__(**state)

    def constants(self) -> dict[str, Any]:
        return {"points": self.points[:, 0].tolist()}

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        mu, sigma = state["mu"], state["sigma"]
        best_sigma, best_mu = torch.std_mean(self.points, correction=0)
        log_prob = gaussian(mu, sigma).log_prob(self.points)
        return {
            "mu": mu,
            "sigma": sigma,
            "nll": -log_prob.mean().item(),
            "log10_product": log_prob.sum().item() / math.log(10),
            "least": -gaussian(best_mu, best_sigma).log_prob(self.points).mean().item(),
            "best_mu": best_mu.item(),
            "best_sigma": best_sigma.item(),
        }

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        mu, sigma = state["mu"], state["sigma"]
        line = torch.linspace(-5, 5, 201, dtype=torch.float64)[:, None]
        means, stds = torch.linspace(-2, 2.6, 70), torch.linspace(0.5, 3, 60)
        nll = torch.tensor([[-gaussian(m, s).log_prob(self.points).mean() for m in means] for s in stds])
        picture, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.0))
        left.vlines(self.points[:, 0], 0, gaussian(mu, sigma).log_prob(self.points).exp(), color=PALETTE.vermilion)
        left.plot(line, gaussian(mu, sigma).log_prob(line).exp(), color=PALETTE.blue)
        left.set(xlabel="x", ylabel="density", ylim=(0, 0.82))
        right.contour(means, stds, nll, levels=nll.min() + 0.02 * torch.arange(1, 13) ** 2, colors="0.6", linewidths=1)
        right.plot(mu, sigma, "o", color=PALETTE.vermilion)
        right.plot(self.points.mean(), self.points.std(correction=0), "x", color="black")
        for name, offer in self.controls[2].options:
            right.annotate(name, (offer["mu"], offer["sigma"]), ha="center", va="center", weight="bold")
        right.set(xlabel=r"mean $\mu$", ylabel=r"standard deviation $\sigma$")
        return picture
