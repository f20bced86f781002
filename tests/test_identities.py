"""The identities that hold the book together, in float64, on random full-covariance mixtures in 2 and 5 dimensions."""

from __future__ import annotations

import math

import pytest
import torch
from worlds import (
    BETAS,
    KINDS,
    PATHS,
    by_hand,
    exact_flow,
    noisy_points,
    normal,
    random_mixture,
    seeded,
    slope_of,
    times,
)

import ddpm_lite as dl

each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
each_dim = pytest.mark.parametrize("dim", [2, 5])
TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def coef(path: dl.Path, t: float) -> dl.Coefs:
    return path.coefs(torch.tensor(t, dtype=torch.float64))


def world(path: dl.Path, dim: int, t: float):
    mixture = random_mixture(dim, seed=dim)
    return mixture, mixture.denoiser(path), noisy_points(mixture, path, t)


@each_path
@each_dim
@pytest.mark.parametrize(("t", "s"), [(0.9, 0.4), (0.4, 0.35), (0.2, 0.01)])
def test_ddim_is_dpm_solver_pp_1(path, dim, t, s):
    """Lu et al. 2022: x_s = (sigma_s/sigma_t) x - alpha_s (exp(-h) - 1) x0, h the step in log(alpha/sigma)."""
    _, den, x = world(path, dim, t)
    ct, cs = coef(path, t), coef(path, s)
    h = torch.log(cs.alpha / cs.sigma) - torch.log(ct.alpha / ct.sigma)
    want = cs.sigma / ct.sigma * x - cs.alpha * (torch.exp(-h) - 1) * den(x, t).x0
    torch.testing.assert_close(dl.ddim_step(den, path, x, t, s), want, **TIGHT)
    _, first = dl.dpmpp_2m(den, path, x, torch.tensor([t, s], dtype=torch.float64))
    torch.testing.assert_close(first, want, **TIGHT)


@each_path
@each_dim
def test_ddim_is_dpm_solver_1(path, dim):
    """Lu et al. 2022, eq. 3.7: x_s = (alpha_s/alpha_t) x - sigma_s (exp(h) - 1) eps."""
    t, s = 0.7, 0.5
    _, den, x = world(path, dim, t)
    ct, cs = coef(path, t), coef(path, s)
    h = torch.log(cs.alpha / cs.sigma) - torch.log(ct.alpha / ct.sigma)
    want = cs.alpha / ct.alpha * x - cs.sigma * (torch.exp(h) - 1) * den(x, t).eps
    torch.testing.assert_close(dl.ddim_step(den, path, x, t, s), want, **TIGHT)


@each_dim
@pytest.mark.parametrize("path", [dl.RectifiedFlow(), dl.EDM()], ids=["RectifiedFlow", "EDM"])
def test_ddim_is_euler_where_the_path_is_affine(path, dim):
    _, den, x = world(path, dim, 0.8)
    torch.testing.assert_close(dl.ddim_step(den, path, x, 0.8, 0.3), dl.euler_step(den, path, x, 0.8, 0.3), **TIGHT)


@each_dim
@pytest.mark.parametrize("path", [dl.VP(), dl.Cosine(), dl.VE()], ids=["VP", "Cosine", "VE"])
def test_ddim_is_not_euler_where_the_path_bends(path, dim):
    _, den, x = world(path, dim, 0.8)
    assert (dl.ddim_step(den, path, x, 0.8, 0.3) - dl.euler_step(den, path, x, 0.8, 0.3)).abs().max() > 1e-2


