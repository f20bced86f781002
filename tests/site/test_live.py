"""The live figures on the built site, in a browser, as a reader uses them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from examples import examples
from live_page import answer, numbers, pictures, put, shown

from ddpm_lite import live
from ddpm_lite.live.controls import Clock, Knobs, Presets
from ddpm_lite.live.modules import source

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
FIGURES = examples()
PAGES = {
    "bowl": "01_gaussians",
    "klfit": "02_kl",
    "particles": "03_energy",
    "bend": "04_score_matching",
    "noisy": "05_denoising",
    "anneal": "06_ncsn",
    "schedule": "07_forward",
    "chain": "08_ddpm",
    "fewsteps": "09_samplers",
    "family": "10_sdes",
    "carry": "11_likelihood",
    "coarse": "12_why",
    "observed": "15_inverse",
    "guidance": "13_guidance",
    "crossing": "14_flows",
    "between": "16_editing",
}
every_figure = pytest.mark.parametrize("name", FIGURES)
with_clock = pytest.mark.parametrize(
    "name", [name for name, figure in FIGURES.items() if any(isinstance(c, Clock) for c in figure.controls)]
)
with_handles = pytest.mark.parametrize(
    "name", [name for name in FIGURES if re.search(r"figure\(\{.*\bhandles\b", source(name))]
)


def open_page(browser: Any, address: str, **options: Any) -> Any:
    """The page in a context of its own; `errors` collects what it logs."""
    context = browser.new_context(**{"viewport": DESK, **options})
    tab = context.new_page()
    tab.errors = []
    tab.on("console", lambda message: tab.errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.goto(address, wait_until="load")
    return tab


@pytest.fixture(params=FIGURES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def figure(browser: Any, server: str, name: str) -> Iterator[Any]:
    """The first live figure of the chapter, its prediction answered."""
    tab = open_page(browser, f"{server}/book/{PAGES[name]}.html")
    found = tab.locator(".dl-figure").first
    found.wait_for(timeout=30_000)
    found.scroll_into_view_if_needed()
    answer(found)
    yield found
    assert tab.errors == []
    tab.context.close()


def settable(figure: live.Figure) -> list[Any]:
    return [c for c in figure.controls if not isinstance(c, Presets | Knobs)]


def check_text(text: str, widget: live.Figure, state: dict[str, Any]) -> None:
    """The announced numbers are the package's, to half a unit of the last digit that is shown."""
    exact = widget.truth(state)
    names = re.findall(r"\{(\w+)(?::\.(\d)f)?\}", widget.sentence)
    wanted = widget.sentence.format(**exact)
    assert re.sub(r"[-\u2212]?\d+(\.\d+)?", "#", text) == re.sub(r"-?\d+(\.\d+)?", "#", wanted)
    digits = max(int(each) for _, each in names if each)
    found, true = numbers(text), numbers(wanted)
    places = [len(each.partition(".")[2]) for each in re.findall(r"\d+(?:\.\d+)?", text)]
    assert max(places) == digits
    for seen, value, place in zip(found, true, places, strict=True):
        assert abs(seen - value) <= 10.0**-place * 1.01, (text, wanted)  # the last digit may round either way


def test_every_figure_of_the_book_is_among_the_examples(site: Path) -> None:
    """Each chapter's own widgets are the ones that are tested here."""
    for page in (site / "book").glob("[0-9]*.html"):
        titles = {state["data"]["title"] for state in widget_states(page) if "data" in state}
        assert titles == {FIGURES[name].title for name, chapter in PAGES.items() if chapter == page.stem}


def widget_states(page: Path) -> list[dict[str, Any]]:
    """The states of all widgets that a page carries."""
    kind = "application/vnd.jupyter.widget-state+json"
    scripts = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").find_all("script", type=kind)
    return [model["state"] for script in scripts for model in json.loads(script.string)["state"].values()]


def test_it_announces_the_packages_numbers(figure: Any, name: str) -> None:
    widget, rng = FIGURES[name], random.Random(7)
    state = dict(widget.state)
    check_text(shown(figure), widget, state)
    for _ in range(3):
        for control in settable(widget):
            state[control.name] = control.draw(rng)
            put(figure, control, state[control.name])
        check_text(shown(figure), widget, state)


