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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

__all__ = ["EMA", "batches", "fit", "load", "save"]

_INTERVAL = 100  # steps between two readings of the loss on an accelerator, and between two texts of the bar
_AHEAD = 32  # batches that are gathered at once
_ALIGNED = 16  # numbers, 64 bytes of float32: where a parameter may begin in a vector

# the kernel of torch.optim.Adam(fused=True)
_adam = partial(torch._fused_adam_, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False)


def fit(
    loss: Callable[[Any], Tensor],
    model: nn.Module,
    batches: Iterable[Any],
    *,
    steps: int,
    lr: float | Callable[[float], float] = 1e-3,
    ema: EMA | None = None,
    clip: float | None = 1.0,
    autocast: torch.dtype | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> list[float]:
    """Minimise the mean of a loss with Adam and return its value before each step.

    theta <- Adam(theta, g min(1, clip/|g|)), g = grad of mean over the batch of loss(batch).
    loss: batch -> (B,). batches: gives one batch a step. lr: a number, or a function of the part of the steps
    that is done, such as lambda u: 4e-3 * (1 - u). ema: updated after each step. clip: largest gradient norm,
    or None. autocast: torch.bfloat16 runs the loss in mixed precision. on_step(step, loss): called after step
    0, 1, ... with the 0-d loss, detached; reading it on an accelerator waits for it.
    The model trains in train mode and is left in eval mode, ready to sample; no parameter's .grad is set.
    Labels and other parts of a batch are moved by the closure. The progress bar needs tqdm; TQDM_DISABLE=1 in
    the environment hides it.
    Raises ValueError when parameters differ in dtype or device, batches end early or loss has no shape (B,),
    FloatingPointError when the loss is not finite.

    Source: Kingma and Ba, "Adam" (2015). Book: ch. 8
    """
    parameters = _parameters(model)
    if steps < 1:
        raise ValueError(f"fit needs steps >= 1; got steps={steps}")
    device = parameters[0].device.type
    record = _Record(1 if device == "cpu" else _INTERVAL)
    model.train()
    with _as_vector(parameters) as theta, _beside(ema, parameters, theta):
        adam = _Adam(theta)
        for step, batch in _progress(batches, steps, record):
            with nullcontext() if autocast is None else torch.autocast(device, dtype=autocast):
                value = _batch_mean(loss(batch))
            record.add(value.detach())
            g = _vector(torch.autograd.grad(value, parameters, materialize_grads=True))  # (P,)
            if clip is not None:
                g[None].renorm_(2, 0, clip)  # g min(1, clip/|g|)
            adam.step(g, lr(step / steps) if callable(lr) else lr)
            if ema is not None:
                ema.update()
            if on_step is not None:
                on_step(step, value.detach())
    model.eval()
    return record.read()


class EMA:
    """An exponential moving average of a model's parameters, in `.model`.

    update k = 0, 1, ...: average <- d_k average + (1 - d_k) parameters, d_k = min(decay, (1 + k)/(10 + k)),
    so that the first steps are soon forgotten. Buffers that `state_dict` holds are copied. The average
    remembers about 1/(1 - decay) steps.
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
        kept = model.state_dict().keys()
        self._buffers = [name for name, _ in model.named_buffers() if name in kept]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average one step towards the model's present parameters."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._average, self._current, 1 - decay)
        for name in self._buffers:
            self.model.get_buffer(name).copy_(self.source.get_buffer(name))
        self.updates += 1


def batches(data: Tensor | tuple[Tensor, ...], size: int, *, generator: Generator | None = None) -> Iterator[Any]:
    """Return an endless iterator over random batches of tensors that lie in memory.

    Each pass over the data is a new permutation, cut into whole batches; the rest of a pass is left out.
    A copy of 32 batches is held at a time.
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
            for ahead in order[: n - n % size].split(_AHEAD * size):
                for batch in zip(*(part[ahead].split(size) for part in parts), strict=True):
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
    replace_file(path, to_bytes(weights, metadata={"config": text}))
    replace_file(path.with_suffix(".json"), (text + "\n").encode())


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


def _parameters(model: nn.Module) -> list[nn.Parameter]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if len(places := {f"{p.dtype} on {p.device}" for p in parameters}) != 1:
        raise ValueError(
            "fit needs a model with parameters that require gradients, of one dtype on one device; "
            f"got {', '.join(sorted(places)) or 'none'}"
        )
    return parameters


class _Adam:
    """Adam on one vector, without the bookkeeping of `torch.optim.Adam`."""

    def __init__(self, theta: Tensor) -> None:
        self.theta, self.m, self.v = [theta], [torch.zeros_like(theta)], [torch.zeros_like(theta)]
        self.k = [torch.zeros((), device=theta.device)]  # steps so far

    def step(self, g: Tensor, lr: float) -> None:
        self.k[0] += 1
        _adam(self.theta, [g], self.m, self.v, [], self.k, lr=lr)


def _vector(parts: Sequence[Tensor]) -> Tensor:
    """The parts end to end, (P,), each beginning where it is aligned."""
    rests = [*(-part.numel() % _ALIGNED for part in parts[:-1]), 0]
    return torch.cat([F.pad(p.flatten(), (0, n)) if n else p.flatten() for p, n in zip(parts, rests, strict=True)])


@contextmanager
def _as_vector(parameters: Sequence[Tensor]) -> Iterator[Tensor]:
    """The parameters as one vector, of which they are views inside the block: one operation serves all."""
    own = [p.data for p in parameters]
    vector = _vector(own)
    begin = 0
    for p in parameters:
        p.data = vector[begin : begin + p.numel()].view(p.shape)
        begin += p.numel() + -p.numel() % _ALIGNED
    try:
        yield vector
    finally:
        for p, value in zip(parameters, own, strict=True):
            p.data = value.copy_(p.data)


@contextmanager
def _beside(ema: EMA | None, parameters: list[nn.Parameter], theta: Tensor) -> Iterator[None]:
    """If the average is of these parameters, it too is one vector inside the block, and updated from theta."""
    if ema is None or [*map(id, ema._current)] != [*map(id, parameters)]:
        yield
        return
    lists = ema._average, ema._current
    with _as_vector(ema._average) as average:
        ema._average, ema._current = [average], [theta]
        try:
            yield
        finally:
            ema._average, ema._current = lists


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
        self.values += torch.stack(self.pending).tolist() if len(self.pending) > 1 else [v.item() for v in self.pending]
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


def replace_file(path: Path, content: bytes) -> None:
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
