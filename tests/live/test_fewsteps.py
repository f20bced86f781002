"""The few steps of chapter 9: every point by the package, the exact solution by another road, the grids."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from node import run_js
from scipy.integrate import solve_ivp

import ddpm_lite as dl
from ddpm_lite import live
from ddpm_lite.live.fewsteps import (
    COLOURS,
    COUNTS,
    LAW,
    LOUDEST,
    PATH,
    START,
    errors,
    exact_paths,
    grid,
    rms,
    scales,
    states,
    steps_of,
)

FIGURE = live.FewSteps()
GRIDS = ("linear", "karras", "angle")
needs_node = pytest.mark.needs("node")


def state(**change: Any) -> dict[str, Any]:
    return {**FIGURE.state, **change}


def test_the_exact_paths_solve_the_equation() -> None:
    """Points that keep their quantile, against scipy's solver of dx/dr = (x - E[x0])/r in the frame x/alpha."""
    times, exact = exact_paths()
    variance = LAW.covs[:, 0, 0].numpy()

    def slope(r: float, x: np.ndarray) -> np.ndarray:
        total = variance + r**2
        away = x[:, None] - LAW.means[:, 0].numpy()
        log = np.log(LAW.weights.numpy() / np.sqrt(total)) - away**2 / (2 * total)
        share = np.exp(log - log.max(1, keepdims=True))
        return (share * r * away / total).sum(1) / share.sum(1)

    ratios = (times / (1 - times)).numpy()
    start = (exact[0] / (1 - times[0])).numpy()
    found = solve_ivp(slope, ratios[[0, -1]], start, method="DOP853", t_eval=ratios, rtol=1e-11, atol=1e-11).y.T
    assert np.abs(found * (1 - times[:, None].numpy()) - exact.numpy()).max() < 1e-8


@needs_node
def test_every_point_is_where_the_package_puts_it() -> None:
    cases = [state(sampler=s, spacing=g, evaluations=n) for s, g, n in product(COLOURS, GRIDS, (3, 11, 61))]
    script = """
      const { spec } = (await load("fewsteps")).default;
      return inputs.cases.map((s) => {
        const { ts, all, curves } = spec.compute(s, inputs.data);
        return { ts: Array.from(ts), all: all.map((x) => Array.from(x)), curve: curves[s.sampler] };
      });
    """
    for each, found in zip(cases, run_js(script, {"cases": cases, "data": FIGURE.data}), strict=True):
        sampler, spacing = each["sampler"], each["spacing"]
        ts = grid(spacing, steps_of(sampler, each["evaluations"]))
        assert found["ts"] == pytest.approx(ts.tolist(), abs=1e-12)
        assert np.abs(np.array(found["all"]) - states(sampler, ts, exact_paths()[1][0]).numpy()).max() < 1e-9
        expected = [rms(errors(sampler, spacing, n)) for n in COUNTS]
        assert found["curve"] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("spacing", GRIDS)
def test_every_grid_starts_at_the_same_noise_and_ends_at_the_data(spacing: str) -> None:
    for steps in (2, 11, 61):
        ts = grid(spacing, steps)
        assert (len(ts), ts[0].item(), ts[-1].item()) == (steps + 1, START, 0.0)
    assert (-PATH.lam(START)).exp().item() == pytest.approx(LOUDEST)


@pytest.mark.parametrize("sampler", COLOURS)
def test_a_sampler_uses_up_its_evaluations(sampler: str) -> None:
    for evaluations in COUNTS:
        steps = steps_of(sampler, evaluations)
        assert evaluations == (2 * steps - 1 if sampler == "heun" else steps)


def test_the_scales_are_those_of_many_samples() -> None:
    found = dl.angle_scales(LAW.sample(400_000, generator=torch.Generator().manual_seed(0)))
    assert scales() == pytest.approx(tuple(found), rel=5e-3)


def test_the_question_and_its_reply_tell_the_figures_numbers() -> None:
    question = FIGURE.question
    slow = [rms(errors("ddim", "angle", n)) for n in (11, 41)]
    fast = [rms(errors("adams", "angle", n)) for n in (11, 41)]
    assert [f"{e:.2f}" for e in slow] == ["0.22", "0.06"]
    assert all(f"{e:.2f}" in question.text for e in slow)
    assert [f"{fast[0]:.4f}", f"{fast[1]:.5f}"] == ["0.0024", "0.00003"]
    assert "0.0024" in question.reply
    assert "0.00003" in question.reply
    assert fast[0] / fast[1] > 50
    assert 3 < slow[0] / slow[1] < 4.5
