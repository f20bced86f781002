"""The Python side of a live figure: what it starts with, the exact numbers for any state, and its still picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import traitlets

from ..viz import STYLE
from .controls import Control, Knobs, Presets, Question, plain
from .modules import HERE, joined

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

__all__ = ["Figure"]

CSS = (HERE / "figure.css").read_text(encoding="utf-8")


class Figure(anywidget.AnyWidget):
    """A figure that moves in JupyterLab, in Colab and in the published page, by the same ES module.

    A subclass gives `module`, `title`, `controls`, `sentence` and perhaps a `question`, and defines `constants`,
    `truth` and `still`. In the browser the module computes the numbers; `truth` computes the same ones with the
    package, for the tests and for the sentence under the still picture.

    Raises ValueError for a state that names no control, or lies outside what the control allows.
    """

    module: ClassVar[str]  # the ES module of this folder, without .js
    title: ClassVar[str]
    controls: ClassVar[tuple[Control, ...]]
    sentence: ClassVar[str]  # "{name:.2f}" stands for one of the numbers
    question: ClassVar[Question | None] = None

    data = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    numbers = traitlets.Dict().tag(sync=True)  # as the front end announced them last

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "module" in cls.__dict__:  # not for the classes that traitlets makes to add traits
            cls._esm, cls._css = joined(cls.module), CSS
        super().__init_subclass__(**kwargs)

    def __init__(self, **state: Any) -> None:
        start = {c.name: c.start for c in self.controls if not isinstance(c, Presets)}
        self.check(state)
        data = {
            "title": self.title,
            "controls": [plain(c) for c in self.controls if not isinstance(c, Knobs)],
            "sentence": self.sentence,
            "question": plain(self.question) if self.question else None,
            "start": start,
            **self.constants(),
        }
        super().__init__(data=data, state={**start, **state})

    @classmethod
    def check(cls, state: Mapping[str, Any]) -> None:
        """Raise ValueError unless every entry belongs to a control that allows it."""
        named = {c.name: c for c in cls.controls if not isinstance(c, Presets)}
        for name, value in state.items():
            if name not in named:
                raise ValueError(f"{name} = {value!r}: {cls.__name__} has no such control; give some of {list(named)}")
            if not named[name].allows(value):
                raise ValueError(f"{name} = {value!r} is outside what the control allows: {named[name]}")

    def constants(self) -> dict[str, Any]:
        """What the module needs beside the state, as JSON takes it."""
        return {}

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The numbers of the sentence, computed by the package."""
        raise NotImplementedError(f"{type(self).__name__} must define truth(state)")

    def still(self, state: Mapping[str, Any]) -> Picture:
        """The same picture by matplotlib, in the package's style, for print and for pages without JavaScript."""
        raise NotImplementedError(f"{type(self).__name__} must define still(state)")

    def tell(self) -> str:
        """The state in a sentence, with the package's numbers."""
        return self.sentence.format(**self.truth(self.state))

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle = super()._repr_mimebundle_(**kwargs)
        content, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        with styled():
            picture = png(self.still(self.state))
        return {**content, "image/png": picture, "text/plain": f"{self.title}. {self.tell()}"}, metadata


def styled() -> AbstractContextManager[None]:
    """The package's style of pictures, for as long as it is open."""
    import matplotlib.pyplot as plt

    plt.draw_if_interactive()  # a notebook's backend, when it loads, sets a parameter that must outlive this context
    style: Any = STYLE
    return plt.rc_context(style)


def png(picture: Picture) -> str:
    """A matplotlib figure as base64 text; the figure is closed."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    picture.savefig(buffer, format="png")
    plt.close(picture)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
