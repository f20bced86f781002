"""The host of live figures: in a real browser it does what anywidget's own front end does, with no other host at hand.

The pages are made from real widgets; `manager` is the same page with a slider of ipywidgets on it, which makes the host
load ipywidgets' own manager and anywidget's own front end: what they do is the truth for the small host.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import nbformat
import pytest
import traitlets
from bs4 import BeautifulSoup
from ipywidgets.embed import dependency_state, embed_data

ROOT = Path(__file__).resolve().parents[2]
STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
STILL = f'<div class="dl-still"><img alt="still" src="data:image/png;base64,{PIXEL}"></div>'
LOG = 'const log = (...words) => (window.log ??= []).push(words.join(" "));\n'
both_hosts = pytest.mark.parametrize("host", ["ours", "manager"])


def script(kind: str, data: Any) -> str:
    return f'<script type="{kind}">{json.dumps(data).replace("</", "<" + chr(92) + "/")}</script>'


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Pages:
    """A folder of pages with the host beside them, and the tabs that show them."""

    def __init__(self, folder: Path, browser: Any) -> None:
        self.folder, self.browser, self.contexts = folder, browser, []
        shutil.copytree(ROOT / "book" / "_static", folder / "_static")
        shutil.copytree(ROOT / "book" / "_vendor" / "jupyter-widgets", folder / "_static" / "jupyter-widgets")
        source = Path(anywidget.__file__).parent / "nbextension" / "index.js"
        shutil.copyfile(source, folder / "_static" / "jupyter-widgets" / "anywidget.js")
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def write(self, *views: ipywidgets.Widget, host: str = "ours") -> str:
        """Write a page that shows the widgets, each with a still picture."""
        slider = [ipywidgets.IntSlider(value=3, description="others")] if host == "manager" else []
        shown = [*views, *slider]
        data = embed_data(views=shown, state=dependency_state(shown, drop_defaults=False))
        outputs = [f'<div class="dl-output">{STILL}{script(VIEW, view)}</div>' for view in data["view_specs"]]
        head = '<meta charset="utf-8"><link rel="stylesheet" href="_static/book.css"><link rel="icon" href="data:,">'
        host_script = '<script defer src="_static/live/host.js"></script>'
        state = script(STATE, data["manager_state"])
        (self.folder / "page.html").write_text(
            f"<!doctype html><html><head>{head}{state}{host_script}</head><body>{''.join(outputs)}</body></html>",
            encoding="utf-8",
        )
        return "page.html"

    def open(self, page: str, place: str = "http") -> Any:
        """Open a page with every other host cut off; `abroad` and `errors` say what it tried."""
        here = self.folder.as_uri() if place == "file" else f"http://127.0.0.1:{self.http.server_port}"
        context = self.browser.new_context(viewport={"width": 900, "height": 700})
        self.contexts.append(context)
        tab = context.new_page()
        tab.abroad, tab.errors = [], []

        def only_here(route: Any) -> None:
            if route.request.url.startswith((f"{here}/", "data:", "blob:")):
                return route.continue_()
            tab.abroad.append(route.request.url)
            return route.abort()

        tab.route("**/*", only_here)
        tab.on("console", lambda message: tab.errors.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.goto(f"{here}/{page}", wait_until="load")
        return tab

    def show(self, *views: ipywidgets.Widget, host: str = "ours", place: str = "http") -> Any:
        """Write and open a page and wait until every figure stands."""
        tab = self.open(self.write(*views, host=host), place)
        tab.wait_for_function("document.querySelectorAll('.dl-output:not(.dl-mounted)').length === 0")
        tab.wait_for_function("window.log?.some(line => line.startsWith('ready'))")
        return tab

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def pages(tmp_path: Path, browser: Any) -> Iterator[Pages]:
    folder = Pages(tmp_path, browser)
    yield folder
    folder.close()


def widget(esm: str, css: str = "", **traits: traitlets.TraitType) -> Callable[..., anywidget.AnyWidget]:
    """A class of anywidgets with these traits."""
    synced = {name: trait.tag(sync=True) for name, trait in traits.items()}
    return type("Example", (anywidget.AnyWidget,), {"_esm": LOG + esm, "_css": css, **synced})


COUNTER = """
export default async () => {
  log("module");
  return {
    initialize({ model }) {
      log("initialize", model.get("count"));
      model.on("change:count", () => log("initialize hears", model.get("count")));
      return () => log("initialize ended");
    },
    async render({ model, el, signal }) {
      const button = el.appendChild(document.createElement("button"));
      const show = () => { button.textContent = `count ${model.get("count")}`; };
      const hear = (from, value) => log("hears", value, from.get("count"), from.get("list"));
      button.onclick = () => { model.set("count", model.get("count") + 1); model.save_changes(); };
      show();
      log("render", model.get("count"), signal instanceof AbortSignal, signal.aborted);
      model.on("change:count", show);
      model.on("change:count change:list", hear);
      model.on("change", () => log("change"));
      model.set("count", model.get("count"));
      model.set("list", [1, { a: 2 }]);
      log("equal values are silent");
      model.set({ count: 10, list: [3] });
      model.save_changes();
      model.off("change:count", hear);
      model.set("count", 11);
      model.off("change");
      model.set("list", [4]);
      model.off();
      model.set("count", 12);
      model.on("change:count", show);
      show();
      log("ready");
      return () => log("render ended");
    },
  };
};
"""
Counter = widget(COUNTER, count=traitlets.Int(1), list=traitlets.List([1, {"a": 2}]))
HEARD = """module
initialize 1
render 1 true false
equal values are silent
initialize hears 10
hears 10 10 3
hears 3 10 3
change
initialize hears 11
change
hears 4 11 4
initialize hears 12
ready"""


@both_hosts
@pytest.mark.parametrize("place", ["http", "file"])
def test_a_model_speaks_as_anywidgets_does(pages: Pages, host: str, place: str) -> None:
    tab = pages.show(Counter(), host=host, place=place)
    assert "\n".join(tab.evaluate("log")) == HEARD
    tab.get_by_role("button", name="count 12").click()
    assert tab.get_by_role("button").inner_text() == "count 13"
    assert (tab.abroad, tab.errors) == ([], [])
    assert tab.evaluate("typeof requirejs") == ("undefined" if host == "ours" else "function")
    assert tab.locator(".dl-still").first.is_hidden()


SHARED = """
export default { render({ model, el }) {
  const button = el.appendChild(document.createElement("button"));
  const show = () => { button.textContent = model.get("count"); };
  button.onclick = () => model.set("count", model.get("count") + 1);
  button.onblur = () => model.off();
  model.on("change:count", show);
  show();
  log("ready");
} };
"""


@both_hosts
def test_two_views_share_one_model_and_keep_their_own_ears(pages: Pages, host: str) -> None:
    one = widget(SHARED, count=traitlets.Int(1))()
    tab = pages.show(one, one, host=host)
    first, second = tab.get_by_role("button").all()
    first.click()
    assert [first.inner_text(), second.inner_text()] == ["2", "2"]
    second.focus()  # the first stops listening
    second.click()
    assert [first.inner_text(), second.inner_text()] == ["2", "3"]


BINARY = """
export default { render({ model, el }) {
  const [raw, layer] = [model.get("raw"), model.get("net").layers[1].weight];
  log("ready", raw instanceof DataView, raw.byteLength, raw.getUint8(200), layer.getFloat32(4, true));
} };
"""


@both_hosts
def test_bytes_arrive_as_views_at_their_places(pages: Pages, host: str) -> None:
    net = {"layers": [{"weight": b""}, {"weight": struct.pack("<2f", 1.5, -2.25), "name": "out"}]}
    figure = widget(BINARY, raw=traitlets.Bytes(), net=traitlets.Dict())(raw=bytes(range(256)), net=net)
    assert pages.show(figure, host=host).evaluate("log") == ["ready true 256 200 -2.25"]


PARENT = """
export default { async render({ model, el, host }) {
  const child = await model.widget_manager.get_model(model.get("child").split(":")[1]);
  const { exports, render } = await host.getWidget(model.get("child"));
  const same = await host.getModel(model.get("child"));
  await render({ el: el.appendChild(document.createElement("section")) });
  same.set("name", "changed");
  log("ready", child.get("name"), exports.twice(4), el.querySelector("section").textContent);
} };
"""
CHILD = """
export default {
  initialize: () => ({ twice: (x) => 2 * x }),
  render({ model, el }) { el.textContent = `child ${model.get("name")}`; },
};
"""


@both_hosts
def test_a_figure_reaches_another(pages: Pages, host: str) -> None:
    child = widget(CHILD, name=traitlets.Unicode("first"))()
    parent = widget(PARENT, child=traitlets.Unicode())(child=f"anywidget:{child.model_id}")
    tab = pages.show(ipywidgets.VBox([parent, child]), host=host)
    assert [line for line in tab.evaluate("log") if "ready" in line] == ["ready changed 8 child first"]
    assert tab.errors == []


@both_hosts
@pytest.mark.parametrize(("box", "axis"), [(ipywidgets.HBox, "x"), (ipywidgets.VBox, "y")])
def test_boxes_set_figures_in_a_row_or_a_column(pages: Pages, host: str, box: type, axis: str) -> None:
    figures = [widget(SHARED, count=traitlets.Int(i))() for i in range(3)]
    tab = pages.show(box([figures[0], box(figures[1:])]), host=host)
    places = [tab.get_by_role("button", name=str(i), exact=True).bounding_box() for i in range(3)]
    other = "y" if axis == "x" else "x"
    assert places[0][axis] < places[1][axis] < places[2][axis]
    assert max(place[other] for place in places) - min(place[other] for place in places) < 12


def test_one_module_and_one_style_for_many_figures(pages: Pages) -> None:
    kind = widget(COUNTER, css="button { color: rgb(1, 2, 3); }", count=traitlets.Int(1), list=traitlets.List())
    tab = pages.show(kind(), kind(), kind())
    assert tab.evaluate("log").count("module") == 1
    assert tab.evaluate("log").count("initialize 1") == 3
    assert tab.evaluate("document.head.querySelectorAll('style').length") == 1
    assert tab.get_by_role("button").first.evaluate("b => getComputedStyle(b).color") == "rgb(1, 2, 3)"


FAILURES = {
    "no module": "export default {",
    "no default": "export const x = 1;",
    "bad initialize": "export default { initialize() { throw new Error('planted'); }, render() {} };",
    "bad render": "export default { async render({ el }) { el.textContent = 'half'; throw new Error('planted'); } };",
}


@pytest.mark.parametrize("reason", FAILURES)
def test_a_figure_that_fails_leaves_the_still_picture_and_the_other_figures(pages: Pages, reason: str) -> None:
    tab = pages.open(pages.write(widget(FAILURES[reason])(), Counter()))
    tab.get_by_role("button", name="count 12").wait_for()
    tab.wait_for_function("document.querySelectorAll('.dl-mounted').length === 1")
    bad, good = tab.locator(".dl-output").all()
    assert bad.locator(".dl-still").is_visible()
    assert bad.locator(".dl-live").count() == 0
    assert good.locator(".dl-still").is_hidden()
    assert len(tab.errors) == 1
    assert "the still picture stays" in tab.errors[0]


def test_paper_gets_the_still_picture(pages: Pages) -> None:
    tab = pages.show(Counter())
    tab.emulate_media(media="print")
    assert tab.locator(".dl-still").is_visible()
    assert tab.locator(".dl-live").is_hidden()


def test_figures_end_when_the_reader_leaves(pages: Pages) -> None:
    tab = pages.show(Counter())
    tab.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    assert "render ended" not in tab.evaluate("log")
    tab.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: false }))")
    assert sorted(tab.evaluate("log")[-2:]) == ["initialize ended", "render ended"]


@pytest.mark.parametrize("place", ["http", "file"])
def test_another_widget_comes_with_the_full_manager(pages: Pages, place: str) -> None:
    figure = widget(SHARED, count=traitlets.Int(1))()
    slider = ipywidgets.IntSlider(value=4, max=9, description="count")
    ipywidgets.jslink((slider, "value"), (figure, "count"))
    tab = pages.show(ipywidgets.VBox([slider, figure]), place=place)
    tab.get_by_role("slider").focus()
    tab.keyboard.press("ArrowRight")
    assert float(tab.get_by_role("slider").get_attribute("aria-valuenow")) == 5
    assert tab.get_by_role("button").inner_text() == "5"
    assert tab.locator(".dl-still").is_hidden()
    assert (tab.abroad, tab.errors) == ([], [])


# ---- Through Sphinx: what the extension `live` makes of a notebook's outputs.

CONF = f"""
import sys
sys.path.insert(0, {str(ROOT / "book" / "_ext")!r})
extensions = ["myst_nb", "live"]
html_static_path = [{str(ROOT / "book" / "_static")!r}, {str(ROOT / "book" / "_vendor")!r}]
html_css_files = ["book.css"]
nb_execution_mode, nb_ipywidgets_js = "off", {{}}
"""
NOTE = '<div class="dl-kernel"><p>This control needs a running kernel.</p></div>'


def output(view: ipywidgets.Widget, **more: str) -> nbformat.NotebookNode:
    data = {VIEW: {"version_major": 2, "version_minor": 0, "model_id": view.model_id}, "image/png": PIXEL}
    kinds = {"text": "text/plain", "html": "text/html"}
    data |= {kinds[name]: value for name, value in more.items()}
    return nbformat.v4.new_output("display_data", data=data)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small book: a page with a figure and a control that needs a kernel, one with the control, one with neither."""
    folder = tmp_path_factory.mktemp("book")
    source = folder / "source"
    source.mkdir()
    figure = Counter()
    slider = ipywidgets.IntSlider()
    cells = {
        "figure": [output(figure, text="The count is 1."), output(slider, html=NOTE, text="A slider at 0.")],
        "control": [output(slider, html=NOTE, text="A slider at 0.")],
        "plain": [nbformat.v4.new_output("display_data", data={"image/png": PIXEL})],
    }
    for name, outputs in cells.items():
        notebook = nbformat.v4.new_notebook(
            cells=[
                nbformat.v4.new_markdown_cell(f"# {name}"),
                nbformat.v4.new_code_cell("show", outputs=outputs, metadata={"tags": ["remove-input"]}),
            ],
            metadata={"widgets": {STATE: embed_data(views=[figure, slider], drop_defaults=False)["manager_state"]}},
        )
        nbformat.write(notebook, source / f"{name}.ipynb")
    (source / "index.md").write_text("# Book\n\n```{toctree}\nfigure\ncontrol\nplain\n```\n", encoding="utf-8")
    (source / "conf.py").write_text(CONF, encoding="utf-8")
    for builder in ("html", "latex"):
        command = [sys.executable, "-m", "sphinx", "-qW", "-b", builder, str(source), str(folder / builder)]
        subprocess.run(command, check=True, timeout=120)
    return folder


