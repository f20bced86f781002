"""An exercise: the cases of its checks, its known right and wrong answers, and how it stands in its notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Case", "Essay", "Exercise", "Outcome", "Set", "Task", "Wrong", "edited"]


@dataclass(frozen=True)
class Case:
    """One call of the answer, and the name of the check that it belongs to.

    args: numpy arrays, which the answer gets as tensors, numbers, strings, and tuples of those.
    """

    check: str
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Wrong:
    """A known mistake: a one-line edit of the solution, the check that fails first, and what the student reads."""

    old: str
    new: str
    refused_by: str
    hint: str


@dataclass(frozen=True)
class Outcome:
    """What one call came to: a value (an array, or a tuple of arrays) or an error in words.

    changed: the places of the arguments that the call changed.
    """

    value: Any = None
    error: str | None = None
    changed: Sequence[int] = ()


@dataclass(frozen=True)
class Exercise:
    """What grades one function: random cases, another road to the right values, and the answers that prove both.

    cases: called with a fresh generator at every grading. oracle: takes and returns numpy arrays, numbers or
    tuples of those. messages: check -> what is wrong, in a sentence; "unchanged" is the check that no argument is
    changed in place. tolerance: relative to the largest expected magnitude, plus the same absolute. right: other
    correct answers, whole sources. equivalent: a line of an automatic mutant that changes nothing -> the reason.
    Raises ValueError for an id that is no name, dots other than 1 to 3, points or a tolerance that is not positive.
    """

    id: str
    dots: int
    points: float
    hints: tuple[str, str]
    cases: Callable[[np.random.Generator], list[Case]]
    oracle: Callable[..., Any]
    messages: Mapping[str, str]
    tolerance: float = 1e-6
    right: tuple[str, ...] = ()
    wrong: tuple[Wrong, ...] = ()
    equivalent: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id.isidentifier():
            raise ValueError(f"the id of an exercise is the name of its function; got {self.id!r}")
        if self.dots not in (1, 2, 3):
            raise ValueError(f"exercise {self.id}: dots, the difficulty, is 1, 2 or 3; got {self.dots}")
        if not (self.points > 0 and self.tolerance > 0):
            raise ValueError(
                f"exercise {self.id}: points and tolerance must be positive; got {self.points} and {self.tolerance}"
            )


@dataclass(frozen=True)
class Task:
    """An exercise as it stands in its notebook.

    statement: Markdown from its "## " line on. solution: source of the function. stub: what the student starts from.
    given: source that runs before every answer. debug: the stub is the first wrong answer.
    """

    exercise: Exercise
    title: str
    statement: str
    solution: str
    stub: str
    given: str
    path: Path
    debug: bool = False

    def source(self, answer: str) -> str:
        """Return the answer behind the given code."""
        return f"{self.given}\n\n{answer}" if self.given else answer

    def edited(self, wrong: Wrong) -> str:
        """Return the solution with a known mistake; raises ValueError where the edit does not fit exactly once."""
        return edited(self.solution, wrong, f"{self.path}: exercise {self.exercise.id}")


@dataclass(frozen=True)
class Essay:
    """A question that a person reads and marks. solution: a model answer, "" where it is private."""

    id: str
    points: float
    title: str
    statement: str
    solution: str
    path: Path


@dataclass(frozen=True)
class Set:
    """The exercises of one chapter, in the order of the notebook; intro: the text before the first of them."""

    path: Path
    parts: tuple[Task | Essay, ...]
    title: str = ""
    intro: str = ""
    given: str = ""

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def exercises(self) -> tuple[Task, ...]:
        return tuple(part for part in self.parts if isinstance(part, Task))


def edited(solution: str, wrong: Wrong, where: str) -> str:
    """Return a solution with a known mistake; raises ValueError that starts with `where` unless the edit fits once."""
    count = solution.count(wrong.old)
    if count != 1 or wrong.old == wrong.new:
        raise ValueError(
            f"{where}: the wrong answer {wrong.old!r} -> {wrong.new!r} no longer applies: its old text occurs "
            f"{count} times in the solution, and must occur once and differ from the new"
        )
    return solution.replace(wrong.old, wrong.new)
