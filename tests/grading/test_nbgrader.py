"""nbgrader itself generates, autogrades and gives feedback on the course that we write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from ddpm_lite.grading import Essay, Set, load
from ddpm_lite.grading.nbgrader import write_course

SOURCE = Path(__file__).resolve().parents[2] / "book" / "exercises" / "01_gaussians.md"


def one_set() -> Set:
    """The first two exercises, the debug exercise and an essay."""
    whole = load(SOURCE)
    essay = Essay("units", 2.0, "Units", "## Units\n\nWhy?", "The model answer.", SOURCE)
    kept = [task for task in whole.exercises if task.exercise.id in ("merge_fits", "fuse", "log_odds")]
    return Set(SOURCE, (*kept, essay), whole.title, whole.intro, whole.given)


def nbgrader(course: Path, *args: str) -> None:
    """Run a command of nbgrader in the course; it starts other programs of its environment by name."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "nbgrader", *args]
    done = subprocess.run(command, cwd=course, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def submit(course: Path, student: str, answers: dict[str, str]) -> None:
    """Hand in the released notebook with some cells replaced."""
    notebook = nbformat.read(course / "release" / "01_gaussians" / "01_gaussians.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
    folder = course / "submitted" / student / "01_gaussians"
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / "01_gaussians.ipynb")


@pytest.mark.needs("nbgrader")
def test_a_right_and_a_wrong_submission_from_end_to_end(tmp_path: Path) -> None:
    exercises = one_set()
    tasks = {task.exercise.id: task for task in exercises.exercises}
    write_course([exercises], tmp_path, seed=7)
    nbgrader(tmp_path, "generate_assignment", "01_gaussians", "--create")

    released = (tmp_path / "release" / "01_gaussians" / "01_gaussians.ipynb").read_text(encoding="utf-8")
    cells = {cell.id: cell.source for cell in nbformat.reads(released, as_version=4).cells}
    assert all(cells[f"{name}-answer"] == task.stub.rstrip() for name, task in tasks.items())
    assert all(cells[f"{name}-check"] == f'check("{name}", {name})' for name in tasks)
    assert cells["units-essay"] == "*Write your answer here.*"
    assert "model answer" not in released

    right = {f"{name}-answer": task.solution for name, task in tasks.items()}
    fuse = tasks["fuse"]
    wrong = right | {"fuse-answer": fuse.edited(fuse.exercise.wrong[0]), "log_odds-answer": tasks["log_odds"].stub}
    wrong |= {"merge_fits-check": 'print("right.")'}  # nbgrader puts the locked cell back
    submit(tmp_path, "right", right | {"units-essay": "Because."})
    submit(tmp_path, "wrong", wrong)
    nbgrader(tmp_path, "autograde", "01_gaussians", "--create")
    nbgrader(tmp_path, "generate_feedback", "01_gaussians")

    assert points(tmp_path, "right") == {"merge_fits-check": 2.0, "fuse-check": 3.0, "log_odds-check": 3.0}
    assert points(tmp_path, "wrong") == {"merge_fits-check": 2.0, "fuse-check": 0.0, "log_odds-check": 0.0}
    feedback = (tmp_path / "feedback" / "wrong" / "01_gaussians" / "01_gaussians.html").read_text(encoding="utf-8")
    assert fuse.exercise.messages["values"] in feedback


def points(course: Path, student: str) -> dict[str, float]:
    """The points of the cells that nbgrader graded itself; an essay waits for a person."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        grades = book.find_submission_notebook("01_gaussians", "01_gaussians", student).grades
        essays = [grade for grade in grades if grade.name == "units-essay"]
        assert [grade.max_score for grade in essays] == [2.0]
        assert all(grade.needs_manual_grade or student == "wrong" for grade in essays)
        return {grade.name: grade.score for grade in grades if grade not in essays}


def test_the_configuration_of_a_course_stays_as_the_instructor_left_it(tmp_path: Path) -> None:
    write_course([one_set()], tmp_path, seed=7)
    config = tmp_path / "nbgrader_config.py"
    assert "ClearSolutions" in config.read_text(encoding="utf-8")
    config.write_text("# ours", encoding="utf-8")
    write_course([one_set()], tmp_path, seed=8)
    assert config.read_text(encoding="utf-8") == "# ours"