def soup(built: Path, page: str) -> BeautifulSoup:
    return BeautifulSoup((built / "html" / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


def test_a_figure_has_its_still_picture_its_text_and_its_state(built: Path) -> None:
    page = soup(built, "figure")
    assert page.select_one(".dl-output > .dl-still img")["alt"] == "The count is 1."
    assert len(page.find_all("script", type=VIEW)) == 1
    state = json.loads(page.find("script", type=STATE).text)["state"]
    assert {model["model_name"] for model in state.values()} == {"AnyModel", "LayoutModel"}
    assert [tag["src"].partition("?")[0] for tag in page.select("script[src]") if "host" in tag["src"]] == [
        "_static/live/host.js"
    ]
    assert "require" not in str(page.head)


def test_a_control_that_needs_a_kernel_says_so_and_shows_its_picture(built: Path) -> None:
    page = soup(built, "control")
    assert "needs a running kernel" in page.select_one(".dl-kernel").text
    assert page.select_one(".dl-kernel").find_next("img")["alt"] == "A slider at 0."
    assert page.find_all("script", type=[VIEW, STATE]) == []


def test_a_page_without_a_widget_loads_no_host(built: Path) -> None:
    for name in ("control", "plain"):
        assert "host.js" not in str(soup(built, name))
        assert len(soup(built, name).select("section img")) == 1


def test_other_formats_get_the_picture_alone(built: Path) -> None:
    text = next((built / "latex").glob("*.tex")).read_text(encoding="utf-8")
    assert text.count("includegraphics") == 4
    assert "running kernel" not in text
    assert "model_id" not in text


def test_the_built_figure_stands(pages: Pages, built: Path) -> None:
    shutil.copytree(built / "html", pages.folder, dirs_exist_ok=True)
    for place in ("http", "file"):
        tab = pages.open("figure.html", place)
        tab.get_by_role("button", name="count 12").wait_for()
        assert tab.locator(".dl-still").is_hidden()
        assert tab.evaluate("typeof requirejs") == "undefined"
        assert (tab.abroad, tab.errors) == ([], [])
