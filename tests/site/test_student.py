"""The students' site gives nothing away, and the tool that says so finds what is planted."""

from __future__ import annotations

import base64
import fcntl
import gzip
import html
import io
import json
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import leaks
import numpy as np
import pytest
import yaml
from bs4 import BeautifulSoup

from ddpm_lite.grading import Essay, Set, Task, load
from ddpm_lite.grading.notebook import instructor_notebook, student_notebook, write_notebook
from ddpm_lite.grading.template import write_template

ROOT = Path(__file__).resolve().parents[2]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
EXERCISES = [page for page in PAGES if page.startswith("book/exercises/")]
SETS = [load(ROOT / f"{page}.md") for page in EXERCISES]


def build(mode: str, folder: Path) -> Path:
    """Build the pages of exercises alone, as `make student` builds the whole book."""
    toc = folder / f"{mode}.yml"
    chapters = [{"file": page} for page in EXERCISES[1:]]
    toc.write_text(yaml.safe_dump({"format": "jb-book", "root": EXERCISES[0], "chapters": chapters}), encoding="utf-8")
    program = Path(sys.executable).with_name("jupyter-book")
    command = [
        program,
        "build",
        ROOT,
        "-W",
        "-n",
        "--keep-going",
        "--all",
        "--toc",
        toc,
        "--path-output",
        folder / mode,
    ]
    done = subprocess.run(command, env={**os.environ, "DDPM_LITE_EXERCISES": mode}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / mode / "_build" / "html"


def edition(mode: str, factory: pytest.TempPathFactory) -> Path:
    """Build a site once, also where several processes run the tests."""
    base = factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with open(folder / f"{mode}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        site = folder / mode / "_build" / "html"
        return site if site.exists() else build(mode, folder)


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edition("student", tmp_path_factory)


@pytest.fixture(scope="session")
def instructor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edition("instructor", tmp_path_factory)


@pytest.fixture(scope="session")
def search() -> leaks.Search:
    return leaks.Search()


def article(site: Path, page: str) -> BeautifulSoup:
    return BeautifulSoup((site / f"{page}.html").read_text(encoding="utf-8"), "html.parser").select_one("article")


def test_the_students_site_gives_nothing_away(student: Path, search: leaks.Search) -> None:
    assert search.leaks(student) == {}
    assert all((student / "_sources" / f"{page}.ipynb").exists() for page in EXERCISES)


def test_the_students_page_has_the_hints_and_no_solution(student: Path, exercises: str) -> None:
    body = article(student, exercises)
    names = [tag.summary.text.strip() for tag in body.select("details")]
    assert names == ["First hint", "Second hint"] * len(load(ROOT / f"{exercises}.md").exercises)
    assert [a["href"] for a in body.select("a.download")] == [f"../../_sources/{exercises}.ipynb"]


def test_the_public_site_does(site: Path, search: leaks.Search) -> None:
    """On the pages of exercises and in the search index, and in no notebook."""
    found = {file.relative_to(site).as_posix() for file in search.leaks(site)}
    assert found == {"searchindex.js", *(f"{page}.html" for page in EXERCISES)}


def test_the_instructors_page_has_open_solutions_and_the_known_mistakes(instructor: Path, exercises: str) -> None:
    body, parts = article(instructor, exercises), load(ROOT / f"{exercises}.md").parts
    tasks = [part for part in parts if isinstance(part, Task)]
    opened = [tag.summary.text.strip() for tag in body.select("details[open]")]
    assert opened == ["Solution" if isinstance(part, Task) else "A model answer" for part in parts]
    tables = body.select(".dl-mistakes table")
    assert len(tables) == len(tasks)
    for table, task in zip(tables, tasks, strict=True):
        rows = [[cell.text for cell in row.select("td")] for row in table.select("tbody tr")]
        assert [row[2] for row in rows] == [wrong.refused_by for wrong in task.exercise.wrong]
        for row, wrong in zip(rows, task.exercise.wrong, strict=True):
            assert "".join(row[0].split()) == "".join(wrong.old.split())
            assert leaks.letters(row[3])[:12] == leaks.letters(wrong.hint)[:12]


TASK = next(part for part in SETS[0].parts if isinstance(part, Task))
ESSAY = next(part for part in SETS[0].parts if isinstance(part, Essay))
CHECKS = (ROOT / f"{EXERCISES[0]}_checks.py").read_text(encoding="utf-8").splitlines()
SECRETS = {
    "a line of a solution": next(line for line in TASK.solution.splitlines() if "n_a * n_b" in line),
    "a right answer": next(line for line in TASK.exercise.right[0].splitlines() if "torch.lerp" in line),
    "a line of an oracle": next(line for line in CHECKS if "np.concatenate([points" in line),
    "a line of the cases": next(line for line in CHECKS if 'Case("values", (*fit(' in line),
    "a known mistake": max((wrong.new for wrong in TASK.exercise.wrong), key=len),
    "a hint of a known mistake": TASK.exercise.wrong[1].hint,
    "a sentence of a model answer": leaks.sentences(ESSAY.solution)[1],
}
every_secret = pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())


def archive(**files: bytes) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return buffer.getvalue()


def arrays(text: str) -> bytes:
    np.savez_compressed(buffer := io.BytesIO(), spec=np.frombuffer(text.encode(), dtype=np.uint8))
    return buffer.getvalue()


def folded(data: bytes) -> str:
    text = base64.b64encode(data + b" " * 300).decode()
    return "\n".join(text[n : n + 120] for n in range(0, len(text), 120))


def as_notebook(text: str) -> bytes:
    cells = [{"cell_type": "code", "source": ["x = 1\n", text]}, {"cell_type": "markdown", "source": text}]
    return json.dumps({"cells": cells}).encode()


def highlighted(text: str) -> bytes:
    """Each word in its own element, as highlighting does."""
    words = "".join(f"<span class='n'>{html.escape(word)}</span> " for word in text.split(" "))
    return f"<html><body><pre>{words}</pre></body></html>".encode()


PLACES = {
    "page.html": highlighted,
    "alt.html": lambda text: f'<img alt="{html.escape(text)}">'.encode(),
    "comment.html": lambda text: f"<p>a</p><!-- {text} -->".encode(),
    "state.html": lambda text: f"<script>{json.dumps({'a': [text]})}</script>".encode(),
    "notebook.ipynb": as_notebook,
    "script.js": lambda text: f"var a = {json.dumps(text)};".encode(),
    "searchindex.js": lambda text: f"Search.setIndex({json.dumps({'titles': {text: 1}})})".encode(),
    "objects.inv": lambda text: b"# Sphinx inventory version 2\n# a\n# 1\n# zlib\n" + zlib.compress(text.encode()),
    "page.html.gz": lambda text: gzip.compress(highlighted(text)),
    "handout.zip": lambda text: archive(**{"in.zip": archive(**{"a.py": text.encode()})}),
    "checks.npz": arrays,
    "picture.png": lambda text: b"\x89PNG\r\n\x1a\n\0\xff" + text.encode() + b"\xfe\0",
    "checks.ipynb": lambda text: as_notebook(f'Checks("""\n{folded(arrays(text))}\n""")'),
    "data.html": lambda text: f'<a href="data:text/plain;base64,{folded(text.encode())}">'.encode(),
}


@every_secret
@pytest.mark.parametrize("place", PLACES)
def test_a_planted_leak_is_found(tmp_path: Path, search: leaks.Search, secret: str, place: str) -> None:
    (tmp_path / place).write_bytes(PLACES[place](TASK.stub))
    (tmp_path / "clean.txt").write_text(TASK.statement, encoding="utf-8")
    assert search.leaks(tmp_path) == {}
    (tmp_path / place).write_bytes(PLACES[place](secret))
    found = search.leaks(tmp_path)
    assert list(found) == [tmp_path / place]
    line = secret.strip().splitlines()[0][:60]
    assert any(line[:40] in leak and EXERCISES[0] in leak for leak in found[tmp_path / place])


def test_typography_hides_nothing(tmp_path: Path, search: leaks.Search) -> None:
    text = "<p>The two <em>parts</em> have “different”\u00a0numbers &amp;&nbsp;of points.</p>"
    (tmp_path / "a.html").write_text(text, encoding="utf-8")
    assert "hint of a known mistake of merge_fits" in search.leaks(tmp_path)[tmp_path / "a.html"][0]


def test_a_word_of_a_solution_alone_is_found_in_the_search_index(tmp_path: Path, search: leaks.Search) -> None:
    term = next(term for term in search.terms if term.isidentifier())
    index = tmp_path / "searchindex.js"
    index.write_text(f'Search.setIndex({{"terms": {{"gaussian": 1, "{term}": 2}}}})', encoding="utf-8")
    assert [leak.rpartition(" ")[2] for leak in search.leaks(tmp_path)[index]] == [term]


def test_the_recorded_checks_hold_nothing_but_arguments_messages_and_sums(tmp_path: Path, search: leaks.Search) -> None:
    value = {"shape": [2], "kind": "f", "scale": 1.0, "finite": [1.0], "infinite": [0.0]}
    case = {"check": "values", "args": [{"array": 0}], "value": value}
    spec = {"f": {"tolerance": 1e-6, "messages": {}, "cases": [case]}}
    (tmp_path / "a.npz").write_bytes(arrays(json.dumps(spec)))
    assert search.leaks(tmp_path) == {}
    case["value"] = {"parts": [value, {**value, "array": 1}]}
    (tmp_path / "a.npz").write_bytes(arrays(json.dumps(spec)))
    assert search.leaks(tmp_path) == {tmp_path / "a.npz": ["the recorded checks hold 'array'"]}


def test_the_name_of_an_exercise_before_the_word_exercise_is_no_leak(tmp_path: Path, search: leaks.Search) -> None:
    names = [part.exercise.id for each in SETS for part in each.parts if isinstance(part, Task)]
    (tmp_path / "a.html").write_text("".join(f'<h2 id="{name}">Exercise 2</h2>' for name in names), encoding="utf-8")
    assert search.leaks(tmp_path) == {}


def test_an_archive_that_cannot_be_read_is_reported(tmp_path: Path, search: leaks.Search) -> None:
    (tmp_path / "a.zip").write_bytes(archive(a=b"text")[:-9])
    assert "cannot be unpacked" in search.leaks(tmp_path)[tmp_path / "a.zip"][0]


@pytest.mark.parametrize("each", SETS, ids=lambda each: each.name)
def test_the_students_notebook_gives_nothing_away_and_the_instructors_does(
    tmp_path: Path, search: leaks.Search, each: Set
) -> None:
    write_notebook(student_notebook(each), tmp_path / "a.ipynb")
    assert search.leaks(tmp_path) == {}
    write_notebook(instructor_notebook(each), tmp_path / "a.ipynb")
    assert len(search.leaks(tmp_path)[tmp_path / "a.ipynb"]) > 20


def test_private_answers_are_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, private, site = tmp_path / "source", tmp_path / "private", tmp_path / "site"
    write_template("03_energy", source, private)
    site.mkdir()
    arguments = [str(site), "--exercises", str(source), "--answers", str(private)]
    (site / "a.html").write_text("<p>Which quantity of independent steps adds up?</p>", encoding="utf-8")  # a hint
    assert leaks.main(arguments) == 0
    for text, file in {
        "return steps.<b>square</b>().cumsum(0).sqrt()": "03_energy_answers.py:5",
        "Their standard deviations do not add: 100 steps give the root, 10.": "03_energy_answers.py:8",
        "return np.sqrt(np.diag(triangle @ np.diag(steps**2) @ triangle.T))": "03_energy_checks.py:22",
    }.items():
        (site / "a.html").write_text(f"<p>{text}</p>", encoding="utf-8")
        assert leaks.main(arguments) == 1
        printed = capsys.readouterr().out
        assert str(site / "a.html") in printed
        assert str(private / file) in printed


def test_a_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        leaks.main([str(tmp_path / "gone")])
    assert stopped.value.code == 2
    with pytest.raises(SystemExit, match=r"holds no set of exercises .* --exercises"):
        leaks.main([str(tmp_path), "--exercises", str(tmp_path)])


def test_make_student_looks_for_leaks_before_the_site_is_there() -> None:
    command = ["make", "-n", "student", "ANSWERS=private"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    steps = [
        'DDPM_LITE_EXERCISES=student DDPM_LITE_ANSWERS="private"',
        "jupyter-book build . -W -n --keep-going --all --path-output _build/student.parts",
        'tools/leaks.py _build/student.parts/_build/html --answers "private"',
        "mv _build/student.parts/_build/html _build/student",
    ]
    places = [lines.index(step) for step in steps]
    assert places == sorted(places)
