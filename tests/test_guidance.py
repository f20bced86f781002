"""Guided denoisers against exact classifiers, exact conditionals and products of densities."""

from __future__ import annotations

import math

import pytest
import torch
from worlds import PATHS, noisy_points, normal, random_mixture, times

import ddpm_lite as dl

each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
TIGHT = {"rtol": 1e-9, "atol": 1e-9}
PARTS = random_mixture(2, seed=4)
EVERYONE = dl.GaussianMixture([0.4, 0.35, 0.25], PARTS.means, PARTS.covs)
ONE = dl.GaussianMixture([1.0], PARTS.means[:1], PARTS.covs[:1])  # p(x | y), P(y) = .4
REST = dl.GaussianMixture([0.35 / 0.6, 0.25 / 0.6], PARTS.means[1:], PARTS.covs[1:])


def exact_classifier(path):
    """grad_x log p(y | x_t) by autograd, from the densities of the two classes."""

    def grad_log_prob(x, t):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            yes = math.log(0.4) + ONE.log_prob(x, path, t)
            log_y = yes - torch.logaddexp(yes, math.log(0.6) + REST.log_prob(x, path, t))
            return torch.autograd.grad(log_y.sum(), x)[0]

    return grad_log_prob


def same(got: dl.Estimate, want: dl.Estimate, **tolerance):
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, **(tolerance or TIGHT))


def spy(den, asked):
    return lambda x, t: asked.append(t) or den(x, t)


def some(shift):
    """A denoiser for any shape that keeps x = alpha x0 + sigma eps on the straight path."""

    def den(x, t):
        c = dl.RectifiedFlow().at(t, x)
        x0 = torch.tanh(x + shift)
        return dl.Estimate(x0, (x - c.alpha * x0) / c.sigma)

    return den


# --- classifier-free guidance


@each_path
@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 3.0, -1.0])
@pytest.mark.parametrize("n", [2, 6], ids=["B == D", "B > D"])
def test_cfg_is_ho_and_salimans_equation_6(path, w, n):
    """In their letters, (1 + w) eps(x, c) - w eps(x) with their w = ours - 1; and x_t = alpha x0 + sigma eps stays."""
    t = times(1, n)
    x = noisy_points(EVERYONE, path, t, n)
    got = dl.cfg(ONE.denoiser(path), EVERYONE.denoiser(path), w)(x, t)
    theirs, cond, uncond = w - 1, ONE.denoiser(path)(x, t), EVERYONE.denoiser(path)(x, t)
    torch.testing.assert_close(got.eps, (1 + theirs) * cond.eps - theirs * uncond.eps, **TIGHT)
    torch.testing.assert_close(path.mix(got.x0, got.eps, t), x, rtol=1e-7, atol=1e-7)


@each_path
@pytest.mark.parametrize("t", [0.02, 0.3, 0.7, 0.98])
@pytest.mark.parametrize("w", [0.0, 1.0, 2.5])
def test_with_the_exact_classifier_cfg_is_classifier_guidance(path, t, w):
    x, grad = noisy_points(EVERYONE, path, t, n=5), exact_classifier(path)
    free = dl.cfg(ONE.denoiser(path), EVERYONE.denoiser(path), w)
    with torch.no_grad():
        same(free(x, t), dl.classifier(EVERYONE.denoiser(path), path, grad, w)(x, t), rtol=1e-6, atol=1e-6)
    each = times(2, 5, t / 2, t)
    x = noisy_points(EVERYONE, path, each, n=5)
    same(free(x, each), dl.classifier(EVERYONE.denoiser(path), path, grad, w)(x, each), rtol=1e-6, atol=1e-6)


@each_path
def test_classifier_is_dhariwal_and_nichols_equation_14(path):
    t, scale = 0.4, 2.0
    x, c = noisy_points(EVERYONE, path, t), path.at(t, normal(0, 6, 2))
    guided = dl.classifier(EVERYONE.denoiser(path), path, lambda x, t: torch.sin(x), scale)(x, t)
    torch.testing.assert_close(guided.eps, EVERYONE.denoiser(path)(x, t).eps - scale * c.sigma * torch.sin(x), **TIGHT)
    torch.testing.assert_close(path.mix(guided.x0, guided.eps, t), x, rtol=1e-9, atol=1e-9)
    score = EVERYONE.score(x, path, t) + scale * torch.sin(x)
    torch.testing.assert_close(dl.encode(guided, c, "score"), score, rtol=1e-8, atol=1e-8)


# --- the interval


