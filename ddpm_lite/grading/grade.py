"""Grade a folder of submissions: notebooks and Python files in, points, reasons and feedback out."""

from __future__ import annotations

import ast
import csv
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .exercise import Essay, Set, Task
from .judge import Judge
from .sandbox import Limits, Sandbox, SandboxError
from .submission import Submission, needed, read, submissions

__all__ = ["Row", "grade", "total", "write_csv", "write_feedback"]

BY_PERSON = "An essay: a person reads it."
COLUMNS = ("name", "exercise", "points", "of", "reason")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes text that starts so for a formula
LONGEST_REASON = 2000  # characters
LONGEST_NAME = 200  # bytes of a file's name


@dataclass(frozen=True)
class Row:
    """What one submission gets for one exercise, and why; points: None for an essay, which a person grades."""

    name: str
    exercise: str
    points: float | None
    of: float
    reason: str
    hint: str | None = None


def grade(
    folder: str | Path,
    exercises: Set,
    *,
    rng: np.random.Generator,
    unsafe: bool = False,
    limits: Limits | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> list[Row]:
    """Return a row for each submission (.ipynb and .py, also in folders) and exercise, essays last; one bad one stops
    no other.

    All get the same cases, drawn from rng. workers: how many are graded at once, by default one on each processor that
    this process may use. progress: show a bar on stderr.
    Raises ValueError for a folder without submissions, SandboxError where bubblewrap is missing or does not work,
    unless unsafe.
    """
    files = submissions(Path(folder))
    if not files:
        raise ValueError(f"{folder} holds no .ipynb and no .py file: name the folder of the submissions")
    workers = processors() if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers must be at least 1; got {workers}")
    judges = [Judge(task, task.exercise.cases(rng)) for task in exercises.exercises]
    sandboxes = [Sandbox(unsafe=unsafe, limits=limits) for _ in files]
    for judge in judges:
        judge.prepare()  # in this thread, where its time limit holds
    found = _in_threads(files, judges, sandboxes, workers, progress)
    essays = [part for part in exercises.parts if isinstance(part, Essay)]
    by_person = [[Row(name, essay.id, None, essay.points, BY_PERSON) for essay in essays] for name in files]
    return [row for rows, open_rows in zip(found, by_person, strict=True) for row in [*rows, *open_rows]]


def total(rows: Sequence[Row]) -> str:
    """Return the points of one submission in words."""
    graded = [row for row in rows if row.points is not None]
    text = f"{sum(row.points or 0.0 for row in graded):g} of {sum(row.of for row in graded):g} points"
    left = sum(row.of for row in rows if row.points is None)
    return f"{text}, and up to {left:g} from a person" if left else text


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_threads(
    files: dict[str, Path], judges: list[Judge], sandboxes: list[Sandbox], workers: int, progress: bool
) -> list[list[Row]]:
    """Grade several files at once; whatever ends the grading, Ctrl-C too, kills all of their processes."""
    from tqdm import tqdm

    with ThreadPoolExecutor(workers) as pool, tqdm(total=len(files), unit="file", disable=not progress) as bar:
        futures = []
        try:
            for (name, path), sandbox in zip(files.items(), sandboxes, strict=True):
                futures.append(pool.submit(_grade_file, name, path, judges, sandbox))
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BaseException:
            for sandbox in sandboxes:
                sandbox.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _grade_file(name: str, path: Path, judges: Sequence[Judge], sandbox: Sandbox) -> list[Row]:
    with sandbox:
        try:
            submission = read(path)
        except (ValueError, RecursionError, MemoryError, OSError) as error:
            reason = str(error) if isinstance(error, ValueError) else f"cannot be read: {type(error).__name__}"
            return [_row(name, judge.task, 0.0, reason) for judge in judges]
        return [_grade_one(name, submission, judge, sandbox) for judge in judges]


def _grade_one(name: str, submission: Submission, judge: Judge, sandbox: Sandbox) -> Row:
    """Run and judge one function of a submission."""
    task = judge.task
    try:
        return _judged(name, submission, judge, sandbox)
    except SandboxError:
        raise
    except (RecursionError, SyntaxError) as error:
        return _row(name, task, 0.0, f"The function is nested too deep to be read ({type(error).__name__}).")
    except Exception as error:  # a fault of the grader: it must cost no other submission its grade
        reason = f"The grader failed ({type(error).__name__}: {error}). Grade this one by hand."
        return _row(name, task, 0.0, reason)


def _judged(name: str, submission: Submission, judge: Judge, sandbox: Sandbox) -> Row:
    task, exercise = judge.task, judge.task.exercise
    places = submission.places(exercise.id)
    notes = list(submission.notes)
    if len(places) > 1:
        notes.insert(0, f"{exercise.id} is defined {len(places)} times; the last, in {places[-1]}, counts.")
    if not places:
        return _row(name, task, 0.0, " ".join([f"No cell of code defines the function {exercise.id}.", *notes]))
    source = task.source(needed(submission, exercise.id))
    outcomes = sandbox.run(source, [(exercise.id, case.args) for case in judge.cases])
    if all((outcome.error or "").startswith("raised NotImplementedError") for outcome in outcomes):
        return _row(name, task, 0.0, "Not written yet.")
    verdict = judge.verdict(outcomes)
    if task.debug and not verdict.passed and _is_stub(submission, task):
        return _row(name, task, 0.0, "Not changed yet.")
    if verdict.passed:
        return _row(name, task, exercise.points, " ".join(["Right.", *(notes if len(places) > 1 else [])]))
    return _row(name, task, 0.0, " ".join([verdict.message, *notes]), verdict.hint)


def _is_stub(submission: Submission, task: Task) -> bool:
    return submission.definition(task.exercise.id) in ast.unparse(ast.parse(task.stub))


def _row(name: str, task: Task, points: float, reason: str, hint: str | None = None) -> Row:
    text = " ".join("".join(c if c.isprintable() else " " for c in reason).split())
    return Row(name, task.exercise.id, points, task.exercise.points, text[:LONGEST_REASON], hint)


def write_csv(rows: Sequence[Row], path: str | Path) -> None:
    """Write name, exercise, points, of, reason; text that a spreadsheet would take for a formula gets a quote."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            values = [getattr(row, column) for column in COLUMNS]
            writer.writerow([f"'{v}" if isinstance(v, str) and v.startswith(FORMULA) else v for v in values])


def write_feedback(rows: Sequence[Row], folder: str | Path) -> list[Path]:
    """Write one Markdown file a submission and return their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in dict.fromkeys(row.name for row in rows):
        own = [row for row in rows if row.name == name]
        parts = [f"# {_quote(name)}: {total(own)}"]
        for row in own:
            points = "up to" if row.points is None else f"{row.points:g} of"
            parts += [f"## {row.exercise}: {points} {row.of:g}", _quote(row.reason)]
            parts += [f"Hint: {row.hint}"] if row.hint else []
        path = folder / f"{_file_name(name)}.md"
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        written.append(path)
    return written


def _file_name(name: str) -> str:
    """Return a name without slashes, another for each submission."""
    flat = name.replace("_", "__").replace("/", "_-")
    return flat if len(flat.encode()) <= LONGEST_NAME else f"{flat[:40]}-{hashlib.sha256(name.encode()).hexdigest()}"


def _quote(text: str) -> str:
    """Return text that may be a student's, so that Markdown and HTML show it as it stands."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\`*[]!|#" else c for c in text)
