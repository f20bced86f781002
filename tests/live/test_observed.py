"""Chapter 15's figure: the module's clouds are the package's, and the question's numbers are right."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from node import run_js

import ddpm_lite as dl
from ddpm_lite import live
from ddpm_lite.live.observed import LAWS, NAMES, NOISES, PAIR, PATH, POINTS, cloud, exact, guided, step_down, step_up

FIGURE = live.ObservedPair()
needs_node = pytest.mark.needs("node")


def state(**change: Any) -> dict[str, Any]:
    return {**FIGURE.state, **change}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("jumps", [0, 2])
def test_a_known_number_is_replaced_as_the_package_does(law: str, jumps: int) -> None:
    """The package draws for both numbers twice; the figure takes the first number's noise from the second draw."""
    den, x = LAWS[law].denoiser(PATH), torch.randn(7, 2, generator=seeded(0), dtype=torch.float64)
    known, mask = torch.tensor([0.7, 0.0], dtype=torch.float64), torch.tensor([True, False])
    wanted = dl.repaint(dl.ancestral_step, known, mask, jumps=jumps)(den, PATH, x, 0.5, 0.45, generator=seeded(1))
    generator = seeded(1)
    draw = lambda: torch.randn(7, 2, generator=generator, dtype=torch.float64)  # noqa: E731
    for i in range(jumps + 1):
        if i:
            x = step_up(x, 0.5, 0.45, draw())
        second, first = draw(), draw()
        x = step_down(den, x, 0.5, 0.45, torch.stack([first[:, 0], second[:, 1]], 1), 0.7)
    assert (x - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("method", ["dps", "pigdm"])
def test_a_guided_step_is_the_packages(method: str) -> None:
    den, x = guided(PAIR, method, 1.2), torch.randn(7, 2, generator=seeded(0), dtype=torch.float64)
    z = torch.randn(7, 2, generator=seeded(1), dtype=torch.float64)
    wanted = dl.ancestral_step(den, PATH, x, 0.5, 0.45, generator=seeded(1))
    assert (step_down(den, x, 0.5, 0.45, z, None) - wanted).abs().max() < 1e-12


@pytest.mark.parametrize(("law", "noise"), [*product(LAWS, (0.3, 0.0))])
def test_the_exact_law_is_bayes_on_a_grid(law: str, noise: float) -> None:
    """Without noise the density along the line; with noise the plane's density times the likelihood, summed."""
    axis = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    method = next(name for name, s in NOISES.items() if s == noise)
    first = axis if noise else torch.tensor([-0.8], dtype=torch.float64)
    density = LAWS[law].log_prob(torch.cartesian_prod(first, axis)).exp().view(len(first), -1)
    weight = (-((first + 0.8) ** 2) / (2 * noise**2)).exp() if noise else torch.ones(1, dtype=torch.float64)
    along = weight @ density / (weight @ density).sum() * 100
    assert (exact(law, method, -0.8).log_prob(axis[:, None]).exp() - along).abs().max() < 1e-6


@needs_node
@pytest.mark.parametrize(("method", "law"), [*product(NAMES, LAWS)])
def test_every_point_is_where_the_package_puts_it(method: str, law: str) -> None:
    cases = [state(method=method, law=law, y=y, steps=25) for y in (-1.0, 0.6)]
    script = """
      const { spec } = (await load("observed")).default;
      return inputs.cases.map((s) => Array.from(spec.compute(s, inputs.data).ends));
    """
    for each, found in zip(cases, run_js(script, {"cases": cases, "data": FIGURE.data}), strict=True):
        wanted = cloud(law, method, each["y"], 25).numpy()
        assert np.abs(np.array(found).reshape(POINTS, 2) - wanted).max() < 1e-6


def test_the_question_and_its_reply_have_the_numbers_of_the_figure() -> None:
    told = FIGURE.truth(FIGURE.state)
    assert told["exact_mean"] == pytest.approx(1.35)
    assert told["exact_variance"] == pytest.approx(0.19)
    assert told["mean"] == pytest.approx(0.93, abs=0.03)
    assert FIGURE.question is not None
    assert "1.35" in FIGURE.question.text
    assert FIGURE.question.options[FIGURE.question.answer] == f"To about {1.5 * (1 - 0.19**0.5) / 0.9:.2f}"


@needs_node
def test_the_handle_moves_the_observation_within_its_limits() -> None:
    script = """
      const { spec } = (await load("observed")).default;
      return [-3, -0.512, 0.526, 2.7].map((x) => spec.handles({}, inputs.state, inputs.data)[0].move(x, 1));
    """
    found = run_js(script, {"state": FIGURE.state, "data": FIGURE.data})
    assert [change["y"] for change in found] == [-2.0, -0.5, 0.55, 2.0]
    for change in found:
        FIGURE.check(change)
