"""Read a set of exercises: `NN_name.md`, the notebook, and `NN_name_checks.py`, what grades it."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .exercise import Essay, Exercise, Set, Task, edited

__all__ = ["load"]

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
ROLES = ("answer", "check", "essay", "given")
KEYS = {"answer": {"debug"}, "check": set(), "essay": {"points"}, "given": set()}
MYST = re.compile(r"\{[\w:]+\}`|^:::|^```\{", re.MULTILINE)
TITLE = re.compile(r"^## (.+)$", re.MULTILINE)


@dataclass
class Cell:
    """A cell of the notebook that has a part in an exercise; where: what an error names."""

    where: str
    role: str
    id: str
    keys: Mapping[str, Any]
    source: str
    text: str  # the Markdown before it


@dataclass
class Answers:
    """What stands outside the notebook: the exercises of its checks, and name -> source of private solutions."""

    exercises: dict[str, Exercise]
    solutions: dict[str, str]


def load(md_path: str | Path, *, answers: str | Path | None = None) -> Set:
    """Return the exercises of `NN_name.md`, which are graded by `NN_name_checks.py` beside it.

    The cells of an exercise: Markdown with a "## " title, a code cell with the metadata `exercise: {id: f, role:
    answer}` that defines f, and one of role check that holds `check("f", f)`. Code of role given, without an id, runs
    before every answer. With `debug: true` in the answer's metadata the student starts from the first wrong answer.
    An essay is one Markdown cell with `exercise: {id: f, role: essay, points: 2}`.

    answers: a private folder. Its `NN_name_checks.py` replaces the one beside the notebook, and each function (or, for
    an essay, string) in its `NN_name_answers.py` the solution of that name, which the notebook may then leave out.
    Raises ValueError that names the file, the cell and the remedy.
    """
    path = Path(md_path)
    intro, cells = read_cells(path)
    given = "\n\n".join(cell.source for cell in cells if cell.role == "given")
    own = read_answers(path, None if answers is None else Path(answers))
    require_pairs(path, cells, list(own.exercises))
    require_known(path, cells, own)
    parts: list[Task | Essay] = []
    for cell in cells:
        if cell.role == "answer":
            parts.append(to_task(path, cell, own, given))
        elif cell.role == "essay":
            parts.append(to_essay(path, cell, own))
    title, _, text = intro.partition("\n")
    return Set(path, tuple(parts), title.removeprefix("# ").strip(), text.strip(), given)


def read_cells(path: Path) -> tuple[str, list[Cell]]:
    """Return the text before the first exercise, and the cells that have a part in one."""
    import jupytext  # type: ignore[import-untyped]

    if not path.exists():
        raise ValueError(f"{path} is missing: a set of exercises is a MyST notebook NN_name.md")
    found, text, intro = [], "", ""
    for number, cell in enumerate(jupytext.read(path).cells, 1):
        where, meta = f"{path}, cell {number}", cell.metadata.get("exercise")
        if cell.cell_type == "markdown":
            require_plain(where, cell.source)
            intro = intro or TITLE.split(cell.source)[0].strip()
            text = cell.source if meta is None else ""
        if meta is not None:
            found.append(to_cell(where, meta, cell, text))
    if not intro.startswith("# "):
        raise ValueError(f"{path}: no title: the first text must start with '# '")
    return intro, found


def require_plain(where: str, text: str) -> None:
    match = MYST.search(text)
    if match:
        raise ValueError(f"{where}: {match[0]!r} is MyST, which Colab does not show: use plain Markdown and $formulas$")


def to_cell(where: str, meta: Any, cell: Any, text: str) -> Cell:
    role = meta.get("role") if isinstance(meta, Mapping) else None
    if role not in ROLES:
        raise ValueError(f"{where}: exercise: {meta} must be {{id: ..., role: ...}} with a role of {', '.join(ROLES)}")
    if (role == "given") != ("id" not in meta):
        raise ValueError(f"{where}: exercise: {meta} needs an id, unless its role is given: then it has none")
    unknown = set(meta) - {"id", "role"} - KEYS[role]
    if unknown:
        known = ", ".join(sorted({"id", "role"} | KEYS[role]))
        raise ValueError(f"{where}: exercise: {meta} has the unknown keys {sorted(unknown)}: the role knows {known}")
    if (role == "essay") != (cell.cell_type == "markdown"):
        raise ValueError(f"{where}: a cell of role {role} must be {'Markdown' if role == 'essay' else 'code'}")
    return Cell(where, role, str(meta.get("id", "")), meta, cell.source, text)


def require_pairs(path: Path, cells: list[Cell], ids: list[str]) -> None:
    """Raise ValueError unless each exercise has one answer cell, one check cell and its checks, in the same order."""
    of_role: dict[str, list[str]] = {role: [] for role in ROLES}
    for cell in cells:
        if cell.id and cell.id in of_role[cell.role]:
            raise ValueError(
                f"{cell.where}: {cell.id!r} already has its cell of role {cell.role}: remove one of the two"
            )
        of_role[cell.role].append(cell.id)
    if not of_role["answer"]:
        raise ValueError(f"{path}: no cell has the metadata exercise: {{id: ..., role: answer}}")
    if not ids == of_role["answer"] == of_role["check"]:
        raise ValueError(
            f"{path}: the answer cells {of_role['answer']}, the check cells {of_role['check']} and EXERCISES {ids} of "
            f"the checks differ: give each exercise one of each, in the same order"
        )
    for cell in cells:
        if cell.role == "check" and cell.source.strip() != f'check("{cell.id}", {cell.id})':
            raise ValueError(f'{cell.where}: the check cell must hold check("{cell.id}", {cell.id}) and no more')


def require_known(path: Path, cells: list[Cell], own: Answers) -> None:
    """Raise ValueError for a private answer that belongs to no exercise."""
    known = [cell.id for cell in cells if cell.role in ("answer", "essay")]
    unknown = [name for name in own.solutions if name not in known]
    if unknown:
        raise ValueError(
            f"{path.stem}_answers.py answers {', '.join(unknown)}, and {path} asks for {', '.join(known)}: give each "
            f"answer the id of its exercise, and put a helper inside the function that uses it"
        )


def read_answers(path: Path, folder: Path | None) -> Answers:
    """Return the checks and the solutions that stand outside the notebook."""
    if folder is not None and not folder.is_dir():
        raise ValueError(f"answers: {folder} is no folder: name the one that holds {path.stem}_checks.py")
    name = f"{path.stem}_checks.py"
    places = [path.with_name(name)] if folder is None else [folder / name, path.with_name(name)]
    exercises = read_checks(places)
    solutions = {} if folder is None else read_solutions(folder / f"{path.stem}_answers.py")
    return Answers({exercise.id: exercise for exercise in exercises}, solutions)


def read_checks(places: list[Path]) -> list[Exercise]:
    """Return the list EXERCISES of the first of these files that exists."""
    path = next((place for place in places if place.exists()), None)
    if path is None:
        remedy = "" if len(places) > 1 else "; or, if the answers are private, name their folder with --answers"
        raise ValueError(
            f"{' and '.join(map(str, places))} {'are' if len(places) > 1 else 'is'} missing: write EXERCISES, the list "
            f"of the notebook's checks, there{remedy}"
        )
    namespace: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
    except Exception as error:
        raise ValueError(f"{path} does not run: {type(error).__name__}: {error}") from error
    exercises = namespace.get("EXERCISES")
    if not isinstance(exercises, list) or not all(isinstance(exercise, Exercise) for exercise in exercises):
        raise ValueError(f"{path}: EXERCISES must be a list of Exercise; got {type(exercises).__name__}")
    return exercises


def read_solutions(path: Path) -> dict[str, str]:
    """Return name -> source of each function, and name -> text of each string, of a file that is not run."""
    if not path.exists():
        return {}
    source = path.read_text(encoding="utf-8")
    found = {}
    for node in parsed(source, str(path)).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = f"{ast.get_source_segment(source, node)}\n"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if not (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)):
                raise ValueError(
                    f"{path}, line {node.lineno}: {node.targets[0].id} is no plain string: this file holds functions, "
                    f"which answer exercises, and strings, which answer essays"
                )
            found[node.targets[0].id] = node.value.value.strip()
    return found


def to_task(path: Path, cell: Cell, own: Answers, given: str) -> Task:
    exercise = own.exercises[cell.id]
    title, statement = titled(cell, cell.text)
    before, body, after = parts_of(cell)
    stub = f"{before}{indent_of(cell)}raise NotImplementedError\n{after}".strip() + "\n"
    solution = own.solutions.get(cell.id) or f"{before}{body}{after}".strip() + "\n"
    if cell.id not in own.solutions and not textwrap.dedent(body).strip():
        raise ValueError(
            f"{cell.where}: the solution between its two marks is empty; if it is private, name with --answers the "
            f"folder whose {path.stem}_answers.py defines {cell.id}"
        )
    require_function(cell, solution, stub)
    debug = bool(cell.keys.get("debug"))
    if debug:
        if not exercise.wrong:
            raise ValueError(f"{cell.where}: debug: true needs a wrong answer in the checks: its first is the stub")
        stub = edited(solution, exercise.wrong[0], cell.where)
    return Task(exercise, title, statement, solution, stub, given, path, debug)


def to_essay(path: Path, cell: Cell, own: Answers) -> Essay:
    points = cell.keys.get("points")
    if not isinstance(points, int | float) or not points > 0:
        raise ValueError(f"{cell.where}: an essay needs points > 0; got {points!r}")
    if BEGIN not in cell.source.splitlines():
        source, solution = cell.source, ""
    else:
        source, solution, _ = parts_of(cell)
    title, statement = titled(cell, source)
    return Essay(cell.id, float(points), title, statement, own.solutions.get(cell.id) or solution.strip(), path)


def titled(cell: Cell, text: str) -> tuple[str, str]:
    """Return the last title of a text, and the text from there on."""
    titles = list(TITLE.finditer(text))
    if not titles:
        raise ValueError(f"{cell.where}: no statement: write Markdown with a '## ' title before the answer")
    return titles[-1][1].strip(), text[titles[-1].start() :].strip()


def parts_of(cell: Cell) -> tuple[str, str, str]:
    """Return the source before, inside and after the solution's region."""
    lines = cell.source.splitlines(keepends=True)
    marks = [(n, line.strip()) for n, line in enumerate(lines) if line.strip() in (BEGIN, END)]
    if [mark for _, mark in marks] != [BEGIN, END]:
        raise ValueError(f"{cell.where}: the answer needs one line {BEGIN!r} and, after it, one line {END!r}")
    begin, end = marks[0][0], marks[1][0]
    return "".join(lines[:begin]), "".join(lines[begin + 1 : end]), "".join(lines[end + 1 :])


def indent_of(cell: Cell) -> str:
    return next(line for line in cell.source.splitlines() if line.strip() == BEGIN).removesuffix(BEGIN)


def require_function(cell: Cell, solution: str, stub: str) -> None:
    """Raise ValueError unless solution and stub define the function of the cell, with the same arguments."""
    signatures = []
    for source in (solution, stub):
        found = [node for node in parsed(source, cell.where).body if isinstance(node, ast.FunctionDef)]
        if [node.name for node in found] != [cell.id]:
            names = [node.name for node in found]
            raise ValueError(
                f"{cell.where}: the answer must define the function {cell.id} and no other; it defines {names}"
            )
        signatures.append(ast.unparse(found[0].args))
    if signatures[0] != signatures[1]:
        raise ValueError(
            f"{cell.where}: the solution takes ({signatures[0]}) and the notebook's function ({signatures[1]}): "
            f"give both the same arguments"
        )


def parsed(source: str, where: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"{where}: the solution is no Python: {error}") from error
