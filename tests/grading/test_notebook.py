"""The notebooks of the shipped sets: they run anywhere, judge as the grader does, and give no answer away."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from ddpm_lite.grading import Set, Task, load
from ddpm_lite.grading.checker import Checks, sums
from ddpm_lite.grading.notebook import instructor_notebook, student_notebook, write_notebook

FOLDER = Path(__file__).resolve().parents[2] / "book" / "exercises"
SETS = [load(path) for path in sorted(FOLDER.glob("[0-9]*.md"))]
TASKS = [pytest.param(each, task, id=task.exercise.id) for each in SETS for task in each.exercises]


def run(exercises: Set, answer: str, name: str) -> str:
    """Run the head of the student's notebook, an answer and its check; return what the check prints."""
    cells = {cell.id: cell.source for cell in student_notebook(exercises).cells}
    names: dict[str, Any] = {"__name__": "__main__"}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for source in (cells["checks"], cells["given"], answer, cells[f"{name}-check"]):
            exec(compile(source, "cell", "exec"), names)
    return said.getvalue()


@pytest.mark.parametrize(("exercises", "task"), TASKS)
def test_the_check_in_the_notebook_takes_right_answers_and_refuses_known_mistakes(exercises: Set, task: Task) -> None:
    name = task.exercise.id
    for source in (task.solution, *task.exercise.right):
        assert run(exercises, source, name) == f"{name}: right.\n"
    for wrong in task.exercise.wrong:
        said = run(exercises, task.edited(wrong), name)
        end = "\n" if wrong.refused_by == "unchanged" else " ("  # in brackets: the case
        assert said.startswith(f"{name}: {task.exercise.messages[wrong.refused_by]}{end}")
    if task.debug:
        return
    assert run(exercises, task.stub, name) == f"{name}: not written yet.\n"


def test_an_error_is_named_with_its_line_in_the_cell() -> None:
    answer = "import math\n\ndef fuse(means, covs):\n    half = 2\n    return hafl(means)\n"
    assert "(raised NameError: name 'hafl' is not defined, in line 5 of its cell)" in run(SETS[0], answer, "fuse")
    called = "def hafl(x):\n    return 1 / 0\n" + answer
    assert "(raised ZeroDivisionError: division by zero, in line 7 of its cell)" in run(SETS[0], called, "fuse")
    assert re.search(r"\(raised \w+: [^,]*\)$", run(SETS[0], "fuse = math.hypot\n", "fuse"))


def test_a_changed_argument_is_seen() -> None:
    (fuse,) = (task for task in SETS[0].exercises if task.exercise.id == "fuse")
    body = fuse.solution.replace("return mean, cov", "means.zero_()\n    return mean, cov")
    assert run(SETS[0], body, "fuse") == f"fuse: {fuse.exercise.messages['unchanged']}\n"


@pytest.mark.parametrize("exercises", SETS, ids=lambda each: each.name)
def test_the_student_notebook_is_valid_and_gives_no_answer_away(exercises: Set, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "notebook.ipynb"
    write_notebook(student_notebook(exercises), path)
    nbformat.validate(nbformat.read(path, as_version=4))
    text = path.read_text(encoding="utf-8")
    assert "ddpm_lite" not in text.replace("ddpm_lite.grading", "")
    cells = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    for task in exercises.exercises:
        own = {line.strip() for line in task.solution.splitlines()} - {line.strip() for line in task.stub.splitlines()}
        assert own
        shown = {line.strip() for line in cells.splitlines()}
        assert not {line for line in own if len(line) > 12} & shown


@pytest.mark.parametrize("exercises", SETS, ids=lambda each: each.name)
def test_the_instructor_notebook_passes_its_own_checks(exercises: Set) -> None:
    names: dict[str, Any] = {}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for cell in instructor_notebook(exercises).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, "cell", "exec"), names)
    assert said.getvalue() == "".join(f"{task.exercise.id}: right.\n" for task in exercises.exercises)


def test_the_same_set_gives_the_same_notebook() -> None:
    assert nbformat.writes(student_notebook(SETS[0])) == nbformat.writes(student_notebook(SETS[0]))


def checks(value: Any, tolerance: float = 1e-6) -> Any:
    """Checks of one exercise `f` without arguments, and the difference of a value from the recorded one."""
    from ddpm_lite.grading.recorded import of_value

    blank = Checks.__new__(Checks)
    return lambda other: blank.difference(other, of_value(value), tolerance)


@pytest.mark.parametrize(
    ("expected", "value", "fault"),
    [
        (np.ones(3), np.ones(3, np.float32), None),
        (np.ones(3), np.ones(3, np.float16), "type float16"),
        (np.ones(3), np.ones((3, 1)), "shape"),
        (np.ones(3), np.ones(3, int), "type int64 instead of float32 or float64"),
        (np.arange(3), np.arange(3, dtype=np.int32), None),
        (np.arange(3), np.array([0, 2, 1]), "differ"),
        (np.array([1.0, np.inf]), np.array([1.0, np.inf]), None),
        (np.array([1.0, np.inf]), np.array([1.0, -np.inf]), "infinite"),
        (np.array([1.0, 2.0]), np.array([1.0, np.nan]), "NaN"),
        (np.ones(3), None, "no value"),
        (np.ones(3), [np.ones(3)] * 2, "2 values"),
        ((np.ones(3), np.array(2.0)), (np.ones(3), 2.0), None),
        ((np.ones(3), np.array(2.0)), (np.ones(3), 2.1), "value 2"),
        ((np.ones(3), np.array(2.0)), np.ones(3), "gave one value instead of 2 values"),
    ],
)
def test_a_difference_from_the_recorded_sums(expected: Any, value: Any, fault: str | None) -> None:
    found = checks(expected)(value)
    assert found is None if fault is None else fault in found


def test_what_the_grader_takes_the_sums_take() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 7, 5000):
        value = 100 * rng.normal(size=size)
        room = 1e-6 * (1 + np.abs(value).max())
        assert checks(value)(value + rng.choice([-0.99, 0.99], size) * room) is None
        assert checks(value)(value + 0.99 * room) is None
        assert checks(value)(value + 50 * size**0.5 * room * rng.normal(size=size)) is not None


def test_sums_of_one_number() -> None:
    finite, infinite, _ = sums(np.array(2.0))
    np.testing.assert_allclose(finite, 2 * np.cos(np.sqrt([2.0, 3.0, 7.0])))
    assert infinite == [0.0, 0.0, 0.0]
