"""The crowds of chapter 10: the package's steps, point by point, and what the question says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from node import run_js

import ddpm_lite as dl
from ddpm_lite import live
from ddpm_lite.live.family import GROUPS, LAST, LAW, PATHS, POINTS, crowd, step_back, steps_taken, times

FIGURE = live.MarginalFamily()
needs_node = pytest.mark.needs("node")


def state(**change: Any) -> dict[str, Any]:
    return {**FIGURE.state, **change}


def distance_to_the_data(x: torch.Tensor, path: dl.Path) -> float:
    """Largest difference between the shares of the points and of the exact law on the left of any place."""
    alpha, sigma = path.coefs(torch.tensor(LAST, dtype=torch.float64))[:2]
    spread = (alpha**2 * LAW.covs[:, 0, 0] + sigma**2).sqrt()
    exact = torch.special.ndtr((x.sort().values[:, None] - alpha * LAW.means[:, 0]) / spread) @ LAW.weights
    return (exact - (torch.arange(len(x)) + 0.5) / len(x)).abs().max().item()


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_step_is_the_packages_step_with_the_noise_given(name: str, eta: float) -> None:
    path, x = PATHS[name], torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    z = torch.randn(7, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    wanted = dl.em_step(LAW.denoiser(path), path, x, 0.4, 0.38, eta=eta, generator=generator)
    assert (step_back(path, x, 0.4, 0.38, eta, z) - wanted).abs().max() < 1e-9


@needs_node
@pytest.mark.parametrize("change", [{}, {"path": "ve", "eta": 1.3, "steps": 50}])
def test_every_point_is_where_the_package_puts_it(change: dict[str, Any]) -> None:
    """Also after the clock ran back."""
    settings = [state(t=t, **change) for t in (0.5, 0.0, 0.5)]
    script = """
      const { spec } = (await load("family")).default;
      return inputs.settings.map((s) => {
        const { all, taken } = spec.compute(s, inputs.data);
        return ["ode", "middle", "sde"].map((name) => Array.from(all[name].states[taken]));
      });
    """
    found = run_js(script, {"settings": settings, "data": FIGURE.data})
    for each, three in zip(settings, found, strict=True):
        taken = steps_taken(each["t"], each["steps"])
        for eta, points in zip((0.0, each["eta"], 1.0), three, strict=True):
            wanted = crowd(each["path"], eta, each["steps"], taken)[-1].numpy()
            assert np.abs(np.array(points) - wanted).max() < 1e-6


def test_the_clock_runs_through_all_steps() -> None:
    for steps in (25, 50, 100, 200):
        assert steps_taken(1.0, steps) == 0
        assert steps_taken(0.0, steps) == steps
        assert len(times(steps)) == steps + 1


def test_the_answer_is_what_happens() -> None:
    """All crowds have the law of the data, by the Kolmogorov-Smirnov distance of 1,000 points (1.95/sqrt(n): 0.1%)."""
    assert FIGURE.question is not None
    assert FIGURE.question.options[FIGURE.question.answer] == "all three"
    for eta in (0.0, 0.5, 1.0):
        ends = crowd("vp", eta, 200, 200)[-1]
        assert distance_to_the_data(ends, PATHS["vp"]) < 1.95 / POINTS**0.5 + 0.01


def test_without_noise_the_order_stays_and_with_noise_it_goes() -> None:
    for eta, mixed in ((0.0, False), (1.0, True)):
        states = crowd("vp", eta, 100, 100)
        start, end = (states[i].argsort().argsort() * GROUPS // POINTS for i in (0, -1))
        assert ((start != end).double().mean() > 0.5) == mixed
        assert (start == end).all() == (not mixed)
