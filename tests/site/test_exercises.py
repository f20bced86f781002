"""The pages of exercises: made for the public, for students or for instructors, with a notebook that runs anywhere."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup, Tag
from sphinx.errors import ExtensionError

from ddpm_lite.grading import Set, Task, load
from ddpm_lite.grading.template import write_template

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "book" / "exercises"
sys.path.insert(0, str(ROOT / "book" / "_ext"))
extension = importlib.import_module("exercises")


def article(site: Path, page: str) -> Tag:
    found = BeautifulSoup((site / f"{page}.html").read_text(encoding="utf-8"), "html.parser").select_one("article")
    assert found is not None
    return found


def source(page: str) -> Set:
    return load(ROOT / f"{page}.md")


def marked(page: str) -> list[str]:
    """The solutions as they stand between their marks in the file."""
    text = (ROOT / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", text, re.DOTALL)


def letters(text: str) -> str:
    return re.sub(r"\W", "", text)


def test_every_set_has_its_page(toc: dict[str, Any]) -> None:
    pages = {chapter["file"] for part in toc["parts"] for chapter in part["chapters"]}
    sets = {f"book/exercises/{path.stem}" for path in FOLDER.glob("[0-9]*.md")}
    assert sets
    assert sets == {page for page in pages if page.startswith("book/exercises/")}


def test_numbers_titles_difficulty_and_points(site: Path, exercises: str) -> None:
    chapter, sections = int(Path(exercises).name[:2]), article(site, exercises).select("section section")
    parts = source(exercises).parts
    assert len(sections) == len(parts) > 4
    for number, (section, part) in enumerate(zip(sections, parts, strict=True), 1):
        assert section.h2.find(string=True).strip() == f"Exercise {chapter}.{number}: {part.title}"
        if not isinstance(part, Task):
            assert f"Essay, {part.points:g} point" in section.text
            continue
        dots = section.select_one("span.dl-dots")
        assert (dots["role"], dots["aria-label"]) == ("img", f"Difficulty {part.exercise.dots} of 3")
        assert dots.text.count("●") == part.exercise.dots
        assert len(dots.text) == 3
        assert f"{part.exercise.points:g} point" in dots.parent.text


def test_solutions_stand_in_closed_drop_downs_and_nowhere_else(site: Path, exercises: str) -> None:
    body, solutions = article(site, exercises), marked(exercises)
    shut = [tag for tag in body.select("details") if tag.summary.text.strip() in ("Solution", "A model answer")]
    assert len(shut) == len(solutions) > 4
    for tag, solution in zip(shut, solutions, strict=True):
        assert not tag.has_attr("open")
        assert letters(solution) in letters(tag.extract().text)
    assert [solution for solution in solutions if letters(solution) in letters(body.text)] == []


def test_nothing_on_the_page_runs(site: Path, exercises: str) -> None:
    page = BeautifulSoup((site / f"{exercises}.html").read_text(encoding="utf-8"), "html.parser")
    assert page.select(".cell, .cell_input, .cell_output, .thebe, [data-executable]") == []
    assert not (site.parent / "jupyter_execute" / f"{exercises}.ipynb").exists()


def test_stub_and_hints_are_on_the_page(site: Path, exercises: str) -> None:
    for section, part in zip(article(site, exercises).select("section section"), source(exercises).parts, strict=True):
        if not isinstance(part, Task):
            continue
        assert section.select_one("pre").text.strip() == part.stub.strip()
        names = [tag.summary.text.strip() for tag in section.select("details")]
        assert names == ["First hint", "Second hint", "Solution"]
        assert not any(tag.has_attr("open") for tag in section.select("details"))


def test_the_page_offers_its_notebook_and_never_its_source(site: Path, exercises: str, address: str) -> None:
    page = BeautifulSoup((site / f"{exercises}.html").read_text(encoding="utf-8"), "html.parser")
    notebook = f"../../_sources/{exercises}.ipynb"
    offered = [a["href"] for a in page.select(".dropdown-download-buttons a")]
    assert offered == [notebook]
    assert [a["href"] for a in page.select("article a.download")] == [notebook]
    repository = address.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{repository}/blob/gh-pages/_sources/{exercises}.ipynb"
    assert [a["href"] for a in page.select(".dropdown-launch-buttons a")] == [colab]
    assert colab in [a["href"] for a in page.select("article a")]
    assert [file.name for file in (site / "_sources/book/exercises").iterdir() if file.suffix != ".ipynb"] == []


def test_the_published_notebook_runs_to_its_end_with_blank_answers(site: Path, exercises: str) -> None:
    cells = json.loads((site / "_sources" / f"{exercises}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert not any(re.search("pip install|import ddpm_lite|from ddpm_lite", text) for text in code)
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for text in code:
            exec(compile(text, exercises, "exec"), names)
    said = dict(line.split(": ", 1) for line in printed.getvalue().splitlines())
    tasks = source(exercises).exercises
    assert {name for name, text in said.items() if text == "not written yet."} == {
        task.exercise.id for task in tasks if not task.debug
    }
    assert not any(text.startswith("right") for text in said.values())


def test_the_chapter_lists_its_exercises(site: Path, chapter: str) -> None:
    page = chapter.replace("book/", "book/exercises/")
    section = article(site, chapter).find(id="exercises")
    number = int(Path(chapter).name[:2])
    items = section.select("li")
    parts = source(page).parts
    assert [item.a.text for item in items] == [f"Exercise {number}.{n}: {p.title}" for n, p in enumerate(parts, 1)]
    assert [item.a["href"] for item in items] == [
        f"exercises/{Path(page).name}.html#exercise-{number}-{n}" for n, _ in enumerate(parts, 1)
    ]
    assert [item.text.count("●") for item in items] == [
        part.exercise.dots if isinstance(part, Task) else 0 for part in parts
    ]
    assert section.p.a["href"] == f"exercises/{Path(page).name}.html"


def test_the_section_stands_before_the_quiz(site: Path, chapter: str) -> None:
    headings = [heading.text.split("#")[0] for heading in article(site, chapter).select("h2")]
    assert [index for index, text in enumerate(headings) if "Exercises" in text] == [
        index - 1 for index, text in enumerate(headings) if "Quiz" in text
    ]


def test_the_chapter_s_notebook_lists_them_in_plain_markdown(site: Path, chapter: str, address: str) -> None:
    cells = json.loads((site / "_sources" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = next(text for cell in cells if "## Exercises" in (text := "".join(cell["source"])))
    owner, name = address.removeprefix("https://github.com/").split("/")
    page = f"https://{owner.lower()}.github.io/{name}/{chapter.replace('book/', 'book/exercises/')}.html"
    assert text.count(f"({page}#exercise-") == len(source(chapter.replace("book/", "book/exercises/")).parts)
    assert "<span" not in text


@pytest.mark.parametrize("mode", ["public", "student", "instructor"])
def test_the_three_pages(tmp_path: Path, mode: str) -> None:
    """Of a new set from the template, which has an essay."""
    exercises = load(write_template("03_energy", tmp_path)[0])
    task, essay = exercises.parts
    assert isinstance(task, Task)
    page = extension.page(exercises, 3, mode, "https://colab")
    assert f"## Exercise 3.1: {task.title}" in page
    assert task.stub.strip() in page
    assert all(hint in page for hint in task.exercise.hints)
    assert f"## Exercise 3.2: {essay.title}" in page
    assert "Essay, 2 points." in page
    assert ("steps.square().cumsum(0).sqrt()" in page) == (mode != "student")
    assert ("Independent steps add their variances." in page) == (mode != "student")
    assert page.count(":open:") == (2 if mode == "instructor" else 0)
    for wrong in task.exercise.wrong:
        rows = [line for line in page.splitlines() if line.startswith("|") and wrong.hint in line]
        assert [wrong.refused_by in row for row in rows] == [True] * (mode == "instructor")
    assert "{code-cell}" not in page
    assert "kernelspec" not in page


@pytest.mark.parametrize("value", ["", "Student", "all"])
def test_an_unknown_mode_stops_the_build(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("DDPM_LITE_EXERCISES", value)
    with pytest.raises(ExtensionError, match=rf"DDPM_LITE_EXERCISES is '{value}'.*public, student, instructor"):
        extension.check_settings(None, None)


def test_without_a_mode_the_pages_are_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DDPM_LITE_EXERCISES", raising=False)
    assert extension.mode() == "public"


def test_answers_that_are_no_folder_stop_the_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DDPM_LITE_ANSWERS", str(tmp_path / "gone"))
    with pytest.raises(ExtensionError, match=r"DDPM_LITE_ANSWERS is '.*gone', which is no folder"):
        extension.check_settings(None, None)
    monkeypatch.setenv("DDPM_LITE_ANSWERS", os.fspath(tmp_path))
    assert extension.answers() == tmp_path
    monkeypatch.setenv("DDPM_LITE_ANSWERS", "")
    assert extension.answers() is None
