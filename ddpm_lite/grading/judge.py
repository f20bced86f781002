"""Compares what an answer returned with what the oracle says; nothing of the answer runs here."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .checker import KINDS, count, kind
from .exercise import Case, Exercise, Outcome, Task
from .plain import run_plainly

__all__ = ["Judge", "Verdict", "expected_values", "failures"]

UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Verdict:
    """passed, or else the first check that failed, what is wrong, and the hint of a known mistake."""

    passed: bool
    check: str | None = None
    message: str = ""
    hint: str | None = None


class Judge:
    """Judges answers to one task on the same cases: the oracle and the known mistakes run once, not once an answer.

    Raises ValueError for no cases, and when the oracle's value is not usable. Known mistakes run in this process; their
    time limit holds in the main thread only.
    """

    def __init__(self, task: Task, cases: Sequence[Case]) -> None:
        self.task, self.cases = task, cases
        self.expected = expected_values(task.exercise, cases)

    def prepare(self) -> None:
        """Run the known mistakes now."""
        self.mistakes  # noqa: B018

    def verdict(self, results: Sequence[Outcome]) -> Verdict:
        """Judge the outcomes of the cases, in their order; what a known mistake comes to gets its hint.

        Values first, by the order of the cases, then "unchanged": that no call changed an argument.
        Raises ValueError when there is not one outcome a case.
        """
        found = failures(self.task.exercise, results, self.cases, self.expected)
        return Verdict(False, *found[0], self.hint(results)) if found else Verdict(True)

    def hint(self, results: Sequence[Outcome]) -> str | None:
        """Return the hint of the known wrong answer that has these outcomes too, if there is one.

        Errors are alike when their kinds are; an answer that gives no value at all is like no other.
        """
        if all(result.error is not None for result in results):
            return None
        tolerance = self.task.exercise.tolerance
        for outcomes, hint in self.mistakes:
            if all(_alike(one, other, tolerance) for one, other in zip(results, outcomes, strict=True)):
                return hint
        return None

    @cached_property
    def mistakes(self) -> list[tuple[list[Outcome], str]]:
        """What each known wrong answer comes to, and its hint."""
        task = self.task
        calls = [(task.exercise.id, case.args) for case in self.cases]
        return [(run_plainly(task.source(task.edited(w)), calls), w.hint) for w in task.exercise.wrong]


def expected_values(exercise: Exercise, cases: Sequence[Case]) -> list[Any]:
    """Return the oracle's values; raises ValueError for one with NaN, or of another kind than a number."""
    if not cases:
        raise ValueError(f"exercise {exercise.id} has no cases: every answer would pass")
    values = [_arrays(exercise.oracle(*copy.deepcopy(case.args))) for case in cases]
    for case, value in zip(cases, values, strict=True):
        for array in _flat(value):
            if array.dtype.kind not in "biuf" or np.isnan(array.astype(float)).any():
                raise ValueError(f"exercise {exercise.id}, check {case.check!r}: the oracle gives NaN or no number")
    return values


def failures(
    exercise: Exercise, results: Sequence[Outcome], cases: Sequence[Case], expected: Sequence[Any]
) -> list[tuple[str, str]]:
    """Return (check, message) for each check that fails, once, the first failure first."""
    if not len(results) == len(cases) == len(expected):
        raise ValueError(f"exercise {exercise.id}: {len(cases)} cases have {len(results)} outcomes; give one each")
    found: dict[str, str] = {}
    for result, case, value in zip(results, cases, expected, strict=True):
        fault = result.error or difference(result.value, value, exercise.tolerance)
        if fault and case.check not in found:
            found[case.check] = _message(exercise, case.check, fault)
    places = sorted({place for result in results for place in result.changed})
    if places:
        fault = f"changed in place: argument {', '.join(str(place + 1) for place in places)}"
        found[UNCHANGED] = _message(exercise, UNCHANGED, fault)
    return list(found.items())


def difference(value: Any, expected: Any, tolerance: float) -> str | None:
    """Say how a value differs from the expected one in parts, shape, type, NaN or size; None if it does not."""
    if isinstance(expected, tuple):
        return _parts_differ(value, expected, tolerance)
    if not isinstance(value, np.ndarray):
        return f"gave {count(value)} instead of one"
    if value.shape != expected.shape:
        return f"gave the shape {value.shape} instead of {expected.shape}"
    if kind(value) != kind(expected):
        return f"gave numbers of type {value.dtype} instead of {KINDS[kind(expected)]}"
    if value.dtype.kind in "biu":
        wrong = int(np.sum(value != expected))
        return f"{wrong} of {value.size} numbers differ" if wrong else None
    return _floats_differ(value.astype(np.float64), expected.astype(np.float64), tolerance)


def _message(exercise: Exercise, check: str, fault: str) -> str:
    return f"{exercise.messages.get(check, check)} ({fault})"


def _arrays(value: Any) -> Any:
    return tuple(_arrays(part) for part in value) if isinstance(value, tuple) else np.asarray(value)


def _flat(value: Any) -> list[np.ndarray]:
    return [array for part in value for array in _flat(part)] if isinstance(value, tuple) else [value]


def _parts_differ(value: Any, expected: tuple[Any, ...], tolerance: float) -> str | None:
    if not isinstance(value, tuple) or len(value) != len(expected):
        return f"gave {count(value)} instead of {len(expected)} values"
    for place, (one, other) in enumerate(zip(value, expected, strict=True), 1):
        fault = difference(one, other, tolerance)
        if fault:
            return f"value {place}: {fault}"
    return None


def _floats_differ(value: np.ndarray, expected: np.ndarray, tolerance: float) -> str | None:
    infinite = np.isinf(expected)
    lost = ~np.isfinite(value) & ~(infinite & (value == expected))
    if lost.any():
        return f"{int(lost.sum())} of {value.size} numbers are NaN or infinite"
    scale = np.max(np.abs(expected), where=~infinite, initial=0.0)
    with np.errstate(invalid="ignore"):
        gap = np.where(infinite & (value == expected), 0.0, np.abs(value - expected))
    far = gap > tolerance * (1 + scale)
    return f"{int(far.sum())} of {value.size} numbers differ, by {gap.max():.3g} at most" if far.any() else None


def _alike(one: Outcome, other: Outcome, tolerance: float) -> bool:
    if one.error is not None or other.error is not None:
        return str(one.error).split(":")[0] == str(other.error).split(":")[0]
    return list(one.changed) == list(other.changed) and _same_values(one.value, other.value, tolerance)


def _same_values(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, tuple) or isinstance(other, tuple):
        fits = isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other)
        return fits and all(_same_values(a, b, tolerance) for a, b in zip(one, other, strict=True))
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray) or one.shape != other.shape:
        return False
    if one.dtype.kind not in "biuf" or other.dtype.kind not in "biuf":
        return False
    scale = np.max(np.abs(other.astype(float)), where=np.isfinite(other), initial=0.0)
    return bool(np.allclose(one, other, rtol=0, atol=tolerance * (1 + scale), equal_nan=True))
