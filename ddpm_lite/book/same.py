"""`same`: the reader's function against the package's, on random inputs."""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ._display import put
from ._draws import Plan, draw_inputs, match, width
from ._hints import relation

DRAWS = 20
TOLERANCE = 1e-9  # times the largest number of the result: float64 round-off, with room for another formula
_STYLE = "<style>:where(.dl-same){padding:.2em .7em;border-left:.25em solid}</style>"


class NotTheSame(AssertionError):  # noqa: N818 (the reader sees this name)
    """The reader's function and the package's differ."""


@dataclass(frozen=True)
class _Trial:
    """Both results on one draw; `why` is empty when they agree."""

    inputs: dict[str, Any]
    mine: dict[str, Tensor]
    ours: dict[str, Tensor]
    why: str = ""
    gap: float = 0.0
    error: Exception | None = None

    @property
    def size(self) -> int:
        return sum(v.numel() for v in self.inputs.values() if isinstance(v, Tensor))


def same(mine: Callable[..., Any], ours: Callable[..., Any], **inputs: Any) -> None:
    """Check that two functions agree on 20 random float64 inputs; raise NotTheSame with the smallest failure.

    An input that is not given is drawn by its name: `t` and `s` uniform with 0 < s < t < 1, shape (B,); `sigma`,
    `var` and their like positive; other Tensors normal, shape (B, D), with B == D among the draws. A given value is
    fixed, except a function whose arguments are among (g, B, D): it is called for each draw, with a seeded
    torch.Generator `g`. An `x` given in that way sets the shape of what is drawn. Both functions get a `generator`
    of one seed. Shapes must agree, and `mine` must leave its arguments as they are. Raises ValueError when an input
    cannot be drawn, and when `ours` gives NaN or infinity.
    """
    if mine is ours:
        raise ValueError("mine and ours are one function: write your own")
    kinds, my_plan, our_plan = match(mine, ours, inputs, NotTheSame)
    trials = []
    for draw in range(DRAWS):
        values = draw_inputs(kinds, inputs, draw)
        right = _named(_call(ours, our_plan, _copy(values), draw))
        _require_finite(right, ours, values)
        trials.append(_compare(mine, my_plan, values, right, draw))
    if any(trial.why for trial in trials):
        _refuse([trial for trial in trials if trial.why])
    gap = max(trial.gap for trial in trials)
    text = f"the same on {DRAWS} random inputs; largest difference {f'{gap:.0e}' if gap else '0'}"
    put(f'{_STYLE}<div class="dl-same">{html.escape(text)}</div>', text)


def _call(f: Any, plan: Plan, values: dict[str, Any], draw: int) -> Any:
    """Call `f` with its inputs, and with a seeded generator when it takes one."""
    args = [values[name] for name, _, keyword in plan if not keyword]
    kwargs = {own: values[name] for name, own, keyword in plan if keyword}
    try:
        takes = "generator" in inspect.signature(f).parameters
    except (TypeError, ValueError):  # a builtin without a signature takes its arguments by position
        return f(*args, *kwargs.values())
    if takes:
        kwargs["generator"] = torch.Generator().manual_seed(draw)
    return f(*args, **kwargs)


