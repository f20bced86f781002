"""The built site as tests see it: its pages from the table of contents, and a server on this machine."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]
CHAPTERS = [page for page in PAGES if re.fullmatch(r"book/\d\d_\w+", page)]
EXERCISES = [page for page in PAGES if re.fullmatch(r"book/exercises/\d\d_\w+", page)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `page` once a page, `chapter` once a chapter, `exercises` once a page of exercises."""
    for name, values in (("page", PAGES), ("chapter", CHAPTERS), ("exercises", EXERCISES)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values, scope="module")


@pytest.fixture(scope="session")
def toc() -> dict[str, Any]:
    """The table of contents."""
    return TOC


@pytest.fixture(scope="session")
def address() -> str:
    """The project's address, from the configuration."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    return config["repository"]["url"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def server(site: Path) -> Iterator[str]:
    """The address of a server that shows the site on a free port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
