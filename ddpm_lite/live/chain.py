"""Chapter 8: the reverse chain with the exact denoiser, by the variance and the number of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..paths import BetaTable, Path, Time, posterior, transition
from ..predict import DenoiseFn
from ..reference import GaussianMixture, book_mixture
from ..samplers import ddim_step, linear_ts
from ..viz import PALETTE
from .controls import Choice, Clock, Question, Stops
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

__all__ = ["ReverseChain"]

SEED, CHAINS, DRAWN = 8, 1000, 40  # a seed whose 1,000 chains lie near the limit, so that chance hides no bias
LAWS = {"gaussian": GaussianMixture([1.0], [[0.0]], [[[0.25]]]), "mixture": book_mixture(2)}
COLOURS = {"forward": PALETTE.vermilion, "posterior": PALETTE.blue, "none": PALETTE.green}


def chain_path(steps: int) -> BetaTable:
    return BetaTable(torch.linspace(0.1 / steps, 20 / steps, steps, dtype=torch.float64))


def step_back(den: DenoiseFn, path: Path, x: Tensor, t: Time, s: Time, variance: str, z: Tensor) -> Tensor:
    """`ancestral_step` with the noise given, or DDIM's step without noise."""
    if variance == "none":
        return ddim_step(den, path, x, t, s)
    mean, var = posterior(path, den(x, t).x0, x, t, s)
    if variance == "forward":
        var = transition(path, t, s, x)[1]
    return mean + torch.where(path.at(s, x).sigma > 0, var.sqrt(), 0.0) * z


def chains(law: str, variance: str, steps: int, taken: int) -> Tensor:
    """The states of all chains after 0, 1, ..., taken steps; (taken + 1, CHAINS, dim)."""
    path, data = chain_path(steps), LAWS[law]
    noise = np.random.RandomState(SEED).standard_normal((taken + 1, CHAINS, data.means.shape[1]))
    start, *noises = torch.from_numpy(noise)
    states = [start]
    for (t, s), z in zip(pairwise(linear_ts(steps)[: taken + 1]), noises, strict=True):
        states.append(step_back(data.denoiser(path), path, states[-1], t, s, variance, z))
    return torch.stack(states)


def limits(variance: str, steps: int) -> list[float]:
    """The variances of infinitely many chains after 0, 1, ..., steps steps, for the Gaussian data.

    A step is then linear, x_s = k x_t + r z, so Var(x_s) = k^2 Var(x_t) + r^2.
    """
    path, ts, one = chain_path(steps), linear_ts(steps), torch.ones(steps, 1, dtype=torch.float64)
    den = LAWS["gaussian"].denoiser(path)
    k = step_back(den, path, one, ts[:-1], ts[1:], variance, 0 * one)
    r = step_back(den, path, 0 * one, ts[:-1], ts[1:], variance, one)
    values = [1.0]
    for k2, r2 in zip(k.square().flatten().tolist(), r.square().flatten().tolist(), strict=True):
        values.append(k2 * values[-1] + r2)
    return values


def exact_variance(law: str, path: Path, t: Time) -> Tensor:
    """The variance of p_t, alpha^2 v + sigma^2, a mean over the coordinates."""
    data, c = LAWS[law], path.coefs(torch.as_tensor(t, dtype=torch.float64))
    second = (data.covs.diagonal(dim1=1, dim2=2) + data.means**2).mean(1)
    return c.alpha**2 * (data.weights @ second - (data.weights @ data.means).square().mean()) + c.sigma**2


def steps_taken(t: float, steps: int) -> int:
    return int((1 - t) * steps + 1e-9)


