"""The command `python -m ddpm_lite.book.costs` and the table of costs in a built site."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys

import chapters
import nbformat
import pytest
import test_card

from ddpm_lite.book import costs

COST = {
    "processor_seconds": 12.34,
    "wall_seconds": 20.0,
    "peak_mb": 900,
    "cores": 2,
    "python": "3.11.7",
    "torch": "2.13",
}


def notebook(folder, name, *, sources=("1",), **changes):
    """Write an executed notebook whose card holds a cost."""
    output = nbformat.v4.new_output("display_data", {"text/plain": "card"}, metadata={"ddpm_lite_cost": COST | changes})
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].outputs = [output]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")


def test_table(tmp_path, capsys):
    notebook(tmp_path, "01_a")
    notebook(tmp_path, "02_b", peak_mb=None)
    assert costs.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["01_a", "12.3", "20.0", "900", "2", "cores,", "Python", "3.11.7,", "torch", "2.13"]
    assert "not measured" in lines[2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"processor_seconds": 60.0}, []),
        ({"processor_seconds": 60.1}, ["60.1 s of processor time, more than 60"]),
        ({"peak_mb": 2000}, []),
        ({"peak_mb": 2001}, ["2001 MB of memory, more than 2000"]),
        ({"peak_mb": None}, []),
        ({"peak_mb": 9999, "processor_seconds": 99}, ["99.0 s", "9999 MB"]),
    ],
)
def test_limits(tmp_path, changes, said):
    notebook(tmp_path, "01_a", **changes)
    found = costs.over(costs.read(tmp_path / "01_a.ipynb"))
    assert len(found) == len(said)
    assert all(words in line for words, line in zip(said, found, strict=True))


def test_a_second_try_decides(tmp_path, capsys):
    """A chapter over its limit runs again in a real kernel: a light one passes, one without a card keeps its figure."""
    notebook(tmp_path, "01_light", sources=[test_card.CARD], processor_seconds=99)
    assert costs.main([str(tmp_path), "--run-in", str(tmp_path)]) == 0
    assert "running it once more" in capsys.readouterr().out
    notebook(tmp_path, "02_heavy", processor_seconds=99)
    assert costs.main([str(tmp_path), "--run-in", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "02_heavy: 99.0 s of processor time" in said.err
    assert "01_light:" not in said.err


def test_nothing_to_read_is_a_failure(tmp_path):
    assert costs.main([str(tmp_path)]) == 1
    nbformat.write(nbformat.v4.new_notebook(cells=[]), tmp_path / "01_a.ipynb")
    assert costs.main([str(tmp_path)]) == 1


CONFIG = """
extensions = ["myst_nb", "costs"]
import sys; sys.path.insert(0, {ext!r})
nb_execution_mode = "cache"
nb_execution_cache_path = {cache!r}
nb_execution_raise_on_error = True
myst_enable_extensions = ["dollarmath"]
html_theme = "basic"
exclude_patterns = ["out"]
"""
HEADER = """---
jupytext:
  text_representation: {extension: .md, format_name: myst, format_version: 0.13}
kernelspec: {display_name: Python 3 (ipykernel), language: python, name: python3}
---
"""


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    """The source of a site with two chapters and a page of costs."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "book").mkdir()
    config = CONFIG.format(ext=str(chapters.BOOK / "_ext"), cache=str(folder / "out" / "cache"))
    (folder / "conf.py").write_text(config, encoding="utf-8")
    (folder / "index.md").write_text(
        "# Start\n\n```{toctree}\nbook/01_first\nbook/02_second\nbook/costs\n```\n", "utf-8"
    )
    shutil.copy(chapters.BOOK / "costs.md", folder / "book" / "costs.md")
    for name, title in (("01_first", "First"), ("02_second", "Second")):
        cells = f"```{{code-cell}} python3\n{test_card.CARD}\n```\n\n```{{code-cell}} python3\nprint('{title}')\n```\n"
        (folder / "book" / f"{name}.md").write_text(f"{HEADER}\n# {title}\n\n{cells}", encoding="utf-8")
    return folder


def build(folder):
    """Build the site from nothing but the execution cache, warnings as errors; return its page of costs as rows."""
    for old in ("html", "doctrees", "jupyter_execute"):
        shutil.rmtree(folder / "out" / old, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d", str(folder / "out" / "doctrees")]
    done = subprocess.run([*command, str(folder), str(folder / "out" / "html")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (folder / "out" / "html" / "book" / "costs.html").read_text(encoding="utf-8")
    table = re.search(r'<table class="[^"]*dl-costs.*?</table>', page, re.DOTALL).group()
    rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    return [
        [html.unescape(re.sub("<[^>]+>", "", c)).strip() for c in re.findall(r"<t[hd].*?</t[hd]>", r, re.DOTALL)]
        for r in rows
    ]


def test_the_page_of_costs(little):
    """The first build runs the chapters, the second takes them from the cache: the same table, the same notebooks."""
    first = build(little)
    assert first[0] == list(costs.HEAD)
    assert [row[0] for row in first[1:]] == ["First", "Second"]
    executed = little / "out" / "jupyter_execute" / "book"
    for row, name in zip(first[1:], ("01_first", "02_second"), strict=True):
        assert tuple(row[1:]) == costs.cells(costs.read(executed / f"{name}.ipynb"))[1:]
        assert float(row[1]) > 0.1
    assert build(little) == first
    outputs = [
        c["outputs"] for c in json.loads((executed / "01_first.ipynb").read_text("utf-8"))["cells"] if "outputs" in c
    ]
    assert [len(o) for o in outputs] == [1, 1]


def test_a_chapter_without_a_card_is_a_warning(little, tmp_path):
    folder = tmp_path / "site"
    shutil.copytree(little, folder)
    page = folder / "book" / "02_second.md"
    page.write_text(page.read_text("utf-8").replace(test_card.CARD, "1 + 1"), encoding="utf-8")
    with pytest.raises(AssertionError, match="no cost"):
        build(folder)
