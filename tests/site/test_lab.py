"""The live figures in a running JupyterLab: state, numbers and picture are those of the static page."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from examples import examples
from figure_page import page
from live_page import answer, numbers, pictures, put, shown
from PIL import Image

from ddpm_lite.live.controls import Clock, Slider

ROOT = Path(__file__).resolve().parents[2]
WIDE = {"width": 1400, "height": 1100}
SAME_SIZE = "figure => { figure.style.width = '640px'; }"


KERNEL_CELL = """
import matplotlib.pyplot as plt
from ddpm_lite import live

def dots(n):
    figure, ax = plt.subplots(figsize=(2, 2))
    ax.plot(range(n), "o")
    return figure

live.WithKernel(dots, n=[2, 9])
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab on this machine, on a folder with one notebook for each figure."""
    folder = tmp_path_factory.mktemp("lab")
    for name in examples():
        cells = [
            f"import sys; sys.path.insert(0, {str(ROOT / 'tests' / 'live')!r})\n"
            f"from examples import examples\nfigure = examples()[{name!r}]\nfigure",
            "import json; print('KERNEL', json.dumps([figure.state, figure.numbers]))",
        ]
        write_notebook(folder / f"{name}.ipynb", cells)
    write_notebook(folder / "kernel.ipynb", [KERNEL_CELL])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(folder / "ipython")}
    for name in ("CONFIG", "DATA", "RUNTIME"):
        env[f"JUPYTER_{name}_DIR"] = str(folder / name.lower())
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += [f"--port={port}", "--port-retries=0", "--IdentityProvider.token=", f"--notebook-dir={folder}"]
    log = (folder / "log").open("w")
    server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert server.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=2).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(20)
        log.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A page of a browser that reaches this machine only."""
    context = browser.new_context(viewport=WIDE)
    context.route("**/*", lambda route: route.continue_() if is_local(route.request.url) else route.abort())
    yield context.new_page()
    context.close()


def write_notebook(file: Path, sources: list[str]) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, file)


def is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "file:"))


def open_notebook(tab: Any, lab: str, name: str) -> None:
    tab.goto(f"{lab}/lab/tree/{name}.ipynb?reset", wait_until="load")
    tab.wait_for_function("window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=60_000)


def run_cell(tab: Any, number: int) -> None:
    tab.evaluate(
        """async number => {
          const panel = window.jupyterapp.shell.currentWidget;
          await panel.sessionContext.ready;
          panel.content.activeCellIndex = number;
          await window.jupyterapp.commands.execute("notebook:run-cell");
        }""",
        number,
    )


@pytest.mark.parametrize("name", examples())
def test_the_same_in_jupyterlab_as_in_a_static_page(lab: str, tab: Any, name: str, tmp_path: Path) -> None:
    figure = examples()[name]
    settings = {c: c.high - 7 * c.step for c in figure.controls if isinstance(c, Slider)}
    settings |= {c: min(c.start, c.end) + 3 * c.step for c in figure.controls if isinstance(c, Clock)}
    state = {**figure.state, **{c.name: value for c, value in settings.items()}}

    open_notebook(tab, lab, name)
    run_cell(tab, 0)
    tab.locator(".dl-figure").wait_for(timeout=60_000)
    lab_text, lab_pictures = played(tab.locator(".dl-figure"), settings)
    tab.wait_for_timeout(1000)  # the front end tells the kernel half a second after the last change
    run_cell(tab, 1)
    printed = tab.locator(".jp-OutputArea-output", has_text="KERNEL")
    printed.wait_for(timeout=30_000)
    kernel_state, kernel_numbers = json.loads(printed.inner_text().split("KERNEL", 1)[1])

    assert kernel_state.keys() == state.keys()
    assert all(same(kernel_state[key], state[key]) for key in state)
    truth = figure.truth(state)
    assert all(same(kernel_numbers[key], truth[key]) for key in truth)

    file = tmp_path / "static.html"
    file.write_text(page(figure), encoding="utf-8")
    tab.goto(file.as_uri())
    tab.locator(".dl-figure").wait_for(timeout=30_000)
    static_text, static_pictures = played(tab.locator(".dl-figure"), settings)
    assert lab_text == static_text
    assert numbers(static_text) != []
    for here, there in zip(lab_pictures, static_pictures, strict=True):
        a, b = (np.asarray(Image.open(io.BytesIO(each)), dtype=float) for each in (here, there))
        assert a.shape == b.shape
        assert np.abs(a - b).mean() < 0.1  # of 255 levels; here they are equal, and another state differs by far more


def test_controls_that_need_python_run_it(lab: str, tab: Any) -> None:
    open_notebook(tab, lab, "kernel")
    run_cell(tab, 0)
    output = tab.locator(".jp-OutputArea-output")
    image = output.locator("img")
    image.wait_for(timeout=60_000)
    before = image.get_attribute("src")
    output.locator("select").select_option("9")
    output.get_by_role("button", name="Run").click()
    tab.wait_for_function("before => document.querySelector('.jp-OutputArea-output img').src !== before", arg=before)
    output.get_by_role("button", name="Run", disabled=False).wait_for()


def same(here: Any, there: Any) -> bool:
    if isinstance(there, str):
        return here == there
    return np.allclose(here, there, rtol=1e-5, atol=1e-5)


def played(figure: Any, settings: dict[Any, float]) -> tuple[str, list[bytes]]:
    """The text and the pictures after the prediction and these settings."""
    figure.evaluate(SAME_SIZE)
    answer(figure)
    for control, value in settings.items():
        put(figure, control, value)
    text = shown(figure)
    return text, pictures(figure)
