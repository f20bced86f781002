"""Random numbers: the generator decides, and nothing else is touched."""

from __future__ import annotations

import pytest
import torch
from worlds import seeded, within_law

import ddpm_lite as dl

TIMES = {
    "uniform": dl.uniform_t,
    "stratified": dl.stratified_t,
    "discrete": dl.discrete_t(7),
    "lognormal": dl.lognormal_t(dl.EDM()),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5, 2), (2, 3, 4, 4), (3, 1)])
def test_randn_like_is_torchs_draw_from_the_generator(shape, dtype):
    x = torch.zeros(shape, dtype=dtype)
    z = dl.randn_like(x, generator=seeded(3))
    assert torch.equal(z, torch.randn(shape, generator=seeded(3), dtype=dtype))
    assert z.dtype == dtype


def test_randn_like_without_a_generator_uses_the_global_one():
    torch.manual_seed(11)
    z = dl.randn_like(torch.zeros(4, 2))
    torch.manual_seed(11)
    assert torch.equal(z, torch.randn(4, 2))


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
def test_an_explicit_generator_leaves_the_global_state_alone(times):
    state = torch.get_rng_state()
    first, again, other = (times(64, generator=seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_successive_draws_differ():
    generator = seeded(0)
    x = torch.zeros(4, 2)
    assert not torch.equal(dl.randn_like(x, generator=generator), dl.randn_like(x, generator=generator))


def test_normal_law():
    """False-alarm rate 1e-6."""
    z = dl.randn_like(torch.zeros(20_000, 1, dtype=torch.float64), generator=seeded(1))
    assert within_law(z.flatten(), lambda v: torch.special.ndtr(torch.from_numpy(v)).numpy())


@pytest.mark.parametrize("times", [dl.uniform_t, dl.stratified_t])
def test_uniform_law_on_the_half_open_interval(times):
    """False-alarm rate 1e-6."""
    t = times(20_000, generator=seeded(2), dtype=torch.float64)
    assert t.shape == (20_000,)
    assert t.dtype == torch.float64
    assert within_law(t, lambda v: v)
    assert t.min() > 0
    assert t.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("times", [dl.uniform_t, dl.stratified_t])
def test_time_zero_never_comes_even_at_the_ends_of_torchs_draw(times, dtype, monkeypatch):
    for end in (0.0, 1 - 2.0**-24 if dtype == torch.float32 else 1 - 2.0**-53):
        monkeypatch.setattr(torch, "rand", lambda n, end=end, **kw: torch.full((n,), end, dtype=dtype))
        t = times(8, dtype=dtype)
        assert (t > 0).all()
        assert (t <= 1).all()


def test_derived_seeds_are_unlike():
    """Streams of neighbouring seeds have no correlation: 40 x 40 pairs of 2,000 draws, false alarm below 1e-5."""
    rows, columns = ([(0, k) for k in range(40)], [(k, 0) for k in range(1, 41)])
    x, y = (
        torch.stack([torch.randn(2000, generator=seeded(dl.derived_seed(*n))) for n in row]) for row in (rows, columns)
    )
    assert (x @ y.T / 2000).abs().max() < 6 / 2000**0.5
    assert len({dl.derived_seed(a, b) for a in range(50) for b in range(50)}) == 2500
    with pytest.raises(ValueError, match="not negative"):
        dl.derived_seed(1, -1)
