"""The look at a run: the loss on held-out images against a closed form, and the numbers that a run writes."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ddpm_lite.images import training, watch
from ddpm_lite.images.checkpoints import Trained, load_model
from ddpm_lite.images.config import PRESETS, override
from ddpm_lite.images.data import Images, as_levels, load

SMALL = override(PRESETS["digits"], ["steps=4", "batch=16", "network.width=8"])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_held_out_loss_of_an_exact_denoiser(gaussian: Trained) -> None:
    """In units of the target the error's variance is s^2 (sigma^2 + sd^2) / (sd^2 (sigma^2 + s^2)), s = .2, sd = .5."""
    labels = torch.arange(2000) % 3
    x = (labels[:, None, None, None] - 1) / 2 + 0.2 * torch.randn(2000, 1, 4, 4, generator=seeded(0))
    images = Images(as_levels(x), labels, ("a", "b", "c"))
    found = watch.held_out_loss(gaussian, images, n=512, seed=3)
    config = override(gaussian.config, ["batch=512", "seed=3"])
    lam = config.noise_path().lam(training.draw(images, config, 0).t.double())
    square = (-2 * lam).exp()
    exact = 0.04 * (square + 0.25) / (0.25 * (square + 0.04))
    # the relative standard error of a mean of 512 x 16 squares is about sqrt(2 / 8192): five of them, false alarm 6e-7
    assert found == pytest.approx(exact.mean().item(), rel=5 * (2 / 8192) ** 0.5)
    assert found == watch.held_out_loss(gaussian, images, n=512, seed=3)
    assert found != watch.held_out_loss(gaussian, images, n=512, seed=4)


def test_a_run_writes_what_the_look_sees(tmp_path: Path) -> None:
    seen = []
    look = watch.watcher(SMALL, n=70, shown=12)

    def note(trained: Trained) -> training.Glance:
        seen.append(look(trained))
        return seen[-1]

    last = training.train(SMALL, tmp_path, save_every=2, look=note)
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert [list(row)[1:] for row in rows] == [["test_loss", "frechet", "as_asked"]] * 2
    for row, glance in zip(rows, seen, strict=True):
        assert {name: float(row[name]) for name in glance.measures} == glance.measures
    assert float(rows[1]["test_loss"]) == watch.held_out_loss(load_model(last), load("digits", split="test"))
    with Image.open(tmp_path / "samples" / "step_00000004.png") as picture:
        assert picture.tobytes() == seen[1].sheet.tobytes()


def test_the_command_looks_at_every_state(tmp_path: Path) -> None:
    order = [sys.executable, "-m", "ddpm_lite", "train", "digits", "--steps", "4", "--save-every", "2"]
    done = subprocess.run([*order, "--set", "network.width=8", "--output", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["step_00000002.png", "step_00000004.png"]
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3


def test_looking_changes_nothing(tmp_path: Path) -> None:
    a = training.train(SMALL, tmp_path / "a", save_every=2, look=watch.watcher(SMALL, n=10))
    b = training.train(SMALL, tmp_path / "b", save_every=2)
    left, right = load_file(a), load_file(b)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_images_of_a_folder_have_no_test_split(tmp_path: Path) -> None:
    for k in range(16):
        shade = Image.new("L", (8, 8), 10 * k)
        shade.save(tmp_path / f"{k}.png")
    config = override(SMALL, [f"data={tmp_path}", "network.classes=0"])
    last = training.train(config, tmp_path / "run", look=watch.watcher(config, n=4))
    glance = watch.watcher(config, n=4)(load_model(last))
    assert glance.measures == {}
    assert not (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1].strip("4")
