"""The solvers against scipy's, against solutions in closed form, and by their orders."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from worlds import normal, slope_of

import ddpm_lite as dl

SOLVERS = {
    "rk4": lambda f, x, ts: dl.rk4(f, x, ts),
    "dopri5": lambda f, x, ts: dl.dopri5(f, x, ts, rtol=1e-9, atol=1e-9),
}
each_solver = pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS)
SPANS = {"up": (0.1, 1.3), "down": (1.3, 0.1)}
each_span = pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)


def grid(*times: float) -> Tensor:
    return torch.tensor(times, dtype=torch.float64)


def even(span: tuple[float, float], n: int) -> Tensor:
    return torch.linspace(*span, n + 1, dtype=torch.float64)


def pendulum(x: Tensor, t: Tensor) -> Tensor:
    """A driven pendulum: not linear, and not alike at all times."""
    angle, speed = x.unbind(1)
    return torch.stack([speed, -4 * angle.sin() + (3 * t).cos()], 1)


def exact(x: Tensor, ts: Tensor) -> Tensor:
    """States at ts by scipy's order 8, each sample by itself; (times, B, 2)."""

    def slope(t: float, y: np.ndarray) -> list[float]:
        return [y[1], -4 * math.sin(y[0]) + math.cos(3 * t)]

    span, at = (ts[0].item(), ts[-1].item()), ts.numpy()
    runs = [solve_ivp(slope, span, y, method="DOP853", rtol=1e-12, atol=1e-13, t_eval=at).y for y in x.numpy()]
    return torch.from_numpy(np.stack(runs)).movedim(2, 0)


def evaluations(x: Tensor, ts: Tensor, **options: float) -> int:
    asked = []
    dl.dopri5(lambda x, t: asked.append(t) or pendulum(x, t), x, ts, **options)
    return len(asked)


@each_span
def test_rk4_has_order_4(span):
    x, steps = normal(0, 5, 2), [16, 32, 64]
    ends = [dl.rk4(pendulum, x, even(span, n))[-1] for n in steps]
    errors = [(end - exact(x, grid(*span))[-1]).abs().max().item() for end in ends]
    assert slope_of(errors, steps) == pytest.approx(4, abs=0.15)
    assert errors[-1] < 1e-6


def test_rk4_on_one_step_of_a_linear_field():
    """x' = x: one step is the series of the exponential to the fourth power, 1 + h + h^2/2 + h^3/6 + h^4/24."""
    end = dl.rk4(lambda x, t: x, torch.ones(1, 1, dtype=torch.float64), grid(0.5, 0.8))[-1]
    assert end.item() == pytest.approx(sum(0.3**k / math.factorial(k) for k in range(5)), rel=1e-14)


@pytest.mark.parametrize("degree", range(5))
@each_solver
def test_a_polynomial_in_time_is_exact(solve, degree):
    """x' = (k + 1) t^k: order 4 is exact to k = 3, order 5 to k = 4."""
    ts = grid(1.5, 1.1, 0.4)
    states = solve(lambda x, t: x * 0 + (degree + 1) * t.reshape(-1, 1) ** degree, torch.zeros(2, 3).double(), ts)
    want = (ts ** (degree + 1) - 1.5 ** (degree + 1))[:, None, None].expand(3, 2, 3)
    if degree < 4 or solve is SOLVERS["dopri5"]:
        torch.testing.assert_close(states, want, rtol=1e-12, atol=1e-12)
    else:
        assert abs(states - want).max() > 1e-4


@each_solver
def test_states_at_every_time(solve):
    x, ts = normal(1, 4, 2), torch.logspace(-0.7, 0.15, 100, dtype=torch.float64)
    want = exact(x, ts)
    states = solve(pendulum, x, ts)
    assert states.shape == (100, 4, 2)
    assert torch.equal(states[0], x)
    torch.testing.assert_close(states, want, rtol=1e-7, atol=1e-7)


@each_solver
def test_there_and_back(solve):
    x, ts = normal(2, 3, 2), even((0.1, 1.3), 200)
    torch.testing.assert_close(solve(pendulum, solve(pendulum, x, ts)[-1], ts.flip(0))[-1], x, rtol=1e-7, atol=1e-7)


