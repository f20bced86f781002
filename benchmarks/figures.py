"""Script time a frame of the live figures that play, in Chromium on one core; 60 frames a second leave 16.7 ms."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FRAME = 1000 / 60
# Times every callback of requestAnimationFrame: the scripts of one frame, not the browser's own painting.
TIMED = """
  window.frames_ms = {};
  const request = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (callback) => request((now) => {
    const start = performance.now();
    callback(now);
    window.frames_ms[now] = (window.frames_ms[now] ?? 0) + performance.now() - start;
  });
"""


def rows() -> list[dict]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("live figures: NOT RUN, playwright is not installed")
        return []
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("live figures: NOT RUN, no Chromium")
        return []
    sys.path[:0] = [str(ROOT / "tests" / "live"), str(ROOT / "tools")]
    from examples import examples
    from figure_page import page

    from ddpm_lite.live.controls import Clock

    playing = [figure for figure in examples().values() if any(isinstance(c, Clock) for c in figure.controls)]
    found = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for figure in playing:
            file = Path(folder) / f"{figure.module}.html"
            file.write_text(page(figure), encoding="utf-8")
            tab = browser.new_page(viewport={"width": 900, "height": 900})
            tab.add_init_script(TIMED)
            tab.goto(file.as_uri())
            found += measure(tab, figure.module)
            tab.close()
        browser.close()
    return found


def measure(tab, name: str) -> list[dict]:  # type: ignore[no-untyped-def]
    """The figure plays from its start to its end once; where it offers worlds, in the last of them."""
    figure = tab.locator(".dl-figure")
    figure.wait_for()
    if figure.locator(".dl-skip").count():
        figure.locator(".dl-skip").click()
    worlds = figure.locator(".dl-choice").first.locator("input")
    if worlds.count():
        worlds.last.check()
    tab.wait_for_timeout(500)
    tab.evaluate("window.frames_ms = {}")
    figure.locator(".dl-play").click()
    tab.wait_for_timeout(300)
    tab.wait_for_function("document.querySelector('.dl-play').textContent !== 'Pause'", timeout=60_000)
    times = sorted(tab.evaluate("Object.values(window.frames_ms)"))
    label = f"figure `{name}` playing: script time a frame, ms"
    slow = times[int(0.95 * len(times))]
    return [
        {"name": f"{label} (median)", "value": statistics.median(times), "target": FRAME},
        {"name": f"{label} (95 of 100 frames are below)", "value": slow, "target": FRAME},
    ]
