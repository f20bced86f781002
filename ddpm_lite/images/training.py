"""Train an image model, on a laptop or on many machines, so that it can be stopped at any moment.

Every process draws the whole batch from numbers that the seed and the step alone decide, and keeps its part: a run that
is resumed, or that has more processes, sees the same images, times and noise.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn

from ..couplings import ot_couple
from ..losses import matching_loss
from ..rng import derived_seed, randn_like
from ..train import EMA, replace_file
from .checkpoints import Format, Trained, last_good, prune, read_state, write_state
from .config import Config, make_network, to_dict
from .data import Images, as_float, flips, load, shifts
from .record import Record

if TYPE_CHECKING:
    from accelerate import Accelerator
    from PIL.Image import Image
    from tqdm import tqdm

__all__ = ["Glance", "Interrupted", "Part", "draw", "train"]

ORDER, STEP, DROPOUT = range(3)  # what a seed is for


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; its state is on disk."""


class Glance(NamedTuple):
    """How far a run has come: numbers by name, and a sheet of samples."""

    measures: dict[str, float]
    sheet: Image


class Part(NamedTuple):
    """What is learned from in one step: data, its noise, its times, and labels where the network has classes."""

    x0: Tensor  # (B, C, H, W) in [-1, 1]
    x1: Tensor  # (B, C, H, W)
    t: Tensor  # (B,)
    cond: Tensor | None  # (B,)

    def split(self, n: int) -> list[Part]:
        """Return n equal parts, in order."""
        pieces = [[None] * n if value is None else value.chunk(n) for value in self]
        return [Part(*piece) for piece in zip(*pieces, strict=True)]


def train(
    config: Config,
    folder: str | Path,
    *,
    images: Images | None = None,
    save_every: int = 1000,
    log_every: int = 50,
    keep: int = 3,
    look: Callable[[Trained], Glance] | None = None,
) -> Path:
    """Train until config.steps, from the last good state in the folder if there is one; return the last state's file.

    The folder gets run.json, log.csv, a log for TensorBoard and the last `keep` states, one every save_every steps.
    images: in place of config.data's. look(trained): called in the main process with the averaged network after each
    state; its numbers go into metrics.csv and TensorBoard, its sheet into samples/.
    On a CPU a run that is stopped and resumed gives the same numbers, bit for bit, as one that is not.
    Raises Interrupted after SIGINT or SIGTERM, when the step in progress is done and saved; FloatingPointError when the
    loss is not finite; MemoryError when a batch does not fit; OSError when the disk is full; CheckpointError when the
    folder holds another run; ValueError when the batch cannot be dealt. The last good state stays in the folder.

    Book: ch. 17
    """
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision="bf16" if config.bf16 else "no")
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # weights and dropout draw from torch's own numbers
        run = _Run.start(config, Path(folder), accelerator, images)
        _advance_to_the_end(run, save_every, log_every, keep, look)
    accelerator.wait_for_everyone()
    path, _ = last_good(run.folder)
    assert path is not None
    return path


def _advance_to_the_end(
    run: _Run, save_every: int, log_every: int, keep: int, look: Callable[[Trained], Glance] | None
) -> None:
    config = run.config
    with _stop_signals() as asked, run.bar() as bar:
        for step in range(run.done, config.steps):
            run.advance(step)
            bar.update()
            due = [(step + 1) % every == 0 for every in (log_every, save_every)]
            stop = run.agree(asked, due[0]) or step + 1 == config.steps
            if stop or any(due):
                bar.set_postfix_str(run.write_log(step))
            if stop or due[1]:
                run.save(step + 1, keep, look)
            if stop and step + 1 < config.steps:
                raise Interrupted(
                    f"stopped after step {step + 1} of {config.steps}; the same command goes on from there"
                )


