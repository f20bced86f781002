"""The book's own Sphinx extensions."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book" / "_ext"))
chapter_numbers, package_hash, plain_docstrings = map(
    importlib.import_module, ("chapter_numbers", "package_hash", "plain_docstrings")
)


@pytest.mark.parametrize(
    ("docname", "number"), [("book/07_forward", 7), ("book/22_outlook", 22), ("book/index", None), ("8_a/api", None)]
)
def test_the_chapter_is_read_from_the_file_name(docname: str, number: int | None) -> None:
    assert chapter_numbers.chapter_of(docname) == number


def test_the_hash_sees_every_change_of_the_package_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    seen = [package_hash.package_hash(tmp_path)]
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("compiled")
    assert package_hash.package_hash(tmp_path) == seen[0]
    (tmp_path / "a.py").write_text("x = 2")
    seen.append(package_hash.package_hash(tmp_path))
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    seen.append(package_hash.package_hash(tmp_path))
    (tmp_path / "weights.safetensors").write_bytes(b"\0")
    seen.append(package_hash.package_hash(tmp_path))
    assert len(set(seen)) == 4


def test_docstrings_mean_what_they_say() -> None:
    rst = plain_docstrings.to_rst(["|x_t| of `x`: (B, *shape)", "    a = b", "then `c`s"])
    assert rst[0] == r"\|x\_t\| of \ ``x``\ : (B, \*shape)"
    assert rst[1:] == ["", "::", "", "    a = b", "", r"then \ ``c``\ s"]


def test_a_docstring_becomes_the_text_it_was() -> None:
    from docutils.core import publish_doctree

    text = r"N(0, I) *not* bold, x_ no link, |s| no name, [1]_ no note, `code_` stays, \sigma too"
    doc = publish_doctree("\n".join(plain_docstrings.to_rst([text])), settings_overrides={"report_level": 1})
    assert doc.astext() == text.replace("`", "")
