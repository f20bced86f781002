"""Make the published notebooks run and read well on Colab.

The theme copies each executed notebook to `_sources/`. Here it gets a first cell that installs the package, and the
roles and boxes of MyST, which Colab would show as they are typed, become plain Markdown.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from docutils import nodes
from exercises import plain_listing
from pybtex.database import BibliographyData, parse_file
from sphinx.application import Sphinx

INSTALL = "install-the-package"
EQUATION = re.compile(r"\$\$\n(.*?)\n\$\$ \((eq-[\w-]+)\)", re.DOTALL)
ROLE = re.compile(r"\{([\w:]+)\}`([^`]+)`")
WITH_TARGET = re.compile(r"(.*?)\s*<(.*)>", re.DOTALL)
BOX = re.compile(r"^:::\{\w+\} (.*)\n(?::\w+: .*\n)*", re.MULTILINE)
END_OF_BOX = re.compile(r"^:::\n?", re.MULTILINE)
EXERCISES = re.compile(r"^:::\{exercise-list\}\n:::$", re.MULTILINE)
LINK = re.compile(r"\]\((\w+)\.md(#[\w-]+)?\)")


class Translator:
    """MyST's Markdown into plain Markdown, with the numbers and the addresses of the built site."""

    def __init__(self, app: Sphinx) -> None:
        self.app, self.env, self.site = app, app.env, f"{app.config.html_baseurl}book/"
        self.papers = BibliographyData()
        for name in app.config.bibtex_bibfiles:
            self.papers.add_entries(parse_file(app.srcdir / name).entries.items())

    def plain(self, text: str, chapter: str) -> str:
        """Return a text of the chapter as plain Markdown."""
        text = EXERCISES.sub(lambda _: plain_listing(self.app, f"book/{chapter}", self.site), text)
        text = EQUATION.sub(lambda m: f"$$\n{m[1]} \\tag{{{self.number(m[2])}}}\n$$", text)
        text = ROLE.sub(lambda m: self.role(m[1], m[2]), text)
        text = LINK.sub(lambda m: f"]({self.site}{m[1]}.html{m[2] or ''})", text)
        return END_OF_BOX.sub("", BOX.sub(r"**\1**\n\n", text))

    def role(self, name: str, content: str) -> str:
        match = WITH_TARGET.fullmatch(content)
        shown, target = match.groups() if match else (content, content)
        if name == "eq":
            return f"({self.number(content)})"
        if name == "doc":
            return f"[{shown}]({self.site}{target}.html)"
        if name.startswith("cite"):
            papers = [self.paper(key.strip(), name == "cite:t") for key in content.split(",")]
            return ", ".join(papers) if name == "cite:t" else f"({'; '.join(papers)})"
        return shown

    def number(self, label: str) -> str:
        """The number of an equation as the site shows it."""
        docname, _ = self.env.domains["math"].equations[label]
        anchor = nodes.make_id(f"equation-{label}")
        return ".".join(map(str, self.env.toc_fignumbers[docname]["displaymath"][anchor]))

    def paper(self, key: str, in_text: bool) -> str:
        entry = self.papers.entries[key]
        names = [" ".join(person.last_names) for person in entry.persons["author"]]
        who = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
        return f"{who} ({entry.fields['year']})" if in_text else f"{who}, {entry.fields['year']}"


def install_cell(url: str) -> nbformat.NotebookNode:
    source = (
        "# Installs the package where it is missing, for example on Colab.\n"
        "import importlib.util\n\n"
        'if importlib.util.find_spec("ddpm_lite") is None:\n'
        f'    %pip install --quiet "ddpm-lite[book] @ git+{url}"'
    )
    return nbformat.v4.new_code_cell(source, id=INSTALL)


def rewrite(path: Path, translator: Translator, url: str) -> None:
    """Rewrite one notebook in place, once."""
    notebook = nbformat.read(path, as_version=4)
    if notebook.cells and notebook.cells[0].get("id") == INSTALL:
        return
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = translator.plain(cell.source, path.stem)
    notebook.cells.insert(0, install_cell(url))
    nbformat.write(notebook, path)


def rewrite_all(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    translator, url = Translator(app), app.config.html_theme_options["repository_url"]
    for path in (app.outdir / "_sources").rglob("*.ipynb"):
        rewrite(path, translator, url)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", rewrite_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
