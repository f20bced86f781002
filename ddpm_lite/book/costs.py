"""What each chapter costs to run, read from the executed notebooks: ``python -m ddpm_lite.book.costs FOLDER``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from .card import COST_KEY

SECONDS = 60.0
MEGABYTES = 2000
HEAD = ("chapter", "processor s", "wall s", "peak MB", "machine")


class Cost(NamedTuple):
    """The measured cost of a chapter."""

    chapter: str
    processor_seconds: float
    wall_seconds: float
    peak_mb: int | None
    machine: str


def read(notebook: Path) -> Cost | None:
    """Return the cost that the card of an executed notebook holds, or None when it has no card."""
    return _cost(notebook.stem, json.loads(notebook.read_text(encoding="utf-8")))


def _cost(chapter: str, content: dict[str, Any]) -> Cost | None:
    """Return the cost on the last card among the outputs of a notebook."""
    outputs = [output for cell in content["cells"] for output in cell.get("outputs", [])]
    found = [output["metadata"][COST_KEY] for output in outputs if COST_KEY in output.get("metadata", {})]
    if not found:
        return None
    data = found[-1]
    machine = f"{data['cores']} cores, Python {data['python']}, torch {data['torch']}"
    return Cost(chapter, data["processor_seconds"], data["wall_seconds"], data["peak_mb"], machine)


def over(cost: Cost) -> list[str]:
    """Return what a chapter spends beyond its 60 s of processor time and its 2 GB of memory."""
    found = []
    if cost.processor_seconds > SECONDS:
        found.append(f"{cost.processor_seconds:.1f} s of processor time, more than {SECONDS:.0f}")
    if cost.peak_mb is not None and cost.peak_mb > MEGABYTES:
        found.append(f"{cost.peak_mb} MB of memory, more than {MEGABYTES}")
    return found


def cells(cost: Cost) -> tuple[str, ...]:
    """Return a row of the table as text."""
    peak = "not measured" if cost.peak_mb is None else str(cost.peak_mb)
    return cost.chapter, f"{cost.processor_seconds:.1f}", f"{cost.wall_seconds:.1f}", peak, cost.machine


def table(costs: list[Cost]) -> str:
    """Return the costs as a plain-text table."""
    rows = [HEAD, *map(cells, costs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows)


def run_again(notebook: Path, folder: Path) -> Cost | None:
    """Execute a notebook in `folder` and return its cost; the file stays as it is."""
    import nbformat
    from nbclient import NotebookClient

    content = nbformat.read(notebook, as_version=4)
    NotebookClient(content, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return _cost(notebook.stem, content)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return 1 when a chapter has no card, or is over its limits twice."""
    parser = argparse.ArgumentParser(prog="python -m ddpm_lite.book.costs", description=__doc__)
    parser.add_argument("folder", type=Path, help="executed notebooks, such as _build/jupyter_execute/book")
    parser.add_argument("--run-in", type=Path, default=Path("book"), help="where a second try runs (book)")
    asked = parser.parse_args(arguments)
    notebooks = sorted(asked.folder.glob("[0-9][0-9]_*.ipynb"))
    if not notebooks:
        print(f"{asked.folder} holds no executed chapter: build the book first", file=sys.stderr)
        return 1
    found = {path: read(path) for path in notebooks}
    wrong = [f"{path.stem}: no card with its cost" for path, cost in found.items() if cost is None]
    for path, cost in found.items():
        if cost is not None and over(cost):
            print(f"{path.stem}: {'; '.join(over(cost))}; running it once more", flush=True)
            again = run_again(path, asked.run_in)
            found[path] = again or cost
            wrong += [f"{path.stem}: {words}" for words in over(again or cost)]
    print(table([cost for cost in found.values() if cost is not None]))
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