def draw(images: Images, config: Config, step: int) -> Part:
    """Return the whole batch of a step: it depends on the seed and the step, on nothing else.

    The images come in an endless row of permutations, so that all are seen equally often.
    """
    device = images.pixels.device
    generator = Generator(device).manual_seed(derived_seed(config.seed, STEP, step))
    position = np.arange(step * config.batch, (step + 1) * config.batch)
    rounds, place = np.divmod(position, len(images))
    index = np.concatenate([_order(len(images), config.seed, int(r))[place[rounds == r]] for r in np.unique(rounds)])
    chosen = torch.from_numpy(index).to(device)
    pixels = images.pixels[chosen]
    if config.flip:
        pixels = flips(pixels, generator=generator)
    if config.shift:
        pixels = shifts(pixels, config.shift, generator=generator)
    x0 = as_float(pixels, images.levels)
    x1 = randn_like(x0, generator=generator)
    t = config.draw_times()(len(x0), generator=generator, dtype=x0.dtype, device=device)
    cond = _labels(images, config, chosen, generator)
    return Part(x0, ot_couple(x0, x1) if config.coupling == "ot" else x1, t, cond)


def _labels(images: Images, config: Config, chosen: Tensor, generator: Generator) -> Tensor | None:
    """The labels of the chosen images, some of them replaced by "no class"."""
    classes = config.network.classes
    if not classes:
        return None
    if images.labels is None or int(images.labels.max()) >= classes:
        raise ValueError(
            f"the network has {classes} classes, the data {len(images.classes)}: set network.classes to that"
        )
    dropped = torch.rand(len(chosen), generator=generator, device=chosen.device) < config.drop
    return images.labels[chosen].masked_fill(dropped, classes)


@lru_cache(maxsize=2)
def _order(n: int, seed: int, number: int) -> np.ndarray:
    return np.random.default_rng(derived_seed(seed, ORDER, number)).permutation(n)


