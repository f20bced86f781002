"""Exact likelihoods by the probability-flow ODE: error against the mixture's own, and time beside flow_matching.

1,000 points, exact denoisers in float64; the number of intervals of each mixture is the smallest that reaches the
target. flow_matching solves with dopri5 at tolerance 1e-5 and the
exact divergence, as its documentation shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from solvers import mixture_a, mixture_b
from torch import Tensor
from training import processor_seconds

import ddpm_lite as dl

POINTS, REPETITIONS = 1000, 5
CASES = {"mixture a": (mixture_a(), 12), "mixture b": (mixture_b(), 14), "the book's": (dl.book_mixture(2), 11)}


def rows() -> list[dict[str, Any]]:
    found = []
    for name, (mixture, intervals) in CASES.items():
        x = mixture.sample(POINTS, generator=torch.Generator().manual_seed(0)).double()
        exact = mixture.log_prob(x)
        ours = ours_on(mixture, x, intervals)
        found.append(row(f"{name}: mean error in nats", error(ours(), exact), 6e-6))
        if find_spec("flow_matching"):
            theirs = flow_matching_on(mixture, x)
            found.append(row(f"{name}: flow_matching's mean error", error(theirs(), exact), None))
            found.append(row(f"{name}: processor time over flow_matching's", share_of_time(ours, theirs), 1.0))
    return found


def row(name: str, value: float, target: float | None) -> dict[str, Any]:
    return {"name": name, "value": value, "target": target, "unit": ""}


def error(found: Tensor, exact: Tensor) -> float:
    return (found - exact).abs().mean().item()


def share_of_time(ours: Callable[[], object], theirs: Callable[[], object]) -> float:
    shares = sorted(processor_seconds(ours) / processor_seconds(theirs) for _ in range(REPETITIONS))
    return shares[REPETITIONS // 2]


def ours_on(mixture: dl.GaussianMixture, x: Tensor, intervals: int) -> Callable[[], Tensor]:
    """`ode_log_prob` on `RectifiedFlow`, intervals even in the angle whose scale lies between detail and data."""
    path = dl.RectifiedFlow()
    detail, data_std = mixture.covs.diagonal(dim1=1, dim2=2).mean().sqrt(), x.var(0).mean().sqrt()
    scale = detail**0.65 * data_std**0.35
    angle = torch.linspace(0, math.pi / 2, intervals + 1, dtype=torch.float64)
    ratio = (scale * angle[:-1].tan()).clamp_min(1e-7)
    ts = torch.cat([path.t_of(-ratio.log()), torch.ones(1, dtype=torch.float64)])
    den = mixture.denoiser(path)
    return lambda: dl.ode_log_prob(den, path, x, ts, prior=normal_log_prob, data_std=data_std.item())


def flow_matching_on(mixture: dl.GaussianMixture, x: Tensor) -> Callable[[], Tensor]:
    from flow_matching.solver import ODESolver

    frame = dl.EDM(1e12)  # alpha = 1: its solver also tries times beyond pure noise, where alpha < 0
    den = mixture.denoiser(frame)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = t, 1 - t  # its clock runs from noise to data
        x0 = den(x / alpha, (sigma / alpha).abs() / frame.sigma_max).x0
        return x0 - (x - alpha * x0) / sigma if sigma != 0 else x0

    solver = ODESolver(velocity)
    options = {"method": "dopri5", "step_size": None, "atol": 1e-5, "rtol": 1e-5, "exact_divergence": True}
    times = torch.tensor([1.0, 0.0], dtype=torch.float64)
    return lambda: solver.compute_likelihood(x, normal_log_prob, time_grid=times, **options)[1].detach()


def normal_log_prob(x: Tensor) -> Tensor:
    return -(x.square() + math.log(2 * math.pi)).flatten(1).sum(1) / 2
