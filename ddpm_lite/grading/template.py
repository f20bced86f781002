"""Start a set of exercises: a notebook and its checks that pass the self-test as they stand."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["write_template"]

NOTEBOOK = '''\
---
jupytext:
  notebook_metadata_filter: -jupytext.text_representation.jupytext_version
  text_representation: {extension: .md, format_name: myst, format_version: 0.13}
kernelspec: {display_name: Python 3 (ipykernel), language: python, name: python3}
---

# Exercises: a title

Grading draws new numbers, and arguments must stay as they are. All arrays are torch tensors in float64.

```{code-cell} ipython3
---
exercise: {role: given}
---
import torch
```

## The length of a random walk

Replace this exercise by your own. Given the standard deviations of the steps of a random walk, return the standard
deviation of the walk after each step.

```{code-cell} ipython3
---
exercise: {id: walk_std, role: answer}
---
def walk_std(steps):
    """Standard deviations of the steps (T,) -> standard deviation after each step (T,)."""
    ### BEGIN SOLUTION
SOLUTION    ### END SOLUTION
```

```{code-cell} ipython3
---
exercise: {id: walk_std, role: check}
---
check("walk_std", walk_std)
```

+++ {"exercise": {"id": "why_roots", "role": "essay", "points": 2}}

## Why a root?

Why does a walk of 100 equal steps not go 100 times as far as a single step? Three sentences.

### BEGIN SOLUTION
ESSAY
### END SOLUTION
'''
SOLUTION = "    return steps.square().cumsum(0).sqrt()\n"
ESSAY = "Independent steps add their variances. Their standard deviations do not add: 100 steps give the root, 10."
ANSWERS = f'''\
"""Private: the solutions of this set. A function answers the exercise of its name, a string the essay."""


def walk_std(steps):
{SOLUTION}

why_roots = "{ESSAY}"
'''
CHECKS = '''\
"""The checks of this set."""

from __future__ import annotations

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong


def walk_cases(rng: np.random.Generator) -> list[Case]:
    """Fresh numbers at every grading, and one case for each trap."""
    return [
        Case("values", (rng.uniform(0.5, 2.0, int(rng.integers(4, 9))),)),
        Case("a single step", (rng.uniform(0.5, 2.0, 1),)),
    ]


def walk_oracle(steps: np.ndarray) -> np.ndarray:
    """Another road than the solution: the covariance of the walk as a matrix product."""
    T = len(steps)
    triangle = np.tril(np.ones((T, T)))
    return np.sqrt(np.diag(triangle @ np.diag(steps**2) @ triangle.T))


walk_std = Exercise(
    id="walk_std",
    dots=1,
    points=2.0,
    hints=("Which quantity of independent steps adds up?", "Variances add up; take the root last."),
    cases=walk_cases,
    oracle=walk_oracle,
    messages={
        "values": "The standard deviations are wrong.",
        "a single step": "A walk of one step has the standard deviation of that step.",
        "unchanged": "An argument was changed in place: the caller still needs it.",
    },
    right=(
        """
def walk_std(steps):
    out = torch.empty_like(steps)
    for i in range(len(steps)):
        out[i] = (steps[: i + 1] ** 2).sum() ** 0.5
    return out
""",
    ),
    wrong=(
        Wrong(".square().cumsum(0).sqrt()", ".cumsum(0)", "values", "Standard deviations do not add up."),
        Wrong(".cumsum(0).sqrt()", ".cumsum(0)", "values", "That is the variance."),
        Wrong(".cumsum(0)", ".sum(0)", "values", "Return one number for each step."),
    ),
    equivalent={"return steps.square().cumsum(-1).sqrt()": "the steps have a single axis"},
)

EXERCISES = [walk_std]
'''


def write_template(name: str, folder: Path, answers: Path | None = None) -> list[Path]:
    """Write `NAME.md` and `NAME_checks.py`; with a private folder, the checks and `NAME_answers.py` go there.

    Raises ValueError for a name that is not NN_name, and for a file that is already there.
    """
    if not re.fullmatch(r"\d\d_[a-z][a-z0-9_]*", name):
        raise ValueError(f"the name of a set is the chapter's number and a word, such as 09_ddim; got {name!r}")
    private = folder if answers is None else answers
    inside = (SOLUTION, ESSAY) if answers is None else ("", "")
    files = {
        folder / f"{name}.md": NOTEBOOK.replace("SOLUTION    ###", f"{inside[0]}    ###").replace(
            "\nESSAY\n", f"\n{inside[1]}\n"
        ),
        private / f"{name}_checks.py": CHECKS,
    }
    if answers is not None:
        files[answers / f"{name}_answers.py"] = ANSWERS
    for path in files:
        if path.exists():
            raise ValueError(f"{path} is already there: choose another name, or move it away")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(files)
