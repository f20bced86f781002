"""One instance of every live figure, as its chapter makes it."""

from __future__ import annotations

from functools import cache

import torch

import ddpm_lite as dl
from ddpm_lite import book, live
from ddpm_lite.live.coarse import band_waves
from ddpm_lite.nets import MLP, MLPConfig


@cache
def digit_chains() -> tuple[torch.Tensor, ...]:
    """Chapter 12's chains of the network that it ships, three of 400, and the shares that are fixed in all of them."""
    net = MLP(MLPConfig(dim=64, width=320, coordinate_waves=0)).eval().requires_grad_(False)
    net.load_state_dict(book.checkpoint("12_digits", dict))
    path, ts = dl.RectifiedFlow(), dl.linear_ts(50)
    den = dl.Denoiser(net, path, "velocity")
    noise = torch.randn(400, 64, generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        states = list(dl.iterate(dl.ddim_step, den, path, noise, ts, eta=1.0, generator=generator))
        estimates = [*(den(x, t).x0 for x, t in zip(states[:-1], ts[:-1], strict=True)), states[-1]]
    curves = torch.stack([shares(estimate, states[-1]) for estimate in estimates[::2]])
    images = dl.digits()[0]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(13))
    chains = (torch.stack(x[::2], 1)[[2, 22, 36]].view(3, -1, 8, 8) for x in (states, estimates))
    return (*chains, curves, images[order[:1400]].mean(0)[0])


def shares(estimate: torch.Tensor, final: torch.Tensor) -> torch.Tensor:
    """By band, the share of the variance over images that an estimate has right."""
    parts = []
    for waves in band_waves():
        e, f = estimate.double() @ waves.T, final.double() @ waves.T
        parts.append(1 - (e - f).square().sum() / (f - f.mean(0)).square().sum())
    return torch.stack(parts)


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
            live.CoarseToFine(*digit_chains()),
            live.ObservedPair(),
            live.GuidanceScale(),
            live.CrossingPairs(),
            live.LatentWays(u=0.5),
        )
    }
