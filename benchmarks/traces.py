"""Processor time of one training step of three score-matching losses against the number of dimensions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

import ddpm_lite as dl

DIMS, WIDTH, BATCH, REPEATS = (16, 32, 64, 128, 256, 512), 512, 8, 3
Loss = Callable[[nn.Module, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "implicit": dl.implicit_sm,
    "sliced": dl.sliced_sm,
    "denoising": lambda net, x: dl.denoising_sm(net, x, sigma=0.5),
}


def network(dim: int) -> nn.Module:
    layers = (nn.Linear(dim, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, dim))
    return nn.Sequential(*layers)


def seconds(loss: Loss, dim: int) -> float:
    """Of a step, loss and gradient: the least of a few."""
    net, x, runs = network(dim), torch.randn(BATCH, dim, generator=torch.Generator().manual_seed(0)), []
    for _ in range(REPEATS):
        start = time.process_time()
        loss(net, x).mean().backward()
        runs.append(time.process_time() - start)
    return min(runs)


def multiplications(dim: float) -> float:
    """Of the implicit loss, up to a factor: D passes through layers of D x WIDTH, WIDTH x WIDTH and WIDTH x D."""
    return dim * (WIDTH**2 + 2 * WIDTH * dim)


def dimensions_of(count: float) -> float:
    """Return the D that has this number of multiplications."""
    return (math.sqrt(WIDTH**4 + 8 * WIDTH * count) - WIDTH**2) / (4 * WIDTH)


def rows() -> list[dict]:
    torch.set_num_threads(1)
    found = []
    for name, loss in LOSSES.items():
        times = [seconds(loss, dim) for dim in DIMS]
        power, _ = np.polyfit(np.log(DIMS), np.log(times), 1)
        label = f"{name} score matching, batch of {BATCH}, hidden layers of {WIDTH}"
        found += [
            {"name": f"{label}: a step at D = {DIMS[-1]}", "value": 1000 * times[-1], "target": None, "unit": "ms"},
            {"name": f"{label}: power of D, from {DIMS[0]} to {DIMS[-1]}", "value": power, "target": None},
        ]
        if name == "implicit":
            minute = dimensions_of(60.0 / times[-1] * multiplications(DIMS[-1]))
            found.append({"name": f"{label}: D of a minute, by multiplications", "value": minute, "target": None})
    return found


if __name__ == "__main__":
    for row in rows():
        print(f"{row['name']}: {row['value']:.3g} {row.get('unit', '')}")
