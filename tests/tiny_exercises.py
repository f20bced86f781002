"""A set of two small exercises, submissions to it, and what they get."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lite.grading.exercise import Case, Exercise, Set, Task, Wrong
from ddpm_lite.grading.grade import Row, grade
from ddpm_lite.grading.sandbox import Limits

LIMITS = Limits(seconds=2.0, memory=1 << 28, file_size=1 << 20, reply=1 << 20)
GIVEN = "import torch"
SCALE = "def scale(x, c):\n    return c * x\n"
MEAN = "def mean(x):\n    return x.mean(0)\n"


def scale_cases(rng: np.random.Generator) -> list[Case]:
    return [Case("values", (rng.standard_normal((3, 2)), float(rng.uniform(2, 3)))) for _ in range(2)]


def mean_cases(rng: np.random.Generator) -> list[Case]:
    return [Case("values", (rng.standard_normal((4, 3)),))]


def scale_task(name: str = "scale") -> Task:
    """The task `scale`, or the same under another name."""
    scale = Exercise(
        id=name,
        dots=1,
        points=2.0,
        hints=("", ""),
        cases=scale_cases,
        oracle=lambda x, c: np.multiply(x, c),
        messages={"values": "The product is wrong.", "unchanged": "x must stay as it is."},
        wrong=(Wrong("c * x", "c + x", "values", "You add the factor."),),
    )
    source = SCALE.replace("scale", name)
    return Task(scale, name, "", source, source, GIVEN, Path("tiny.md"))


def mean_task() -> Task:
    mean = Exercise(
        id="mean",
        dots=1,
        points=3.0,
        hints=("", ""),
        cases=mean_cases,
        oracle=lambda x: x.sum(0) / len(x),
        messages={"values": "The mean is wrong.", "unchanged": "x must stay as it is."},
    )
    return Task(mean, "mean", "", MEAN, MEAN, GIVEN, Path("tiny.md"))


def exercise_set(*names: str) -> Set:
    """The tasks scale and mean, or scale under each of the names."""
    return Set(Path("tiny.md"), tuple(map(scale_task, names)) or (scale_task(), mean_task()))


def notebook(*cells: str | tuple[str, str], **extra: Any) -> str:
    """A notebook of code cells, or of (type, source)."""
    pairs = [("code", cell) if isinstance(cell, str) else cell for cell in cells]
    found = [{"cell_type": kind, "metadata": {}, "source": source.splitlines(True)} for kind, source in pairs]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": found, **extra})


def graded(folder: Path, names: Sequence[str] = (), **files: str) -> dict[tuple[str, str], Row]:
    """Write the files, as notebooks where they are JSON, and grade the folder."""
    for name, text in files.items():
        suffix = ".ipynb" if text.startswith("{") else ".py"
        (folder / f"{name}{suffix}").write_text(text)
    rows = grade(folder, exercise_set(*names), rng=np.random.default_rng(), limits=LIMITS)
    return {(row.name, row.exercise): row for row in rows}


def points(rows: dict[tuple[str, str], Row], name: str) -> tuple[float, float]:
    return rows[name, "scale"].points, rows[name, "mean"].points


def workers_with(token: int) -> list[int]:
    """The processes of sandboxes with this limit on memory, by their numbers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f'"memory": {token}' in text:
            found.append(int(path.parent.name))
    return found


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return bool(condition())
