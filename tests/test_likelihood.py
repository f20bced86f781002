"""Bits a dimension against a histogram whose entropy is known."""

from __future__ import annotations

import math

import pytest
import torch

import ddpm_lite as dl


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("shape", [(1,), (2,), (3, 4, 4)], ids=str)
def test_uniform_levels_cost_log2_levels(levels, shape):
    """Uniform over the levels: density 1/2 a dimension on [-1, 1], and log2(levels) bits."""
    nats = torch.full((4,), math.prod(shape) * math.log(2.0), dtype=torch.float64)
    bits = dl.bits_per_dim(nats, shape, levels=levels)
    assert bits.shape == (4,)
    torch.testing.assert_close(bits, torch.full((4,), math.log2(levels), dtype=torch.float64))


def test_a_histogram_costs_its_entropy():
    """Probabilities 1/2, 1/4, 1/4 over three levels cost 1.5 bits a pixel: density p / (2/3) in each level's bin."""
    p = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    nats = -(p * torch.log(p / (2 / 3))).sum() * 12
    assert dl.bits_per_dim(nats, (3, 2, 2), levels=3).item() == pytest.approx(1.5, rel=1e-14)


def test_256_levels_add_7_bits():
    assert dl.bits_per_dim(torch.zeros(1), (3, 32, 32), levels=256).item() == 7
