"""The modules of the live figures: they join into one, and what they draw and write is right."""

from __future__ import annotations

import math
import random
import re

import numpy as np
import pytest
from node import run_js

from ddpm_lite.live.modules import HERE, imports, joined, source

NAMES = sorted(path.stem for path in HERE.glob("*.js"))
FIGURES = [name for name in NAMES if re.search(r"^export default", source(name), re.MULTILINE)]


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(ValueError, match=r"'bowls'.*bowl"):
        joined("bowls")


def test_a_module_stands_after_what_it_imports() -> None:
    text = joined("bowl")
    first = {name: text.index(source(name).strip().splitlines()[0]) for name in ("theme", "draw", "figure", "bowl")}
    assert first["theme"] < first["figure"] < first["bowl"]
    assert first["draw"] < first["figure"]


@pytest.mark.parametrize("name", NAMES)
def test_imports_are_of_the_form_that_joins(name: str) -> None:
    """Every line that begins an import is one that `joined` sees; none renames, and none asks the network."""
    lines = [line for line in source(name).splitlines() if re.match(r"import\b", line)]
    assert len(lines) == len(imports(name))
    assert not any(" as " in line for line in lines)
    assert not re.search(r"\bfetch\(|https?://|XMLHttpRequest|import\(", source(name))


@pytest.mark.parametrize("name", NAMES)
def test_random_numbers_come_from_the_seed(name: str) -> None:
    code = re.sub(r"//.*", "", source(name))
    assert code.count("Math.random") == (1 if name == "figure" else 0)  # it names inputs, no more
    assert "Date" not in code


@pytest.mark.needs("node")
@pytest.mark.parametrize("name", FIGURES)
def test_the_joined_module_is_a_widget(name: str) -> None:
    """No name stands twice, none is missing: a module is strict, and its body runs on import."""
    script = """
      const url = "data:text/javascript;base64," + Buffer.from(inputs.text).toString("base64");
      const { default: widget } = await import(url);
      return [typeof widget.render, typeof widget.spec.compute];
    """
    assert run_js(script, {"text": joined(name)}) == ["function", "function"]


@pytest.mark.needs("node")
def test_level_lines_lie_on_the_level() -> None:
    """x^2 + y^2 = 1: the ends are as far from the circle as linear interpolation allows, h^2/8 |f''|/|f'|."""
    script = """
      const { contourSegments, linspace } = await load("draw");
      const xs = linspace(-2, 2, 81), ys = linspace(-1.5, 1.5, 61);
      const values = Float64Array.from({ length: 81 * 61 }, (_, k) => xs[k % 81] ** 2 + ys[Math.floor(k / 81)] ** 2);
      return contourSegments(values, xs, ys, 1);
    """
    ends = np.array(run_js(script)).reshape(-1, 2, 2)
    h = 0.05
    assert np.abs(np.hypot(ends[..., 0], ends[..., 1]) - 1).max() < h**2 / 8 * 1.1
    length = np.hypot(*(ends[:, 1] - ends[:, 0]).T).sum()
    assert length == pytest.approx(2 * math.pi, rel=1e-3)  # whole, and no piece twice


RECORDER = """
  const { Panel } = await load("draw");
  const { THEMES } = await load("theme");
  const strokes = [];
  const context = new Proxy({}, {
    set: () => true,
    get: (_, name) => (...args) => ["moveTo", "lineTo"].includes(name) && strokes.push([name, ...args]),
  });
  const panel = new Panel({ clientWidth: 300, clientHeight: 200, getContext: () => context });
  panel.begin({ x: [-1, 2], y: [0, 4], frame: false }, THEMES.light);
"""


