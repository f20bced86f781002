"""The numerical core in JavaScript computes what the package computes, in the same run, from the same draws."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from node import run_js
from torch import Tensor
from worlds import normal, random_mixture, seeded, times

import ddpm_lite as dl
from ddpm_lite.live.modules import HERE, source
from ddpm_lite.live.pack import pack_mlp
from ddpm_lite.nets import MLP, MLPConfig

needs_node = pytest.mark.needs("node")

SETTINGS: list[tuple[str, list[Any]]] = [
    ("VP", []),
    ("VP", [0.3, 12.0]),
    ("SubVP", []),
    ("SubVP", [0.2, 9.0]),
    ("Cosine", []),
    ("VE", []),
    ("VE", [0.05, 7.0]),
    ("EDM", []),
    ("EDM", [11.0]),
    ("RectifiedFlow", []),
    ("BetaTable", [dl.linear_betas(100, start=1e-3, end=0.2)]),
    ("BetaTable", [0.02 + 0.1 * torch.rand(17, generator=seeded(3), dtype=torch.float64)]),
]
PATHS = [getattr(dl, name)(*args) for name, args in SETTINGS]

# In every script: `paths` as SETTINGS say, and `denoiser(path, data)` of a mixture.
WORLD = """
const make = await load("paths");
const { mixture } = await load("mixture");
const paths = inputs.settings.map(([name, args]) => make[name](...args));
const law = ({ weights, means, covs }) => mixture(weights, means, covs);
const denoiser = (path, data) => (x, t) => {
  const { alpha, sigma } = path.coefs(t);
  return law(data).denoise(x, alpha, sigma);
};
"""


class Level(dl.Path):
    """A path that stands still at one noise level."""

    def __init__(self, alpha: float, sigma: float) -> None:
        self.alpha, self.sigma = alpha, sigma

    def coefs(self, t: Tensor) -> dl.Coefs:
        return dl.Coefs(*(torch.full_like(t, value) for value in (self.alpha, self.sigma, 0.0, 0.0)))


def ask(script: str, **inputs: Any) -> Any:
    return run_js(WORLD + script, {"settings": SETTINGS, **inputs})


def plain(mixture: dl.GaussianMixture) -> dict[str, Tensor]:
    return {"weights": mixture.weights, "means": mixture.means, "covs": mixture.covs}


def same(found: Any, truth: Any, rtol: float = 1e-9, atol: float = 1e-12, case: Any = "") -> None:
    truth = np.asarray(truth, dtype=float)
    found = np.asarray(found, dtype=float)
    np.testing.assert_allclose(found.reshape(truth.shape), truth, rtol, atol, equal_nan=False, err_msg=str(case))


# --- random.js


@needs_node
def test_draws_are_those_of_numpy() -> None:
    """Uniforms bit by bit; normals as well as two logarithms agree. An odd number of normals leaves one for later."""
    calls = [("normals", 5), ("uniform", 3), ("normals", 4), ("uniform", 1), ("normals", 1501), ("normals", 2)]
    seeds = [0, 1, 4, 20_240_229, 2**32 - 1]
    script = """
      const { randomState } = await load("random");
      return inputs.seeds.map((seed) => {
        const rng = randomState(seed);
        const uniforms = (n) => Array.from({ length: n }, () => rng.uniform());
        return inputs.calls.map(([name, n]) => (name === "normals" ? rng.normals(n) : uniforms(n)));
      });
    """
    for seed, answers in zip(seeds, run_js(script, {"seeds": seeds, "calls": calls}), strict=True):
        numpy = np.random.RandomState(seed)
        for (name, n), found in zip(calls, answers, strict=True):
            if name == "uniform":
                assert found == numpy.random_sample(n).tolist()
            else:
                same(found, numpy.standard_normal(n), rtol=1e-14, atol=0, case=seed)


# --- mixture.js


@needs_node
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_mixture(dim: int) -> None:
    """Density, score and denoiser at any noise, without noise, and at alpha = 0."""
    levels = [(1.0, 0.0), (0.0, 1.0), (0.0, 50.0), (1.0, 30.0), (0.9, 0.02), (0.6, 0.8), (0.2, 1.3)]
    cases = [(random_mixture(dim, seed, k), 2 * normal(seed, 9, dim)) for seed, k in [(0, 3), (1, 1), (2, 6)]]
    cases += [(dl.book_mixture(dim), normal(9, 7, dim))] if dim < 3 else []
    script = """
      return inputs.cases.map(([data, x]) => inputs.levels.map(([alpha, sigma]) => {
        const { logProb, score, denoise } = law(data);
        const { x0, eps } = denoise(x, alpha, sigma);
        return [logProb(x, alpha, sigma), score(x, alpha, sigma), x0, eps];
      }));
    """
    answers = ask(script, cases=[(plain(mixture), x.flatten()) for mixture, x in cases], levels=levels)
    for (mixture, x), by_level in zip(cases, answers, strict=True):
        for (alpha, sigma), (log_prob, score, x0, eps) in zip(levels, by_level, strict=True):
            path = Level(alpha, sigma)
            same(log_prob, mixture.log_prob(x, path, 0.5), case=(alpha, sigma))
            same(score, mixture.score(x, path, 0.5), case=(alpha, sigma))
            estimate = mixture.denoiser(path)(x, 0.5)
            same(x0, estimate.x0, case=(alpha, sigma))
            same(eps, estimate.eps, case=(alpha, sigma))


@needs_node
def test_mixture_far_away_and_of_spikes() -> None:
    """Densities that are 0 in float64, and components without spread; a call without a level has no noise."""
    far, wide = random_mixture(2), 300 * normal(0, 5, 2)
    spikes, near = dl.GaussianMixture.from_points(normal(1, 6, 2)), normal(2, 5, 2)
    script = """
      const [far, spikes] = [law(inputs.far), law(inputs.spikes)];
      const { x0, eps } = spikes.denoise(inputs.near, 0.8, 0.1);
      return [far.logProb(inputs.wide), far.score(inputs.wide), spikes.logProb(inputs.near, 0.8, 0.1), x0, eps];
    """
    inputs = {"far": plain(far), "wide": wide.flatten(), "spikes": plain(spikes), "near": near.flatten()}
    log_prob, score, log_spikes, x0, eps = ask(script, **inputs)
    level = Level(0.8, 0.1)
    same(log_prob, far.log_prob(wide))
    same(score, far.score(wide))
    same(log_spikes, spikes.log_prob(near, level, 0.5))
    same(x0, spikes.denoiser(level)(near, 0.5).x0)
    same(eps, spikes.denoiser(level)(near, 0.5).eps)


@needs_node
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_mixture_draws(dim: int) -> None:
    """First all uniforms, which choose the components, then all normals, turned by Cholesky's factor."""
    mixture, n = random_mixture(dim, seed=dim, k=4), 300
    script = 'return law(inputs.data).sample(inputs.n, (await load("random")).randomState(7));'
    rng = np.random.RandomState(7)
    k = np.searchsorted(mixture.weights.cumsum(0).numpy(), rng.random_sample(n), side="right")
    z, L = rng.standard_normal((n, dim)), np.linalg.cholesky(mixture.covs.numpy())
    assert set(k) == {0, 1, 2, 3}
    same(ask(script, data=plain(mixture), n=n), mixture.means.numpy()[k] + np.einsum("nij,nj->ni", L[k], z))


