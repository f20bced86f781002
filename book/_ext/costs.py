"""The directive `{chapter-costs}`: a table of what each chapter costs to run, filled in when the page is written.

By then every chapter has run, and its executed notebook lies in `jupyter_execute` with the figures of its card. A
chapter that comes from the execution cache is written there without its outputs (myst-nb 1.4.0); they are put back.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

from ddpm_lite.book.costs import HEAD, Cost, cells, read

LOGGER = logging.getLogger(__name__)
CHAPTER = re.compile(r"([^/]*/)?\d\d_\w+")  # exercises lie a folder further down


class ChapterCostsNode(nodes.General, nodes.Element):
    """The place of the table."""


class ChapterCosts(SphinxDirective):
    """Put the place of the table on the page and note the page."""

    def run(self) -> list[nodes.Node]:
        self.env.metadata[self.env.docname]["chapter_costs"] = "yes"
        return [ChapterCostsNode()]


def restore_outputs(app: Sphinx, env: BuildEnvironment) -> None:
    """Write the cached outputs into the notebooks of `jupyter_execute` that have none."""
    for name in [name for name, data in env.metadata.items() if "kernelspec" in data]:
        path = executed(app, name)
        notebook = nbformat.read(path, as_version=4)
        if any(cell.get("outputs") for cell in notebook.cells):
            continue
        with suppress(KeyError):  # the cache does not know a notebook that was not executed
            cache = get_cache(env.mystnb_config.execution_cache_path)
            nbformat.write(cache.merge_match_into_notebook(notebook)[1], path)


def executed(app: Sphinx, name: str) -> Path:
    """Return where the executed notebook of a page lies."""
    return Path(app.outdir).parent / "jupyter_execute" / f"{name}.ipynb"


def pages_with_table(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Return the pages that are written again at every build: those with the table."""
    return [name for name, data in env.metadata.items() if "chapter_costs" in data]


class FillTable(SphinxPostTransform):
    """Replace the place of the table by the table."""

    default_priority = 8

    def run(self, **kwargs: Any) -> None:
        for place in list(self.document.findall(ChapterCostsNode)):
            found = [(name, self.cost(name)) for name in sorted(self.env.found_docs) if CHAPTER.fullmatch(name)]
            place.replace_self(self.table([(name, cost) for name, cost in found if cost is not None]))

    def cost(self, name: str) -> Cost | None:
        """Return a chapter's cost; a chapter without one is a warning."""
        notebook = executed(self.app, name)
        cost = read(notebook) if notebook.exists() else None
        if cost is None:
            LOGGER.warning("no cost: the chapter has not run, or has no card", location=name)
        return cost

    def table(self, costs: list[tuple[str, Cost]]) -> nodes.table:
        """Return the table, a row for a chapter with a link to it."""
        group = nodes.tgroup("", *[nodes.colspec(colwidth=1) for _ in HEAD], cols=len(HEAD))
        group += nodes.thead("", _row([nodes.paragraph(text=text) for text in HEAD]))
        body = nodes.tbody()
        for name, cost in costs:
            title = nodes.inline(text=self.env.titles[name].astext())
            link = make_refnode(self.app.builder, self.env.docname, name, "", title)
            rest = [nodes.paragraph(text=text) for text in cells(cost)[1:]]
            body += _row([nodes.paragraph("", "", link), *rest])
        group += body
        return nodes.table("", group, classes=["colwidths-auto", "dl-costs"])


def _row(contents: list[nodes.paragraph]) -> nodes.row:
    """Return a row of the table."""
    return nodes.row("", *[nodes.entry("", content) for content in contents])


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive and what fills it."""
    app.add_node(ChapterCostsNode)
    app.add_directive("chapter-costs", ChapterCosts)
    app.add_post_transform(FillTable)
    app.connect("env-updated", restore_outputs)
    app.connect("env-updated", pages_with_table)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
