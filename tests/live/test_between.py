"""Chapter 16's figure: norms by chi-square laws, and both ways against the package."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from node import run_js

import ddpm_lite as dl
from ddpm_lite import live
from ddpm_lite.live.between import DIMENSIONS, band, decoded, noises

WORLD, PATH = dl.book_mixture(2), dl.RectifiedFlow()
ENDS = [-1.2, -0.9, 0.2, 1.4]


@pytest.fixture(scope="module")
def figure() -> live.LatentWays:
    return live.LatentWays()


@pytest.mark.parametrize("d", [2, 8, 64, 1024])
def test_the_band_holds_99_of_100_norms(d: int) -> None:
    norms = np.sqrt(np.random.RandomState(5).chisquare(d, 40_000) / d)
    low, high = band(d)
    assert ((norms > low) & (norms < high)).mean() == pytest.approx(0.99, abs=0.006)


def test_a_larger_d_keeps_the_coordinates_of_a_smaller_one() -> None:
    few, many = noises(ENDS, 8), noises(ENDS, 256)
    for x, y in zip(few, many, strict=True):
        assert torch.equal(x, y[:, :8])
    assert [v[0, :2].tolist() for v in few] == [ENDS[:2], ENDS[2:]]


def test_a_decoded_point_goes_back_to_its_noise() -> None:
    z = torch.tensor([[0.3, -0.8], [1.1, 0.2]], dtype=torch.float64)
    ts = dl.logsnr_ts(PATH, 400, t_max=0.9999, t_min=1e-3).flip(0)
    noise = dl.invert(WORLD.denoiser(PATH), PATH, decoded(z), ts, step=dl.heun_step)
    torch.testing.assert_close(noise, z, rtol=0, atol=2e-3)


def test_the_reply_has_the_numbers_of_the_figure(figure: live.LatentWays) -> None:
    told = figure.truth({"u": 0.5, "d": 1024, "ends": ENDS})
    assert told["lerp_norm"] == pytest.approx(math.sqrt(0.5), abs=0.02)
    assert told["slerp_norm"] == pytest.approx(1, abs=0.02)
    assert round(16 * math.sqrt(0.5), 1) == 11.3
    low, high = band(256)
    assert (round(16 * low, 1), round(16 * high, 1)) == (14.2, 17.8)
    here = figure.truth({"u": 0.5, "d": 256, "ends": ENDS})
    assert here["lerp_norm"] < low < here["slerp_norm"] < high
    assert band(2)[0] < 0.1


def test_both_ways_share_their_ends(figure: live.LatentWays) -> None:
    for u, first in ((0.0, ENDS[:2]), (1.0, ENDS[2:])):
        told = figure.truth({"u": u, "d": 32, "ends": ENDS})
        assert told["lerp_norm"] == pytest.approx(told["slerp_norm"], abs=1e-12)
        x = decoded(torch.tensor([first], dtype=torch.float64))
        assert told["lerp_log_p"] == pytest.approx(WORLD.log_prob(x).item(), abs=1e-6)


@pytest.mark.needs("node")
def test_the_module_decodes_as_the_package_does(figure: live.LatentWays) -> None:
    script = """
      const { spec } = (await load("between")).default;
      return inputs.states.map((state) => {
        const { ways, k } = spec.compute(state, inputs.data);
        return ["lerp", "slerp"].map((name) => Array.from(ways[name].x.slice(2 * k, 2 * k + 2)));
      });
    """
    states = [{"u": 0.3, "d": d, "ends": ENDS} for d in (2, 64, DIMENSIONS[-1])]
    for state, found in zip(states, run_js(script, {"states": states, "data": figure.data}), strict=True):
        a, b = noises(state["ends"], state["d"])
        for z, point in zip((a.lerp(b, 0.3), dl.slerp(a, b, 0.3)), found, strict=True):
            assert point == pytest.approx(decoded(z[:, :2])[0].tolist(), abs=1e-5)


@pytest.mark.needs("node")
def test_the_handles_move_one_noise_within_its_limits(figure: live.LatentWays) -> None:
    script = """
      const { spec } = (await load("between")).default;
      return inputs.moves.map(([i, x, y]) => spec.handles({}, inputs.state, inputs.data)[i].move(x, y));
    """
    rng = random.Random(4)
    moves = [(rng.randrange(2), rng.uniform(-3, 3), rng.uniform(-3, 3)) for _ in range(20)]
    changes = run_js(script, {"state": figure.state, "moves": moves, "data": figure.data})
    for (i, *move), change in zip(moves, changes, strict=True):
        figure.check(change)
        assert change["ends"][2 * i : 2 * i + 2] == pytest.approx([min(max(v, -2), 2) for v in move], abs=0.006)
        other = slice(2 - 2 * i, 4 - 2 * i)
        assert change["ends"][other] == list(figure.state["ends"])[other]
