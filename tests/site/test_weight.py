"""What a first visit loads, and that nothing in it stops the first paint."""

from __future__ import annotations

import base64
import gzip
import importlib
import io
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydata_sphinx_theme
import pytest
from bs4 import BeautifulSoup
from fontTools.ttLib import TTFont
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
THEME = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
STYLE = "styles/pydata-sphinx-theme.css"
ICONS = "[...document.querySelectorAll('[class*=fa-]')].map(e => getComputedStyle(e, '::before').content)"

sys.path.insert(0, str(ROOT / "book" / "_ext"))
lighten = importlib.import_module("lighten")


@pytest.fixture(scope="module")
def visit(browser: Any, server: str, page: str) -> Iterator[SimpleNamespace]:
    """A page at its first visit, and the addresses that it loads from the server."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab, loaded = context.new_page(), []
    tab.on("response", lambda answer: loaded.append(answer.url) if answer.url.startswith(server) else None)
    tab.goto(f"{server}/{page}.html", wait_until="networkidle")
    tab.evaluate("window.MathJax?.startup?.promise.then(() => document.fonts.ready).then(() => true)")
    yield SimpleNamespace(tab=tab, files=[url.removeprefix(f"{server}/").partition("?")[0] for url in loaded])
    context.close()


def compressed(file: Path) -> int:
    """Bytes on the way: packed, unless the file is packed already."""
    data = file.read_bytes()
    return min(len(data), len(gzip.compress(data)))


def share(file: str) -> str:
    """Whose part of the page a file is."""
    if file.startswith("_images/"):
        return "pictures"
    if "mathjax" in file:
        return "formulas"
    return "chapter" if file.endswith(".html") else "theme and tools"


def test_a_first_visit_loads_less_than_a_megabyte(visit: SimpleNamespace, site: Path, page: str) -> None:
    parts: Counter[str] = Counter()
    for file in visit.files:
        parts[share(file)] += compressed(site / file)
    print(f"\n{page}: {parts.total() / 1000:.0f} kB:", {name: f"{size / 1000:.0f}" for name, size in parts.items()})
    assert parts["theme and tools"] > 0
    assert parts.total() < 1_000_000
    assert parts["theme and tools"] < 200_000
    assert parts["chapter"] < 300_000


def test_nothing_but_style_sheets_stops_the_first_paint(visit: SimpleNamespace, site: Path, page: str) -> None:
    entries = visit.tab.evaluate("performance.getEntriesByType('resource').map(e => [e.name, e.renderBlockingStatus])")
    blocking = [name.partition("?")[0] for name, status in entries if status == "blocking"]
    assert blocking
    assert [name for name in blocking if not name.endswith(".css")] == []
    head = BeautifulSoup((site / f"{page}.html").read_text(encoding="utf-8"), "html.parser").head
    assert [tag["src"] for tag in head.select("script[src]") if not {"defer", "async"} & set(tag.attrs)] == []


def test_nothing_is_loaded_for_another_page(visit: SimpleNamespace) -> None:
    unused = r"fontawesome|thebe|search(tools|index)|language_data|jupyter-widgets|\.map$"
    assert [file for file in visit.files if re.search(unused, file)] == []
    assert [file for file, times in Counter(visit.files).items() if times > 1] == []
    hosts = "live/host.js" in " ".join(visit.files)
    assert hosts == (visit.tab.locator("script[type='application/vnd.jupyter.widget-view+json']").count() > 0)


def fonts(style: str) -> list[TTFont]:
    """The fonts of icons that a style sheet holds."""
    return [TTFont(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"data:font/woff;base64,([^)]+)", style)]


def test_every_icon_has_a_shape(visit: SimpleNamespace, site: Path) -> None:
    """The character of each icon on the page is in one of the cut fonts, with a shape."""
    shown = {ord(content.strip('"')) for content in visit.tab.evaluate(ICONS) if content != "none"}
    assert len(shown) > 4
    with_shape = set()
    for font in fonts((site / "_static" / STYLE).read_text(encoding="utf-8")):
        glyphs = font.getBestCmap()
        with_shape |= {code for code, name in glyphs.items() if font["hmtx"][name][0] > 0}
    assert shown - with_shape == set()


@pytest.mark.parametrize(("icon", "warnings"), [("fa-anchor", 0), ("fa-no-such-icon", 1)])
def test_an_icon_that_the_theme_lacks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, icon: str, warnings: int
) -> None:
    shutil.copytree(THEME, tmp_path / "_static")
    (tmp_path / "index.html").write_text(f'<i class="fa-solid {icon} fa-lg"></i>', encoding="utf-8")
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(lighten.LOGGER, "warning", lambda *text: seen.append(text))
    lighten.cut_icons(SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(format="html")), None)
    assert [text[-1] for text in seen] == [icon] * warnings
    style = (tmp_path / "_static" / STYLE).read_text(encoding="utf-8")
    assert (".fa-anchor:before" in style) == (warnings == 0)
    assert any(0xF13D in font.getBestCmap() for font in fonts(style)) == (warnings == 0)  # the anchor's number
    assert not any(0xF7B6 in font.getBestCmap() for font in fonts(style))  # a mug that no page shows


def test_packed_pictures_keep_every_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    (tmp_path / "_images").mkdir()
    Image.fromarray(pixels).save(tmp_path / "_images" / "a.png")
    (tmp_path / "index.html").write_text('<img alt="a.png" src="_images/a.png" /><img src="b.png">', encoding="utf-8")
    lighten.pack_pictures(SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(format="html")), None)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page == '<img alt="a.png" src="_images/a.webp" /><img src="b.png">'
    assert [file.name for file in (tmp_path / "_images").iterdir()] == ["a.webp"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "_images" / "a.webp")), pixels)


def test_the_search_finds(browser: Any, server: str) -> None:
    """From the button of a page to the results on the search page."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(f"{server}/book/index.html")
    tab.locator("#pst-primary-sidebar .search-button__button").click()
    tab.locator("#pst-search-dialog input").fill("gaussian")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/search.html?q=gaussian*")
    tab.locator("#search-results li a").first.wait_for()
    assert any("gaussians" in link.get_attribute("href") for link in tab.locator("#search-results li a").all())
    assert errors == []
    context.close()
