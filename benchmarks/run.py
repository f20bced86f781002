"""Measures of speed, each a ratio within one run: `make bench`, or `python benchmarks/run.py`.

One thread, processor time, medians over alternating repetitions. Prints a table and writes `_build/bench.json`.
A peer that is not installed is named and left out.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"

import torch

import ddpm_lite as dl
from ddpm_lite.nets.mlp import MLP

REPETITIONS = 5
RESULT = Path(__file__).parents[1] / "_build" / "bench.json"


def processor_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def ratio(ours: Callable[[], object], theirs: Callable[[], object]) -> float:
    """Median over repetitions of processor time ours / theirs, the two in turn after a warm-up of each."""
    ours(), theirs()
    return statistics.median(processor_seconds(ours) / processor_seconds(theirs) for _ in range(REPETITIONS))


def import_seconds() -> float:
    """Median wall time of `import ddpm_lite` in a new process in which torch is imported already."""
    code = "import torch, time; t = time.perf_counter(); import ddpm_lite; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(REPETITIONS)]
    return statistics.median(float(run.stdout) for run in runs)


def training_ratio(steps: int = 300, batch: int = 256) -> float:
    """`fit` with `matching_loss`, EMA and data loading, against a bare loop on fixed tensors."""
    data, path = dl.moons(10_000, generator=torch.Generator().manual_seed(0)), dl.VP()
    net, bare = MLP(), MLP()
    ema = dl.EMA(net)

    def ours() -> None:
        dl.fit(lambda x: dl.matching_loss(net, path, x), net, dl.batches(data, batch), steps=steps, ema=ema)

    x, t, y = torch.randn(batch, 2), torch.rand(batch), torch.randn(batch, 2)
    optimiser = torch.optim.Adam(bare.parameters(), fused=True)

    def theirs() -> None:
        for _ in range(steps):
            optimiser.zero_grad()
            (bare(x, t) - y).square().mean().backward()
            optimiser.step()

    return ratio(ours, theirs)


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


def verdict(value: float, target: float | None) -> str:
    if target is None:
        return "no target"
    return f"target {target:.2f} {'reached' if value <= target else 'NOT reached'}"


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows: list[tuple[str, float, float | None]] = [
        ("import ddpm_lite, seconds beyond torch's own import", import_seconds(), 1.0),
        ("training a 3x128 MLP, processor time against a bare loop", training_ratio(), 1.10),
    ]
    if find_spec("diffusers"):
        rows.append(("DDIM, 100 steps, processor time against diffusers", sampling_ratio(), None))
    else:
        print("diffusers: NOT RUN, not installed")
    for name, value, target in rows:
        print(f"{name:<60} {value:8.3f}   {verdict(value, target)}")
    machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    result = {
        "machine": machine | {"torch": torch.__version__, "threads": 1},
        "rows": [dict(zip(("name", "value", "target"), row, strict=True)) for row in rows],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {RESULT}")


if __name__ == "__main__":
    main()
