"""How the book's cells put something on the page: HTML where there is a notebook, plain text elsewhere."""

from __future__ import annotations

import html
import re
from typing import Any

_MARKS = re.compile(r"\$([^$]+)\$|`([^`]+)`")


def inline(text: str) -> str:
    r"""Escape a line of text for HTML; ``$...$`` becomes maths for MathJax and `...` becomes code.

    MathJax reads only elements of the class ``math`` on a Sphinx page, and JupyterLab reads ``\(...\)`` everywhere.
    """
    parts, end = [], 0
    for mark in _MARKS.finditer(text):
        parts.append(html.escape(text[end : mark.start()]))
        maths, code = mark.groups()
        if maths is not None:
            parts.append(rf'<span class="math notranslate nohighlight">\({html.escape(maths)}\)</span>')
        else:
            parts.append(f"<code>{html.escape(code)}</code>")
        end = mark.end()
    return "".join([*parts, html.escape(text[end:])])


def shell() -> Any:
    """Return the running IPython shell, or None in plain Python."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def put(markup: str, text: str, **options: Any) -> None:
    """Display the HTML `markup` with `text` as its plain form; print `text` where there is no notebook.

    `options` go to `IPython.display.display`.
    """
    if shell() is None:
        print(text)
        return
    from IPython.display import display

    display({"text/html": markup, "text/plain": text}, raw=True, **options)
