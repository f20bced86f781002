"""The measures that need a GPU, in small: every part runs where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import gpu
import pytest
import torch


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, gpu.__file__, *map(str, words)], capture_output=True, text=True)


def test_every_part_runs_in_small(tmp_path):
    output, folder = tmp_path / "gpu.json", tmp_path / "run"
    done = run("--smoke", "--output", output, "--runs", folder)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text(encoding="utf-8"))
    names = ["U-Net", "DiT", *(["diffusers UNet2DModel"] if find_spec("diffusers") else [])]
    variants = gpu.variants("cuda" if torch.cuda.is_available() else "cpu")
    found = [(row["network"], row["variant"]) for row in result["speed"] if "failed" not in row]
    assert found == [(name, variant) for name in names for variant in variants]
    for row in result["speed"]:
        rate = row["images_a_second"] * row["operations_an_image"]
        assert row["of_product"] == pytest.approx(rate / result["product"])
    assert {row["operations_an_image"] for row in result["speed"] if row["network"] == "DiT"} == {operations_of_dit()}
    model = result["model"]["measures"]
    assert model["n"] == 20
    assert model["measured"]["frechet"] > model["measured"]["floor"] > 0  # one step of training makes no digits
    assert (folder / "step_00000001.safetensors").exists()


def operations_of_dit() -> int:
    """By hand: 16 tokens of width 16 from patches of 12 numbers, one block; two operations a product."""
    n, w, patch = 16, 16, 12
    block = 12 * n * w * w + 2 * n * n * w + 6 * w * w  # projections, attention, modulation
    rest = 2 * w * w + n * w * patch + w * w  # modulation, last layer, second layer of the time
    first = n * w * patch + w * w  # patches and the time itself need no gradient
    return 2 * (3 * (block + rest) + 2 * first)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    done = run()
    assert done.returncode == 1
    assert done.stderr == "This needs a GPU, and torch.cuda finds none. --smoke runs it on tiny sizes anywhere.\n"
