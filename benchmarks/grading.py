"""Wall time of grading a class: 12 notebooks of five exercises, two at once, each in its sandbox."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from ddpm_lite.grading import Set, load
from ddpm_lite.grading.grade import grade
from ddpm_lite.grading.sandbox import SandboxError, require_bubblewrap

FOLDER = Path(__file__).resolve().parent.parent / "book" / "exercises"
SUBMISSIONS, EXERCISES, PROCESSORS = 12, 5, 2
TARGET = 15.0
TRAINING = "import time\nwhile True:\n    time.sleep(1)  # a training loop, which does not run\n"


def rows() -> list[dict]:
    try:
        require_bubblewrap()
    except SandboxError as error:
        print(f"grading: NOT RUN, {error}")
        return []
    exercises = next(each for each in map(load, sorted(FOLDER.glob("[0-9]*.md"))) if len(each.exercises) == EXERCISES)
    with tempfile.TemporaryDirectory() as folder:
        right = write_class(exercises, Path(folder))
        start = time.perf_counter()
        found = grade(folder, exercises, rng=np.random.default_rng(0), workers=PROCESSORS)
        seconds = time.perf_counter() - start
    if [row.points > 0 for row in found if row.points is not None] != right:
        raise RuntimeError("grading: a right answer was refused, or a wrong one passed")
    label = f"{SUBMISSIONS} notebooks of {len(exercises.exercises)} exercises on {PROCESSORS} of {os.cpu_count()} cores"
    return [{"name": label, "value": seconds, "target": TARGET, "unit": "s"}]


def write_class(exercises: Set, folder: Path) -> list[bool]:
    """Write the notebooks and return whether each of their answers is right, in the order of the grades.

    A third of them hold the solutions, a third other right answers, a third known mistakes.
    """
    right = []
    for number in range(SUBMISSIONS):
        cells = [exercises.given, TRAINING]
        for task in exercises.exercises:
            good = [task.solution, *task.exercise.right]
            bad = [task.edited(wrong) for wrong in task.exercise.wrong]
            sources = ([task.solution], good[1:] or good, bad)[number % 3]
            cells.append(sources[number // 3 % len(sources)])
            right.append(number % 3 < 2)
        code = [{"cell_type": "code", "metadata": {}, "source": source} for source in cells]
        notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": code}
        (folder / f"student_{number:02}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return right
