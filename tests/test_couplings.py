"""The assignment against enumeration, sorting and the plain solver; reflow pairs against the exact flow on a line."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from worlds import exact_flow, normal, seeded

import ddpm_lite as dl
from ddpm_lite import couplings


def total(x0, x1):
    """sum_i |x0_i - x1_i|^2."""
    return (x0 - x1).square().sum().item()


def by_rows(x):
    return sorted(x.flatten(1).tolist())


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_it_is_the_best_of_all_permutations(n, dim):
    """The trap B == D among the sizes."""
    for seed in range(5):
        x0, x1 = normal(seed, n, dim), normal(seed + 50, n, dim)
        best = min(itertools.permutations(range(n)), key=lambda p: total(x0, x1[list(p)]))
        assert torch.equal(dl.ot_couple(x0, x1), x1[list(best)])


def test_on_a_line_it_sorts():
    x0, x1 = normal(1, 500, 1), normal(2, 500, 1)
    got = dl.ot_couple(x0, x1)
    assert torch.equal(got[x0[:, 0].argsort()], x1.sort(0).values)


AWKWARD = {
    "normal": lambda x: x,
    "heavy tails": lambda x: torch.tan(1.5 * x),
    "ties": lambda x: x.round(),
    "all the same": torch.zeros_like,
    "far away": lambda x: 1e4 + 1e-2 * x,
    "two far groups": lambda x: 100 * x.sign() + 0.01 * x,
    "many scales": lambda x: x**7,
}


@pytest.mark.parametrize("levels", [None, 0, 9])
@pytest.mark.parametrize("kind", AWKWARD)
def test_it_costs_what_the_plain_solver_finds(kind, levels, monkeypatch):
    """By SciPy on the squared distances; whatever was spent on prices, and without a warning."""
    if levels is not None:
        monkeypatch.setattr(couplings, "LEVELS", levels)
    for n, dim, seed in ((2, 1, 0), (40, 5, 1), (200, 2, 2)):
        x0, x1 = AWKWARD[kind](normal(seed, n, dim)), normal(seed + 9, n, dim)
        squared = (x0[:, None] - x1).square().sum(-1).numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = total(x0, dl.ot_couple(x0, x1)), total(x1, dl.ot_couple(x1, x0))
        assert got == pytest.approx([squared[linear_sum_assignment(squared)].sum()] * 2, rel=1e-9)


def test_one_noise_that_is_far_from_every_point():
    """Its column holds no number near 0 until the smallest is taken off; then it goes to the nearest point."""
    x0, x1 = 1 + normal(15, 60, 1).abs(), normal(16, 60, 1)
    x1[7] = -1e6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(dl.ot_couple(x0, x1)[x0[:, 0].argsort()], x1.sort(0).values)


def test_prices_leave_the_solver_little_to_do():
    """No assignment costs less than the sum of the smallest number of each row: prices nearly close that gap."""
    x0, x1 = dl.moons(256, generator=seeded(0)).double(), normal(1, 256, 2)

    def gap(cost):
        rows, columns = linear_sum_assignment(cost)
        return cost[rows, columns].sum() - cost.min(1).sum()

    cost = (-x0 @ x1.mT).numpy()
    assert gap(couplings._priced(cost.copy())) < 0.01 * gap(cost)


def test_it_only_permutes_the_noise():
    x0, x1, state = normal(3, 64, 2), normal(4, 64, 2), torch.get_rng_state()
    before = x0.clone(), x1.clone()
    got = dl.ot_couple(x0, x1)
    assert by_rows(got) == by_rows(x1)
    assert all(torch.equal(a, b) for a, b in zip((x0, x1), before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    for seed in range(100):
        assert total(x0, got) <= total(x0, x1[torch.randperm(64, generator=seeded(seed))])


def test_labels_stay_with_their_points():
    """Permuting the data permutes the partners in the same way."""
    x0, x1, order = normal(5, 50, 2), normal(6, 50, 2), torch.randperm(50, generator=seeded(1))
    assert torch.equal(dl.ot_couple(x0[order], x1), dl.ot_couple(x0, x1)[order])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_and_types(dtype):
    x0, x1 = normal(7, 30, 3, 4, 4).to(dtype), normal(8, 30, 3, 4, 4).to(dtype)
    got = dl.ot_couple(x0, x1.requires_grad_())
    assert got.dtype == dtype
    assert torch.equal(got.flatten(1), dl.ot_couple(x0.flatten(1), x1.flatten(1)))
    assert got.requires_grad  # a choice of rows


# --- reflow


def flow(x1):
    """The exact flow of the book's mixture on the straight path, from t = .999 to .001."""
    return exact_flow(dl.book_mixture(1), dl.RectifiedFlow(), x1, 0.999, 0.001)


def crossings(x0, x1, t):
    xt = dl.RectifiedFlow().mix(x0, x1, t)[:, 0]
    return int((xt[x1[:, 0].argsort()].diff() <= 0).sum())


def test_reflow_pairs_on_a_line_are_straight():
    """The exact flow keeps order, so lines between its pairs never cross and one Euler step is exact.

    Independent pairs cross, so their flow bends: that is what reflow removes.
    """
    x1 = normal(13, 200, 1)
    x0, same = dl.reflow_pairs(flow, x1, block=64)
    assert same is x1
    for t in (0.0, 0.3, 0.6, 1.0):
        assert crossings(x0, x1, t) == 0
    assert torch.equal(dl.ot_couple(x0, x1), x1)  # no better pairs
    shuffled = x0[torch.randperm(200, generator=seeded(2))]
    assert crossings(shuffled, x1, 0.3) > 20

    def den(x, t):  # velocity x1 - x0 where the line of that pair passes at t = 1
        order = x1[:, 0].argsort()
        u = np.interp(x[:, 0].numpy(), x1[order, 0].numpy(), (x1 - x0)[order, 0].numpy())
        return dl.decode(torch.from_numpy(u)[:, None], x, dl.RectifiedFlow().at(t, x), "velocity")

    end = dl.sample(dl.euler_step, den, dl.RectifiedFlow(), x1, dl.linear_ts(1))
    torch.testing.assert_close(end, x0, rtol=1e-12, atol=1e-12)


def test_reflow_pairs_come_in_blocks_without_gradients():
    seen, scale = [], torch.tensor(3.0, requires_grad=True)

    def generate(x):
        seen.append(len(x))
        return scale * x.double()

    x1 = normal(14, 10, 2, 3).float()
    x0, _ = dl.reflow_pairs(generate, x1, block=4)
    assert seen == [4, 4, 2]
    assert torch.equal(x0, 3 * x1)
    assert x0.dtype == torch.float32
    assert not x0.requires_grad


X = normal(0, 4, 2)
BAD = {
    "shapes": (lambda: dl.ot_couple(X, X[:3]), r"x0 has shape \(4, 2\), x1 \(3, 2\): give both the same"),
    "no dimensions": (lambda: dl.ot_couple(X[:, 0], X[:, 0]), r"give both the same \(B, \*shape\)"),
    "NaN": (lambda: dl.ot_couple(X * math.nan, X), r"x0 or x1 holds a number that is not finite"),
    "infinite": (lambda: dl.ot_couple(X, X / 0), r"x0 or x1 holds a number that is not finite"),
    "block": (lambda: dl.reflow_pairs(lambda x: x, X, block=0), r"block = 0: give the number of samples"),
    "generate": (lambda: dl.reflow_pairs(lambda x: x[:, :1], X), r"generate returned shape \(4, 1\): it must"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
