"""Paths against autograd, moment equations, the papers' closed forms and DDPM's own recursion."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from worlds import BETAS, PATHS, normal, seeded, times

import ddpm_lite as dl

each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
inside = st.floats(0.01, 0.99)


def coef(path: dl.Path, t: float) -> dl.Coefs:
    return path.coefs(torch.tensor(t, dtype=torch.float64))


@each_path
def test_derivatives_are_autograds(path):
    t = times(0, 50).requires_grad_()
    c = path.coefs(t)
    (dsigma,) = torch.autograd.grad(c.sigma.sum(), t, retain_graph=True)
    torch.testing.assert_close(c.dsigma, dsigma, rtol=1e-10, atol=1e-10)
    dalpha = torch.autograd.grad(c.alpha.sum(), t)[0] if c.alpha.requires_grad else torch.zeros_like(t)
    torch.testing.assert_close(c.dalpha, dalpha, rtol=1e-10, atol=1e-10)


@each_path
def test_derivatives_are_central_differences(path):
    t, h = times(1, 50), 1e-6
    t = (t * 100).floor() / 100 + 0.005  # the middle of a step of the table
    c, up, down = path.coefs(t), path.coefs(t + h), path.coefs(t - h)
    torch.testing.assert_close(c.dalpha, (up.alpha - down.alpha) / (2 * h), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(c.dsigma, (up.sigma - down.sigma) / (2 * h), rtol=1e-6, atol=1e-8)


CLOSED = {  # alpha and sigma at t as the papers print them; B = int beta by the trapezoid, exact for a line
    "VP": lambda t: (math.exp(-(0.1 * t + 9.95 * t**2) / 2), math.sqrt(1 - math.exp(-(0.1 * t + 9.95 * t**2)))),
    "SubVP": lambda t: (math.exp(-(0.1 * t + 9.95 * t**2) / 2), 1 - math.exp(-(0.1 * t + 9.95 * t**2))),
    "Cosine": lambda t: (math.cos(math.pi * t / 2), math.sqrt(1 - math.cos(math.pi * t / 2) ** 2)),
    "VE": lambda t: (1.0, 0.01 * 5000**t),
    "EDM": lambda t: (1.0, 80 * t),
    "RectifiedFlow": lambda t: (1 - t, t),
}


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("t", [0.01, 0.3, 0.77, 1.0])
def test_coefficients_are_the_papers(name, t):
    c = coef(PATHS[name], t)
    assert (c.alpha.item(), c.sigma.item()) == pytest.approx(CLOSED[name](t), rel=1e-12, abs=1e-15)


def test_ends_of_the_paths():
    for name, path in PATHS.items():
        clean, noise = coef(path, 0.0), coef(path, 1.0)
        assert clean.alpha == 1
        assert clean.sigma.item() == pytest.approx(0.01 if name == "VE" else 0, abs=1e-15)
        assert noise.alpha.item() == pytest.approx({"VE": 1, "EDM": 1}.get(name, 0), abs=0.01)
        assert noise.sigma.item() == pytest.approx({"VE": 50, "EDM": 80}.get(name, 1), abs=1e-4)
    assert coef(dl.Cosine(), 1.0).alpha == 0
    assert coef(dl.RectifiedFlow(), 1.0).alpha == 0


@each_path
def test_data_at_0_noise_at_1(path):
    lam = path.lam(torch.linspace(0.001, 0.999, 999, dtype=torch.float64))
    assert (lam.diff() < 0).all()


@each_path
def test_lam_is_half_the_log_snr(path):
    t = times(2, 20)
    c = path.coefs(t)
    torch.testing.assert_close(path.lam(t), 0.5 * torch.log(c.alpha**2 / c.sigma**2), rtol=1e-12, atol=1e-12)


@each_path
def test_t_of_is_the_inverse_of_lam(path):
    t = torch.linspace(0.001, 0.999, 333, dtype=torch.float64)
    lam = path.lam(t)
    torch.testing.assert_close(path.t_of(lam), t, rtol=0, atol=1e-12)
    torch.testing.assert_close(dl.Path.t_of(path, lam), t, rtol=0, atol=1e-12)  # bisection


def test_t_of_far_into_the_noise():
    path = dl.VP(beta_max=200.0)
    t = torch.linspace(0.3, 0.95, 200, dtype=torch.float64)
    torch.testing.assert_close(path.t_of(path.lam(t)), t, rtol=0, atol=1e-13)


@each_path
def test_t_of_a_number_a_vector_and_a_table_agree(path):
    lam = path.lam(times(3, 6))
    vector = path.t_of(lam)
    assert torch.equal(path.t_of(lam.reshape(2, 3)), vector.reshape(2, 3))
    for one, t in zip(lam, vector, strict=True):
        assert path.t_of(one) == t
        assert path.t_of(one.item()) == t


@each_path
@given(t=inside)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_t_of_round_trip(path, t):
    assert path.t_of(path.lam(t)).item() == pytest.approx(t, abs=1e-12)


def test_bisection_says_where_the_path_ends():
    with pytest.raises(ValueError, match=r"lam = 200.* lies outside this path's \[-3.912, 4.605\]"):
        dl.Path.t_of(dl.VE(), torch.tensor([0.0, 200.0]))


@each_path
def test_drift_and_g2_move_the_moments(path):
    """dm/dt = f m, dv/dt = 2 f v + g^2 carry mean and variance of q(x_t | x_s)."""
    x = torch.zeros(1, 1, dtype=torch.float64)

    def rates(t, y):
        f, g2 = path.drift(t, x).item(), path.g2(t, x).item()
        return [f * y[0], 2 * f * y[1] + g2]

    s, t = 0.2, 0.9
    if isinstance(path, dl.BetaTable):  # the rates jump from step to step: solve step by step
        y = [1.0, 0.0]
        for i in range(20, 90):
            y = solve_ivp(rates, ((i + 1e-9) / 100, (i + 1) / 100), y, rtol=1e-9, atol=1e-12).y[:, -1]
    else:
        y = solve_ivp(rates, (s, t), [1.0, 0.0], rtol=1e-11, atol=1e-13).y[:, -1]
    alpha_ts, var_ts = dl.transition(path, t, s, x)
    assert y[0] == pytest.approx(alpha_ts.item(), rel=1e-7)
    assert y[1] == pytest.approx(var_ts.item(), rel=1e-7)


def test_drift_and_g2_are_the_score_sde_papers():
    t, x = times(4, 9), normal(0, 9, 2)
    column = t[:, None]
    beta, total = 0.1 + 19.9 * column, 0.1 * column + 9.95 * column**2
    same = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(dl.VP().drift(t, x), -beta / 2, **same)
    torch.testing.assert_close(dl.VP().g2(t, x), beta, **same)
    torch.testing.assert_close(dl.SubVP().drift(t, x), -beta / 2, **same)
    torch.testing.assert_close(dl.SubVP().g2(t, x), beta * (1 - torch.exp(-2 * total)), **same)
    torch.testing.assert_close(dl.VE().drift(t, x), torch.zeros_like(column), **same)
    torch.testing.assert_close(dl.VE().g2(t, x), 2 * math.log(5000) * (0.01 * 5000**column) ** 2, **same)
    torch.testing.assert_close(dl.EDM().g2(t, x), 2 * 80**2 * column, **same)
    torch.testing.assert_close(dl.RectifiedFlow().drift(t, x), -1 / (1 - column), **same)
    torch.testing.assert_close(dl.RectifiedFlow().g2(t, x), 2 * column / (1 - column), **same)


@each_path
def test_g2_is_minus_2_sigma2_lam_prime(path):
    t = times(5, 9).requires_grad_()
    (dlam,) = torch.autograd.grad(path.lam(t).sum(), t)
    x = normal(1, 9, 1)
    sigma = path.coefs(t).sigma
    torch.testing.assert_close(path.g2(t, x)[:, 0], -2 * sigma**2 * dlam, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("path", [dl.Cosine(), dl.RectifiedFlow()], ids=["Cosine", "RectifiedFlow"])
def test_no_drift_where_alpha_is_0(path):
    x = normal(2, 3, 2)
    for f in (path.drift, path.g2):
        with pytest.raises(
            ValueError, match=rf"{type(path).__name__} has no drift where alpha = 0: start at t_max < 1"
        ):
            f(1.0, x)
        with pytest.raises(ValueError, match="alpha = 0"):
            f(torch.tensor([0.5, 1.0, 0.2]), x)
        assert f(0.999, x).isfinite().all()


# --- transition and posterior


@each_path
@pytest.mark.parametrize(("s", "t"), [(0.1, 0.3), (0.29, 0.3), (0.5, 0.97), (0.0, 0.4)])
def test_transition_is_the_difference_of_the_marginals(path, s, t):
    x = normal(3, 4, 2)
    alpha_ts, var_ts = dl.transition(path, t, s, x)
    ct, cs = coef(path, t), coef(path, s)
    assert alpha_ts.item() == pytest.approx(ct.alpha.item() / cs.alpha.item(), rel=1e-13)
    naive = ct.sigma.item() ** 2 - (ct.alpha.item() / cs.alpha.item()) ** 2 * cs.sigma.item() ** 2
    assert var_ts.item() == pytest.approx(naive, rel=1e-9)


@each_path
@given(a=inside, b=inside, c=inside)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_transitions_compose(path, a, b, c):
    """Semigroup: from r to s and on to t is from r to t."""
    r, s, t = sorted((a, b, c))
    if min(s - r, t - s) < 1e-6:
        return
    x = torch.zeros(1, 1, dtype=torch.float64)
    (a1, v1), (a2, v2), (whole, var) = (dl.transition(path, *pair, x) for pair in ((s, r), (t, s), (t, r)))
    assert (a1 * a2).item() == pytest.approx(whole.item(), rel=1e-10)
    assert (a2**2 * v1 + v2).item() == pytest.approx(var.item(), rel=1e-8)


@each_path
def test_transition_at_the_ends(path):
    x = normal(4, 3, 2)
    for t, s in ((1.0, 0.5), (0.5, 0.0), (1.0, 0.0), (torch.ones(3), torch.zeros(3))):
        alpha_ts, var_ts = dl.transition(path, t, s, x)
        assert alpha_ts.isfinite().all()
        assert (var_ts > 0).all()
    noise, clean = coef(path, 1.0), coef(path, 0.0)
    var = noise.sigma**2 - noise.alpha**2 * clean.sigma**2 / clean.alpha**2
    torch.testing.assert_close(dl.transition(path, 1.0, 0.0, x)[1], var, rtol=1e-12, atol=0)


@each_path
@pytest.mark.parametrize(("s", "t"), [(0.3, 0.35), (0.1, 0.6), (0.6, 0.9)])
def test_posterior_is_bayes_rule_on_a_grid(path, s, t):
    """1-D: q(x_s | x_t, x0) is q(x_t | x_s) q(x_s | x0), normalised by summing."""
    x0, xt = torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([[1.3]], dtype=torch.float64)
    xt = xt * coef(path, t).sigma
    mean, var = dl.posterior(path, x0, xt, t, s)
    ct, cs = coef(path, t), coef(path, s)
    ratio = (ct.alpha / cs.alpha).item()
    step = ct.sigma.item() ** 2 - ratio**2 * cs.sigma.item() ** 2
    centre, width = cs.alpha.item() * 0.7, cs.sigma.item()
    grid = np.linspace(centre - 12 * width, centre + 12 * width, 200_001)
    log_q = -((grid - centre) ** 2) / (2 * width**2) - (xt.item() - ratio * grid) ** 2 / (2 * step)
    q = np.exp(log_q - log_q.max())
    q /= q.sum()
    assert mean.item() == pytest.approx((q * grid).sum(), rel=1e-8, abs=1e-8 * width)
    assert var.item() == pytest.approx((q * grid**2).sum() - (q * grid).sum() ** 2, rel=1e-6)


@each_path
@given(a=inside, b=inside, c=inside)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_posteriors_compose(path, a, b, c):
    """q(x_r | x_t, x0) is q(x_r | x_s, x0) averaged over q(x_s | x_t, x0)."""
    r, s, t = sorted((a, b, c))
    if min(s - r, t - s) < 1e-4:
        return
    x0, xt = normal(5, 1, 3), normal(6, 1, 3)
    mean_s, var_s = dl.posterior(path, x0, xt, t, s)
    mean_r, var_r = dl.posterior(path, x0, mean_s, s, r)
    gain = dl.posterior(path, torch.zeros_like(x0), torch.ones_like(x0), s, r)[0]
    mean, var = dl.posterior(path, x0, xt, t, r)
    torch.testing.assert_close(mean_r, mean, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(var_r + gain[0, 0] ** 2 * var_s, var, rtol=1e-7, atol=1e-14)


def test_posterior_is_ddpms():
    """Ho et al. 2020, eq. 6 and 7, in their letters and indices."""
    betas, steps = BETAS, len(BETAS)
    alphas, abar = 1 - betas, torch.cumprod(1 - betas, 0)
    x0, xt = normal(7, 3, 2), normal(8, 3, 2)
    for i in (2, 3, 50, 100):  # DDPM's t, from 1; arrays from 0
        beta, a, now, before = betas[i - 1], alphas[i - 1], abar[i - 1], abar[i - 2]
        mean = before.sqrt() * beta / (1 - now) * x0 + a.sqrt() * (1 - before) / (1 - now) * xt
        got = dl.posterior(PATHS["BetaTable"], x0, xt, i / steps, (i - 1) / steps)
        torch.testing.assert_close(got[0], mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(got[1], (1 - before) / (1 - now) * beta, rtol=1e-9, atol=1e-14)


# --- BetaTable


@pytest.mark.parametrize("betas", [BETAS, dl.linear_betas(1000), torch.rand(77, generator=seeded(0)) * 0.5 + 0.01])
def test_beta_table_is_the_product_of_ddpm(betas):
    path, abar, steps = dl.BetaTable(betas), 1.0, len(betas)
    for i in range(1, steps + 1):
        abar *= 1 - betas[i - 1].item()
        c = coef(path, i / steps)
        assert c.alpha.item() == pytest.approx(math.sqrt(abar), rel=1e-11)
        assert c.sigma.item() == pytest.approx(math.sqrt(1 - abar), rel=1e-11)


def test_linear_betas_are_ddpms():
    betas = dl.linear_betas()
    assert betas.shape == (1000,)
    assert betas.dtype == torch.float64
    assert betas[0].item() == pytest.approx(1e-4, rel=1e-15)
    assert betas[-1].item() == pytest.approx(0.02, rel=1e-15)
    assert betas[499].item() == pytest.approx(1e-4 + 499 / 999 * 0.0199, rel=1e-13)


@given(t=st.floats(0.0, 1.0))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_beta_table_is_log_linear_between_steps(t):
    log_abar = np.concatenate([[0], np.log(1 - BETAS.numpy()).cumsum()])
    want = np.interp(t, np.arange(101) / 100, log_abar)
    c = coef(PATHS["BetaTable"], t)
    assert c.alpha.item() == pytest.approx(math.exp(want / 2), rel=1e-12)
    assert c.sigma.item() ** 2 == pytest.approx(-math.expm1(want), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [3, 49, 100, 777, 1000])
def test_beta_table_at_a_node_has_the_slope_of_the_step_that_ends_there(steps, dtype):
    """Whatever the rounding of i/T: quotients, a linspace, a falling linspace."""
    betas = dl.linear_betas(steps, start=0.001, end=0.2)
    path, i = dl.BetaTable(betas), torch.arange(1, steps + 1)
    slope = torch.log1p(-betas) * steps  # d log abar / dt in step i
    nodes = (
        i.to(dtype) / steps,
        torch.linspace(0, 1, steps + 1, dtype=dtype)[1:],
        dl.linear_ts(steps).flip(0)[1:].to(dtype),
    )
    for t in nodes:
        c = path.coefs(t)
        torch.testing.assert_close(2 * c.dalpha / c.alpha, slope.to(dtype), rtol=1e-5, atol=0)


def test_beta_table_does_not_change_its_input():
    betas = torch.full((4,), 0.1)
    path = dl.BetaTable(betas)
    path.coefs(torch.tensor([0.1, 0.6]))
    assert torch.equal(betas, torch.full((4,), 0.1))
    assert dl.BetaTable([0.1, 0.2]).coefs(torch.tensor(1.0)).alpha.item() == pytest.approx(math.sqrt(0.9 * 0.8))


# --- shapes and types


SHAPES = [(2, 2), (5, 2), (3, 1), (1, 4), (3, 3, 3, 3), (2, 3, 4, 5)]  # B == D among them


def functions(path: dl.Path):
    return {
        "mix": lambda t, x: path.mix(x, 2 * x, t),
        "drift": path.drift,
        "g2": path.g2,
        "alpha": lambda t, x: path.at(t, x).alpha,
        "sigma": lambda t, x: path.at(t, x).sigma,
        "posterior": lambda t, x: dl.posterior(path, x, 2 * x, t, 0.01)[0],
        "variance": lambda t, x: dl.posterior(path, x, x, t, 0.01)[1],
    }


@each_path
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_time_as_float_0d_and_vector_agree(path, shape):
    x, t = normal(9, *shape), 0.37
    vector = torch.full(shape[:1], t, dtype=torch.float64)
    for f in functions(path).values():
        whole = torch.broadcast_to(f(t, x), shape)
        assert torch.equal(torch.broadcast_to(f(torch.tensor(t, dtype=torch.float64), x), shape), whole)
        torch.testing.assert_close(torch.broadcast_to(f(vector, x), shape), whole, rtol=1e-14, atol=1e-14)


@each_path
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_sample_has_its_own_time(path, shape):
    """The trap B == D: a vector of times runs along the batch."""
    x, t = normal(10, *shape), times(6, shape[0])
    for f in functions(path).values():
        whole = torch.broadcast_to(f(t, x), shape)
        for i in range(shape[0]):
            alone = torch.broadcast_to(f(t[i].item(), x[i : i + 1]), (1, *shape[1:]))
            torch.testing.assert_close(whole[i], alone[0], rtol=1e-13, atol=1e-13)


@each_path
def test_the_dtype_is_that_of_x(path):
    x, t = normal(11, 4, 2), times(7, 4)
    for when in (0.4, torch.tensor(0.4, dtype=torch.float64), t):
        low, high = path.mix(x.float(), x.float(), when), path.mix(x, x, when)
        assert low.dtype == torch.float32
        torch.testing.assert_close(low.double(), high, rtol=1e-6, atol=1e-5)
        mean, _ = dl.posterior(path, x.float(), x.float(), when, 0.01)
        assert mean.dtype == torch.float32


def test_integer_times_are_times():
    x = normal(12, 3, 2)
    for path in PATHS.values():
        assert torch.equal(path.mix(x, 2 * x, torch.tensor(1)), path.mix(x, 2 * x, 1.0))
    assert dl.EDM(0.5).at(torch.tensor(1), x).dsigma == 0.5


def test_mix_is_alpha_x0_plus_sigma_x1():
    x0, x1 = normal(13, 3, 2), normal(14, 3, 2)
    torch.testing.assert_close(dl.RectifiedFlow().mix(x0, x1, 0.25), 0.75 * x0 + 0.25 * x1, rtol=1e-15, atol=0)
    torch.testing.assert_close(dl.EDM().mix(x0, x1, 0.25), x0 + 20 * x1, rtol=1e-15, atol=0)


@each_path
def test_prior_is_sigma_1_times_the_generators_draw(path):
    for shape in ((6, 2), (2, 3, 4, 4)):
        prior = path.prior(shape, generator=seeded(1))
        want = coef(path, 1.0).sigma.item() * torch.randn(shape, generator=seeded(1))
        torch.testing.assert_close(prior, want)
