"""What needs a GPU: speed and share of its peak in bf16, then a Fashion-MNIST model and its Frechet distance.

One command, `python benchmarks/gpu.py`, writes `benchmarks/gpu.json`. `--smoke` runs every part on tiny sizes, on
a processor too: that proves the script, and its numbers mean nothing.

A step is forward under bf16 autocast, mean square, backward and fused Adam, on fixed tensors. It is run as it is
("eager"), as one CUDA graph ("graph"), with torch.compile, and with torch.compile's own graphs. The peak is the rate of
the best bf16 matrix product in this run; the data sheet's, for dense matrices, stands beside it where it is known. Then
`ddpm-lite train` and `ddpm-lite evaluate` run as a user runs them, on the files that `ddpm-lite data fashion` finds.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from unet import Diffusers, operations, ours

from ddpm_lite.images.config import PRESETS
from ddpm_lite.nets import DiT, DiTConfig, UNet

# dense bf16, operations a second, from NVIDIA's data sheets of the SXM modules
STATED = {"H100 80GB HBM3": 989.4e12, "H200": 989.4e12, "A100": 312e12}
COUNTED = 2  # images in the step whose operations are counted

Work = Callable[[], object]
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is measured: images a step, rounds of so many seconds, networks, and the words of the two commands."""

    batch: int
    rounds: int
    seconds: float
    product: int
    shapes: tuple[tuple[int, int], ...]  # channels, height and width
    width: int
    transformer: DiTConfig
    preset: bool  # also the network of the preset cifar10
    train: str
    evaluate: str


