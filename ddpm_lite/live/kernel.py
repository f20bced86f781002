"""Controls that need Python: alive in a notebook; the published page shows what they show at first, and says so."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets

from .figure import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

__all__ = ["WithKernel"]

NOTE = (
    "These controls run Python. They work when this page is open as a notebook, on Colab or in JupyterLab. "
    "Below is what they show at the first setting:"
)


class WithKernel:
    """A picture that a function draws again, on request, with the settings that the reader chose.

    draw(**settings) returns a matplotlib figure. settings: a list of values each, the first of which is drawn at once.

    Raises ValueError for a setting without values.
    """

    def __init__(self, draw: Callable[..., Picture], **settings: list[Any]) -> None:
        for name, values in settings.items():
            if not values:
                raise ValueError(f"{name} = {values!r}: give at least one value to choose from")
        self.draw, self.settings = draw, settings
        self.first = {name: values[0] for name, values in settings.items()}

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        told = ", ".join(f"{name} = {value}" for name, value in self.first.items())
        picture = png(self.draw(**self.first))
        return {
            **self.panel(picture)._repr_mimebundle_(),
            "text/html": f'<div class="dl-kernel"><p>{NOTE} {html.escape(told)}.</p></div>',
            "image/png": picture,
            "text/plain": f"{NOTE} {told}.",
        }

    def panel(self, picture: str) -> ipywidgets.VBox:
        """The controls for a notebook; picture is a PNG as base64 text."""
        choices = {
            name: ipywidgets.Dropdown(options=values, description=name, style={"description_width": "initial"})
            for name, values in self.settings.items()
        }
        button = ipywidgets.Button(description="Run", button_style="primary")
        image = ipywidgets.Image(value=base64.b64decode(picture), format="png")
        said = ipywidgets.HTML()

        def run(_: ipywidgets.Button) -> None:
            button.disabled, said.value = True, "Running..."
            try:
                chosen = {name: choice.value for name, choice in choices.items()}
                image.value = base64.b64decode(png(self.draw(**chosen)))
                said.value = ""
            except Exception as error:
                said.value = f"<code>{html.escape(type(error).__name__)}: {html.escape(str(error))}</code>"
            finally:
                button.disabled = False

        button.on_click(run)
        return ipywidgets.VBox([*choices.values(), button, said, image])
