"""Notebooks of a set of exercises: blank for students, complete for instructors."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from .exercise import Essay, Set, Task
from .recorded import checker_source, recorded

__all__ = ["instructor_notebook", "student_notebook", "write_notebook"]

SEED = 0  # of the recorded cases; grading draws fresh ones
WORK = """\
Write each answer where `raise NotImplementedError` stands, and run the cell below it. The first code cell holds the
checks: run it first, and leave it as it is. It needs numpy and torch, and nothing else."""
ESSAY = "*Write your answer here.*"


def student_notebook(exercises: Set) -> NotebookNode:
    """Return the blank notebook: statements, hints, stubs, and checks that run anywhere."""
    cells = head(exercises, WORK)
    for part in exercises.parts:
        cells.append(statement_cell(part))
        if isinstance(part, Essay):
            cells.append(new_markdown_cell(ESSAY, id=cell_id(part, "essay"), metadata=role(part, "essay")))
        else:
            cells += [answer_cell(part, part.stub), check_cell(part)]
    return notebook(cells)


def instructor_notebook(exercises: Set) -> NotebookNode:
    """Return the notebook with the solutions, and with the known mistakes and what refuses them."""
    cells = head(exercises, "With the solutions: not for students.")
    for part in exercises.parts:
        cells.append(statement_cell(part))
        if isinstance(part, Essay):
            cells.append(new_markdown_cell(part.solution, id=cell_id(part, "essay"), metadata=role(part, "essay")))
        else:
            cells += [answer_cell(part, part.solution), check_cell(part), mistakes_cell(part)]
    return notebook(cells)


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook; raises ValueError for one that is not valid."""
    nbformat.validate(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def notebook(cells: list[NotebookNode]) -> NotebookNode:
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def head(exercises: Set, work: str) -> list[NotebookNode]:
    """Return the title, the checks and the given code."""
    text = "\n\n".join(part for part in (f"# {exercises.title}", exercises.intro, work) if part)
    cells = [new_markdown_cell(text, id="title"), checks_cell(exercises)]
    return cells + ([new_code_cell(exercises.given, id="given")] if exercises.given else [])


def checks_cell(exercises: Set) -> NotebookNode:
    source = f"# The checks. Run this cell first.\n{checker_source()}\n\n{make_checks('check', exercises, SEED)}"
    return new_code_cell(source, id="checks", metadata={"tags": ["hide-input"], "jupyter": {"source_hidden": True}})


def make_checks(name: str, exercises: Set, seed: int) -> str:
    """Return the line of code that gives `name` the recorded checks."""
    method = ".check" if name == "check" else ""
    return f'{name} = Checks("""\n{recorded(exercises.exercises, seed)}\n"""){method}'


def statement_cell(part: Task | Essay) -> NotebookNode:
    lines = part.statement.split("\n", 1)
    hints = hint_blocks(part.exercise.hints) if isinstance(part, Task) else ""
    text = "\n\n".join(text for text in (lines[0], label(part), *(line.strip() for line in lines[1:]), hints) if text)
    return new_markdown_cell(text, id=cell_id(part, "statement"))


def label(part: Task | Essay) -> str:
    """Return the difficulty and the points in words."""
    kind = "Essay" if isinstance(part, Essay) else f"Difficulty {dots(part.exercise.dots)}"
    return f"*{kind}, {worth(part)}*"


def worth(part: Task | Essay) -> str:
    points = part.points if isinstance(part, Essay) else part.exercise.points
    return f"{points:g} point{'' if points == 1 else 's'}"


def dots(difficulty: int) -> str:
    """Return the difficulty, 1 to 3, as full and empty dots."""
    return "●" * difficulty + "○" * (3 - difficulty)


def hint_blocks(hints: tuple[str, str]) -> str:
    titles = ("First hint", "Second hint")
    return "\n\n".join(
        f"<details><summary>{title}</summary>\n\n{hint}\n\n</details>"
        for title, hint in zip(titles, hints, strict=True)
    )


def answer_cell(task: Task, source: str) -> NotebookNode:
    return new_code_cell(source.rstrip(), id=cell_id(task, "answer"), metadata=role(task, "answer"))


def check_cell(task: Task) -> NotebookNode:
    name = task.exercise.id
    return new_code_cell(f'check("{name}", {name})', id=cell_id(task, "check"), metadata=role(task, "check"))


def mistakes_cell(task: Task) -> NotebookNode:
    head = "| in the solution | the mistake | refused by | hint |\n|---|---|---|---|"
    rows = [(code(w.old), code(w.new), w.refused_by, w.hint) for w in task.exercise.wrong]
    table = "\n".join([head, *(f"| {' | '.join(map(escaped, row))} |" for row in rows)])
    return new_markdown_cell(f"**Known mistakes**\n\n{table}", id=cell_id(task, "mistakes"))


def code(text: str) -> str:
    """Return code for a cell of a table; what is empty stays visible."""
    return f"`{' '.join(text.split())}`" if text.strip() else "(left out)"


def escaped(text: str) -> str:
    """Return text whose vertical bars do not end a cell of a table, in formulas too."""
    return text.replace("|", "\\|")


def role(part: Task | Essay, name: str) -> dict[str, dict[str, str]]:
    return {"exercise": {"id": part.id if isinstance(part, Essay) else part.exercise.id, "role": name}}


def cell_id(part: Task | Essay, name: str) -> str:
    own = part.id if isinstance(part, Essay) else part.exercise.id
    return f"{own[:50]}-{name}"
