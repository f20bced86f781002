"""Every command of the instructor guide, typed as it stands, and what the guide says that it prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "book" / "instructors.md"


def commands() -> list[tuple[str, str]]:
    """Return each command of the guide with what must follow it on the screen, "" where the guide does not say."""
    found: list[tuple[str, str]] = []
    blocks = re.findall(r"^( *)```console\n(.*?)^\1```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)
    for indent, block in blocks:
        for line in re.sub(rf"^{indent}", "", block, flags=re.M).splitlines():
            if line.startswith("$ "):
                found.append((line[2:], ""))
            else:
                command, output = found.pop()
                found.append((command, f"{output}{line}\n"))
    return found


def folder(tmp_path: Path) -> Path:
    """A copy of what the guide's commands use of the repository; .venv is the environment that runs this test."""
    shutil.copytree(ROOT / "book" / "exercises", tmp_path / "book" / "exercises")
    scripts = tmp_path / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "activate").write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n', encoding="utf-8")
    return tmp_path


@pytest.mark.needs("bwrap", "nbgrader")
def test_the_commands_print_what_the_guide_says(tmp_path: Path) -> None:
    typed = commands()
    assert len(typed) > 12
    script = "\n".join(f"echo '=== {n}'\n{command}" for n, (command, _) in enumerate(typed))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder(tmp_path),
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    printed = re.split(r"^=== \d+\n", done.stdout, flags=re.M)[1:]
    for (command, expected), output in zip(typed, printed, strict=True):
        assert not expected or output == expected, command
