"""Features of time and class against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddpm_lite.nets import ClassEmbedding, Sinusoidal


def test_sinusoidal_against_numpy():
    t = torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = Sinusoidal(8, low=0.5, high=40.0)(t.float()).numpy()
    omega = np.geomspace(0.5, 40.0, 4)
    angle = t.numpy()[..., None] * omega
    assert got.shape == (3, 5, 8)
    np.testing.assert_allclose(got, np.concatenate([np.cos(angle), np.sin(angle)], -1), atol=1e-5)


def test_default_frequencies_are_those_of_ddpm():
    # DDPM: cos and sin of (1000 t) 10000^(-k/(K-1)), of which ours keeps 1000 down to 1
    t, k = 0.3, np.arange(5)
    ours = Sinusoidal(10)(torch.tensor([t]))[0].numpy()
    angle = 1000 * t * 1000.0 ** (-k[::-1] / 4)
    np.testing.assert_allclose(ours, np.concatenate([np.cos(angle), np.sin(angle)]), atol=2e-5)


def test_two_features_use_the_low_frequency():
    got = Sinusoidal(2, low=3.0, high=9.0)(torch.tensor([0.7]))
    assert torch.allclose(got, torch.tensor([[np.cos(2.1), np.sin(2.1)]], dtype=torch.float32), atol=1e-6)


@pytest.mark.parametrize(("size", "low", "high"), [(3, 1, 2), (0, 1, 2), (4, 0, 2), (4, 3, 2)])
def test_bad_sizes(size, low, high):
    with pytest.raises(ValueError, match="size must be even"):
        Sinusoidal(size, low=low, high=high)


def test_no_class_is_the_last_row():
    torch.manual_seed(0)
    embed = ClassEmbedding(4, 6)
    assert embed.table.weight.shape == (5, 6)
    assert torch.equal(embed(None, 3), embed(torch.tensor([4, 4, 4]), 3))
    assert torch.equal(embed(torch.tensor([2, 0]), 2), embed.table.weight[[2, 0]])


@pytest.mark.parametrize(
    ("cond", "words"),
    [
        (torch.tensor([5, 0]), r"0\.\.4, 4 for no class"),
        (torch.tensor([-1, 0]), r"0\.\.4"),
        (torch.tensor([0.0, 1.0]), "one integer label"),
        (torch.tensor([True, False]), "one integer label"),
        (torch.tensor([0]), r"shape \(2,\)"),
        (torch.tensor([[0], [1]]), r"shape \(2,\)"),
    ],
)
def test_bad_labels(cond, words):
    with pytest.raises(ValueError, match=words):
        ClassEmbedding(4, 6)(cond, 2)