def test_guidance_in_an_interval_only():
    path, x, interval = dl.VP(), normal(3, 4, 2), (0.3, 0.6)
    cond, uncond = ONE.denoiser(path), EVERYONE.denoiser(path)
    part, whole = dl.cfg(cond, uncond, 3.0, interval=interval), dl.cfg(cond, uncond, 3.0)
    shift = dl.classifier(uncond, path, exact_classifier(path), 3.0, interval=interval)
    always = dl.classifier(uncond, path, exact_classifier(path), 3.0)
    for t in (0.3, 0.45, 0.6, torch.tensor(0.5)):
        same(part(x, t), whole(x, t))
        same(shift(x, t), always(x, t))
    for t in (0.29, 0.61, torch.tensor(0.9)):
        same(part(x, t), cond(x, t))
        same(shift(x, t), uncond(x, t))


def test_each_sample_has_its_own_side_of_the_interval():
    path, x, t = dl.VP(), normal(3, 2, 2), torch.tensor([0.5, 0.8], dtype=torch.float64)  # the trap B == D
    cond, uncond = ONE.denoiser(path), EVERYONE.denoiser(path)
    got = dl.cfg(cond, uncond, 3.0, interval=(0.3, 0.6))(x, t)
    moved = dl.classifier(uncond, path, exact_classifier(path), 3.0, interval=(0.3, 0.6))(x, t)
    inside, outside = dl.cfg(cond, uncond, 3.0)(x, t), cond(x, t)
    for g, m, i, o, u in zip(got, moved, inside, outside, uncond(x, t), strict=True):
        torch.testing.assert_close(g, torch.stack([i[0], o[1]]), **TIGHT)
        torch.testing.assert_close(m, torch.stack([i[0], u[1]]), rtol=1e-6, atol=1e-6)


def test_what_is_not_needed_is_not_evaluated():
    path, x, asked = dl.VP(), normal(3, 4, 2), []
    cond, uncond = ONE.denoiser(path), spy(EVERYONE.denoiser(path), asked)
    dl.cfg(cond, uncond, 1.0)(x, 0.5)
    dl.cfg(cond, uncond, 3.0, interval=(0.3, 0.6))(x, 0.7)
    dl.cfg(cond, uncond, 3.0, interval=(0.3, 0.6))(x, times(0, 4, 0.7, 0.9))
    dl.classifier(cond, path, spy(exact_classifier(path), asked), interval=(0.3, 0.6))(x, 0.7)
    assert asked == []
    dl.cfg(cond, uncond, 3.0, interval=(0.3, 0.6))(x, 0.5)
    assert asked == [0.5]


# --- composition


@each_path
def test_a_composition_of_one_part_is_cfg(path):
    x = noisy_points(EVERYONE, path, 0.4)
    one, base = ONE.denoiser(path), EVERYONE.denoiser(path)
    same(dl.compose(base, [(one, 2.5)])(x, 0.4), dl.cfg(one, base, 2.5)(x, 0.4))
    same(dl.compose(base, [])(x, 0.4), base(x, 0.4))


@each_path
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_composition_is_exact_for_factors_on_independent_coordinates(path, t):
    """p(a, b) = p(a) p(b); one condition changes the law of a, the other that of b: both together is exact."""

    def product(first, second):  # of two laws on the line
        (p, a), (q, b) = first, second
        weights = [v * w for v in p for w in q]
        means = [[m, n] for m, _ in a for n, _ in b]
        covs = [[[s**2, 0.0], [0.0, r**2]] for _, s in a for _, r in b]
        return dl.GaussianMixture(weights, means, covs)

    a, b = ([0.3, 0.7], [(-1.0, 0.5), (1.5, 0.8)]), ([0.6, 0.4], [(0.5, 1.0), (-2.0, 0.3)])
    a1, b1 = ([1.0], [(-1.0, 0.5)]), ([0.2, 0.8], [(0.5, 1.0), (-2.0, 0.3)])
    base, both = product(a, b).denoiser(path), product(a1, b1)
    x = noisy_points(both, path, t)
    got = dl.compose(base, [(product(a1, b).denoiser(path), 1.0), (product(a, b1).denoiser(path), 1.0)])(x, t)
    same(got, both.denoiser(path)(x, t), rtol=1e-8, atol=1e-8)


