"""The training loop: one function, a moving average of the weights, batches of a tensor, and files.

Nothing here knows what is learned: the loss is a closure over a network, such as `lambda x:
matching_loss(net, path, x)`.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

__all__ = ["EMA", "batches", "fit", "load", "save"]

_INTERVAL = 100  # steps between two readings of the loss on an accelerator, and between two texts of the bar


def fit(
    loss: Callable[[Any], Tensor],
    model: nn.Module,
    batches: Iterable[Any],
    *,
    steps: int,
    lr: float = 1e-3,
    ema: EMA | None = None,
    clip: float | None = 1.0,
    autocast: torch.dtype | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> list[float]:
    """Minimise the mean of a loss with Adam and return its value before each step.

    theta <- Adam(theta, g min(1, clip/|g|)), g = grad of mean over the batch of loss(batch).
    loss: batch -> (B,). batches: gives one batch a step. ema: updated after each step. clip: largest gradient
    norm, or None. autocast: torch.bfloat16 runs the loss in mixed precision. on_step(step, loss): called
    after step 0, 1, ... with the 0-d loss, detached; reading it on an accelerator waits for it.
    The model trains in train mode and is left in eval mode, ready to sample. Labels and other parts of a
    batch are moved by the closure. The progress bar needs tqdm; TQDM_DISABLE=1 in the environment hides it.
    Raises ValueError when batches end early or loss has no shape (B,), FloatingPointError when the loss is
    not finite.

    Source: Kingma and Ba, "Adam" (2015). Book: ch. 8
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters or steps < 1:
        raise ValueError(f"fit needs a model with parameters that require gradients and steps >= 1; got steps={steps}")
    optimiser = torch.optim.Adam(parameters, lr=lr, fused=True)
    device = parameters[0].device.type
    record = _Record(1 if device == "cpu" else _INTERVAL)
    model.train()
    for step, batch in _progress(batches, steps, record):
        with nullcontext() if autocast is None else torch.autocast(device, dtype=autocast):
            value = _batch_mean(loss(batch))
        record.add(value.detach())
        optimiser.zero_grad()
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimiser.step()
        if ema is not None:
            ema.update()
        if on_step is not None:
            on_step(step, value.detach())
    model.eval()
    return record.read()


class EMA:
    """An exponential moving average of a model's parameters, in `.model`.

    update k = 0, 1, ...: average <- d_k average + (1 - d_k) parameters, d_k = min(decay, (1 + k)/(10 + k)),
    so that the first steps are soon forgotten. Buffers are copied. The average remembers about 1/(1 - decay)
    steps.
    Raises ValueError for a decay outside [0, 1).

    Source: Polyak and Juditsky (1992); the warm-up is TensorFlow's `ExponentialMovingAverage`. Book: ch. 8
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1); got {decay}. A usual value is 0.999.")
        self.decay = decay
        self.updates = 0
        self.source = model
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._average: list[Tensor] = [*self.model.parameters()]
        self._current: list[Tensor] = [*model.parameters()]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average one step towards the model's present parameters."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._average, self._current, 1 - decay)
        for mine, theirs in zip(self.model.buffers(), self.source.buffers(), strict=True):
            mine.copy_(theirs)
        self.updates += 1


def batches(data: Tensor | tuple[Tensor, ...], size: int, *, generator: Generator | None = None) -> Iterator[Any]:
    """Return an endless iterator over random batches of tensors that lie in memory.

    Each pass over the data is a new permutation, cut into whole batches; the rest of a pass is left out.
    data: (N, *), or a tuple of such with equal N, such as (images, labels). Gives (size, *), or a tuple, on
    the data's device. Raises ValueError for size outside 1..N, unequal N, or values that are not finite.

    Book: ch. 8
    """
    parts = (data,) if isinstance(data, Tensor) else tuple(data)
    n = len(parts[0]) if parts else 0
    if any(len(part) != n for part in parts) or not 1 <= size <= n:
        raise ValueError(
            f"size must be in 1..N for tensors of one length N; got size={size}, N={[len(p) for p in parts]}"
        )
    if any(part.is_floating_point() and not part.isfinite().all() for part in parts):
        raise ValueError("data holds values that are not finite. Remove these rows: data[data.isfinite().all(1)].")

    def endless() -> Iterator[Any]:
        device = parts[0].device if generator is None else generator.device
        while True:
            order = torch.randperm(n, generator=generator, device=device).to(parts[0].device)
            for index in order[: n - n % size].split(size):
                batch = tuple(part[index] for part in parts)
                yield batch[0] if isinstance(data, Tensor) else batch

    return endless()


def save(path: str | os.PathLike[str], model: nn.Module, config: Any) -> None:
    """Write a model's weights with its configuration inside, and the configuration once more for the eye.

    `path` (safetensors, no pickle) holds both, so that one rename puts them in place together; `path` with
    the ending .json is the readable copy and is not read back. Each file is written beside its place and
    renamed: a crash leaves the old file or the new one. config: a dict or dataclass of JSON values. Needs
    safetensors.
    Raises ValueError when the config cannot be written as JSON.

    Book: ch. 8
    """
    from safetensors.torch import save as to_bytes

    path = Path(path)
    fields = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config  # type: ignore[arg-type]
    try:
        text = json.dumps(fields, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"config must be a dict or dataclass of JSON values: {error}") from error
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, to_bytes(weights, metadata={"config": text}))
    _replace(path.with_suffix(".json"), (text + "\n").encode())


def load(path: str | os.PathLike[str], make: Callable[[dict[str, Any]], nn.Module]) -> nn.Module:
    """Read a file of `save`: make(config) builds the model, which gets the weights, in eval mode.

    For example `load("toy.safetensors", lambda c: MLP(MLPConfig(**c)))`. JSON has no tuples: they come back
    as lists.
    The weights arrive on the device of the model that `make` returns. Needs safetensors.
    Raises FileNotFoundError when there is no file, ValueError when it is cut or its weights do not fit the
    model.

    Book: ch. 8
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model at {path}. Check the path, or train one and write it with save().")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("config")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is cut or is no safetensors file ({error}). Copy or download it again.") from error
    if text is None:
        raise ValueError(f"{path} holds no config: it was not written by save(). Build the model by hand.")
    model = make(json.loads(text))
    _check_keys(path, model, weights)
    model.load_state_dict(weights)
    return model.eval()


