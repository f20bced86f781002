"""Speed of training: steps of the package and of its peers on toy data, as multiples of a bare loop.

The bare loop is forward, mean square, backward and fused Adam of the same network on fixed tensors, without clipping
or an average of the weights. Every other loop draws a batch of 256 from data in memory, times and noise, and takes the
same step; the package's own also clips and averages unless its name says not. One thread, processor time; a loop and
the bare one are timed in turn, in many short rounds, and the median of their ratios counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any
from unittest import mock

import torch
import tqdm
from torch import Tensor, nn

import ddpm_lite as dl
from ddpm_lite.nets import MLP

BATCH, STEPS, ROUNDS = 256, 50, 41

Loop = Callable[[], object]  # takes STEPS optimiser steps


def rows() -> list[dict[str, Any]]:
    """One row a loop: name, value (multiple of the bare loop), target (None for none), unit."""
    torch.manual_seed(0)
    data = dl.moons(10_000)
    flow, vp = (dl.RectifiedFlow(), "velocity"), (dl.VP(), "eps")
    loops: dict[str, tuple[Loop, float | None]] = {
        "flow matching": (ours(data, *flow), 1.10),
        "noise prediction on VP": (ours(data, *vp), 1.10),
        "flow matching, no clipping, no average": (ours(data, *flow, extras=False), None),
        "noise prediction on VP, no clipping, no average": (ours(data, *vp, extras=False), None),
        "fit alone, on fixed tensors": (fit_alone(), None),
        "flow matching with OT coupling": (ours(data, *flow, coupled=True), 2.00),
    }
    loops |= {name: (loop, None) for name, loop in peers(data).items()}
    with quiet():
        return [
            {"name": f"training: {name}", "value": ratio(loop, bare()), "target": target, "unit": "x a bare loop"}
            for name, (loop, target) in loops.items()
        ]


@contextmanager
def quiet() -> Iterator[None]:
    """One thread, and no progress bars: they would be timed too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with mock.patch("tqdm.tqdm", partial(tqdm.tqdm, disable=True)):
            yield
    finally:
        torch.set_num_threads(threads)


def ratio(loop: Loop, base: Loop) -> float:
    """The median over rounds of processor time loop / base, after a warm-up of each."""
    loop(), base()
    return statistics.median(processor_seconds(loop) / processor_seconds(base) for _ in range(ROUNDS))


def processor_seconds(loop: Loop) -> float:
    start = time.process_time()
    loop()
    return time.process_time() - start


def bare() -> Loop:
    x, t, y = torch.randn(BATCH, 2), torch.rand(BATCH), torch.randn(BATCH, 2)
    net = MLP()
    return steps(net, lambda: (net(x, t) - y).square().mean())


def steps(net: nn.Module, loss: Callable[[], Tensor]) -> Loop:
    """The usual loop around a loss."""
    optimiser = torch.optim.Adam(net.parameters(), fused=True)

    def loop() -> None:
        for _ in range(STEPS):
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()

    return loop


def ours(data: Tensor, path: dl.Path, kind: dl.Kind, *, extras: bool = True, coupled: bool = False) -> Loop:
    net = MLP()
    batches = dl.batches(data, BATCH)

    def loss(x0: Tensor) -> Tensor:
        x1 = dl.ot_couple(x0, torch.randn_like(x0)) if coupled else None
        return dl.matching_loss(net, path, x0, kind=kind, x1=x1)

    if not extras:
        return lambda: dl.fit(loss, net, batches, steps=STEPS, clip=None)
    ema = dl.EMA(net)
    return lambda: dl.fit(loss, net, batches, steps=STEPS, ema=ema)


def fit_alone() -> Loop:
    """What `fit` itself costs, with clipping and average: the bare loss in it."""
    x, t, y = torch.randn(BATCH, 2), torch.rand(BATCH), torch.randn(BATCH, 2)
    net = MLP()
    ema = dl.EMA(net)
    return lambda: dl.fit(lambda _: (net(x, t) - y).square().mean(1), net, [x] * STEPS, steps=STEPS, ema=ema)


def peers(data: Tensor) -> dict[str, Loop]:
    """The training step that each installed peer documents, on batches of random rows of the data."""
    makers = {"flow_matching": [flow_matching], "torchcfm": [torchcfm, torchcfm_ot], "diffusers": [diffusers]}
    return {
        make.__name__.replace("_ot", " with OT coupling"): make(data)
        for library, makes in makers.items()
        if find_spec(library)
        for make in makes
    }


def batch_of(data: Tensor) -> Tensor:
    return data[torch.randint(len(data), (BATCH,))]


def flow_matching(data: Tensor) -> Loop:
    from flow_matching.path import AffineProbPath
    from flow_matching.path.scheduler import CondOTScheduler

    net, path = MLP(), AffineProbPath(scheduler=CondOTScheduler())

    def loss() -> Tensor:
        x_1 = batch_of(data)
        x_0, t = torch.randn_like(x_1), torch.rand(BATCH)
        sample = path.sample(t=t, x_0=x_0, x_1=x_1)
        return (net(sample.x_t, sample.t) - sample.dx_t).square().mean()

    return steps(net, loss)


def torchcfm(data: Tensor) -> Loop:
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher

    return torchcfm_loop(data, ConditionalFlowMatcher(sigma=0.0))


def torchcfm_ot(data: Tensor) -> Loop:
    from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher

    return torchcfm_loop(data, ExactOptimalTransportConditionalFlowMatcher(sigma=0.0))


def torchcfm_loop(data: Tensor, matcher: Any) -> Loop:
    net = MLP()

    def loss() -> Tensor:
        x1 = batch_of(data)
        t, xt, ut = matcher.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
        return (net(xt, t) - ut).square().mean()

    return steps(net, loss)


def diffusers(data: Tensor) -> Loop:
    from diffusers import DDPMScheduler

    net, scheduler = MLP(), DDPMScheduler()

    def loss() -> Tensor:
        x = batch_of(data)
        noise, i = torch.randn_like(x), torch.randint(len(scheduler), (BATCH,))
        return nn.functional.mse_loss(net(scheduler.add_noise(x, noise, i), i / len(scheduler)), noise)

    return steps(net, loss)


if __name__ == "__main__":
    for row in rows():
        print(f"{row['name']:<60} {row['value']:7.3f} {row['unit']}  target {row['target']}")
