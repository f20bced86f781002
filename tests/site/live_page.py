"""What a reader does with a live figure in a page, by Playwright; `figure` is the locator of its `.dl-figure`."""

from __future__ import annotations

import base64
import re
from typing import Any

from ddpm_lite.live.controls import Choice, Clock, Control, Knobs, Slider, Stops


def answer(figure: Any) -> None:
    """Commit to the first option where the figure asks for a prediction."""
    if figure.locator(".dl-prediction button[type=submit]").count():
        figure.locator(".dl-prediction input").first.check()
        figure.locator(".dl-prediction button[type=submit]").click()


def put(figure: Any, control: Control, value: Any) -> None:
    """Set one control, as an input event would."""
    if isinstance(control, Choice):
        figure.locator(f".dl-choice input[value='{value}']").check()
    elif isinstance(control, Slider | Stops | Clock):
        place = control.values.index(value) if isinstance(control, Stops) else value
        script = "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', {bubbles: true})); }"
        figure.get_by_label(control.label, exact=True).evaluate(script, place)
    elif isinstance(control, Knobs):
        raise TypeError("knobs are moved by keys: press arrows on the handles")


def shown(figure: Any) -> str:
    """The text that tells the state, after the next frame."""
    figure.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return figure.locator(".dl-state").inner_text()


def numbers(text: str) -> list[float]:
    """The numbers in a text, with a minus sign of either kind."""
    return [float(each) for each in re.findall(r"-?\d+(?:\.\d+)?", text.replace("\u2212", "-"))]


def pictures(figure: Any) -> list[bytes]:
    """What every canvas of the figure holds, as PNG."""
    canvases = [canvas for canvas in figure.locator("canvas").all() if canvas.is_visible()]
    return [base64.b64decode(canvas.evaluate("c => c.toDataURL()").partition(",")[2]) for canvas in canvases]
