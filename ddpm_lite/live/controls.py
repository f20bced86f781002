"""What a reader can set in a live figure: each control names the entry of the figure's state that it changes."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Choice", "Clock", "Control", "Knobs", "Presets", "Question", "Slider", "Stops"]


@dataclass(frozen=True)
class Slider:
    """A number from low to high in steps. text shows it, "{value:.2f}"."""

    name: str
    label: str
    low: float
    high: float
    step: float
    start: float
    text: str = "{value:.2f}"
    kind: str = field(default="slider", init=False)

    def allows(self, value: Any) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def draw(self, rng: random.Random) -> float:
        return round(self.low + rng.randint(0, round((self.high - self.low) / self.step)) * self.step, 10)


@dataclass(frozen=True)
class Stops:
    """One of a rising list of numbers, on a slider."""

    name: str
    label: str
    values: tuple[float, ...]
    start: float
    text: str = "{value}"
    kind: str = field(default="stops", init=False)

    def allows(self, value: Any) -> bool:
        return value in self.values

    def draw(self, rng: random.Random) -> float:
        return rng.choice(self.values)


@dataclass(frozen=True)
class Choice:
    """One of a few, as radio buttons; options are pairs (value, words)."""

    name: str
    label: str
    options: tuple[tuple[str, str], ...]
    start: str
    kind: str = field(default="choice", init=False)

    def allows(self, value: Any) -> bool:
        return value in [option for option, _ in self.options]

    def draw(self, rng: random.Random) -> str:
        return rng.choice(self.options)[0]


@dataclass(frozen=True)
class Clock:
    """A slider with a play button that runs from start to end in so many seconds; end may lie below start."""

    name: str
    label: str
    start: float
    end: float
    step: float
    seconds: float
    text: str = "{value:.2f}"
    kind: str = field(default="clock", init=False)

    def allows(self, value: Any) -> bool:
        return isinstance(value, int | float) and min(self.start, self.end) <= value <= max(self.start, self.end)

    def draw(self, rng: random.Random) -> float:
        low, high = sorted((self.start, self.end))
        return round(low + rng.randint(0, round((high - low) / self.step)) * self.step, 10)


@dataclass(frozen=True)
class Presets:
    """Buttons that set several entries at once; options are pairs (words, state). They hold no entry of their own."""

    label: str
    options: tuple[tuple[str, dict[str, Any]], ...]
    kind: str = field(default="presets", init=False)


@dataclass(frozen=True)
class Knobs:
    """A list of numbers that the handles of a panel change, each within low and high; it shows no control."""

    name: str
    low: float
    high: float
    start: tuple[float, ...]
    kind: str = field(default="knobs", init=False)

    def allows(self, value: Any) -> bool:
        return len(value) == len(self.start) and all(self.low <= each <= self.high for each in value)

    def draw(self, rng: random.Random) -> list[float]:
        return [round(rng.uniform(self.low, self.high), 3) for _ in self.start]


Control = Slider | Stops | Choice | Clock | Presets | Knobs


@dataclass(frozen=True)
class Question:
    """What the reader predicts before the figure opens; answer is the place of the right option."""

    text: str
    options: tuple[str, ...]
    answer: int
    reply: str


def plain(item: Control | Question) -> dict[str, Any]:
    """As JSON takes it."""
    return asdict(item)
