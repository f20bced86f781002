"""The checks that travel inside a notebook: recorded calls and sums of their right results, with numpy and torch only.

A notebook carries the source of this file (below this text), so it imports nothing of the package.
"""

import base64
import io
import json
import math
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

KINDS = {"f": "float32 or float64", "i": "int64", "b": "bool"}


class Checks:
    """Compares functions with recorded results.

    text: what `ddpm_lite.grading.recorded` wrote.
    """

    def __init__(self, text: str) -> None:
        with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as file:
            self.exercises = json.loads(file["spec"].tobytes())
            self.arrays = [file[f"a{n}"] for n in range(len(file.files) - 1)]

    def check(self, name: str, function: Callable) -> None:
        """Say whether a function gives the recorded results."""
        self.passes(name, function)

    def passes(self, name: str, function: Callable) -> bool:
        """Say so, and return it."""
        fault = self.fault(self.exercises[name], function)
        print(f"{name}: {fault or 'right.'}")
        return fault is None

    def fault(self, exercise: dict, function: Callable) -> str | None:
        """Return what is wrong with a function, in a sentence, or None."""
        messages, changed = exercise["messages"], False
        for case in exercise["cases"]:
            args = [self.argument(spec) for spec in case["args"]]
            try:
                fault = self.difference(function(*args), case["value"], exercise["tolerance"])
            except NotImplementedError:
                return "not written yet."
            except Exception as error:
                fault = f"raised {type(error).__name__}: {error}{line_of(error, function)}"
            if fault:
                return f"{messages[case['check']]} ({fault})"
            changed = changed or not all(map(self.same, args, map(self.argument, case["args"])))
        return messages["unchanged"] if changed else None

    def argument(self, spec: dict) -> Any:
        if "array" in spec:
            return torch.from_numpy(self.arrays[spec["array"]].copy())
        return tuple(map(self.argument, spec["tuple"])) if "tuple" in spec else spec["plain"]

    def same(self, one: Any, other: Any) -> bool:
        if isinstance(other, tuple):
            return all(map(self.same, one, other))
        if not isinstance(other, torch.Tensor):
            return True
        return one.shape == other.shape and np.array_equal(one.detach().numpy(), other.numpy(), equal_nan=True)

    def difference(self, value: Any, expected: dict, tolerance: float) -> str | None:
        """Say how a value differs from the recorded sums, or return None."""
        if "parts" in expected:
            parts = expected["parts"]
            if not isinstance(value, (tuple, list)) or len(value) != len(parts):
                return f"gave {count(value)} instead of {len(parts)} values"
            faults = (self.difference(one, other, tolerance) for one, other in zip(value, parts, strict=True))
            return next((f"value {n}: {fault}" for n, fault in enumerate(faults, 1) if fault), None)
        if value is None or isinstance(value, (tuple, list)):
            return f"gave {count(value)} instead of one"
        array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
        if list(array.shape) != expected["shape"]:
            return f"gave the shape {array.shape} instead of {tuple(expected['shape'])}"
        if kind(array) != expected["kind"]:
            return f"gave numbers of type {array.dtype} instead of {KINDS.get(expected['kind'], expected['kind'])}"
        return far(array, expected, tolerance)


def count(value: Any) -> str:
    """Say how many values there are."""
    if value is None or not isinstance(value, (tuple, list)):
        return "no value" if value is None else "one value"
    return f"{len(value)} values"


def line_of(error: Exception, function: Callable) -> str:
    """Say in which line of a function an error came up, in the numbering of its cell."""
    code = getattr(function, "__code__", None)
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code is code]
    return f", in line {lines[-1]} of its cell" if lines else ""


def kind(array: np.ndarray) -> str:
    """Return "i", "b" or "f"; a float of less than 32 bits is a kind of its own."""
    half = array.dtype.kind == "f" and array.dtype.itemsize < 4
    return array.dtype.name if half else array.dtype.kind.replace("u", "i")


def far(array: np.ndarray, expected: dict, tolerance: float) -> str | None:
    """Say whether an array's sums differ from the expected ones by more than the tolerance of all its numbers."""
    if np.isnan(array).any():
        return f"{int(np.isnan(array).sum())} of {array.size} numbers are NaN"
    finite, infinite, weight = sums(array)
    room = tolerance * (1 + expected["scale"]) if array.dtype.kind == "f" else 1e-9
    if any(abs(one - other) > room * weight for one, other in zip(finite, expected["finite"], strict=True)):
        return "the numbers differ"
    if any(abs(one - other) > 1e-9 * weight for one, other in zip(infinite, expected["infinite"], strict=True)):
        return "the numbers differ, or some are infinite"
    return None


def sums(array: np.ndarray) -> tuple[list[float], list[float], float]:
    """Return three weighted sums of the finite numbers, of the signs of the infinite ones, and the most they weigh."""
    values = np.asarray(array, dtype=np.float64).ravel()
    weights = np.cos(np.outer([math.sqrt(2), math.sqrt(3), math.sqrt(7)], np.arange(1, values.size + 1)))
    infinite = np.isinf(values)
    finite = weights @ np.where(infinite, 0.0, values)
    signs = weights @ np.where(infinite, np.sign(values), 0.0)
    return finite.tolist(), signs.tolist(), 1 + np.abs(weights).sum()
