"""Chapter 9: the steps of four samplers beside the exact solution, by the number of evaluations and the grid."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..paths import RectifiedFlow
from ..reference import book_mixture
from ..samplers import adams, angle_ts, ddim_step, dpmpp_2m, heun_step, iterate, karras_ts, linear_ts
from ..viz import PALETTE
from .controls import Choice, Question, Stops
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

__all__ = ["FewSteps"]

LAW, PATH = book_mixture(1), RectifiedFlow()
LOUDEST, QUIETEST = 80.0, 0.002  # sigma/alpha: where all start, and the last level above 0 of Karras' grid
START = LOUDEST / (1 + LOUDEST)  # the time of the first
POINTS, PIECES = 21, 120
COUNTS = (3, 5, 7, 9, 11, 15, 21, 31, 41, 61)  # odd, so that Heun uses them up: two a step, and one in the last
COLOURS = {"ddim": PALETTE.vermilion, "heun": PALETTE.green, "dpmpp_2m": PALETTE.purple, "adams": PALETTE.blue}
NAMES = {"ddim": "DDIM", "heun": "Heun", "dpmpp_2m": "DPM-Solver++(2M)", "adams": "adams, the default"}
SHORT = {**NAMES, "dpmpp_2m": "2M", "adams": "adams"}


def scales() -> tuple[float, float]:
    """What `angle_scales` gives for infinitely many samples of the law: data_std and middle."""
    mean = LAW.weights @ LAW.means[:, 0]
    std = (LAW.weights @ (LAW.covs[:, 0, 0] + LAW.means[:, 0] ** 2) - mean**2).sqrt().item()
    return 0.85 * std, 0.42 * std


def grid(name: str, steps: int) -> Tensor:
    """The times of so many steps, (steps + 1,), from START to 0."""
    if name == "karras":
        ts = karras_ts(PATH, steps, sigma_max=LOUDEST, sigma_min=QUIETEST)
        return torch.cat([torch.tensor([START], dtype=torch.float64), ts[1:]])
    return linear_ts(steps, t_max=START) if name == "linear" else angle_ts(PATH, steps, middle=scales()[1], t_max=START)


def states(sampler: str, ts: Tensor, x: Tensor) -> Tensor:
    """The points of a sampler at every time of ts, from x: (len(ts), N)."""
    den = LAW.denoiser(PATH)
    x = x[:, None]
    found = {
        "ddim": lambda: iterate(ddim_step, den, PATH, x, ts),
        "heun": lambda: iterate(heun_step, den, PATH, x, ts),
        "dpmpp_2m": lambda: dpmpp_2m(den, PATH, x, ts),
        "adams": lambda: adams(den, PATH, x, ts, data_std=scales()[0]),
    }[sampler]()
    return torch.stack(list(found))[..., 0]


def steps_of(sampler: str, evaluations: int) -> int:
    return (evaluations + 1) // 2 if sampler == "heun" else evaluations


@cache
def exact_paths() -> tuple[Tensor, Tensor]:
    """Times, (PIECES + 1,), and the exact solutions at them, (PIECES + 1, POINTS).

    On a line the flow cannot change the order of points, so a point keeps its quantile: the cumulative distribution
    of p_t is solved for it by bisection.
    """
    share = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    times = START * torch.linspace(1, 0, PIECES + 1, dtype=torch.float64)
    low, high = torch.full((PIECES + 1, POINTS), -9.0).double(), torch.full((PIECES + 1, POINTS), 9.0).double()
    c = PATH.at(times, low[..., None])
    mean, std = c.alpha * LAW.means[:, 0], (c.alpha**2 * LAW.covs[:, 0, 0] + c.sigma**2).sqrt()
    for _ in range(60):
        middle = (low + high) / 2
        below = (LAW.weights * torch.special.ndtr((middle[..., None] - mean) / std)).sum(-1) < share
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return times, (low + high) / 2


def errors(sampler: str, spacing: str, evaluations: int) -> Tensor:
    """The distances of the ends from the exact ones, (POINTS,)."""
    exact = exact_paths()[1]
    return (states(sampler, grid(spacing, steps_of(sampler, evaluations)), exact[0])[-1] - exact[-1]).abs()


def rms(values: Tensor) -> float:
    return values.square().mean().sqrt().item()


class FewSteps(Figure):
    """Four samplers on the book's mixture on a line, with the exact denoiser, beside the exact solution.

    Book: ch. 9
    """

    module = "fewsteps"
    title = "A few steps from noise to data, and the exact solution"
    controls = (
        Choice("sampler", "Sampler", tuple(NAMES.items()), "ddim"),
        Choice(
            "spacing",
            "Steps",
            (("linear", "even in t"), ("karras", "Karras, \u03c1 = 7"), ("angle", "the default's")),
            "angle",
        ),
        Stops("evaluations", "Evaluations", COUNTS, 11),
    )
    sentence = (
        "With {evaluations} evaluations, in {steps} steps, the ends miss the exact ones by {error:.5f} (root mean "
        "square of 21 points), and the worst one by {worst:.5f}."
    )
    question = Question(
        "Grey: exact solutions from noise (left) to data (right). Orange: DDIM in 11 steps, one evaluation of the "
        "denoiser each. With 41 evaluations in place of 11 the error of DDIM falls from 0.22 to 0.06, about a quarter. "
        "The default sampler uses one evaluation a step too, and remembers the last five. What do 41 do to its error?",
        ("It falls to about a quarter too", "It falls to about a sixteenth", "It falls to less than a fiftieth"),
        answer=2,
        reply="DDIM is of order 1: four times the evaluations, a quarter of the error. The default starts at 0.0024 "
        "and ends at 0.00003. Choose each sampler, and watch its line on the right; then choose other steps.",
    )

    def constants(self) -> dict[str, Any]:
        times, exact = exact_paths()
        data_std, middle = scales()
        law = {name: getattr(LAW, name).tolist() for name in ("weights", "means", "covs")}
        return {
            "law": law,
            "times": times.tolist(),
            "exact": exact.tolist(),
            "data_std": data_std,
            "middle": middle,
            "loudest": LOUDEST,
            "quietest": QUIETEST,
            "counts": COUNTS,
            "short": SHORT,
        }

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        sampler, evaluations = state["sampler"], state["evaluations"]
        away = errors(sampler, state["spacing"], evaluations)
        return {
            "evaluations": evaluations,
            "steps": steps_of(sampler, evaluations),
            "error": rms(away),
            "worst": away.max().item(),
        }

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        picture, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.3))
        draw_steps(left, state)
        draw_errors(right, state)
        return picture


def draw_steps(ax: Axes, state: Mapping[str, Any]) -> None:
    """The exact solutions, and the sampler's points with straight lines between them."""
    times, exact = exact_paths()
    sampler, colour = state["sampler"], COLOURS[state["sampler"]]
    ts = grid(state["spacing"], steps_of(sampler, state["evaluations"]))
    ax.plot(times, exact, color="0.6", lw=1)
    ax.plot(ts, states(sampler, ts, exact[0]), ".-", color=colour, lw=0.8, ms=3)
    ax.set(xlabel="t", ylabel="x", xlim=(1, -0.03), ylim=(-3, 3.2), title="grey: exact")


def draw_errors(ax: Axes, state: Mapping[str, Any]) -> None:
    for sampler, colour in COLOURS.items():
        found = [rms(errors(sampler, state["spacing"], n)) for n in COUNTS]
        ax.loglog(COUNTS, found, color=colour, lw=2 if sampler == state["sampler"] else 1)
        ax.text(COUNTS[-1], found[-1], SHORT[sampler], color=colour, ha="right", va="bottom")
        if sampler == state["sampler"]:
            ax.plot(state["evaluations"], found[COUNTS.index(state["evaluations"])], "o", color=colour)
    ax.set(xlabel="evaluations", title="error at the end", xticks=[3, 10, 30], xticklabels=["3", "10", "30"])
    ax.minorticks_off()
