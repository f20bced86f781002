"""One regression, checked term by term, and the laws of its times."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from worlds import BETAS, KINDS, PATHS, normal, random_mixture, seeded, times, within_law

import ddpm_lite as dl

each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
SHAPES = [(4, 5), (5, 5), (2, 2), (3, 2, 4, 4)]


def net(x, t, *cond):
    y = torch.sin(x) + t.reshape(-1, *(1 for _ in x.shape[1:]))
    return y + cond[0].reshape(t.shape[0], *(1 for _ in x.shape[1:])) if cond else y


@each_path
@each_kind
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_mean_square_of_one_sample_at_a_time(path, kind, shape):
    x0, x1, t = normal(0, *shape), normal(1, *shape), times(0, shape[0], 0.1, 0.9)
    loss = dl.matching_loss(net, path, x0, kind=kind, t=t, x1=x1)
    assert loss.shape == shape[:1]
    for i in range(shape[0]):
        c = path.coefs(t[i])
        a, b = (dl.ROWS[kind] if isinstance(kind, str) else kind)(c)
        xt = c.alpha * x0[i] + c.sigma * x1[i]
        error = net(xt[None], t[i : i + 1])[0] - (a * x0[i] + b * x1[i])
        assert loss[i].item() == pytest.approx((error**2).sum().item() / x0[0].numel(), rel=1e-10)


@each_path
def test_time_as_float_0d_and_vector_agree(path):
    x0, x1 = normal(2, 4, 5), normal(3, 4, 5)
    ways = [0.3, torch.tensor(0.3, dtype=torch.float64), torch.full((4,), 0.3, dtype=torch.float64)]
    whole = [dl.matching_loss(net, path, x0, t=t, x1=x1, kind="v", weight=torch.exp) for t in ways]
    for loss in whole:
        torch.testing.assert_close(loss, whole[0], rtol=1e-12, atol=0)


def test_weight_multiplies_sample_by_sample():
    x0, x1, t = normal(4, 4, 3), normal(5, 4, 3), times(1, 4)
    plain = dl.matching_loss(net, dl.VP(), x0, t=t, x1=x1)
    seen = []
    weighted = dl.matching_loss(net, dl.VP(), x0, t=t, x1=x1, weight=lambda t: seen.append(t) or 3 * t)
    torch.testing.assert_close(weighted, 3 * t * plain)
    assert seen[0].shape == (4,)


def test_condition_goes_to_the_network():
    x0, x1, cond = normal(6, 4, 3), normal(7, 4, 3), normal(8, 4)
    got = dl.matching_loss(net, dl.VP(), x0, t=0.5, x1=x1, cond=cond)
    want = dl.matching_loss(lambda x, t: net(x, t, cond), dl.VP(), x0, t=0.5, x1=x1)
    torch.testing.assert_close(got, want)
    assert not torch.allclose(got, dl.matching_loss(net, dl.VP(), x0, t=0.5, x1=x1))


@pytest.mark.parametrize("draw", [dl.uniform_t, dl.stratified_t, dl.discrete_t(10), dl.lognormal_t(dl.VP())])
def test_times_then_noise_come_from_the_generator(draw):
    x0, generator = normal(9, 4, 3), seeded(5)
    t = draw(4, generator=generator, dtype=torch.float64)
    x1 = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    want = dl.matching_loss(net, dl.VP(), x0, t=t, x1=x1)
    state = torch.get_rng_state()
    torch.testing.assert_close(dl.matching_loss(net, dl.VP(), x0, times=draw, generator=seeded(5)), want)
    assert torch.equal(torch.get_rng_state(), state)


def test_default_kind_is_eps_and_default_times_are_uniform():
    x0 = normal(10, 4, 3)
    explicit = dl.matching_loss(net, dl.VP(), x0, kind="eps", times=dl.uniform_t, generator=seeded(1))
    assert torch.equal(dl.matching_loss(net, dl.VP(), x0, generator=seeded(1)), explicit)


def test_loss_keeps_the_dtype_and_has_a_gradient():
    x0, scale = normal(11, 4, 3).float(), torch.ones((), requires_grad=True)
    loss = dl.matching_loss(lambda x, t: scale * x, dl.VP(), x0, generator=seeded(1))
    assert loss.dtype == torch.float32
    loss.mean().backward()
    assert scale.grad is not None
    assert scale.grad != 0


def test_inputs_are_not_changed():
    x0, x1, t = normal(12, 4, 3), normal(13, 4, 3), times(2, 4)
    copies = [v.clone() for v in (x0, x1, t)]
    dl.matching_loss(net, dl.VP(), x0, t=t, x1=x1, weight=torch.exp)
    for now, then in zip((x0, x1, t), copies, strict=True):
        assert torch.equal(now, then)


def test_the_path_is_asked_once():
    calls = []

    class Counted(dl.VP):
        def coefs(self, t):
            calls.append(t)
            return super().coefs(t)

    dl.matching_loss(net, Counted(), normal(22, 4, 3))
    assert len(calls) == 1


def test_large_data_is_not_taken_for_infinite():
    x0 = torch.full((4, 2), 3e38)  # the sum overflows, the numbers do not
    assert dl.matching_loss(net, dl.VP(), x0, t=1.0, generator=seeded(0)).isfinite().all()


# --- floors


@pytest.mark.parametrize("name", ["VP", "Cosine", "RectifiedFlow", "EDM", "BetaTable"])
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_floor_of_the_eps_loss_on_unit_gaussian_data(name, t):
    """alpha^2/(alpha^2 + sigma^2) a dimension. False-alarm rate under 1e-6: 5 standard errors."""
    path, n, unit = PATHS[name], 20_000, dl.GaussianMixture([1.0], [[0.0] * 3], torch.eye(3)[None])
    x0 = unit.sample(n, generator=seeded(1)).double()
    loss = dl.matching_loss(lambda x, t: unit.denoiser(path)(x, t).eps, path, x0, t=t, generator=seeded(2))
    c = path.coefs(torch.tensor(t, dtype=torch.float64))
    floor = c.alpha**2 / (c.alpha**2 + c.sigma**2)
    assert abs(loss.mean() - floor) < 5 * loss.std() / math.sqrt(n)


@each_path
@each_kind
def test_no_network_beats_the_exact_denoiser(path, kind):
    """At the minimum the loss is even in a small change of the output: its slope is 0 within 6 standard errors."""
    mixture, n = random_mixture(2), 4000
    x0, x1, t = mixture.sample(n, generator=seeded(3)).double(), normal(14, n, 2), 0.4
    den = mixture.denoiser(path)
    exact = lambda x, t: dl.encode(den(x, t), path.at(t, x), kind)  # noqa: E731
    up, down = (
        dl.matching_loss(lambda x, t, h=h: exact(x, t) + h * torch.tanh(x), path, x0, kind=kind, t=t, x1=x1)
        for h in (0.1, -0.1)
    )
    best = dl.matching_loss(exact, path, x0, kind=kind, t=t, x1=x1)
    slope = up - down
    assert abs(slope.mean()) < 6 * slope.std() / math.sqrt(n)
    assert (up + down).mean() > 2 * best.mean()


# --- weights


@each_path
@pytest.mark.parametrize("kind", ["x0", "eps", "score", "v", "velocity", "edm"])
@pytest.mark.parametrize("to", ["x0", "eps", "score", "v", "velocity", "edm"])
def test_reweight_turns_one_loss_into_the_other(path, kind, to):
    """The same denoiser, read in two kinds."""
    x0, x1, t = normal(15, 6, 3), normal(16, 6, 3), times(3, 6, 0.1, 0.9)
    den = dl.Denoiser(net, path, "v")
    loss = {
        k: dl.matching_loss(
            lambda x, t, k=k: den.read(x, t, k),
            path,
            x0,
            kind=k,
            t=t,
            x1=x1,
            weight=dl.reweight(path, kind, to) if w else None,
        )
        for k, w in ((to, False), (kind, True))
    }
    torch.testing.assert_close(loss[kind], loss[to], rtol=1e-8, atol=1e-10)


def test_reweight_is_the_papers():
    t = times(4, 20)
    ve, edm, vp = dl.VE(), dl.EDM(), dl.VP()
    torch.testing.assert_close(dl.reweight(ve, "score", "eps")(t), (0.01 * 5000**t) ** 2)  # NCSN's sigma^2
    sigma = 80 * t
    torch.testing.assert_close(dl.reweight(edm, "x0", "edm")(t), (sigma**2 + 0.25) / (sigma * 0.5) ** 2)  # EDM's lambda
    c = vp.coefs(t)
    torch.testing.assert_close(dl.reweight(vp, "x0", "eps")(t), c.alpha**2 / c.sigma**2)  # the SNR
    torch.testing.assert_close(dl.reweight(vp, "v", "eps")(t), c.alpha**2)
    torch.testing.assert_close(dl.reweight(dl.RectifiedFlow(), "velocity", "eps")(t), (1 - t) ** 2)


@each_path
def test_elbo_weight_is_minus_lam_prime(path):
    t = times(5, 20).requires_grad_()
    (dlam,) = torch.autograd.grad(path.lam(t).sum(), t)
    torch.testing.assert_close(dl.elbo_weight(path)(t), -dlam, rtol=1e-10, atol=1e-10)


def test_elbo_weight_is_the_limit_of_ddpms_bound():
    """Ho et al. 2020, eq. 12: beta^2/(2 sigma^2 alpha (1 - abar)) a step, with sigma^2 = beta-tilde; T of them."""
    steps = 100_000
    vp, i = dl.VP(), torch.tensor([20_000, 60_000, 90_000])
    betas = dl.BetaTable((0.1 + 19.9 * (torch.arange(steps, dtype=torch.float64) + 0.5) / steps) / steps).betas
    abar = torch.cumprod(1 - betas, 0)
    beta, now, before = betas[i - 1], abar[i - 1], abar[i - 2]
    tilde = (1 - before) / (1 - now) * beta
    weight = beta**2 / (2 * tilde * (1 - beta) * (1 - now))
    torch.testing.assert_close(dl.elbo_weight(vp)(i / steps), (steps * weight), rtol=1e-3, atol=0, check_dtype=False)


@each_path
@pytest.mark.parametrize(("s", "t"), [(0.2, 0.7)])
def test_elbo_weight_integrates_to_the_log_snr(path, s, t):
    middle = s + (t - s) * (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    total = dl.elbo_weight(path)(middle).mean() * (t - s)
    assert total.item() == pytest.approx((path.lam(s) - path.lam(t)).item(), rel=1e-6)


# --- times


def test_stratified_times_hold_one_in_each_stratum():
    t = dl.stratified_t(50, generator=seeded(0), dtype=torch.float64)
    gaps = t.sort().values.diff()
    torch.testing.assert_close(gaps, torch.full((49,), 0.02, dtype=torch.float64), rtol=0, atol=1e-12)


def test_each_stratified_time_is_uniform():
    """False-alarm rate 1e-6."""
    generator = seeded(1)
    draws = torch.stack([dl.stratified_t(3, generator=generator, dtype=torch.float64) for _ in range(4000)])
    for column in draws.unbind(1):
        assert within_law(column, lambda v: v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_discrete_times_are_ddpms_steps(dtype):
    """Each of i/T equally often: false-alarm rate under 1e-6 for 5.5 standard errors in 10 cells."""
    n, steps = 20_000, 10
    t = dl.discrete_t(steps)(n, generator=seeded(2), dtype=dtype)
    assert t.dtype == dtype
    assert set(t.tolist()) == set((torch.arange(1, steps + 1).to(dtype) / steps).tolist())
    share = np.bincount((t * steps).round().long().numpy(), minlength=steps + 1)[1:] / n
    assert (abs(share - 0.1) < 5.5 * math.sqrt(0.09 / n)).all()


@each_path
def test_lognormal_times_are_edms(path):
    """log(sigma/alpha) ~ N(-1.2, 1.2^2) between the path's ends. False-alarm rate 1e-6."""
    t = dl.lognormal_t(path)(20_000, generator=seeded(3), dtype=torch.float64)
    assert t.min() >= 0 if isinstance(path, dl.VE) else t.min() > 0
    assert t.max() <= 1
    log_r, (least, most) = -path.lam(t), (-path.lam(0.0).item(), -path.lam(1.0).item())
    assert within_law(
        log_r[(log_r > least) & (log_r < most)],
        lambda v: torch.special.ndtr((torch.from_numpy(v) + 1.2) / 1.2).numpy(),
        slack=0.003 if isinstance(path, dl.VE) else 0.0,  # P(log r < log .01) = .0023 fall on the end
    )


