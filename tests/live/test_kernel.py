"""Controls that need Python: the notebook's panel draws again, and a page without a kernel is told so."""

from __future__ import annotations

import base64
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import pytest

from ddpm_lite import live


def dots(n: int, colour: str) -> Any:
    if n < 0:
        raise ValueError(f"n = {n}: give at least 0")
    figure, ax = plt.subplots(figsize=(2, 2))
    ax.plot(range(n), "o", color=colour)
    return figure


def children(cell: live.WithKernel) -> dict[str, Any]:
    """The widgets of the notebook's panel, by what they are."""
    first = cell._repr_mimebundle_()["image/png"]
    found: dict[str, Any] = {}
    for widget in cell.panel(first).children:
        name = widget.description if isinstance(widget, ipywidgets.Dropdown) else type(widget).__name__
        found[name] = widget
    return found


def test_run_draws_with_the_chosen_settings() -> None:
    panel = children(live.WithKernel(dots, n=[3, 5], colour=["red", "blue"]))
    first = panel["Image"].value
    panel["Button"].click()
    assert panel["Image"].value == first
    panel["n"].value, panel["colour"].value = 5, "blue"
    assert panel["Image"].value == first  # only Run runs
    panel["Button"].click()
    other = children(live.WithKernel(dots, n=[5], colour=["blue"]))["Image"].value
    assert panel["Image"].value == other != first
    assert not panel["Button"].disabled


def test_an_error_is_shown_and_the_picture_stays() -> None:
    panel = children(live.WithKernel(dots, n=[3, -1], colour=["red"]))
    before = panel["Image"].value
    panel["n"].value = -1
    panel["Button"].click()
    assert "ValueError: n = -1: give at least 0" in panel["HTML"].value
    assert panel["Image"].value == before
    assert not panel["Button"].disabled


def test_a_page_without_a_kernel_is_told() -> None:
    bundle = live.WithKernel(dots, n=[3, 5], colour=["blue", "red"])._repr_mimebundle_()
    assert bundle["text/html"].startswith('<div class="dl-kernel">')
    assert "n = 3, colour = blue" in bundle["text/html"]
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_no_picture_is_left_open() -> None:
    before = plt.get_fignums()
    live.WithKernel(dots, n=[3], colour=["red"])._repr_mimebundle_()
    assert plt.get_fignums() == before


def test_a_setting_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n = \[\]"):
        live.WithKernel(dots, n=[], colour=["red"])