FULL = Sizes(
    batch=512,
    rounds=5,
    seconds=2.0,
    product=8192,
    shapes=((1, 28), (3, 32)),
    width=128,
    transformer=DiTConfig(width=384, depth=12, heads=6),
    preset=True,
    train="fashion --steps 20000 --set batch=512 --set bf16=true --set compile=true --save-every 5000"
    " --set network.width=64 --set network.multipliers=[1,2,2]",
    evaluate="--n 10000 --bits 64",
)
SMOKE = Sizes(
    batch=2,
    rounds=1,
    seconds=0.01,
    product=64,
    shapes=((3, 8),),
    width=8,
    transformer=DiTConfig(width=16, depth=1, heads=2),
    preset=False,
    train="digits --steps 1 --set batch=2 --set network.width=8 --set bf16=true --no-watch",
    evaluate="--n 20 --steps 1 --bits 0",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, on a processor too")
    parser.add_argument("--output", type=Path, help="the file of results; default: gpu.json, or gpu_smoke.json")
    parser.add_argument(
        "--runs", type=Path, help="the folder of the trained model; default: runs/gpu or runs/gpu_smoke"
    )
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.smoke:
        raise SystemExit("This needs a GPU, and torch.cuda finds none. --smoke runs it on tiny sizes anywhere.")
    name, sizes = ("gpu_smoke", SMOKE) if options.smoke else ("gpu", FULL)
    measure(
        sizes,
        "cuda" if torch.cuda.is_available() else "cpu",
        options.output or Path(__file__).with_name(f"{name}.json"),
        options.runs or Path("runs") / name,
    )


def measure(sizes: Sizes, device: str, output: Path, folder: Path) -> None:
    """All parts in turn; the file is written after each row."""
    result: dict[str, Any] = machine(device) | {"batch": sizes.batch, "product": product_rate(sizes, device)}
    result["speed"] = []
    for row in speeds(sizes, device, result["product"], result["stated"]):
        print(row, flush=True)
        result["speed"].append(row)
        save(result, output)
    result["model"] = trained(sizes, folder)
    save(result, output)
    print(result["model"], f"written: {output}", sep="\n")


def save(result: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def machine(device: str) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    stated = next((rate for part, rate in STATED.items() if part in name), None)
    return {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "stated": stated}


def product_rate(sizes: Sizes, device: str) -> float:
    """Operations a second of the best square bf16 matrix product."""
    rates = []
    for n in (sizes.product // 2, sizes.product):
        a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
        rates.append(2 * n**3 / seconds_of(partial(torch.matmul, a, b), sizes, device))
    return max(rates)


def seconds_of(work: Work, sizes: Sizes, device: str) -> float:
    """Seconds a call: the median of rounds, each of as many calls as fit into its time."""

    def spent(count: int) -> float:
        synchronise(device)
        start = time.perf_counter()
        for _ in range(count):
            work()
        synchronise(device)
        return (time.perf_counter() - start) / count

    spent(sizes.rounds)
    count = max(1, int(sizes.seconds / spent(1)))
    return statistics.median(spent(count) for _ in range(sizes.rounds))


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def speeds(sizes: Sizes, device: str, product: float, stated: float | None) -> Iterator[Row]:
    """A row for each network and variant: images a second, and shares of the two peaks; or how it failed."""
    for channels, size in sizes.shapes:
        for name, make in networks(sizes, channels, size).items():
            net = make().to(device)
            each = operations(training_step(net, net, *batch_of(COUNTED, channels, size, device))) / COUNTED
            row: Row = {"network": name, "shape": [channels, size, size]}
            row |= {"parameters": sum(p.numel() for p in net.parameters()), "operations_an_image": each}
            for variant in variants(device):
                try:
                    step = prepared(variant, make().to(device), batch_of(sizes.batch, channels, size, device))
                    rate = sizes.batch / seconds_of(step, sizes, device)
                except RuntimeError as error:  # also out of memory, and what a compiler refuses
                    yield row | {"variant": variant, "failed": str(error)[:500]}
                    continue
                shares = {"of_product": rate * each / product, "of_stated": stated and rate * each / stated}
                yield row | {"variant": variant, "images_a_second": rate, **shares}


def networks(sizes: Sizes, channels: int, size: int) -> dict[str, Callable[[], nn.Module]]:
    made: dict[str, Callable[[], nn.Module]] = {
        "U-Net": lambda: ours(sizes.width, (1, 2, 2), channels),
        "DiT": lambda: DiT(dataclasses.replace(sizes.transformer, channels=channels)),
    }
    preset = dataclasses.replace(PRESETS["cifar10"].network, classes=0)
    if sizes.preset and channels == preset.channels:
        made["U-Net of the preset cifar10"] = lambda: UNet(preset)  # type: ignore[arg-type]
    if find_spec("diffusers"):
        made["diffusers UNet2DModel"] = lambda: Diffusers(sizes.width, channels, size)
    return made


def variants(device: str) -> tuple[str, ...]:
    return ("eager", "graph", "compile", "compile, graphs") if device == "cuda" else ("eager", "compile")


def prepared(variant: str, net: nn.Module, batch: tuple[Tensor, Tensor]) -> Work:
    """The training step of a network in the layout of `ddpm-lite train`, in one of the variants."""
    release()
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not variant.startswith("compile"):
        step = training_step(net, net, *batch)
        return graphed(step) if variant == "graph" else step
    how: dict[str, str] = {"mode": "reduce-overhead"} if "graphs" in variant else {}
    backend = "inductor" if batch[0].is_cuda else "eager"  # a processor would need a C++ compiler
    return training_step(torch.compile(net, backend=backend, **how), net, *batch)  # type: ignore[call-overload]


def release() -> None:
    """Forget what was compiled, and give the GPU's memory back for others to use."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def batch_of(n: int, channels: int, size: int, device: str) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, channels, size, size, device=device).to(memory_format=torch.channels_last)
    return x, torch.rand(n, device=device)


def training_step(model: Callable[..., Tensor], net: nn.Module, x: Tensor, t: Tensor) -> Work:
    adam = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True, capturable=x.is_cuda)

    def step() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):  # a graph must not meet a cached cast
            loss = model(x, t).float().square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    return step


def graphed(step: Work) -> Work:
    """The step as one CUDA graph, after a warm-up on a stream of its own, as torch's documentation asks."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def trained(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Train and evaluate by the command line; the commands, the speed that the log states, and the measures."""
    release()
    measures = folder / "measures.json"
    commands = [
        ["ddpm_lite", "train", *sizes.train.split(), "--output", str(folder)],
        ["ddpm_lite", "evaluate", str(folder), *sizes.evaluate.split(), "--output", str(measures)],
    ]
    for command in commands:
        subprocess.run([sys.executable, "-m", *command], check=True)
    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        log = list(csv.DictReader(file))
    speed = statistics.median(float(row["images_per_second"]) for row in log)
    found = json.loads(measures.read_text(encoding="utf-8"))
    return {"commands": [" ".join(c) for c in commands], "images_a_second": speed, "measures": found}


if __name__ == "__main__":
    main()