# --- paths.js

ENTRIES = [torch.arange(1, n, dtype=torch.float64) / n for n in (17, 100)]  # of the tables, as computed
TIMES = torch.cat([torch.tensor([0.0, 1e-6, 1.0]).double(), times(0, 6), *ENTRIES])


@needs_node
def test_paths() -> None:
    """The coefficients with the ends and the entries of a table, lam, and the way back from lam to t."""
    script = """
      return paths.map((path) => inputs.ts.map((t) => {
        const { alpha, sigma, dalpha, dsigma } = path.coefs(t);
        return [alpha, sigma, dalpha, dsigma, path.lam(t), path.tOf(path.lam(t)), path.tOf(1.7)];
      }));
    """
    for setting, path, answers in zip(SETTINGS, PATHS, ask(script, ts=TIMES), strict=True):
        lam = path.lam(TIMES)
        truth = [*path.coefs(TIMES), lam, path.t_of(lam), path.t_of(torch.full_like(lam, 1.7))]
        same(answers, torch.stack(truth, 1), case=setting)


@needs_node
def test_steps_between_levels() -> None:
    """Transition, posterior and the SDE; the last has no drift at alpha = 0."""
    pairs = [(1.0, 0.9), (0.7, 0.2), (0.31, 0.3), (1.0, 0.0), (0.05, 0.0)]
    script = """
      return paths.map((path) => inputs.pairs.map(([t, s]) => [
        Object.values(make.transition(path, t, s)), Object.values(make.posterior(path, t, s)),
        Object.values(make.sde(path, 0.9 * t)),
      ]));
    """
    one, none = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    for setting, path, answers in zip(SETTINGS, PATHS, ask(script, pairs=pairs), strict=True):
        for (t, s), (transition, posterior, sde) in zip(pairs, answers, strict=True):
            same(transition, [value.item() for value in dl.transition(path, t, s, one)], case=(setting, t, s))
            (of_xt, variance), (of_x0, _) = dl.posterior(path, none, one, t, s), dl.posterior(path, one, none, t, s)
            same(posterior, [of_xt.item(), of_x0.item(), variance.item()], case=(setting, t, s))
            same(sde, [path.drift(0.9 * t, one).item(), path.g2(0.9 * t, one).item()], case=(setting, t))