@each_path
@each_dim
@pytest.mark.parametrize(("t", "s"), [(0.9, 0.4), (0.4, 0.39)])
def test_eta_1_is_the_ddpm_posterior(path, dim, t, s):
    """Mean and variance of the product of the two Gaussians q(x_t | x_s) and q(x_s | x0), from the coefficients."""
    _, den, x = world(path, dim, t)
    ct, cs = coef(path, t), coef(path, s)
    ratio, x0 = ct.alpha / cs.alpha, den(x, t).x0
    step = ct.sigma**2 - ratio**2 * cs.sigma**2
    var = 1 / (1 / cs.sigma**2 + ratio**2 / step)
    mean = var * (cs.alpha * x0 / cs.sigma**2 + ratio * x / step)
    z = torch.randn(x.shape, generator=seeded(1), dtype=torch.float64)
    got = dl.ddim_step(den, path, x, t, s, eta=1.0, generator=seeded(1))
    torch.testing.assert_close(got, mean + var.sqrt() * z, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(got, dl.ancestral_step(den, path, x, t, s, generator=seeded(1)), rtol=1e-7, atol=1e-7)


@each_dim
def test_eta_1_on_the_table_is_ddpms_algorithm_2(dim):
    """x_{t-1} = (x_t - beta_t/sqrt(1 - abar_t) eps)/sqrt(1 - beta_t) + sqrt(beta-tilde_t) z, in the paper's indices."""
    path, steps, abar = dl.BetaTable(BETAS), len(BETAS), torch.cumprod(1 - BETAS, 0)
    for i in (100, 60, 2):
        _, den, x = world(path, dim, i / steps)
        beta, now, before = BETAS[i - 1], abar[i - 1], abar[i - 2]
        z = torch.randn(x.shape, generator=seeded(2), dtype=torch.float64)
        mean = (x - beta / (1 - now).sqrt() * den(x, i / steps).eps) / (1 - beta).sqrt()
        want = mean + ((1 - before) / (1 - now) * beta).sqrt() * z
        got = dl.ddim_step(den, path, x, i / steps, (i - 1) / steps, eta=1.0, generator=seeded(2))
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)


def someone(path: dl.Path, mixture: dl.GaussianMixture) -> dl.DenoiseFn:
    """A denoiser that is wrong: the exact one with an error."""

    def den(x, t):
        x0 = mixture.denoiser(path)(x, t).x0 + 0.1 * torch.sin(3 * x)
        c = path.at(t, x)
        return dl.Estimate(x0, (x - c.alpha * x0) / c.sigma)

    return den


@each_path
@each_dim
def test_ncsn_weighted_dsm_is_l_simple(path, dim):
    """sigma^2 |s + eps/sigma|^2 = |eps - eps_hat|^2, up to the papers' 1/2 and sum over dimensions."""
    mixture, t = random_mixture(dim, seed=dim), times(0, 8)
    x0, x1 = mixture.sample(8, generator=seeded(1)).double(), normal(1, 8, dim)
    den = someone(path, mixture)
    sigma = path.coefs(t).sigma
    xt = path.mix(x0, x1, t)
    score = -den(xt, t).eps / sigma[:, None]
    target = -(xt - path.coefs(t).alpha[:, None] * x0) / sigma[:, None] ** 2  # grad log N(x_t; alpha x0, sigma^2 I)
    dsm = 0.5 * ((score - target) ** 2).sum(1)
    l_simple = dl.matching_loss(lambda x, t: den(x, t).eps, path, x0, t=t, x1=x1)
    torch.testing.assert_close(2 * sigma**2 * dsm / dim, l_simple, **TIGHT)
    ncsn = dl.matching_loss(
        lambda x, t: -den(x, t).eps / path.coefs(t).sigma[:, None],
        path,
        x0,
        kind="score",
        t=t,
        x1=x1,
        weight=lambda t: path.coefs(t).sigma ** 2,
    )
    torch.testing.assert_close(ncsn, l_simple, **TIGHT)


