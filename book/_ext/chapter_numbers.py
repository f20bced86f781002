"""Number a chapter after its file: `07_forward.md` is chapter 7, also while chapters before it are not written.

Sphinx numbers sections, then figures and equations from the sections. This changes the first part of the section
numbers in between, so that titles, sidebar, figures (7.1) and equations (7.1) agree.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.environment.collectors.toctree import TocTreeCollector
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles


def chapter_of(docname: str) -> int | None:
    """Return the number at the front of the file's name, or None where there is none."""
    match = re.match(r"(\d+)_", docname.rsplit("/", 1)[-1])
    return int(match[1]) if match else None


def assign_section_numbers(self: TocTreeCollector, env: BuildEnvironment) -> list[str]:
    """Number the sections as Sphinx does, put each chapter's number first, and return the changed documents."""
    before = env.toc_secnumbers
    TocTreeCollector.assign_section_numbers(self, env)
    for docname, numbers in env.toc_secnumbers.items():
        chapter = chapter_of(docname)
        if chapter is None:
            continue
        env.toc_secnumbers[docname] = {
            anchor: (chapter, *number[1:]) if number else number for anchor, number in numbers.items()
        }
        for node in [env.titles[docname], *env.tocs[docname].findall(nodes.reference)]:
            if node.get("secnumber"):
                node["secnumber"] = [chapter, *node["secnumber"][1:]]
    return [name for name, numbers in env.toc_secnumbers.items() if numbers != before.get(name)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Replace the method of the collector that Jupyter Book uses."""
    TocTreeCollectorWithStyles.assign_section_numbers = assign_section_numbers
    return {"parallel_read_safe": True, "parallel_write_safe": True}