@needs_node
def test_betas() -> None:
    script = "return [make.linearBetas(), make.linearBetas(7, 0.01, 0.3)];"
    default, short = ask(script)
    same(default, dl.linear_betas())
    same(short, dl.linear_betas(7, start=0.01, end=0.3))


# --- samplers.js

DATA = random_mixture(2, seed=5)
X = normal(11, 5, 2)


@needs_node
def test_grids() -> None:
    script = """
      const { linearTs, angleTs } = await load("samplers");
      const inside = { middle: 1.3, tMax: 0.97, tMin: 0.02 };
      const graded = paths.map((path) => [angleTs(path, 8), angleTs(path, 13, inside)]);
      return [linearTs(10), linearTs(7, 0.999, 0.001), graded];
    """
    whole, part, graded = ask(script)
    same(whole, dl.linear_ts(10), atol=1e-15)
    same(part, dl.linear_ts(7, t_max=0.999, t_min=0.001))
    assert (part[0], part[-1]) == (0.999, 0.001)
    for setting, path, (default, inside) in zip(SETTINGS, PATHS, graded, strict=True):
        same(default, dl.angle_ts(path, 8), case=setting)
        same(inside, dl.angle_ts(path, 13, middle=1.3, t_max=0.97, t_min=0.02), case=setting)


STEPS: list[tuple[str, Any, dict[str, Any]]] = [
    ("ddimStep", dl.ddim_step, {}),
    ("ddimStep", dl.ddim_step, {"eta": 0.6}),
    ("ddimStep", dl.ddim_step, {"eta": 1.0}),
    ("ancestralStep", dl.ancestral_step, {}),
    ("ancestralStep", dl.ancestral_step, {"variance": "forward"}),
    ("eulerStep", dl.euler_step, {}),
    ("heunStep", dl.heun_step, {}),
    ("emStep", dl.em_step, {}),
    ("emStep", dl.em_step, {"eta": 0.0}),
    ("emStep", dl.em_step, {"eta": 0.6}),
]


@needs_node
@pytest.mark.parametrize(("name", "step", "options"), STEPS, ids=[f"{name}{list(o.values())}" for name, _, o in STEPS])
def test_step(name: str, step: Any, options: dict[str, Any]) -> None:
    """One step from the same point with the same noise, also from t = 1 and to s = 0."""
    pairs = [(0.7, 0.55), (0.3, 0.05), (0.2, 0.0), (0.99 if step is dl.em_step else 1.0, 0.8)]
    script = """
      const step = (await load("samplers"))[inputs.name];
      return paths.map((path) => inputs.pairs.map(([t, s]) => {
        const { data, x, noise, options } = inputs;
        return step(denoiser(path, data), path, x, t, s, { ...options, noise });
      }));
    """
    noise = normal(23, *X.shape)  # what a generator of seed 23 gives the package
    inputs = {"data": plain(DATA), "x": X.flatten(), "noise": noise.flatten(), "options": options}
    answers = ask(script, name=name, pairs=pairs, **inputs)
    for setting, path, by_pair in zip(SETTINGS, PATHS, answers, strict=True):
        for (t, s), found in zip(pairs, by_pair, strict=True):
            truth = step(DATA.denoiser(path), path, X, t, s, generator=seeded(23), **options)
            same(found, truth, case=(setting, t, s))


