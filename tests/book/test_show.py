"""`book.show` prints the package's own source, without docstrings, with its comments."""

from __future__ import annotations

import ast
import inspect

import pytest

import ddpm_lite as dl
from ddpm_lite import book
from ddpm_lite.book.show import source


def sample(x):
    """One sentence.

    A second paragraph with 'quotes' and a # sign.
    """

    # a comment that stays
    y = x + 1  # (B, D)

    """A string that is no docstring of anything stays too."""
    return y


class Sample:
    """Docstring."""

    kind = "a"

    @property
    def value(self):
        """The value."""
        return self.kind  # a comment

    def only(self):
        """Nothing else."""


def stripped(tree: ast.AST) -> str:
    """Remove docstrings by another road: on the syntax tree."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Expr(ast.Constant(...))]
    return ast.dump(tree)


def test_comments_stay_and_docstrings_go():
    text = source(sample)
    assert "# a comment that stays" in text
    assert "# (B, D)" in text
    assert "no docstring of anything" in text
    assert "One sentence" not in text
    assert text.splitlines()[1].strip() == "# a comment that stays"


def test_classes_properties_and_methods():
    text = source(Sample)
    assert '"""' not in text
    assert "        ..." in text
    assert "return self.kind  # a comment" in source(Sample.value)
    assert source(Sample().only) == source(Sample.only)


def public() -> list[str]:
    """Return the package's public functions and classes."""
    return sorted(n for n, f in vars(dl).items() if inspect.isclass(f) or inspect.isfunction(f))


@pytest.mark.parametrize("name", public())
def test_every_public_name_of_the_package(name):
    """The shown code parses, has no docstring, and is the code of the package."""
    f = getattr(dl, name)
    shown = ast.parse(source(f))
    original = ast.parse(_dedented(f))
    assert ast.dump(shown) == stripped(original)


def _dedented(f) -> str:
    lines = inspect.getsource(f).splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] for line in lines)


def test_the_page_names_the_module(capsys):
    book.show(book.standard_errors)
    assert capsys.readouterr().out.startswith("# ddpm_lite/book/proof.py\ndef standard_errors(")


def test_what_has_no_source():
    with pytest.raises(ValueError, match="has no Python source"):
        book.show(len)
    with pytest.raises(ValueError, match="has no Python source"):
        book.show(3)