@pytest.mark.needs("node")
def test_arrows_point_along_the_field() -> None:
    """Each arrow starts at its point and ends at point + scale field, in pixels; its head lies behind the tip."""
    script = RECORDER + "panel.quiver(inputs.at, inputs.by, { scale: 0.5 }); return strokes;"
    at, by = np.array([[0.0, 1.0], [1.0, 3.0]]), np.array([[1.0, 0.0], [-0.5, 2.0]])
    strokes = run_js(script, {"at": at.ravel(), "by": by.ravel()})

    def to_pixels(place: np.ndarray) -> np.ndarray:
        return np.array([(place[0] + 1) * 100, (4 - place[1]) * 50])

    for i in range(2):
        (_, *start), (_, *tip), (_, *left), (_, *again), (_, *right) = strokes[5 * i : 5 * i + 5]
        assert np.allclose(start, to_pixels(at[i]))
        assert np.allclose(tip, to_pixels(at[i] + 0.5 * by[i]))
        assert again == tip
        along = np.subtract(tip, start)
        for end in (left, right):
            assert np.dot(np.subtract(end, tip), along) < 0
        assert np.allclose((np.array(left) + right) / 2 - tip, -along * 4 / np.linalg.norm(along))


@pytest.mark.needs("node")
def test_a_pixel_and_its_place_are_inverse() -> None:
    script = RECORDER + "return inputs.map(([x, y]) => panel.inverse(panel.px(x), panel.py(y)));"
    places = [[-1, 0], [2, 4], [0.3, 1.7]]
    assert np.allclose(run_js(script, places), places)
    outside = RECORDER + "return panel.inverse(-50, 900);"
    assert np.allclose(run_js(outside), [-1, 0])


@pytest.mark.needs("node")
def test_ticks_are_round_and_inside() -> None:
    ranges = [[0, 1], [-5, 5], [0.5, 3], [-2, 2.6], [0, 0.82], [1e-4, 0.02], [-300, 1200]]
    script = 'const { ticks } = await load("draw"); return inputs.map((range) => ticks(range));'
    for (low, high), found in zip(ranges, run_js(script, ranges), strict=True):
        steps = np.diff(found)
        mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
        assert 3 <= len(found) <= 12
        assert np.allclose(steps, steps[0])
        assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-6
        assert low - 1e-9 <= found[0] < low + steps[0]
        assert high - steps[0] < found[-1] <= high + 1e-9


@pytest.mark.needs("node")
def test_colours_stand_out_from_the_page() -> None:
    """Lines by 3 to 1 and text by 4.5 to 1 (WCAG 2.1), on white and on the book's dark page."""
    script = """
      const { THEMES, luminance } = await load("theme");
      const light = (hex) => luminance([1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
      return Object.values(THEMES).map((theme) => Object.fromEntries(
        Object.entries(theme).map(([name, hex]) => [name, light(hex)])));
    """
    for theme in run_js(script):
        paper = theme.pop("paper")
        theme.pop("line")  # a faint line between parts; it tells nothing
        ratio = {name: (max(v, paper) + 0.05) / (min(v, paper) + 0.05) for name, v in theme.items()}
        assert min(ratio.values()) >= 3, ratio
        assert min(ratio["text"], ratio["muted"]) >= 4.5


@pytest.mark.needs("node")
def test_a_sentence_is_filled_as_python_fills_it() -> None:
    rng = random.Random(0)
    sentence = "{a:.2f} of {b:.0f}, {c:.4f} {word}"
    values = [{"a": rng.gauss(0, 3), "b": rng.gauss(0, 9), "c": rng.gauss(0, 1), "word": "nats"} for _ in range(200)]
    values.append({"a": -0.001, "b": -0.2, "c": -0.00001, "word": "-"})
    script = 'const { fill } = await load("figure"); return inputs.values.map((v) => fill(inputs.sentence, v));'
    found = run_js(script, {"sentence": sentence, "values": values})
    minus_zero = re.compile(r"-(?=0(\.0*)?(?![\d.]))")
    assert [text.replace("\u2212", "-") for text in found] == [minus_zero.sub("", sentence.format(**v)) for v in values]


@pytest.mark.needs("node")
def test_a_sentence_without_its_number_is_an_error() -> None:
    script = """
      const { fill } = await load("figure");
      try { fill("{sigma:.2f}", { mu: 1 }); } catch (error) { return error.message; }
    """
    assert "sigma" in run_js(script)
