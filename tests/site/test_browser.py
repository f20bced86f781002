"""The built pages in a browser: formulas without a network, no sideways scroll on a phone, readable on a dark page."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}

# Text against what is painted behind it: the WCAG contrast of the first text in each element of a kind.
CONTRAST = """selector => [...document.querySelectorAll(selector)].map(element => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  let behind = element, paint = [0, 0, 0, 0];
  while (behind && (paint[3] ?? 1) < 1) {
    paint = parse(getComputedStyle(behind).backgroundColor);
    behind = behind.parentElement;
  }
  const [a, b] = [light(parse(getComputedStyle(element).color)), light(paint)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
})"""


@pytest.fixture(scope="module")
def opened(browser: Any, server: str, page: str) -> Iterator[SimpleNamespace]:
    """A page with every other host cut off and its formulas set; what it asked for, and its errors."""
    seen = SimpleNamespace(abroad=[], failed=[], errors=[], page=None)
    context = browser.new_context(viewport=DESK, service_workers="block")
    tab = seen.page = context.new_page()

    def only_here(route: Any) -> None:
        if route.request.url.startswith((f"{server}/", "data:", "blob:")):
            route.continue_()
        else:
            seen.abroad.append(route.request.url)
            route.abort()

    tab.route("**/*", only_here)
    tab.on("response", lambda answer: seen.failed.append(answer.url) if answer.status >= 400 else None)
    tab.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: seen.errors.append(str(error)))
    tab.goto(f"{server}/{page}.html", wait_until="load")
    tab.wait_for_function("window.MathJax === undefined || window.MathJax.startup?.promise", timeout=60_000)
    tab.evaluate("window.MathJax?.startup?.promise.then(() => document.fonts.ready).then(() => true)")
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    yield seen
    context.close()


def test_complete_without_a_network_and_without_errors(opened: SimpleNamespace) -> None:
    formulas = opened.page.locator("article .math").count()
    assert opened.page.locator("article .math mjx-container").count() >= formulas
    assert opened.page.locator("mjx-merror, [data-mjx-error]").count() == 0
    if formulas:
        assert opened.page.evaluate("MathJax.version") == "3.2.2"
    assert opened.abroad == []
    assert opened.failed == []
    assert opened.errors == []


def test_no_sideways_scroll_on_a_phone(opened: SimpleNamespace) -> None:
    opened.page.set_viewport_size(PHONE)
    width = opened.page.evaluate("document.documentElement.scrollWidth")
    opened.page.set_viewport_size(DESK)
    assert width <= PHONE["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(opened: SimpleNamespace, scheme: str) -> None:
    opened.page.evaluate(
        """scheme => {
          document.documentElement.dataset.theme = scheme;
          return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(null))));
        }""",
        scheme,
    )  # a live figure takes the colours of the page in the next frame
    for kind in ("p", "li", "td", "th", "summary", "a:not(.headerlink)", "code", ".dl-same", ".dl-planned"):
        contrasts = opened.page.evaluate(CONTRAST, f".bd-article {kind}")
        assert min(contrasts, default=21) >= 4.5, kind


def test_no_formula_is_cut_at_a_desk(opened: SimpleNamespace) -> None:
    cut = "e => e.filter(x => x.scrollWidth > x.clientWidth + 1).map(x => x.closest('div.math').id)"
    assert opened.page.eval_on_selector_all("div.math mjx-container[display='true']", cut) == []


def test_the_quiz_answers_the_keyboard(opened: SimpleNamespace) -> None:
    options = opened.page.locator(".dl-quiz details")
    for i in range(options.count()):
        before = options.nth(i).evaluate("d => d.open")
        options.nth(i).locator("summary").focus()
        opened.page.keyboard.press("Enter")
        assert options.nth(i).evaluate("d => d.open") != before
