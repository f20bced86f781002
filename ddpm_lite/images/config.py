"""All that decides a training run, in one frozen dataclass; presets; files of it."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from ..losses import Times, lognormal_t, stratified_t
from ..nets import DiT, DiTConfig, UNet, UNetConfig
from ..paths import EDM, VE, VP, Cosine, RectifiedFlow
from ..paths import Path as NoisePath
from ..predict import Kind, Preconditioned, edm
from ..rng import uniform_t

__all__ = ["PRESETS", "Config", "from_dict", "make_network", "override", "read", "to_dict"]

# what a file or a command line may name
PATHS: dict[str, Callable[[], NoisePath]] = {
    "vp": VP,
    "cosine": Cosine,
    "ve": VE,
    "edm": EDM,
    "rectified": RectifiedFlow,
}
TIMES: dict[str, Callable[[NoisePath], Times]] = {
    "uniform": lambda path: uniform_t,
    "stratified": lambda path: stratified_t,
    "lognormal": lognormal_t,  # EDM's
    "logitnormal": partial(lognormal_t, mean=0.0, std=1.0),  # on the rectified path, where sigma/alpha = t/(1 - t)
}
KINDS = ("x0", "eps", "score", "v", "velocity", "edm")
COUPLINGS = ("independent", "ot")
DECAYS = ("constant", "linear", "cosine")
NETWORKS: dict[str, tuple[type, type[nn.Module]]] = {"unet": (UNetConfig, UNet), "dit": (DiTConfig, DiT)}


@dataclass(frozen=True)
class Config:
    """One run: the data, the network, what it learns and how.

    data, size: as in `images.data.load`. network: a dataclass of sizes. path, kind, times, coupling: what is learned;
    with kind "edm" the network is preconditioned for data with the standard deviation sigma_data. drop: the part of
    labels that are replaced by "no class" (0 classes in the network: no labels). batch: images a step over all
    processes, accumulate: in so many parts one after the other. lr rises over warmup steps, then follows decay to 0
    at the last step. flip, shift: augmentation. bf16, compile: for accelerators.
    Raises ValueError for values out of range and names that do not exist.
    """

    data: str = "digits"
    size: int | None = None
    network: UNetConfig | DiTConfig = field(default_factory=lambda: UNetConfig(classes=10))
    path: str = "edm"
    kind: str = "edm"
    times: str = "lognormal"
    coupling: str = "independent"
    sigma_data: float = 0.7
    drop: float = 0.1
    steps: int = 2000
    batch: int = 128
    accumulate: int = 1
    lr: float = 1e-3
    warmup: int = 100
    decay: str = "linear"
    clip: float = 1.0
    ema: float = 0.999
    flip: bool = False
    shift: int = 0
    bf16: bool = False
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (
            ("path", PATHS),
            ("kind", KINDS),
            ("times", TIMES),
            ("coupling", COUPLINGS),
            ("decay", DECAYS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}")
        for name in ("steps", "batch", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not (self.lr > 0 and self.clip > 0 and self.sigma_data > 0 and self.warmup >= 0 and self.shift >= 0):
            raise ValueError("lr, clip and sigma_data must be positive, warmup and shift not negative")
        if not 0 <= self.drop <= 1 or not 0 <= self.ema < 1:
            raise ValueError(f"drop must be in [0, 1] and ema in [0, 1); got drop={self.drop}, ema={self.ema}")

    def noise_path(self) -> NoisePath:
        return PATHS[self.path]()

    def prediction(self) -> Kind:
        return edm(self.sigma_data) if self.kind == "edm" else self.kind  # type: ignore[return-value]

    def draw_times(self) -> Times:
        return TIMES[self.times](self.noise_path())

    def rate(self, step: int) -> float:
        """Return the learning rate of step 0, 1, ..., steps - 1."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        left = (self.steps - step) / max(self.steps - self.warmup, 1)  # from 1 towards 0
        if self.decay == "constant":
            return self.lr
        return self.lr * (left if self.decay == "linear" else (1 - math.cos(math.pi * left)) / 2)


PRESETS: dict[str, Config] = {
    "digits": Config(),
    "fashion": Config(
        data="fashion",
        network=UNetConfig(width=24, multipliers=(1, 2, 4), blocks=1, attention=(2,), classes=10),
        steps=5000,
        batch=128,
        lr=1e-3,
        ema=0.999,
    ),
    "cifar10": Config(
        data="cifar10",
        network=UNetConfig(
            channels=3, width=128, multipliers=(1, 2, 2, 2), blocks=3, attention=(1,), classes=10, dropout=0.1
        ),
        sigma_data=0.5,
        steps=200_000,
        batch=512,
        lr=1e-3,
        warmup=5_000,
        ema=0.9999,
        flip=True,
        bf16=True,
        compile=True,
    ),
}


def make_network(config: Config) -> nn.Module:
    """Return a fresh network of a run, preconditioned where the kind is "edm"."""
    net = NETWORKS[_name(config.network)][1](config.network)
    return Preconditioned(net, config.noise_path(), config.sigma_data) if config.kind == "edm" else net


def to_dict(config: Config) -> dict[str, Any]:
    """Return JSON values; the network's name stands beside its sizes."""
    fields = dataclasses.asdict(config)
    return {**fields, "network": {"name": _name(config.network), **fields["network"]}}


def from_dict(fields: Mapping[str, Any]) -> Config:
    """Return the run that `to_dict` wrote, or that a file states in part: the rest is as in Config().

    Raises ValueError for fields that do not exist.
    """
    known = {each.name for each in dataclasses.fields(Config)}
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"there is no {', '.join(unknown)} in a run: use {', '.join(sorted(known))}")
    values = dict(fields)
    if "network" in values:
        sizes = dict(values["network"])
        name = sizes.pop("name", "unet")
        if name not in NETWORKS:
            raise ValueError(f"network.name must be one of {', '.join(NETWORKS)}; got {name!r}")
        make = NETWORKS[name][0]
        known = {each.name for each in dataclasses.fields(make)}
        if unknown := sorted(set(sizes) - known):
            raise ValueError(f"there is no {', '.join(unknown)} in a {name}: use {', '.join(sorted(known))}")
        values["network"] = make(**sizes)
    return Config(**values)


def read(name: str) -> Config:
    """Return a preset, or the run that a TOML or JSON file describes.

    Raises ValueError for a name that is neither, and for a file that cannot be read as one.
    """
    if name in PRESETS:
        return PRESETS[name]
    path = Path(name)
    if path.suffix not in (".toml", ".json") or not path.is_file():
        raise ValueError(f"there is no preset and no file {name!r}: use {', '.join(PRESETS)}, or a .toml or .json file")
    try:
        text = path.read_text(encoding="utf-8")
        fields = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return from_dict(fields)


def override(config: Config, changes: list[str]) -> Config:
    """Return the run with some fields changed: "batch=64", "network.width=48", the value in JSON or a bare word."""
    fields = to_dict(config)
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"{change!r} changes nothing: write NAME=VALUE, such as batch=64 or network.width=48")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        outer, _, inner = name.partition(".")
        if inner and outer == "network":
            fields["network"][inner] = value
        else:
            fields[name] = value
    return from_dict(fields)


def _name(network: Any) -> str:
    return next(name for name, (sizes, _) in NETWORKS.items() if isinstance(network, sizes))
