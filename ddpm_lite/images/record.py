"""What a run leaves to read: tables, the same numbers for TensorBoard, sheets of samples."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from ..train import replace_file

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Record"]

TABLES = ("log", "metrics")


class Record:
    """The tables log.csv and metrics.csv of a folder, tensorboard/ and samples/, continued after `done` steps.

    Rows of later steps are dropped: those steps will be done again.
    """

    def __init__(self, folder: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        for name in TABLES:
            _cut(folder / f"{name}.csv", done)
        self.board = SummaryWriter(folder / "tensorboard", purge_step=done + 1)

    def add(self, table: str, step: int, values: dict[str, float]) -> None:
        """Add a row to a table; the first row decides the columns."""
        path = self.folder / f"{table}.csv"
        new = not path.exists()
        with open(path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *values])
            writer.writerow([step, *values.values()])
        for name, value in values.items():
            self.board.add_scalar(f"{table}/{name}", value, step)
        self.board.flush()

    def sheet(self, step: int, picture: Image) -> None:
        """Keep a picture as samples/step_%08d.png."""
        path = self.folder / "samples" / f"step_{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        picture.save(path)

    def seconds(self) -> float:
        """Return the seconds that the steps so far took, all sessions together."""
        rows = _rows(self.folder / "log.csv")
        return float(rows[-1]["seconds"]) if rows else 0.0


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]  # a killed run can leave half a row


def _cut(path: Path, done: int) -> None:
    """Rewrite a table with the whole rows of the first `done` steps; without rows there is no file."""
    rows = [row for row in _rows(path) if int(row["step"]) <= done]
    if rows:
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        replace_file(path, ("\r\n".join(lines) + "\r\n").encode())
    else:
        path.unlink(missing_ok=True)
