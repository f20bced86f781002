"""`show`: the package's own source on the page, so that the book never holds a copy."""

from __future__ import annotations

import ast
import html
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from ._display import put

_STYLE = (
    "<style>:where(.dl-show .k, .dl-show .kn, .dl-show .ow){font-weight:600}"
    ":where(.dl-show .c1){font-style:italic;opacity:.75}"
    ":where(.dl-show-path){font-size:.8em;opacity:.75}</style>"
)


def source(f: Callable[..., Any]) -> str:
    """Return the source of a function, class or method without its docstrings; comments stay.

    Raises ValueError when there is no Python source to read.
    """
    try:
        text = textwrap.dedent(inspect.getsource(inspect.unwrap(_plain(f))))
    except (OSError, TypeError) as error:
        raise ValueError(f"f={f!r} has no Python source: give a function, class or method") from error
    lines = text.rstrip().splitlines()
    owners = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in reversed([n for n in ast.walk(ast.parse(text)) if isinstance(n, owners)]):
        if ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            keep = [" " * first.col_offset + "..."] if len(node.body) == 1 else []
            end = first.end_lineno or first.lineno
            after = end
            while not keep and after < len(lines) and not lines[after].strip():
                after += 1
            lines[first.lineno - 1 : after] = keep
    return "\n".join(lines)


def show(f: Callable[..., Any]) -> None:
    """Display the source of `f` without its docstrings, under the path of its module.

    Raises ValueError when `f` has no Python source.
    """
    text = source(f)
    module = inspect.getmodule(_plain(f))
    name = getattr(module, "__name__", "__main__")
    path = "this notebook" if name == "__main__" else name.replace(".", "/") + ".py"
    markup = f'{_STYLE}<div class="dl-show"><div class="dl-show-path">{html.escape(path)}</div>{_coloured(text)}</div>'
    put(markup, f"# {path}\n{text}")


def _plain(f: Any) -> Any:
    """Return the function inside a property, a class method or a bound method."""
    if isinstance(f, property):
        return f.fget
    return getattr(f, "__func__", f)


def _coloured(text: str) -> str:
    """Return highlighted HTML whose classes are those of a Sphinx page, so that it follows light and dark."""
    try:
        from pygments import highlight  # type: ignore[import-untyped]
        from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
        from pygments.lexers import PythonLexer  # type: ignore[import-untyped]
    except ImportError:
        return f"<pre>{html.escape(text)}</pre>"
    return str(highlight(text, PythonLexer(), HtmlFormatter(cssclass="highlight")))