@needs_node
def test_ddim_runs_towards_noise() -> None:
    script = """
      const { ddimStep } = await load("samplers");
      return paths.map((path) => ddimStep(denoiser(path, inputs.data), path, inputs.x, 0.2, 0.6));
    """
    for path, found in zip(PATHS, ask(script, data=plain(DATA), x=X.flatten()), strict=True):
        same(found, dl.ddim_step(DATA.denoiser(path), path, X, 0.2, 0.6))


@needs_node
def test_chains_of_steps() -> None:
    """Every state, with a fresh draw at every step."""
    script = """
      const { ancestralStep, heunStep, iterate } = await load("samplers");
      return paths.map((path) => {
        const rng = { normals: () => inputs.noises[drawn++] };
        let drawn = 0;
        const den = denoiser(path, inputs.data);
        const chain = iterate(ancestralStep, den, path, inputs.x, inputs.ts, { rng, variance: "forward" });
        return [[...chain], [...iterate(heunStep, den, path, inputs.x, inputs.ts)]];
      });
    """
    ts, generator = dl.linear_ts(6), seeded(4)
    noises = [torch.randn(X.shape, generator=generator, dtype=torch.float64).flatten() for _ in ts[1:]]
    answers = ask(script, data=plain(DATA), x=X.flatten(), ts=ts, noises=noises)
    for setting, path, (chain, flow) in zip(SETTINGS, PATHS, answers, strict=True):
        den = DATA.denoiser(path)
        drawn = dl.iterate(dl.ancestral_step, den, path, X, ts, variance="forward", generator=seeded(4))
        same(chain, torch.stack(list(drawn)), case=setting)
        same(flow, torch.stack(list(dl.iterate(dl.heun_step, den, path, X, ts))), case=setting)


@needs_node
def test_default_sampler() -> None:
    """Every state of Adams-Bashforth, at orders 1 to 6, on the grid that goes with it and on another."""
    settings = [(1.0, 5), (0.4, 1), (0.7, 2), (2.0, 3), (1.3, 6)]
    script = """
      const { adams, angleTs, linearTs } = await load("samplers");
      return paths.map((path) => inputs.choices.map(([dataStd, order]) => {
        const den = denoiser(path, inputs.data);
        const flow = adams(den, path, inputs.x, angleTs(path, 9), { dataStd, order });
        return [[...flow], [...adams(den, path, inputs.x, linearTs(7, 0.9, 0.1))]];
      }));
    """
    answers = ask(script, data=plain(DATA), x=X.flatten(), choices=settings)
    for setting, path, by_choice in zip(SETTINGS, PATHS, answers, strict=True):
        den, other = DATA.denoiser(path), dl.linear_ts(7, t_max=0.9, t_min=0.1)
        plain_flow = torch.stack(list(dl.adams(den, path, X, other)))
        for (data_std, order), (graded, even) in zip(settings, by_choice, strict=True):
            flow = dl.adams(den, path, X, dl.angle_ts(path, 9), data_std=data_std, order=order)
            same(graded, torch.stack(list(flow)), case=(setting, data_std, order))
            same(even, plain_flow, case=setting)


@needs_node
def test_dpm_solver_and_edms_grid() -> None:
    script = """
      const { dpmpp2m, karrasTs, linearTs } = await load("samplers");
      return paths.map((path) => {
        const den = denoiser(path, inputs.data);
        const levels = karrasTs(path, 7, { sigmaMax: 1.2, sigmaMin: 0.2, rho: 5 });
        const grids = [levels, linearTs(6, 0.9, 0.1), linearTs(6, 0.9)];
        return [levels, ...grids.map((ts) => [...dpmpp2m(den, path, inputs.x, ts)])];
      });
    """
    for setting, path, (levels, *flows) in zip(
        SETTINGS, PATHS, ask(script, data=plain(DATA), x=X.flatten()), strict=True
    ):
        ts = dl.karras_ts(path, 7, sigma_max=1.2, sigma_min=0.2, rho=5)
        same(levels, ts, case=setting)
        grids = (ts, dl.linear_ts(6, t_max=0.9, t_min=0.1), dl.linear_ts(6, t_max=0.9))
        for flow, each in zip(flows, grids, strict=True):
            same(flow, torch.stack(list(dl.dpmpp_2m(DATA.denoiser(path), path, X, each))), case=setting)