def test_lognormal_times_have_the_given_moments():
    """False-alarm rate under 1e-6: 5 standard errors."""
    path, n = dl.EDM(), 40_000
    log_r = -path.lam(dl.lognormal_t(path, mean=-0.4, std=0.5)(n, generator=seeded(4), dtype=torch.float64))
    assert abs(log_r.mean() + 0.4) < 5 * 0.5 / math.sqrt(n)
    assert abs(log_r.std() - 0.5) < 5 * 0.5 / math.sqrt(2 * n)


def test_l_simple_is_ddpms_on_its_table():
    """Ho et al. 2020, eq. 14, in their letters: t in 1..T, abar the running product."""
    steps, abar = len(BETAS), torch.cumprod(1 - BETAS, 0)
    x0, x1, i = normal(17, 5, 3), normal(18, 5, 3), torch.tensor([1, 2, 50, 99, 100])
    a = abar[i - 1, None]
    xt = a.sqrt() * x0 + (1 - a).sqrt() * x1
    want = ((x1 - net(xt, i.double() / steps)) ** 2).mean(1)
    got = dl.matching_loss(net, dl.BetaTable(BETAS), x0, t=i.double() / steps, x1=x1)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_a_coupling_goes_through_x1():
    """Flow matching with another sample for x1: the target is x1 - x0 whatever x1 is."""
    x0, t = normal(19, 5, 3), times(6, 5)
    x1 = x0 @ torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 2]], dtype=torch.float64) + 1
    xt = (1 - t[:, None]) * x0 + t[:, None] * x1
    want = ((net(xt, t) - (x1 - x0)) ** 2).mean(1)
    got = dl.matching_loss(net, dl.RectifiedFlow(), x0, kind="velocity", t=t, x1=x1)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 2), (3, 2, 2, 2)], ids=str)
def test_loss_of_a_point_set_is_its_brute_force_value(shape):
    points = normal(20, *shape)
    ideal = dl.GaussianMixture.from_points(points)
    path, x1 = dl.VP(), normal(21, *shape)
    loss = dl.matching_loss(lambda x, t: ideal.denoiser(path)(x, t).x0, path, points, kind="x0", t=0.3, x1=x1)
    e = ideal.denoiser(path)(path.mix(points, x1, 0.3), 0.3)
    torch.testing.assert_close(loss, ((e.x0 - points) ** 2).flatten(1).sum(1) / points[0].numel())