def _copy(values: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs with every Tensor copied."""
    return {name: v.detach().clone() if isinstance(v, Tensor) else v for name, v in values.items()}


def _named(result: Any) -> dict[str, Tensor]:
    """Return a Tensor, a number, a tuple or a NamedTuple of them as Tensors by name."""
    if isinstance(result, (tuple, list)):
        names = getattr(result, "_fields", [f"result {i}" for i in range(len(result))])
        return {n: x for n, value in zip(names, result, strict=True) for x in _named(value).values()}
    if isinstance(result, float):
        return {"": torch.tensor(result, dtype=torch.float64)}
    return {"": torch.as_tensor(result).detach()}


def _require_finite(results: dict[str, Tensor], ours: Any, values: dict[str, Any]) -> None:
    """Raise ValueError when the package's function was asked outside its domain."""
    if not all(bool(torch.isfinite(x).all()) for x in results.values()):
        name = getattr(ours, "__name__", repr(ours))
        raise ValueError(f"{name} is not finite at {_inputs(values)}: give inputs inside its domain")


def _compare(mine: Any, plan: Plan, values: dict[str, Any], right: dict[str, Tensor], draw: int) -> _Trial:
    """Call `mine` on one draw and say where it differs."""
    copies = _copy(values)
    try:
        got = _named(_call(mine, plan, copies, draw))
    except Exception as error:
        return _Trial(values, {}, right, f"yours raises {type(error).__name__}: {error}", error=error)
    changed = [n for n, v in values.items() if isinstance(v, Tensor) and not _unchanged(v, copies[n])]
    if changed:
        return _Trial(values, got, right, f"yours changes its argument {', '.join(changed)} in place")
    if len(got) != len(right):
        return _Trial(values, got, right, f"yours returns {len(got)} results, the package's {len(right)}")
    found = [_difference(name, a, b) for a, (name, b) in zip(got.values(), right.items(), strict=True)]
    why = next((words for words, _ in found if words), "")
    return _Trial(values, got, right, why, max((gap for _, gap in found), default=0.0))


def _unchanged(before: Tensor, after: Tensor) -> bool:
    """Say whether an argument is as it was; NaN equals NaN."""
    return before.shape == after.shape and torch.equal(torch.nan_to_num(before), torch.nan_to_num(after))


def _difference(name: str, a: Tensor, b: Tensor) -> tuple[str, float]:
    """Return what is wrong with your result `a` (empty when nothing is) and the largest difference from `b`."""
    label = f"{name}: " if name else ""
    if a.shape != b.shape:
        return f"{label}your shape is {tuple(a.shape)}, the package's {tuple(b.shape)}", 0.0
    if not b.numel():
        return "", 0.0
    gap = float((a.double() - b.double()).abs().max())
    near = gap <= TOLERANCE * max(1.0, float(b.abs().max()))  # False for NaN
    return "" if near else f"{label}largest difference {gap:.3g}", gap


def _refuse(misses: list[_Trial]) -> None:
    """Raise NotTheSame for the smallest failing input, with a hint where the numbers give one."""
    least = min(misses, key=lambda trial: trial.size)
    lines = [f"not the same on {len(misses)} of {DRAWS} random inputs: {least.why}"]
    lines.append(f"  input: {_inputs(least.inputs)}")
    if least.error is None:
        lines += [f"  yours: {_results(least.mine)}", f"  ours:  {_results(least.ours)}"]
    if hint := _hint(misses):
        lines.append(f"  hint:  {hint}")
    raise NotTheSame("\n".join(lines)) from least.error


def _hint(misses: list[_Trial]) -> str:
    """Name the mistake, where it is one that is easily made."""
    if any(_stretched(trial) for trial in misses):
        return "t has shape (B,); give it ones behind, to the shape (B, 1), before it meets x of shape (B, D)"
    if any(trial.error or "argument" in trial.why or "shape" in trial.why for trial in misses):
        return ""
    triples = [
        (a.double().flatten(), b.double().flatten(), width(trial.inputs))
        for trial in misses
        for a, b in zip(trial.mine.values(), trial.ours.values(), strict=False)
        if _difference("", a, b)[0]
    ]
    if not triples:
        return ""
    a, b = torch.cat([a for a, _, _ in triples]), torch.cat([b for _, b, _ in triples])
    return relation(a, b, torch.cat([torch.full_like(b, float(d)) for _, b, d in triples]))


def _stretched(trial: _Trial) -> bool:
    """Say whether a result is what (B,) against (B, D) gives when nothing pads it: an error or a (B, B)."""
    shapes = [v.shape for v in trial.inputs.values() if isinstance(v, Tensor)]
    pairs = [(times, x) for times in shapes for x in shapes if len(times) == 1 < len(x)]
    if trial.error:
        return bool(pairs) and "must match the size" in str(trial.error)
    made = {tuple(torch.broadcast_shapes(times, x)) for times, x in pairs if x[-1] == 1 or times[0] in (1, x[-1])}
    both = zip(trial.mine.values(), trial.ours.values(), strict=False)
    return any(a.shape != b.shape and tuple(a.shape) in made for a, b in both)


def _inputs(values: dict[str, Any]) -> str:
    """Return the inputs of a draw in a line."""
    return ", ".join(f"{name} = {_brief(value)}" for name, value in values.items())


def _results(named: dict[str, Tensor]) -> str:
    """Return results in a line."""
    return ", ".join(f"{name} = {_brief(x)}" if name else _brief(x) for name, x in named.items())


def _brief(value: Any) -> str:
    """Return a value in short: a small Tensor in full, a large one by its shape."""
    if isinstance(value, Tensor):
        if value.numel() > 12:
            return f"Tensor of shape {tuple(value.shape)}"
        rounded = [f"{float(v):.6g}" for v in value.flatten()]
        return rounded[0] if value.ndim == 0 else f"{tuple(value.shape)} [{', '.join(rounded)}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(getattr(value, "__name__", type(value).__name__)) if callable(value) else repr(value)[:80]
