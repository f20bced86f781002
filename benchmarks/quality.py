"""Quality of samples on toy data after a short training with the package's defaults.

5,000 steps of 256 points, an `MLP` of 37,762 parameters, 50 evaluations a sample. The distance of 10,000 samples to
10,000 fresh points is the energy distance, in multiples of the floor: that of data to the same fresh points, the mean
of four draws.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import ddpm_lite as dl
from ddpm_lite.nets import MLP

TOYS = (dl.moons, dl.eight_gaussians, dl.checkerboard, dl.swiss_roll)
STEPS, BATCH, EVALUATIONS, POINTS, DATA = 5_000, 256, 50, 10_000, 100_000

Rate = float | Callable[[float], float]
Toy = Callable[..., Tensor]


def rows(seeds: Sequence[int] = (0, 1, 2)) -> list[dict[str, Any]]:
    """One row a recipe: name, value (geometric mean over toys and seeds), target, unit, parts (a mean a toy)."""
    flow, vp = (dl.RectifiedFlow(), "velocity"), (dl.VP(), "eps")
    found = [
        row("flow matching", seeds, *flow, 1e-3, 3.2),
        row("noise prediction on VP", seeds, *vp, 1e-3, 3.2),
        row("flow matching, rate falling from 4e-3 to 0", seeds, *flow, lambda done: 4e-3 * (1 - done), None),
    ]
    return found


def row(
    name: str, seeds: Sequence[int], path: dl.Path, kind: dl.Kind, lr: Rate, target: float | None
) -> dict[str, Any]:
    parts = {toy.__name__: mean([excess(toy, seed, path, kind, lr) for seed in seeds]) for toy in TOYS}
    value = mean([*parts.values()])
    return {"name": f"quality: {name}", "value": value, "target": target, "unit": "x the floor", "parts": parts}


def mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def excess(toy: Toy, seed: int, path: dl.Path, kind: dl.Kind, lr: Rate) -> float:
    """The distance of the recipe's samples to fresh data, in multiples of the floor."""
    generator = torch.Generator().manual_seed(1_000 + seed)
    fresh = toy(POINTS, generator=generator)
    floor = sum(dl.energy_distance(toy(POINTS, generator=generator), fresh) for _ in range(4)) / 4
    return dl.energy_distance(recipe(toy, seed, path, kind, lr), fresh) / floor


def recipe(toy: Toy, seed: int, path: dl.Path, kind: dl.Kind, lr: Rate) -> Tensor:
    """Train and sample as a reader would."""
    torch.manual_seed(seed)
    data, net = toy(DATA), MLP()
    ema = dl.EMA(net)
    dl.fit(
        lambda x: dl.matching_loss(net, path, x, kind=kind), net, dl.batches(data, BATCH), steps=STEPS, lr=lr, ema=ema
    )
    den = dl.Denoiser(ema.model, path, kind)
    return dl.last(dl.dpmpp_2m(den, path, path.prior((POINTS, 2)), dl.linear_ts(EVALUATIONS)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds")
    for one in rows(range(parser.parse_args().seeds)):
        parts = "  ".join(f"{toy} {value:.2f}" for toy, value in one["parts"].items())
        print(f"{one['name']:<60} {one['value']:6.2f} {one['unit']}  target {one['target']}   {parts}")
