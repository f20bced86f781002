"""The autograder for Gradescope, unpacked as Gradescope does and run by its own script."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ddpm_lite.grading import load
from ddpm_lite.grading.grade import Row
from ddpm_lite.grading.gradescope import results, write_autograder
from ddpm_lite.grading.notebook import student_notebook, write_notebook

SOURCE = Path(__file__).resolve().parents[2] / "book" / "exercises" / "01_gaussians.md"


def unpacked(root: Path) -> None:
    """Put the zip where Gradescope does: everything under source, and the script beside it."""
    write_autograder(load(SOURCE), root / "autograder.zip", index="https://example.org/it's")
    with zipfile.ZipFile(root / "autograder.zip") as file:
        file.extractall(root / "source")
        assert file.getinfo("run_autograder").external_attr >> 16 == 0o755
        assert file.getinfo("setup.sh").external_attr >> 16 == 0o755


def run(root: Path) -> dict:
    """Run the script with the folder and the interpreter of this machine in place of the container's."""
    script = (root / "source" / "run_autograder").read_text(encoding="utf-8")
    for old, new in (("/autograder", str(root)), ("/usr/local/ddpm-lite/bin/python", sys.executable)):
        assert old in script
        script = script.replace(old, new)
    subprocess.run(["bash", "-c", script], check=True, cwd="/")
    return json.loads((root / "results" / "results.json").read_text(encoding="utf-8"))


def test_a_submission_gets_its_results(tmp_path: Path) -> None:
    unpacked(tmp_path)
    exercises = load(SOURCE)
    notebook = student_notebook(exercises)
    tasks = {task.exercise.id: task for task in exercises.exercises}
    fuse = tasks["fuse"]
    answers = {"merge_fits-answer": tasks["merge_fits"].solution, "fuse-answer": fuse.edited(fuse.exercise.wrong[0])}
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
    write_notebook(notebook, tmp_path / "submission" / "homework.ipynb")
    tests = {test["name"]: test for test in run(tmp_path)["tests"]}
    assert list(tests) == list(tasks)
    assert (tests["merge_fits"]["score"], tests["merge_fits"]["max_score"]) == (2.0, 2.0)
    assert (tests["fuse"]["score"], tests["fuse"]["status"]) == (0.0, "failed")
    assert fuse.exercise.wrong[0].hint in tests["fuse"]["output"]


def test_an_empty_submission_gets_a_sentence(tmp_path: Path) -> None:
    unpacked(tmp_path)
    (tmp_path / "submission").mkdir()
    found = run(tmp_path)
    assert found["score"] == 0.0
    assert "No notebook (.ipynb)" in found["output"]
    assert str(tmp_path) not in found["output"]


@pytest.mark.parametrize("name", ["setup.sh", "run_autograder"])
def test_the_scripts_are_bash(name: str, tmp_path: Path) -> None:
    unpacked(tmp_path)
    subprocess.run(["bash", "-n", str(tmp_path / "source" / name)], check=True)
    text = (tmp_path / "source" / name).read_text(encoding="utf-8")
    if name == "setup.sh":
        assert """PIP_EXTRA_INDEX_URL='https://example.org/it'"'"'s'""" in text


def test_of_two_files_the_better_answer_counts() -> None:
    rows = [Row("a", "f", 0.0, 2.0, "no"), Row("b", "f", 2.0, 2.0, "Right."), Row("b", "g", 0.0, 1.0, "no", "Think.")]
    rows.append(Row("b", "why", None, 4.0, "An essay: a person reads it."))
    first, second = results(rows)["tests"]
    assert (first["score"], first["status"]) == (2.0, "passed")
    assert (second["output"], second["status"]) == ("no\n\nHint: Think.", "failed")


def test_private_answers_travel(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "01_gaussians_checks.py").write_text("private", encoding="utf-8")
    (private / "01_gaussians_answers.py").write_text("own", encoding="utf-8")
    path = write_autograder(load(SOURCE), tmp_path / "a.zip", answers=private)
    with zipfile.ZipFile(path) as file:
        assert file.read("exercises/01_gaussians_checks.py") == b"private"
        assert file.read("exercises/01_gaussians_answers.py") == b"own"
