"""Samples of a trained network, against the exact denoiser of a Gaussian where the network is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_lite.images import sampling, shipped, training
from ddpm_lite.images.checkpoints import Trained
from ddpm_lite.images.config import PRESETS, Config, override

SMALL = override(PRESETS["digits"], ["steps=4", "batch=16", "network.width=8"])


@pytest.mark.parametrize("sampler", sampling.SAMPLERS)
def test_every_sampler_carries_noise_to_the_exact_end(gaussian: Trained, sampler: str) -> None:
    """The ODE of a Gaussian: x ends at m + (x_T - m) s / sqrt(s^2 + sigma_T^2)."""
    labels = torch.tensor([0, 1, 2])
    states = list(sampling.trajectory(gaussian, range(3), labels=labels, sampler=sampler, steps=200))
    m = (labels[:, None, None, None] - 1) / 2
    exact = m + (80 * sampling.starts((1, 4, 4), range(3), 0) - m) * 0.2 / (0.04 + 80**2) ** 0.5
    assert (states[-1] - exact).abs().max() < {"adams": 2e-3, "dpmpp": 2e-3, "heun": 2e-3, "ddim": 2e-2}[sampler]
    assert len(states) == 201


def test_the_default_is_near_the_end_of_many_steps_on_a_learned_network() -> None:
    """Adams of order 5 is off by .16 here. The digits' standard deviation is .75 a pixel."""
    trained, labels = shipped.load("digits"), torch.arange(20) % 10
    *_, many = sampling.trajectory(trained, range(20), labels=labels, sampler="heun", steps=100)
    off = {}
    for sampler in ("dpmpp", "adams"):
        *_, few = sampling.trajectory(trained, range(20), labels=labels, sampler=sampler)
        off[sampler] = (few - many).square().mean().sqrt().item()
    assert max(off.values()) < 0.05


def test_guidance_moves_along_the_difference(gaussian: Trained) -> None:
    """With equal variances guidance by w is the law with the mean w m."""
    labels = torch.tensor([2, 2])
    *_, plain = sampling.trajectory(gaussian, range(2), labels=labels, steps=200)
    *_, twice = sampling.trajectory(gaussian, range(2), labels=labels, steps=200, guidance=2.0)
    *_, free = sampling.trajectory(gaussian, range(2), labels=labels, steps=200, guidance=0.0)
    *_, none = sampling.trajectory(gaussian, range(2), steps=200)
    assert torch.allclose(twice - plain, plain - free, atol=1e-4)
    assert torch.allclose(free, none, atol=1e-6)
    assert (plain - free).mean().item() == pytest.approx(0.5, abs=0.01)


def test_an_image_depends_on_its_number_and_not_on_the_batch(gaussian: Trained) -> None:
    labels = torch.arange(10) % 3
    whole = sampling.sample_images(gaussian, 10, labels=labels, seed=3)
    parts = sampling.sample_images(gaussian, 10, labels=labels, seed=3, batch=3)
    assert torch.equal(whole, parts)
    assert torch.equal(sampling.sample_images(gaussian, 4, labels=labels[:4], seed=3), whole[:4])
    assert not torch.equal(sampling.sample_images(gaussian, 10, labels=labels, seed=4), whole)
    assert whole.flatten(1).unique(dim=0).shape[0] == 10


def test_the_starts_are_normal_and_unlike() -> None:
    x = sampling.starts((1, 8, 8), range(2000), 0).flatten(1).double()
    assert abs(x.mean()) < 5 / x.numel() ** 0.5  # five standard errors each: false alarm 6e-7
    assert abs(x.square().mean() - 1) < 5 * (2 / x.numel()) ** 0.5
    correlation = (x[:-1] * x[1:]).mean()
    assert abs(correlation) < 5 / (1999 * 64) ** 0.5


@pytest.mark.parametrize("path", ["vp", "cosine", "ve", "edm", "rectified"])
def test_the_levels_lie_on_every_path(path: str) -> None:
    noise = Config(path=path).noise_path()
    ts = sampling.noise_levels(noise, 10)
    assert ts.shape == (11,)
    assert (ts.diff() < 0).all()
    assert (-noise.lam(ts[0])).exp() == pytest.approx({"ve": 50}.get(path, 80), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "euler"}, "sampler must be one of dpmpp, adams, heun, ddim; got 'euler'"),
        ({"labels": torch.tensor([3, 0])}, r"labels must be in 0\.\.2; got \[0, 3\]"),
        ({"labels": torch.tensor([-1, 0])}, r"labels must be in 0\.\.2"),
    ],
)
def test_what_cannot_be_drawn_is_named(gaussian: Trained, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampling.sample_images(gaussian, 2, **options)
    free = gaussian._replace(config=override(gaussian.config, ["network.classes=0"]))
    with pytest.raises(ValueError, match="a network without classes"):
        sampling.sample_images(free, 2, labels=torch.tensor([0, 0]))


def test_a_sheet_holds_every_pixel() -> None:
    pixels = torch.arange(5 * 6, dtype=torch.uint8).reshape(5, 1, 2, 3)
    sheet = np.asarray(sampling.grid(pixels, levels=31, columns=2, scale=2))
    assert sheet.shape == (2 + 3 * 6, 2 + 2 * 8)
    shown = sheet[2 + 6 : 2 + 6 + 4, 2 + 8 : 2 + 8 + 6]  # the fourth: second row, second column
    assert np.array_equal(shown, np.repeat(np.repeat(np.round(pixels[3, 0].numpy() * 8.5), 2, 0), 2, 1))
    assert (sheet[:2] == 255).all()
    assert sampling.grid(pixels.expand(-1, 3, -1, -1)).mode == "RGB"


def test_the_command_writes_pictures_and_pixels(tmp_path: Path) -> None:
    training.train(SMALL, tmp_path / "run")

    def typed(*args: object) -> subprocess.CompletedProcess[str]:
        order = [sys.executable, "-m", "ddpm_lite", "sample", *map(str, args)]
        return subprocess.run(order, capture_output=True, text=True)

    for name in ("a.png", "a.gif", "a.npz"):
        done = typed(tmp_path / "run", "--output", tmp_path / name, "--n", 6, "--steps", 4, "--label", 7, "--label", 1)
        assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / name)), done.stderr
    with np.load(tmp_path / "a.npz") as kept:
        assert kept["pixels"].shape == (6, 1, 8, 8)
        assert kept["labels"].tolist() == [7, 1, 7, 1, 7, 1]
        sheet = sampling.grid(torch.from_numpy(kept["pixels"]), levels=17)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(sheet))
    with Image.open(tmp_path / "a.gif") as film:
        film.seek(film.n_frames - 1)
        assert np.abs(np.asarray(film.convert("L"), float) - np.asarray(sheet, float)).max() <= 1
    refused = typed(tmp_path / "run", "--output", tmp_path / "a.jpg")
    assert (refused.returncode, ".png, .gif or .npz" in refused.stderr) == (2, True)
    refused = typed(tmp_path, "--n", 2)
    assert (refused.returncode, "holds no whole state" in refused.stderr) == (2, True)
    refused = typed(tmp_path / "run", "--n", 2, "--device", "abacus")
    assert (refused.returncode, "--device abacus is not on this machine: use" in refused.stderr) == (2, True)
