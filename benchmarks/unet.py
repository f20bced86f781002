"""The U-Net on a CPU: how near it comes to the speed of its convolutions, and the memory it takes.

The measure of speed is the best 3x3 convolution, forward and backward, over four widths, two resolutions and two
layouts of memory. A network's floating-point operations are counted, those of its attention too; its share is their
rate over that of the convolution, forward, mean square and backward. Batches of 32 images of 1x28x28, one thread,
processor time, each the best of several rounds in turn. Memory is what a process of three steps of Adam holds at its
highest, beyond what it held before it made the network. Our networks are in the layout that `ddpm-lite train` uses;
diffusers' UNet2DModel is in both, and the better one counts.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode
from training import processor_seconds

from ddpm_lite.nets import UNet, UNetConfig

BATCH, SIZE, ROUNDS = 32, 28, 5
WIDTHS, LAYOUTS = (32, 64, 128, 256), (torch.channels_last, torch.contiguous_format)
SHARE, MEMORY = 0.75, 200.0

Work = Callable[[], object]
Make = Callable[[], nn.Module]


def ours(width: int, multipliers: tuple[int, ...], channels: int = 1) -> nn.Module:
    """A U-Net with attention at its coarsest level."""
    return UNet(UNetConfig(channels, width, multipliers, attention=(len(multipliers) - 1,)))


class Diffusers(nn.Module):
    """UNet2DModel with the widths of a U-Net with levels 1 2 2, attention at the coarsest too."""

    def __init__(self, width: int, channels: int = 1, size: int = SIZE) -> None:
        from diffusers import UNet2DModel

        super().__init__()
        self.net = UNet2DModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=(width, 2 * width, 2 * width),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            attention_head_dim=min(32, 2 * width),
            norm_num_groups=min(32, width),
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, 1000 * t).sample


# name -> how it is made, and whether the targets are for it: they are for width 64 and more
NETWORKS: dict[str, tuple[Make, bool]] = {
    "U-Net, width 24, levels 1 2 4": (partial(ours, 24, (1, 2, 4)), False),
    "U-Net, width 32, levels 1 2": (partial(ours, 32, (1, 2)), False),
    "U-Net, width 64, levels 1 2 2": (partial(ours, 64, (1, 2, 2)), True),
    "U-Net, width 128, levels 1 2 2": (partial(ours, 128, (1, 2, 2)), True),
    "diffusers, width 64, levels 1 2 2": (partial(Diffusers, 64), False),
}


def rows() -> list[dict[str, Any]]:
    """The best convolution's rate, then each network's share of it and its memory."""
    convolutions = [convolution(c, s, layout) for c in WIDTHS for s in (SIZE, SIZE // 2) for layout in LAYOUTS]
    passes = {name: network_passes(name) for name in NETWORKS if find_spec("diffusers") or "U-Net" in name}
    rate = rates([*convolutions, *chain(*passes.values())])
    best = max(rate[work] for work in convolutions)
    found = [row("best 3x3 convolution, forward and backward", best / 1e9, None, "GFLOP/s")]
    for name, works in passes.items():
        make, wanted = NETWORKS[name]
        millions = sum(p.numel() for p in make().parameters()) / 1e6
        share, title = max(rate[work] for work in works) / best, f"{name}, {millions:.2f} M parameters"
        memory = row(f"{title}: MiB a million at most", peak(name) / millions, MEMORY if wanted else None)
        found += [row(f"{title}: share of that rate", share, SHARE if wanted else None) | {"at_least": True}, memory]
    return found


def row(name: str, value: float, target: float | None, unit: str = "") -> dict[str, Any]:
    return {"name": name, "value": value, "target": target, "unit": unit}


def convolution(width: int, size: int, layout: torch.memory_format) -> Work:
    """A 3x3 convolution between `width` channels, forward and backward."""
    x, y = (torch.randn(BATCH, width, size, size).to(memory_format=layout) for _ in range(2))
    kernel = torch.randn(width, width, 3, 3).to(memory_format=layout).requires_grad_()
    x.requires_grad_()
    return lambda: torch.autograd.grad(conv2d(x, kernel, padding=1), [x, kernel], y)


def network_passes(name: str) -> list[Work]:
    """Forward, mean square and backward; ours in the first layout, a peer in both."""
    return [network_pass(NETWORKS[name][0](), layout) for layout in LAYOUTS[: 1 if "U-Net" in name else 2]]


def network_pass(net: nn.Module, layout: torch.memory_format) -> Work:
    net = net.to(memory_format=layout)  # type: ignore[call-overload]
    for p in net.parameters():  # a network that starts at 0 would multiply zeros
        nn.init.normal_(p, std=0.02)
    x, t = torch.randn(BATCH, 1, SIZE, SIZE).to(memory_format=layout), torch.rand(BATCH)

    def work() -> None:
        net.zero_grad()
        net(x, t).square().mean().backward()

    return work


def rates(works: list[Work]) -> dict[Work, float]:
    """Floating-point operations a second of each, the best of rounds in which all take turns."""
    counts = {work: operations(work) for work in works}  # also the warm-up
    seconds = [{work: processor_seconds(work) for work in works} for _ in range(ROUNDS)]
    return {work: counts[work] / min(each[work] for each in seconds) for work in works}


def operations(work: Work) -> int:
    """Floating-point operations of convolutions and matrix products, attention written out as such."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def peak(name: str) -> float:
    """MiB that a process of its own holds at its highest, in training, beyond those of an empty one."""
    run = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
    return float(run.stdout)


def measure_peak(name: str) -> float:
    network_pass(ours(8, (1,)), LAYOUTS[0])()  # loads what any network needs
    before = resident("VmRSS")
    net = NETWORKS[name][0]()
    work, optimiser = network_pass(net, LAYOUTS[0]), torch.optim.Adam(net.parameters(), fused=True)
    for _ in range(3):
        work()
        optimiser.step()
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """VmRSS, the MiB of memory that this process holds, or VmHWM, the most that it has held; on Linux."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(measure_peak(sys.argv[1]))
