"""Chapter 4's figure: what its handles may do, and that its two losses differ by what the theorem says."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from node import run_js
from scipy import integrate, stats

import ddpm_lite as dl
from ddpm_lite import live
from ddpm_lite.live.bend import ANCHORS, RADIUS, field

TRUE = {"strength": 1.0, "turn": 0.0, "bends": [0.0] * 8}
WORLD = dl.book_mixture(2)


def constant_by_scipy(low: float) -> float:
    """Half the mean square of the score right of x1 = low: scipy's density, its differences, and Simpson's rule."""
    x, y = np.linspace(low, 3.2, 601), np.linspace(-3.2, 3.2, 1281)
    at = np.stack(np.meshgrid(x, y, indexing="ij"), -1)
    parts = zip(WORLD.weights.tolist(), WORLD.means.numpy(), WORLD.covs.numpy(), strict=True)
    p = sum(w * stats.multivariate_normal.pdf(at, m, c) for w, m, c in parts)
    squares = sum(slope**2 for slope in np.gradient(p, x, y, edge_order=2)) / (2 * p)
    halves = [integrate.simpson(integrate.simpson(values, x=y), x=x) for values in (squares, p)]
    return halves[0] / halves[1]


@pytest.fixture(scope="module")
def figure() -> live.BentScore:
    return live.BentScore()


def drawn(n: int) -> list[dict]:
    rng = random.Random(1)
    named = [c for c in live.BentScore.controls if hasattr(c, "name")]
    return [{c.name: c.draw(rng) for c in named} for _ in range(n)]


def test_the_difference_is_the_constant_and_what_the_edge_adds(figure: live.BentScore) -> None:
    regions = set()
    for state in drawn(8):
        told = figure.truth(state)
        assert told["difference"] == pytest.approx(told["constant"] + told["edge"], abs=1e-6)
        regions.add((state["region"], told["edge"] != 0))
    assert regions == {("whole", False), ("cut", True)}


def test_the_true_score_has_no_explicit_loss_and_the_least_implicit_one(figure: live.BentScore) -> None:
    at_truth = figure.truth({**figure.state, **TRUE})
    assert at_truth["explicit"] == pytest.approx(0, abs=1e-12)
    assert at_truth["implicit"] == pytest.approx(-at_truth["constant"], abs=1e-6)
    others = [figure.truth({**state, "region": "whole"})["implicit"] for state in drawn(5)]
    assert min(others) > at_truth["implicit"] + 0.1


def test_without_a_field_the_implicit_loss_is_0(figure: live.BentScore) -> None:
    for region in ("whole", "cut"):
        told = figure.truth({**figure.state, **TRUE, "strength": 0.0, "region": region})
        assert told["implicit"] == pytest.approx(0, abs=1e-12)
        assert told["explicit"] == pytest.approx(told["constant"], abs=1e-12)


def test_the_constant_of_the_cut_data_is_scipys(figure: live.BentScore) -> None:
    told = figure.truth({**figure.state, "region": "cut"})
    assert told["constant"] == pytest.approx(constant_by_scipy(0.2), rel=1e-3)


def test_on_cut_data_the_true_score_is_not_the_best_by_the_implicit_loss(figure: live.BentScore) -> None:
    cut = {**figure.state, **TRUE, "region": "cut"}
    bent = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert figure.truth({**cut, "bends": bent})["implicit"] < figure.truth(cut)["implicit"] - 0.2


def test_the_question_has_the_answer_that_the_numbers_give(figure: live.BentScore) -> None:
    """Two fields whose explicit losses are 4 and 8 or so: the implicit losses differ by as much."""
    one, other = (figure.truth({**figure.state, **TRUE, "strength": k}) for k in (0.46, 0.25))
    assert one["explicit"] == pytest.approx(4, abs=0.1)
    assert other["explicit"] == pytest.approx(8, abs=0.2)
    assert other["implicit"] - one["implicit"] == pytest.approx(other["explicit"] - one["explicit"], abs=1e-6)
    assert figure.question is not None
    assert figure.question.options[figure.question.answer] == "It grows by 4"


@pytest.mark.needs("node")
def test_a_handle_changes_its_own_bend_within_its_limits(figure: live.BentScore) -> None:
    script = """
      const { spec } = (await load("bend")).default;
      let state = inputs.state;
      return inputs.moves.map(([i, x, y]) => {
        const handles = spec.handles({}, state, inputs.data);
        const before = state.bends;
        state = { ...state, ...handles[i].move(x, y) };
        const after = spec.handles({}, state, inputs.data)[i];
        return { before, state, at: [after.x, after.y] };
      });
    """
    rng = random.Random(2)
    moves = [(rng.randrange(4), rng.uniform(-2.4, 2.4), rng.uniform(-2.4, 2.4)) for _ in range(60)]
    anchors = figure.data["anchors"]
    for (i, x, y), each in zip(
        moves, run_js(script, {"state": figure.state, "moves": moves, "data": figure.data}), strict=True
    ):
        figure.check(each["state"])
        others = [j for j in range(8) if j // 2 != i]
        assert [each["state"]["bends"][j] for j in others] == [each["before"][j] for j in others]
        reach = 4 * 0.2
        expected = [min(max(value, a - reach), a + reach) for value, a in zip((x, y), anchors[i], strict=True)]
        assert each["at"] == pytest.approx(expected, abs=2e-3)


def test_the_bump_of_an_anchor_is_the_bend_there() -> None:
    bends = [0.0] * 8
    bends[4:6] = [1.5, -2.0]
    figure = live.BentScore(strength=0.0, bends=bends)
    anchor = torch.tensor([ANCHORS[2]], dtype=torch.float64)
    step = torch.tensor([[RADIUS, 0.0]], dtype=torch.float64)
    model = field(figure.state)
    assert model(anchor)[0].tolist() == pytest.approx([1.5, -2.0], rel=1e-6)
    assert model(anchor + step)[0, 0].item() == pytest.approx(1.5 * math.exp(-0.5), rel=1e-3)


def test_bends_beyond_the_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="bends"):
        live.BentScore(bends=[5.0] + [0.0] * 7)
