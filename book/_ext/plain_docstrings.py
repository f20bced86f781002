"""Show the package's docstrings as they are written: plain text with formulas, not reStructuredText.

Words between backquotes become code, an indented block stays as it is, and every other sign means itself.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

CODE = re.compile(r"``([^`]+)``|`([^`]+)`")


def escape(text: str) -> str:
    """Put a backslash before the signs to which reStructuredText gives a meaning."""
    return re.sub(r"([\\*_|`\[\]])", r"\\\1", text)


def line_to_rst(line: str) -> str:
    """Escape a line, except what stands between backquotes."""
    parts, end = [], 0
    for code in CODE.finditer(line):
        parts += [escape(line[end : code.start()]), f"\\ ``{code[1] or code[2]}``\\ "]
        end = code.end()
    return "".join([*parts, escape(line[end:])])


def to_rst(lines: list[str]) -> list[str]:
    """Return the docstring as reStructuredText."""
    out: list[str] = []
    indented = False
    for line in lines:
        if line.startswith("    "):
            out += [line] if indented else ["", "::", "", line]
            indented = True
        elif line.strip():
            out += ["", line_to_rst(line)] if indented else [line_to_rst(line)]
            indented = False
        else:
            out.append("")
    return out


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Replace the lines of a docstring."""
    lines[:] = [*to_rst(lines), ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the event."""
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
