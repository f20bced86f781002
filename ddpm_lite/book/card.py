"""`card`: the head of a chapter, with the measured cost of running it."""

from __future__ import annotations

import html
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from ._display import inline, put, shell

COST_KEY = "ddpm_lite_cost"  # in the metadata of the card's output
_hook: Callable[..., None] | None = None
_STYLE = (
    "<style>:where(.dl-card){border:1px solid;border-radius:.35em;padding:.6em 1em;margin:.5em 0}"
    ":where(.dl-card ul){margin:.2em 0 .6em}:where(.dl-card p){margin:.2em 0}</style>"
)


def card(*, can: Sequence[str], needs: Sequence[tuple[str, str]] = (), read_minutes: int) -> None:
    """Display what the reader will be able to do, what is needed first, and the measured cost of running.

    `can` are sentences that begin with a verb; `needs` are pairs (title, page), as ``("Chapter 1", "01_gaussians")``;
    `read_minutes` is the number of words over 200, formulas and tables included, drop-downs not. The cost counts from
    the start of the process and is brought up to date after every cell: the saved notebook holds the final figures,
    also in the metadata of the card's output (`COST_KEY`).
    Raises ValueError when `can` is empty or `read_minutes` is not positive.
    """
    global _hook
    if not can or isinstance(can, str):
        raise ValueError(f"can={can!r}: give a list of sentences that begin with a verb")
    if read_minutes < 1:
        raise ValueError(f"read_minutes={read_minutes}: give the number of words over 200, at least 1")
    again = _hook is not None
    start = (processor_seconds(), time.time()) if again else (0.0, _process_start())
    name = f"dl-card-{os.getpid()}-{time.monotonic_ns()}"

    def update(_: Any = None, *, first: bool = False) -> None:
        cost = measure(*start)
        parts = (list(can), list(needs), read_minutes, cost)
        put(_markup(*parts), _text(*parts), metadata={COST_KEY: cost}, display_id=name, update=not first)

    if shell() is None:
        print(_text(list(can), list(needs), read_minutes, measure(*start)))
        return
    if _hook is not None:
        shell().events.unregister("post_run_cell", _hook)
    update(first=True)
    shell().events.register("post_run_cell", update)
    _hook = update


def measure(processor_start: float = 0.0, wall_start: float = 0.0) -> dict[str, Any]:
    """Return what the process has used since a start, its peak memory in MB (None on Windows) and the machine."""
    return {
        "processor_seconds": round(processor_seconds() - processor_start, 2),
        "wall_seconds": round(time.time() - wall_start, 2),
        "peak_mb": peak_mb(),
        "cores": _cores(),
        "python": platform.python_version(),
        "torch": getattr(sys.modules.get("torch"), "__version__", None),
    }


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended, all threads, in seconds."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _process_start() -> float:
    """Return when this process started, in seconds of the clock."""
    try:
        import psutil  # type: ignore[import-untyped]  # it comes with every Jupyter kernel
    except ImportError:
        return time.time() - time.process_time()
    return float(psutil.Process().create_time())


def peak_mb() -> int | None:
    """Return the largest resident memory of this process so far in MB, or None on Windows.

    On Linux it is VmHWM: the figure of getrusage also counts the process that started this one.
    """
    try:
        with open("/proc/self/status", encoding="utf-8") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 // 10**6
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 10**6


def _cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cost_line(cost: dict[str, Any]) -> str:
    """Return the measured cost as a sentence."""
    memory = "" if cost["peak_mb"] is None else f", at most {cost['peak_mb']} MB of memory"
    return f"{cost['processor_seconds']:.0f} s of processor time{memory} (measured on {cost['cores']} cores)"


def _markup(can: list[str], needs: list[tuple[str, str]], minutes: int, cost: dict[str, Any]) -> str:
    """Return the card as HTML."""
    verbs = "".join(f"<li>{inline(c)}</li>" for c in can)
    links = ", ".join(f'<a href="{html.escape(page)}.html">{inline(title)}</a>' for title, page in needs)
    return (
        f'{_STYLE}<div class="dl-card"><p><strong>You will be able to</strong></p><ul>{verbs}</ul>'
        f"<p><strong>You need first:</strong> {links or 'nothing'}</p>"
        f"<p><strong>To read:</strong> {minutes} minutes</p>"
        f"<p><strong>To run:</strong> {html.escape(_cost_line(cost))}</p></div>"
    )


def _text(can: list[str], needs: list[tuple[str, str]], minutes: int, cost: dict[str, Any]) -> str:
    """Return the card as plain text."""
    first = ", ".join(title for title, _ in needs) or "nothing"
    lines = ["You will be able to", *(f"  - {c}" for c in can), f"You need first: {first}"]
    return "\n".join([*lines, f"To read: {minutes} minutes", f"To run: {_cost_line(cost)}"])