@each_span
@pytest.mark.parametrize("tol", [1e-4, 1e-6, 1e-8, 1e-10])
def test_dopri5_keeps_its_tolerance_at_every_time(span, tol):
    """Also at times between the steps it would choose: 40 of them in a span that takes it fewer at 1e-4."""
    x, ts = normal(3, 6, 2), even(span, 40)
    want = exact(x, ts)
    for some in (slice(None), [0, 17, 40]):
        states = dl.dopri5(pendulum, x, ts[some], rtol=tol, atol=tol)
        assert (states - want[some]).abs().max() < 10 * tol


def test_dopri5_has_order_5():
    """Evaluations grow as tol^(-1/5): from 1e-6 to 1e-11 by about 10."""
    few, many = (evaluations(normal(4, 1, 2), grid(0, 10), rtol=tol, atol=tol) for tol in (1e-6, 1e-11))
    assert 7 < many / few < 13


def test_dopri5_steps_go_where_the_change_is():
    """x = tanh(50 (t - 1/2)), by its slope: the jump at t = 1/2 takes most of the steps."""
    asked = []

    def f(x, t):
        asked.append(t[0].item())
        return (50 / torch.cosh(50 * (t - 0.5)) ** 2).reshape(-1, 1) + 0 * x

    end = dl.dopri5(f, torch.zeros(1, 1).double(), grid(0, 1), rtol=1e-8, atol=1e-8)[-1]
    assert end.item() == pytest.approx(2 * math.tanh(25), abs=1e-7)
    assert sum(0.4 < t < 0.6 for t in asked) > 0.6 * len(asked)


def test_a_sample_does_not_depend_on_its_batch():
    x = torch.cat([normal(5, 3, 2), 30 * normal(6, 2, 2)])
    ts = grid(0.1, 0.7, 1.3)
    together = dl.dopri5(pendulum, x, ts)
    for i in range(5):
        torch.testing.assert_close(dl.dopri5(pendulum, x[i : i + 1], ts)[:, 0], together[:, i], rtol=1e-13, atol=1e-13)


def test_a_batch_costs_what_its_hardest_sample_costs():
    x, ts = torch.cat([normal(5, 3, 2), 30 * normal(6, 2, 2)]), grid(0.1, 5)
    assert evaluations(x, ts) == max(evaluations(one[None], ts) for one in x)


@each_solver
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(2,), (2, 2), (3, 1, 2, 2)], ids=str)
def test_shapes_and_dtypes(solve, dtype, shape):
    """x' = -k t x for sample k; (2, 2) is the trap B == D."""
    x, pace = normal(7, *shape).to(dtype), torch.arange(1.0, shape[0] + 1).reshape(-1, *(1 for _ in shape[1:]))
    seen = set()

    def f(x, t):
        seen.add((x.dtype, x.shape))
        return -pace.to(dtype) * x * dl.bcast(t, x)

    states = solve(f, x, even((0.0, 1.0), 40))
    assert states.dtype == dtype
    tol = 1e-6 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(states[-1], x * torch.exp(-pace / 2).to(dtype), rtol=tol, atol=tol)
    assert seen == {(dtype, torch.Size(shape))}


def test_tolerances_are_relative_and_absolute():
    """The same work for x and for a million x while atol is small; less work where atol is large against x."""

    def count(scale: float, atol: float) -> int:
        asked = []
        f = lambda x, t: asked.append(t) or -x * t[:, None].cos()  # noqa: E731
        end = dl.dopri5(f, torch.full((1, 1), scale).double(), grid(0, 3), rtol=1e-7, atol=atol)[-1]
        assert end.item() == pytest.approx(scale * math.exp(-math.sin(3)), rel=1e-5)
        return len(asked)

    assert count(1.0, 1e-14) == count(1e6, 1e-8) == count(1e6, 1e-14)
    assert count(1.0, 1e-6) < 0.8 * count(1.0, 1e-14)


def test_a_step_cut_short_does_not_slow_the_next():
    x = normal(10, 1, 2)
    plain, pairs = grid(0.1, 1, 2, 3, 4), grid(0.1, 1, 1 + 1e-9, 2, 2 + 1e-9, 3, 3 + 1e-9, 4)
    assert evaluations(x, pairs) <= evaluations(x, plain) + 3 * 2 * 6


