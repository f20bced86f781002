"""All measures, or the named ones: `make bench`, or `python benchmarks/run.py solvers memory`.

One thread, ratios within one run, medians. Prints each number beside its target and writes `benchmarks/results.json`
and what the book shows of it; sections that are not run keep their older numbers there. A peer that is not installed
is named and left out.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import figures
import grading
import likelihood
import memory
import quality
import report
import solvers
import speed
import torch
import traces
import training
import unet

RESULT = Path(__file__).with_name("results.json")
PEERS = ("diffusers", "flow-matching", "torchcfm", "k-diffusion")

Rows = list[dict[str, Any]]


def solver_section(seed: int, mixtures: int) -> dict[str, Any]:
    detail = solvers.measure(mixtures, seed)
    return {"rows": solvers.rows(detail), "detail": detail}


def sections(seed: int, mixtures: int) -> dict[str, Callable[[], dict[str, Any]]]:
    plain: dict[str, Callable[[], Rows]] = {
        "speed": speed.rows,
        "training": training.rows,
        "quality": quality.rows,
        "likelihood": likelihood.rows,
        "memory": memory.rows,
        "unet": unet.rows,
        "traces": traces.rows,
        "figures": figures.rows,
        "grading": grading.rows,
    }
    return {name: lambda rows=rows: {"rows": rows()} for name, rows in plain.items()} | {
        "solvers": lambda: solver_section(seed, mixtures)
    }


def machine() -> dict[str, Any]:
    """What the numbers were measured on, and with."""
    found: dict[str, Any] = {"processor": processor(), "threads": 1, "system": platform.system()}
    found |= {"python": platform.python_version(), "torch": torch.__version__}
    return found | {"peers": {name: installed(name) for name in PEERS}}


def processor() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def line(row: dict[str, Any]) -> str:
    target = row["target"]
    verdict = "" if target is None else f"target {target:<8g} {'reached' if report.reached(row) else 'NOT REACHED'}"
    return f"{row['name']:<72} {row['value']:10.4g} {row.get('unit', ''):<14} {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help="some of them; default: all")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the random mixtures; default: the clock")
    parser.add_argument("--mixtures", type=int, default=8, help="how many random mixtures")
    options = parser.parse_args()
    known = sections(options.seed, options.mixtures)
    unknown = set(options.sections) - set(known)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; give some of {', '.join(known)}")
    torch.set_num_threads(1)
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    for name in PEERS:
        if installed(name) is None:
            print(f"{name}: NOT RUN, not installed (see benchmarks/peers.txt)")
    for name in options.sections or known:
        print(f"== {name}", flush=True)
        start = time.monotonic()
        torch.manual_seed(0)
        section = known[name]() | {"date": datetime.date.today().isoformat(), "machine": machine()}
        print("\n".join(line(row) for row in section["rows"]), flush=True)
        print(f"   {time.monotonic() - start:.0f} s", flush=True)
        result[name] = section
        report.write(result)
    print(f"written: {RESULT}")


if __name__ == "__main__":
    main()