@needs_node
def test_edms_grid_stays_inside_the_path() -> None:
    """Round-off in the power must not lead above t = 1, where a path is not defined."""
    script = """
      const { EDM } = await load("paths");
      const { karrasTs } = await load("samplers");
      return inputs.tops.map((top) => karrasTs(EDM(top), 9, { sigmaMax: top, sigmaMin: 0.01 }));
    """
    tops = [10.0, 20.0, 80.0, 100.0, 300.0, 1000.0]
    for top, levels in zip(tops, ask(script, tops=tops), strict=True):
        assert max(levels) <= 1, top
        same(levels, dl.karras_ts(dl.EDM(sigma_max=top), 9, sigma_max=top, sigma_min=0.01), case=top)


# --- mcmc.js


CHAINS = 12


@needs_node
@pytest.mark.parametrize("dim", [1, 2])
def test_langevin_with_the_noise_of_the_package(dim: int) -> None:
    mixture, x, n, generator = random_mixture(dim, seed=8), normal(3, CHAINS, dim), 15, seeded(6)
    noises = [torch.randn(x.shape, generator=generator, dtype=x.dtype).flatten() for _ in range(n)]
    script = """
      const { langevin } = await load("mcmc");
      let drawn = 0;
      const rng = { normals: () => inputs.noises[drawn++] };
      return langevin(law(inputs.data).score, inputs.x, { step: 0.05, n: inputs.noises.length, rng });
    """
    found = ask(script, data=plain(mixture), x=x.flatten(), noises=noises)
    same(found, dl.langevin(mixture.score, x, step=0.05, n=n, generator=seeded(6)))


@needs_node
@pytest.mark.parametrize("dim", [1, 2])
def test_mala_with_the_draws_of_the_package(dim: int) -> None:
    """States and acceptance, where the draws of a step are its normals, then one uniform a chain."""
    mixture, x, n, generator = random_mixture(dim, seed=8), normal(3, CHAINS, dim), 25, seeded(6)
    noises, uniforms = [], []
    for _ in range(n):
        noises.append(torch.randn(x.shape, generator=generator, dtype=x.dtype).flatten())
        uniforms += torch.rand(CHAINS, generator=generator, dtype=x.dtype).tolist()
    script = """
      const { mala } = await load("mcmc");
      let [drawn, used] = [0, 0];
      const rng = { normals: () => inputs.noises[drawn++], uniform: () => inputs.uniforms[used++] };
      const { x, acceptance } = mala(law(inputs.data), inputs.x, { step: 0.3, n: inputs.noises.length, rng });
      return [x, acceptance, used];
    """
    inputs = {"x": x.flatten(), "noises": noises, "uniforms": uniforms}
    states, acceptance, used = ask(script, data=plain(mixture), **inputs)
    truth, kept = dl.mala(mixture.log_prob, x, step=0.3, n=n, generator=seeded(6))
    assert 0.1 < kept.mean() < 0.95  # some proposals are kept, some refused
    assert used == n * CHAINS
    same(states, truth)
    same(acceptance, kept, rtol=1e-6)  # a float32 in the package


@needs_node
def test_mala_leaves_the_law_as_it_is() -> None:
    """Chains that start in a Gaussian stay in it, by their mean square; unadjusted ones do not.

    With 40,000 values the mean square is off by 4.9 standard errors, .035, with probability 1e-6. Unadjusted, the
    variance 1 / (1 - h/2) at h = 0.6 is 1.43, and the chains are there after a few steps.
    """
    script = """
      const { langevin, mala } = await load("mcmc");
      const { randomState } = await load("random");
      const unit = mixture([1], [[0, 0]], [[[1, 0], [0, 1]]]);
      const options = () => ({ step: 0.6, n: 12, rng: randomState(5) });
      const x = randomState(1).normals(40000);
      const square = (values) => values.reduce((sum, value) => sum + value ** 2, 0) / values.length;
      return [square(mala(unit, x, options()).x), square(langevin(unit.score, x, options()))];
    """
    adjusted, unadjusted = ask(script)
    assert adjusted == pytest.approx(1, abs=0.035)
    assert unadjusted == pytest.approx(1 / (1 - 0.3), abs=0.05)


