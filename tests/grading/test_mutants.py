"""The mutants of a small function, against the edits written out by hand."""

from __future__ import annotations

import ast

import pytest

from ddpm_lite.grading.mutants import mutants


def lines(expression: str, arguments: str = "") -> set[str]:
    prefix = f"def f({arguments}):\n    "
    return {mutant.line.removeprefix("y = ") for mutant in mutants(f"{prefix}y = {expression}\n    pass")}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a + b", {"a - b"}),
        ("a - b", {"a + b", "b - a"}),
        ("a * b", {"a / b", "a + b"}),
        ("a / b", {"a * b", "b / a"}),
        ("a @ b", {"b @ a"}),
        ("a ** b", {"a * b", "b ** a", "a"}),
        ("a < b", {"a <= b"}),
        ("a >= b", {"a > b"}),
        ("a == b", {"a != b"}),
        ("-a", {"a"}),
        ("3", {"4", "2"}),
        ("True", {"False"}),
        ("'text'", set()),
        ("torch.sqrt(a)", {"a"}),
        ("a.sqrt()", {"a"}),
        ("a.mT", {"a"}),
        ("a.sum(i)", {"a.mean(i)"}),
        ("g(a, b)", {"g(b, a)"}),
        ("g(a, dim=b)", {"g(a)"}),
        ("a[i]", {"a[i + 1]", "a[i + -1]"}),
    ],
)
def test_the_edits_of_an_expression(expression: str, expected: set[str]) -> None:
    assert lines(expression) == expected


def test_an_argument_is_changed_in_place() -> None:
    assert lines("a + b", "a") == {"a - b", "a.add_(b)"}
    source = "def f(a):\n    return g(a)\n"
    assert [mutant.line for mutant in mutants(source)] == ["return (g(a), a.add_(1))[0]"]


def test_a_mutant_has_one_edit_is_python_and_differs_from_all_others() -> None:
    body = "    i = x[t] - 1\n    i += 2\n    return torch.sqrt(1 - i**2) if t < 3 else -i\n"
    source = f'def f(x, t):\n    """Text 1 + 1."""\n{body}'
    found = mutants(source)
    plain = ast.unparse(ast.parse(f"def f(x, t):\n{body}"))
    assert len({mutant.source for mutant in found} | {plain}) == len(found) + 1
    for mutant in found:
        before, after = plain.splitlines(), mutant.source.splitlines()
        assert [new.strip() for old, new in zip(before, after, strict=True) if old != new] == [mutant.line]
    assert "i -= 2" in {mutant.line for mutant in found}