class _Record:
    """The losses so far; read from the device every `interval` steps, so that no step waits for one."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.values: list[float] = []
        self.pending: list[Tensor] = []

    def add(self, value: Tensor) -> None:
        self.pending.append(value)
        if len(self.pending) >= self.interval:
            self.read()

    def read(self) -> list[float]:
        first = len(self.values)
        self.values += torch.stack(self.pending).tolist() if self.pending else []
        self.pending = []
        for step, value in enumerate(self.values[first:], first):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the loss is {value} at step {step}. Lower lr, set clip=1.0, or look for times where the target "
                    "or its weight is singular. Start again from the last saved weights."
                )
        return self.values


def _progress(batches: Iterable[Any], steps: int, record: _Record) -> Iterator[tuple[int, Any]]:
    """Number the batches, showing a bar where tqdm is installed."""
    try:
        from tqdm import tqdm

        bar = tqdm(total=steps, unit="step")
    except ImportError:
        bar = None
    source = iter(batches)
    with bar if bar is not None else nullcontext():
        for step in range(steps):
            try:
                batch = next(source)
            except StopIteration:
                raise ValueError(
                    f"batches ended after {step} of {steps} steps. Pass an endless one: batches(data, size)."
                ) from None
            yield step, batch
            if bar is not None:
                if record.values and (step + 1) % _INTERVAL == 0:
                    last = record.values[-_INTERVAL:]
                    bar.set_postfix_str(f"loss {sum(last) / len(last):.4g}", refresh=False)
                bar.update()


def _batch_mean(value: Tensor) -> Tensor:
    if value.ndim != 1:
        raise ValueError(
            f"loss must return one number a sample, shape (B,); got {tuple(value.shape)}. Leave out .mean()."
        )
    return value.float().mean()


def _replace(path: Path, content: bytes) -> None:
    """Write beside and rename: at any moment `path` is the whole old file or the whole new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _check_keys(path: Path, model: nn.Module, weights: dict[str, Tensor]) -> None:
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if wanted != found:
        missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
        other = sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name])
        raise ValueError(
            f"the weights in {path} are not those of the model that make() built: missing {missing[:3]}, "
            f"unknown {extra[:3]}, other shapes {other[:3]}. Build the model from the config given to make()."
        )
