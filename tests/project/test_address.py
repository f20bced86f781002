"""The public address stands in `_config.yml`; everything else agrees with it, and a fork changes one line."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import yaml

ROOT = Path(__file__).resolve().parents[2]


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("address_tool", ROOT / "tools" / "address.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def repository() -> tuple[str, str]:
    """The address by the road of the book's builder: as YAML."""
    url = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    owner, name = url.rsplit("/", 2)[1:]
    return owner, name


def test_a_clean_tree_needs_no_change() -> None:
    assert tool.changes(ROOT) == {}


def test_the_tool_reads_what_the_builder_reads() -> None:
    assert tool.address((ROOT / "_config.yml").read_text(encoding="utf-8"), tool.CONFIG) == repository()


def test_every_link_agrees() -> None:
    owner, name = repository()
    slug = re.compile(r"(?:github\.com|/github|/gh)/([\w.-]+/" + re.escape(name) + r")\b")
    pages = re.compile(r"https://([\w-]+)\.github\.io/([\w.-]+)")
    for file in tool.FILES:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert set(slug.findall(text)) == {f"{owner}/{name}"}, file
        assert set(pages.findall(text)) <= {(owner.lower(), name)}, file


def test_no_other_file_repeats_it(project_files: list[Path]) -> None:
    slug = "/".join(repository())
    allowed = {ROOT / name for name in (*tool.FILES, "_config.yml")}
    holding = [file for file in project_files if slug.encode() in file.read_bytes()]
    assert set(holding) <= allowed


def test_a_fork_changes_one_line(tmp_path: Path) -> None:
    for name in (*tool.FILES, "_config.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "address.py", tmp_path / "tools")
    owner, name = repository()
    config = (tmp_path / "_config.yml").read_text(encoding="utf-8")
    (tmp_path / "_config.yml").write_text(config.replace(f"{owner}/{name}", "Some-One/a.fork"), encoding="utf-8")
    command = [sys.executable, str(tmp_path / "tools" / "address.py")]
    for _ in range(2):
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        for file in tool.FILES:
            text = (tmp_path / file).read_text(encoding="utf-8")
            before = (ROOT / file).read_text(encoding="utf-8")
            assert f"{owner}/{name}" not in text
            assert text.count("Some-One/a.fork") == before.count(f"{owner}/{name}")
            assert text.count("https://some-one.github.io/a.fork") == before.lower().count(
                f"https://{owner}.github.io/{name}".lower()
            )
