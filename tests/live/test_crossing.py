"""Chapter 14's figure: the mean velocity of sorted pairs against random batches, and where every flow ends."""

from __future__ import annotations

import math

import pytest
import torch
from node import run_js

import ddpm_lite as dl
from ddpm_lite import live
from ddpm_lite.live.crossing import BATCH, crossings, drawn, end_of, euler, exact_paths, mean_velocity, pairs, starts

LINE, PATH = dl.book_mixture(1), dl.RectifiedFlow()
SPOTS = torch.linspace(-2, 2, 9, dtype=torch.float64)


@pytest.fixture(scope="module")
def figure() -> live.CrossingPairs:
    return live.CrossingPairs()


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9, 1.0])
def test_independent_pairs_have_the_velocity_of_the_package(t: float) -> None:
    exact = dl.encode(LINE.denoiser(PATH)(SPOTS[:, None], t), PATH.at(t, SPOTS[:, None]), "velocity")
    assert mean_velocity(SPOTS, t, 1).tolist() == pytest.approx(exact[:, 0].tolist(), abs=1e-6)


@pytest.mark.parametrize("batch", [2, 4])
def test_sorted_pairs_have_the_velocity_of_coupled_batches(batch: int) -> None:
    """Mean of x1 - x0 over the pairs of 20,000 batches that pass near a place."""
    g = torch.Generator().manual_seed(batch)
    size = (20_000, batch)
    x0 = LINE.sample(size[0] * batch, generator=g).double().view(size).sort(1).values
    x1 = torch.randn(size, generator=g, dtype=torch.float64).sort(1).values
    t, reach = 0.4, 0.05
    xt, speed = (1 - t) * x0 + t * x1, x1 - x0
    for place in (-1.0, 0.3, 1.1):
        here = speed[(xt - place).abs() < reach]
        around = mean_velocity(place + reach * torch.linspace(-1, 1, 9, dtype=torch.float64), t, batch).mean().item()
        assert here.mean().item() == pytest.approx(around, abs=5 * here.std().item() / len(here) ** 0.5 + 0.005)


def test_the_sorting_is_that_of_ot_couple() -> None:
    data, noise = drawn()
    x0, x1 = pairs("ot16")
    for k in range(0, 64, 16):
        coupled = dl.ot_couple(x0[k : k + 16, None], noise[k : k + 16, None])[:, 0]
        assert coupled.tolist() == x1[k : k + 16].tolist()
        assert sorted(data[k : k + 16].tolist()) == x0[k : k + 16].tolist()


@pytest.mark.parametrize("coupling", ["independent", "ot4", "ot16"])
def test_every_flow_ends_at_the_data_of_the_same_rank_and_keeps_the_order(coupling: str) -> None:
    paths = exact_paths(coupling)
    assert paths[-1].tolist() == pytest.approx(starts()[1].tolist(), abs=2e-3)
    assert (paths.diff(dim=1) > 0).all()


def test_the_ends_have_the_law_of_the_data() -> None:
    x1 = torch.special.ndtri((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000)
    mean = LINE.weights @ LINE.means[:, 0]
    square = LINE.weights @ (LINE.covs[:, 0, 0] + LINE.means[:, 0] ** 2)
    assert end_of(x1).mean().item() == pytest.approx(mean.item(), abs=1e-4)
    assert end_of(x1).square().mean().item() == pytest.approx(square.item(), abs=2e-3)


def test_eulers_steps_are_those_of_the_package() -> None:
    x1 = starts()[0][:, None]
    ours = dl.sample(dl.euler_step, LINE.denoiser(PATH), PATH, x1, dl.linear_ts(5))
    assert euler("independent", 5)[-1].tolist() == pytest.approx(ours[:, 0].tolist(), abs=1e-6)


def test_one_step_of_independent_pairs_ends_at_the_mean_and_reflow_at_the_data() -> None:
    mean = (LINE.weights @ LINE.means[:, 0]).item()
    assert euler("independent", 1)[-1].tolist() == pytest.approx([mean] * 21, abs=1e-9)
    assert euler("reflow", 1)[-1].tolist() == pytest.approx(starts()[1].tolist(), abs=1e-12)


def test_reflow_pairs_lie_on_the_flow_and_do_not_cross() -> None:
    x0, x1 = pairs("reflow")
    den = LINE.denoiser(PATH)
    flowed, _ = dl.reflow_pairs(lambda x: dl.sample(dl.heun_step, den, PATH, x, dl.linear_ts(200)), x1[:, None])
    assert flowed[:, 0].tolist() == pytest.approx(x0.tolist(), abs=1e-2)
    assert crossings(x0, x1) == 0


def test_crossings_are_counted() -> None:
    x1 = torch.tensor([0.0, 1.0, 2.0])
    assert [crossings(torch.tensor(x0), x1) for x0 in ([0.0, 1.0, 2.0], [2.0, 1.0, 0.0], [1.0, 0.0, 2.0])] == [0, 3, 1]


def test_couplings_straighten_in_their_order(figure: live.CrossingPairs) -> None:
    told = [figure.truth({"coupling": name, "steps": 3}) for name in BATCH]
    for number in ("bent", "error", "crossing"):
        values = [each[number] for each in told]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == 4


def test_the_reply_has_the_mean_of_the_data(figure: live.CrossingPairs) -> None:
    assert figure.question is not None
    assert f"{(LINE.weights @ LINE.means[:, 0]).item():.2f}" in figure.question.reply
    assert figure.question.options[figure.question.answer] == "all at one point"
    assert "2,016" in figure.sentence
    assert math.comb(64, 2) == 2016


@pytest.mark.needs("node")
def test_the_module_draws_the_flow_and_the_pairs_of_the_package(figure: live.CrossingPairs) -> None:
    script = """
      const { spec } = (await load("crossing")).default;
      return inputs.states.map((state) => {
        const { shown, paths, states } = spec.compute(state, inputs.data);
        return { shown, paths: paths.map((x) => Array.from(x)), states: states.map((x) => Array.from(x)) };
      });
    """
    settings = [{"coupling": name, "steps": 3} for name in BATCH]
    for state, found in zip(settings, run_js(script, {"states": settings, "data": figure.data}), strict=True):
        name = state["coupling"]
        for side, values in zip(found["shown"], pairs(name), strict=True):
            assert side == pytest.approx(values.tolist(), abs=1e-9)
        for k in (0, 17, 40):
            assert found["paths"][k] == pytest.approx(exact_paths(name)[k].tolist(), abs=1e-6)
        assert found["states"][3] == pytest.approx(euler(name, 3)[3].tolist(), abs=1e-6)


def test_another_coupling_is_refused() -> None:
    with pytest.raises(ValueError, match="coupling"):
        live.CrossingPairs(coupling="sorted")
