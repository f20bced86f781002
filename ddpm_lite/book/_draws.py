"""The random inputs of `same`: which arguments two functions share, and what is drawn for each."""

from __future__ import annotations

import inspect
from inspect import Parameter
from typing import Any

import torch
from torch import Tensor

SIZES = ((1, 1), (1, 3), (2, 1), (2, 2), (3, 2), (4, 4), (5, 3), (3, 3), (2, 5), (7, 2))  # (B, D), B == D too
POSITIVE = {"sigma", "std", "var", "variance", "scale"}
FRACTION = {"beta", "alpha", "abar", "alpha_bar"}

Plan = list[tuple[str, str, bool]]  # (name of the input, its name in the function, by keyword)


def match(mine: Any, ours: Any, given: dict[str, Any], error: type[Exception]) -> tuple[dict[str, str], Plan, Plan]:
    """Return the inputs with their annotations, and how each function takes them.

    Arguments are matched by name, or by their order when the names differ. Raises `error` when they do not match.
    """
    right = _parameters(ours) or _parameters(mine)
    left = _parameters(mine) or right
    needed = {p.name for p in left if p.default is p.empty}
    chosen = [p for p in right if p.default is p.empty or p.name in given or p.name in needed]
    if unknown := sorted(set(given) - {p.name for p in chosen}):
        raise ValueError(f"inputs {unknown}: the package's function has no such argument")
    by_name = {p.name: p for p in left}
    if all(p.name in by_name for p in chosen):
        partners = [by_name[p.name] for p in chosen]
    else:
        partners = [p for p in left if p.name in needed]
    if len(partners) != len(chosen) or needed - {p.name for p in partners}:
        lists = [", ".join(p.name for p in ps) for ps in (left, chosen)]
        raise error(f"the arguments differ: yours ({lists[0]}), the package's ({lists[1]})")
    pairs = list(zip(chosen, partners, strict=True))
    kinds = {p.name: _annotation(p) or _annotation(q) for p, q in pairs}
    names = [p.name for p in chosen]
    return kinds, _plan(names, partners, left), _plan(names, chosen, right)


def _plan(names: list[str], own: list[Parameter], every: list[Parameter]) -> Plan:
    """Return a function's inputs in its own order: by keyword, but for positional-only arguments."""
    place = {p.name: i for i, p in enumerate(every)}
    ordered = sorted(zip(names, own, strict=True), key=lambda pair: place[pair[1].name])
    return [(name, p.name, p.kind is not Parameter.POSITIONAL_ONLY) for name, p in ordered]


def _parameters(f: Any) -> list[Parameter]:
    """Return the named parameters of `f` but `generator`; none when `f` tells no signature."""
    try:
        every = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return []
    open_ended = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [p for p in every if p.kind not in open_ended and p.name != "generator"]


def _annotation(p: Parameter) -> str:
    """Return a parameter's annotation as text, empty when it has none."""
    if p.annotation is p.empty:
        return ""
    kind = p.annotation
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))


def draw_inputs(kinds: dict[str, str], given: dict[str, Any], draw: int) -> dict[str, Any]:
    """Return the inputs of one draw, by name."""
    g = torch.Generator().manual_seed(1000 + draw)
    B, D = SIZES[draw % len(SIZES)]
    values = {name: _given(value, g, B, D) for name, value in given.items()}
    tensors = {n: v for n, v in values.items() if isinstance(v, Tensor) and v.ndim >= 2}
    shape = next((tuple(v.shape) for n, v in tensors.items() if n.startswith("x")), (B, D))
    times = 0.02 + 0.96 * torch.rand(2, shape[0], generator=g, dtype=torch.float64)  # (2, B)
    values = {"t": times.amax(0), "s": times.amin(0), **values}
    return {n: values[n] if n in values else _drawn(n, kind, shape, g) for n, kind in kinds.items()}


def _drawn(name: str, kind: str, shape: tuple[int, ...], g: torch.Generator) -> Tensor | float:
    """Return a random input of a name and an annotation."""
    if kind == "float":
        return float(0.2 + 0.6 * torch.rand((), generator=g, dtype=torch.float64))
    if kind and "Tensor" not in kind:
        raise ValueError(f"{name} is a {kind}, which cannot be drawn: give {name}=... to same")
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    if name in FRACTION:
        return 0.02 + 0.96 * torch.special.ndtr(x)
    return x.exp() if name in POSITIVE else x


def _given(value: Any, g: torch.Generator, B: int, D: int) -> Any:
    """Return a given value, or what a function of (g, B, D) draws; drawn floats become float64."""
    if not inspect.isfunction(value):
        return value
    asked = set(inspect.signature(value).parameters)
    if not asked or not asked <= {"g", "generator", "B", "D"} or not asked & {"g", "generator"}:
        return value
    known = {"g": g, "generator": g, "B": B, "D": D}
    drawn = value(**{name: known[name] for name in asked})
    return drawn.double() if isinstance(drawn, Tensor) and drawn.is_floating_point() else drawn


def width(values: dict[str, Any]) -> int:
    """Return the number of dimensions of a sample in a draw."""
    return max((v[0].numel() for v in values.values() if isinstance(v, Tensor) and v.ndim > 1), default=1)