@needs_node
def test_annealed_langevin_with_the_noise_of_the_package() -> None:
    path, ts, n = dl.VE(), torch.tensor([0.7, 0.5, 0.3], dtype=torch.float64), 3
    generator = seeded(2)
    noises = [torch.randn(X.shape, generator=generator, dtype=X.dtype).flatten() for _ in range(3 * n)]
    script = """
      const { annealedLangevin } = await load("samplers");
      let drawn = 0;
      const rng = { normals: () => inputs.noises[drawn++] };
      const path = make.VE();
      const step = ({ sigma }) => 0.1 * sigma ** 2;
      return annealedLangevin(denoiser(path, inputs.data), path, inputs.x, inputs.ts, { n: 3, step, rng });
    """
    options = {"n": n, "step": lambda c: 0.1 * c.sigma**2, "generator": seeded(2)}
    found = ask(script, data=plain(DATA), x=X.flatten(), ts=ts, noises=noises)
    same(found, dl.annealed_langevin(DATA.denoiser(path), path, X, ts, **options))


# --- mlp.js

CONFIGS = [
    MLPConfig(),
    MLPConfig(dim=1, width=13, depth=1, coordinate_waves=2, time_waves=2),
    MLPConfig(dim=3, width=20, depth=2, coordinate_waves=0, time_waves=6, time_high=100.0),
    MLPConfig(dim=2, width=31, depth=4, classes=3, coordinate_waves=6),
]
RUN_MLP = """
const { decodeWeights, mlp } = await load("mlp");
const network = ({ config, bytes }) => {
  const view = new DataView(Uint8Array.from(bytes).buffer);
  return mlp(config, decodeWeights(view, config.dtype));
};
"""


def random_mlp(config: MLPConfig, seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    model = MLP(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) / max(1, parameter.shape[-1]) ** 0.5)
    return model


def sent(model: MLP, dtype: Any = "float32") -> dict[str, Any]:
    config, data = pack_mlp(model, dtype)
    return {"config": config, "bytes": list(data)}


@needs_node
@pytest.mark.parametrize("config", CONFIGS, ids=["default", "dim 1", "no waves", "classes"])
def test_mlp(config: MLPConfig) -> None:
    """The network in float64, for batches that fill the blocks of four points and for others, and every class."""
    model, labels = random_mlp(config), [*range(config.classes), None]
    cases = [(2 * normal(n, n, config.dim), t, label) for n in (1, 4, 11) for t in (0.0, 0.37, 1.0) for label in labels]
    script = "const net = network(inputs.net); return inputs.cases.map(([x, t, l]) => net(x, t, l ?? undefined));"
    answers = run_js(RUN_MLP + script, {"net": sent(model), "cases": [(x.flatten(), t, c) for x, t, c in cases]})
    model = model.double()
    for (x, t, label), found in zip(cases, answers, strict=True):
        cond = None if label is None else torch.full((len(x),), label)
        same(found, model(x, torch.full((len(x),), t, dtype=x.dtype), cond).detach(), case=(t, label))


@needs_node
def test_mlp_in_half_precision() -> None:
    """The same network with its weights rounded, the smallest and the largest float16 among them."""
    model, x = random_mlp(CONFIGS[1]), normal(1, 6, 1)
    with torch.no_grad():
        model.first.weight[0, :5] = torch.tensor([6e-8, -3e-5, 65504.0, 0.0, -1 / 3])
    script = "return network(inputs.net)(inputs.x, 0.4);"
    found = run_js(RUN_MLP + script, {"net": sent(model, "float16"), "x": x.flatten()})
    assert len(sent(model, "float16")["bytes"]) * 2 == len(sent(model)["bytes"])
    model = model.half().double()
    same(found, model(x, torch.full((6,), 0.4, dtype=x.dtype)).detach())


def test_an_mlp_travels_as_numbers_of_its_dtype() -> None:
    model = random_mlp(MLPConfig())
    config, data = pack_mlp(model)
    assert config == {**vars(model.config), "dtype": "float32"}
    assert np.frombuffer(data, "<f4").size == 37_762
    with pytest.raises(ValueError, match="dtype = 'int8'"):
        pack_mlp(model, "int8")  # type: ignore[arg-type]
    with torch.no_grad():
        model.last.bias[0] = 1e6
    with pytest.raises(ValueError, match="float16"):
        pack_mlp(model, "float16")


# --- What is wrong is named

