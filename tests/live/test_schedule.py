"""Chapter 7's figure: what its handles may do, the digits that it noises, and what it says of the three schedules."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from node import run_js

import ddpm_lite as dl
from ddpm_lite import live
from ddpm_lite.live.schedule import Drawn

NAMED = {"VP": dl.VP(), "Cosine": dl.Cosine(), "RectifiedFlow": dl.RectifiedFlow()}
ends = torch.linspace(0, 1, 7, dtype=torch.float64)


@pytest.fixture(scope="module")
def figure() -> live.NoiseSchedule:
    return live.NoiseSchedule(dl.digits()[0][0])


def drags(figure: live.NoiseSchedule, schedule: str, moves: list[tuple[int, float]]) -> list[dict]:
    """The state after each drag of a handle to a height, in node."""
    script = """
      const { spec } = (await load("schedule")).default;
      let state = inputs.state;
      return inputs.moves.map(([i, y]) => {
        const handles = spec.handles(spec.compute(state, inputs.data), state, inputs.data);
        state = { ...state, ...handles[i].move(0.5, y) };
        return state;
      });
    """
    return run_js(script, {"state": {**figure.state, "schedule": schedule}, "moves": moves, "data": figure.data})


@pytest.mark.needs("node")
def test_no_drag_makes_the_snr_rise(figure: live.NoiseSchedule) -> None:
    rng = random.Random(0)
    moves = [(rng.randrange(7), rng.uniform(-5, 5)) for _ in range(200)]
    states = drags(figure, "Cosine", moves)
    assert len({tuple(state["lams"]) for state in states}) > 50
    for state in states:
        figure.check(state)
        assert all(late <= early for early, late in pairwise(state["lams"]))


@pytest.mark.needs("node")
@pytest.mark.parametrize("name", NAMED)
def test_the_first_drag_copies_the_schedule(figure: live.NoiseSchedule, name: str) -> None:
    (state,) = drags(figure, name, [(3, -0.5)])
    expected = NAMED[name].lam(ends).clamp(-5, 5)
    expected[3] = -0.5
    assert state["schedule"] == "yours"
    assert state["lams"] == pytest.approx(expected.tolist(), abs=1e-9)


@pytest.mark.needs("node")
def test_the_digits_are_noised_as_the_package_does(figure: live.NoiseSchedule) -> None:
    """The same draw in every picture, that of numpy's RandomState."""
    script = 'return (await load("schedule")).default.spec.compute(inputs.state, inputs.data);'
    state = {**figure.state, "schedule": "yours", "t": 0.4}
    world = run_js(script, {"state": state, "data": figure.data})
    x0 = dl.digits()[0][:1].double()
    eps = torch.from_numpy(np.random.RandomState(figure.data["seed"]).standard_normal(64)).reshape(x0.shape)

    def shown(path: dl.Path, t: float) -> list[float]:
        c = path.at(t, x0)
        return (path.mix(x0, eps, t) / (c.alpha + c.sigma)).flatten().tolist()

    yours = Drawn(tuple(state["lams"]))
    for picture, path in zip(world["now"], [*NAMED.values(), yours], strict=True):
        assert picture["pixels"] == pytest.approx(shown(path, 0.4), abs=1e-9)
    for picture, t in zip(world["strip"], [0.1, 0.25, 0.5, 0.75], strict=True):
        assert picture["pixels"] == pytest.approx(shown(yours, t), abs=1e-9)


def test_a_drawn_schedule_is_variance_preserving_through_its_knobs() -> None:
    path = Drawn((4.0, 3.0, 3.0, 0.5, -1.0, -4.5, -5.0))
    assert path.lam(ends).tolist() == pytest.approx(list(path.lams))
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    c, h = path.coefs(t), 1e-6
    assert torch.allclose(c.alpha**2 + c.sigma**2, torch.ones_like(t))
    late, early = path.coefs(t + h), path.coefs(t - h)
    assert torch.allclose(c.dalpha, (late.alpha - early.alpha) / (2 * h), atol=1e-6)
    assert torch.allclose(c.dsigma, (late.sigma - early.sigma) / (2 * h), atol=1e-6)


def test_the_question_has_the_answer_that_the_reply_gives(figure: live.NoiseSchedule) -> None:
    """At t = 0.25 the straight line has the most SNR and the least noise, but not the greatest alpha."""
    numbers = {name: figure.truth({**figure.state, "schedule": name, "t": 0.25}) for name in NAMED}
    most = {key: max(numbers, key=lambda name: numbers[name][key]) for key in ("snr", "alpha")}
    assert most == {"snr": "RectifiedFlow", "alpha": "Cosine"}
    assert min(numbers, key=lambda name: numbers[name]["sigma"]) == "RectifiedFlow"
    assert "RectifiedFlow" in figure.question.options[figure.question.answer]
    assert figure.state["t"] == 0.25


def test_only_the_ends_change_the_bound(figure: live.NoiseSchedule) -> None:
    def told(*lams: float) -> dict:
        return figure.truth({"schedule": "yours", "lams": lams, "t": 0.5})

    one, other = told(4, 3, 2, 1, 0, -2, -5), told(4, 0, -1, -2, -2, -3, -5)
    assert one["bound"] == pytest.approx(other["bound"], abs=1e-12)
    assert abs(one["before"] - other["before"]) > 0.5
    assert told(2, 1.5, 1, 0.5, 0, -2, -5)["bound"] < one["bound"] - 1


def test_rising_knobs_and_other_shapes_are_refused(figure: live.NoiseSchedule) -> None:
    with pytest.raises(ValueError, match="lams"):
        figure.check({"lams": (5.0, 3.0, 3.1, 0.0, -1.0, -3.0, -5.0)})
    with pytest.raises(ValueError, match=r"image has shape \(8, 8\)"):
        live.NoiseSchedule(torch.zeros(8, 8))
    with pytest.raises(ValueError, match=r"image has shape \(1, 8, 9\)"):
        live.NoiseSchedule(torch.zeros(1, 8, 9))
