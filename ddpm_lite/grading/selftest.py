"""The proof of the grader: right answers pass, and every known or automatic mistake is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .exercise import Set, Task
from .judge import UNCHANGED, expected_values, failures
from .mutants import mutants
from .plain import run_plainly

__all__ = ["Report", "selftest"]

LEAST_WRONG = 3


@dataclass(frozen=True)
class Answer:
    """An answer of our own. refused_by: the check that must fail first, "" for any, None if the answer is right."""

    name: str
    source: str
    refused_by: str | None


@dataclass
class Report:
    """What the self-test found. problems: empty if the grader is proven.

    refused: exercise -> number of mistakes that were refused on all seeds. redundant: exercise -> checks that refuse
    nothing that the others do not refuse too.
    """

    problems: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    redundant: dict[str, list[str]] = field(default_factory=dict)
    seeds: int = 0

    def __str__(self) -> str:
        lines = [f"{id}: {count} mistakes refused on {self.seeds} seeds" for id, count in self.refused.items()]
        lines += [f"{id}: redundant checks: {', '.join(checks)}" for id, checks in self.redundant.items() if checks]
        return "\n".join([*lines, *(f"PROBLEM: {problem}" for problem in self.problems)])


def selftest(sets: Iterable[Set], *, seeds: int = 20, progress: bool = False) -> Report:
    """Grade the known answers of all exercises on the seeds 0, 1, ..., seeds - 1, in this process.

    The solution and each right answer must pass; the stub, each wrong answer, by the check that it names, and each
    mutant of the solution that is not in `equivalent` must be refused.
    Raises ValueError for seeds < 1, and for a wrong answer whose edit no longer applies.
    """
    if seeds < 1:
        raise ValueError(f"selftest needs seeds >= 1; got {seeds}: without a grading nothing is proven")
    report = Report(seeds=seeds)
    tasks = [task for each in sets for task in each.exercises]
    if not tasks:
        raise ValueError("selftest got no exercise: name at least one set")
    answers = [_answers(task) for task in tasks]
    with _bar(seeds * sum(map(len, answers)), progress) as bar:
        for task, own in zip(tasks, answers, strict=True):
            _prove(task, own, seeds, report, bar)
    return report


def _answers(task: Task) -> list[Answer]:
    exercise = task.exercise
    stub = exercise.wrong[0].refused_by if task.debug else ""
    return [
        Answer("the solution", task.solution, None),
        *(Answer(f"right answer {n}", source, None) for n, source in enumerate(exercise.right, 1)),
        Answer("the stub", task.stub, stub),
        *(Answer(f"wrong answer {w.old!r} -> {w.new!r}", task.edited(w), w.refused_by) for w in exercise.wrong),
        *(
            Answer(f"mutant {mutant.line!r}", mutant.source, None if mutant.line in exercise.equivalent else "")
            for mutant in mutants(task.solution)
        ),
    ]


def _prove(task: Task, answers: list[Answer], seeds: int, report: Report, bar: Any) -> None:
    exercise, where = task.exercise, f"{task.path.name}, {task.exercise.id}"
    kept = [_form(task)] if _form(task) else []
    refusals: list[set[str]] = []  # the checks that refused, for each mistake and seed
    faults: dict[str, str] = {}  # answer -> its first fault
    names: list[str] = []
    for seed in range(seeds):
        cases = exercise.cases(np.random.default_rng(seed))
        expected = expected_values(exercise, cases)
        names = list(dict.fromkeys([*names, *(case.check for case in cases)]))
        for answer in answers:
            results = run_plainly(task.source(answer.source), [(exercise.id, case.args) for case in cases])
            found = failures(exercise, results, cases, expected)
            fault = _fault(answer, found)
            if fault:
                faults.setdefault(answer.name, f"{fault} (seed {seed})")
            if answer.refused_by is not None and not _broken(results):
                refusals.append({check for check, _ in found})
            bar.update()
    kept += [f"{name} {fault}" for name, fault in faults.items()]
    kept += [f"no message for the check {name!r}" for name in [*names, UNCHANGED] if name not in exercise.messages]
    report.problems += [f"{where}: {problem}" for problem in kept]
    report.refused[exercise.id] = sum(a.refused_by is not None and a.name not in faults for a in answers)
    report.redundant[exercise.id] = _redundant([*names, UNCHANGED], refusals)


def _redundant(names: list[str], refusals: list[set[str]]) -> list[str]:
    """Return the checks, the last ones first, that could all be left out: the others refuse the same mistakes."""
    dropped: list[str] = []
    for name in reversed(names):
        if all(checks - {*dropped, name} for checks in refusals if checks):
            dropped.append(name)
    return dropped


def _fault(answer: Answer, found: list[tuple[str, str]]) -> str | None:
    """Say what is wrong with the checks that failed for an answer."""
    first = found[0][0] if found else None
    if answer.refused_by is None:
        return f"must pass, but the check {first!r} refuses it: {found[0][1]}" if found else None
    if first is None:
        remedy = "add a case" if answer.refused_by else "add a case, or list the line in equivalent with its reason"
        return f"passes: {remedy}"
    if answer.refused_by and first != answer.refused_by:
        return f"must be refused by {answer.refused_by!r} first, not by {first!r}"
    return None


def _broken(results: list[Any]) -> bool:
    """Whether no call gave a value: then every check refuses the answer, and none of them is put to the test."""
    return all(result.error is not None for result in results)


def _form(task: Task) -> str | None:
    """Say what an exercise lacks, or which of its equivalent mutants are none of its mutants."""
    exercise = task.exercise
    if len(exercise.wrong) < LEAST_WRONG:
        return f"has {len(exercise.wrong)} wrong answers: give at least {LEAST_WRONG}, real mistakes of the field"
    lines = {mutant.line for mutant in mutants(task.solution)}
    stale = [line for line, reason in exercise.equivalent.items() if line not in lines or not reason]
    return f"equivalent lists lines that are no mutant, or have no reason: {stale}" if stale else None


def _bar(total: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="gradings", unit="", mininterval=0.5, disable=not progress)
