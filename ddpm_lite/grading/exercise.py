"""An exercise: its notebook, the cases of its checks, its known right and wrong answers."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Case", "Exercise", "Outcome", "Set", "Task", "Wrong", "load"]

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
ROLES = ("answer", "check", "given")


@dataclass(frozen=True)
class Case:
    """One call of the answer, and the name of the check that it belongs to.

    args: numpy arrays, which the answer gets as tensors, numbers, strings, and tuples of those.
    """

    check: str
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Wrong:
    """A known mistake: a one-line edit of the solution, the check that fails first, and what the student reads."""

    old: str
    new: str
    refused_by: str
    hint: str


@dataclass(frozen=True)
class Outcome:
    """What one call came to: a value (an array, or a tuple of arrays) or an error in words.

    changed: the places of the arguments that the call changed.
    """

    value: Any = None
    error: str | None = None
    changed: Sequence[int] = ()


@dataclass(frozen=True)
class Exercise:
    """What grades one function: random cases, another road to the right values, and the answers that prove both.

    cases: called with a fresh generator at every grading. oracle: takes and returns numpy arrays, numbers or
    tuples of those. messages: check -> what is wrong, in a sentence; "unchanged" is the check that no argument is
    changed in place. tolerance: relative to the largest expected magnitude, plus the same absolute. right: other
    correct answers, whole sources. equivalent: a line of an automatic mutant that changes nothing -> the reason.
    Raises ValueError for an id that is no name, dots other than 1 to 3, points or a tolerance that is not positive.
    """

    id: str
    dots: int
    points: float
    hints: tuple[str, str]
    cases: Callable[[np.random.Generator], list[Case]]
    oracle: Callable[..., Any]
    messages: Mapping[str, str]
    tolerance: float = 1e-6
    right: tuple[str, ...] = ()
    wrong: tuple[Wrong, ...] = ()
    equivalent: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id.isidentifier():
            raise ValueError(f"the id of an exercise is the name of its function; got {self.id!r}")
        if self.dots not in (1, 2, 3):
            raise ValueError(f"exercise {self.id}: dots, the difficulty, is 1, 2 or 3; got {self.dots}")
        if not (self.points > 0 and self.tolerance > 0):
            raise ValueError(
                f"exercise {self.id}: points and tolerance must be positive; got {self.points} and {self.tolerance}"
            )


@dataclass(frozen=True)
class Task:
    """An exercise as it stands in its notebook.

    statement: Markdown from its "## " line on. solution: source of the function. stub: what the student starts from.
    given: source that runs before every answer. debug: the stub is the first wrong answer.
    """

    exercise: Exercise
    title: str
    statement: str
    solution: str
    stub: str
    given: str
    path: Path
    debug: bool = False

    def source(self, answer: str) -> str:
        """Return the answer behind the given code."""
        return f"{self.given}\n\n{answer}" if self.given else answer

    def edited(self, wrong: Wrong) -> str:
        """Return the solution with a known mistake; raises ValueError where the edit does not fit exactly once."""
        return _edit(self.solution, wrong, f"{self.path}: exercise {self.exercise.id}")


@dataclass(frozen=True)
class Set:
    """The exercises of one chapter, in the order of the notebook."""

    path: Path
    exercises: tuple[Task, ...]


@dataclass
class _Cell:
    """A cell of the notebook that has a part in an exercise; where: what an error names."""

    where: str
    role: str
    id: str | None
    debug: bool
    source: str
    text: str  # the Markdown before it


def load(md_path: str | Path) -> Set:
    """Return the exercises of `NN_name.md`, which are graded by `NN_name_checks.py` beside it.

    The cells of an exercise: Markdown with a "## " title, a code cell with the metadata `exercise: {id: f, role:
    answer}` that defines f, and one of role check that holds `check("f", f)`. Code of role given, without an id, runs
    before every answer. With `debug: true` in the answer's metadata the student starts from the first wrong answer.
    Raises ValueError that names the file, the cell and the remedy.
    """
    path = Path(md_path)
    cells = _cells(path)
    given = "\n\n".join(cell.source for cell in cells if cell.role == "given")
    answers = _by_id(path, cells, "answer")
    checks = _by_id(path, cells, "check")
    exercises = _exercises(path.with_name(f"{path.stem}_checks.py"))
    ids = [exercise.id for exercise in exercises]
    if ids != list(answers) or ids != list(checks):
        raise ValueError(
            f"{path}: the answer cells {list(answers)}, the check cells {list(checks)} and EXERCISES {ids} of the "
            f"checks differ: give each exercise one of each, in the same order"
        )
    for cell in checks.values():
        if cell.source.strip() != f'check("{cell.id}", {cell.id})':
            raise ValueError(f'{cell.where}: the check cell must hold check("{cell.id}", {cell.id}) and no more')
    return Set(path, tuple(_task(path, exercise, answers[exercise.id], given) for exercise in exercises))


def _cells(path: Path) -> list[_Cell]:
    import jupytext  # type: ignore[import-untyped]

    found, text = [], ""
    for number, cell in enumerate(jupytext.read(path).cells, 1):
        meta = cell.metadata.get("exercise")
        if cell.cell_type != "code":
            text = cell.source
        elif meta is not None:
            found.append(_cell(f"{path}, cell {number}", meta, cell.source, text))
    return found


def _cell(where: str, meta: Any, source: str, text: str) -> _Cell:
    if not isinstance(meta, Mapping) or meta.get("role") not in ROLES:
        raise ValueError(f"{where}: exercise: {meta} must be {{id: ..., role: ...}} with a role of {', '.join(ROLES)}")
    if (meta["role"] == "given") != ("id" not in meta):
        raise ValueError(f"{where}: exercise: {meta} needs an id if it is an answer or a check, and else none")
    unknown = set(meta) - {"id", "role", "debug"}
    if unknown:
        raise ValueError(f"{where}: exercise: {meta} has the unknown keys {sorted(unknown)}: use id, role, debug")
    return _Cell(where, meta["role"], meta.get("id"), bool(meta.get("debug")), source, text)


def _by_id(path: Path, cells: list[_Cell], role: str) -> dict[str, _Cell]:
    found: dict[str, _Cell] = {}
    for cell in cells:
        if cell.role != role:
            continue
        if str(cell.id) in found:
            raise ValueError(f"{cell.where}: {cell.id!r} already has its cell of role {role}: remove one of the two")
        found[str(cell.id)] = cell
    if not found:
        raise ValueError(f"{path}: no cell has the metadata exercise: {{id: ..., role: {role}}}")
    return found


def _exercises(path: Path) -> list[Exercise]:
    if not path.exists():
        raise ValueError(f"{path} is missing: write EXERCISES, the list of the notebook's checks, in it")
    namespace: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
    except Exception as error:
        raise ValueError(f"{path} does not run: {type(error).__name__}: {error}") from error
    exercises = namespace.get("EXERCISES")
    if not isinstance(exercises, list) or not all(isinstance(exercise, Exercise) for exercise in exercises):
        raise ValueError(f"{path}: EXERCISES must be a list of Exercise; got {type(exercises).__name__}")
    return exercises


def _task(path: Path, exercise: Exercise, cell: _Cell, given: str) -> Task:
    titles = list(re.finditer(r"^## (.+)$", cell.text, re.MULTILINE))
    if not titles:
        raise ValueError(f"{cell.where}: no statement: write Markdown with a '## ' title before the answer cell")
    before, body, after = _parts(cell)
    solution = f"{before}{body}{after}".strip() + "\n"
    _require_function(cell, solution, exercise.id)
    indent = body[: len(body) - len(body.lstrip())]
    stub = f"{before}{indent}raise NotImplementedError\n{after}".strip() + "\n"
    if cell.debug:
        if not exercise.wrong:
            raise ValueError(f"{cell.where}: debug: true needs a wrong answer in the checks: its first is the stub")
        stub = _edit(solution, exercise.wrong[0], cell.where)
    statement = cell.text[titles[-1].start() :].strip()
    return Task(exercise, titles[-1][1].strip(), statement, solution, stub, given, path, cell.debug)


def _parts(cell: _Cell) -> tuple[str, str, str]:
    """Return the source before, inside and after the solution's region."""
    lines = cell.source.splitlines(keepends=True)
    marks = [(n, line.strip()) for n, line in enumerate(lines) if line.strip() in (BEGIN, END)]
    if [mark for _, mark in marks] != [BEGIN, END]:
        raise ValueError(f"{cell.where}: the answer needs one line {BEGIN!r} and, after it, one line {END!r}")
    begin, end = marks[0][0], marks[1][0]
    body = "".join(lines[begin + 1 : end])
    if not textwrap.dedent(body).strip():
        raise ValueError(f"{cell.where}: the solution between its two marks is empty")
    return "".join(lines[:begin]), body, "".join(lines[end + 1 :])


def _require_function(cell: _Cell, solution: str, name: str) -> None:
    try:
        tree = ast.parse(solution)
    except SyntaxError as error:
        raise ValueError(f"{cell.where}: the solution is no Python: {error}") from error
    found = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    if found != [name]:
        raise ValueError(f"{cell.where}: the answer must define the function {name} and no other; it defines {found}")


def _edit(solution: str, wrong: Wrong, where: str) -> str:
    count = solution.count(wrong.old)
    if count != 1 or wrong.old == wrong.new:
        raise ValueError(
            f"{where}: the wrong answer {wrong.old!r} -> {wrong.new!r} no longer applies: its old text occurs "
            f"{count} times in the solution, and must occur once and differ from the new"
        )
    return solution.replace(wrong.old, wrong.new)
