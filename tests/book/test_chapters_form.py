"""Each chapter follows the template: header, card, definitions, proofs, quiz, figures with alt text, length."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import chapters
import pytest
import yaml

HEADER = {
    "jupytext": {
        "notebook_metadata_filter": "-jupytext.text_representation.jupytext_version",
        "text_representation": {"extension": ".md", "format_name": "myst", "format_version": 0.13},
    },
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
}
LONGEST_DEFINITION = 12
every_chapter = pytest.mark.parametrize("path", chapters.written(), ids=lambda path: path.stem)


def calls(path: Path, name: str) -> list[ast.Call]:
    """Return the calls of `book.<name>` in the code cells."""
    trees = [ast.parse(chapters.without_magics(c.source)) for c in chapters.cells(path)]
    return [
        node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"book.{name}"
    ]


def open_text(path: Path) -> str:
    """Return the text cells of a chapter without what is folded away in drop-downs."""
    text = "\n\n".join(c.source for c in chapters.cells(path, "markdown"))
    return re.sub(r"^(:{3,}|`{3,})\{dropdown\}.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    """Return the open text without tables, displayed equations and directive marks; a formula counts as one word."""
    text = open_text(path)
    text = re.sub(r"\$\$.*?\$\$(\s*\([\w-]+\))?", "", text, flags=re.DOTALL)
    text = re.sub(r"^\|.*$|^:{3,}.*$|^`{3,}.*$|^:\w+:.*$|^\([\w-]+\)=$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\$[^$]+\$", "formula", text)
    return re.sub(r"\{[\w:]+\}`([^`<]+)[^`]*`", r"\1", text)


def words(text: str) -> int:
    return len(re.findall(r"[^\W_][\w'.,-]*", text))


def test_prose_leaves_out_what_it_says(tmp_path):
    source = (
        "# Two words\n\nSix words and a {term}`score <scores>` $x_t$.\n\n"
        "$$\na b c\n$$ (eq-a)\n\n| a | b |\n|---|---|\n\n:::{dropdown} Out\nnot counted\n:::\n\n"
        "```{admonition} Title\n:class: note\ncounted twice\n```\n"
    )
    page = tmp_path / "01_x.md"
    page.write_text(f"---\n{yaml.safe_dump(HEADER)}---\n\n{source}", encoding="utf-8")
    assert words(prose(page)) == 2 + 6 + 2


@every_chapter
def test_header(path):
    front = path.read_text(encoding="utf-8").split("---\n")[1]
    assert yaml.safe_load(front) == HEADER


@every_chapter
def test_card_stands_first(path):
    first = chapters.cells(path)[0]
    assert "book.card(" in first.source
    assert "remove-input" in first.tags
    assert len(calls(path, "card")) == 1
    before = [c for c in chapters.cells(path, None) if c.number < first.number]
    assert all(c.kind == "markdown" and c.source.startswith("# ") and "\n\n" not in c.source.strip() for c in before)


@every_chapter
def test_card_links_pages_that_exist(path):
    needs = next((k.value for k in calls(path, "card")[0].keywords if k.arg == "needs"), None)
    pages = [page for _, page in ast.literal_eval(needs)] if needs else []
    assert all((chapters.BOOK / f"{page}.md").exists() and f"{page}.md" < path.name for page in pages)


@every_chapter
def test_definition_source_and_proof(path):
    for name in ("same", "show", "proof"):
        assert calls(path, name), f"no book.{name}"


@every_chapter
def test_same_compares_the_readers_own_function(path):
    """The reader's function is `my_...`, at most 12 lines, and does not call the function that it is compared with."""
    trees = [ast.parse(chapters.without_magics(c.source)) for c in chapters.cells(path)]
    defined = {n.name: n for t in trees for n in ast.walk(t) if isinstance(n, ast.FunctionDef)}
    for call in calls(path, "same"):
        mine, ours = (ast.unparse(a) for a in call.args[:2])
        assert mine.startswith("my_")
        body = defined[mine]
        assert len(ast.unparse(body).splitlines()) <= LONGEST_DEFINITION
        assert ours not in ast.unparse(body)


@every_chapter
def test_proofs_have_two_sides(path):
    """No row has one expression on both sides, and none has a number on both."""
    for call in calls(path, "proof"):
        for row in [a for a in call.args if isinstance(a, ast.Tuple) and len(a.elts) == 4]:
            _, computed, exact, _ = row.elts
            assert ast.dump(computed) != ast.dump(exact), ast.unparse(row)
            assert any(isinstance(n, (ast.Name, ast.Call)) for n in ast.walk(computed)), ast.unparse(row)


@every_chapter
def test_proof_stops_the_build(path):
    """No cell may catch a failed proof or be allowed to fail."""
    for cell in chapters.cells(path):
        assert "raises-exception" not in cell.tags
        assert "skip-execution" not in cell.tags
        for node in ast.walk(ast.parse(chapters.without_magics(cell.source))):
            if isinstance(node, ast.Try):
                assert "book." not in ast.unparse(node)


@every_chapter
def test_quiz_has_five_questions(path):
    found = calls(path, "quiz")
    assert len(found) == 1
    assert len(found[0].args) == 5
    cell = next(c for c in chapters.cells(path) if "book.quiz(" in c.source)
    assert "remove-input" in cell.tags


@every_chapter
def test_figures_have_alt_text(path):
    """A cell that makes a figure describes it."""
    figures = [c for c in chapters.cells(path) if re.search(r"plt\.(subplots|figure|subplot_mosaic)\(", c.source)]
    assert figures
    for cell in figures:
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        assert len(alt.split()) >= 8, f"cell {cell.number}: {alt!r}"


@every_chapter
def test_colours_come_from_the_palette(path):
    """Colours are of `dl.PALETTE`; a grey is allowed."""
    for cell in chapters.cells(path):
        found = re.findall(r"\bcolor\s*=\s*[\"'](?!0?\.\d|1\.0|none|black|white)([^\"']+)[\"']", cell.source)
        assert not found, f"cell {cell.number}: {found}"
        assert not re.search(r"[\"']#[0-9a-fA-F]{6}[\"']", cell.source)


@every_chapter
def test_length(path):
    assert 1200 <= words(prose(path)) <= 3000


@every_chapter
def test_reading_time(path):
    """200 pieces of the open text a minute: a formula takes as long as the pieces that it is written in."""
    pieces = len(open_text(path).split())
    minutes = next(k.value for k in calls(path, "card")[0].keywords if k.arg == "read_minutes")
    assert abs(ast.literal_eval(minutes) - round(pieces / 200)) <= 1, f"{pieces} words"


@every_chapter
def test_equations_are_labelled_once(path):
    labels = re.findall(r"\$\$\s*\((eq-[\w-]+)\)", path.read_text(encoding="utf-8"))
    assert labels
    assert len(labels) == len(set(labels))


@every_chapter
def test_visible_code_fits_the_page(path):
    """80 columns fit beside both sidebars; hidden cells may hold long sentences."""
    visible = [cell for cell in chapters.cells(path) if not {"hide-input", "remove-input"} & set(cell.tags)]
    assert visible
    assert [line for cell in visible for line in cell.source.splitlines() if len(line) > 80] == []