@each_path
@each_dim
@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_edms_weighted_loss_is_the_unweighted_regression_on_its_own_kind(path, dim, sigma_data):
    """lambda |D - x0|^2 with D = c_skip x + c_out F, Karras et al. 2022, eq. 2, 7 and 8, in the frame x/alpha."""
    mixture, t = random_mixture(dim, seed=dim), times(2, 8, 0.1, 0.9)
    x0, x1 = mixture.sample(8, generator=seeded(3)).double(), normal(4, 8, dim)
    net = lambda x, t: torch.sin(x) + t[:, None]  # noqa: E731
    c = path.at(t, x0)
    r, x = c.sigma / c.alpha, (c.alpha * x0 + c.sigma * x1) / c.alpha
    c_skip = sigma_data**2 / (r**2 + sigma_data**2)
    c_out = r * sigma_data / torch.sqrt(r**2 + sigma_data**2)
    weight = (r**2 + sigma_data**2) / (r * sigma_data) ** 2
    D = c_skip * x + c_out * net(c.alpha * x, t)
    want = (weight * (D - x0) ** 2).mean(1)
    got = dl.matching_loss(net, path, x0, kind=dl.edm(sigma_data), t=t, x1=x1)
    torch.testing.assert_close(got, want, **TIGHT)
    weighted_x0 = dl.matching_loss(
        lambda x, t: dl.Denoiser(net, path, dl.edm(sigma_data))(x, t).x0,
        path,
        x0,
        kind="x0",
        t=t,
        x1=x1,
        weight=lambda t: weight[:, 0],
    )
    torch.testing.assert_close(weighted_x0, want, **TIGHT)


