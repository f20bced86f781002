"""Every kind on every path: the pairwise formulas of the papers, one 2x2 solve, and where it is singular."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from worlds import KINDS, PATHS, normal, seeded, times

import ddpm_lite as dl

each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
SHAPES = [(4, 2), (3, 3), (2, 3, 4, 4)]
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def pair(path: dl.Path, t: float | torch.Tensor, shape: tuple[int, ...] = (4, 2)) -> tuple[dl.Estimate, torch.Tensor]:
    e = dl.Estimate(normal(1, *shape), normal(2, *shape))
    return e, path.mix(*e, t)


@each_path
@each_kind
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_decode_undoes_encode(path, kind, shape):
    for t in (0.3, torch.tensor(0.3, dtype=torch.float64), times(0, shape[0], 0.1, 0.9)):
        e, x = pair(path, t, shape)
        c = path.at(t, x)
        back = dl.decode(dl.encode(e, c, kind), x, c, kind)
        torch.testing.assert_close(back.x0, e.x0, **CLOSE)
        torch.testing.assert_close(back.eps, e.eps, **CLOSE)


@each_path
@each_kind
@given(t=st.floats(0.05, 0.95), x0=st.floats(-10, 10), eps=st.floats(-10, 10))
@settings(deadline=None, derandomize=True, max_examples=30)
def test_round_trip(path, kind, t, x0, eps):
    e = dl.Estimate(torch.full((1, 1), x0, dtype=torch.float64), torch.full((1, 1), eps, dtype=torch.float64))
    c = path.at(t, e.x0)
    back = dl.decode(dl.encode(e, c, kind), c.alpha * e.x0 + c.sigma * e.eps, c, kind)
    assert back.x0.item() == pytest.approx(x0, abs=1e-8)
    assert back.eps.item() == pytest.approx(eps, abs=1e-8)


@each_path
def test_the_papers_pairwise_formulas(path):
    t = times(1, 4, 0.1, 0.9)
    e, x = pair(path, t)
    c = path.at(t, x)
    a, s = c.alpha, c.sigma
    y = {name: dl.encode(e, c, kind) for name, kind in KINDS.items()}
    torch.testing.assert_close(y["score"], -e.eps / s, **CLOSE)
    torch.testing.assert_close((x + s**2 * y["score"]) / a, e.x0, **CLOSE)  # Tweedie
    torch.testing.assert_close((x - s * y["eps"]) / a, e.x0, **CLOSE)
    torch.testing.assert_close((x - a * y["x0"]) / s, e.eps, **CLOSE)
    torch.testing.assert_close(y["v"], a * e.eps - s * e.x0, **CLOSE)  # Salimans & Ho 2022
    torch.testing.assert_close((a * x - s * y["v"]) / (a**2 + s**2), e.x0, **CLOSE)
    torch.testing.assert_close((s * x + a * y["v"]) / (a**2 + s**2), e.eps, **CLOSE)
    f, g2 = path.drift(t, x), path.g2(t, x)
    torch.testing.assert_close(y["velocity"], f * x - g2 * y["score"] / 2, rtol=1e-8, atol=1e-8)  # Song et al., eq. 13


def test_velocity_of_the_straight_path():
    t = times(2, 4)
    e, x = pair(dl.RectifiedFlow(), t)
    u, column = dl.encode(e, dl.RectifiedFlow().at(t, x), "velocity"), t[:, None]
    torch.testing.assert_close(u, e.eps - e.x0)
    torch.testing.assert_close(x - column * u, e.x0)
    torch.testing.assert_close(x + (1 - column) * u, e.eps)


def edm_by_table_1(x, sigma, sigma_data):
    """Karras et al. 2022, Table 1: c_skip, c_out, c_in, c_noise."""
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / total**0.5, 1 / total**0.5, torch.log(sigma) / 4


@each_path
@pytest.mark.parametrize("sigma_data", [0.5, 0.3, 2.0])
def test_edm_is_the_papers_preconditioning(path, sigma_data):
    """D = c_skip x + c_out F in the frame x/alpha, with sigma/alpha for the noise."""
    t = times(3, 4, 0.1, 0.9)
    e, x = pair(path, t)
    c = path.at(t, x)
    c_skip, c_out, *_ = edm_by_table_1(x, c.sigma / c.alpha, sigma_data)
    output = dl.encode(e, c, dl.edm(sigma_data))
    torch.testing.assert_close(c_skip * x / c.alpha + c_out * output, e.x0, **CLOSE)
    if sigma_data == 0.5:
        torch.testing.assert_close(output, dl.encode(e, c, "edm"), rtol=0, atol=0)


@each_path
def test_edm_target_has_unit_variance(path):
    """Exactly: a^2 sd^2 + b^2 = 1 for data of standard deviation sd."""
    c = path.coefs(times(4, 20))
    a, b = dl.edm(0.3)(c)
    torch.testing.assert_close(0.09 * a**2 + b**2, torch.ones(20, dtype=torch.float64), rtol=1e-13, atol=0)


@each_path
@each_kind
def test_determinant_is_that_of_the_matrix(path, kind):
    c = path.coefs(times(5, 6, 0.1, 0.9))
    a, b = (dl.ROWS[kind] if isinstance(kind, str) else kind)(c)
    matrices = torch.stack([torch.stack([c.alpha, c.sigma], -1), torch.stack([a, b], -1)], -2)
    torch.testing.assert_close(dl.determinant(c, kind), torch.linalg.det(matrices), rtol=1e-9, atol=1e-12)


SINGULAR = [
    ("eps", dl.RectifiedFlow(), 1.0),
    ("eps", dl.Cosine(), 1.0),
    ("score", dl.RectifiedFlow(), 1.0),
    ("score", dl.RectifiedFlow(), 0.0),
    ("score", dl.VP(), 0.0),
    ("x0", dl.VP(), 0.0),
    ("x0", dl.EDM(), 0.0),
]


@pytest.mark.parametrize(("kind", "path", "t"), SINGULAR)
def test_a_singular_end_says_so(kind, path, t):
    x = normal(3, 3, 2)
    with pytest.raises(ValueError, match=rf"kind = '{kind}' does not determine .* choose another kind, or keep t away"):
        dl.decode(x, x, path.at(t, x), kind)
    some = torch.tensor([0.5, t, 0.5], dtype=torch.float64)
    with pytest.raises(ValueError, match=f"kind = '{kind}'"):
        dl.decode(x, x, path.at(some, x), kind)
    with pytest.raises(ValueError, match=f"kind = '{kind}'"):
        dl.Denoiser(lambda x, t: x, path, kind)(x, t)


@pytest.mark.parametrize("path", [dl.VP(), dl.RectifiedFlow(), dl.EDM()])
def test_the_score_at_no_noise_says_so(path):
    e = dl.Estimate(normal(4, 3, 2), normal(5, 3, 2))
    with pytest.raises(ValueError, match=r"kind = 'score' is infinite where sigma = 0"):
        dl.encode(e, path.at(0.0, e.x0), "score")


@pytest.mark.parametrize("kind", ["v", "velocity", "edm"])
@pytest.mark.parametrize("path", [dl.Cosine(), dl.RectifiedFlow()])
def test_kinds_that_hold_at_both_ends(kind, path):
    for t in (0.0, 1.0):
        e, x = pair(path, t)
        c = path.at(t, x)
        back = dl.decode(dl.encode(e, c, kind), x, c, kind)
        torch.testing.assert_close(back.x0, e.x0)
        torch.testing.assert_close(back.eps, e.eps)


# --- Denoiser, predict, Preconditioned


def kernel(x, t):
    """A network with no symmetry: depends on every number and on t."""
    return (
        torch.sin(x)
        + t.reshape(-1, *(1 for _ in x.shape[1:])) * x.cos()
        + 0.1 * x.flatten(1).cumsum(1).reshape(x.shape)
    )


@each_path
@each_kind
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_denoiser_solves_for_what_the_network_says(path, kind, shape):
    x, t = normal(6, *shape), times(6, shape[0], 0.1, 0.9)
    den = dl.Denoiser(kernel, path, kind)
    e, c = den(x, t), path.at(t, x)
    torch.testing.assert_close(c.alpha * e.x0 + c.sigma * e.eps, x, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(dl.encode(e, c, kind), kernel(x, t), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(den.read(x, t, kind), kernel(x, t), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(den.read(x, t, "score"), -e.eps / c.sigma, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t", [0.3, torch.tensor(0.3, dtype=torch.float64), torch.full((3,), 0.3, dtype=torch.float64)])
def test_a_network_gets_one_time_a_sample_in_the_dtype_of_x(t, dtype):
    seen = []
    net = lambda x, t, *cond: seen.append((t, cond)) or x  # noqa: E731
    x, cond = normal(7, 3, 2).to(dtype), torch.tensor([1, 2, 3])
    dl.call_net(net, x, t)
    dl.call_net(net, x, t, cond)
    for got, _ in seen:
        assert got.shape == (3,)
        assert got.dtype == dtype
        assert torch.allclose(got, torch.tensor(0.3, dtype=dtype))
    assert seen[0][1] == ()
    assert seen[1][1][0] is cond


def test_denoiser_hands_its_condition_to_the_network():
    x, cond = normal(8, 3, 2), torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    den = dl.Denoiser(lambda x, t, c: x * c[:, None], dl.RectifiedFlow(), "x0", cond)
    torch.testing.assert_close(den(x, 0.5).x0, x * cond[:, None])


@each_path
def test_denoiser_keeps_the_dtype(path):
    x = normal(9, 3, 2).float()
    for t in (0.4, torch.tensor(0.4, dtype=torch.float64), torch.full((3,), 0.4, dtype=torch.float64)):
        low, high = (dl.Denoiser(kernel, path, "v")(y, t) for y in (x, x.double()))
        assert low.x0.dtype == low.eps.dtype == torch.float32
        torch.testing.assert_close(low.x0.double(), high.x0, rtol=1e-4, atol=1e-4)


class Spy(nn.Module):
    def forward(self, x, t, cond=None):
        self.x, self.t, self.cond = x, t, cond
        return 2 * x


@each_path
def test_preconditioned_input_and_time_are_the_papers(path):
    """c_in and c_noise of Karras et al. 2022, Table 1, in the frame x/alpha."""
    net = Spy()
    model = dl.Preconditioned(net, path, 0.3)
    x, t, cond = normal(10, 5, 2), times(8, 5, 0.1, 0.9), torch.arange(5)
    c = path.at(t, x)
    _, _, c_in, c_noise = edm_by_table_1(x, c.sigma / c.alpha, 0.3)
    out = model(x, t, cond)
    torch.testing.assert_close(net.x, c_in * x / c.alpha, **CLOSE)
    torch.testing.assert_close(net.t, c_noise[:, 0], **CLOSE)
    assert net.cond is cond
    assert torch.equal(out, 2 * net.x)


@each_path
def test_preconditioned_input_has_unit_variance(path):
    """False-alarm rate under 1e-7: the mean square of n unit normals is off by more than 5.5 sqrt(2/n)."""
    net, n = Spy(), 20_000
    x0, x1 = 0.3 * torch.randn(n, 1, generator=seeded(0)), torch.randn(n, 1, generator=seeded(1))
    for t in (0.1, 0.5, 0.9):
        dl.Preconditioned(net, path, 0.3)(path.mix(x0, x1, t), torch.full((n,), t))
        assert abs(net.x.square().mean() - 1) < 5.5 * math.sqrt(2 / n)
