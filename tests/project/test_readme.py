"""The commands of README.md and CONTRIBUTING.md are typed here, or are commands that the Makefile itself runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md")


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.M | re.S)
    return [re.sub(rf"^{indent}", "", body, flags=re.M) for indent, body in found]


def lines(page: str, language: str) -> list[str]:
    return [line for block in blocks(page, language) for line in block.splitlines() if line.strip()]


def make(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *args], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def makefile_commands() -> str:
    """Every command that `make test` would run on a fresh machine."""
    shown = make("-B", "-n", "test", "PYTHON=python3.11")
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.replace('"', "")


def by_hand(line: str) -> str:
    """The same command on Linux."""
    line = line.replace(".venv\\Scripts\\", ".venv/bin/")
    return line.replace("py -3.11 ", "python3.11 ").replace("-m venv .venv", "-m venv --clear .venv")


@pytest.mark.parametrize("line", sorted({line for page in PAGES for line in lines(page, "sh")}))
def test_a_command_is_real(line: str, makefile_commands: str) -> None:
    address = re.search(r"^  url: *(\S+)", (ROOT / "_config.yml").read_text(encoding="utf-8"), re.M)
    assert address is not None
    if line.startswith("make "):
        shown = make("-n", *line.split()[1:])
        assert shown.returncode == 0, f"{line}: {shown.stderr}"
    elif line.startswith("git clone "):
        assert line == f"git clone {address[1]}"
    elif line.startswith("cd "):
        assert line == "cd " + address[1].rsplit("/", 1)[1]
    elif line.startswith(".venv/bin/ddpm-lite "):
        order = [sys.executable, "-m", "ddpm_lite", *line.split()[1:3], "--help"]
        shown = subprocess.run(order, cwd=ROOT, timeout=60, capture_output=True, text=True)
        assert shown.returncode == 0, line
        assert all(option in shown.stdout for option in re.findall(r"--[a-z-]+", line)), line
    elif line.startswith("python -m pip install "):
        assert line == f'python -m pip install "ddpm-lite[book] @ git+{address[1]}"'
    else:
        assert by_hand(line) in makefile_commands, f"the Makefile does not run this: {line}"


@pytest.mark.parametrize("line", lines("README.md", "powershell"))
def test_windows_runs_the_same_commands(line: str, makefile_commands: str) -> None:
    assert by_hand(line) in makefile_commands


def test_both_lists_by_hand_are_complete() -> None:
    by_venv = [by_hand(line) for line in lines("README.md", "sh") if ".venv" in line and "/ddpm-lite " not in line]
    assert [by_hand(line) for line in lines("README.md", "powershell")] == by_venv
    assert len(by_venv) == 5


@pytest.mark.parametrize("code", blocks("README.md", "python"))
def test_the_example_runs(code: str, tmp_path: Path) -> None:
    check = "\nassert points.shape == (1000, 2)\nassert mixture.log_prob(points).mean() > -2.5\n"
    subprocess.run([sys.executable, "-c", code + check], cwd=tmp_path, check=True, timeout=300)


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert all((ROOT / target).exists() for target in targets), targets


def test_help_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.M)
    assert phony is not None
    shown = make("help").stdout
    for target in set(phony[1].split()) - {"FORCE"}:
        assert re.search(rf"make {target} +\S", shown), target


def test_a_machine_without_python_gets_a_clear_message(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("ddpm_lite", "book"):
        (tmp_path / folder).mkdir()
    for command in ("make=", "install=", "install=PYTHON=/no/such/python"):
        target, _, argument = command.partition("=")
        args = ["make", *([] if target == "make" else [target]), *([argument] if argument else [])]
        if target == "install" and not argument:
            args.append("CANDIDATES=no-such-python")
        done = subprocess.run(args, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode == 0) == (target == "make")
        if target == "install":
            assert "Python" in done.stdout
            assert not (tmp_path / ".venv").exists()
