"""Chapter 2's figure: its divergences against their definition, its descent, and what its handle does."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from node import run_js
from scipy import optimize, stats

from ddpm_lite import live
from ddpm_lite.live import klfit

GRID = np.linspace(-30, 30, 20_001)
P = 0.65 * stats.norm.pdf(GRID, -2, 0.5) + 0.35 * stats.norm.pdf(GRID, 2, 0.5)
LOG_P = np.logaddexp(
    math.log(0.65) + stats.norm.logpdf(GRID, -2, 0.5), math.log(0.35) + stats.norm.logpdf(GRID, 2, 0.5)
)


def by_definition(direction: str, mu: float, sigma: float) -> float:
    q, log_q = stats.norm.pdf(GRID, mu, sigma), stats.norm.logpdf(GRID, mu, sigma)
    values = q * (log_q - LOG_P) if direction == "reverse" else P * (LOG_P - log_q)
    return float(np.trapezoid(values, GRID))


def starts(n: int) -> list[dict[str, Any]]:
    rng = random.Random(1)
    return [
        {"direction": direction, "mu": rng.uniform(-3, 3), "sigma": rng.uniform(0.2, 3), "steps": 0}
        for _ in range(n)
        for direction in ("reverse", "forward")
    ]


@pytest.fixture(scope="module")
def figure() -> live.KLFit:
    return live.KLFit()


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_the_divergences_are_their_integrals(figure: live.KLFit, direction: str) -> None:
    for state in starts(10):
        at = state["mu"], state["sigma"]
        assert klfit.divergence_of(figure.density, direction, *at) == pytest.approx(
            by_definition(direction, *at), abs=1e-8
        )


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_the_slope_is_that_of_the_integral(figure: live.KLFit, direction: str) -> None:
    for state in starts(4):
        mu, log_sigma = state["mu"], math.log(state["sigma"])
        numeric = optimize.approx_fprime(
            [mu, log_sigma], lambda at: by_definition(direction, at[0], math.exp(at[1])), 1e-6
        )
        assert klfit.slope(figure.density, direction, mu, state["sigma"]) == pytest.approx(numeric, rel=1e-4, abs=1e-4)


def test_the_least_values_are_the_least(figure: live.KLFit) -> None:
    for direction in ("reverse", "forward"):
        found = [
            optimize.minimize(
                lambda at, d=direction: by_definition(d, at[0], math.exp(at[1])), [mu, 0.0], method="Nelder-Mead"
            )
            for mu in (-2.5, 0.0, 2.5)
        ]
        best = min(found, key=lambda end: end.fun)
        truth = figure.truth({**figure.state, "direction": direction})
        assert truth["least"] == pytest.approx(best.fun, abs=1e-6)
        assert [truth["best_mu"], truth["best_sigma"]] == pytest.approx([best.x[0], math.exp(best.x[1])], abs=1e-3)


def test_the_answer_is_where_the_least_is(figure: live.KLFit) -> None:
    assert figure.question is not None
    chosen = figure.question.options[figure.question.answer]
    best = figure.truth(figure.state)["best_mu"]
    assert chosen.startswith(f"about \N{MINUS SIGN}{-best:.0f},")


@pytest.mark.needs("node")
def test_descent_falls_and_stays_in_the_panel(figure: live.KLFit) -> None:
    """The divergence never rises along a path that node draws, and the handle at its end can be seen and dragged."""
    states = [{**state, "steps": 400} for state in starts(15)]
    script = """
      const { spec } = (await load("klfit")).default;
      return inputs.states.map((state) => {
        const world = spec.compute(state, inputs.data);
        const panel = spec.panels(inputs.data, state, false).find(({ name }) => name === "valley");
        return [world.trace, spec.handles(world)[0], panel.x, panel.y];
      });
    """
    for state, (trace, handle, x, y) in zip(
        states, run_js(script, {"states": states, "data": figure.data}), strict=True
    ):
        values = [by_definition(state["direction"], *at) for at in trace[::20]]
        assert all(late < early + 1e-9 for early, late in pairwise(values))
        assert x[0] <= handle["x"] <= x[1]
        assert y[0] <= handle["y"] <= y[1]


@pytest.mark.needs("node")
def test_a_drag_puts_q_there_and_starts_again(figure: live.KLFit) -> None:
    script = """
      const { spec } = (await load("klfit")).default;
      const world = spec.compute({ ...inputs.state, steps: 120 }, inputs.data);
      return spec.handles(world)[0].move(-1.234, 0.876);
    """
    moved = run_js(script, {"state": figure.state, "data": figure.data})
    assert moved == {"mu": -1.23, "sigma": 0.88, "steps": 0}
    figure.check(moved)
