"""Record cases and sums of their right results for the checks inside a notebook."""

from __future__ import annotations

import base64
import io
import json
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from . import checker
from .exercise import Exercise, Task
from .judge import expected_values
from .sandbox import to_spec

__all__ = ["checker_source", "recorded"]


def recorded(tasks: Iterable[Task], seed: int) -> str:
    """Return the text that `checker.Checks` reads: the cases of this seed, and no oracle and no result itself."""
    arrays: list[np.ndarray] = []
    spec = {task.exercise.id: record(task.exercise, np.random.default_rng(seed), arrays) for task in tasks}
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(spec).encode(), dtype=np.uint8)
    members = {"spec": text, **{f"a{n}": array for n, array in enumerate(arrays)}}
    np.savez_compressed(buffer, **members)  # type: ignore[arg-type]
    return "\n".join(textwrap.wrap(base64.b64encode(buffer.getvalue()).decode(), 120))


def checker_source() -> str:
    """Return the code of `checker.py` without the text at its head."""
    source = Path(checker.__file__).read_text(encoding="utf-8")
    return source.split('"""\n', 1)[1].strip() + "\n"


def record(exercise: Exercise, rng: np.random.Generator, arrays: list[np.ndarray]) -> dict[str, Any]:
    cases = exercise.cases(rng)
    values = expected_values(exercise, cases)
    return {
        "tolerance": exercise.tolerance,
        "messages": dict(exercise.messages),
        "cases": [
            {"check": case.check, "args": [to_spec(arg, arrays) for arg in case.args], "value": of_value(value)}
            for case, value in zip(cases, values, strict=True)
        ],
    }


def of_value(value: Any) -> dict[str, Any]:
    if isinstance(value, tuple):
        return {"parts": [of_value(part) for part in value]}
    finite, infinite, _ = checker.sums(value)
    scale = float(np.max(np.abs(value.astype(float)), where=np.isfinite(value), initial=0.0))
    shape = list(value.shape)
    return {"shape": shape, "kind": checker.kind(value), "scale": scale, "finite": finite, "infinite": infinite}
