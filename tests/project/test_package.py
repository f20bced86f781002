"""What `import ddpm_lite` needs and gives: torch and numpy, and names that say where the book derives them."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ddpm_lite as dl

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ddpm_lite"
FLAT = sorted({file.stem for file in PACKAGE.glob("[!_]*.py")} - {"cli"})

# everything is refused but the standard library, torch, numpy and what torch's own packages list as needed
BLOCKED = """
import re, sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

def needed(name, seen):
    if name not in seen:
        seen.add(name)
        try:
            lines = [line for line in requires(name) or [] if "extra ==" not in line]
        except PackageNotFoundError:
            lines = []
        for line in lines:
            needed(re.match(r"[A-Za-z0-9_.-]+", line)[0].lower().replace("_", "-"), seen)
    return seen

dists = needed("numpy", needed("torch", set()))
plain = lambda name: name.lower().replace("_", "-")
allowed = {module for module, names in packages_distributions().items() if set(map(plain, names)) & dists}
allowed |= set(sys.stdlib_module_names) | {"ddpm_lite"}

class Door:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"refused: {name}", name=name)

sys.meta_path.insert(0, Door())
"""


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)


IMPORT = """
import torch
before = torch.get_rng_state()
import ddpm_lite as dl, ddpm_lite.nets
print(dl.VP().lam(torch.tensor(0.5)))
assert torch.equal(before, torch.get_rng_state()), "import draws random numbers"
assert torch.get_default_dtype() == torch.float32, "import changes the default dtype"
"""


def test_import_needs_torch_and_numpy_only_and_changes_nothing(tmp_path: Path) -> None:
    done = python(BLOCKED + IMPORT, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["matplotlib", "tqdm", "safetensors", "sklearn", "scipy"])
def test_the_door_is_shut(name: str, tmp_path: Path) -> None:
    assert f"refused: {name}" in python(BLOCKED + f"import {name}", tmp_path).stderr


def public(module: str) -> dict[str, object]:
    """The public functions and classes that a flat file defines."""
    loaded = importlib.import_module(f"ddpm_lite.{module}")
    names = getattr(loaded, "__all__", None) or [name for name in vars(loaded) if not name.startswith("_")]
    things = {name: getattr(loaded, name) for name in names}
    return {
        name: thing
        for name, thing in things.items()
        if (inspect.isfunction(thing) or inspect.isclass(thing)) and thing.__module__ == loaded.__name__
    }


@pytest.mark.parametrize("module", FLAT)
def test_public_names_are_given_by_the_package(module: str) -> None:
    for name, thing in public(module).items():
        assert getattr(dl, name) is thing


def test_the_package_hands_on_nothing_else() -> None:
    """`from .x import *` must not hand on torch, a function of the standard library or another project's class."""
    names = {name: thing for name, thing in vars(dl).items() if not name.startswith("_")}
    modules = [name for name, thing in names.items() if inspect.ismodule(thing)]
    assert all(names[name].__name__.startswith("ddpm_lite.") for name in modules), modules
    things = [name for name, thing in names.items() if inspect.isfunction(thing) or inspect.isclass(thing)]
    assert [name for name in things if not names[name].__module__.startswith("ddpm_lite.")] == []


@pytest.mark.parametrize("module", FLAT)
def test_a_public_name_says_what_it_is_and_where_the_book_derives_it(module: str) -> None:
    for name, thing in public(module).items():
        text = (vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__) or ""  # type: ignore[attr-defined]
        assert re.search(r"Book: ch\. \d", text), f"ddpm_lite.{module}.{name} lacks 'Book: ch. N'"


def test_the_version_stands_once() -> None:
    from importlib.metadata import version

    assert f"version: {version('ddpm-lite')}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
