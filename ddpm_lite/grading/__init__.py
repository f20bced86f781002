"""Exercises: their sources, the judge of an answer, and the proof that the judge is right."""

from .exercise import Case, Exercise, Outcome, Set, Task, Wrong, load

__all__ = ["Case", "Exercise", "Outcome", "Set", "Task", "Wrong", "load"]
