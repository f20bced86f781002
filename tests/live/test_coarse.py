"""Chapter 12's figure: its bands are an orthonormal transform, its shares end at 1, and other shapes are refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from node import run_js
from scipy.fft import dctn

import ddpm_lite as dl
from ddpm_lite import live
from ddpm_lite.live.coarse import BANDS, EDGES, band_waves


def gaussian_chains(n: int = 26) -> tuple[torch.Tensor, ...]:
    """Reverse chains towards the Gaussian of the digits with the exact denoiser, as `live.CoarseToFine` takes them."""
    digits, path, ts = dl.digits()[0].double().flatten(1), dl.RectifiedFlow(), dl.linear_ts(n - 1)
    cov = torch.cov(digits.T) + 1e-4 * torch.eye(64, dtype=torch.float64)
    den = dl.GaussianMixture([1.0], digits.mean(0)[None], cov[None]).denoiser(path)
    g = torch.Generator().manual_seed(12)
    noise = torch.randn(3, 64, generator=g, dtype=torch.float64)
    states = list(dl.iterate(dl.ddim_step, den, path, noise, ts, eta=1.0, generator=g))
    estimates = [*(den(x, t).x0 for x, t in zip(states, ts[:-1], strict=False)), states[-1]]
    curves = (1 - ts)[:, None] ** torch.tensor([1.0, 1.0, 2.0, 3.0])
    images = (torch.stack(x, 1).view(3, n, 8, 8) for x in (states, estimates))
    return (*images, curves, digits.mean(0).view(8, 8))


@pytest.fixture(scope="module")
def figure() -> live.CoarseToFine:
    return live.CoarseToFine(*gaussian_chains())


def scipy_shares(figure: live.CoarseToFine, chain: int, i: int) -> list[float]:
    """By another transform: scipy's."""
    k = np.arange(8)
    radius = np.hypot(k[:, None], k)
    end = figure.states[chain, -1].numpy()
    wrong = dctn(figure.estimates[chain, i].numpy() - end, norm="ortho") ** 2
    whole = dctn(end - figure.mean.numpy(), norm="ortho") ** 2
    bands = [(radius >= a) & (radius < b) for a, b in pairwise(EDGES)]
    return [max(0.0, 1 - wrong[band].sum() / whole[band].sum()) for band in bands]


@pytest.mark.parametrize("t", [0.88, 0.4, 0.12])
def test_the_shares_are_those_of_scipys_transform(figure: live.CoarseToFine, t: float) -> None:
    told = figure.truth({"chain": "1", "t": t})
    assert [told[name] for name in BANDS] == pytest.approx(scipy_shares(figure, 1, round((1 - t) * 25)), abs=1e-9)
    assert max(told[name] for name in BANDS) > 0.01


@pytest.mark.needs("node")
def test_the_module_shows_the_images_of_the_chain(figure: live.CoarseToFine) -> None:
    script = 'return (await load("coarse")).default.spec.compute(inputs.state, inputs.data);'
    world = run_js(script, {"state": {"chain": "2", "t": 0.6}, "data": figure.data})
    assert world["images"]["now"] == figure.states[2, 10].flatten().tolist()
    assert world["images"]["estimate"] == figure.estimates[2, 10].flatten().tolist()
    assert world["images"]["end"] == figure.states[2, -1].flatten().tolist()
    assert world["fixed"] == pytest.approx(scipy_shares(figure, 2, 10), abs=1e-9)


def test_the_bands_hold_every_wave_but_the_mean_once() -> None:
    waves = torch.cat(band_waves())
    assert waves.shape == (63, 64)
    assert torch.allclose(waves @ waves.T, torch.eye(63, dtype=torch.float64), atol=1e-12)
    assert waves.sum(1).abs().max() < 1e-12


def test_at_the_end_all_is_fixed(figure: live.CoarseToFine) -> None:
    told = figure.truth({"chain": "0", "t": 0.0})
    assert [told[name] for name in BANDS] == [1.0] * 4


def test_other_shapes_are_refused() -> None:
    states, estimates, curves, mean = gaussian_chains()
    with pytest.raises(ValueError, match=r"states has shape \(2, 26, 8, 8\)"):
        live.CoarseToFine(states[:2], estimates, curves, mean)
    with pytest.raises(ValueError, match=r"estimates has shape \(3, 25, 8, 8\)"):
        live.CoarseToFine(states, estimates[:, 1:], curves, mean)
    with pytest.raises(ValueError, match=r"curves has shape \(26, 3\)"):
        live.CoarseToFine(states, estimates, curves[:, :3], mean)
    with pytest.raises(ValueError, match=r"mean has shape \(1, 8, 8\)"):
        live.CoarseToFine(states, estimates, curves, dl.digits()[0][0])
