"""What the book shows of `results.json`: tables as Markdown and one figure."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ddpm_lite import PALETTE, STYLE

FOLDER = Path(__file__).parent
TITLES = {
    "solvers": "Samplers: error against evaluations",
    "training": "Speed of training",
    "quality": "Quality of samples on toy data",
    "likelihood": "Likelihood",
    "memory": "Memory",
    "unet": "The U-Net on a CPU",
    "traces": "Score matching: cost against dimensions",
    "speed": "Small costs",
    "figures": "Live figures",
    "grading": "Grading",
}


def write(result: dict[str, Any]) -> None:
    """Write `results.json`, `results.md` and `solver_errors.svg` beside this file."""
    (FOLDER / "results.json").write_text(json.dumps(result, indent=1, default=float) + "\n", encoding="utf-8")
    parts = [section(title, result[name]) for name, title in TITLES.items() if name in result]
    (FOLDER / "results.md").write_text("\n".join(parts), encoding="utf-8")
    if "solvers" in result:
        figure(result["solvers"]["detail"])


def section(title: str, part: dict[str, Any]) -> str:
    lines = [f"## {title}", "", "| what | value | target | |", "|---|---:|---:|---|"]
    lines += [row(entry) for entry in part["rows"]]
    if "detail" in part:
        lines += ["", *cases(part["detail"])]
    machine = part["machine"]
    peers = ", ".join(f"{name} {version}" for name, version in machine["peers"].items() if version) or "no peer"
    lines += [
        "",
        f"Measured on {part['date']}: {machine['processor']}, {machine['threads']} thread, Python {machine['python']}, "
        f"torch {machine['torch']}; with {peers}.",
        "",
    ]
    return "\n".join(lines)


def row(entry: dict[str, Any]) -> str:
    value, target = entry["value"], entry["target"]
    verdict = "" if target is None else "reached" if reached(entry) else "**not reached**"
    shown = "" if target is None else number(target)
    return f"| {entry['name']} | {number(value)} {entry.get('unit', '')} | {shown} | {verdict} |"


def reached(entry: dict[str, Any]) -> bool:
    """A target is a bound from above, or from below where the entry says "at_least"."""
    value, target = entry["value"], entry["target"]
    return value >= target if entry.get("at_least") else value <= target


def number(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}"


def cases(detail: dict[str, Any]) -> list[str]:
    """One line a mixture: our error at each count over the best peer's; then whose errors those were."""
    head = ["mixture", "dimension", "parts", "std", *(str(count) for count in detail["counts"])]
    lines = ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    winners = set()
    for name, case in detail["cases"].items():
        ours = case["ours"]["ddpm_lite: adams"]
        shares = [f"{value / error:.2f}" for value, (error, _) in zip(ours, case["best"], strict=False)]
        winners |= {peer for _, peer in case["best"]}
        cells = [name, str(case["dimension"]), str(case["components"]), number(case["std"]), *shares]
        lines.append("| " + " | ".join(cells) + " |")
    return [
        f"Our error over that of the best of {detail['peers']} peers, at each number of evaluations. The random "
        f"mixtures are those of seed {detail['seed']}.",
        *lines,
        "",
        f"Best of the peers at least once: {', '.join(sorted(winners))}." if winners else "",
    ]


def figure(detail: dict[str, Any]) -> None:
    """Error against evaluations on mixtures a and b: ours, the best peer, and every peer in grey."""
    import matplotlib.pyplot as plt

    with plt.rc_context({**STYLE, "svg.hashsalt": "solvers", "svg.fonttype": "path"}):
        canvas, axes = plt.subplots(1, 2, figsize=(8.0, 3.8), sharey=True)
        for ax, name in zip(axes, ("a", "b"), strict=True):
            case, counts = detail["cases"][name], detail["counts"]
            for errors in case["peers"].values():
                ax.loglog(counts, [e if math.isfinite(e) else math.nan for e in errors], color="0.8", linewidth=0.8)
            if case["best"]:
                best = [error for error, _ in case["best"]]
                ax.loglog(counts, best, "s--", color=PALETTE.vermilion, label="best peer at each count")
            ax.loglog(counts, case["ours"]["ddpm_lite: adams"], "o-", color=PALETTE.blue, label="adams (ours)")
            ax.set(title=f"mixture {name}", xlabel="evaluations", ylim=(2e-6, 1))
            ax.set_xticks(counts, [str(count) for count in counts])
            ax.minorticks_off()
        axes[0].set_ylabel("error at the end point")
        axes[0].legend(loc="lower left")
        canvas.savefig(FOLDER / "solver_errors.svg", metadata={"Date": None})
        plt.close(canvas)
