"""`book.card` in a real kernel: the saved card holds the cost of the whole notebook."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

from ddpm_lite import book
from ddpm_lite.book.costs import read

CARD = 'from ddpm_lite import book\nbook.card(can=["compute $x_t$"], needs=[("Start", "index")], read_minutes=7)'
WORK = """
import time, torch
start = time.process_time()
while time.process_time() - start < 2.0:
    pass
block = torch.ones(50_000_000, dtype=torch.float64)  # 400 MB
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Two notebooks: one with the card and little else, one that works after it."""
    folder = tmp_path_factory.mktemp("notebooks")
    found = {}
    for name, sources in {"01_idle": [CARD, "1 + 1"], "02_busy": [CARD, WORK, "del block"]}.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
        NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
        nbformat.write(notebook, folder / f"{name}.ipynb")
        found[name] = notebook, read(folder / f"{name}.ipynb")
    return found


def test_the_card_counts_later_cells(executed):
    """The work takes 2 s of processor time by construction, and 400 MB stay in the peak after they are freed."""
    (_, idle), (_, busy) = executed["01_idle"], executed["02_busy"]
    assert busy.processor_seconds - 2.0 >= 0.0
    assert busy.processor_seconds > 2.0 + 0.2 * idle.processor_seconds  # the import of torch counts too
    assert busy.peak_mb - idle.peak_mb > 300
    assert busy.wall_seconds > 2.0


def test_one_card_stands_in_the_notebook(executed):
    notebook, cost = executed["02_busy"]
    outputs = [o for c in notebook.cells for o in c.outputs]
    assert len(outputs) == 1
    html, text = outputs[0].data["text/html"], outputs[0].data["text/plain"]
    for said in (html, text):
        assert "7 minutes" in said
        assert f"{cost.processor_seconds:.0f} s of processor time" in said
        assert f"at most {cost.peak_mb} MB" in said
    assert '<a href="index.html">Start</a>' in html
    assert r'<span class="math notranslate nohighlight">\(x_t\)</span>' in html
    assert "torch" in cost.machine
    assert "Python 3" in cost.machine


def test_plain_python_prints_the_card(capsys):
    book.card(can=["add"], read_minutes=1)
    said = capsys.readouterr().out
    assert "  - add" in said
    assert "You need first: nothing" in said


def test_rules():
    with pytest.raises(ValueError, match="can="):
        book.card(can=[], read_minutes=3)
    with pytest.raises(ValueError, match="can="):
        book.card(can="add", read_minutes=3)
    with pytest.raises(ValueError, match="read_minutes="):
        book.card(can=["add"], read_minutes=0)
