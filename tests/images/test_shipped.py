"""The models that come with the package: whole, small, as good as their cards say."""

from __future__ import annotations

import hashlib
import math
import shutil
from pathlib import Path

import pytest
import ship
import torch

from ddpm_lite import frechet_distance, gaussian_frechet_distance
from ddpm_lite.images import evaluate, report, shipped
from ddpm_lite.images.checkpoints import CheckpointError
from ddpm_lite.images.config import PRESETS
from ddpm_lite.images.data import load

HERE = pytest.mark.parametrize("name", shipped.NAMES)


@HERE
def test_the_model_is_that_of_the_preset(name: str) -> None:
    trained = shipped.load(name)
    assert trained.config == PRESETS[name]
    assert trained.form.classes == load("digits").classes if name == "digits" else len(trained.form.classes) == 10
    assert not trained.net.training


def test_the_files_are_small_and_no_others_lie_beside_them() -> None:
    endings = (".safetensors", "_classifier.safetensors", "_reference.safetensors", ".json")
    wanted = {f"{name}{ending}" for name in shipped.NAMES for ending in endings} | {"README.md", "SHA256SUMS"}
    paths = [*shipped.FOLDER.iterdir()]
    assert {path.name for path in paths} == wanted
    assert sum(path.stat().st_size for path in paths) < 10_000_000


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(shipped.FOLDER, tmp_path / "shipped")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "shipped")
    shipped.load("digits")
    path = tmp_path / "shipped" / "digits.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"digits\.safetensors is not the file that was shipped"):
        shipped.load("digits")
    path.unlink()
    with pytest.raises(CheckpointError, match=r"\(missing\): install the package again"):
        shipped.load("digits")
    with pytest.raises(ValueError, match="no shipped model 'mnist': use digits"):
        shipped.card("mnist")


def test_the_sums_are_those_of_sha256() -> None:
    for line in (shipped.FOLDER / shipped.SUMS).read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((shipped.FOLDER / name).read_bytes()).hexdigest() == digest


def test_the_cards_say_what_was_measured() -> None:
    assert (shipped.FOLDER / "README.md").read_text(encoding="utf-8") == ship.cards()


@HERE
def test_the_card_keeps_the_promise(name: str) -> None:
    measured = shipped.card(name)["measured"]
    assert measured["as_asked"] >= 0.85
    assert measured["frechet"] <= 3 * measured["floor"]
    assert measured["closest"] > 0.5 * measured["closest_test"]


def check_against_data(name: str, n: int) -> None:
    """A part of the samples again: each depends on its number alone."""
    card = shipped.card(name)["measured"]
    again = report.evaluate(name, n=n, bits_of=0)["measured"]
    error = math.sqrt(card["as_asked"] * (1 - card["as_asked"]) / n)
    assert abs(again["as_asked"] - card["as_asked"]) < 5 * error + 1e-9  # false alarm 6e-7
    assert again["test_accuracy"] == pytest.approx(card["test_accuracy"], abs=2e-3)  # round-off moves single images
    assert again["test_loss"] == pytest.approx(card["test_loss"], rel=1e-3)
    assert again["frechet"] <= 3 * again["floor"]


def test_digits_are_as_good_as_the_card_says() -> None:
    check_against_data("digits", 297)


def check_reference(name: str) -> None:
    mean, covariance = shipped.load_reference(name)
    test = load(name, split="test")
    features, _ = evaluate.features(shipped.load_classifier(name), test.pixels, test.levels)
    assert torch.allclose(features.double().mean(0), mean, rtol=1e-4, atol=1e-5)
    made = features.double()[:200]
    distance = gaussian_frechet_distance(made.mean(0), made.T.cov(), mean, covariance)
    assert distance == pytest.approx(frechet_distance(made, features), rel=1e-3)


def test_the_reference_of_digits() -> None:
    check_reference("digits")
