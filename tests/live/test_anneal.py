"""The swarms of chapter 6: the package's steps, particle by particle, and what the reply says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from node import run_js

import ddpm_lite as dl
from ddpm_lite import live
from ddpm_lite.live.anneal import RATE, STEPS, ladder, langevin_step, level_at, noise_of, swarms, world_of

FIGURE = live.AnnealedParticles()
needs_node = pytest.mark.needs("node")


def state(**change: Any) -> dict[str, Any]:
    return {**FIGURE.state, **change}


@pytest.mark.parametrize("sigma", [0.0, 0.1, 3.0])
def test_a_step_is_the_packages_step_with_the_noise_given(sigma: float) -> None:
    world, x = world_of(0.8), noise_of(0).start
    z = dl.randn_like(x, generator=torch.Generator().manual_seed(1))
    # noise of variance sigma^2 widens the modes
    wide = dl.GaussianMixture(world.weights, world.means, world.covs + sigma**2 * torch.eye(2))
    wanted = dl.langevin(wide.score, x, step=0.3, n=1, generator=torch.Generator().manual_seed(1))
    assert (langevin_step(world, x, sigma, 0.3, z) - wanted).abs().max() < 1e-6  # positions are rounded to 2^-20


def test_the_swarm_is_the_packages_annealed_langevin() -> None:
    """With noise of the package, the figure's schedule gives the figure's share within five standard errors."""
    world, path, g = world_of(0.8), dl.VE(0.1, 20.0), torch.Generator().manual_seed(2)
    x = 20 * torch.randn(4000, 2, generator=g, dtype=torch.float64)
    end = dl.annealed_langevin(
        world.denoiser(path), path, x, dl.linear_ts(19), n=20, step=lambda c: RATE * (1 + c.sigma**2), generator=g
    )
    share = (end.sum(1) > 0).double().mean().item()
    found = swarms(state(n=400)).annealed_shares[-1]
    assert abs(found - share) < 5 * (share * (1 - share) * (1 / 500 + 1 / 4000)) ** 0.5


def test_the_ladder_has_one_ratio_and_equal_parts_of_the_steps() -> None:
    assert np.allclose(ladder(20.0, 8), np.geomspace(20, 0.1, 8))
    for levels in (2, 4, 8, 20, 40):
        counts = np.bincount([level_at(k, levels) for k in range(STEPS)])
        assert counts.tolist() == [STEPS // levels] * levels


@needs_node
@pytest.mark.parametrize("change", [{}, {"levels": 4, "largest": 2.0, "share": 0.3}])
def test_every_particle_is_where_the_package_puts_it(change: dict[str, Any]) -> None:
    """Also after the clock ran back."""
    settings = [state(n=n, **change) for n in (150, 400, 150)]
    script = """
      const { spec } = (await load("anneal")).default;
      return inputs.settings.map((s) => {
        const { plain, annealed } = spec.compute(s, inputs.data);
        return [Array.from(plain), Array.from(annealed)];
      });
    """
    found = run_js(script, {"settings": settings, "data": FIGURE.data})
    for setting, (plain, annealed) in zip(settings, found, strict=True):
        wanted = swarms(setting)
        assert np.abs(np.array(plain) - wanted.plain.flatten().numpy()).max() < 1e-9
        assert np.abs(np.array(annealed) - wanted.annealed.flatten().numpy()).max() < 1e-9


def test_the_reply_is_what_happens() -> None:
    assert FIGURE.question is not None
    assert FIGURE.question.options[FIGURE.question.answer] == "about 1/2"
    end = swarms(state(n=400))
    assert end.plain_shares[-1] == pytest.approx(0.5, abs=0.05)
    assert end.annealed_shares[-1] == pytest.approx(0.78, abs=0.005)  # the reply has two digits
    assert swarms(state(n=400, levels=2)).annealed_shares[-1] < 0.7
    assert swarms(state(n=400, largest=1.0)).annealed_shares[-1] < 0.7
