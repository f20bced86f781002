"""Take a screenshot of every page: light, dark, and 360 px wide; live figures ask in the light, else they are open.

Run by: make shots.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
OUT = ROOT / "_build" / "shots"
VIEWS = {"light": (1280, 900, "light"), "dark": (1280, 900, "dark"), "phone": (360, 740, "light")}


def shoot(browser: Browser, page_file: Path, name: str) -> Path:
    width, height, scheme = VIEWS[name]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.add_init_script(f"localStorage.setItem('mode', '{scheme}'); localStorage.setItem('theme', '{scheme}')")
    page.goto(page_file.as_uri(), wait_until="load")
    page.wait_for_function("!window.MathJax || !MathJax.startup || MathJax.startup.promise.then(() => true)")
    if name != "light":
        page.evaluate("document.querySelectorAll('.dl-skip').forEach(button => button.click())")
        page.wait_for_timeout(300)
    target = OUT / f"{'-'.join(page_file.relative_to(SITE / 'book').with_suffix('').parts)}-{name}.png"
    page.screenshot(path=target, full_page=True)
    page.close()
    return target


def shoot_all(chromium: str, pages: list[Path]) -> None:
    with sync_playwright() as playwright:
        args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=chromium, args=[*args, "--disable-sync", "--no-first-run"])
        for page_file in pages:
            for name in VIEWS:
                print(shoot(browser, page_file, name).relative_to(ROOT), flush=True)
        browser.close()


if __name__ == "__main__":
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("no Chromium: install it, or name it in CHROMIUM")
    OUT.mkdir(parents=True, exist_ok=True)
    pages = sorted((SITE / "book").rglob("*.html"))
    if not pages:
        raise SystemExit("no pages: run make book")
    n = os.cpu_count() or 1
    with ProcessPoolExecutor(n) as pool:
        for done in [pool.submit(shoot_all, chromium, pages[i::n]) for i in range(n)]:
            done.result()
