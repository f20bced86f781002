"""One instance of every live figure, as its chapter makes it."""

from __future__ import annotations

import torch

import ddpm_lite as dl
from ddpm_lite import live


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


def examples() -> dict[str, live.Figure]:
    """The figures by the name of their module."""
    points = dl.book_mixture(1).sample(20, generator=torch.Generator().manual_seed(4))
    return {
        figure.module: figure
        for figure in (
            live.LikelihoodBowl(points),
            live.KLFit(),
            live.EnergyParticles(n=300),
            live.ReverseChain(t=0.0),
            live.NoiseSchedule(dl.digits()[0][0]),
            live.BentScore(),
            live.NoisyPoint(n=200),
            live.AnnealedParticles(n=400),
            live.MarginalFamily(t=0.0),
            live.FewSteps(),
            live.CarriedGrid(t=1.0),
            live.CoarseToFine(*gaussian_chains()),
        )
    }
