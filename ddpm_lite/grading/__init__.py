"""Exercises: their sources, the judge of an answer, and the proof that the judge is right."""

from .exercise import Case, Essay, Exercise, Outcome, Set, Task, Wrong
from .source import load

__all__ = ["Case", "Essay", "Exercise", "Outcome", "Set", "Task", "Wrong", "load"]
