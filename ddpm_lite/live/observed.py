"""Chapter 15: one of two numbers is observed; the clouds of four methods beside the exact posterior of the other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..inverse import dps, mixture_posterior, pigdm
from ..paths import VP, Time, posterior, transition
from ..predict import DenoiseFn
from ..reference import GaussianMixture, book_mixture
from ..samplers import angle_ts
from ..viz import PALETTE
from .controls import Choice, Question, Slider, Stops
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

__all__ = ["ObservedPair"]

SEED, POINTS, JUMPS, BINS = 17, 300, 10, 40
REACH = 3.0
PATH = VP()
PAIR = GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.9], [0.9, 1.0]]])
LAWS = {"pair": PAIR, "mixture": book_mixture(2)}
NOISES = {"replacement": 0.0, "repaint": 0.0, "pigdm": 0.3, "dps": 0.3}  # of the observation
NAMES = {"replacement": "Replacement", "repaint": "RePaint, 10 jumps", "dps": "DPS", "pigdm": "Pi-GDM"}
FIRST = torch.tensor([[1.0, 0.0]], dtype=torch.float64)


def times(steps: int) -> Tensor:
    return angle_ts(PATH, steps)


def guided(law: GaussianMixture, method: str, y: float) -> DenoiseFn:
    """The denoiser that a method samples with."""
    den, seen = law.denoiser(PATH), torch.tensor([y], dtype=torch.float64)
    if method == "dps":
        return dps(den, PATH, FIRST, seen, noise=NOISES[method])
    return pigdm(den, PATH, FIRST, seen, noise=NOISES[method]) if method == "pigdm" else den


def step_down(den: DenoiseFn, x: Tensor, t: Time, s: Time, z: Tensor, known: float | None) -> Tensor:
    """`ancestral_step` with the noise given; where the first number is known, z's first column is the noise on it."""
    mean, var = posterior(PATH, den(x, t).x0, x, t, s)
    at_s = PATH.at(s, x)
    down = mean + torch.where(at_s.sigma > 0, var.sqrt(), 0.0) * z
    if known is not None:
        down[:, :1] = at_s.alpha * known + at_s.sigma * z[:, :1]
    return down


def step_up(x: Tensor, t: Time, s: Time, z: Tensor) -> Tensor:
    """A jump of RePaint, with the noise given."""
    keep, var = transition(PATH, t, s, x)
    return keep * x + var.sqrt() * z


def cloud(name: str, method: str, y: float, steps: int) -> Tensor:
    """The ends of all chains, (POINTS, 2); every state has the same start and the same stream of noise."""
    jumps = JUMPS if method == "repaint" else 0
    stream = np.random.RandomState(SEED)
    draw = lambda: torch.from_numpy(stream.standard_normal((POINTS, 2)))  # noqa: E731
    den, known = guided(LAWS[name], method, y), y if NOISES[method] == 0 else None
    x = PATH.at(1.0, FIRST).sigma * draw()
    for t, s in pairwise(times(steps)):
        for _ in range(jumps):
            x = step_up(step_down(den, x, t, s, draw(), known), t, s, draw())
        x = step_down(den, x, t, s, draw(), known)
    return x


def exact(name: str, method: str, y: float) -> GaussianMixture:
    """The posterior of the second number, a mixture on a line."""
    after = mixture_posterior(LAWS[name], FIRST, torch.tensor([y], dtype=torch.float64), noise=NOISES[method])
    return GaussianMixture(after.weights, after.means[:, 1:], after.covs[:, 1:, 1:])


def moments(law: GaussianMixture) -> tuple[float, float]:
    """Mean and variance of a mixture on a line."""
    mean = law.weights @ law.means[:, 0]
    return mean.item(), (law.weights @ (law.covs[:, 0, 0] + (law.means[:, 0] - mean) ** 2)).item()


class ObservedPair(Figure):
    """The first of two numbers is observed: what four methods make of the second, and the exact posterior.

    Replacement and RePaint take the observation for exact. DPS and Pi-GDM know its noise, 0.3, and are compared
    with the posterior for that noise.   Book: ch. 15
    """

    module = "observed"
    title = "One number is observed: the other one by four methods, and exactly"
    controls = (
        Choice("method", "Method", tuple(NAMES.items()), "replacement"),
        Choice("law", "Law", (("pair", "correlated Gaussian"), ("mixture", "the book's mixture")), "pair"),
        Slider("y", "Observation", -2.0, 2.0, 0.05, 1.5),
        Stops("steps", "Steps", (25, 50, 100, 200), 200),
    )
    sentence = (
        "{name}, {steps} steps, observation {y:.2f} with noise {noise:.1f}: the second number has mean {mean:.3f} and "
        "variance {variance:.3f} in the cloud, and {exact_mean:.3f} and {exact_variance:.3f} in the exact posterior."
    )
    question = Question(
        "The first number is known to be 1.5: the line on the left. On the right is the exact law of the second, with "
        "mean 1.35. Replacement with 200 steps and an exact denoiser puts this mean near 0.93. Where does it go when "
        "the number of steps grows without bound?",
        ("To 1.35: the error comes from the steps", "To about 0.94", "To 1.5, the known number", "To 0"),
        answer=1,
        reply="Nearly nowhere: to 0.940. Its score answers another question than the one asked. Choose the other "
        "methods, drag the line, and change the law.",
    )

    def constants(self) -> dict[str, Any]:
        laws = {
            name: {part: getattr(law, part).tolist() for part in ("weights", "means", "covs")}
            for name, law in LAWS.items()
        }
        sizes = {"seed": SEED, "points": POINTS, "jumps": JUMPS, "bins": BINS, "reach": REACH}
        return {"laws": laws, "noises": NOISES, "names": NAMES, **sizes}

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        law, method, y, steps = state["law"], state["method"], state["y"], state["steps"]
        second = cloud(law, method, y, steps)[:, 1]
        mean, variance = moments(exact(law, method, y))
        return {
            "name": NAMES[method],
            "steps": steps,
            "y": y,
            "noise": NOISES[method],
            "mean": second.mean().item(),
            "variance": second.var().item(),
            "exact_mean": mean,
            "exact_variance": variance,
        }

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        picture, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.4))
        x = cloud(state["law"], state["method"], state["y"], state["steps"])
        draw_plane(left, state, x)
        line = torch.linspace(-REACH, REACH, 241, dtype=torch.float64)
        density = exact(state["law"], state["method"], state["y"]).log_prob(line[:, None]).exp()
        right.hist(x[:, 1], bins=BINS, range=(-REACH, REACH), density=True, color=PALETTE.sky)
        right.plot(line, density, color="black")
        right.set(xlabel="second number", ylabel="density", title="black: exact")
        return picture


def draw_plane(ax: Axes, state: Mapping[str, Any], x: Tensor) -> None:
    """Level lines of the law, the observation and the cloud."""
    axis = torch.linspace(-REACH, REACH, 81, dtype=torch.float64)
    density = LAWS[state["law"]].log_prob(torch.cartesian_prod(axis, axis)).exp().view(81, 81).mT
    levels = [part * density.max().item() for part in (0.05, 0.2, 0.5, 0.8)]
    ax.contour(axis, axis, density, levels=levels, colors="0.6", linewidths=1)
    ax.axvline(state["y"], color=PALETTE.vermilion)
    ax.plot(*x.T, ".", color=PALETTE.blue, ms=3, alpha=0.6)
    ax.set(xlabel="first number", ylabel="second number", xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
