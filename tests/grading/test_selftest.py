"""The self-test proves the shipped exercises, and catches an exercise or a judge that was sabotaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_lite.grading import Set, Task, Wrong, load
from ddpm_lite.grading.judge import UNCHANGED
from ddpm_lite.grading.selftest import Report, selftest

FOLDER = Path(__file__).resolve().parents[2] / "book" / "exercises"
SOURCES = sorted(FOLDER.glob("[0-9]*.md"))
TASKS = [task for path in SOURCES for task in load(path).exercises]
TASK = next(task for task in TASKS if task.exercise.id == "merge_fits")


def of(task: Task = TASK, seeds: int = 2, **changes: Any) -> Report:
    new = replace(task, exercise=replace(task.exercise, **changes))
    return selftest([Set(task.path, (new,))], seeds=seeds)


def test_there_are_exercises() -> None:
    assert SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_grader_of_a_set_is_proven_on_20_seeds(path: Path) -> None:
    report = selftest([load(path)], seeds=20)
    assert report.problems == []
    assert min(report.refused.values()) >= 10


@pytest.fixture
def no_mutants(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers that people wrote must do: a tenth of the time."""
    monkeypatch.setattr("ddpm_lite.grading.selftest.mutants", lambda source: [])


@pytest.mark.usefixtures("no_mutants")
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.exercise.id)
def test_a_tolerance_of_10_is_caught(task: Task) -> None:
    """Then every finite result of the right shape passes, but for whole numbers, which must be equal."""
    problems = of(task, seeds=1, tolerance=10.0).problems
    caught = any("wrong answer" in problem and "passes: add a case" in problem for problem in problems)
    assert caught != all(array.dtype.kind == "i" for array in results(task))


def results(task: Task) -> list[np.ndarray]:
    """What the oracle gives in all cases, the parts of a tuple one by one."""
    cases = task.exercise.cases(np.random.default_rng(0))
    values = [task.exercise.oracle(*case.args) for case in cases]
    return [np.asarray(part) for value in values for part in (value if isinstance(value, tuple) else (value,))]


def test_a_tolerance_of_10_lets_mutants_pass_too() -> None:
    assert sum("mutant" in problem and "passes: add a case" in problem for problem in of(tolerance=10.0).problems) > 10


@pytest.mark.usefixtures("no_mutants")
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.exercise.id)
def test_a_dropped_case_is_caught(task: Task) -> None:
    """Each check that some known mistake names as the first to refuse it."""
    whole, named = task.exercise.cases, {wrong.refused_by for wrong in task.exercise.wrong} - {UNCHANGED}
    assert named
    for dropped in named:

        def cases(rng: np.random.Generator, dropped: str = dropped) -> list[Any]:
            return [case for case in whole(rng) if case.check != dropped] or [replace(whole(rng)[0], check="other")]

        problems = of(task, seeds=1, cases=cases).problems
        assert any(f"must be refused by {dropped!r} first" in text or "passes" in text for text in problems), dropped


def spoiled(value: Any, place: int) -> Any:
    """The value of an oracle, with one of its parts wrong by 0.1 %, or by 1."""
    if isinstance(value, tuple):
        return tuple(spoiled(part, 0) if n == place % len(value) else part for n, part in enumerate(value))
    array = np.asarray(value)
    return ~array if array.dtype.kind == "b" else array + 1 if array.dtype.kind in "iu" else 1.001 * array + 1e-3


@pytest.mark.usefixtures("no_mutants")
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.exercise.id)
@pytest.mark.parametrize("place", [0, 1])
def test_a_wrong_oracle_is_caught(task: Task, place: int) -> None:
    oracle = task.exercise.oracle
    problems = of(task, seeds=1, oracle=lambda *args: spoiled(oracle(*args), place)).problems
    assert any("the solution must pass, but" in problem for problem in problems)
    for number in range(1, len(task.exercise.right) + 1):
        assert any(f"right answer {number} must pass, but" in problem for problem in problems)


