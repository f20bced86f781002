"""The particles of chapter 3: the package's steps, the exact density by scipy, and what the handles do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from node import run_js
from scipy.integrate import dblquad, quad

import ddpm_lite as dl
from ddpm_lite import live
from ddpm_lite.live.particles import WIDTH, boltzmann, energy_of, langevin_step, mala_step, noise_of, particles

FIGURE = live.EnergyParticles()
WELLS = {"x": [-1.5, 0.2, 1.9], "y": [-1.0, 1.3, 0.4], "depth": [3.0, -1.5, 2.0], "T": 0.8}
needs_node = pytest.mark.needs("node")
each_dim = pytest.mark.parametrize("dim", ["line", "plane"])


def state(**change: Any) -> dict[str, Any]:
    return {**FIGURE.state, **change}


def by_hand(u: float, v: float | None) -> float:
    """The energy of WELLS over T, written out."""
    bumps = sum(
        d * math.exp(-((u - a) ** 2 + (0 if v is None else (v - b) ** 2)) / (2 * WIDTH**2))
        for a, b, d in zip(WELLS["x"], WELLS["y"], WELLS["depth"], strict=True)
    )
    return (u * u / 2 + (0 if v is None else v * v / 2) - bumps) / WELLS["T"]


@each_dim
def test_the_energy_is_a_bowl_minus_wells(dim: str) -> None:
    x = torch.randn(20, 1 if dim == "line" else 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = [by_hand(row[0], row[1] if len(row) == 2 else None) for row in x.tolist()]
    assert energy_of(state(dim=dim, **WELLS))(x).tolist() == pytest.approx(wanted, rel=1e-12)


def test_the_exact_density_on_the_line_is_that_of_adaptive_quadrature() -> None:
    truth = FIGURE.truth(state(**WELLS))
    Z, mean, square = (quad(lambda u, k=k: u**k * math.exp(-by_hand(u, None)), -10, 10, limit=200)[0] for k in range(3))
    assert truth["Z"] == pytest.approx(Z, rel=1e-8)
    assert truth["exact_mean"] == pytest.approx(mean / Z, abs=1e-8)
    assert truth["exact_variance"] == pytest.approx(square / Z - (mean / Z) ** 2, rel=1e-7)


def test_the_exact_density_in_the_plane_is_that_of_adaptive_quadrature() -> None:
    truth = FIGURE.truth(state(dim="plane", **WELLS))
    Z = dblquad(lambda v, u: math.exp(-by_hand(u, v)), -8, 8, -8, 8, epsabs=1e-7)[0]
    mean = dblquad(lambda v, u: u * math.exp(-by_hand(u, v)), -8, 8, -8, 8, epsabs=1e-7)[0]
    assert truth["Z"] == pytest.approx(Z, rel=1e-6)
    assert truth["exact_mean"] == pytest.approx(mean / Z, abs=1e-6)


@each_dim
def test_a_step_is_the_packages_step_with_the_noise_given(dim: str) -> None:
    energy, generator = energy_of(state(dim=dim, **WELLS)), torch.Generator()
    x = noise_of(dim, 0).start
    z = dl.randn_like(x, generator=generator.manual_seed(1))
    plain = dl.langevin(dl.score_of(energy), x, step=0.1, n=1, generator=generator.manual_seed(1))
    assert torch.allclose(langevin_step(energy, x, 0.1, z).detach(), plain, rtol=0, atol=1e-12)
    tested, kept = dl.mala(lambda y: -energy(y), x, step=0.6, n=1, generator=generator.manual_seed(1))
    dl.randn_like(x, generator=generator.manual_seed(1))
    u = dl.uniform_t(len(x), generator=generator, dtype=torch.float64)
    mine, keep = mala_step(energy, x, 0.6, z, u)
    assert torch.allclose(mine.detach(), tested, rtol=0, atol=1e-12)
    assert keep.tolist() == (kept == 1).tolist()
    assert 0.1 < keep.double().mean() < 0.95


@needs_node
@each_dim
@pytest.mark.parametrize("move", ["langevin", "mala"])
def test_every_particle_is_where_the_package_puts_it(dim: str, move: str) -> None:
    """Also after the clock ran back, after another setting in between, and where the steps are chaotic."""
    chaotic = {**WELLS, "depth": [5.0, 4.0, 5.0], "T": 0.25, "step": 0.5}
    settings = [state(dim=dim, move=move, n=n, **{"step": 0.05, **WELLS}) for n in (40, 120)]
    settings += [state(dim=dim, move=move, n=60, **chaotic), settings[0]]
    script = """
      const { spec } = (await load("particles")).default;
      return inputs.settings.map((s) => Array.from(spec.compute(s, inputs.data).points));
    """
    found = run_js(script, {"settings": settings, "data": FIGURE.data})
    for setting, points in zip(settings, found, strict=True):
        assert np.abs(np.array(points) - particles(setting)[0].flatten().numpy()).max() < 1e-9


def test_the_noise_is_drawn_start_first_then_normals_and_uniforms() -> None:
    noise, rng = noise_of("plane", 2), np.random.RandomState(FIGURE.data["seed"])
    assert np.allclose(noise.start, -2 + 0.2 * rng.standard_normal((600, 2)))
    for z, u in zip(noise.z, noise.u, strict=True):
        assert np.array_equal(z, rng.standard_normal((600, 2)))
        assert np.array_equal(u, 1 - rng.random_sample(600))


@pytest.mark.parametrize("step", [0.1, 0.25, 0.5, 1.0])
def test_the_thousand_particles_are_typical(step: float) -> None:
    """The bias is larger than chance: the sample variance of n draws has the relative error sqrt(2 / (n - 1))."""
    found = particles(state(step=step, n=300))[0].var().item()
    assert found == pytest.approx(1 / (1 - step / 2), rel=1.5 * math.sqrt(2 / 999))


def test_the_reply_tells_the_variance_of_the_question() -> None:
    assert FIGURE.question is not None
    assert f"{1 / (1 - FIGURE.state['step'] / 2):.4f}" in FIGURE.question.reply
    assert particles(state(n=300))[0].var() > 1.2
    assert abs(particles(state(n=300, move="mala"))[0].var() - 1) < 0.1


@needs_node
def test_the_handles_edit_the_energy() -> None:
    """On the line the curve passes through the place that a handle was moved to; in the plane a well follows it."""
    script = """
      const { spec } = (await load("particles")).default;
      return inputs.states.map((s) => {
        const list = spec.handles(spec.compute(s, inputs.data), s, inputs.data);
        return list.map((each) => ({ ...each, moved: each.move(...inputs.to) }));
      });
    """
    states, to = [state(**WELLS), state(dim="plane", **WELLS)], [0.7, -1.0]
    line, plane = run_js(script, {"states": states, "data": FIGURE.data, "to": to})
    for k, each in enumerate(line):
        assert each["y"] == pytest.approx(WELLS["T"] * by_hand(WELLS["x"][k], None))
        moved = {**states[0], **each["moved"]}
        FIGURE.check(moved)
        energy = moved["T"] * energy_of(moved)(torch.tensor([[0.7]], dtype=torch.float64)).item()
        assert energy == pytest.approx(-1.0, abs=2e-3)
    assert [(each["x"], each["y"]) for each in plane[:3]] == list(zip(WELLS["x"], WELLS["y"], strict=True))
    assert [each["moved"]["y"][k] for k, each in enumerate(plane[:3])] == [-1.0] * 3
    for k, each in enumerate(plane[3:]):
        assert each["moved"]["depth"][k] == pytest.approx(np.clip((-1.0 - WELLS["y"][k]) / 0.3, -3, 5), abs=1e-3)


def test_the_density_is_normalised() -> None:
    axis, density, _ = boltzmann(state(dim="plane", **WELLS))
    assert (density.sum() * (axis[1] - axis[0])).item() == pytest.approx(1, rel=1e-12)