# --- t = 0


def test_rk4_lands_on_0_without_asking_there():
    """And order 4 is kept with a last step of order 3."""
    asked = []

    def smooth(x, t):
        asked.append(float(t))
        assert t > 0
        return x * torch.cos(t) + t

    x, steps = torch.ones(1, 1, dtype=torch.float64), [8, 16, 32]
    truth = solve_ivp(lambda t, y: y * math.cos(t) + t, (1, 0), [1.0], method="DOP853", rtol=1e-13, atol=1e-13).y[0, -1]
    errors = [abs(dl.rk4(smooth, x, even((1, 0), n))[-1].item() - truth) for n in steps]
    assert slope_of(errors, steps) == pytest.approx(4, abs=0.3)
    assert min(asked) == pytest.approx(1 / 32 / 4)


def test_dopri5_refuses_to_land_on_0_and_starts_from_it():
    with pytest.raises(ValueError, match="ts ends at 0, where no field is defined: end above it"):
        dl.dopri5(pendulum, normal(8, 2, 2), grid(1, 0))
    end = dl.dopri5(lambda x, t: x, torch.ones(1, 1).double(), grid(0, 1), rtol=1e-10, atol=1e-10)[-1]
    assert end.item() == pytest.approx(math.e, abs=1e-8)


# --- limits


def test_a_singular_field_is_named():
    """x' = x^2 from 1: the solution is 1/(1 - t)."""
    with pytest.raises(
        RuntimeError, match=r"dopri5 stops at t = (1|0.99999\d*): .*The field is singular or not smooth"
    ):
        dl.dopri5(lambda x, t: x**2, torch.ones(2, 1).double(), grid(0, 2))


def test_nan_is_named():
    with pytest.raises(RuntimeError, match=r"dopri5 stops at t = 0.5\d*: its steps shrink to nothing"):
        dl.dopri5(lambda x, t: torch.where(t[:, None] > 0.5, math.nan, x), torch.ones(2, 1).double(), grid(0, 1))


def test_the_limit_on_evaluations():
    asked = []
    f = lambda x, t: asked.append(t) or pendulum(x, t)  # noqa: E731
    with pytest.raises(RuntimeError, match=r"max_evals = 100 calls of f do not suffice.*raise max_evals"):
        dl.dopri5(f, normal(9, 2, 2), grid(0, 1000), max_evals=100)
    assert 90 < len(asked) <= 100


BAD = {
    "stands": (grid(0.1, 0.5, 0.5), r"ts must strictly rise or strictly fall"),
    "stands falling": (grid(0.5, 0.5, 0.1), r"ts must strictly rise or strictly fall"),
    "turns": (grid(0.1, 0.5, 0.2), r"ts must strictly rise or strictly fall"),
    "NaN": (grid(0.1, math.nan), r"ts must strictly rise or strictly fall"),
    "one": (grid(0.1), r"ts has shape \(1,\): give at least two times"),
    "table": (torch.ones(2, 2), r"ts has shape \(2, 2\)"),
}


@each_solver
@pytest.mark.parametrize(("ts", "message"), BAD.values(), ids=BAD)
def test_bad_grids(solve, ts, message):
    with pytest.raises(ValueError, match=message):
        solve(pendulum, normal(0, 2, 2), ts)


@pytest.mark.parametrize("tolerances", [{"rtol": 0.0}, {"atol": -1.0}, {"rtol": math.nan}])
def test_bad_tolerances(tolerances):
    with pytest.raises(ValueError, match=r"rtol = .*, atol = .*: give positive numbers"):
        dl.dopri5(pendulum, normal(0, 2, 2), grid(0, 1), **tolerances)


@each_solver
def test_gradients_pass_through(solve):
    """x' = -a x: d x(1) / d x(0) = exp(-a), d x(1) / d a = -x(0) exp(-a)."""
    x, a = torch.ones(2, 1, dtype=torch.float64, requires_grad=True), torch.tensor(0.7).double().requires_grad_()
    solve(lambda x, t: -a * x, x, even((0.0, 1.0), 100))[-1].sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, math.exp(-0.7)), rtol=1e-7, atol=1e-7)
    assert a.grad.item() == pytest.approx(-2 * math.exp(-0.7), rel=1e-7)
