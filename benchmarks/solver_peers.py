"""Samplers of other libraries on an exact denoiser: each starts on the same exact trajectory, in its own frame.

A peer is a function (problem, calls) -> end points, with at most `calls` evaluations of the denoiser.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor


class Problem(Protocol):
    def denoise(self, x: Tensor, ratio: float) -> Tensor:
        """E[x0 | x0 + ratio eps = x]; counts its calls."""

    def at(self, ratio: float) -> Tensor:
        """The exact trajectories where sigma/alpha = ratio, as x/alpha; ratio may be infinite: x/sigma."""


Peer = Callable[[Problem, int], Tensor]


def peers() -> tuple[dict[str, Peer], list[str]]:
    """The peers that are installed, by name, and the names of the libraries that are not."""
    libraries = {"diffusers": diffusers_peers, "k_diffusion": k_diffusion_peers, "flow_matching": flow_matching_peers}
    found: dict[str, Peer] = {}
    missing = []
    for library, make in libraries.items():
        if importlib.util.find_spec(library):
            found |= {f"{library}: {name}": peer for name, peer in make().items()}
        else:
            missing.append(library)
    return found, missing


# --- diffusers

KARRAS, EXPONENTIAL = {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}
TRAILING, LEADING = {"timestep_spacing": "trailing"}, {"timestep_spacing": "leading"}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
DIFFUSERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DDIM leading": ("DDIMScheduler", {"clip_sample": False} | LEADING),
    "DDIM trailing": ("DDIMScheduler", {"clip_sample": False} | TRAILING),
    "DDIM linspace": ("DDIMScheduler", {"clip_sample": False, "timestep_spacing": "linspace"}),
    "PNDM": ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": True}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
    "DPM++ 2M trailing": ("DPMSolverMultistepScheduler", TRAILING),
    "DPM++ 2M karras": ("DPMSolverMultistepScheduler", KARRAS),
    "DPM++ 2M exponential": ("DPMSolverMultistepScheduler", EXPONENTIAL),
    "DPM++ 2M lu": ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True}),
    "DPM++ 2M flow": ("DPMSolverMultistepScheduler", FLOW),
    "DPM++ 3M": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "DPM++ 3M karras": ("DPMSolverMultistepScheduler", {"solver_order": 3} | KARRAS),
    "DPM++ 3M lu": ("DPMSolverMultistepScheduler", {"solver_order": 3, "use_lu_lambdas": True}),
    "DPM 2M eps": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}),
    "DPM++ 2S": ("DPMSolverSinglestepScheduler", {"solver_order": 2}),
    "DPM++ 3S": ("DPMSolverSinglestepScheduler", {"solver_order": 3}),
    "DPM++ 3S karras": ("DPMSolverSinglestepScheduler", {"solver_order": 3} | KARRAS),
    "UniPC 2": ("UniPCMultistepScheduler", {"solver_order": 2}),
    "UniPC 2 karras": ("UniPCMultistepScheduler", {"solver_order": 2} | KARRAS),
    "UniPC 3": ("UniPCMultistepScheduler", {"solver_order": 3}),
    "UniPC 3 karras": ("UniPCMultistepScheduler", {"solver_order": 3} | KARRAS),
    "UniPC 3 exponential": ("UniPCMultistepScheduler", {"solver_order": 3} | EXPONENTIAL),
    "UniPC 2 flow": ("UniPCMultistepScheduler", {"solver_order": 2} | FLOW),
    "DEIS 2": ("DEISMultistepScheduler", {"solver_order": 2}),
    "DEIS 3": ("DEISMultistepScheduler", {"solver_order": 3}),
    "DEIS 3 karras": ("DEISMultistepScheduler", {"solver_order": 3} | KARRAS),
    "LMS": ("LMSDiscreteScheduler", {}),
    "LMS karras": ("LMSDiscreteScheduler", KARRAS),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler karras": ("EulerDiscreteScheduler", KARRAS),
    "Heun": ("HeunDiscreteScheduler", {"beta_start": 1e-4, "beta_end": 0.02}),
    "Heun karras": ("HeunDiscreteScheduler", {"beta_start": 1e-4, "beta_end": 0.02} | KARRAS),
    "EDM Euler": ("EDMEulerScheduler", {}),
    "EDM DPM++ 2M": ("EDMDPMSolverMultistepScheduler", {}),
    "EDM DPM++ 3M": ("EDMDPMSolverMultistepScheduler", {"solver_order": 3}),
    "flow Euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "flow Heun": ("FlowMatchHeunDiscreteScheduler", {}),
}


VARIANCE_EXPLODING = ("LMS", "Euler", "Heun", "EDM")  # their state is x0 + ratio eps


def diffusers_peers() -> dict[str, Peer]:
    return {name: diffusers_peer(name) for name in DIFFUSERS}


def diffusers_peer(name: str) -> Peer:
    def solve(problem: Problem, calls: int) -> Tensor:
        scheduler = diffusers_scheduler(name, calls)
        x = None
        for i, t in enumerate(scheduler.timesteps):
            alpha, sigma = diffusers_level(name, scheduler, i, t)
            if x is None:
                x = problem.at(sigma / alpha if alpha else float("inf")) * (alpha or sigma)
            x0 = problem.denoise(x / alpha, sigma / alpha) if alpha else problem.denoise(x / 1e-9, 1e9)
            output = diffusers_output(name, scheduler, x, x0, alpha, sigma)
            x = scheduler.step(output, t, x, return_dict=False)[0].double()
        assert x is not None
        return x

    return solve


def diffusers_scheduler(name: str, calls: int) -> Any:
    """The scheduler, set to the largest number of steps that asks for at most `calls` evaluations."""
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    cls, options = DIFFUSERS[name]
    for steps in range(calls, 0, -1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler = getattr(diffusers, cls)(**options)
            scheduler.set_timesteps(steps)
        if len(scheduler.timesteps) <= calls:
            return scheduler
    raise ValueError(f"{name}: no number of steps takes {calls} evaluations")


def diffusers_level(name: str, scheduler: Any, i: int, t: Tensor) -> tuple[float, float]:
    """(alpha, sigma) of the state that the scheduler holds before its i-th call."""
    if name.startswith(("DDIM", "PNDM")):
        abar = scheduler.alphas_cumprod[int(t)].item()
        return abar**0.5, (1 - abar) ** 0.5
    sigma = scheduler.sigmas[scheduler.step_index or 0].item()
    if "flow" in name:
        return 1 - sigma, sigma
    if name.startswith(VARIANCE_EXPLODING):
        return 1.0, sigma
    alpha = 1 / (1 + sigma**2) ** 0.5
    return alpha, sigma * alpha


def diffusers_output(name: str, scheduler: Any, x: Tensor, x0: Tensor, alpha: float, sigma: float) -> Tensor:
    eps = (x - alpha * x0) / sigma
    if "flow" in name:
        return eps - x0
    if name.startswith("EDM"):
        data = scheduler.config.sigma_data
        skip, out = data**2 / (sigma**2 + data**2), sigma * data / (sigma**2 + data**2) ** 0.5
        scheduler.is_scale_input_called = True
        return (x0 - skip * x) / out
    scheduler.is_scale_input_called = True
    return eps


# --- k-diffusion: only its file of samplers is loaded, since its package imports what trains image models


def k_diffusion_sampling() -> Any:
    spec = importlib.util.find_spec("k_diffusion")
    package: Any = types.ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations or []) if spec else []
    transforms: Any = types.ModuleType("torchvision.transforms")
    transforms.functional = transforms
    stand_ins = {"k_diffusion": package, "torchvision": transforms, "torchvision.transforms": transforms}
    stand_ins = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module("k_diffusion.sampling")
    finally:
        for name in stand_ins:
            del sys.modules[name]


def k_diffusion_peers() -> dict[str, Peer]:
    sampling = k_diffusion_sampling()
    grids = {
        "karras": lambda n: sampling.get_sigmas_karras(n, 0.002, 80.0),
        "exponential": lambda n: sampling.get_sigmas_exponential(n, 0.002, 80.0),
    }
    steps = {  # evaluations -> steps
        "euler": lambda n: n,
        "lms": lambda n: n,
        "dpmpp_2m": lambda n: n,
        "heun": lambda n: (n + 1) // 2,
        "dpm_2": lambda n: (n + 1) // 2,
    }

    def peer(name: str, grid: str) -> Peer:
        def solve(problem: Problem, calls: int) -> Tensor:
            sigmas = grids[grid](steps[name](calls)).double()
            sampler = getattr(sampling, f"sample_{name}")
            model = lambda x, sigma: problem.denoise(x, sigma[0].item())  # noqa: E731
            return sampler(model, problem.at(sigmas[0].item()), sigmas, disable=True)

        return solve

    def fast(problem: Problem, calls: int) -> Tensor:
        model = lambda x, sigma: problem.denoise(x, sigma[0].item())  # noqa: E731
        return sampling.sample_dpm_fast(model, problem.at(80.0), 0.002, 80.0, calls, disable=True, eta=0.0)

    return {f"{name} {grid}": peer(name, grid) for name in steps for grid in grids} | {"dpm_fast": fast}


# --- flow_matching: torchdiffeq's fixed steps on the straight path, its clock tau = 1 - t


def flow_matching_peers() -> dict[str, Peer]:
    from flow_matching.solver import ODESolver

    stages = {"euler": 1, "midpoint": 2, "heun3": 3, "rk4": 4}

    def peer(method: str) -> Peer:
        def solve(problem: Problem, calls: int) -> Tensor:
            def velocity(x: Tensor, t: Tensor) -> Tensor:
                tau = t.item()
                far = tau < 1e-9
                x0 = problem.denoise(x / (1e-9 if far else tau), 1e9 if far else (1 - tau) / tau)
                return x0 - (x - tau * x0) / (1 - tau) if tau < 1 else torch.zeros_like(x)

            steps = calls // stages[method]
            grid = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
            start = problem.at(float("inf"))
            return ODESolver(velocity).sample(start, step_size=None, method=method, time_grid=grid)

        return solve

    return {method: peer(method) for method in stages}
