"""Every live figure: its module computes what the package computes, and its Python side is whole."""

from __future__ import annotations

import base64
import io
import json
import random
import re
from typing import Any

import nbformat
import numpy as np
import pytest
from examples import examples
from nbclient import NotebookClient
from node import run_js
from PIL import Image

from ddpm_lite import live
from ddpm_lite.live.controls import Presets

EXAMPLES = examples()
every_figure = pytest.mark.parametrize("figure", EXAMPLES.values(), ids=EXAMPLES)


def states(figure: live.Figure, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """n random states, each among those that the controls allow."""
    rng = random.Random(seed)
    controls = [c for c in figure.controls if not isinstance(c, Presets)]
    return [{c.name: c.draw(rng) for c in controls} for _ in range(n)]


def computed(figure: live.Figure, states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The numbers of the figure's module at these states, in node."""
    script = """
      const { spec } = (await load(inputs.module)).default;
      return inputs.states.map((state) => spec.compute(state, inputs.data).numbers);
    """
    return run_js(script, {"module": figure.module, "states": states, "data": figure.data})


def test_every_figure_has_its_example() -> None:
    assert {type(figure).__name__ for figure in EXAMPLES.values()} == {
        name for name, value in vars(live).items() if isinstance(value, type) and issubclass(value, live.Figure)
    } - {"Figure"}


@pytest.mark.needs("node")
@every_figure
def test_the_module_computes_what_the_package_computes(figure: live.Figure) -> None:
    settings = [dict(figure.state), *states(figure, 12)]
    for state, numbers in zip(settings, computed(figure, settings), strict=True):
        truth = figure.truth(state)
        assert numbers.keys() == truth.keys()
        for name, value in truth.items():
            if isinstance(value, str):
                assert numbers[name] == value, (state, name)
            else:
                assert numbers[name] == pytest.approx(value, rel=1e-5, abs=1e-5), (state, name)


@every_figure
def test_the_sentence_holds_numbers_that_change(figure: live.Figure) -> None:
    told = {figure.sentence.format(**figure.truth(state)) for state in states(figure, 5)}
    assert len(told) > 1
    assert re.search(r"\{\w+:\.\df\}", figure.sentence)


@every_figure
def test_random_states_are_allowed_and_others_are_not(figure: live.Figure) -> None:
    for state in states(figure, 5):
        figure.check(state)
    with pytest.raises(ValueError, match="no such control"):
        figure.check({"temperature": 1.0})
    for control in figure.controls:
        if not isinstance(control, Presets):
            with pytest.raises(ValueError, match=control.name):
                figure.check({control.name: 1e9 if not isinstance(control.start, tuple) else (1e9,)})


@every_figure
def test_presets_are_states(figure: live.Figure) -> None:
    for control in figure.controls:
        for _, change in control.options if isinstance(control, Presets) else ():
            figure.check(change)


@every_figure
def test_the_answer_is_one_of_the_options(figure: live.Figure) -> None:
    question = figure.question
    assert question is None or 0 <= question.answer < len(question.options)


def test_the_bowls_answer_is_the_best_of_its_curves() -> None:
    figure = EXAMPLES["bowl"]
    offers = next(control.options for control in figure.controls if isinstance(control, Presets))
    products = [figure.truth({**figure.state, **change})["log10_product"] for _, change in offers]
    assert figure.question is not None
    assert products.index(max(products)) == figure.question.answer


@every_figure
def test_a_page_gets_the_widget_the_picture_and_the_sentence(figure: live.Figure) -> None:
    bundle, _ = figure._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == figure.model_id
    assert figure.tell() in bundle["text/plain"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).convert("L"))
    assert pixels.shape[1] >= 700
    assert 0.02 < (pixels < 250).mean() < 0.9  # neither empty nor full


@every_figure
def test_what_travels_is_json_and_small(figure: live.Figure) -> None:
    """The chapter's own part of a page may weigh 300 KB compressed: one figure is a small part of that."""
    import gzip

    text = json.dumps([figure.data, figure.state, figure._esm, figure._css])
    assert len(gzip.compress(text.encode())) < 60_000


def test_points_of_another_shape_are_refused() -> None:
    import torch

    with pytest.raises(ValueError, match=r"points has shape \(20,\)"):
        live.LikelihoodBowl(torch.zeros(20))


def test_a_plot_after_a_live_figure_is_shown() -> None:
    """The notebook's backend loads with the first picture; what it sets must not end with that picture's style."""
    sources = ["import matplotlib.pyplot as plt\nfrom ddpm_lite import live", "live.FewSteps()", "plt.subplots();"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    shown = ["image/png" in output.get("data", {}) for output in notebook.cells[2].outputs]
    assert shown == [True]