def test_the_sum_of_noised_scores_is_not_the_score_of_the_noised_product():
    """N(0, 1) times N(2, 1) is N(1, 1/2): at noise 1 the sum of scores is -(x - 1), the truth -(2/3)(x - 1)."""
    path, t, x = dl.EDM(80.0), 1 / 80, normal(5, 7, 1)
    flat = lambda x, t: dl.Estimate(x / path.at(t, x).alpha, torch.zeros_like(x))  # noqa: E731
    parts = [dl.GaussianMixture([1.0], [[m]], [[[1.0]]]).denoiser(path) for m in (0.0, 2.0)]
    summed = dl.compose(flat, [(part, 1.0) for part in parts])(x, t)
    torch.testing.assert_close(dl.encode(summed, path.at(t, x), "score"), -(x - 1), **TIGHT)
    truth = dl.GaussianMixture([1.0], [[1.0]], [[[0.5]]]).score(x, path, t)
    torch.testing.assert_close(truth, -2 / 3 * (x - 1), **TIGHT)


@each_path
def test_weights_are_powers_of_densities(path):
    """The composed score is grad log of p (p1/p)^2 (p2/p)^-.5, by autograd of the log-densities."""
    t = times(6, 5)
    x = noisy_points(EVERYONE, path, t, n=5).requires_grad_()
    log_p, log_1, log_2 = (m.log_prob(x, path, t) for m in (EVERYONE, ONE, REST))
    (want,) = torch.autograd.grad((log_p + 2 * (log_1 - log_p) - 0.5 * (log_2 - log_p)).sum(), x)
    parts = [(ONE.denoiser(path), 2.0), (REST.denoiser(path), -0.5)]
    got = dl.compose(EVERYONE.denoiser(path), parts)(x.detach(), t)
    torch.testing.assert_close(dl.encode(got, path.at(t, x), "score"), want, rtol=1e-6, atol=1e-6)


# --- shapes, types, bad input


@pytest.mark.parametrize("shape", [(3, 3), (2, 1, 4, 4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_types_are_kept(shape, dtype):
    path, x = dl.RectifiedFlow(), normal(8, *shape).to(dtype)
    for t in (0.4, torch.full(shape[:1], 0.4, dtype=torch.float64)):
        for den in (
            dl.cfg(some(0.0), some(1.0), 2.0),
            dl.cfg(some(0.0), some(1.0), 2.0, interval=(0.5, 1.0)),
            dl.classifier(some(0.0), path, lambda x, t: -x, 2.0),
            dl.compose(some(0.0), [(some(1.0), 0.5), (some(2.0), 0.5)]),
        ):
            e = den(x, t)
            assert [v.dtype for v in e] == [dtype] * 2
            assert [v.shape for v in e] == [shape] * 2
            torch.testing.assert_close(path.mix(*e, t), x, rtol=1e-5, atol=1e-5)


def test_a_guided_denoiser_is_a_denoiser_for_every_sampler():
    """cfg of two Gaussians that differ in mean by m is a Gaussian with mean w m: all samplers land on its flow."""
    path, v, w = dl.VP(), 0.25, 3.0
    data = {m: dl.GaussianMixture([1.0], [[m]], [[[v]]]) for m in (0.0, 0.5, 1.5)}
    guided = dl.cfg(data[0.5].denoiser(path), data[0.0].denoiser(path), w)
    x, ts = normal(9, 5, 1), dl.linear_ts(20)
    for step in (dl.ddim_step, dl.heun_step):
        want = dl.sample(step, data[1.5].denoiser(path), path, x, ts)
        torch.testing.assert_close(dl.sample(step, guided, path, x, ts), want, **TIGHT)


DEN, X = some(0.0), normal(0, 4, 2)
BAD = {
    "w": (lambda: dl.cfg(DEN, DEN, math.nan), r"w = nan: give a finite number"),
    "scale": (lambda: dl.classifier(DEN, dl.VP(), DEN, math.inf), r"scale = inf: give a finite"),
    "weight": (lambda: dl.compose(DEN, [(DEN, 1.0), (DEN, math.nan)]), r"w = nan: give a finite"),
    "interval": (lambda: dl.cfg(DEN, DEN, 2.0, interval=(0.6, 0.3)), r"interval = \(0.6, 0.3\): give \(low, high\)"),
    "interval in sigma": (lambda: dl.cfg(DEN, DEN, 2.0, interval=(0.28, 5.4)), r"interval = .* 0 <= low <= high <= 1"),
    "gradient": (
        lambda: dl.classifier(DEN, dl.VP(), lambda x, t: x.sum(1))(X, 0.5),
        r"grad_log_prob returned shape \(4,\): it must return \(4, 2\)",
    ),
    "alpha = 0": (
        lambda: dl.classifier(DEN, dl.Cosine(), lambda x, t: x)(X, 1.0),
        r"alpha = 0: the score does not give x0 there; start at t_max < 1, for",
    ),
    "t": (lambda: dl.cfg(DEN, DEN, 2.0)(X, torch.rand(3)), r"t has shape \(3,\)"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
