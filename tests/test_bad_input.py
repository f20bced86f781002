"""Bad input: a ValueError that names the argument, its value and the remedy, and nothing is changed."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn
from worlds import PATHS, normal

import ddpm_lite as dl

X = normal(0, 4, 2)
MIX = dl.book_mixture(2)
VP = dl.VP()
DEN = MIX.denoiser(VP)
EYE = torch.eye(2)
C = VP.at(0.5, X)
FALLING = torch.tensor([1.0, 0.5, 0.1])


def net(x, t):
    return x


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


STEPS = {"ddim": partial(dl.ddim_step, eta=0.5), "ancestral": dl.ancestral_step, "em": dl.em_step}

CASES = {
    # times
    "t above 1": (lambda: VP.at(1.2, X), r"t = 1.2 lies outside \[0, 1\]: 0 is data, 1 is noise"),
    "t below 0": (lambda: VP.mix(X, X, -0.1), r"t = -0.1 lies outside \[0, 1\]"),
    "t is NaN": (lambda: VP.lam(math.nan), r"t = nan lies outside \[0, 1\]"),
    "one t of many": (lambda: VP.at(vector(0.1, 0.2, 1.5, 0.3), X), r"t = 1.5 lies outside"),
    "one t is NaN": (lambda: VP.drift(vector(0.1, math.nan, 0.5, 0.3), X), r"t = nan lies outside"),
    "t of mixture": (lambda: MIX.log_prob(X, VP, 2.0), r"t = 2.0 lies outside"),
    "t of denoiser": (lambda: dl.Denoiser(net, VP, "v")(X, -1.0), r"t = -1.0 lies outside"),
    "t of loss": (lambda: dl.matching_loss(net, VP, X, t=1.5), r"t = 1.5 lies outside"),
    "t of step": (lambda: dl.euler_step(DEN, VP, X, 1.5, 0.5), r"t = 1.5 lies outside"),
    "s of step": (lambda: dl.ddim_step(DEN, VP, X, 0.5, -0.5), r"t = -0.5 lies outside"),
    "t of wrong length": (lambda: VP.at(torch.rand(3), X), r"t has shape \(3,\): give a number or shape \(4,\)"),
    "t of length 1": (lambda: VP.at(torch.rand(1), X), r"t has shape \(1,\)"),
    "t of length D": (lambda: VP.mix(X, X, torch.rand(2)), r"t has shape \(2,\): give a number or shape \(4,\)"),
    "t a column": (lambda: VP.g2(torch.rand(4, 1), X), r"t has shape \(4, 1\): give a number or shape \(4,\)"),
    "t of denoiser's length": (lambda: dl.Denoiser(net, VP, "v")(X, torch.rand(3)), r"t has shape \(3,\): give"),
    "t of mixture's length": (lambda: MIX.score(X, VP, torch.rand(3)), r"t has length 3: give a number or .* \(4,\)"),
    "t of loss's length": (lambda: dl.matching_loss(net, VP, X, t=torch.rand(2)), r"t has shape \(2,\): give"),
    "t and s of other lengths": (
        lambda: dl.transition(VP, torch.rand(4), torch.rand(3), X),
        r"t has shape \(3,\): give",
    ),
    "s is t": (lambda: dl.transition(VP, 0.5, 0.5, X), r"s = 0.5 is not below t = 0.5: give s, the cleaner time"),
    "s above t": (lambda: dl.posterior(VP, X, X, 0.2, 0.5), r"s = 0.5 is not below t = 0.2"),
    "one s above": (lambda: dl.transition(VP, 0.5, vector(0.1, 0.6, 0.2, 0.3), X), r"s = .* is not below t"),
    "heun half way to 0": (
        lambda: dl.heun_step(DEN, VP, X, 0.5, vector(0, 0.1, 0.1, 0.1)),
        r"s is 0 for some samples only: step those apart",
    ),
    "predictor-corrector half way to 0": (
        lambda: dl.pc(dl.euler_step, dl.euler_step)(DEN, VP, X, 0.5, vector(0, 0.1, 0.1, 0.1)),
        r"s is 0 for some samples only: step those apart",
    ),
    # shapes
    "x1 of other shape": (lambda: VP.mix(X, X[:3], 0.5), r"x1 has shape \(3, 2\): give it the shape of x0, \(4, 2\)"),
    "x1 that would broadcast": (lambda: VP.mix(X, X[:1], 0.5), r"x1 has shape \(1, 2\)"),
    "x1 of loss": (lambda: dl.matching_loss(net, VP, X, x1=X[:, :1]), r"x1 has shape \(4, 1\): give it the shape"),
    "x0 of posterior": (
        lambda: dl.posterior(VP, X[:1], X, 0.5, 0.2),
        r"x0 has shape \(1, 2\): give it .* xt, \(4, 2\)",
    ),
    "y of decode": (lambda: dl.decode(X[:, 0], X, C, "v"), r"y has shape \(4,\): give it the shape of xt, \(4, 2\)"),
    "net's output": (
        lambda: dl.call_net(lambda x, t: x[:, :1], X, 0.5),
        r"net returned shape \(4, 1\): it must return .* \(4, 2\)",
    ),
    "net's output in a loss": (lambda: dl.matching_loss(lambda x, t: x.sum(), VP, X), r"net returned shape \(\)"),
    "net's output in a denoiser": (
        lambda: dl.Denoiser(lambda x, t: x.mT, VP, "v")(X, 0.5),
        r"net returned shape \(2, 4\)",
    ),
    "weight's output": (
        lambda: dl.matching_loss(net, VP, X, weight=lambda t: t[:, None]),
        r"weight returned shape \(4, 1\): it must return \(4,\)",
    ),
    "x0 without dimensions": (lambda: dl.matching_loss(net, VP, X[:, 0]), r"x0 has shape \(4,\): give \(B, \*shape\)"),
    "x of other dimension": (lambda: MIX.log_prob(normal(0, 4, 3)), r"x has shape \(4, 3\): give \(B, 2\)"),
    "x without batch": (lambda: MIX.log_prob(normal(0, 2)), r"x has shape \(2,\): give \(B, 2\)"),
    # data
    "NaN in x0": (lambda: dl.matching_loss(net, VP, X * math.nan), r"x0 holds a number that is not finite: remove it"),
    "infinite x0": (lambda: dl.matching_loss(net, VP, X / 0), r"x0 holds a number that is not finite"),
    "NaN in points": (lambda: dl.GaussianMixture.from_points(X * math.nan), r"not finite: remove it from the data"),
    "no points": (
        lambda: dl.GaussianMixture.from_points(X[:0]),
        r"x has shape \(0, 2\): give \(N, \*shape\), at least one point",
    ),
    "points without dimensions": (lambda: dl.GaussianMixture.from_points(X[:, 0]), r"x has shape \(4,\): give"),
    # mixtures
    "weights that do not sum": (
        lambda: dl.GaussianMixture([0.5, 0.4], torch.zeros(2, 2), [EYE, EYE]),
        r"weights = \[0.5, 0.4\]: give positive numbers that sum to 1",
    ),
    "negative weight": (
        lambda: dl.GaussianMixture([1.5, -0.5], torch.zeros(2, 2), [EYE, EYE]),
        r"weights = .*: give positive",
    ),
    "NaN weight": (
        lambda: dl.GaussianMixture([math.nan, 1], torch.zeros(2, 2), [EYE, EYE]),
        r"weights = .*: give positive",
    ),
    "weights and means": (
        lambda: dl.GaussianMixture([1.0], torch.zeros(2, 2), [EYE]),
        r"weights has shape \(1,\), means \(2, 2\)",
    ),
    "NaN mean": (
        lambda: dl.GaussianMixture([1.0], [[math.nan, 0]], EYE[None]),
        r"means holds a number that is not finite",
    ),
    "covs of other shape": (
        lambda: dl.GaussianMixture([1.0], [[0.0, 0]], EYE),
        r"covs has shape \(2, 2\): give \(1, 2, 2\)",
    ),
    "covs not symmetric": (
        lambda: dl.GaussianMixture([1.0], [[0.0, 0]], [[[1.0, 0.5], [0, 1]]]),
        r"covs holds a matrix that is not symmetric .*: give \(C \+ C\^T\) / 2",
    ),
    "NaN cov": (lambda: dl.GaussianMixture([1.0], [[0.0, 0]], EYE[None] * math.nan), r"covs holds .* not finite"),
    "covs not PSD": (
        lambda: dl.GaussianMixture([1.0], [[0.0, 0]], [[[1.0, 2], [2, 1]]]),
        r"covs has the eigenvalue -1: a covariance has none below 0",
    ),
    "path without t": (lambda: MIX.log_prob(X, VP), r"t = None: give both"),
    "t without path": (lambda: MIX.score(X, t=0.5), r"path = None, t = 0.5: give both"),
    "points without noise": (
        lambda: dl.GaussianMixture.from_points(X).score(X),
        r"no density: give path and a t with sigma > 0",
    ),
    "no draws": (lambda: MIX.sample(0), r"n = 0: give the number of draws, at least 1"),
    "dim": (lambda: dl.book_mixture(3), r"dim = 3: the book's mixture is given in dimension 1 and 2"),
    # kinds
    "kind of encode": (
        lambda: dl.encode(dl.Estimate(X, X), C, "noise"),
        r"kind = 'noise' is unknown: give one of x0, eps, score, v",
    ),
    "kind of decode": (lambda: dl.decode(X, X, C, "epsilon"), r"kind = 'epsilon' is unknown: give one of"),
    "kind of determinant": (lambda: dl.determinant(C, "u"), r"kind = 'u' is unknown"),
    "kind of loss": (lambda: dl.matching_loss(net, VP, X, kind="x_0"), r"kind = 'x_0' is unknown"),
    "kind of denoiser": (lambda: dl.Denoiser(net, VP, "x1")(X, 0.5), r"kind = 'x1' is unknown"),
    "kind of weight": (lambda: dl.reweight(VP, "eps", "F")(vector(0.5)), r"kind = 'F' is unknown"),
    "sigma_data of edm": (
        lambda: dl.edm(0.0),
        r"sigma_data = 0.0: give the data's standard deviation, a positive number",
    ),
    "sigma_data of net": (lambda: dl.Preconditioned(nn.Identity(), VP, -1.0), r"sigma_data = -1.0: give"),
    # paths
    "beta above 1": (lambda: dl.BetaTable([0.1, 1.5]), r"betas holds 1.5: each must be a variance in \(0, 1\)"),
    "beta of 0": (lambda: dl.BetaTable([0.0, 0.5]), r"betas holds 0.0: each"),
    "NaN beta": (lambda: dl.BetaTable([0.1, math.nan]), r"betas holds nan: each"),
    "no betas": (lambda: dl.BetaTable([]), r"betas has shape \(0,\): give shape \(T,\)"),
    "betas of two axes": (lambda: dl.BetaTable(torch.full((2, 2), 0.1)), r"betas has shape \(2, 2\)"),
    "VP falls": (lambda: dl.VP(2.0, 1.0), r"beta_min = 2.0, beta_max = 1.0: give 0 < beta_min <= beta_max"),
    "SubVP of 0": (lambda: dl.SubVP(0.0), r"beta_min = 0.0"),
    "VE falls": (lambda: dl.VE(1.0, 0.1), r"sigma_min = 1.0, sigma_max = 0.1: give 0 < sigma_min < sigma_max"),
    "EDM of 0": (lambda: dl.EDM(0.0), r"sigma_max = 0.0: give a positive number"),
    "lam out of reach": (lambda: dl.Path.t_of(VP, vector(-50.0)), r"lam = -50.0 lies outside this path's \["),
    # samplers
    "eta": (lambda: dl.ddim_step(DEN, VP, X, 0.5, 0.2, eta=1.5), r"eta = 1.5: give a number from 0 .* to 1"),
    "NaN eta": (lambda: dl.ddim_step(DEN, VP, X, 0.5, 0.2, eta=math.nan), r"eta = nan: give"),
    "variance": (
        lambda: dl.ancestral_step(DEN, VP, X, 0.5, 0.2, variance="beta"),
        r"variance = 'beta': give 'posterior' .* or 'forward'",
    ),
    "n of linear_ts": (lambda: dl.linear_ts(0), r"n = 0: give the number of steps, at least 1"),
    "n of logsnr_ts": (lambda: dl.logsnr_ts(VP, 0), r"n = 0: give"),
    "n of karras_ts": (lambda: dl.karras_ts(VP, -1), r"n = -1: give"),
    "ends of linear_ts": (
        lambda: dl.linear_ts(5, t_max=0.1, t_min=0.9),
        r"t_min = 0.9, t_max = 0.1: give 0 <= t_min < t_max <= 1",
    ),
    "t_max of linear_ts": (lambda: dl.linear_ts(5, t_max=1.1), r"t_max = 1.1: give"),
    "logsnr_ts from alpha = 0": (lambda: dl.logsnr_ts(dl.Cosine(), 5), r"lam is -inf at t_max = 1.0 .* move that end"),
    "logsnr_ts to sigma = 0": (lambda: dl.logsnr_ts(VP, 5, t_min=0.0), r"inf at t_min = 0.0: both must be finite"),
    "levels of karras_ts": (
        lambda: dl.karras_ts(VP, 5, sigma_max=0.1, sigma_min=1.0),
        r"sigma_min = 1.0, sigma_max = 0.1: give",
    ),
    "karras_ts beyond the path": (lambda: dl.karras_ts(dl.VE(), 5), r"sigma/alpha runs from 0.01 to 50"),
    # losses
    "steps": (lambda: dl.discrete_t(0), r"steps = 0: give the number of noising steps, at least 1"),
    "std": (lambda: dl.lognormal_t(VP, std=0.0), r"std = 0.0: give a positive number"),
    # likelihood
    "levels": (lambda: dl.bits_per_dim(X[:, 0], (2,), levels=1), r"levels = 1: give the number of values"),
    "shape": (lambda: dl.bits_per_dim(X[:, 0], (0, 2), levels=256), r"shape = \(0, 2\): give the sizes of one sample"),
}


@pytest.mark.parametrize(("call", "message"), CASES.values(), ids=CASES)
def test_a_value_error_names_argument_value_and_remedy(call, message):
    before = X.clone()
    with pytest.raises(ValueError, match=message):
        call()
    assert torch.equal(X, before)


GRIDS = {
    "rises": (torch.tensor([0.1, 0.5, 1.0]), r"ts must strictly decrease, from noise to data: ts\[0\] = 0.1"),
    "stands": (torch.tensor([1.0, 0.5, 0.5, 0.1]), r"ts must strictly decrease.*ts\[1\] = 0.5, ts\[2\] = 0.5"),
    "NaN": (torch.tensor([1.0, math.nan, 0.1]), r"ts must strictly decrease.*nan"),
    "one time": (torch.tensor([1.0]), r"ts has shape \(1,\): give at least two times, shape \(n\+1,\)"),
    "a number": (torch.tensor(1.0), r"ts has shape \(\): give at least two times"),
    "a table": (torch.ones(3, 2), r"ts has shape \(3, 2\): give at least two times"),
    "outside": (torch.tensor([1.5, 0.5]), r"ts runs from 1.5 to 0.5: keep it in \[0, 1\]"),
    "below": (torch.tensor([0.5, -0.5]), r"ts runs from 0.5 to -0.5: keep it in \[0, 1\]"),
}


@pytest.mark.parametrize(("ts", "message"), GRIDS.values(), ids=GRIDS)
def test_grids_that_do_not_fall(ts, message):
    asked = []
    den = lambda x, t: asked.append(t) or DEN(x, t)  # noqa: E731
    for run in (
        lambda: dl.sample(dl.ddim_step, den, VP, X, ts),
        lambda: list(dl.iterate(dl.euler_step, den, VP, X, ts)),
        lambda: list(dl.dpmpp_2m(den, VP, X, ts)),
    ):
        with pytest.raises(ValueError, match=message):
            run()


@pytest.mark.parametrize(("ts", "message"), GRIDS.values(), ids=GRIDS)
def test_a_bad_grid_is_refused_before_the_first_state(ts, message):
    for states in (dl.iterate(dl.ddim_step, DEN, VP, X, ts), dl.dpmpp_2m(DEN, VP, X, ts)):
        with pytest.raises(ValueError, match=message):
            next(states)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_steps_go_towards_the_data(step, path):
    with pytest.raises(ValueError, match=r"s = 0.5 is not below t = 0.3: give s, the cleaner time, below t"):
        step(MIX.denoiser(path), path, X, 0.3, 0.5)


def test_a_path_without_coefficients_says_what_is_missing():
    with pytest.raises(NotImplementedError, match=r"Bare must define coefs\(t\)"):
        type("Bare", (dl.Path,), {})().at(0.5, X)


def test_good_input_next_to_the_bad_is_taken():
    assert VP.at(0.0, X).sigma == 0
    assert VP.at(torch.tensor([0, 1, 0.5, 1]), X).alpha.shape == (4, 1)
    assert dl.GaussianMixture(
        [0.5, 0.5 + 1e-9], torch.zeros(2, 2), torch.stack([EYE, EYE])
    ).weights.sum().item() == pytest.approx(1, abs=1e-15)
    assert dl.sample(dl.ddim_step, DEN, VP, X, FALLING).shape == (4, 2)
    assert dl.BetaTable([0.5]).coefs(torch.tensor(1.0)).alpha.item() == pytest.approx(math.sqrt(0.5))
