"""The judge against outcomes whose right verdict is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from ddpm_lite.grading import Case, Exercise, Outcome, Task, Wrong
from ddpm_lite.grading.judge import Judge, Verdict, difference
from ddpm_lite.grading.plain import run_plainly

X = np.array([1.0, -200.0, 3.0])
CASES = [Case("values", (X,)), Case("t = 0", (0 * X,))]
EXERCISE = Exercise(
    "double",
    1,
    1.0,
    ("", ""),
    lambda rng: CASES,
    lambda x: 2 * x,
    {"values": "Not twice.", "t = 0": "Wrong at 0.", "unchanged": "Changed."},
    wrong=(Wrong("2 *", "3 *", "values", "That is three times."), Wrong("2 *", "2 +", "values", "That adds.")),
)
TASK = Task(EXERCISE, "", "", "def double(x):\n    return 2 * x\n", "", "", Path("a.md"))
GOOD = [Outcome(2 * X), Outcome(0 * X)]


def judge(results: Sequence[Outcome], cases: Sequence[Case] = CASES, **changes: Any) -> Verdict:
    """The verdict on the exercise above, or on it with changes."""
    return Judge(replace(TASK, exercise=replace(EXERCISE, **changes)), cases).verdict(results)


def test_right_values_pass_in_both_precisions() -> None:
    assert judge(GOOD).passed
    assert judge([Outcome((2 * X).astype(np.float32)), GOOD[1]]).passed


def test_the_first_failing_check_is_named() -> None:
    verdict = judge([GOOD[0], Outcome(0 * X + 1)])
    assert (verdict.passed, verdict.check) == (False, "t = 0")
    assert verdict.message == "Wrong at 0. (3 of 3 numbers differ, by 1 at most)"


def test_an_error_fails_its_check() -> None:
    verdict = judge([Outcome(error="ran out of time"), GOOD[1]])
    assert (verdict.check, verdict.message) == ("values", "Not twice. (ran out of time)")


def test_a_changed_argument_fails_after_the_values() -> None:
    changed = [replace(GOOD[0], changed=[0]), GOOD[1]]
    assert judge(changed).check == "unchanged"
    assert "argument 1" in judge(changed).message
    assert judge([changed[0], Outcome(X)]).check == "t = 0"


@pytest.mark.parametrize(
    ("value", "expected", "fault"),
    [
        (X[:2], X, "shape"),
        (X[:, None], X, "shape"),
        (X.astype(np.int64), X, "type int64 instead of float32 or float64"),
        (X.astype(np.float16), X, "type float16"),
        (X > 0, X, "type bool"),
        (X, X.astype(np.int64), "type float64 instead of int64"),
        (X.astype(np.int32), X.astype(np.int64), None),
        (X.astype(np.int64) + 1, X.astype(np.int64), "3 of 3"),
        (np.array([1.0, np.nan, 3.0]), X, "1 of 3 numbers are NaN"),
        (np.array([1.0, -np.inf, 3.0]), X, "infinite"),
        (np.array([1.0, np.inf]), np.array([1.0, np.inf]), None),
        (np.array([1.0, -np.inf]), np.array([1.0, np.inf]), "infinite"),
        (np.array([1.0, 2.0]), np.array([1.0, np.inf]), "1 of 2 numbers differ"),
        (None, X, "no value"),
        ((X, X), X, "2 values instead of one"),
        (X, (X, X), "one value instead of 2"),
        ((X, X, X), (X, X), "3 values instead of 2"),
        ((X, X + 1), (X, X), "value 2: 3 of 3"),
        ((X, X), (X, X), None),
        (np.array(3.0), np.array(3.0), None),
        (np.array([3.0]), np.array(3.0), "shape"),
    ],
)
def test_a_difference_is_seen(value: Any, expected: Any, fault: str | None) -> None:
    found = difference(value, expected, 1e-6)
    assert found is None if fault is None else fault in str(found)


@pytest.mark.parametrize(("part", "passes"), [(0.99, True), (1.01, False)])
def test_the_tolerance_is_relative_to_the_largest_magnitude_plus_absolute(part: float, passes: bool) -> None:
    moved = X + np.array([part * 1e-6 * (1 + 200), 0, 0])
    assert (difference(moved, X, 1e-6) is None) is passes
    assert (difference(np.full(2, part * 1e-6), np.zeros(2), 1e-6) is None) is passes


def test_a_known_mistake_gets_its_hint_in_whatever_style() -> None:
    def verdict(source: str) -> Any:
        return judge(run_plainly(source, [("double", case.args) for case in CASES]))

    assert verdict("def double(x):\n    return x + x + x").hint == "That is three times."
    assert verdict("def double(x):\n    return x + 2").hint == "That adds."
    assert verdict("def double(x):\n    return 5 * x").hint is None
    assert verdict("def double(x):\n    return x.sum()").hint is None
    assert verdict("def double(x):\n    pass").hint is None
    assert verdict("def double(x):\n    return 3 * x if x.any() else 1 / 0").hint is None
    assert verdict("def double(x):\n    return x + x").passed


def test_a_known_mistake_that_raises_gets_its_hint_where_the_other_cases_agree() -> None:
    raising = Wrong("2 * x", "x * 2 if x.any() else [][1]", "t = 0", "It raises.")
    other_words = Outcome(error="raised IndexError: in other words")
    assert judge([GOOD[0], other_words], wrong=(raising,)).hint == "It raises."
    assert judge([other_words, other_words], wrong=(raising,)).hint is None


def test_an_array_of_no_numbers_is_refused() -> None:
    verdict = judge([Outcome(np.array(["2", "-400", "6"])), GOOD[1]])
    assert (verdict.check, verdict.hint) == ("values", None)


def test_oracle_and_known_mistakes_run_once_for_many_answers() -> None:
    ran: list[str] = []

    def oracle(x: np.ndarray) -> np.ndarray:
        ran.append("oracle")
        return 2 * x

    exercise = replace(EXERCISE, oracle=oracle)
    examiner = Judge(replace(TASK, exercise=exercise), CASES)
    with patch("ddpm_lite.grading.judge.run_plainly", wraps=run_plainly) as run:
        verdicts = [examiner.verdict([Outcome(factor * X), Outcome(0 * X)]) for factor in (2, 3, 5, 3)]
    assert [verdict.hint for verdict in verdicts] == [None, "That is three times.", None, "That is three times."]
    assert run.call_count == len(EXERCISE.wrong)
    assert len(ran) == len(CASES)


def test_what_makes_a_verdict_worthless_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 cases have 1 outcomes"):
        judge(GOOD[:1])
    with pytest.raises(ValueError, match="no cases"):
        judge([], [])
    with pytest.raises(ValueError, match="oracle gives NaN"):
        judge(GOOD, oracle=lambda x: x * np.nan)


def test_an_oracle_that_writes_into_its_arguments_changes_no_case() -> None:
    def rude(x: np.ndarray) -> np.ndarray:
        x *= 2
        return x

    assert judge(GOOD, oracle=rude).passed
    np.testing.assert_array_equal(CASES[0].args[0], [1.0, -200.0, 3.0])


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("def f(x): raise KeyError('k')", "raised KeyError: 'k'"),
        ("def g(x): return x", "there is no function f"),
        ("def f(x)", "raised SyntaxError"),
        ("def f(x): return 'text'", "raised TypeError: the result is a str"),
        (
            "def f(x):\n    while True:\n        try:\n            pass\n        except Exception:\n            pass",
            "out of time",
        ),
    ],
)
def test_a_plain_run_turns_an_error_into_words(source: str, error: str) -> None:
    outcomes = run_plainly(source, [("f", (X,)), ("f", (X,))], seconds=0.3)
    assert len(outcomes) == 2
    assert all(error in str(outcome.error) for outcome in outcomes)


def test_a_plain_run_tells_which_arguments_changed_and_leaves_the_cases_alone() -> None:
    x, pair = X.copy(), (X.copy(), 2)
    (outcome,) = run_plainly("def f(n, x, p):\n    p[0].zero_()\n    return x.exp(), 3", [("f", (1, x, pair))])
    assert list(outcome.changed) == [2]
    np.testing.assert_allclose(outcome.value[0], np.exp(X))
    assert outcome.value[1] == 3
    np.testing.assert_array_equal(pair[0], X)
