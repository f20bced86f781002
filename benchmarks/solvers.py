"""Error of samplers against the number of evaluations, on exact denoisers: ours against the best peer.

Every solver starts on the same exact trajectories, at its own noisiest level, and the error is the root mean square
over points and coordinates of its end points against the converged ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from solver_peers import Peer, peers
from torch import Tensor

import ddpm_lite as dl

COUNTS = (5, 10, 20, 40, 80)
TARGETS = (0.045, 0.011, 0.0035, 0.0005, 0.0002)
FAR = 1e9  # sigma/alpha that stands for pure noise
REFERENCE_STEPS = 1500
NO_TARGET = "points"  # a finite set


def isotropic(weights: Tensor, means: Tensor, stds: Tensor) -> dl.GaussianMixture:
    dim = means.shape[1]
    return dl.GaussianMixture(weights, means, stds[:, None, None] ** 2 * torch.eye(dim, dtype=torch.float64))


def mixture_a() -> dl.GaussianMixture:
    angle = 2 * math.pi * torch.arange(5, dtype=torch.float64) / 5
    means = 0.7 * torch.stack([angle.cos(), angle.sin()], 1)
    means[4] *= 0.3
    return isotropic(torch.tensor([0.30, 0.15, 0.20, 0.25, 0.10]), means, torch.tensor([0.05, 0.10, 0.05, 0.15, 0.08]))


def mixture_b() -> dl.GaussianMixture:
    line = torch.tensor([-0.8, -0.4, 0.0, 0.4, 0.8], dtype=torch.float64)
    weights = 1.0 + torch.arange(25, dtype=torch.float64) % 3
    return isotropic(weights / weights.sum(), torch.cartesian_prod(line, line), torch.full((25,), 0.04))


def random_mixture(rng: np.random.Generator) -> dl.GaussianMixture:
    """The law: dimension log-uniform in 2 to 64, 2 to 30 components, means N(0, I), stds log-uniform in .03 to 1,
    weights Dirichlet(2) cut at .001; then scaled to a data std that is log-uniform in .1 to 10."""
    dim, k = round(2 * 32 ** rng.random()), int(rng.integers(2, 31))
    means, stds = rng.normal(size=(k, dim)), np.exp(rng.uniform(math.log(0.03), 0, size=k))
    weights = np.maximum(rng.dirichlet(np.full(k, 2.0)), 1e-3)
    weights /= weights.sum()
    centred = means - weights @ means
    std = math.sqrt(weights @ (np.square(centred).mean(1) + stds**2))
    scale = 0.1 * 100 ** rng.random() / std
    return isotropic(*(torch.as_tensor(value) for value in (weights, scale * means, scale * stds)))


class Problem:
    """A mixture, noise to start from, and the exact trajectories of its probability-flow ODE."""

    path = dl.EDM(10 * FAR)

    def __init__(self, mixture: dl.GaussianMixture, points: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        data = mixture.sample(10_000, generator=generator)
        self.den, self.scales, self.calls = mixture.denoiser(self.path), dl.angle_scales(data), 0
        self.std = data.double().var(0).mean().sqrt().item()
        self.noise = torch.randn(points, data.shape[1], generator=generator, dtype=torch.float64)
        self.known: dict[float, Tensor] = {}

    def denoise(self, x: Tensor, ratio: float) -> Tensor:
        self.calls += 1
        return self.den(x.double(), ratio / self.path.sigma_max).x0 if ratio > 0 else x

    def slope(self, y: Tensor, phi: float) -> Tensor:
        """dy/dphi for y = (x/alpha) cos(phi), sigma/alpha = std tan(phi)."""
        if phi < 1e-12:
            return torch.zeros_like(y)
        ratio = min(self.std * math.tan(phi), FAR)
        cos = self.std / math.hypot(self.std, ratio)
        return (cos * y - self.den(y / cos, ratio / self.path.sigma_max).x0) / math.sin(phi)

    def runge_kutta(self, y: Tensor, phis: np.ndarray) -> Tensor:
        for phi, after in pairwise(phis):
            h, middle = after - phi, (phi + after) / 2
            k1 = self.slope(y, phi)
            k2 = self.slope(y + h / 2 * k1, middle)
            k3 = self.slope(y + h / 2 * k2, middle)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + self.slope(y + h * k3, after))
        return y

    def at(self, ratio: float) -> Tensor:
        if math.isinf(ratio):
            return self.noise
        if ratio not in self.known:
            phi = math.atan(ratio / self.std)
            steps = max(8, int(800 * (math.pi / 2 - phi)))
            y = self.runge_kutta(self.std * self.noise, np.linspace(math.pi / 2, phi, steps + 1))
            self.known[ratio] = y / math.cos(phi)
        return self.known[ratio]

    def solution(self, steps: int) -> Tensor:
        return self.runge_kutta(self.std * self.noise, math.pi / 2 * (1 - np.linspace(0, 1, steps + 1)) ** 2)

    @cached_property
    def end(self) -> Tensor:
        return self.solution(REFERENCE_STEPS)

    def error(self, solver: Peer, calls: int) -> float:
        self.calls = 0
        error = (solver(self, calls) - self.end).square().mean().sqrt().item()
        if self.calls > calls:
            raise AssertionError(f"{self.calls} evaluations for {calls}")
        return error if math.isfinite(error) else math.inf


def default_sampler(problem: Problem, calls: int) -> Tensor:
    """Ours: `adams` on `angle_ts`, the scales from 10,000 samples, on the path of EDM."""
    path = dl.EDM(80.0)

    def den(x: Tensor, t: float | Tensor) -> dl.Estimate:
        ratio = path.sigma_max * float(t)
        x0 = problem.denoise(x, ratio)
        return dl.Estimate(x0, (x - x0) / ratio)

    ts = dl.angle_ts(path, calls, middle=problem.scales.middle)
    return dl.last(dl.adams(den, path, problem.at(80.0), ts, data_std=problem.scales.data_std))


def dpm_solver_3(problem: Problem, calls: int) -> Tensor:
    path = dl.EDM(80.0)

    def den(x: Tensor, t: float | Tensor) -> dl.Estimate:
        x0 = problem.denoise(x, path.sigma_max * float(t))
        return dl.Estimate(x0, x0)  # `dpmpp_3m` reads x0 only

    return dl.last(dl.dpmpp_3m(den, path, problem.at(80.0), dl.karras_ts(path, calls)))


OURS: dict[str, Peer] = {"ddpm_lite: adams": default_sampler, "ddpm_lite: dpmpp_3m karras": dpm_solver_3}


def errors(problems: list[Problem], solvers: dict[str, Peer]) -> dict[str, list[float]]:
    """For each solver the median over problems of its error, one number a count; a solver that fails gets inf."""

    def median(solver: Peer, calls: int) -> float:
        values = []
        for problem in problems:
            try:
                values.append(problem.error(solver, calls))
            except (ValueError, RuntimeError, IndexError, ZeroDivisionError, AssertionError):
                values.append(math.inf)
        return float(np.median(values))

    return {name: [median(solver, calls) for calls in COUNTS] for name, solver in solvers.items()}


def best(table: dict[str, list[float]]) -> list[tuple[float, str]]:
    """The smallest error at each count and whose it is."""
    return [min((row[i], name) for name, row in table.items()) for i in range(len(COUNTS))]


def convergence(problem: Problem) -> float:
    """How far the converged end points still move when the steps are halved."""
    return (problem.solution(REFERENCE_STEPS // 2) - problem.end).square().mean().sqrt().item()


def measure(mixtures: int, seed: int, say: Callable[[str], None] = print) -> dict:
    """All numbers, each the median of three draws of noise: mixtures a and b, random ones, a finite set."""
    others, missing = peers()
    rng = np.random.default_rng(seed)
    drawn = [random_mixture(rng) for _ in range(mixtures)]
    cases = [("a", mixture_a(), 1000, (0, 1, 2)), ("b", mixture_b(), 1000, (0, 1, 2))]
    draws = (seed, seed + 1, seed + 2)
    cases += [(f"random {i + 1}", mixture, 200, draws) for i, mixture in enumerate(drawn)]
    moons = dl.moons(300, generator=torch.Generator().manual_seed(0))
    cases.append((NO_TARGET, dl.GaussianMixture.from_points(moons), 200, (0, 1, 2)))
    result: dict = {"counts": COUNTS, "seed": seed, "missing": missing, "peers": len(others), "cases": {}}
    for name, mixture, points, seeds in cases:
        problems = [Problem(mixture, points, s) for s in seeds]
        ours, theirs = errors(problems, OURS), errors(problems, others)
        k, dim = mixture.means.shape
        case = {"dimension": dim, "components": k, "std": problems[0].std, "ours": ours, "peers": theirs}
        case |= {"best": best(theirs) if theirs else [], "reference": convergence(problems[0])}
        result["cases"][name] = case
        line = " ".join(f"{value:9.2e}" for value in ours["ddpm_lite: adams"])
        failed = [peer for peer, values in theirs.items() if not all(map(math.isfinite, values))]
        if failed:
            say(f"{name:>10}: FAILED at some count, and so counted as worse: {', '.join(failed)}")
        say(f"{name:>10}: d {dim:2d}, K {k:2d}, std {case['std']:5.2f}, error {line}")
    return result


def rows(result: dict) -> list[dict]:
    """What the issue's targets ask of the numbers of `measure`."""
    found, cases = [], result["cases"]
    for name in ("a", "b"):
        values = cases[name]["ours"]["ddpm_lite: adams"]
        for count, value, target in zip(COUNTS, values, TARGETS, strict=True):
            found.append({"name": f"mixture {name}, error in {count} evaluations", "value": value, "target": target})
    if not result["peers"]:
        return found
    shares = {
        name: np.array(case["ours"]["ddpm_lite: adams"]) / np.array([value for value, _ in case["best"]])
        for name, case in cases.items()
    }
    for name, share in shares.items():
        mean, worst = float(np.exp(np.log(share).mean())), share.max()
        targets = (None, None) if name == NO_TARGET else (0.5, 1.2)
        found.append({"name": f"{name}, of the best peer's error, geometric mean", "value": mean, "target": targets[0]})
        found.append({"name": f"{name}, of the best peer's error, worst count", "value": worst, "target": targets[1]})
    return found
