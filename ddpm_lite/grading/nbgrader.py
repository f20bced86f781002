"""A course for nbgrader: `nbgrader generate_assignment`, `autograde` and `generate_feedback` work on it."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from .exercise import Essay, Set, Task
from .notebook import ESSAY, WORK, answer_cell, cell_id, head, make_checks, notebook, statement_cell, write_notebook
from .source import BEGIN, END

__all__ = ["nbgrader_notebook", "write_course"]

HIDDEN_BEGIN, HIDDEN_END = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"
CONFIG = """\
# Read by every nbgrader command that is run in this folder.
c = get_config()
c.CourseDirectory.course_id = "ddpm_lite"
c.ClearSolutions.code_stub = {{"python": "raise NotImplementedError"}}
c.ClearSolutions.text_stub = "{essay}"
c.ExecutePreprocessor.timeout = 120
"""


def write_course(sets: Iterable[Set], folder: Path, seed: int) -> list[Path]:
    """Write `source/NAME/NAME.ipynb`, and `nbgrader_config.py` where there is none, and return the notebooks.

    seed: of the cases in the hidden tests; draw a fresh one for each course.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nbgrader_config.py"
    if not config.exists():
        config.write_text(CONFIG.format(essay=ESSAY), encoding="utf-8")
    written = []
    for each in sets:
        path = folder / "source" / each.name / f"{each.name}.ipynb"
        write_notebook(nbgrader_notebook(each, seed), path)
        written.append(path)
    return written


def nbgrader_notebook(exercises: Set, seed: int) -> NotebookNode:
    """Return the instructor's version, which nbgrader clears of solutions and hidden tests."""
    cells = [graded(cell, "locked") for cell in head(exercises, WORK)]
    for part in exercises.parts:
        cells.append(graded(statement_cell(part), "locked"))
        if isinstance(part, Essay):
            text = f"{BEGIN}\n{part.solution}\n{END}" if part.solution else ESSAY
            cells.append(graded(new_markdown_cell(text, id=cell_id(part, "essay")), "essay", part.points))
        else:
            cells += [solution_cell(part), tests_cell(part, exercises, seed)]
    return notebook(cells)


def graded(cell: NotebookNode, kind: str, points: float | None = None) -> NotebookNode:
    """Give a cell the metadata of nbgrader; kind: locked, solution, tests or essay."""
    meta: dict[str, Any] = {"grade_id": cell.id, "schema_version": 3, "task": False}
    meta |= {"grade": kind in ("tests", "essay"), "solution": kind in ("solution", "essay")}
    meta |= {"locked": kind in ("locked", "tests")}
    if points is not None:
        meta["points"] = points
    cell.metadata["nbgrader"] = meta
    return cell


def solution_cell(task: Task) -> NotebookNode:
    """Return the answer's cell; that of a debug exercise starts from its stub, so nbgrader must not clear it."""
    if task.debug:
        return answer_cell(task, task.stub)
    return graded(answer_cell(task, marked(task)), "solution")


def marked(task: Task) -> str:
    """Return the stub's function with the solution's body between the two marks."""
    before, after = task.stub.split("raise NotImplementedError\n", 1)
    head, indent = before.rstrip(" "), before[len(before.rstrip(" ")) :]
    body = body_of(task.solution).removesuffix(after)
    return f"{head}{indent}{BEGIN}\n{body}{indent}{END}\n{after}"


def body_of(source: str) -> str:
    """Return the lines of a function below its docstring."""
    (function,) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    start = (first.end_lineno or first.lineno) if documented else first.lineno - 1
    return "".join(source.splitlines(keepends=True)[start:])


def tests_cell(task: Task, exercises: Set, seed: int) -> NotebookNode:
    """Return the locked cell with the check that students see, and a hidden one of other cases."""
    name = task.exercise.id
    own = Set(exercises.path, (task,))
    hidden = f'{make_checks("hidden", own, seed)}\nassert hidden.passes("{name}", {name})'
    source = f'check("{name}", {name})\n{HIDDEN_BEGIN}\n{hidden}\n{HIDDEN_END}'
    return graded(new_code_cell(source, id=cell_id(task, "check")), "tests", task.exercise.points)
