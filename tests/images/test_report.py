"""The report on a trained model: bits against a closed form, copies that are there, the command."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_lite import bits_per_dim, dequantise
from ddpm_lite.images import evaluate, report, sampling, shipped
from ddpm_lite.images.checkpoints import Trained
from ddpm_lite.images.data import Images, as_float, as_levels, load
from ddpm_lite.rng import derived_seed


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_bits_of_a_gaussian(gaussian: Trained) -> None:
    """Data N(m_k, .2^2): the density of each dequantised image is known, and the bound lies above it."""
    labels = torch.arange(600) % 3
    m = ((labels - 1) / 2)[:, None, None, None]
    pixels = as_levels((m + 0.2 * torch.randn(600, 1, 4, 4, generator=seeded(0))).clamp(-1, 1))
    found = report.bits(gaussian, Images(pixels, labels, ("a", "b", "c")), 600, seed=5)
    spread = dequantise(as_float(pixels), 256, generator=seeded(derived_seed(5, report.SPREAD))).double()
    nats = 0.5 * ((spread - m) / 0.2).square().flatten(1).sum(1) + 16 * math.log(0.2 * math.sqrt(2 * math.pi))
    exact = bits_per_dim(nats, (1, 4, 4), levels=256)
    assert found["ode_bits"] == pytest.approx(exact.mean().item(), abs=2e-3)
    assert found["ode_bits_error"] == pytest.approx(exact.std().item() / math.sqrt(600), rel=0.02)
    # 1,000 steps cost about .07 bits; the standard error is .011, most of it from the last step
    assert 0 < found["bound_bits"] - exact.mean().item() < 0.14
    without = replace(gaussian.config.network, classes=0)
    blind = gaussian._replace(config=replace(gaussian.config, network=without))
    assert report.bits(blind, Images(pixels, labels), 600, seed=5)["ode_bits"] > found["ode_bits"] + 1


def test_copies_stand_below_their_samples() -> None:
    train = load("digits")
    picture = np.asarray(report.copies(train.pixels[[5, 900, 33]], train))
    whole = np.asarray(sampling.grid(train.pixels[[5, 900, 33, 5, 900, 33]], levels=17, columns=10))
    assert np.array_equal(picture, whole)


def test_the_report_is_made_of_its_parts() -> None:
    found = report.evaluate("digits", n=200, bits_of=20, seed=3, guidance=2.0)
    trained, reader = shipped.load("digits"), shipped.load_classifier("digits")
    train, test = load("digits"), load("digits", split="test")
    labels = torch.arange(200) % 10
    pixels = sampling.sample_images(trained, 200, labels=labels, seed=3, guidance=2.0)
    parts = evaluate.quality(reader, pixels, labels, train, test)._asdict()
    assert {name: found["measured"][name] for name in parts} == pytest.approx(parts, rel=1e-6)
    assert (found["n"], found["seed"], found["guidance"], found["sampler"]) == (200, 3, 2.0, "dpmpp")


def test_the_command_prints_and_writes_the_measures(tmp_path: Path) -> None:
    order = [sys.executable, "-m", "ddpm_lite", "evaluate", "digits", "--n", "40", "--bits", "0", "--steps", "6"]
    files = ["--output", str(tmp_path / "a.json"), "--pairs", str(tmp_path / "a.png")]
    done = subprocess.run([*order, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((tmp_path / "a.json").read_text())
    assert "ode_bits" not in json.loads(done.stdout)["measured"]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (10 * 58 + 2, 4 * 58 + 2)
    refused = subprocess.run([*order[:4], "nothing", "--n", "5"], capture_output=True, text=True)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "there is no model nothing: use digits, a state or the folder of a run" in refused.stderr
