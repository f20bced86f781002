"""A class of submissions, and the files that its grades are written to."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_exercises import GIVEN, LIMITS, MEAN, SCALE, exercise_set, graded, notebook, points

from ddpm_lite.grading import Essay, Set
from ddpm_lite.grading import grade as grade_module
from ddpm_lite.grading.grade import Row, grade, total, write_csv, write_feedback
from ddpm_lite.grading.sandbox import SandboxError
from ddpm_lite.grading.submission import left_out, needed, read, submissions

pytestmark = pytest.mark.needs("bwrap")


def test_right_and_wrong_and_mangled_notebooks(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    training = (
        f"open({str(marker)!r}, 'w').write('x')\nfor _ in range(10**12):\n    pass\nlosses = [1 / 0 for _ in [0]]"
    )
    rows = graded(
        tmp_path,
        right=notebook(GIVEN, SCALE, MEAN),
        plain=SCALE + MEAN,
        stub=notebook("def scale(x, c):\n    raise NotImplementedError", MEAN),
        adds=notebook("def scale(x, c):\n    return c + x"),
        syntax=notebook(SCALE, "def broken(:", "%matplotlib inline\n!ls\n" + MEAN),
        twice=notebook(SCALE, MEAN, "def scale(x, c):\n    return x"),
        retyped=notebook(("markdown", SCALE), ("raw", SCALE), MEAN),
        training=notebook(SCALE, training, MEAN, "scale.__code__ = None\nassert False"),
        inplace=SCALE.replace("c * x", "x.mul_(c)") + MEAN,
        helper=notebook(
            "K = 1.0", "def times(x, c):\n    return K * c * x", "def scale(x, c):\n    return times(x, c)"
        ),
    )
    expected = {"right": (2, 3), "plain": (2, 3), "stub": (0, 3), "adds": (0, 0), "syntax": (2, 3), "twice": (0, 3)}
    expected |= {"retyped": (0, 3), "training": (2, 3), "inplace": (0, 3), "helper": (2, 0)}
    assert {name: points(rows, name) for name in expected} == expected
    assert not marker.exists()
    assert rows["right", "scale"].reason == "Right."
    assert rows["adds", "scale"].hint == "You add the factor."
    assert rows["twice", "scale"].hint is None
    assert "defined 2 times; the last, in cell 3, counts" in rows["twice", "scale"].reason
    assert "No cell of code defines" in rows["retyped", "scale"].reason
    assert rows["stub", "scale"].reason == "Not written yet."
    assert "x must stay as it is" in rows["inplace", "scale"].reason


def test_only_what_a_function_needs_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "import os, torch\nlosses = train()\nK = 2\nJ = K + 1\ndef f(x):\n    return J * x\ntorch.x = 1\nprint(1)\n"
    )
    assert needed(read(path), "f") == "K = 2\nJ = K + 1\n\ndef f(x):\n    return J * x"


def test_csv_and_feedback(tmp_path: Path) -> None:
    rows = [Row("=cmd", "scale", 0.0, 2.0, "raised <b>*x*", "Think."), Row("b/a_c", "scale", 2.0, 2.0, "Right.")]
    write_csv(rows, tmp_path / "grades.csv")
    with (tmp_path / "grades.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table == [
        ["name", "exercise", "points", "of", "reason"],
        ["'=cmd", "scale", "0.0", "2.0", "raised <b>*x*"],
        ["b/a_c", "scale", "2.0", "2.0", "Right."],
    ]
    first, second = write_feedback(rows, tmp_path / "feedback")
    assert first.read_text() == "# =cmd: 0 of 2 points\n\n## scale: 0 of 2\n\nraised &lt;b>\\*x\\*\n\nHint: Think.\n"
    assert second.name == "b_-a__c.md"


def test_a_folder_without_submissions(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no"):
        grade(tmp_path, exercise_set(), rng=np.random.default_rng())


def test_the_rows_are_in_the_order_of_the_files_however_many_run_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = "import time\ndef scale(x, c):\n    time.sleep(0.7)\n    return c * x\n"
    for name in "cab":
        (tmp_path / f"{name}.py").write_text(slow if name == "a" else SCALE)
    found = [
        grade(tmp_path, exercise_set(), rng=np.random.default_rng(0), limits=LIMITS, workers=n, progress=n == 3)
        for n in (1, 3)
    ]
    assert found[0] == found[1]
    assert [(row.name, row.exercise) for row in found[0]] == [(n, e) for n in "abc" for e in ("scale", "mean")]
    bar = capsys.readouterr()
    assert re.search(r"100%.*3/3", bar.err)
    assert bar.out == ""


def test_the_known_mistakes_run_once_for_a_whole_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_lite.grading import judge

    plain, ran = judge.run_plainly, []
    monkeypatch.setattr(judge, "run_plainly", lambda source, calls: ran.append(source) or plain(source, calls))
    adds = "def scale(x, c):\n    return x + c\n"
    rows = graded(tmp_path, one=adds, two=adds, three=adds)
    assert [row.hint for row in rows.values() if row.exercise == "scale"] == ["You add the factor."] * 3
    assert len(ran) == 1


def test_a_fault_of_the_grader_costs_no_other_submission_its_grade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = grade_module.needed

    def faulty(submission: object, name: str) -> str:
        source = whole(submission, name)
        return source if "bug" not in source else str(1 / 0)

    monkeypatch.setattr(grade_module, "needed", faulty)
    rows = graded(tmp_path, bad="def scale(x, c):\n    bug = c * x\n    return bug\n" + MEAN, good=SCALE + MEAN)
    assert points(rows, "bad") == (0, 3)
    assert "ZeroDivisionError" in rows["bad", "scale"].reason
    assert "by hand" in rows["bad", "scale"].reason
    assert points(rows, "good") == (2, 3)


def test_a_sandbox_that_does_not_start_ends_the_grading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddpm_lite.grading.sandbox.WORKER", tmp_path / "none.py")
    with pytest.raises(SandboxError, match="does not start"):
        graded(tmp_path, a=SCALE, b=SCALE)


def test_no_workers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(SCALE)
    with pytest.raises(ValueError, match="workers must be at least 1; got 0"):
        grade(tmp_path, exercise_set(), rng=np.random.default_rng(0), workers=0)


def test_every_feedback_has_a_file_of_its_own(tmp_path: Path) -> None:
    names = ["a_/b", "a/_b", "a/b", "a_b", "long" * 99, "long" * 99 + "x"]
    written = write_feedback([Row(name, "scale", 0.0, 2.0, name) for name in names], tmp_path)
    assert len({path.name for path in written}) == len(names)
    assert [len(path.read_text().splitlines()) for path in written] == [5] * len(names)


def test_an_essay_waits_for_a_person_and_a_stub_is_said_to_be_one(tmp_path: Path) -> None:
    tasks = exercise_set()
    essay = Essay("why", 4.0, "Why?", "## Why?", "", tasks.path)
    (tmp_path / "a.py").write_text(f"{SCALE}\ndef mean(x):\n    raise NotImplementedError\n")
    rows = grade(tmp_path, replace(tasks, parts=(essay, *tasks.parts)), rng=np.random.default_rng(0), limits=LIMITS)
    assert [(row.exercise, row.points, row.of) for row in rows] == [("scale", 2, 2), ("mean", 0, 3), ("why", None, 4)]
    assert [row.reason for row in rows] == ["Right.", "Not written yet.", "An essay: a person reads it."]
    assert total(rows) == "2 of 5 points, and up to 4 from a person"
    write_csv(rows, tmp_path / "grades.csv")
    assert (tmp_path / "grades.csv").read_text().splitlines()[3] == "a,why,,4.0,An essay: a person reads it."
    (file,) = write_feedback(rows, tmp_path / "feedback")
    assert "## why: up to 4\n\nAn essay" in file.read_text()


def test_a_debug_exercise_as_it_was_handed_out_is_said_to_be_one_and_gets_no_hint(tmp_path: Path) -> None:
    scale = exercise_set().exercises[0]
    task = replace(scale, stub=scale.edited(scale.exercise.wrong[0]), debug=True)
    (tmp_path / "blank.py").write_text(task.stub.replace("c + x", "c + x  # as it was"))
    (tmp_path / "tried.py").write_text(task.stub.replace("c + x", "x + c"))
    (tmp_path / "right.py").write_text(task.solution)
    rows = grade(tmp_path, Set(task.path, (task,)), rng=np.random.default_rng(0), limits=LIMITS)
    found = {row.name: (row.points, row.hint) for row in rows}
    assert found == {"blank": (0, None), "right": (2, None), "tried": (0, "You add the factor.")}
    assert rows[0].reason == "Not changed yet."


def test_files_that_are_no_submissions_are_named(tmp_path: Path) -> None:
    (tmp_path / "ben").mkdir()
    (tmp_path / ".cache").mkdir()
    for name in ("a.py", "ben/all.zip", "c.ipynb.txt", ".cache/d.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    assert [path.relative_to(tmp_path).as_posix() for path in left_out(tmp_path)] == [
        "ben/all.zip",
        "c.ipynb.txt",
        "link.py",
    ]
    assert list(submissions(tmp_path)) == ["a"]