@each_path
@each_dim
@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
def test_guidance_is_the_same_in_every_kind(path, dim, w):
    """uncond + w (cond - uncond), taken in any kind, decodes to one pair: every kind is affine in every other."""
    t = times(5, 6, 0.1, 0.9)
    cond, uncond = random_mixture(dim, seed=1), random_mixture(dim, seed=9)
    x = noisy_points(uncond, path, t)
    yes, no, c = cond.denoiser(path)(x, t), uncond.denoiser(path)(x, t), path.at(t, x)
    want = dl.Estimate(*(n + w * (y - n) for y, n in zip(yes, no, strict=True)))
    for kind in KINDS.values():
        y, n = dl.encode(yes, c, kind), dl.encode(no, c, kind)
        got = dl.decode(n + w * (y - n), x, c, kind)
        torch.testing.assert_close(got.x0, want.x0, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(got.eps, want.eps, rtol=1e-8, atol=1e-8)


@each_path
@each_dim
def test_guidance_with_the_exact_classifier(path, dim):
    """p(x) = .4 p(x | y) + .6 p(x | not y): the guided score is grad log p_t(x) + w grad log p_t(y | x)."""
    t, w, parts = 0.4, 2.5, random_mixture(dim, seed=dim)
    label = [
        dl.GaussianMixture([1.0], parts.means[:1], parts.covs[:1]),
        dl.GaussianMixture([0.5, 0.5], parts.means[1:], parts.covs[1:]),
    ]
    everyone = dl.GaussianMixture([0.4, 0.3, 0.3], parts.means, parts.covs)
    x = noisy_points(everyone, path, t).requires_grad_()
    log_y = (
        math.log(0.4)
        + label[0].log_prob(x, path, t)
        - torch.logaddexp(math.log(0.4) + label[0].log_prob(x, path, t), math.log(0.6) + label[1].log_prob(x, path, t))
    )
    (grad,) = torch.autograd.grad(log_y.sum(), x)
    x = x.detach()
    cond, uncond = label[0].denoiser(path)(x, t), everyone.denoiser(path)(x, t)
    guided = uncond.eps + w * (cond.eps - uncond.eps)
    sigma = coef(path, t).sigma
    torch.testing.assert_close(-guided / sigma, everyone.score(x, path, t) + w * grad, rtol=1e-7, atol=1e-7)


# --- orders of convergence

ORDERS = {"ddim": 1, "euler": 1, "heun": 2, "dpmpp_2m": 2}
SMOOTH = {**PATHS, "BetaTable": dl.BetaTable(torch.full((40,), 0.2))}  # equal betas: log abar has no kinks


def run(name: str, den: dl.DenoiseFn, path: dl.Path, x: torch.Tensor, ts: torch.Tensor) -> torch.Tensor:
    if name == "dpmpp_2m":
        return dl.last(dl.dpmpp_2m(den, path, x, ts))
    return dl.sample({"ddim": dl.ddim_step, "euler": dl.euler_step, "heun": dl.heun_step}[name], den, path, x, ts)


@pytest.mark.parametrize("path", SMOOTH.values(), ids=SMOOTH)
@each_dim
def test_orders_of_convergence_on_a_mixture(path, dim):
    """Against the ODE solved to 1e-11 by another solver, from another statement of the mixture."""
    mixture = random_mixture(dim, seed=dim)
    t, s = path.t_of(torch.tensor([-1.0, 0.7], dtype=torch.float64)).tolist()
    x = noisy_points(mixture, path, t, n=4)
    exact, den, steps = exact_flow(mixture, path, x, t, s), mixture.denoiser(path), [32, 64]
    for name, order in ORDERS.items():
        ends = [run(name, den, path, x, dl.logsnr_ts(path, n, t_max=t, t_min=s)) for n in steps]
        errors = [(end - exact).square().mean().sqrt().item() for end in ends]
        assert slope_of(errors, steps) == pytest.approx(order, abs=0.2), name
        assert errors[-1] < (0.05 if order == 1 else 2e-3), name


@pytest.mark.parametrize("path", SMOOTH.values(), ids=SMOOTH)
@each_dim
def test_orders_of_convergence_on_a_gaussian(path, dim):
    """The flow in closed form: alpha_s m + S_s^(1/2) S_t^(-1/2) (x - alpha_t m), S_t = alpha_t^2 C + sigma_t^2 I."""
    full = random_mixture(dim, seed=3)
    mean, cov = full.means[0], full.covs[0]
    t, s = path.t_of(torch.tensor([-1.0, 0.7], dtype=torch.float64)).tolist()
    ct, cs = coef(path, t), coef(path, s)
    values, basis = torch.linalg.eigh(cov)
    stretch = ((cs.alpha**2 * values + cs.sigma**2) / (ct.alpha**2 * values + ct.sigma**2)).sqrt()
    data = dl.GaussianMixture([1.0], mean[None], cov[None])
    x = noisy_points(data, path, t, n=4)
    exact = (x - ct.alpha * mean) @ basis * stretch @ basis.mT + cs.alpha * mean
    steps = [32, 64]
    for name, order in ORDERS.items():
        ends = [run(name, data.denoiser(path), path, x, dl.linear_ts(n, t_max=t, t_min=s)) for n in steps]
        errors = [(end - exact).square().mean().sqrt().item() for end in ends]
        assert slope_of(errors, steps) == pytest.approx(order, abs=0.3), name


@each_path
def test_the_flow_carries_the_marginal(path):
    """The closed form above, checked against the noised density by the change of variables, dimension 1."""
    mixture, t, s = dl.book_mixture(1), *path.t_of(torch.tensor([-0.5, 0.5], dtype=torch.float64)).tolist()
    x = noisy_points(mixture, path, t, n=5)
    h = 1e-4
    ends = [exact_flow(mixture, path, x + d, t, s) for d in (-h, 0.0, h)]
    stretch = ((ends[2] - ends[0]) / (2 * h)).abs().log()[:, 0]
    torch.testing.assert_close(
        mixture.log_prob(ends[1], path, s) + stretch, mixture.log_prob(x, path, t), rtol=1e-6, atol=1e-6
    )
    x0, _ = by_hand(mixture, x.numpy(), coef(path, t).alpha.item(), coef(path, t).sigma.item())
    torch.testing.assert_close(mixture.denoiser(path)(x, t).x0, torch.from_numpy(x0), rtol=1e-7, atol=1e-7)
