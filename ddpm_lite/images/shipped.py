"""Networks that come with the package: loaded by name, checked by hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load as read_tensors
from torch import Tensor

from ..nets.classifier import Classifier, ClassifierConfig
from ..train import load as load_network
from .checkpoints import CheckpointError, Trained, last_good, load_model

__all__ = ["NAMES", "card", "load", "load_classifier", "load_reference", "open_model"]

NAMES = ("digits",)
FOLDER = Path(__file__).parent / "shipped"
SUMS = "SHA256SUMS"


def open_model(model: str | Path, *, device: str = "cpu") -> Trained:
    """Return a shipped model by its name, the model of a run's state, or of the last good state in a run's folder.

    Raises ValueError where there is none, CheckpointError for a damaged file.
    """
    trained = load(str(model)) if str(model) in NAMES else load_model(_state(Path(model)))
    return trained._replace(net=trained.net.to(device))


def _state(path: Path) -> Path:
    """The file itself, or the last good state of a folder."""
    if not path.exists():
        raise ValueError(f"there is no model {path}: use {', '.join(NAMES)}, a state or the folder of a run")
    if not path.is_dir():
        return path
    newest, damaged = last_good(path)
    if newest is None:
        raise ValueError(f"{path} holds no whole state of a run{': ' + damaged[0] if damaged else ''}")
    return newest


def load(name: str) -> Trained:
    """Return the class-conditional diffusion model that ships for a set of images.

    name: "digits" (8 x 8), classes 0 to 9, 10 for no class.
    Raises ValueError for another name, CheckpointError for a file that is missing or not the one that was shipped.

    Book: ch. 17
    """
    return load_model(_verified(name, ".safetensors"))


def load_classifier(name: str) -> Classifier:
    """Return the classifier that reads this set's images; it was trained on the training images alone.

    Raises as `load` does.

    Book: ch. 17
    """
    net = load_network(_verified(name, "_classifier.safetensors"), lambda sizes: Classifier(ClassifierConfig(**sizes)))
    assert isinstance(net, Classifier)
    return net


def load_reference(name: str) -> tuple[Tensor, Tensor]:
    """Return the mean (F,) and the covariance (F, F), float64, of the classifier's features over all test images.

    With them a Frechet distance needs no data. Raises as `load` does.

    Book: ch. 17
    """
    tensors = read_tensors(_verified(name, "_reference.safetensors").read_bytes())
    return tensors["mean"], tensors["covariance"]


def card(name: str) -> dict[str, Any]:
    """Return what `ddpm-lite evaluate NAME` measured of the shipped model, with its settings.

    Raises as `load` does.
    """
    fields: dict[str, Any] = json.loads(_verified(name, ".json").read_bytes())
    return fields


def _verified(name: str, ending: str) -> Path:
    """The path of a file whose content has the hash that SHA256SUMS gives."""
    if name not in NAMES:
        raise ValueError(f"there is no shipped model {name!r}: use {' or '.join(NAMES)}")
    path = FOLDER / f"{name}{ending}"
    lines = (line.split() for line in (FOLDER / SUMS).read_text(encoding="ascii").splitlines())
    sums = {file: digest for digest, file in lines}
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
    if found != sums[path.name]:
        raise CheckpointError(f"{path} is not the file that was shipped ({found[:12]}): install the package again")
    return path