@dataclass
class _Run:
    """A run in progress, in one of its processes."""

    config: Config
    folder: Path
    accelerator: Accelerator
    images: Images
    model: nn.Module  # as the loss calls it: compiled, and wrapped where there are several processes
    net: nn.Module  # the same weights, bare
    average: EMA
    adam: torch.optim.Adam
    done: int
    record: Record | None  # in the main process
    before: float  # seconds of earlier sessions
    started: float = field(default_factory=time.monotonic)
    losses: list[Tensor] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, config: Config, folder: Path, accelerator: Accelerator, images: Images | None) -> _Run:
        """Load the data, build the network and put the last good state into it."""
        if config.batch % (accelerator.num_processes * config.accumulate):
            raise ValueError(
                f"batch = {config.batch} cannot be dealt to {accelerator.num_processes} processes in "
                f"{config.accumulate} parts each: make it a multiple of both"
            )
        images = (images or load(config.data, size=config.size)).to(accelerator.device)
        torch.manual_seed(config.seed)
        net = make_network(config).to(accelerator.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        adam = torch.optim.Adam(net.parameters(), lr=config.lr, fused=True)
        average = EMA(net, config.ema)
        folder.mkdir(parents=True, exist_ok=True)
        done = _resume(config, folder, accelerator, net, average, adam)
        model = accelerator.prepare(torch.compile(net) if config.compile else net).train()
        with _disk(folder):
            record = Record(folder, done) if accelerator.is_main_process else None
        before = record.seconds() if record else 0.0
        return cls(config, folder, accelerator, images, model, net, average, adam, done, record, before)

    def advance(self, step: int) -> None:
        """One step of Adam on this process's part of the batch."""
        rank, count = self.accelerator.process_index, self.accelerator.num_processes
        torch.manual_seed(derived_seed(self.config.seed, DROPOUT, step * count + rank))
        for group in self.adam.param_groups:
            group["lr"] = self.config.rate(step)
        with _room(self.config):
            parts = draw(self.images, self.config, step).split(count)[rank].split(self.config.accumulate)
            loss = sum(self._backward(part, last=n + 1 == len(parts)) for n, part in enumerate(parts))
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
            self.adam.step()
            self.adam.zero_grad()
        self.average.update()
        self.losses.append(torch.as_tensor(loss))

    def _backward(self, part: Part, *, last: bool) -> Tensor:
        """Add the gradient of a part; the processes exchange gradients with the last part only."""
        path, kind = self.config.noise_path(), self.config.prediction()
        with nullcontext() if last else self.accelerator.no_sync(self.model):
            with self.accelerator.autocast():
                each = matching_loss(self.model, path, part.x0, kind=kind, t=part.t, x1=part.x1, cond=part.cond)
            loss = each.mean() / self.config.accumulate
            self.accelerator.backward(loss)
        return loss.detach()

    def agree(self, asked: list[int], due: bool) -> bool:
        """Tell whether to stop: with several processes all must leave the loop at the same step."""
        if self.accelerator.num_processes == 1:
            return bool(asked)
        if not due:
            return False
        flag = torch.tensor(float(bool(asked)), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def write_log(self, step: int) -> str:
        """Add a row to log.csv and return it as text; raises FloatingPointError where a loss is not finite."""
        losses = self.accelerator.reduce(torch.stack(self.losses), "mean").tolist()
        for number, value in enumerate(losses, step + 1 - len(losses)):
            if not math.isfinite(value):
                path, _ = last_good(self.folder)
                raise FloatingPointError(
                    f"the loss is {value} at step {number}. Lower lr (it is {self.config.lr:g}) or clip; the last good "
                    f"state is {path or 'none yet'}"
                )
        now, self.losses = time.monotonic(), []
        speed = len(losses) * self.config.batch / (now - self.since)
        self.since = now
        mean = sum(losses) / len(losses)
        if self.record:
            row = {
                "loss": mean,
                "lr": self.config.rate(step),
                "images_per_second": round(speed, 1),
                "seconds": round(self.before + now - self.started, 1),
            }
            with _disk(self.folder):
                self.record.add("log", step + 1, row)
        return f"loss {mean:.4f}, {speed:.0f} images/s"

    def save(self, step: int, keep: int, look: Callable[[Trained], Glance] | None) -> None:
        """Write the state, delete the oldest, and look at what the averaged network draws."""
        if not self.record:
            return
        with _disk(self.folder):
            write_state(self.folder, step, self.config, self.images, self.net, self.average, self.adam)
        prune(self.folder, keep)
        if look is not None:
            measures, sheet = look(Trained(self.average.model, self.config, Format.of(self.images)))
            with _disk(self.folder):
                self.record.add("metrics", step, measures)
                self.record.sheet(step, sheet)
        self.since = time.monotonic()

    def bar(self) -> tqdm:
        from tqdm import tqdm

        total, quiet = self.config.steps, not self.accelerator.is_main_process
        return tqdm(total=total, initial=self.done, unit="step", disable=quiet)


def _resume(
    config: Config, folder: Path, accelerator: Accelerator, net: nn.Module, average: EMA, adam: torch.optim.Adam
) -> int:
    """Read the last good state of a folder, name the damaged ones, and return the number of steps done."""
    path, damaged = last_good(folder)
    for sentence in damaged:
        accelerator.print(f"left out: {sentence}")
    if accelerator.is_main_process and path is None:
        replace_file(folder / "run.json", (json.dumps(to_dict(config), indent=2) + "\n").encode())
    done = 0 if path is None else read_state(path, config, net, average, adam)
    if path is not None:
        accelerator.print(f"going on from {path}")
    return done


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM instead of dying of it; the second one works as ever."""
    asked: list[int] = []
    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Say what to do where a file of the run cannot be written."""
    try:
        yield
    except OSError as error:
        path, _ = last_good(folder)
        raise OSError(
            f"a file of the run in {folder} could not be written ({error}): make room, then repeat the command. "
            f"It goes on from {path or 'the beginning'}"
        ) from error


@contextmanager
def _room(config: Config) -> Iterator[None]:
    """Say what to do where a step does not fit into memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise MemoryError(
            f"a step of batch = {config.batch} in {config.accumulate} parts does not fit into memory: try "
            f"accumulate={2 * config.accumulate}, or a smaller batch. The last good state is kept. ({error})"
        ) from error
