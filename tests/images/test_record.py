"""What a run leaves to read."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ddpm_lite.images.record import Record


def text(folder: Path, name: str = "log") -> list[str]:
    return (folder / f"{name}.csv").read_text().splitlines()


def test_numbers_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    third = 1 / 3
    Record(tmp_path, 0).add("log", 5, {"loss": third, "seconds": 2.5})
    assert text(tmp_path) == ["step,loss,seconds", f"5,{third!r},2.5"]
    assert float(text(tmp_path)[1].split(",")[1]) == third


def test_steps_that_will_be_done_again_are_dropped(tmp_path: Path) -> None:
    first = Record(tmp_path, 0)
    for step in (5, 10, 15):
        first.add("log", step, {"loss": 1 / step, "seconds": step / 2})
        first.add("metrics", step, {"frechet": step})
    again = Record(tmp_path, 10)
    assert again.seconds() == 5.0
    assert [line.split(",")[0] for line in text(tmp_path)] == ["step", "5", "10"]
    again.add("log", 15, {"loss": 3.0, "seconds": 7})
    assert text(tmp_path)[-1] == "15,3.0,7"
    assert text(tmp_path, "metrics") == ["step,frechet", "5,5", "10,10"]


def test_half_a_row_is_dropped(tmp_path: Path) -> None:
    """A killed process leaves the start of a row."""
    Record(tmp_path, 0).add("log", 5, {"loss": 1.0, "seconds": 2})
    with open(tmp_path / "log.csv", "a") as file:
        file.write("6,0.2")
    assert Record(tmp_path, 5).seconds() == 2.0
    assert text(tmp_path) == ["step,loss,seconds", "5,1.0,2"]


def test_a_run_from_the_start_begins_a_new_table(tmp_path: Path) -> None:
    Record(tmp_path, 0).add("log", 5, {"loss": 1.0, "seconds": 2})
    assert Record(tmp_path, 0).seconds() == 0.0
    assert not (tmp_path / "log.csv").exists()


def test_tensorboard_shows_the_same_numbers_once(tmp_path: Path) -> None:
    first = Record(tmp_path, 0)
    for step in (5, 10, 15):
        first.add("log", step, {"loss": 1.0 / step})
    Record(tmp_path, 10).add("log", 15, {"loss": 0.25})
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    shown = [(event.step, round(event.value, 6)) for event in board.Scalars("log/loss")]
    assert shown == [(5, 0.2), (10, 0.1), (15, 0.25)]


def test_sheets_are_named_by_their_step(tmp_path: Path) -> None:
    Record(tmp_path, 0).sheet(2000, Image.new("L", (3, 2), 7))
    with Image.open(tmp_path / "samples" / "step_00002000.png") as picture:
        assert picture.size == (3, 2)