ERRORS = {
    "seed": ("random", "randomState(-1)", r"seed = -1"),
    "fraction": ("random", "randomState(0).normals(1.5)", r"n = 1\.5"),
    "weights": ("mixture", "mixture([0.5, 0.6], [[0], [1]], [[[1]], [[1]]])", r"weights = 0\.5,0\.6"),
    "shapes": ("mixture", "mixture([1], [[0, 0]], [[[1]]])", r"K x dim"),
    "points": ("mixture", "mixture([1], [[0, 0]], [[[1, 0], [0, 1]]]).logProb([1, 2, 3])", r"x has 3 numbers"),
    "spike": ("mixture", "mixture([1], [[0]], [[[0]]]).logProb([1])", r"sigma = 0"),
    "indefinite": ("mixture", "mixture([1], [[0, 0]], [[[1, 2], [2, 1]]]).logProb([0, 0])", r"no density"),
    "betas": ("paths", "BetaTable([0.1, 1])", r"betas"),
    "order": ("paths", "transition(VP(), 0.2, 0.3)", r"s = 0\.3 is not below t = 0\.2"),
    "drift": ("paths", "sde(Cosine(), 1)", r"t = 1"),
    "eta": ("samplers", "ddimStep(null, null, [0], 1, 0.5, { eta: 2 })", r"eta = 2"),
    "times": ("samplers", "[...iterate(eulerStep, null, null, [0], [0.2, 0.3])]", r"ts\[1\] = 0\.3"),
    "span": ("samplers", "[...iterate(eulerStep, null, null, [0], [1.2, 0.3])]", r"1\.2"),
    "grid": ("samplers", "linearTs(0)", r"n = 0"),
    "chain": ("mcmc", "langevin(null, [0], { step: -1, n: 3 })", r"step = -1"),
    "dtype": ("mlp", 'decodeWeights(null, "int8")', r"dtype = int8"),
}


@needs_node
def test_what_is_wrong_is_named() -> None:
    calls = [
        f"await message(async () => {{ const m = await load({module!r}); with_({call!r}, m); }})"
        for module, call, _ in ERRORS.values()
    ]
    script = f"""
      const with_ = (call, m) => new Function(...Object.keys(m), "return " + call)(...Object.values(m));
      return [{", ".join(calls)}];
    """
    for (_, call, pattern), found in zip(ERRORS.values(), run_js(script), strict=True):
        assert re.search(pattern, found or ""), (call, found)


@needs_node
def test_noise_of_another_size_is_named() -> None:
    script = """
      const { ancestralStep, ddimStep, emStep } = await load("samplers");
      const path = make.VP();
      const den = (x) => ({ x0: x, eps: x });
      const calls = [
        () => ancestralStep(den, path, [1, 2], 0.5, 0.4), () => emStep(den, path, [1, 2], 0.5, 0.4, { noise: [1] }),
        () => ddimStep(den, path, [1, 2], 0.5, 0.4, { eta: 1, noise: [1, 2, 3] }),
      ];
      return Promise.all(calls.map(message));
    """
    missing, short, long = ask(script)
    assert "no numbers: give 2" in missing
    assert "1 numbers: give 2" in short
    assert "3 numbers: give 2" in long


@needs_node
def test_weights_and_labels_that_do_not_fit_are_named() -> None:
    config, data = pack_mlp(MLP(MLPConfig(width=4, classes=2)))
    script = """
      const { mlp } = await load("mlp");
      const weights = Float32Array.from(inputs.weights);
      const net = mlp(inputs.config, weights);
      const calls = [
        () => mlp(inputs.config, weights.subarray(1)), () => mlp(inputs.config, Float32Array.of(...weights, 0)),
        () => net([1, 2, 3], 0.5), () => net([1, 2], 0.5, 7),
      ];
      return Promise.all(calls.map(message));
    """
    weights = np.frombuffer(data, "<f4")
    short, long, points, label = run_js(script, {"config": config, "weights": weights})
    assert f"weights has {weights.size - 1} numbers" in short
    assert f"weights has {weights.size + 1} numbers" in long
    assert "x has 3 numbers" in points
    assert "label = 7" in label


# --- The modules join

SHARED = ["random", "mixture", "paths", "mlp", "samplers", "mcmc"]


def test_names_of_the_core_stand_in_one_module_only() -> None:
    """A figure's module is joined with the modules that it imports, so that a name must not stand twice."""
    names = re.compile(r"^(?:export )?(?:function\*?|const|let|class) (\w+)", re.MULTILINE)
    count = Counter(name for path in HERE.glob("*.js") for name in names.findall(source(path.stem)))
    own = [name for module in SHARED for name in names.findall(source(module))]
    assert len(own) > 30
    assert [name for name in own if count[name] > 1] == []