@pytest.mark.parametrize("spoil", [lambda mean, var: (mean,), lambda mean, var: (var, mean)])
def test_an_oracle_with_its_parts_lost_or_exchanged_is_caught(spoil: Callable[..., Any]) -> None:
    oracle = TASK.exercise.oracle
    problems = of(oracle=lambda *args: spoil(*oracle(*args))).problems
    assert any("the solution must pass, but" in problem for problem in problems)


def test_a_bar_shows_the_progress_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    selftest([Set(TASK.path, (TASK,))], seeds=1, progress=True)
    shown = capsys.readouterr()
    assert "gradings: 100%" in shown.err
    assert shown.out == ""
    selftest([Set(TASK.path, (TASK,))], seeds=1)
    assert capsys.readouterr().err == ""


def test_a_right_answer_that_is_refused_is_named() -> None:
    bad = TASK.solution.replace("gap / n", "gap")
    assert "right answer 1 must pass, but the check 'values' refuses it" in of(right=(bad,)).problems[0]


def test_a_wrong_answer_that_another_check_refuses_is_named() -> None:
    moved = replace(TASK.exercise.wrong[0], refused_by="far from 0")
    (problem,) = of(wrong=(moved, *TASK.exercise.wrong[1:])).problems
    assert "must be refused by 'far from 0' first, not by 'values' (seed 0)" in problem


def test_a_patch_that_no_longer_applies_stops_the_run() -> None:
    with pytest.raises(ValueError, match=r"01_gaussians.md: exercise merge_fits.*no longer applies"):
        of(wrong=(Wrong("no such text", "", "values", ""),))


def test_a_stub_that_passes_is_caught() -> None:
    assert any("the stub passes" in text for text in of(replace(TASK, stub=TASK.solution)).problems)


def test_equivalent_mutants_need_a_reason_a_mutant_and_to_pass() -> None:
    line = "gap = mean_b + mean_a"
    assert any(f"{line!r} must pass, but" in text for text in of(equivalent={line: "a reason"}).problems)
    assert any("no mutant" in text for text in of(equivalent={"gap = 7": "a reason"}).problems)
    fuse = load(FOLDER / "01_gaussians.md").exercises[1]
    assert any("mutant" in text and "passes" in text for text in of(fuse, equivalent={}).problems)


def test_messages_and_three_wrong_answers_are_asked_for() -> None:
    text = str(of(messages={}, wrong=TASK.exercise.wrong[:2]))
    assert "no message for the check 'values'" in text
    assert "no message for the check 'unchanged'" in text
    assert "has 2 wrong answers" in text


def test_a_redundant_check_is_told() -> None:
    whole = TASK.exercise.cases

    def cases(rng: np.random.Generator) -> list[Any]:
        drawn = whole(rng)
        return [*drawn, replace(drawn[0], check="the same again")]

    messages = {**TASK.exercise.messages, "the same again": "As before."}
    report = of(cases=cases, messages=messages)
    assert report.problems == []
    assert "the same again" in report.redundant["merge_fits"]
    assert "values" not in report.redundant["merge_fits"]
    assert "unchanged" not in report.redundant["merge_fits"]
    assert "far from 0" not in report.redundant["merge_fits"]


def test_a_judge_that_looks_at_no_changes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddpm_lite.grading.plain._same", lambda tensor, array: True)
    assert any("add_(1)" in problem and "passes" in problem for problem in of().problems)


def test_a_self_test_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="seeds >= 1"):
        of(seeds=0)
    with pytest.raises(ValueError, match="no exercise"):
        selftest([], seeds=1)


def test_an_exercise_without_cases_is_refused() -> None:
    with pytest.raises(ValueError, match="no cases"):
        of(cases=lambda rng: [])


def test_the_exercise_of_these_tests_is_sound_before_it_is_sabotaged() -> None:
    assert of().problems == []
