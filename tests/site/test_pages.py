"""The built pages, read as files: links, pictures, numbers, headings, and the map of the chapters."""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jupytext
from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).resolve().parents[2]
FRONT = "book/index"


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path: Path) -> set[str]:
    return {tag["id"] for tag in soup(path).find_all(id=True)} | {tag["name"] for tag in soup(path).select("a[name]")}


def article(site: Path, page: str) -> Tag:
    found = soup(site / f"{page}.html").select_one("article.bd-article")
    assert found is not None, f"{page} has no article"
    return found


def title(tag: Tag) -> str:
    """Return the text of a heading without its number and its link."""
    return " ".join(
        s for s in tag.find_all(string=True) if s.parent.get("class") not in (["section-number"], ["headerlink"])
    ).strip()


def broken_links(path: Path) -> list[str]:
    """Return the local addresses in a page that lead nowhere."""
    broken = []
    for tag in soup(path).find_all(True):
        for address in (tag.get("href"), tag.get("src")):
            parts = urlsplit(address or "")
            if not address or parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            lost = not target.is_file() or (
                parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in anchors(target)
            )
            if lost:
                broken.append(address)
    return broken


def test_every_local_link_and_anchor_resolves(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    pages = [page for page in pages if "_static" not in page.parts]
    assert len(pages) > 8
    assert {page.relative_to(site).as_posix(): bad for page in pages if (bad := broken_links(page))} == {}


def test_a_lost_anchor_is_found(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text('<a href="a.html#here"></a><a href="#gone"></a><img src="no.png"><b id="here"></b>')
    assert broken_links(page) == ["#gone", "no.png"]


def test_every_picture_has_a_text(site: Path, page: str) -> None:
    pictures = soup(site / f"{page}.html").find_all("img")
    assert [p["src"] for p in pictures if len(p.get("alt", "").strip()) < 3] == []
    in_text = article(site, page).find_all("img")
    assert [p["src"] for p in in_text if "_images" in p["alt"]] == []  # Sphinx's stand-in is the file's name


def test_numbers_begin_with_that_of_the_file(site: Path, chapter: str) -> None:
    number = int(Path(chapter).name[:2])
    body = article(site, chapter)
    heading = body.select_one("h1 .section-number")
    assert heading is not None
    assert heading.text.strip() == f"{number}."
    equations = [re.match(r"\(([\d.]+)\)", tag.text)[1] for tag in body.select(".eqno")]
    assert equations == [f"{number}.{k}" for k in range(1, len(equations) + 1)]
    assert equations
    figures = [tag.text.split()[-1] for tag in body.select(".caption-number") if tag.text.startswith("Fig")]
    assert figures == [f"{number}.{k}" for k in range(1, len(figures) + 1)]
    for link in soup(site / f"{FRONT}.html").select("nav.bd-links a"):
        if link["href"] == f"{Path(chapter).name}.html":
            assert link.text.startswith(f"{number}. ")


def test_every_picture_of_a_chapter_is_on_its_page(site: Path, chapter: str) -> None:
    """A picture that a cell draws and nobody shows is lost without an error."""
    drawn = {
        cell.metadata["mystnb"]["image"]["alt"]
        for cell in jupytext.read(ROOT / f"{chapter}.md").cells
        if "image" in cell.metadata.get("mystnb", {})
    }
    shown = {str(image.get("alt")) for image in article(site, chapter).find_all("img")}
    assert drawn <= shown


def test_headings_skip_no_level(site: Path, page: str) -> None:
    levels = [int(tag.name[1]) for tag in article(site, page).find_all(re.compile(r"^h[1-6]$"))]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels)), levels


def chapter_map(site: Path) -> dict[int, tuple[str, str, str | None]]:
    """Return the front page's map: number -> (part, title, link or None)."""
    found = {}
    section = article(site, FRONT).find(id="the-chapters")
    for part in section.find_all("ol"):
        caption = part.find_previous("strong").text
        for number, item in enumerate(part.find_all("li"), int(part.get("start", 1))):
            link, mark = item.find("a"), item.select_one(".dl-planned")
            assert (link is None) == (mark is not None), f"chapter {number}: a link or the mark planned"
            found[number] = (caption, link.text if link else "", Path(link["href"]).stem if link else None)
    return found


def test_the_map_agrees_with_the_table_of_contents(site: Path, toc: dict[str, Any]) -> None:
    shown = chapter_map(site)
    assert list(shown) == list(range(1, 23))
    written = {
        int(name[:2]): (part["caption"], title(article(site, f"book/{name}").h1), name)
        for part in toc["parts"]
        for folder, _, name in (chapter["file"].rpartition("/") for chapter in part["chapters"])
        if folder == "book" and name[:2].isdigit()
    }
    assert {number: entry for number, entry in shown.items() if entry[2]} == written


def test_the_launch_buttons_lead_to_the_chapter(site: Path, chapter: str, address: str) -> None:
    owner_and_name = address.removeprefix("https://github.com/")
    links = {a["href"] for a in soup(site / f"{chapter}.html").select(".dropdown-launch-buttons a")}
    notebook = f"_sources/{chapter}.ipynb"
    assert links == {
        f"https://colab.research.google.com/github/{owner_and_name}/blob/gh-pages/{notebook}",
        f"https://mybinder.org/v2/gh/{owner_and_name}/main?urlpath=lab/tree/{chapter}.md",
    }
    cells = json.loads((site / notebook).read_text(encoding="utf-8"))["cells"]
    assert f"ddpm-lite[book] @ git+{address}" in "".join(cells[0]["source"])
    assert sum("pip install" in "".join(cell["source"]) for cell in cells) == 1


def test_the_notebook_for_colab_is_plain_markdown_with_the_page_s_numbers(site: Path, chapter: str) -> None:
    notebook = json.loads((site / "_sources" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    text = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    assert re.findall(r"\{[\w:]+\}`|^:::.*|\]\(\w+\.md", text, re.MULTILINE) == []
    shown = [number.text.strip("()#¶") for number in article(site, chapter).select("span.eqno")]
    assert re.findall(r"\\tag\{([\d.]+)\}", text) == shown
    prose = re.sub(r"`[^`]*`", "", text)  # code has numbers in brackets too
    assert set(re.findall(r"\((\d+\.\d+)\)", prose)) <= set(shown) | {
        number.text.strip("()#¶") for page in site.glob("book/[0-9]*.html") for number in soup(page).select("span.eqno")
    }


def test_every_address_of_the_project_is_the_one_in_the_configuration(site: Path, page: str, address: str) -> None:
    owner, name = address.removeprefix("https://github.com/").split("/")
    allowed = (address, f"https://{owner.lower()}.github.io/{name}/")
    tags = soup(site / f"{page}.html").find_all(["a", "link"], href=re.compile(r"//(www\.)?github\.|\.github\.io"))
    assert len(tags) > 1
    assert [tag["href"] for tag in tags if not tag["href"].startswith(allowed)] == []


def test_every_term_has_its_names_in_three_languages(site: Path) -> None:
    definitions = article(site, "book/glossary").select("dl.glossary > dd")
    assert len(definitions) > 60
    for definition in definitions:
        assert [span["lang"] for span in definition.select("span[lang]")] == ["ja", "ko"], definition.text


def test_the_list_of_citation_keys_is_complete() -> None:
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    listed = set(re.findall(r"[a-z]+\d{4}[a-z]+", "".join(line for line in text.splitlines() if line.startswith("%"))))
    assert listed == set(re.findall(r"^@\w+\{(\w+),", text, flags=re.M))