def test_each_control_changes_the_picture(figure: Any, name: str) -> None:
    rng = random.Random(3)
    for control in settable(FIGURES[name]):
        changed = False
        for _ in range(4):
            shown(figure)
            before = pictures(figure)
            put(figure, control, control.draw(rng))
            shown(figure)
            changed = changed or pictures(figure) != before
        assert changed, control


def test_presets_and_handles_work_by_keyboard(figure: Any, name: str) -> None:
    told = []
    buttons = figure.locator(".dl-presets button").all()
    for button in buttons:
        button.focus()
        figure.page.keyboard.press("Enter")
        told.append(shown(figure))
    assert len(set(told)) == len(buttons)
    for handle in figure.locator(".dl-handle").all():
        handle.focus()
        told = []
        for key in ("ArrowUp", "ArrowUp", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowLeft"):
            figure.page.keyboard.press(key)
            shown(figure)
            told.append(handle.get_attribute("aria-valuetext"))
        assert len(set(told)) > 1
        assert handle.get_attribute("aria-label")


@with_handles
def test_a_handle_can_be_dragged(figure: Any, name: str) -> None:
    handles = figure.locator(".dl-handle").all()
    handle = handles[len(handles) // 2]
    before, box = shown(figure), handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    figure.page.mouse.move(x, y)
    figure.page.mouse.down()
    figure.page.mouse.move(x + 8, y - 8, steps=4)
    figure.page.mouse.up()
    assert shown(figure) != before
    after = handle.bounding_box()
    assert min(abs(after["x"] - (box["x"] + 8)), abs(after["y"] - (box["y"] - 8))) < 2  # some move along one axis only


@with_clock
def test_play_moves_and_stops_out_of_sight(figure: Any, name: str) -> None:
    for clock in (c for c in FIGURES[name].controls if isinstance(c, Clock)):
        put(figure, clock, clock.start)
        button = figure.locator(".dl-play")
        button.click()
        assert button.inner_text() == "Pause"
        before = shown(figure)
        figure.page.wait_for_timeout(500)
        assert shown(figure) != before
        figure.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        figure.page.wait_for_function("document.querySelector('.dl-play').textContent === 'Play'", timeout=5_000)


@with_clock
def test_a_frame_that_began_before_the_button_was_pressed_is_no_step_back(figure: Any, name: str) -> None:
    """A figure whose clock runs below its start fails; the fixture `figure` sees the error."""
    late = "const ask = requestAnimationFrame; window.requestAnimationFrame = (f) => ask((now) => f(now - 400));"
    (clock,) = (c for c in FIGURES[name].controls if isinstance(c, Clock))
    put(figure, clock, clock.start)
    before = shown(figure)
    figure.page.evaluate(f"() => {{ {late} document.querySelector('.dl-play').click(); }}")
    figure.page.wait_for_timeout(1000)
    assert figure.locator(".dl-state").inner_text() != before


@with_clock
def test_reduced_motion_has_no_motion(browser: Any, server: str, name: str) -> None:
    tab = open_page(browser, f"{server}/book/{PAGES[name]}.html", reduced_motion="reduce")
    figure = tab.locator(".dl-figure").first
    figure.wait_for(timeout=30_000)
    answer(figure)
    for clock in (c for c in FIGURES[name].controls if isinstance(c, Clock)):
        put(figure, clock, clock.start)
        figure.locator(".dl-play", has_text="To the end").click()
        shown(figure)
        value = float(figure.get_by_label(clock.label, exact=True).input_value())
        assert value == clock.end
    tab.context.close()


@every_figure
def test_the_reader_predicts_first(browser: Any, server: str, name: str) -> None:
    """Until then no control works and no number is told; the reply names the answer; it can be skipped."""
    question = FIGURES[name].question
    assert question is not None
    tab = open_page(browser, f"{server}/book/{PAGES[name]}.html")
    figure = tab.locator(".dl-figure").first
    figure.wait_for(timeout=30_000)
    assert figure.locator(".dl-rest").evaluate("rest => rest.inert")
    assert figure.locator(".dl-spoken").inner_text() == ""
    assert figure.locator(".dl-handle").count() == 0
    commit = figure.locator("button[type=submit]")
    assert commit.is_disabled()
    wrong = (question.answer + 1) % len(question.options)
    figure.locator(".dl-prediction input").nth(wrong).focus()
    tab.keyboard.press("Space")
    commit.focus()
    tab.keyboard.press("Enter")
    reply = figure.locator(".dl-reply").inner_text()
    assert question.options[wrong] in reply
    assert question.options[question.answer] in reply
    assert not figure.locator(".dl-rest").evaluate("rest => rest.inert")
    tab.context.close()


@every_figure
def test_it_fits_a_phone_and_a_finger(browser: Any, server: str, name: str) -> None:
    tab = open_page(browser, f"{server}/book/{PAGES[name]}.html", viewport=PHONE, has_touch=True, is_mobile=True)
    figure = tab.locator(".dl-figure").first
    figure.wait_for(timeout=30_000)
    answer(figure)
    shown(figure)
    box = figure.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    sizes = figure.locator("button:visible, .dl-handle:visible, input[type=range]:visible").evaluate_all(
        "all => all.map(e => [e.getBoundingClientRect().width, e.getBoundingClientRect().height])"
    )
    assert all(min(size) >= 24 for size in sizes)  # WCAG 2.2, 2.5.8
    handles = figure.locator(".dl-handle").all()
    for handle in handles[len(handles) // 2 : len(handles) // 2 + 1]:
        handle.scroll_into_view_if_needed()
        before = handle.get_attribute("aria-valuetext")
        drag_by_finger(tab, handle.bounding_box(), 8)
        shown(figure)
        assert handle.get_attribute("aria-valuetext") != before
    tab.context.close()


def drag_by_finger(tab: Any, box: dict[str, float], distance: float) -> None:
    """Touch the middle of a box, move to the right and up by a distance in pixels each, and let go."""
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    screen = tab.context.new_cdp_session(tab)
    screen.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for part in (0.25, 0.5, 0.75, 1):
        point = {"x": x + part * distance, "y": y - part * distance}
        screen.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    screen.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


@every_figure
def test_without_javascript_there_is_a_picture(browser: Any, server: str, name: str) -> None:
    tab = open_page(browser, f"{server}/book/{PAGES[name]}.html", java_script_enabled=False)
    image = tab.locator(".dl-still img").first
    assert image.is_visible()
    assert len(image.get_attribute("alt")) > 60
    tab.context.close()


@every_figure
def test_print_gets_the_picture(browser: Any, server: str, name: str) -> None:
    tab = open_page(browser, f"{server}/book/{PAGES[name]}.html")
    figure = tab.locator(".dl-figure").first
    figure.wait_for(timeout=30_000)
    assert not tab.locator(".dl-still img").first.is_visible()
    tab.emulate_media(media="print")
    assert tab.locator(".dl-still img").first.is_visible()
    assert not figure.is_visible()
    tab.context.close()


@every_figure
def test_it_works_from_a_file(browser: Any, site: Path, name: str) -> None:
    tab = open_page(browser, (site / "book" / f"{PAGES[name]}.html").as_uri())
    figure = tab.locator(".dl-figure").first
    figure.wait_for(timeout=30_000)
    answer(figure)
    check_text(shown(figure), FIGURES[name], FIGURES[name].state)
    assert tab.errors == []
    tab.context.close()


@every_figure
def test_it_follows_the_theme(browser: Any, server: str, name: str) -> None:
    tab = open_page(browser, f"{server}/book/{PAGES[name]}.html", color_scheme="light")
    figure = tab.locator(".dl-figure").first
    figure.wait_for(timeout=30_000)
    ink = "figure => getComputedStyle(figure).getPropertyValue('--dl-text')"
    light = figure.evaluate(ink)
    tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    tab.wait_for_timeout(400)
    assert figure.evaluate(ink) != light
    tab.context.close()


def test_a_cell_that_needs_a_kernel_says_so(browser: Any, server: str) -> None:
    tab = open_page(browser, f"{server}/book/08_ddpm.html")
    output = tab.locator(".cell_output", has=tab.locator(".dl-kernel"))
    assert "Colab" in output.inner_text()
    assert output.locator("img").is_visible()
    assert tab.locator(".jupyter-widgets, .widget-box").count() == 0
    assert tab.errors == []
    tab.context.close()
