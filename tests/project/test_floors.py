"""An import of the package only points down the floors, and there is no circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "ddpm_lite"

# bottom up; a unit is a flat file or a folder
FLOORS = (
    {"rng"},
    {"ode", "train", "metrics", "couplings", "variational", "nets", "book", "grading"},
    {"paths", "mcmc", "scorematch", "toys"},
    {"predict", "energy"},
    {"reference", "losses", "samplers", "guidance", "likelihood", "coding"},
    {"inverse", "editing", "viz", "images"},
    {"live", "cli"},
    {"__main__"},
)
FLOOR = {unit: number for number, units in enumerate(FLOORS) for unit in units}


def module_name(file: Path, package: Path) -> str:
    parts = ("ddpm_lite", *file.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path, package: Path) -> set[str]:
    """Return the modules of the package that a file imports, also inside its functions."""
    name = module_name(file, package)
    here = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    known = {module_name(other, package) for other in package.rglob("*.py")}
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*here[: len(here) - node.level + 1], *([node.module] if node.module else [])])
            base = base if node.level else str(node.module)
            inner = {f"{base}.{alias.name}" for alias in node.names}
            found |= (inner & known) or {base}
    return {target for target in found if target.split(".")[0] == "ddpm_lite"} - {name}


def graph(package: Path) -> dict[str, set[str]]:
    files = [file for file in package.rglob("*.py") if file != package / "__init__.py"]
    return {module_name(file, package): imports(file, package) for file in files}


def unit(module: str) -> str:
    return [*module.split("."), ""][1]


def upward(package: Path) -> list[str]:
    """Return the imports that do not point down; inside a folder every direction is allowed, but no circle."""
    edges = [(name, target) for name, targets in graph(package).items() for target in targets]
    return [
        f"{name} imports {target}"
        for name, target in edges
        if unit(name) != unit(target) and (unit(target) == "" or FLOOR[unit(target)] >= FLOOR[unit(name)])
    ]


def test_every_unit_has_a_floor() -> None:
    assert {unit(name) for name in graph(PACKAGE)} <= set(FLOOR)


def test_an_import_only_points_down() -> None:
    assert upward(PACKAGE) == []


def test_there_is_no_circle() -> None:
    TopologicalSorter(graph(PACKAGE)).prepare()


def test_an_upward_import_is_seen(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "mlp.py").write_text("def f():\n    from ..paths import VP\n")
    (tmp_path / "nets" / "__init__.py").write_text("from .mlp import f\n")
    (tmp_path / "paths.py").write_text("from . import rng\nimport ddpm_lite\n")
    (tmp_path / "rng.py").write_text("import ddpm_lite.nets.mlp\n")
    assert sorted(upward(tmp_path)) == [
        "ddpm_lite.nets.mlp imports ddpm_lite.paths",
        "ddpm_lite.paths imports ddpm_lite",
        "ddpm_lite.rng imports ddpm_lite.nets.mlp",
    ]
