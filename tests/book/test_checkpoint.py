"""Shipped tensors: trained again they are the same, a missing file says what to do, no file is large."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import chapters
import pytest
import torch
from torch import Tensor, nn

import ddpm_lite as dl
from ddpm_lite import book

module = importlib.import_module("ddpm_lite.book.checkpoint")  # the package's name of it is the function
ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(module.FOLDER.glob("*"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "FOLDER", tmp_path / "checkpoints")
    monkeypatch.delenv(module.RETRAIN, raising=False)
    return module.FOLDER


def line(seed: int = 0) -> dict[str, Tensor]:
    """A line fitted to y = 3x - 1."""
    torch.manual_seed(seed)
    net, x = nn.Linear(1, 1), torch.linspace(-1, 1, 16)[:, None]
    dl.fit(lambda x: (net(x) - 3 * x + 1).square().flatten(), net, dl.batches(x, 16), steps=60, lr=0.05)
    return net.state_dict()


def never() -> dict[str, Tensor]:
    raise AssertionError("a shipped file needs no training")


def test_a_file_is_trained_once_and_then_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.RETRAIN, "1")
    trained = book.checkpoint("12_line", line)
    assert trained["weight"].item() == pytest.approx(3, abs=0.5)
    first = (folder / "12_line.safetensors").read_bytes()
    monkeypatch.delenv(module.RETRAIN)
    read = book.checkpoint("12_line", never)
    assert read.keys() == trained.keys()
    assert all(torch.equal(read[name], trained[name]) for name in read)
    monkeypatch.setenv(module.RETRAIN, "1")
    book.checkpoint("12_line", line)
    assert (folder / "12_line.safetensors").read_bytes() == first
    other = book.checkpoint("12_line", lambda: line(seed=1))
    assert not torch.equal(other["weight"], trained["weight"])


def test_a_missing_file_says_what_to_do(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make checkpoints"):
        book.checkpoint("12_line", never)


@pytest.mark.parametrize("name", ["line", "12", "12_Line", "../12_line", "12_line.safetensors"])
def test_another_name_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        book.checkpoint(name, line)


def test_a_large_file_is_refused_before_it_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.RETRAIN, "1")
    with pytest.raises(ValueError, match=r"1 MB: .*smaller"):
        book.checkpoint("12_large", lambda: {"weight": torch.zeros(250_001)})
    assert not folder.exists()


def test_every_shipped_file_is_small_and_used() -> None:
    users = {path.name[:2] for path in chapters.written() if "book.checkpoint(" in path.read_text(encoding="utf-8")}
    assert SHIPPED
    for path in SHIPPED:
        assert path.suffix == ".safetensors"
        assert path.stat().st_size <= module.LARGEST
        assert path.stem[:2] in users, f"no chapter reads {path.name}"


def test_make_checkpoints_runs_the_chapters_that_ship() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ncheckpoints:")[1].split("\n\n")[0]
    assert f"{module.RETRAIN}=1" in recipe
    assert "book.checkpoint(" in recipe
