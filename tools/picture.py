"""The picture of the README: the book's mixture turns into noise, and a sampler turns noise into the mixture."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

import ddpm_lite as dl

PICTURE = Path(__file__).parents[1] / "book" / "_static" / "readme.png"
TIMES = (0.0, 0.15, 0.35, 0.6, 1.0)


def draw() -> plt.Figure:
    generator = torch.Generator().manual_seed(0)
    world, path = dl.book_mixture(2), dl.Cosine()
    x0, x1 = world.sample(600, generator=generator), path.prior((600, 2), generator=generator)
    ts = dl.linear_ts(100)
    states = list(dl.iterate(dl.ancestral_step, world.denoiser(path), path, x1, ts, generator=generator))
    fig, axes = plt.subplots(2, len(TIMES), figsize=(9, 4), sharex=True, sharey=True)
    for t, forward, back in zip(TIMES, axes[0], axes[1, ::-1], strict=True):
        at_t = max(t, 1e-4)
        for ax, x, color in (
            (forward, path.mix(x0, x1, t), dl.PALETTE.blue),
            (back, states[round(100 * (1 - t))], dl.PALETTE.vermilion),
        ):
            dl.scatter(ax, x, color=color, size=2.5)
            dl.density(ax, lambda points, at_t=at_t: world.log_prob(points, path, at_t), levels=5)
            ax.set(xticks=[], yticks=[], xlim=(-3, 3), ylim=(-3, 3), title=f"t = {t:g}")
    axes[0, 0].set_ylabel("noising")
    axes[1, 0].set_ylabel("sampling")
    return fig


if __name__ == "__main__":
    plt.rcParams.update(dl.STYLE)
    draw().savefig(PICTURE, dpi=110)
