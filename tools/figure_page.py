"""Write pages with one live figure each into _build/figures, and look at them in Chromium: light, dark, phone.

.venv/bin/python tools/figure_page.py            all figures
.venv/bin/python tools/figure_page.py bowl       one of them
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from ipywidgets.embed import embed_data

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "_build" / "figures"
HOST = ROOT / "book" / "_static" / "live" / "host.js"
VIEWS = {"light": (860, 700, "light"), "dark": (860, 700, "dark"), "phone": (360, 740, "light")}
PAGE = """<!doctype html>
<html lang="en" data-theme="{scheme}"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{ margin: 1rem }} [data-theme=dark] body {{ background: #14181e; color: #ddd }}</style></head>
<body><main><h1>{title}</h1>
<div class="output">{view}</div></main>
<script type="application/vnd.jupyter.widget-state+json">{state}</script>
<script defer src="{host}"></script></body></html>
"""


def page(figure, scheme: str = "light") -> str:  # type: ignore[no-untyped-def]
    """The page of one figure, with the host that the book uses."""
    data = embed_data(views=[figure], drop_defaults=False)
    view = f'<script type="application/vnd.jupyter.widget-view+json">{json.dumps(data["view_specs"][0])}</script>'
    state = json.dumps(data["manager_state"]).replace("</", "<\\/")
    return PAGE.format(title=figure.title, scheme=scheme, view=view, state=state, host=HOST.as_uri())


if __name__ == "__main__":
    from playwright.sync_api import sync_playwright

    sys.path.insert(0, str(ROOT / "tests" / "live"))
    from examples import examples

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("no Chromium: install it, or name it in CHROMIUM")
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, figure in examples().items():
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            for view, (width, height, scheme) in VIEWS.items():
                file = OUT / f"{name}-{view}.html"
                file.write_text(page(figure, scheme), encoding="utf-8")
                tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                tab.on("console", lambda message: print("console:", message.text))
                tab.on("pageerror", lambda error: print("error:", error))
                tab.goto(file.as_uri())
                tab.wait_for_timeout(300)
                if (skip := tab.locator(".dl-skip")).count():
                    tab.screenshot(path=OUT / f"{name}-{view}-question.png", full_page=True)
                    skip.click()
                tab.wait_for_timeout(200)
                tab.screenshot(path=OUT / f"{name}-{view}.png", full_page=True)
                print(OUT / f"{name}-{view}.png")
                tab.close()
        browser.close()
