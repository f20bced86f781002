"""A test whose tool is missing is counted as not run; where the tool is required, it fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
TESTS = """
import pytest

@pytest.mark.needs("data")
def test_a(): pass

def test_b(data): assert data.is_dir()

def test_c(): pass
"""


@pytest.fixture
def run(tmp_path: Path):
    (tmp_path / "tests").mkdir()
    shutil.copy(CONFTEST, tmp_path / "tests")
    (tmp_path / "tests" / "test_it.py").write_text(TESTS)
    (tmp_path / "torch.py").write_text("def set_num_threads(n): pass\n")  # found first; the real one takes seconds

    def run(*args: str, **environment: str) -> tuple[int, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DDPM_LITE", "PYTEST"))}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:hypothesispytest",
            "tests",
            *args,
        ]
        done = subprocess.run(
            command, cwd=tmp_path, env=clean | environment, capture_output=True, text=True, timeout=300
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_a_missing_tool_is_counted(run, args: tuple[str, ...]) -> None:
    code, text = run(*args)
    assert code == 0
    assert "NOT RUN: 2 tests (DDPM_LITE_DATA names no folder of image files)" in text
    assert re.search(r"1 passed, 2 skipped", text)


@pytest.mark.parametrize("names", ["all", "node,data"])
def test_a_required_tool_that_is_missing_fails(run, names: str) -> None:
    code, text = run(DDPM_LITE_REQUIRE=names)
    assert code == 1
    assert re.search(r"1 passed, 2 errors", text)
    assert "NOT RUN" not in text


def test_another_tool_does_not_matter(run) -> None:
    assert run(DDPM_LITE_REQUIRE="node")[0] == 0


def test_with_the_tool_all_run(run, tmp_path: Path) -> None:
    code, text = run(DDPM_LITE_DATA=str(tmp_path), DDPM_LITE_REQUIRE="data")
    assert code == 0
    assert "3 passed" in text
    assert "NOT RUN" not in text


def test_an_unknown_tool_is_named(run) -> None:
    code, text = run(DDPM_LITE_REQUIRE="chromum")
    assert code == 4
    assert "chromum" in text
