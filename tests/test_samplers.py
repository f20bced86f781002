"""Steps against the papers' updates and exact recursions of moments; grids against their formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from worlds import PATHS, noisy_points, normal, random_mixture, seeded, within_law

import ddpm_lite as dl
from ddpm_lite.samplers import ddim_step

each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
STEPS = {
    "ddim": dl.ddim_step,
    "ancestral": dl.ancestral_step,
    "euler": dl.euler_step,
    "heun": dl.heun_step,
    "em": dl.em_step,
}
each_step = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)


def den(x, t):
    """Some denoiser that depends on everything; on no path exact."""
    t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, *(1 for _ in x.shape[1:]))
    return dl.Estimate(torch.tanh(x) + t, torch.sin(2 * x) - t)


def coef(path: dl.Path, t: float) -> dl.Coefs:
    return path.coefs(torch.as_tensor(t, dtype=torch.float64))


# --- single steps


@each_path
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_is_equation_12(path, eta):
    x, (t, s) = normal(0, 4, 2), (0.6, 0.35)
    ct, cs, e = coef(path, t), coef(path, s), den(x, t)
    step = (ct.sigma**2 - (ct.alpha / cs.alpha) ** 2 * cs.sigma**2).sqrt()
    noise = eta * cs.sigma / ct.sigma * step
    z = torch.randn(4, 2, generator=seeded(1), dtype=torch.float64)
    want = cs.alpha * e.x0 + (cs.sigma**2 - noise**2).sqrt() * e.eps + noise * z
    torch.testing.assert_close(
        dl.ddim_step(den, path, x, t, s, eta=eta, generator=seeded(1)), want, rtol=1e-9, atol=1e-9
    )


@each_path
@pytest.mark.parametrize(("t", "s"), [(0.3, 0.6), (0.6, 0.3)])
def test_ddim_without_noise_runs_both_ways(path, t, s):
    x = normal(0, 4, 2)
    e = den(x, t)
    want = coef(path, s).alpha * e.x0 + coef(path, s).sigma * e.eps
    torch.testing.assert_close(dl.ddim_step(den, path, x, t, s), want, rtol=1e-12, atol=1e-12)


def test_ddim_default_is_deterministic_and_draws_nothing():
    x, generator = normal(1, 4, 2), seeded(2)
    state = generator.get_state()
    assert torch.equal(
        dl.ddim_step(den, dl.VP(), x, 0.6, 0.3, generator=generator), dl.ddim_step(den, dl.VP(), x, 0.6, 0.3, eta=0.0)
    )
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("name", ["VP", "VE", "EDM", "RectifiedFlow", "Cosine"])
def test_ddim_in_float32_has_no_nan_at_any_noise(name):
    """sigma_s^2 - n^2 cancels where var_ts is nearly sigma_t^2; it must not come out below 0."""
    s = torch.rand(20_000, generator=seeded(3)) ** 4 * 0.9 + 1e-6
    t = s + (1 - s) * torch.rand(20_000, generator=seeded(4)) ** 0.2
    fine = (s < t) & (t < 1)
    x = torch.randn(int(fine.sum()), 1, generator=seeded(5))
    assert ddim_step(den, PATHS[name], x, t[fine], s[fine], eta=1.0, generator=seeded(6)).isfinite().all()


@each_path
@pytest.mark.parametrize("variance", ["posterior", "forward"])
def test_ancestral_mean_and_variance(path, variance):
    x, (t, s) = normal(2, 4, 2), (0.6, 0.35)
    z = torch.randn(4, 2, generator=seeded(1), dtype=torch.float64)
    mean, var = dl.posterior(path, den(x, t).x0, x, t, s)
    if variance == "forward":
        ct, cs = coef(path, t), coef(path, s)
        var = ct.sigma**2 - (ct.alpha / cs.alpha) ** 2 * cs.sigma**2
    got = dl.ancestral_step(den, path, x, t, s, variance=variance, generator=seeded(1))
    torch.testing.assert_close(got, mean + var.sqrt() * z, rtol=1e-9, atol=1e-9)
    if variance == "posterior":
        assert torch.equal(dl.ancestral_step(den, path, x, t, s, generator=seeded(1)), got)


@each_path
@pytest.mark.parametrize("variance", ["posterior", "forward"])
def test_a_step_to_clean_data_adds_no_noise(path, variance):
    """VE has noise sigma_min at t = 0, so its last step is like every other."""
    x, z = normal(3, 4, 2), torch.randn(4, 2, generator=seeded(1), dtype=torch.float64)
    mean, var = dl.posterior(path, den(x, 0.1).x0, x, 0.1, 0.0)
    if variance == "forward":
        var = dl.transition(path, 0.1, 0.0, x)[1]
    end = mean + var.sqrt() * z if isinstance(path, dl.VE) else mean
    for s in (0.0, torch.tensor(0.0, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)):
        got = dl.ancestral_step(den, path, x, 0.1, s, variance=variance, generator=seeded(1))
        torch.testing.assert_close(got, end, rtol=1e-12, atol=1e-12)
    some = torch.tensor([0.0, 0.05, 0.0, 0.05], dtype=torch.float64)
    both = [dl.ancestral_step(den, path, x, 0.1, some, variance="forward", generator=seeded(k)) for k in (1, 2)]
    assert torch.equal((both[0] != both[1]).any(1), coef(path, some).sigma > 0)


@each_path
def test_steps_to_clean_data_give_the_estimate(path):
    if isinstance(path, dl.VE):
        return  # its t = 0 is sigma_min, not clean data
    x = normal(4, 4, 2)
    for step in (dl.ddim_step, dl.ancestral_step):
        torch.testing.assert_close(step(den, path, x, 0.2, 0.0), den(x, 0.2).x0, rtol=1e-12, atol=1e-12)
    *_, end = dl.dpmpp_2m(den, path, x, torch.tensor([0.3, 0.2, 0.0], dtype=torch.float64))
    _, before, _ = dl.dpmpp_2m(den, path, x, torch.tensor([0.3, 0.2, 0.0], dtype=torch.float64))
    torch.testing.assert_close(end, den(before, 0.2).x0, rtol=1e-12, atol=1e-12)


@each_path
def test_euler_follows_the_probability_flow(path):
    """Song et al. 2021, eq. 13, in score form: f x - g^2 score / 2."""
    x, (t, s) = normal(5, 4, 2), (0.6, 0.5)
    exact = random_mixture(2).denoiser(path)
    score = random_mixture(2).score(x, path, t)
    want = x + (s - t) * (path.drift(t, x) * x - path.g2(t, x) * score / 2)
    torch.testing.assert_close(dl.euler_step(exact, path, x, t, s), want, rtol=1e-8, atol=1e-8)


@each_path
def test_heun_is_the_mean_of_two_slopes(path):
    x, (t, s) = normal(6, 4, 2), (0.6, 0.5)
    velocity = lambda y, u: coef(path, u).dalpha * den(y, u).x0 + coef(path, u).dsigma * den(y, u).eps  # noqa: E731
    first = velocity(x, t)
    second = velocity(x + (s - t) * first, s)
    torch.testing.assert_close(
        dl.heun_step(den, path, x, t, s), x + (s - t) * (first + second) / 2, rtol=1e-12, atol=1e-12
    )
    assert torch.equal(dl.heun_step(den, path, x, 0.1, 0.0), dl.euler_step(den, path, x, 0.1, 0.0))


def test_heun_is_edms_algorithm_1():
    """In the paper's letters: d = (x - D)/sigma, corrected by its mean with d'."""
    x, mixture, sigmas = normal(7, 4, 2), random_mixture(2), [9.0, 3.0, 1.0, 0.2, 0.0]
    y, D = 9 * x, lambda y, sigma: mixture.denoiser(dl.EDM(10.0))(y, sigma / 10).x0
    for sigma, after in itertools.pairwise(sigmas):
        d = (y - D(y, sigma)) / sigma
        guess = y + (after - sigma) * d
        y = guess if after == 0 else y + (after - sigma) * (d + (guess - D(guess, after)) / after) / 2
    ts = torch.tensor(sigmas, dtype=torch.float64) / 10
    got = dl.sample(dl.heun_step, mixture.denoiser(dl.EDM(10.0)), dl.EDM(10.0), 9 * x, ts)
    torch.testing.assert_close(got, y, rtol=1e-10, atol=1e-10)


def test_em_is_the_reverse_sde_of_the_papers():
    x, (t, s) = normal(8, 4, 2), (0.6, 0.55)
    z = torch.randn(4, 2, generator=seeded(1), dtype=torch.float64)
    beta, h = 0.1 + 19.9 * t, t - s
    score = random_mixture(2).score(x, dl.VP(), t)
    want = x + h * (beta / 2 * x + beta * score) + math.sqrt(beta * h) * z
    got = dl.em_step(random_mixture(2).denoiser(dl.VP()), dl.VP(), x, t, s, generator=seeded(1))
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)
    sigma = 80 * t
    got = dl.em_step(random_mixture(2).denoiser(dl.EDM()), dl.EDM(), x, t, s, generator=seeded(1))
    g2 = 2 * 80 * sigma
    want = x + h * g2 * random_mixture(2).score(x, dl.EDM(), t) + math.sqrt(g2 * h) * z
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)


@each_path
def test_em_without_noise_is_euler_on_the_ode(path):
    x, t, s, exact = normal(28, 4, 2), 0.6, 0.55, random_mixture(2).denoiser(path)
    got, want = dl.em_step(exact, path, x, t, s, eta=0.0), dl.euler_step(exact, path, x, t, s)
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0, 1.7])
def test_every_eta_keeps_the_variance_of_a_gaussian(eta):
    """One step from the exact law of N(0, .3) on VP: the variance is right up to the square of the step."""
    normal_data, path, t = dl.GaussianMixture([1.0], [[0.0]], [[[0.3]]]), dl.VP(), 0.5
    points, errors = torch.tensor([[0.0], [1.0]], dtype=torch.float64), []
    for h in (2e-3, 1e-3):
        z = torch.randn(2, 1, generator=seeded(3), dtype=torch.float64)
        zero, one = dl.em_step(normal_data.denoiser(path), path, points, t, t - h, eta=eta, generator=seeded(3))
        root = (zero / z[0]).item() if eta else 0.0
        slope = one.item() - root * z[1].item()
        before, after = (0.3 * coef(path, u).alpha ** 2 + coef(path, u).sigma ** 2 for u in (t, t - h))
        errors.append((slope**2 * before + root**2 - after).item())
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.05)


@pytest.mark.parametrize("eta", [-0.1, float("nan"), float("inf")])
def test_em_refuses_another_eta(eta):
    with pytest.raises(ValueError, match=r"eta = .*give 0 \(the ODE\)"):
        dl.em_step(den, dl.VP(), normal(29, 3, 2), 0.6, 0.5, eta=eta)


@each_path
def test_dpmpp_2m_is_algorithm_2(path):
    """Lu et al. 2022 (DPM-Solver++), in the paper's indices, on steps of very different sizes."""
    ts = torch.tensor([0.9, 0.85, 0.5, 0.45, 0.1], dtype=torch.float64)
    c = path.coefs(ts)
    h = torch.log(c.alpha / c.sigma).diff()
    x, x0 = [normal(20, 4, 2)], []
    for i in range(4):
        x0.append(den(x[i], ts[i]).x0)
        r = h[i - 1] / h[i]
        D = x0[0] if i == 0 else (1 + 1 / (2 * r)) * x0[i] - 1 / (2 * r) * x0[i - 1]
        x.append(c.sigma[i + 1] / c.sigma[i] * x[i] - c.alpha[i + 1] * (torch.exp(-h[i]) - 1) * D)
    for got, want in zip(dl.dpmpp_2m(den, path, x[0], ts), x, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("path", [dl.RectifiedFlow(), dl.Cosine()], ids=["RectifiedFlow", "Cosine"])
def test_em_says_where_it_cannot_start(path):
    mixture, x = random_mixture(2), normal(9, 3, 2)
    with pytest.raises(ValueError, match=r"alpha = 0: start at t_max < 1"):
        dl.em_step(mixture.denoiser(path), path, x, 1.0, 0.9)
    assert dl.em_step(mixture.denoiser(path), path, x, 0.99, 0.9).isfinite().all()


# --- shapes, types, generators


@each_path
@each_step
@pytest.mark.parametrize("shape", [(2, 2), (5, 2), (3, 1), (2, 3, 4, 4)], ids=str)
def test_time_as_float_0d_and_vector_agree(path, step, shape):
    """The trap B == D among the shapes."""
    x, t, s = normal(10, *shape), 0.6, 0.4
    run = lambda t, s: step(den, path, x, t, s, generator=seeded(1))  # noqa: E731
    zero_d = [torch.tensor(v, dtype=torch.float64) for v in (t, s)]
    vector = [torch.full(shape[:1], v, dtype=torch.float64) for v in (t, s)]
    whole = run(t, s)
    assert whole.shape == shape
    torch.testing.assert_close(run(*zero_d), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(run(*vector), whole, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(run(vector[0], s), whole, rtol=1e-11, atol=1e-11)


@each_path
@each_step
def test_each_sample_has_its_own_times(path, step):
    x = normal(11, 2, 2)
    t, s = torch.tensor([0.9, 0.5], dtype=torch.float64), torch.tensor([0.7, 0.2], dtype=torch.float64)
    both = step(den, path, x, t, s, generator=seeded(1))
    z = torch.randn(2, 2, generator=seeded(1), dtype=torch.float64)

    for i in range(2):  # the noise of row i, given to the step alone
        alone = torch.stack(
            [step(den, path, x[i : i + 1], t[i].item(), s[i].item(), generator=seeded(k))[0] for k in (2, 3)]
        )
        noise = torch.cat([torch.randn(1, 2, generator=seeded(k), dtype=torch.float64) for k in (2, 3)])
        scale = (alone[0] - alone[1]) / (noise[0] - noise[1])
        torch.testing.assert_close(both[i], alone[0] + scale * (z[i] - noise[0]), rtol=1e-9, atol=1e-9)


@each_path
@each_step
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samplers_keep_the_dtype_whatever_the_grid(path, step, dtype):
    x = normal(12, 4, 2).to(dtype)
    for grid in (torch.float32, torch.float64):
        ts = dl.linear_ts(5, t_max=0.9).to(grid)
        end = dl.sample(step, den, path, x, ts, generator=seeded(1))
        assert end.dtype == dtype
        assert end.isfinite().all()
        if step is not dl.ancestral_step:
            *_, end = dl.dpmpp_2m(den, path, x, ts)
            assert end.dtype == dtype


@each_path
@pytest.mark.parametrize("step", [dl.ddim_step, dl.euler_step, dl.heun_step])
def test_float32_is_close_to_float64(path, step):
    exact, x, ts = random_mixture(2).denoiser(path), normal(13, 4, 2), dl.linear_ts(10, t_max=0.9)
    x = x * coef(path, 0.9).sigma
    low, high = (dl.sample(step, exact, path, y, ts) for y in (x.float(), x))
    torch.testing.assert_close(low.double(), high, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("step", [dl.ancestral_step, dl.em_step])
def test_the_generator_decides(step):
    x, ts, state = normal(14, 4, 2), dl.linear_ts(4, t_max=0.9, t_min=0.1), torch.get_rng_state()
    runs = [dl.sample(step, den, dl.VP(), x, ts, generator=seeded(k)) for k in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert torch.equal(torch.get_rng_state(), state)


@each_step
def test_x_is_not_changed(step):
    x = normal(15, 4, 2)
    before = x.clone()
    step(den, dl.VP(), x, 0.5, 0.3, generator=seeded(1))
    list(dl.dpmpp_2m(den, dl.VP(), x, dl.linear_ts(3)))
    assert torch.equal(x, before)


# --- folding


def test_iterate_yields_every_state_and_sample_the_last():
    x, ts = normal(16, 4, 2), dl.linear_ts(5)
    states = list(dl.iterate(dl.ddim_step, den, dl.VP(), x, ts, eta=1.0, generator=seeded(1)))
    assert len(states) == 6
    assert states[0] is x
    by_hand, generator = x, seeded(1)
    for state, t, s in zip(states[1:], ts[:-1], ts[1:], strict=True):
        by_hand = dl.ddim_step(den, dl.VP(), by_hand, t, s, eta=1.0, generator=generator)
        assert torch.equal(state, by_hand)
    assert torch.equal(dl.sample(dl.ddim_step, den, dl.VP(), x, ts, eta=1.0, generator=seeded(1)), by_hand)
    assert torch.equal(dl.last(iter(states)), by_hand)
    assert len(list(dl.dpmpp_2m(den, dl.VP(), x, ts))) == 6


def test_sample_and_last_hold_no_gradient_and_iterate_does():
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    learned = lambda x, t: dl.Estimate(scale * den(x, t).x0, den(x, t).eps)  # noqa: E731
    x, ts = normal(17, 4, 2), dl.linear_ts(3)
    assert not dl.sample(dl.ddim_step, learned, dl.VP(), x, ts).requires_grad
    assert not dl.last(dl.dpmpp_2m(learned, dl.VP(), x, ts)).requires_grad
    assert list(dl.iterate(dl.ddim_step, learned, dl.VP(), x, ts))[-1].requires_grad


def test_a_denoiser_is_never_asked_at_0():
    asked = []
    spy = lambda x, t: asked.append(float(torch.as_tensor(t).min())) or den(x, t)  # noqa: E731
    x, ts = normal(18, 4, 2), dl.linear_ts(4, t_max=0.9)
    for step, calls in (
        (dl.ddim_step, 4),
        (dl.ancestral_step, 4),
        (dl.euler_step, 4),
        (dl.heun_step, 7),
        (dl.em_step, 4),
    ):
        asked.clear()
        dl.sample(step, spy, dl.VP(), x, ts)
        assert min(asked) > 0
        assert len(asked) == calls
    asked.clear()
    list(dl.dpmpp_2m(spy, dl.VP(), x, ts))
    assert len(asked) == 4


def test_pc_corrects_at_the_new_level_but_not_at_0():
    seen = []

    def correct(d, path, x, t, *, generator=None):
        seen.append((d, path, float(t), generator))
        return x + 1

    x, generator, path = normal(19, 4, 2), seeded(1), dl.VP()
    step = dl.pc(dl.em_step, correct)
    got = step(den, path, x, 0.5, 0.3, generator=generator)
    assert torch.equal(got, dl.em_step(den, path, x, 0.5, 0.3, generator=seeded(1)) + 1)
    assert seen == [(den, path, 0.3, generator)]
    assert torch.equal(
        step(den, path, x, 0.5, 0.0, generator=seeded(1)), dl.em_step(den, path, x, 0.5, 0.0, generator=seeded(1))
    )
    assert len(seen) == 1


def test_pc_with_langevin_leaves_the_exact_law_alone():
    """Many small Langevin corrections at one level keep the noised mixture's law: 1e-6 false alarms, bias under .01."""
    mixture, path, n = dl.book_mixture(1), dl.VP(), 4000

    def correct(d, path, x, t, *, generator=None):
        for _ in range(20):
            score = dl.encode(d(x, t), path.at(t, x), "score")
            x = x + 0.01 * score + math.sqrt(0.02) * dl.randn_like(x, generator=generator)
        return x

    x = path.mix(mixture.sample(n, generator=seeded(2)).double(), normal(20, n, 1), 0.3)
    stay = dl.pc(lambda d, path, x, t, s, **kw: x, correct)
    x = stay(mixture.denoiser(path), path, x, 0.4, 0.3, generator=seeded(3))
    assert within_law(x[:, 0], lambda v: marginal_cdf(path, 0.3, v), slack=0.01)


def marginal_cdf(path: dl.Path, t: float, v: np.ndarray) -> np.ndarray:
    c, total = coef(path, t), 0.0
    for w, m, s in ((0.3, -2, 0.4), (0.5, 0.5, 0.7), (0.2, 2.5, 0.3)):
        width = torch.hypot(c.alpha * s, c.sigma)
        total = total + w * torch.special.ndtr((torch.from_numpy(v) - c.alpha * m) / width)
    return total.numpy()


# --- moments


def line(step, path, exact, t, s, **kw):
    """The step on 1-D Gaussian data is x_s = A x + C + B z; the three numbers, from three points."""
    x = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)
    z = torch.randn(3, 1, generator=seeded(1), dtype=torch.float64)[:, 0].tolist()
    y = step(exact, path, x, t, s, generator=seeded(1), **kw)[:, 0].tolist()
    B = (y[0] - y[1]) / (z[0] - z[1])
    C = y[0] - B * z[0]
    return y[2] - C - B * z[2], C, B


def moments(step, path, exact, mean, var, ts, **kw):
    """Mean and variance after the grid, without chance."""
    for t, s in itertools.pairwise(ts.tolist()):
        A, C, B = line(step, path, exact, t, s, **kw)
        mean, var = A * mean + C, A**2 * var + B**2
    return mean, var


SMOOTH = {**PATHS, "BetaTable": dl.BetaTable(torch.full((100,), 0.1))}


@pytest.mark.parametrize("path", SMOOTH.values(), ids=SMOOTH)
@pytest.mark.parametrize(
    ("step", "options"),
    [
        (dl.em_step, {}),
        (dl.ancestral_step, {}),
        (dl.ancestral_step, {"variance": "forward"}),
        (dl.ddim_step, {"eta": 1.0}),
        (dl.ddim_step, {"eta": 0.5}),
    ],
    ids=["em", "posterior", "forward", "eta=1", "eta=.5"],
)
def test_stochastic_steps_reach_the_marginal_at_order_1(path, step, options):
    """Data N(.7, .25): from p_t to p_s by n steps, error of both moments down by 2 for twice the steps."""
    data = dl.GaussianMixture([1.0], [[0.7]], [[[0.25]]])
    t, s = path.t_of(torch.tensor([-1.0, 1.0], dtype=torch.float64)).tolist()
    ct, cs = coef(path, t), coef(path, s)
    start = (0.7 * ct.alpha).item(), (0.25 * ct.alpha**2 + ct.sigma**2).item()
    want = (0.7 * cs.alpha).item(), (0.25 * cs.alpha**2 + cs.sigma**2).item()
    errors = []
    for n in (40, 80):
        got = moments(step, path, data.denoiser(path), *start, dl.linear_ts(n, t_max=t, t_min=s), **options)
        errors.append([abs(g - w) / (w + 1e-3) for g, w in zip(got, want, strict=True)])
    for coarse, fine in zip(*errors, strict=True):
        assert fine < 0.06
        assert fine < 1e-6 or 1.8 < coarse / fine < 2.2


def test_em_samples_the_mixture():
    """VP from t = 1 to 0 in 300 steps: 1e-6 false alarms, discretisation under .01 in the distribution function."""
    mixture, path, n = dl.book_mixture(1), dl.VP(), 4000
    x = torch.randn(n, 1, generator=seeded(7), dtype=torch.float64)
    end = dl.sample(dl.em_step, mixture.denoiser(path), path, x, dl.linear_ts(300), generator=seeded(8))
    assert within_law(end[:, 0], lambda v: marginal_cdf(path, 0.0, v), slack=0.01)


@each_path
def test_ancestral_samples_the_mixture(path):
    """From t_max to t_min on 200 levels: 1e-6 false alarms, discretisation under .01 in the distribution function."""
    mixture, n, low = dl.book_mixture(1), 2000, 0.02
    x = noisy_points(mixture, path, 0.98, n=n)
    ts = dl.logsnr_ts(path, 200, t_max=0.98, t_min=low)
    end = dl.sample(dl.ancestral_step, mixture.denoiser(path), path, x, ts, generator=seeded(9))
    assert within_law(end[:, 0], lambda v: marginal_cdf(path, low, v), slack=0.01)


# --- grids


@each_path
@pytest.mark.parametrize("n", [1, 2, 7, 500])
def test_grids_fall_strictly_in_float64(path, n):
    grids = [
        dl.linear_ts(n),
        dl.linear_ts(n, t_max=0.9, t_min=0.1),
        dl.logsnr_ts(path, n, t_max=0.999),
        dl.karras_ts(path, n, sigma_max=40.0, sigma_min=0.02),
    ]
    for ts in grids:
        assert ts.shape == (n + 1,)
        assert ts.dtype == torch.float64
        assert (ts.diff() < 0).all()
        assert ts.min() >= 0
        assert ts.max() <= 1
    assert (grids[1][0], grids[1][-1]) == (0.9, 0.1)
    assert (grids[2][0], grids[2][-1]) == (0.999, 1e-3)
    assert grids[3][-1] == 0


@each_path
def test_logsnr_grid_is_even_in_lam(path):
    lam = path.lam(dl.logsnr_ts(path, 50, t_max=0.99, t_min=0.01))
    torch.testing.assert_close(lam.diff(), ((lam[-1] - lam[0]) / 50).expand(50), rtol=1e-9, atol=1e-9)


@each_path
def test_karras_grid_is_edms_equation_5(path):
    n, rho, top, low = 18, 7, 40.0, 0.02
    sigmas = [(top ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - top ** (1 / rho))) ** rho for i in range(n)]
    ts = dl.karras_ts(path, n, sigma_max=top, sigma_min=low)
    c = path.coefs(ts[:-1])
    assert (c.sigma / c.alpha).tolist() == pytest.approx(sigmas, rel=1e-9)


def test_karras_grid_defaults_are_the_papers():
    sigmas = 80 * dl.karras_ts(dl.EDM(), 18)
    assert sigmas[0].item() == pytest.approx(80, rel=1e-12)
    assert sigmas[17].item() == pytest.approx(0.002, rel=1e-12)
    assert sigmas[18] == 0


def test_linear_grid_is_even():
    torch.testing.assert_close(dl.linear_ts(4), torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64))
