"""Small costs: the import, and a step of a sampler beside diffusers'."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Any

import torch
from training import find_spec, processor_seconds, ratio

import ddpm_lite as dl
from ddpm_lite.nets import MLP

REPETITIONS = 5


def rows() -> list[dict[str, Any]]:
    found = [row("import ddpm_lite, beyond torch's own import", import_seconds(), 1.0, "s")]
    if find_spec("diffusers"):
        found.append(row("DDIM, 100 steps, processor time", sampling_ratio(), None, "x diffusers'"))
    found += [row(f"ot_couple of {n} pairs, processor time", coupling_ms(n), None, "ms") for n in (64, 256, 1024)]
    return found


def coupling_ms(pairs: int) -> float:
    """Median processor time of `ot_couple` on moons and noise, in milliseconds."""
    batches = dl.batches(dl.moons(20_000), pairs)
    times = [processor_seconds(lambda: dl.ot_couple(next(batches), torch.randn(pairs, 2))) for _ in range(21)]
    return 1e3 * statistics.median(times)


def row(name: str, value: float, target: float | None, unit: str) -> dict[str, Any]:
    return {"name": name, "value": value, "target": target, "unit": unit}


def import_seconds() -> float:
    """Median wall time of `import ddpm_lite` in a new process in which torch is imported already."""
    code = "import torch, time; t = time.perf_counter(); import ddpm_lite; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(REPETITIONS)]
    return statistics.median(float(run.stdout) for run in runs)


def sampling_ratio(steps: int = 100, batch: int = 256) -> float:
    """`ddim_step` folded over a grid, against diffusers' DDIMScheduler, with one network."""
    from diffusers import DDIMScheduler

    net, path = MLP().eval(), dl.BetaTable(dl.linear_betas())
    den, x = dl.Denoiser(net, path), torch.randn(batch, 2)
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False)
    scheduler.set_timesteps(steps)

    @torch.no_grad()
    def theirs() -> None:
        state = x
        for i in scheduler.timesteps:
            state = scheduler.step(net(state, (i / 1000).expand(batch)), i, state).prev_sample

    return ratio(lambda: dl.sample(dl.ddim_step, den, path, x, dl.linear_ts(steps)), theirs)
