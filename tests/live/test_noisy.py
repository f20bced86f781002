"""Chapter 5's figure: its posterior, its moments and its draws, against Bayes' rule; what its handle may do."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from node import run_js
from scipy import stats

import ddpm_lite as dl
from ddpm_lite import live
from ddpm_lite.live.noisy import DRAWS, clean_points, posterior


@pytest.fixture(scope="module")
def figure() -> live.NoisyPoint:
    return live.NoisyPoint()


def drawn(n: int, low: float = 0.25) -> list[dict[str, Any]]:
    """Random states; noise from `low` on, so that a grid sees the posterior."""
    rng = random.Random(5)
    named = [c for c in live.NoisyPoint.controls if hasattr(c, "name")]
    states = [{c.name: c.draw(rng) for c in named} for _ in range(n)]
    return [{**state, "noise": max(low, state["noise"])} for state in states]


def by_bayes(state: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and covariance (D, D) of the clean point: scipy's densities on a grid, and Bayes' rule."""
    line = state["dim"] == "line"
    world, at = dl.book_mixture(1 if line else 2), np.array(state["at"][: 1 if line else 2])
    axis = np.linspace(-4.5, 4.5, 3001 if line else 301)
    x = axis[:, None] if line else np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    parts = zip(world.weights.tolist(), world.means.numpy(), world.covs.numpy(), strict=True)
    p = sum(w * stats.multivariate_normal.pdf(x, m, c) for w, m, c in parts)
    joint = p * np.exp(-((x - at) ** 2).sum(1) / (2 * state["noise"] ** 2))
    r = joint / joint.sum()
    mean = r @ x
    return mean, np.einsum("n,ni,nj->ij", r, x - mean, x - mean)


def test_the_numbers_are_those_of_bayes_rule(figure: live.NoisyPoint) -> None:
    worlds = set()
    for state in drawn(12):
        told, (mean, cov) = figure.truth(state), by_bayes(state)
        at = np.array(state["at"][: len(mean)])
        assert told["shift"] == pytest.approx(np.linalg.norm(mean - at), abs=1e-6)
        assert told["tweedie"] == pytest.approx(told["shift"], abs=1e-9)
        assert told["exact"] == pytest.approx(np.trace(cov) ** 0.5, abs=1e-6)
        assert told["floor"] == pytest.approx(np.trace(cov) / (2 * state["noise"] ** 4), rel=1e-5)
        worlds.add(state["dim"])
    assert worlds == {"line", "plane"}


def test_the_cloud_is_drawn_from_the_posterior(figure: live.NoisyPoint) -> None:
    """Of 400 draws, mean and spread within five standard errors of the exact ones."""
    for state in drawn(8):
        x, (mean, cov) = clean_points({**state, "n": DRAWS}), by_bayes(state)
        assert x.shape == (DRAWS, len(mean))
        errors = (x.mean(0).numpy() - mean) / np.sqrt(np.diag(cov) / DRAWS)
        assert np.abs(errors).max() < 5
        squares = (x.numpy() - mean) ** 2
        assert np.all(np.abs(squares.mean(0) - np.diag(cov)) < 5 * squares.std(0) / DRAWS**0.5 + 1e-9)


def test_more_draws_keep_the_first_ones(figure: live.NoisyPoint) -> None:
    few, many = (clean_points({**figure.state, "n": n}) for n in (7, 300))
    assert torch.equal(few, many[:7])
    one = figure.truth({**figure.state, "n": 1})
    assert one["off"] == pytest.approx(one["spread"], abs=1e-12)


def test_far_out_at_little_noise_the_posterior_is_one_hill() -> None:
    law = posterior({"dim": "plane", "noise": 0.1, "at": [3.0, 3.0], "n": 1})
    assert len(law.weights) < 4
    assert law.weights.sum().item() == pytest.approx(1, abs=1e-12)


def test_the_question_has_the_answer_that_the_numbers_give(figure: live.NoisyPoint) -> None:
    """The mean lies on no hill: the density there is a hundredth of that of the lowest hill."""
    mean, _ = by_bayes(figure.state)
    world = dl.book_mixture(2)
    at_mean = world.log_prob(torch.from_numpy(mean)[None]).exp().item()
    assert at_mean < 0.01 * world.log_prob(world.means).exp().min().item()
    assert figure.question is not None
    assert figure.question.options[figure.question.answer].startswith("The mean of all clean points")


@pytest.mark.needs("node")
@pytest.mark.parametrize("dim", ["plane", "line"])
def test_the_handle_moves_the_noisy_point_within_its_limits(figure: live.NoisyPoint, dim: str) -> None:
    script = """
      const { spec } = (await load("noisy")).default;
      let state = inputs.state;
      return inputs.moves.map(([x, y]) => {
        const [handle] = spec.handles({}, state, inputs.data);
        const before = state.at;
        state = { ...state, ...handle.move(x, y) };
        const [after] = spec.handles({}, state, inputs.data);
        return { before, state, at: [after.x, after.y] };
      });
    """
    rng = random.Random(2)
    moves = [(rng.uniform(-4, 4), rng.uniform(-4, 4)) for _ in range(40)]
    inputs = {"state": {**figure.state, "dim": dim}, "moves": moves, "data": figure.data}
    for (x, y), each in zip(moves, run_js(script, inputs), strict=True):
        figure.check(each["state"])
        inside = [min(3.0, max(-3.0, value)) for value in (x, y)]
        if dim == "line":
            assert each["at"] == pytest.approx([inside[0], 0], abs=5e-3)
            assert each["state"]["at"][1] == each["before"][1]
        else:
            assert each["at"] == pytest.approx(inside, abs=5e-3)


@pytest.mark.needs("node")
def test_all_targets_lie_in_the_panel(figure: live.NoisyPoint) -> None:
    script = """
      const { spec } = (await load("noisy")).default;
      return inputs.states.map((state) => {
        const [, panel] = spec.panels(inputs.data, state, false);
        return { range: panel.x, targets: spec.compute(state, inputs.data).targets };
      });
    """
    states = [{**state, "n": DRAWS} for state in drawn(20, low=0.1)]
    for each in run_js(script, {"states": states, "data": figure.data}):
        outside = [t for t in each["targets"] if not each["range"][0] <= t <= each["range"][1]]
        assert len(outside) <= 0.01 * len(each["targets"])


def test_a_point_beyond_the_limits_is_refused() -> None:
    with pytest.raises(ValueError, match="at"):
        live.NoisyPoint(at=[3.5, 0.0])
