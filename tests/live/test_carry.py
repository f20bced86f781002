"""Chapter 11's figure: a carried square keeps its mass, by the package and by the module."""

from __future__ import annotations

import math
import random

import pytest
import torch
from node import run_js

import ddpm_lite as dl
from ddpm_lite import live
from ddpm_lite.live.carry import SIDE, START, carried

WORLD, PATH = dl.book_mixture(2), dl.RectifiedFlow()


@pytest.fixture(scope="module")
def figure() -> live.CarriedGrid:
    return live.CarriedGrid()


def double(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def area_by_differences(at: list[float], t: float, half: float = 1e-4) -> float:
    """Of a small square around a point, relative to the start, by the four points beside it and no divergence."""
    offsets = double([[half, 0], [-half, 0], [0, half], [0, -half]])
    right, left, up, down = carried(double(at) + offsets, t)
    across, along = (right - left) / (2 * half), (up - down) / (2 * half)
    return (across[0] * along[1] - across[1] * along[0]).item()


@pytest.mark.parametrize("at", [list(START), [0.0, 0.0], [1.6, 0.3]])
def test_the_area_is_that_of_a_small_square(figure: live.CarriedGrid, at: list[float]) -> None:
    for t in (0.4, 1.0):
        told = figure.truth({"t": t, "at": at})
        assert told["log_area"] == pytest.approx(math.log(area_by_differences(at, t)), abs=1e-4)


def test_the_sum_is_the_log_density_of_the_data_at_every_time(figure: live.CarriedGrid) -> None:
    rng = random.Random(3)
    for t in (0.0, 0.3, 1.0):
        at = [round(rng.uniform(-2, 2), 2) for _ in range(2)]
        told = figure.truth({"t": t, "at": at})
        exact = WORLD.log_prob(double([at])).item()
        assert told["sum"] == pytest.approx(exact, abs=1e-5)
        assert told["log_p0"] == pytest.approx(exact, abs=1e-5)


def test_at_the_end_the_density_is_that_of_a_standard_normal(figure: live.CarriedGrid) -> None:
    place = carried(double([START]), 1.0)
    normal = -place.square().sum() / 2 - math.log(2 * math.pi)
    assert figure.truth({"t": 0.5, "at": list(START)})["last_log_p"] == pytest.approx(normal.item(), abs=1e-6)


def test_at_the_start_nothing_has_moved(figure: live.CarriedGrid) -> None:
    told = figure.truth({"t": 0.0, "at": [0.5, -1.2]})
    assert told["log_area"] == 0
    assert told["log_p"] == pytest.approx(WORLD.log_prob(double([[0.5, -1.2]])).item(), abs=1e-12)


def test_the_question_and_its_reply_have_the_numbers_of_the_figure(figure: live.CarriedGrid) -> None:
    told = figure.truth({"t": 1.0, "at": list(START)})
    data, noise, grown = (math.exp(told[name]) for name in ("log_p0", "last_log_p", "last_log_area"))
    assert (round(data, 3), round(noise, 3), round(grown, 1)) == (0.608, 0.117, 5.2)
    assert figure.question is not None
    assert "0.608 / 0.117 = 5.2" in figure.question.reply
    assert figure.question.options[figure.question.answer] == "It grows to about 5 times its size"
    between = figure.truth({"t": 1.0, "at": [0.0, 0.0]})
    assert 900 < math.exp(-between["last_log_area"]) < 1100


@pytest.mark.needs("node")
def test_the_module_carries_its_mesh_and_its_square_as_the_package_does(figure: live.CarriedGrid) -> None:
    script = """
      const { spec } = (await load("carry")).default;
      return inputs.states.map((state) => {
        const { square, k } = spec.compute(state, inputs.data);
        return { outline: square.outlines[k], centre: square.centres[k] };
      });
    """
    states = [{"t": 0.25, "at": [0.3, 0.4]}, {"t": 1.0, "at": [-1.3, 1.1]}]
    rim = double([[-1, -1], [0, -1], [1, -1], [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0]]) * SIDE / 2
    for state, found in zip(states, run_js(script, {"states": states, "data": figure.data}), strict=True):
        at = double(state["at"])
        assert found["centre"] == pytest.approx(carried(at[None], state["t"])[0].tolist(), abs=1e-5)
        assert found["outline"] == pytest.approx(carried(at + rim, state["t"]).flatten().tolist(), abs=1e-4)


@pytest.mark.needs("node")
def test_the_handle_moves_the_square_within_its_limits(figure: live.CarriedGrid) -> None:
    script = """
      const { spec } = (await load("carry")).default;
      return inputs.moves.map(([x, y]) => spec.handles({}, inputs.state, inputs.data)[0].move(x, y));
    """
    rng = random.Random(4)
    moves = [(rng.uniform(-3, 3), rng.uniform(-3, 3)) for _ in range(30)]
    for move, change in zip(
        moves, run_js(script, {"state": figure.state, "moves": moves, "data": figure.data}), strict=True
    ):
        figure.check(change)
        assert change["at"] == pytest.approx([min(max(value, -2), 2) for value in move], abs=0.006)


def test_a_square_beyond_the_limits_is_refused() -> None:
    with pytest.raises(ValueError, match="at"):
        live.CarriedGrid(at=[2.5, 0.0])
