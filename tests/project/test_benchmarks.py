"""The benchmarks' own arithmetic, and the targets of the default sampler that need no peer."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import report
import solver_peers
import solvers
import torch
import unet
from worlds import exact_flow

import ddpm_lite as dl
from ddpm_lite.nets.unet import Attention

RESULTS = Path(solvers.__file__).with_name("results.json")


def test_trajectories_are_those_of_an_adaptive_solver():
    """Two roads: Runge-Kutta 4 in the angle here, scipy's DOP853 in the frame where alpha = 1."""
    problem, path = solvers.Problem(solvers.mixture_a(), 5, 0), dl.EDM(80.0)
    ends = exact_flow(solvers.mixture_a(), path, problem.at(80.0), 1.0, 0.0)
    torch.testing.assert_close(problem.end, ends, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_default_sampler_reaches_its_targets(name):
    """Median of three draws of noise, 1,000 points, as in the benchmark."""
    mixture = {"a": solvers.mixture_a, "b": solvers.mixture_b}[name]()
    problems = [solvers.Problem(mixture, 1000, seed) for seed in (0, 1, 2)]
    (errors,) = solvers.errors(problems, {"ours": solvers.default_sampler}).values()
    assert [error <= target for error, target in zip(errors, solvers.TARGETS, strict=True)] == [True] * 5


def test_random_mixtures_follow_the_stated_law():
    rng = np.random.default_rng(0)
    mixtures = [solvers.random_mixture(rng) for _ in range(50)]
    for mixture in mixtures:
        k, dim = mixture.means.shape
        within = mixture.covs.diagonal(dim1=1, dim2=2).mean(1)
        centred = mixture.means - mixture.weights @ mixture.means
        std = math.sqrt(mixture.weights @ (centred.square().mean(1) + within))
        assert 2 <= dim <= 64
        assert 2 <= k <= 30
        assert 0.1 <= std <= 10


def test_a_solver_that_takes_too_many_evaluations_counts_as_failed():
    problem = solvers.Problem(solvers.mixture_a(), 3, 0)
    errors = solvers.errors([problem], {"greedy": lambda p, calls: solvers.default_sampler(p, calls + 1)})
    assert errors == {"greedy": [math.inf] * 5}


def test_a_missed_target_is_shown_as_missed():
    case = {"ours": {"ddpm_lite: adams": [1.0] * 5}, "best": [(0.5, "x")] * 5}
    rows = solvers.rows({"peers": 1, "cases": {"a": case, "b": case, "points": case}})
    shares = {row["name"]: row for row in rows if "best peer" in row["name"]}
    assert shares["a, of the best peer's error, geometric mean"]["value"] == pytest.approx(2)
    assert shares["points, of the best peer's error, worst count"]["target"] is None
    assert all("**not reached**" in report.row(row) for row in rows if row["target"] is not None)


def test_a_target_from_below_is_reached_from_above():
    entry = {"name": "x", "value": 0.8, "target": 0.75, "at_least": True}
    assert "| reached |" in report.row(entry)
    assert "**not reached**" in report.row(entry | {"value": 0.7})
    assert "**not reached**" in report.row(entry | {"at_least": False})


def test_operations_of_a_convolution_and_of_attention():
    """By hand: two operations a product; forward once, the backward pass one product for each input."""
    pixels, c = unet.BATCH * 8 * 8, 32
    kernel = unet.operations(unet.convolution(c, 8, torch.channels_last))
    near_edge = pixels * 9  # the count takes the zeros around an image as pixels
    assert kernel == 3 * 2 * near_edge * c * c
    layer = Attention(c)  # one head: q k^T and P v have 64 products for each pixel and channel
    x = torch.randn(unet.BATCH, c, 8, 8, requires_grad=True)
    maps, products = 2 * pixels * c * 4 * c, 2 * 2 * pixels * 64 * c
    assert unet.operations(lambda: layer(x).sum().backward()) == 3 * (maps + products)


def test_the_shown_tables_are_those_of_the_saved_results(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    report.write(json.loads(RESULTS.read_text(encoding="utf-8")))
    for name in ("results.json", "results.md"):
        assert (tmp_path / name).read_text(encoding="utf-8") == RESULTS.with_name(name).read_text(encoding="utf-8")


def test_peers_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr(solver_peers.importlib.util, "find_spec", lambda name: None)
    assert solver_peers.peers() == ({}, ["diffusers", "k_diffusion", "flow_matching"])
