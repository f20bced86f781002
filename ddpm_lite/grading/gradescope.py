"""An autograder for Gradescope: a zip to upload, and what runs in its container."""

from __future__ import annotations

import json
import os
import shlex
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .exercise import Set
from .grade import Row, grade
from .sandbox import SandboxError, require_bubblewrap
from .source import load
from .submission import submissions

__all__ = ["autograde", "results", "write_autograder"]

NOTHING = "No notebook (.ipynb) and no Python file (.py) was uploaded: upload one of those."
PACKAGE = Path(__file__).resolve().parents[1]
SETUP = """\
#!/usr/bin/env bash
# Gradescope runs this once, when it builds the container.
set -euo pipefail
{index}export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y bubblewrap
apt-get install -y python3.12-venv || apt-get install -y python3.11-venv
python=$(command -v python3.12 || command -v python3.11)
"$python" -m venv /usr/local/ddpm-lite
/usr/local/ddpm-lite/bin/pip install numpy torch safetensors tqdm jupytext nbformat
chmod -R go-rwx /autograder/source # a submission must not read the checks
"""
RUN = """\
#!/usr/bin/env bash
# Gradescope runs this for each submission.
cd /autograder/source
exec /usr/local/ddpm-lite/bin/python -m ddpm_lite.grading.gradescope /autograder {name}
"""


def write_autograder(exercises: Set, path: Path, *, answers: Path | None = None, index: str | None = None) -> Path:
    """Write the zip: the set, its checks, the package's Python files and the two scripts that Gradescope calls.

    index: address of a package index for pip, such as that of the small PyTorch without CUDA.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    export = f"export PIP_EXTRA_INDEX_URL={shlex.quote(index)}\n" if index else ""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        add_script(file, "setup.sh", SETUP.format(index=export))
        add_script(file, "run_autograder", RUN.format(name=exercises.name))
        for member in sorted(PACKAGE.rglob("*.py")):
            file.write(member, member.relative_to(PACKAGE.parent).as_posix())
        for member in files_of(exercises, answers):
            file.write(member, f"exercises/{member.name}")
    return path


def files_of(exercises: Set, answers: Path | None) -> list[Path]:
    """Return the files that `load` read: the notebook, its checks, and private solutions if there are any."""
    places = [folder for folder in (answers, exercises.path.parent) if folder is not None]
    checks = [folder / f"{exercises.name}_checks.py" for folder in places]
    private = [answers / f"{exercises.name}_answers.py"] if answers is not None else []
    return [exercises.path, next(filter(Path.exists, checks)), *filter(Path.exists, private)]


def add_script(file: zipfile.ZipFile, name: str, text: str) -> None:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o755 << 16
    file.writestr(info, text)


def autograde(root: Path, name: str) -> dict[str, Any]:
    """Grade `root/submission` with the set `root/source/exercises/NAME.md`; write and return the results."""
    folder = root / "source" / "exercises"
    exercises = load(folder / f"{name}.md", answers=folder)
    try:
        require_bubblewrap()
        unsafe = False
    except SandboxError:
        unsafe = True  # the container holds one submission and no other, and the worker gives up root
    if submissions(root / "submission"):
        found = results(grade(root / "submission", exercises, rng=np.random.default_rng(), unsafe=unsafe))
    else:
        found = {"score": 0.0, "output": NOTHING}
    (root / "results").mkdir(exist_ok=True)
    (root / "results" / "results.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def results(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the rows of one submission as Gradescope's results.json; of several files each exercise's best counts."""
    best: dict[str, Row] = {}
    for row in rows:
        if row.exercise not in best or (row.points or 0.0) > (best[row.exercise].points or 0.0):
            best[row.exercise] = row
    return {"tests": [test(row) for row in best.values() if row.points is not None], "visibility": "visible"}


def test(row: Row) -> dict[str, Any]:
    output = f"{row.reason}\n\nHint: {row.hint}" if row.hint else row.reason
    status = "passed" if row.points == row.of else "failed"
    return {"name": row.exercise, "score": row.points, "max_score": row.of, "status": status, "output": output}


if __name__ == "__main__":
    import sys

    os.umask(0o077)
    autograde(Path(sys.argv[1]), sys.argv[2])
