"""The same betas, noise and network through diffusers: its index i is our t = (i + 1)/T."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from worlds import normal, random_mixture, seeded

import ddpm_lite as dl

STEPS = 100
PATH = dl.BetaTable(dl.linear_betas(STEPS, start=1e-3, end=0.2))
DEN = random_mixture(2).denoiser(PATH)
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
each_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)


def scheduler(cls, **options):
    """One of theirs on our betas, its float32 table replaced by the float64 one."""
    theirs = cls(num_train_timesteps=STEPS, trained_betas=PATH.betas.tolist(), **options)
    theirs.betas = PATH.betas
    theirs.alphas = 1 - PATH.betas
    theirs.alphas_cumprod = torch.cumprod(theirs.alphas, 0)
    return theirs


def output(x, index, prediction):
    t = (int(index) + 1) / STEPS
    return dl.encode(DEN(x, t), PATH.at(t, x), PREDICTIONS[prediction])


def test_add_noise_and_velocity():
    theirs, i = scheduler(DDPMScheduler), torch.tensor([0, 1, 50, 99])
    x0, x1, t = normal(0, 4, 2), normal(1, 4, 2), (torch.tensor([0, 1, 50, 99]) + 1).double() / STEPS
    torch.testing.assert_close(PATH.mix(x0, x1, t), theirs.add_noise(x0, x1, i), rtol=1e-9, atol=1e-9)
    v = dl.encode(dl.Estimate(x0, x1), PATH.at(t, x0), "v")
    torch.testing.assert_close(v, theirs.get_velocity(x0, x1, i), rtol=1e-9, atol=1e-9)


@each_prediction
@pytest.mark.parametrize(
    ("theirs_variance", "ours_variance"), [("fixed_small", "posterior"), ("fixed_large", "forward")]
)
def test_ddpm(prediction, theirs_variance, ours_variance):
    """Every step from T to 0, the same noise from a common generator."""
    theirs = scheduler(DDPMScheduler, prediction_type=prediction, variance_type=theirs_variance, clip_sample=False)
    ts = dl.linear_ts(STEPS)
    x = y = normal(2, 5, 2)
    ours, other = seeded(1), seeded(1)
    for index, t, s in zip(reversed(range(STEPS)), ts[:-1], ts[1:], strict=True):
        x = dl.ancestral_step(DEN, PATH, x, t, s, variance=ours_variance, generator=ours)
        y = theirs.step(output(y, index, prediction), index, y, generator=other).prev_sample
        torch.testing.assert_close(x, y, rtol=1e-7, atol=1e-7)


@each_prediction
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(prediction, eta):
    theirs = scheduler(
        DDIMScheduler, prediction_type=prediction, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    theirs.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    theirs.set_timesteps(20)
    ts = dl.linear_ts(20)
    assert theirs.timesteps.tolist() == [round(t * STEPS) - 1 for t in ts[:-1].tolist()]
    x = y = normal(3, 5, 2)
    for index, t, s in zip(theirs.timesteps, ts[:-1], ts[1:], strict=True):
        z = torch.randn(5, 2, generator=seeded(int(index)), dtype=torch.float64)
        x = dl.ddim_step(DEN, PATH, x, t, s, eta=eta, generator=seeded(int(index)))
        noise = {"eta": eta, "variance_noise": z if eta else None}
        y = theirs.step(output(y, index, prediction), int(index), y, **noise).prev_sample
        torch.testing.assert_close(x, y, rtol=1e-7, atol=1e-7)


@each_prediction
@pytest.mark.parametrize("n", [5, 20, 33])
def test_dpm_solver_pp_2m(prediction, n):
    """Order 2, midpoint, the last step to sigma = 0 of order 1. Theirs holds the sample in float32, hence 1e-6."""
    theirs = scheduler(
        DPMSolverMultistepScheduler,
        prediction_type=prediction,
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        solver_order=2,
        final_sigmas_type="zero",
        timestep_spacing="linspace",
    )
    theirs.set_timesteps(n)
    t = (theirs.timesteps + 1).double() / STEPS
    c = PATH.coefs(t)
    theirs.sigmas = torch.cat([c.sigma / c.alpha, torch.zeros(1, dtype=torch.float64)])  # theirs are float32
    x = y = normal(4, 5, 2)
    for index in theirs.timesteps:
        y = theirs.step(output(y, index, prediction), index, y).prev_sample
    *_, x = dl.dpmpp_2m(DEN, PATH, x, torch.cat([t, torch.zeros(1, dtype=torch.float64)]))
    torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6)


def test_their_float32_sigmas_are_ours():
    """What the test above replaces was the same to float32."""
    theirs = scheduler(DPMSolverMultistepScheduler, final_sigmas_type="zero")
    theirs.set_timesteps(20)
    c = PATH.coefs((theirs.timesteps + 1).double() / STEPS)
    torch.testing.assert_close(theirs.sigmas[:-1].double(), c.sigma / c.alpha, rtol=1e-5, atol=0)


@pytest.mark.parametrize("steps", [1000])
def test_the_default_table_is_theirs(steps):
    theirs = DDPMScheduler(num_train_timesteps=steps, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    ours = dl.BetaTable(dl.linear_betas(steps)).coefs(torch.arange(1, steps + 1).double() / steps)
    torch.testing.assert_close(ours.alpha**2, theirs.alphas_cumprod.double(), rtol=1e-4, atol=1e-7)
