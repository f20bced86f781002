"""Inversion against the exact flow, slerp against geometry, SDEdit against its law on a Gaussian."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from worlds import PATHS, exact_flow, noisy_points, normal, random_mixture, seeded, slope_of

import ddpm_lite as dl

each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
SMOOTH = {**PATHS, "BetaTable": dl.BetaTable(torch.full((40,), 0.2))}  # equal betas: log abar has no kinks


def den(x, t):
    """Some denoiser that depends on everything; on no path exact."""
    t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, *(1 for _ in x.shape[1:]))
    return dl.Estimate(torch.tanh(x) + t, torch.sin(2 * x) - t)


# --- inversion


@pytest.mark.parametrize("path", SMOOTH.values(), ids=SMOOTH)
@pytest.mark.parametrize(("step", "order", "both"), [(dl.ddim_step, 1, 1), (dl.heun_step, 2, 3)], ids=["ddim", "heun"])
def test_inversion_finds_the_noise_and_sampling_returns(path, step, order, both):
    """Against the flow solved to 1e-11 by another solver, at the order of the step; and there and back again.

    The error of a step is d h^(p+1): back, with -h, it doubles for p = 1 and cancels for p = 2, which leaves order 3.
    """
    mixture = random_mixture(2, seed=2)
    top, low = path.t_of(torch.tensor([-1.0, 0.7], dtype=torch.float64)).tolist()
    x = noisy_points(mixture, path, low, n=4)
    exact, steps, there, back = exact_flow(mixture, path, x, low, top), [32, 64], [], []
    for n in steps:
        ts = dl.logsnr_ts(path, n, t_max=top, t_min=low)
        noise = dl.invert(mixture.denoiser(path), path, x, ts.flip(0), step=step)
        there.append((noise - exact).square().mean().sqrt().item())
        again = dl.sample(step, mixture.denoiser(path), path, noise, ts)
        back.append((again - x).square().mean().sqrt().item())
    assert slope_of(there, steps) == pytest.approx(order, abs=0.25)
    assert slope_of(back, steps) == pytest.approx(both, abs=0.3)


@each_path
def test_inversion_is_ddim_upwards(path):
    """x_s = alpha_s x0hat + sigma_s eps, both from the cleaner end of the step; never asked at the last time."""
    asked, x, ts = [], normal(0, 4, 2), torch.tensor([0.1, 0.3, 0.35, 0.8], dtype=torch.float64)
    spy = lambda x, t: asked.append(float(t)) or den(x, t)  # noqa: E731
    got, state = dl.invert(spy, path, x, ts), x
    for t, s in pairwise(ts.tolist()):
        state = path.mix(*den(state, t), s)
    torch.testing.assert_close(got, state, rtol=1e-12, atol=1e-12)
    assert asked == pytest.approx([0.1, 0.3, 0.35])


def test_inversion_keeps_type_and_shape_and_no_gradient():
    scale = torch.ones((), requires_grad=True)
    learned = lambda x, t: dl.Estimate(scale * den(x, t).x0, den(x, t).eps)  # noqa: E731
    x = normal(1, 2, 1, 4, 4).float()
    got = dl.invert(learned, dl.VP(), x, dl.linear_ts(5, t_min=0.01).flip(0))
    assert (got.dtype, got.shape, got.requires_grad) == (torch.float32, x.shape, False)


# --- slerp


def angle(a, b):
    return torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).clamp(-1, 1).arccos()


@pytest.mark.parametrize("shape", [(2, 2), (4, 3), (3, 1, 4, 4)], ids=str)
def test_slerp_is_the_formula_of_the_paper(shape):
    """Song et al. 2021 (DDIM): theta = arccos of the cosine. u as number, 0-d and one a sample, the trap B == D."""
    a, b = normal(2, *shape), normal(3, *shape)
    theta = angle(a, b).reshape(-1, *(1 for _ in shape[1:]))
    each = torch.linspace(0.1, 0.9, shape[0], dtype=torch.float64)
    for u in (0.3, torch.tensor(0.3), each):
        k = torch.as_tensor(u, dtype=torch.float64).reshape(-1, *(1 for _ in shape[1:]))
        want = ((1 - k) * theta).sin() / theta.sin() * a + (k * theta).sin() / theta.sin() * b
        torch.testing.assert_close(dl.slerp(a, b, u), want, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(dl.slerp(a, b, 0.0), a)
    torch.testing.assert_close(dl.slerp(a, b, 1.0), b)
    assert dl.slerp(a.float(), b.float(), 0.3).dtype == torch.float32


def test_slerp_keeps_the_norm_and_walks_at_an_even_pace():
    a, b = (v / v.norm(dim=1, keepdim=True) * 3 for v in (normal(4, 6, 5), normal(5, 6, 5)))
    for u in (0.1, 0.5, 0.8):
        c = dl.slerp(a, b, u)
        torch.testing.assert_close(c.norm(dim=1), torch.full((6,), 3.0, dtype=torch.float64))
        torch.testing.assert_close(angle(a, c), u * angle(a, b))
    torch.testing.assert_close(dl.slerp(a, dl.slerp(a, b, 0.5), 0.5), dl.slerp(a, b, 0.25))
    torch.testing.assert_close(dl.slerp(a, b, 0.3), dl.slerp(b, a, 0.7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slerp_of_parallel_and_nearly_parallel_samples_is_lerp(dtype):
    a = normal(6, 5, 4).to(dtype)
    tilt = normal(7, 5, 4).to(dtype)
    for b in (a, 2.5 * a, torch.zeros_like(a), a + 1e-6 * tilt):
        torch.testing.assert_close(dl.slerp(a, b, 0.25), 0.75 * a + 0.25 * b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slerp_up_to_opposite_samples(dtype):
    """Nearly half a turn in the plane, where the exact point is known; half a turn has no single way."""
    a = torch.tensor([[1.0, 0.0]], dtype=dtype)
    theta = math.pi - 0.01
    b = torch.tensor([[math.cos(theta), math.sin(theta)]], dtype=dtype)
    want = torch.tensor([[math.cos(theta / 2), math.sin(theta / 2)]], dtype=dtype)
    torch.testing.assert_close(dl.slerp(a, b, 0.5), want, rtol=0, atol=100 * torch.finfo(dtype).eps / 0.01)
    with pytest.raises(ValueError, match=r"a and b hold a pair of opposite samples"):
        dl.slerp(torch.cat([a, a]), torch.cat([b, -2 * a]), 0.5)


# --- SDEdit


@pytest.mark.parametrize("path", [dl.Cosine(), dl.RectifiedFlow()], ids=["Cosine", "RectifiedFlow"])
def test_sdedit_from_pure_noise_is_sampling(path):
    mixture, x0, ts = random_mixture(2), normal(8, 6, 2), dl.linear_ts(20)
    plain = dl.sample(dl.ddim_step, mixture.denoiser(path), path, normal(9, 6, 2), ts)
    edited = dl.sdedit(dl.ddim_step, mixture.denoiser(path), path, x0, ts, generator=seeded(9))
    torch.testing.assert_close(edited, plain, rtol=1e-12, atol=1e-12)


def test_sdedit_from_the_noisiest_level_of_vp_nearly_is():
    """There alpha = .0066 of x0 is left, and the flow of N(0, I) is the identity there: exactly so much is left."""
    path, data = dl.VP(), dl.GaussianMixture([1.0], torch.zeros(1, 2), torch.eye(2)[None])
    x0, ts = normal(10, 6, 2), dl.linear_ts(400)
    plain = dl.sample(
        dl.heun_step, data.denoiser(path), path, path.coefs(torch.tensor(1.0)).sigma * normal(9, 6, 2), ts
    )
    edited = dl.sdedit(dl.heun_step, data.denoiser(path), path, x0, ts, generator=seeded(9))
    alpha = path.coefs(torch.tensor(1.0, dtype=torch.float64)).alpha
    torch.testing.assert_close(edited - plain, alpha * x0, rtol=1e-3, atol=1e-6)


def gains(step, path, v, ts):
    """SDEdit on N(0, v) is linear, out = p x0 + sum_k q_k z_k: p and sum q^2, from as many rows as draws and one."""
    n = len(ts) + 1  # x0, the draw of the start, one draw a step
    x0, generator = normal(11, n, 1), seeded(12)
    z = [torch.randn(n, 1, generator=generator, dtype=torch.float64) for _ in range(n - 1)]
    den = dl.GaussianMixture([1.0], [[0.0]], [[[v]]]).denoiser(path)
    out = dl.sdedit(step, den, path, x0, ts, generator=seeded(12))
    p, *q = torch.linalg.solve(torch.cat([x0, *z], 1), out)[:, 0].tolist()
    return p, sum(value**2 for value in q)


@pytest.mark.parametrize("name", ["VP", "Cosine", "SubVP", "EDM", "RectifiedFlow"])
@pytest.mark.parametrize("strength", [0.15, 0.5, 0.9])
def test_the_law_of_sdedit_on_a_gaussian(name, strength):
    """r = alpha^2 v/(alpha^2 v + sigma^2): ODE N(r^.5 x0, v (1 - r)), SDE N(r x0, v (1 - r^2)); errors of order 1."""
    path, v = PATHS[name], 0.25
    t = path.t_of(torch.tensor(math.log(math.sqrt(strength / (1 - strength) / v)), dtype=torch.float64)).item()
    c = path.coefs(torch.tensor(t, dtype=torch.float64))
    r = (c.alpha**2 * v / (c.alpha**2 * v + c.sigma**2)).item()
    assert r == pytest.approx(strength)
    ode, sde = (r**0.5, v * (1 - r)), (r, v * (1 - r**2))
    for step, want in ((dl.ddim_step, ode), (partial(dl.ddim_step, eta=1.0), sde), (dl.ancestral_step, sde)):
        errors = []
        for n in (40, 80):
            ts = torch.cat([dl.logsnr_ts(path, n, t_max=t, t_min=1e-6), torch.zeros(1, dtype=torch.float64)])
            errors.append([abs(g - w) for g, w in zip(gains(step, path, v, ts), want, strict=True)])
        for coarse, fine in zip(*errors, strict=True):
            assert fine < 0.05
            assert fine < 1e-6 or 1.7 < coarse / fine < 2.3


def test_sdedit_draws_once_and_passes_the_generator_on():
    x0, ts = normal(13, 4, 2), dl.linear_ts(4, t_max=0.6)
    generator = seeded(3)
    noised = dl.VP().mix(x0, torch.randn(4, 2, generator=generator, dtype=torch.float64), 0.6)
    want = dl.sample(dl.ancestral_step, den, dl.VP(), noised, ts, generator=generator)
    got = dl.sdedit(dl.ancestral_step, den, dl.VP(), x0, ts, generator=seeded(3))
    assert torch.equal(got, want)
    small = dl.sdedit(dl.heun_step, den, dl.VP(), normal(14, 2, 1, 3, 3).float(), ts, generator=seeded(3))
    assert (small.dtype, small.shape) == (torch.float32, (2, 1, 3, 3))


X, RISING = normal(0, 4, 2), torch.tensor([0.1, 0.5, 0.9])
BAD = {
    "falls": (lambda: dl.invert(den, dl.VP(), X, RISING.flip(0)), r"ts = .* must strictly increase, from data"),
    "stands": (lambda: dl.invert(den, dl.VP(), X, torch.tensor([0.1, 0.1])), r"must strictly increase"),
    "from 0": (lambda: dl.invert(den, dl.VP(), X, torch.tensor([0.0, 0.5])), r"ts starts at 0.0: no field .* 1e-3"),
    "one time": (lambda: dl.invert(den, dl.VP(), X, RISING[:1]), r"ts has shape \(1,\): give at least two"),
    "beyond 1": (lambda: dl.invert(den, dl.VP(), X, torch.tensor([0.5, 1.5])), r"t = 1.5 lies outside"),
    "a and b": (lambda: dl.slerp(X, X[:1], 0.5), r"a has shape \(4, 2\), b \(1, 2\): give both the same"),
    "u": (lambda: dl.slerp(X, X, torch.rand(2)), r"u has shape \(2,\): give a number or shape \(4,\)"),
    "sdedit rises": (lambda: dl.sdedit(dl.ddim_step, den, dl.VP(), X, RISING), r"ts must strictly decrease"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
