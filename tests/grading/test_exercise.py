"""A set of exercises is read from its notebook, and what is wrong with one is named with its cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_lite.grading import Exercise, Wrong, load

NOTEBOOK = """---
jupytext:
  text_representation: {extension: .md, format_name: myst, format_version: 0.13}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A chapter

```{code-cell} ipython3
---
exercise: {role: given}
---
import torch
```

## Double it

Twice a tensor.

```{code-cell} ipython3
---
exercise: {id: double, role: answer}
---
def double(x):
    \"\"\"(B,) -> (B,)\"\"\"
    ### BEGIN SOLUTION
    y = 2 * x
    return y
    ### END SOLUTION
```

```{code-cell} ipython3
---
exercise: {id: double, role: check}
---
check("double", double)
```
"""
CHECKS = """
from ddpm_lite.grading import Case, Exercise, Wrong
EXERCISES = [Exercise("double", 1, 1.0, ("a", "b"), lambda rng: [Case("values", (rng.normal(size=3),))],
                      lambda x: x + x, {"values": "not twice"}, wrong=(Wrong("2 * x", "x", "values", "once"),))]
"""


def write(folder: Path, notebook: str = NOTEBOOK, checks: str | None = CHECKS) -> Path:
    (folder / "00_some.md").write_text(notebook, encoding="utf-8")
    if checks is not None:
        (folder / "00_some_checks.py").write_text(checks, encoding="utf-8")
    return folder / "00_some.md"


def test_an_exercise_is_read(tmp_path: Path) -> None:
    (task,) = load(write(tmp_path)).exercises
    assert task.title == "Double it"
    assert task.statement == "## Double it\n\nTwice a tensor."
    assert task.solution == 'def double(x):\n    """(B,) -> (B,)"""\n    y = 2 * x\n    return y\n'
    assert task.stub == 'def double(x):\n    """(B,) -> (B,)"""\n    raise NotImplementedError\n'
    assert task.given == "import torch"
    assert task.source("pass") == "import torch\n\npass"
    assert task.exercise.id == "double"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []  # no __pycache__ in the book's folder


def test_a_debug_exercise_starts_from_its_first_wrong_answer(tmp_path: Path) -> None:
    (task,) = load(write(tmp_path, NOTEBOOK.replace("role: answer", "role: answer, debug: true"))).exercises
    assert task.stub == task.solution.replace("2 * x", "x")
    assert task.debug


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("role: answer", "role: anwser", r"00_some.md, cell 4.*role of answer, check, essay, given"),
        ("id: double, role: answer", "role: answer", r"cell 4.*needs an id"),
        ("{role: given}", "{role: given, points: 2}", r"cell 2.*unknown keys \['points'\]"),
        ("    ### END SOLUTION\n", "", r"cell 4.*one line '### BEGIN SOLUTION'"),
        ("    y = 2 * x\n    return y\n", "", r"cell 4.*is empty"),
        ("    y = 2 * x\n", "    y = = x\n", r"cell 4.*is no Python"),
        ("def double(x)", "def twice(x)", r"cell 4.*define the function double.*'twice'"),
        ("## Double it", "Double it", r"cell 4.*no statement"),
        ('check("double", double)', "print(double(1))", r"cell 5.*must hold check\(\"double\", double\)"),
        ("id: double, role: check", "id: twice, role: check", r"differ: give each exercise one of each"),
        ("id: double, role: check", "id: double, role: answer", r"cell 5.*already has its cell of role answer"),
    ],
)
def test_what_is_wrong_with_a_notebook_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert NOTEBOOK.count(old) == 1
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path, NOTEBOOK.replace(old, new)))


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        (None, r"00_some_checks.py is missing"),
        ("1 / 0", r"00_some_checks.py does not run: ZeroDivisionError"),
        ("EXERCISES = [3]", r"must be a list of Exercise"),
        ("EXERCISES = []", r"EXERCISES \[\]"),
        (CHECKS.replace('"double", 1', '"double", 4'), r"dots, the difficulty"),
    ],
)
def test_what_is_wrong_with_the_checks_is_named(tmp_path: Path, checks: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path, checks=checks))


@pytest.mark.parametrize("wrong", [Wrong("3 * x", "x", "values", ""), Wrong("y", "z", "values", "")])
def test_an_edit_must_fit_exactly_once(tmp_path: Path, wrong: Wrong) -> None:
    (task,) = load(write(tmp_path)).exercises
    with pytest.raises(ValueError, match=r"00_some.md: exercise double.*no longer applies.*(0|2) times"):
        task.edited(wrong)


@pytest.mark.parametrize("bad", [{"id": "a b"}, {"points": 0.0}, {"tolerance": float("nan")}])
def test_an_exercise_of_bad_values_is_refused(bad: dict[str, object]) -> None:
    good: dict[str, object] = {"id": "f", "dots": 1, "points": 1.0, "hints": ("", ""), "messages": {}}
    Exercise(**good, cases=lambda rng: [], oracle=abs)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="exercise"):
        Exercise(**(good | bad), cases=lambda rng: [], oracle=abs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ("def dobule(x):\n    return 2 * x\n", r"00_some_answers.py answers dobule, and .*00_some.md asks for double"),
        ("import math\nhalf = math.sqrt(2)\n", r"00_some_answers.py, line 2: half is no plain string"),
    ],
)
def test_what_is_wrong_with_private_answers_is_named(tmp_path: Path, answers: str, message: str) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "00_some_answers.py").write_text(answers, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path), answers=private)


def test_checks_that_are_in_neither_place_are_looked_for_in_both(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    with pytest.raises(ValueError, match=r"private/00_some_checks.py and .*00_some_checks.py are missing.*, there$"):
        load(write(tmp_path, checks=None), answers=private)
