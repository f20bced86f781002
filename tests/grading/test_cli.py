"""The command line, as a person types it."""

from __future__ import annotations

import csv
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from ddpm_lite.cli import app
from ddpm_lite.grading import load
from ddpm_lite.grading.selftest import selftest

SOURCE = Path(__file__).resolve().parents[2] / "book" / "exercises"
NAMES = sorted(path.stem for path in SOURCE.glob("[0-9]*.md"))


def run(*args: object) -> str:
    """Run a command that must work and return what it prints."""
    done = CliRunner().invoke(app, ["exercises", *map(str, args)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def typed(*args: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run([sys.executable, "-m", "ddpm_lite", *map(str, args)], capture_output=True, text=True)


def test_help_names_every_command() -> None:
    done = typed("exercises", "--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("build", "grade", "selftest", "new"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("grade", "nowhere", "--source", SOURCE), "nowhere is no folder"),
        (("grade", SOURCE, "--source", SOURCE), "name one with --set: 01_gaussians"),
        (("grade", SOURCE, "--set", "01_gaussians", "--source", SOURCE, "--csv", SOURCE), "such as"),
        (("grade", SOURCE, "--set", "01_gaussians", "--source", SOURCE, "--feedback", __file__), "name a folder"),
        (("build", "student", "nothing", "--source", SOURCE), "use one of these: 01_gaussians"),
        (("grade", "nowhere", "--set", "01_gaussians", "--source", SOURCE), "nowhere is no folder"),
        (("build", "student", "--source", "nowhere"), "nowhere holds no set"),
        (("build", "student", "--source", SOURCE, "--answers", "nowhere"), "answers: nowhere is no folder"),
        (("new", "Gaussians"), "such as 09_ddim; got 'Gaussians'"),
        (("selftest", "--seeds", "0", "--source", SOURCE), "seeds >= 1"),
    ],
)
def test_a_mistake_is_one_line_and_names_the_remedy(args: tuple[object, ...], said: str) -> None:
    done = typed("exercises", *args)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_every_product_is_built(tmp_path: Path) -> None:
    for product in ("student", "instructor"):
        run("build", product, "--source", SOURCE, "--output", tmp_path / product)
        assert sorted(path.stem for path in (tmp_path / product).glob("*.ipynb")) == NAMES
    run("build", "nbgrader", NAMES[0], "--source", SOURCE, "--output", tmp_path / "course")
    assert (tmp_path / "course" / "source" / NAMES[0] / f"{NAMES[0]}.ipynb").exists()
    run("build", "gradescope", NAMES[0], "--source", SOURCE, "--output", tmp_path / "zips")
    with zipfile.ZipFile(tmp_path / "zips" / f"{NAMES[0]}.zip") as file:
        assert {"setup.sh", "run_autograder", f"exercises/{NAMES[0]}_checks.py"} <= set(file.namelist())


@pytest.mark.needs("bwrap")
def test_grades_and_feedback_are_written(tmp_path: Path) -> None:
    folder = tmp_path / NAMES[0]
    folder.mkdir()
    task = load(SOURCE / f"{NAMES[0]}.md").exercises[0]
    (folder / "ada.py").write_text(f"import math\nimport torch\n{task.solution}", encoding="utf-8")
    (folder / "ben.zip").write_bytes(b"")
    table = tmp_path / "new" / "g.csv"
    args = ("grade", folder, "--set", f"{NAMES[0]}.md", "--source", SOURCE, "--csv", table)
    done = typed("exercises", *args, "--feedback", tmp_path / "words")
    assert "not graded, no .ipynb and no .py: ben.zip" in done.stderr
    assert f"ada: {task.exercise.points:g} of " in done.stdout
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[0]["exercise"], rows[0]["reason"]) == (task.exercise.id, "Right.")
    assert (tmp_path / "words" / "ada.md").read_text(encoding="utf-8").startswith("# ada: ")


def test_a_new_set_passes_the_selftest_as_it_stands(tmp_path: Path) -> None:
    run("new", "09_walk", "--source", tmp_path)
    assert "PROBLEM" not in run("selftest", "09_walk", "--seeds", "5", "--source", tmp_path)
    done = typed("exercises", "new", "09_walk", "--source", tmp_path)
    assert done.returncode == 2
    assert "already there" in done.stderr


def test_a_new_set_with_private_answers(tmp_path: Path) -> None:
    public, private = tmp_path / "public", tmp_path / "private"
    run("new", "09_walk", "--source", public, "--answers", private)
    text = (public / "09_walk.md").read_text(encoding="utf-8")
    assert [path.name for path in public.iterdir()] == ["09_walk.md"]
    assert "sqrt" not in text
    assert "variances" not in text
    with pytest.raises(ValueError, match=r"private, name their folder with --answers"):
        load(public / "09_walk.md")
    whole = load(public / "09_walk.md", answers=private)
    assert not selftest([whole], seeds=3).problems
    assert whole.parts[1].solution.startswith("Independent steps add")
    run("build", "student", "--source", public, "--answers", private, "--output", tmp_path / "out")
    blank = nbformat.read(tmp_path / "out" / "09_walk.ipynb", as_version=4)
    assert "cumsum" not in nbformat.writes(blank)


def test_the_self_test_fails_for_a_grader_that_lets_a_mistake_pass(tmp_path: Path) -> None:
    run("new", "09_walk", "--source", tmp_path)
    checks = tmp_path / "09_walk_checks.py"
    checks.write_text(checks.read_text().replace("rng.uniform(0.5, 2.0, int(rng.integers(4, 9)))", "np.ones(1)"))
    done = typed("exercises", "selftest", "--seeds", "1", "--source", tmp_path)
    assert done.returncode == 1
    assert "PROBLEM: 09_walk.md, walk_std" in done.stdout