class ReverseChain(Figure):
    """1,000 chains of DDPM from noise to data, with the exact denoiser of N(0, 0.25) or of the book's mixture.

    Book: ch. 8
    """

    module = "chain"
    title = "The reverse chain with the exact denoiser"
    controls = (
        Choice(
            "law",
            "Data",
            (("gaussian", "N(0, 0.25) on the line"), ("mixture", "four clusters in the plane")),
            "gaussian",
        ),
        Choice(
            "variance",
            "Variance of a step",
            (("forward", "large, β"), ("posterior", "small, β̃"), ("none", "none (DDIM)")),
            "forward",
        ),
        Stops("steps", "Number of steps", (25, 50, 100, 250, 1000), 25),
        Clock("t", "Time t", 1.0, 0.0, 0.005, 6.0, "{value:.3f}"),
    )
    sentence = (
        "After {taken} of {steps} steps, at t = {t:.3f}, the 1,000 chains have variance {variance:.4f}{each}. "
        "{many}The data, noised to this time, have variance {exact:.4f}."
    )
    question = Question(
        "The data have variance 0.25, and the mean of every step is exact. "
        "Forty chains of 25 steps run from noise (left) to data (right). Which chain ends with variance 0.25?",
        ("the one with the large variance, β", "the one with the small variance, β̃", "both", "neither"),
        answer=3,
        reply="With 25 steps the large variance ends at 0.2855, the small one at 0.1618. "
        "No network is involved: the error comes from the steps. Choose more steps, and both approach 0.25.",
    )

    def constants(self) -> dict[str, Any]:
        laws = {
            name: {"weights": data.weights.tolist(), "means": data.means.tolist(), "covs": data.covs.tolist()}
            for name, data in LAWS.items()
        }
        return {"seed": SEED, "chains": CHAINS, "drawn": DRAWN, "laws": laws}

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        law, variance, steps = state["law"], state["variance"], state["steps"]
        taken = steps_taken(state["t"], steps)
        t = linear_ts(steps)[taken].item()
        many = f"Infinitely many such chains would have {limits(variance, steps)[taken]:.4f}. "
        return {
            "taken": taken,
            "steps": steps,
            "t": t,
            "variance": chains(law, variance, steps, taken)[-1].var(0).mean().item(),
            "each": "" if law == "gaussian" else " per coordinate",
            "many": many if law == "gaussian" else "",
            "exact": exact_variance(law, chain_path(steps), t).item(),
        }

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        steps, colour = state["steps"], COLOURS[state["variance"]]
        taken = steps_taken(state["t"], steps)
        states = chains(state["law"], state["variance"], steps, taken)
        draw = draw_line if state["law"] == "gaussian" else draw_plane
        picture, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.2))
        draw(left, right, states, linear_ts(steps)[: taken + 1], chain_path(steps), colour)
        return picture


def draw_line(left: Axes, right: Axes, states: Tensor, ts: Tensor, path: Path, colour: str) -> None:
    """Some chains over time; a histogram of all beside the exact density."""
    line = torch.linspace(-3.5, 3.5, 201, dtype=torch.float64)[:, None]
    left.plot(ts, states[:, :DRAWN, 0], color=colour, lw=0.7, alpha=0.7)
    left.plot(ts[-1].expand(DRAWN), states[-1, :DRAWN, 0], ".", color=colour)
    left.hlines([-1, 1], 0, 1, color="black", ls="--", lw=1)
    left.set(xlabel="t", ylabel="x", xlim=(1, -0.03), ylim=(-4, 4), title=f"{DRAWN} chains; dashed: data, 2 std")
    right.hist(
        states[-1, :, 0].numpy(), bins=np.linspace(-3.5, 3.5, 36).tolist(), density=True, color=colour, alpha=0.5
    )
    right.plot(line, LAWS["gaussian"].log_prob(line, path, ts[-1]).exp(), color="black")
    right.set(xlabel="x", xlim=(-3.5, 3.5), ylim=(0, 1.1), title="1,000 chains; line: exact")


def draw_plane(left: Axes, right: Axes, states: Tensor, ts: Tensor, path: Path, colour: str) -> None:
    """All chains over level lines of the exact density; their variance over time beside the exact one."""
    axis = torch.linspace(-3, 3, 61, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    log_prob = LAWS["mixture"].log_prob(grid, path, ts[-1]).view(61, 61).T
    levels = log_prob.max() - torch.tensor([5.0, 3.5, 2.0, 1.0, 0.3])
    left.contour(axis, axis, log_prob, levels=levels, colors="0.6", linewidths=1, linestyles="solid")
    left.plot(*states[-1].T, ".", color=colour, ms=2.5)
    left.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal", title="1,000 chains; lines: exact")
    exact = [exact_variance("mixture", path, t) for t in linear_ts(100)]
    right.plot(linear_ts(100), exact, color="black")
    right.plot(ts, states.var(1).mean(1), color=colour)
    right.set(xlabel="t", xlim=(1, -0.03), ylim=(0.9, 1.3), title="variance; black: exact")
