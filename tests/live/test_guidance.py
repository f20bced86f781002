"""The guided samples of chapter 13: the package's ends point by point, the closed form, and what the question says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from node import run_js
from scipy.integrate import quad

from ddpm_lite import live
from ddpm_lite.live.guidance import SCALES, moments, samples

FIGURE = live.GuidanceScale()
needs_node = pytest.mark.needs("node")


def state(**change: Any) -> dict[str, Any]:
    return {**FIGURE.state, **change}


@needs_node
@pytest.mark.parametrize("law", ["gauss", "mixture"])
def test_every_sample_is_where_the_package_puts_it(law: str) -> None:
    script = """
      const { spec } = (await load("guidance")).default;
      return inputs.settings.map((s) => Array.from(spec.compute(s, inputs.data).x));
    """
    scales = [0.0, 1.0, 2.25, 6.0]
    found = run_js(script, {"settings": [state(law=law, w=w) for w in scales], "data": FIGURE.data})
    for w, points in zip(scales, found, strict=True):
        assert np.abs(np.array(points) - samples(law, w).numpy()).max() < 1e-7


@pytest.mark.parametrize("w", SCALES)
def test_the_gaussian_case_has_its_closed_form(w: float) -> None:
    """The ODE solved by hand: variance .25^w / 1.25^(w-1), and the mean by an integral from the first noise on."""
    root = 0.25 ** (w / 2) * 1.25 ** ((1 - w) / 2)
    first = 1 / math.sqrt(0.25 + 300**2)
    area = quad(lambda z: (1 + z**2) ** ((w - 1) / 2), first, 2)[0]
    x = samples("gauss", w)
    assert x.mean().item() == pytest.approx(w * root * area, abs=1e-3)
    assert x.std(correction=0).item() == pytest.approx(root, rel=1e-2)


@pytest.mark.parametrize("w", SCALES)
def test_the_tilted_gaussian_has_its_precision(w: float) -> None:
    precision = w / 0.25 + (1 - w) / 1.25
    assert moments("gauss", w) == pytest.approx((4 * w / precision, 1 / precision), abs=1e-6)


@pytest.mark.parametrize("law", ["gauss", "mixture"])
def test_samples_follow_the_density_without_guidance_only(law: str) -> None:
    for w in (0.0, 1.0):
        assert samples(law, w).var().item() == pytest.approx(moments(law, w)[1], rel=0.02)
    assert samples(law, 3.0).var().item() < 0.75 * moments(law, 3.0)[1]


def test_the_answer_is_what_happens() -> None:
    assert FIGURE.question is not None
    said = float(FIGURE.question.options[FIGURE.question.answer])
    assert FIGURE.state == {"w": 2.0, "law": "gauss"}
    assert FIGURE.truth(FIGURE.state)["variance"] == pytest.approx(said, abs=1e-3)
