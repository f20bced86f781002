"""Multistep solvers: Adams-Bashforth in the angle and its grid, DPM-Solver++(3M)."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from worlds import PATHS, exact_flow, noisy_points, normal, random_mixture, seeded, slope_of

import ddpm_lite as dl

each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
MIXTURE = random_mixture(2)


def noisiest(path: dl.Path) -> float:
    """A start where the SDE of every path is defined: Cosine and RectifiedFlow have alpha = 0 at t = 1."""
    return 0.999 if path.coefs(torch.ones(())).alpha < 1e-6 else 1.0


def gaussian(dim: int, std: float) -> dl.GaussianMixture:
    return dl.GaussianMixture([1.0], torch.zeros(1, dim), std**2 * torch.eye(dim).double()[None])


# --- Adams-Bashforth in the angle


@each_path
def test_adams_is_exact_in_one_step_for_gaussian_data_of_that_std(path):
    """x/q is constant, so x goes to q_end/q_start x, whatever the path."""
    x, ts = normal(0, 5, 3), torch.tensor([1.0, 0.0], dtype=torch.float64)
    end = dl.last(dl.adams(gaussian(3, 0.7).denoiser(path), path, x, ts, data_std=0.7))
    c, s = path.coefs(ts[0]), path.coefs(ts[1])
    want = x * torch.hypot(s.sigma, 0.7 * s.alpha) / torch.hypot(c.sigma, 0.7 * c.alpha)
    torch.testing.assert_close(end, want, rtol=1e-9, atol=1e-12)


@each_path
def test_adams_of_order_1_is_euler_in_the_angle(path):
    """y = (x/alpha) cos(phi): dy/dphi = (cos(phi) y - x0)/sin(phi), from d(x/alpha)/dr = eps and r = sd tan(phi)."""
    t, s, sd, x = 0.8, 0.5, 0.6, noisy_points(MIXTURE, path, 0.8)
    c, after = (path.coefs(torch.tensor(u, dtype=torch.float64)) for u in (t, s))
    phi, phi_s = (math.atan2(k.sigma, sd * k.alpha) for k in (c, after))
    y, x0 = x / c.alpha * math.cos(phi), MIXTURE.denoiser(path)(x, t).x0
    y = y + (phi_s - phi) * (math.cos(phi) * y - x0) / math.sin(phi)
    want = y / math.cos(phi_s) * after.alpha
    ts = torch.tensor([t, s], dtype=torch.float64)
    got = dl.last(dl.adams(MIXTURE.denoiser(path), path, x, ts, data_std=sd, order=1))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


def test_adams_on_even_angles_has_the_textbook_weights():
    """Equal steps of the angle on Cosine, sd = 1: Adams-Bashforth 4 is (55, -59, 37, -9)/24 on F = -v."""
    path, ts, slopes = dl.Cosine(), dl.linear_ts(6, t_max=0.9), []
    inner = MIXTURE.denoiser(path)

    def den(x, t):
        e = inner(x, t)
        slopes.append(-dl.encode(e, path.at(t, x), "v"))
        return e

    states = list(dl.adams(den, path, noisy_points(MIXTURE, path, 0.9), ts, order=4))
    h = (ts[0] - ts[1]) * math.pi / 2
    for i in (3, 4, 5):
        step = 55 * slopes[i] - 59 * slopes[i - 1] + 37 * slopes[i - 2] - 9 * slopes[i - 3]
        torch.testing.assert_close(states[i + 1], states[i] + h / 24 * step, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_adams_has_its_order_on_the_graded_grid(order):
    path, counts = dl.VP(), [80, 160, 320]
    x = noisy_points(MIXTURE, path, 1.0)
    exact = exact_flow(MIXTURE, path, x, 1.0, 0.0)
    den = MIXTURE.denoiser(path)
    ends = [
        dl.last(dl.adams(den, path, x, dl.angle_ts(path, n, middle=0.7), data_std=1.0, order=order)) for n in counts
    ]
    order_found = slope_of([(end - exact).square().mean().sqrt().item() for end in ends], counts)
    assert order - 0.25 < order_found < order + 0.75


@each_path
def test_adams_gives_the_same_samples_on_every_path(path):
    """On a common grid of sigma/alpha, x/q does not know the path."""
    ratios = torch.tensor([8.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1], dtype=torch.float64)
    home, ends = dl.EDM(), []
    for other in (home, path):
        ts = other.t_of(-ratios.log())
        c, last = other.coefs(ts[0]), other.coefs(ts[-1])
        x = dl.last(dl.adams(MIXTURE.denoiser(other), other, 3 * c.alpha * normal(1, 6, 2), ts, data_std=0.8))
        ends.append(x / last.alpha)
    torch.testing.assert_close(*ends, rtol=1e-7, atol=1e-9)


def test_adams_calls_the_denoiser_once_a_step_and_never_at_0():
    times, path = [], dl.RectifiedFlow()
    inner = MIXTURE.denoiser(path)

    def den(x, t):
        times.append(float(t))
        return inner(x, t)

    states = list(dl.adams(den, path, normal(2, 4, 2), dl.angle_ts(path, 9)))
    assert (len(states), len(times), times[0]) == (10, 9, 1.0)
    assert min(times) > 0


def test_adams_keeps_float32_and_image_shapes():
    path = dl.VP()
    x = normal(3, 4, 1, 2, 2)
    mixture = random_mixture(4)
    args = mixture.denoiser(path), path
    double = dl.last(dl.adams(*args, x, dl.angle_ts(path, 12)))
    single = dl.last(dl.adams(*args, x.float(), dl.angle_ts(path, 12)))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=0, atol=2e-4)


def test_adams_names_what_is_wrong():
    path, x = dl.VP(), normal(0, 2, 2)
    den, ts = MIXTURE.denoiser(path), dl.angle_ts(path, 4)
    with pytest.raises(ValueError, match="order = 0"):
        list(dl.adams(den, path, x, ts, order=0))
    with pytest.raises(ValueError, match="sigma_data = -1"):
        list(dl.adams(den, path, x, ts, data_std=-1))
    with pytest.raises(ValueError, match="strictly decrease"):
        list(dl.adams(den, path, x, ts.flip(0)))


def test_a_wrong_data_std_costs_about_the_stated_factor():
    """The docstring says about 3 for half or twice; the median over four mixtures and two numbers of steps."""
    factors = []
    path = dl.EDM()
    for seed in range(4):
        mixture = random_mixture(2, seed=10 * seed, k=5)
        scales = dl.angle_scales(mixture.sample(5000, generator=seeded(seed)))
        x = noisy_points(mixture, path, 1.0, n=200, seed=seed)
        exact = exact_flow(mixture, path, x, 1.0, 0.0)
        for n in (12, 24):
            ts = dl.angle_ts(path, n, middle=scales.middle)
            errors = [
                (dl.last(dl.adams(mixture.denoiser(path), path, x, ts, data_std=k * scales.data_std)) - exact).norm()
                for k in (1.0, 0.5, 2.0)
            ]
            factors += [float(errors[1] / errors[0]), float(errors[2] / errors[0])]
    assert 1.5 < float(np.median(factors)) < 6


def test_an_eps_network_wants_a_start_at_five_data_std():
    """An error of .05 in eps: from t = 1 of VP, sigma/alpha = 157, the samples are lost; from 5 data_std they are not.

    The same error in the velocity of the straight path does no harm from t = 1.
    """
    mixture = random_mixture(2, seed=4)
    scales = dl.angle_scales(mixture.sample(5000, generator=seeded(0)))

    def error(path: dl.Path, kind: str, t_max: float) -> float:
        exact = mixture.denoiser(path)

        def den(x, t):
            c = path.at(t, x)
            return dl.decode(dl.encode(exact(x, t), c, kind) + 0.05 * torch.sin(3 * x), x, c, kind)

        ts = dl.angle_ts(path, 20, middle=scales.middle, t_max=t_max)
        x = noisy_points(mixture, path, t_max, n=300)
        ends = [dl.last(dl.adams(d, path, x, ts, data_std=scales.data_std)) for d in (den, exact)]
        return (ends[0] - ends[1]).square().mean().sqrt().item()

    vp = dl.VP()
    late = vp.t_of(torch.tensor(-math.log(5 * scales.data_std), dtype=torch.float64)).item()
    assert error(vp, "eps", 1.0) > 5
    assert error(vp, "eps", late) < 0.5
    assert error(dl.RectifiedFlow(), "velocity", 1.0) < 0.5


# --- the grid and the scales


@each_path
def test_angle_grid_is_the_formula(path):
    """u^2 (3 - 2u) of the way between the two ends of the angle."""
    n, middle, t_max = 7, 0.6, noisiest(path)
    ts = dl.angle_ts(path, n, middle=middle, t_max=t_max)
    c = path.coefs(ts)
    psi = torch.atan2(c.sigma, middle * c.alpha)
    u = torch.arange(n, -1, -1, dtype=torch.float64) / n
    share = (psi - psi[-1]) / (psi[0] - psi[-1])
    torch.testing.assert_close(share, u**2 * (3 - 2 * u), rtol=1e-6, atol=1e-9)
    assert (ts[0].item(), ts[-1].item()) == (t_max, 0.0)
    assert (ts.diff() < 0).all()


def test_half_of_the_grid_lies_above_the_middle():
    path = dl.RectifiedFlow()
    t = dl.angle_ts(path, 10, middle=0.3)[5].item()
    assert t / (1 - t) == pytest.approx(0.3, rel=1e-12)


@pytest.mark.parametrize("options", [{"middle": 0.0}, {"middle": -1.0}, {"t_min": 0.5, "t_max": 0.2}])
def test_angle_grid_refuses(options):
    name = "middle" if "middle" in options else "t_min"
    with pytest.raises(ValueError, match=f"{name} = "):
        dl.angle_ts(dl.VP(), 5, **options)


def test_scales_by_hand():
    """Variances 4 and 1 along the axes: tr C^2/tr C = 17/5, tr C/D = 5/2."""
    x = torch.tensor([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]]) + 10
    scales = dl.angle_scales(x)
    assert scales.data_std == pytest.approx(0.85 * math.sqrt(17 / 5))
    assert scales.middle == pytest.approx(0.42 * 2**0.25 * math.sqrt(5 / 2))


def test_scales_of_few_samples_in_many_dimensions_agree_with_the_covariance():
    """More dimensions than samples: the N x N product has the same trace as the D x D one."""
    x = normal(4, 6, 40)
    covariance = torch.cov(x.T, correction=0)
    want = 0.85 * ((covariance @ covariance).trace() / covariance.trace()).sqrt()
    assert dl.angle_scales(x.reshape(6, 1, 5, 8)).data_std == pytest.approx(want.item(), rel=1e-10)


def test_scales_refuse_equal_samples():
    with pytest.raises(ValueError, match="1 distinct samples"):
        dl.angle_scales(torch.ones(5, 2))


# --- DPM-Solver++(3M)


def test_3m_has_order_3():
    path, counts = dl.VP(), [80, 160, 320]
    x = noisy_points(MIXTURE, path, 1.0)
    exact = exact_flow(MIXTURE, path, x, 1.0, 0.02)
    den = MIXTURE.denoiser(path)
    ends = [dl.last(dl.dpmpp_3m(den, path, x, dl.logsnr_ts(path, n, t_min=0.02))) for n in counts]
    assert slope_of([(end - exact).norm().item() for end in ends], counts) == pytest.approx(3, abs=0.2)


def test_3m_is_exact_for_a_quadratic_in_lam():
    """x0 = a + b lam + c lam^2: from the third step on, the integral of alpha_s exp(u - lam_s) x0(u) has no error."""
    path, ts = dl.VP(), dl.logsnr_ts(dl.VP(), 5, t_min=0.05)

    def den(x, t):
        lam = path.lam(t)
        x0 = (0.3 - 0.7 * lam + 0.2 * lam**2).expand_as(x)
        return dl.Estimate(x0, (x - path.at(t, x).alpha * x0) / path.at(t, x).sigma)

    states = list(dl.dpmpp_3m(den, path, normal(5, 2, 1), ts))
    for i, (t, s) in list(enumerate(pairwise(ts)))[2:]:
        a, b = path.lam(t).item(), path.lam(s).item()
        u = torch.linspace(a, b, 20_001, dtype=torch.float64)
        area = torch.trapezoid(torch.exp(u - b) * (0.3 - 0.7 * u + 0.2 * u**2), u)
        ct, cs = path.coefs(t), path.coefs(s)
        torch.testing.assert_close(states[i + 1], cs.sigma / ct.sigma * states[i] + cs.alpha * area, rtol=0, atol=1e-8)


def test_3m_bends_twice_as_much_as_diffusers():
    """Their third-order step is ours with half of the bend, which makes it of order 2."""
    lams, x0 = torch.tensor([0.1, 0.3, 0.4, 0.7], dtype=torch.float64), normal(6, 3, 4, 2)
    path, x = dl.VP(), normal(7, 4, 2)
    values = iter(x0)
    ts = path.t_of(lams)
    states = list(dl.dpmpp_3m(lambda x, t: dl.Estimate(next(values), x), path, x, ts))
    theirs = DPMSolverMultistepScheduler(solver_order=3)
    theirs.sigmas, theirs._step_index = torch.exp(-lams), 2
    step = theirs.multistep_dpm_solver_third_order_update(list(x0), sample=states[2])
    h, h0, h1 = lams[3] - lams[2], lams[2] - lams[1], lams[1] - lams[0]
    slopes = (x0[2] - x0[1]) / h0, (x0[1] - x0[0]) / h1
    bend = h**2 * (slopes[0] - slopes[1]) / (h0 + h1)
    u = torch.linspace(0, h, 20_001, dtype=torch.float64)
    area = torch.trapezoid(torch.exp(u - h) * (u / h) ** 2, u)
    want = step + path.coefs(ts[3]).alpha * area * bend / 2
    torch.testing.assert_close(states[3], want, rtol=0, atol=1e-8)
