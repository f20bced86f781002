"""A trained model whose answers are known: the exact denoiser of a Gaussian."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ddpm_lite.images.checkpoints import Format, Trained
from ddpm_lite.images.config import Config, override
from ddpm_lite.predict import Preconditioned

FORM = Format((1, 4, 4), 256, ("a", "b", "c"))


class Gaussian(nn.Module):
    """EDM's F for data N(m_k, s^2) at each pixel, m_k = (k - 1) / 2 for class k and 0 for no class, s = .2, sd = .5.

    D = m + s^2 / (s^2 + sigma^2) (x - m), F = (D - c_skip x) / c_out; the input is x / sqrt(sigma^2 + sd^2), the time
    log(sigma) / 4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        sigma, sd = (4 * t).exp()[:, None, None, None], 0.5
        x = x * (sigma**2 + sd**2).sqrt()
        m = 0.0 if cond is None else (cond[:, None, None, None] - 1) / 2
        denoised = m + 0.04 / (0.04 + sigma**2) * (x - m)
        skip, out = sd**2 / (sigma**2 + sd**2), sigma * sd / (sigma**2 + sd**2).sqrt()
        return (denoised - skip * x) / out + 0 * self.anchor


@pytest.fixture(scope="session")
def gaussian() -> Trained:
    config = override(Config(sigma_data=0.5), ["network.classes=3"])
    return Trained(Preconditioned(Gaussian(), config.noise_path(), 0.5).eval(), config, FORM)
