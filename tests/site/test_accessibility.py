"""axe-core on every page: no serious or critical violation, in the light and in the dark, at a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

# The rules that colours or the width of the page can change; the others are checked at a desk, in the light.
SEEN = {"runOnly": ["color-contrast", "link-in-text-block", "target-size", "scrollable-region-focusable"]}
VIEWS = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light"},
}
every_view = pytest.mark.parametrize("view", VIEWS)


@pytest.fixture
def tab(browser: Any, view: str) -> Iterator[Any]:
    context = browser.new_context(**VIEWS[view], reduced_motion="reduce")
    yield context.new_page()
    context.close()


def visit(tab: Any, address: str) -> None:
    """Open a page and wait for its formulas and its live figures."""
    tab.goto(address, wait_until="load")
    tab.wait_for_function("window.MathJax === undefined || window.MathJax.startup?.promise", timeout=60_000)
    tab.evaluate("window.MathJax?.startup?.promise.then(() => document.fonts.ready).then(() => true)")
    tab.wait_for_function("document.querySelectorAll('.dl-output:not(.dl-mounted)').length === 0")


def violations(tab: Any, rules: dict[str, list[str]] | None = None) -> list[str]:
    """The serious and critical ones: the rule, and where it is broken."""
    found = Axe().run(tab, options={"resultTypes": ["violations"], **(rules or {})}).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@every_view
def test_no_serious_violation(tab: Any, server: str, page: str, view: str) -> None:
    """The live figures ask their question in the light, and are open in the other views."""
    visit(tab, f"{server}/{page}.html")
    if view != "light":
        tab.evaluate("document.querySelectorAll('.dl-skip').forEach(button => button.click())")
    assert violations(tab, None if view == "light" else SEEN) == []


def test_an_open_figure_has_no_violation(browser: Any, server: str, chapter: str) -> None:
    tab = browser.new_page(**VIEWS["light"])
    visit(tab, f"{server}/{chapter}.html")
    tab.evaluate("document.querySelectorAll('.dl-skip').forEach(button => button.click())")
    figures = Axe().run(tab, context=".dl-figure", options={"resultTypes": ["violations"]}).response["violations"]
    tab.close()
    assert [(each["id"], each["impact"]) for each in figures] == []


@every_view
def test_the_search_page_too(tab: Any, server: str, view: str) -> None:
    visit(tab, f"{server}/search.html?q=gaussian")
    tab.locator("#search-results li").first.wait_for()
    assert violations(tab) == []


@pytest.mark.parametrize("view", ["light"])
def test_a_violation_is_found(tab: Any, server: str) -> None:
    visit(tab, f"{server}/book/index.html")
    tab.evaluate("document.querySelector('article').innerHTML += '<img src=a.png><p style=\"color: #999\">faint</p>'")
    assert {each.partition(":")[0] for each in violations(tab)} == {"image-alt", "color-contrast"}
