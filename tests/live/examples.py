"""One instance of every live figure, as its chapter makes it."""

from __future__ import annotations

import torch

import ddpm_lite as dl
from ddpm_lite import live


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
        )
    }
