"""The state of a run in one file: weights, their average, Adam's moments and the step. No pickle, and never half."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..train import EMA, replace_file
from .config import Config, from_dict, make_network, to_dict
from .data import Images

__all__ = ["CheckpointError", "Format", "Trained", "last_good", "load_model", "prune", "read_state", "write_state"]


class Format(NamedTuple):
    """What the images of a run are like: (C, H, W), their levels and the names of their classes."""

    shape: tuple[int, ...]
    levels: int
    classes: tuple[str, ...]

    @classmethod
    def of(cls, images: Images) -> Format:
        return cls(tuple(images.pixels.shape[1:]), images.levels, images.classes)


_NAME = re.compile(r"step_(\d+)\.safetensors")


class CheckpointError(ValueError):
    """A file of a run that cannot be used; the message says what to do."""


def path_of(folder: Path, step: int) -> Path:
    return folder / f"step_{step:08d}.safetensors"


def write_state(
    folder: Path, step: int, config: Config, images: Images, model: nn.Module, average: EMA, adam: torch.optim.Adam
) -> Path:
    """Write the state after `step` steps, and what its images are like, beside its place and rename it.

    Raises OSError where the disk is full: the files that are there stay as they are.
    """
    from safetensors.torch import save

    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.model.state_dict().items()}
    for number, entry in adam.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": torch.as_tensor(value) for name, value in entry.items()}
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    about = {
        "step": str(step),
        "updates": str(average.updates),
        "config": json.dumps(to_dict(config)),
        "images": json.dumps(Format.of(images)._asdict()),
    }
    path = path_of(folder, step)
    replace_file(path, save(plain, metadata=about))
    return path


def read_state(path: Path, config: Config, model: nn.Module, average: EMA, adam: torch.optim.Adam) -> int:
    """Put a file of `write_state` into a model, its average and its optimiser; returns the number of steps done.

    Raises CheckpointError where the file is cut or of another run: the message names each field that differs. The
    number of steps may differ, so that a run can be made longer.
    """
    tensors, about = _read(path)
    if differs := _differences(from_dict(json.loads(about["config"])), config):
        raise CheckpointError(
            f"{path} is of another run: {differs}. Name another folder, or repeat that run's settings."
        )
    model.load_state_dict(_below("model.", tensors))
    average.model.load_state_dict(_below("average.", tensors))
    average.updates = int(about["updates"])
    parameters = adam.param_groups[0]["params"]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _below("adam.", tensors).items():
        number, _, entry = name.partition(".")
        like = value if value.ndim == 0 else torch.empty_like(parameters[int(number)])  # the same order in memory
        state.setdefault(int(number), {})[entry] = like.copy_(value)
    adam.load_state_dict({**adam.state_dict(), "state": state})
    return int(about["step"])


def last_good(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest whole file of a folder, and a sentence for each newer one that is damaged."""
    damaged = []
    for path in reversed(_files(folder)):
        try:
            _read(path)
        except CheckpointError as error:
            damaged.append(str(error))
        else:
            return path, damaged
    return None, damaged


def prune(folder: Path, keep: int) -> None:
    """Delete all but the last `keep` files of a run."""
    for path in _files(folder)[:-keep]:
        path.unlink()


class Trained(NamedTuple):
    """A trained network, the run that made it and what its images are like."""

    net: nn.Module
    config: Config
    form: Format


def load_model(path: str | Path, *, average: bool = True) -> Trained:
    """Return the network of a run's file, its average by default, in eval mode.

    Raises CheckpointError for a file that is cut or is none.
    """
    tensors, about = _read(Path(path))
    config = from_dict(json.loads(about["config"]))
    net = make_network(config)
    net.load_state_dict(_below("average." if average else "model.", tensors))
    form = json.loads(about["images"])
    return Trained(net.eval(), config, Format(tuple(form["shape"]), form["levels"], tuple(form["classes"])))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step_*.safetensors") if _NAME.fullmatch(path.name))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is cut or is no safetensors file ({error}): delete it") from error
    if not {"step", "updates", "config", "images"} <= set(about):
        raise CheckpointError(f"{path} holds no run: it was not written by ddpm-lite train")
    return tensors, about


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _differences(theirs: Config, ours: Config) -> str:
    a, b = _flat(to_dict(theirs)), _flat(to_dict(ours))
    return ", ".join(
        f"{name} is {a.get(name)!r} there and {b.get(name)!r} here"
        for name in sorted(a.keys() | b.keys())
        if name != "steps" and a.get(name) != b.get(name)
    )


def _flat(fields: dict[str, Any], before: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{before}{name}.")
        else:
            out[before + name] = list(value) if isinstance(value, tuple) else value
    return out
