"""Write the sample submissions in book/exercises/samples, which the instructor guide grades.

They are student notebooks of the first set, filled in as students do: all right, with mistakes, untidy, hostile.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from ddpm_lite.grading import Set, Task, load
from ddpm_lite.grading.notebook import student_notebook, write_notebook

SOURCE = Path(__file__).resolve().parents[1] / "book" / "exercises" / "01_gaussians.md"
CHEAT = """\
import torch
torch.allclose = lambda *args, **options: True
assert_right = lambda *args: print("right.")"""
TRAINING = """\
%matplotlib inline
losses = [float(torch.randn(())) for step in range(10**9)]
print("a loop that grading must not run")"""


def filled(exercises: Set, answers: Mapping[str, str]) -> NotebookNode:
    """Return the student's notebook with some answers written."""
    notebook = student_notebook(exercises)
    for cell in notebook.cells:
        cell.source = answers.get(cell.id.removesuffix("-answer"), cell.source).rstrip()
    return notebook


def untidy(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook without its cells' metadata and check cells, with a training loop in between."""
    notebook.cells = [cell for cell in notebook.cells if not cell.id.endswith("-check")]
    notebook.cells.insert(3, new_code_cell(TRAINING, id="training"))
    for cell in notebook.cells:
        cell.metadata.clear()
    return notebook


def hostile(task: Task) -> str:
    """Return an answer that patches the comparison, and then never returns."""
    head = task.stub.split("raise NotImplementedError")[0]
    return f"{CHEAT}\n\n{head}while True:\n        pass\n"


def samples(exercises: Set) -> dict[str, NotebookNode | str]:
    tasks = {task.exercise.id: task for task in exercises.exercises}
    right = {name: task.solution for name, task in tasks.items()}
    other = {name: task.exercise.right[0].strip() + "\n" for name, task in tasks.items()}
    first, second, *_ = tasks.values()
    mistakes = {task.exercise.id: task.edited(task.exercise.wrong[0]) for task in (first, second)}
    return {
        "all_right": filled(exercises, right),
        "own_style": "\n\n".join(["import math\n\nimport torch", *other.values()]),
        "two_mistakes": filled(exercises, right | mistakes),
        "half_done": filled(exercises, {first.exercise.id: first.solution}),
        "untidy": untidy(filled(exercises, right)),
        "hostile": filled(exercises, right | {first.exercise.id: hostile(first)}),
    }


def main() -> None:
    folder = SOURCE.parent / "samples" / SOURCE.stem
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in samples(load(SOURCE)).items():
        if isinstance(content, str):
            (folder / f"{name}.py").write_text(content, encoding="utf-8")
        else:
            write_notebook(content, folder / f"{name}.ipynb")


if __name__ == "__main__":
    main()
