"""The reverse chain of chapter 8: every chain, the variances without sampling, and what is drawn."""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from node import run_js

import ddpm_lite as dl
from ddpm_lite import live
from ddpm_lite.live.chain import CHAINS, LAWS, SEED, chain_path, chains, exact_variance, limits, step_back

FIGURE = live.ReverseChain()
VARIANCES = ("forward", "posterior", "none")
needs_node = pytest.mark.needs("node")


def state(**change: Any) -> dict[str, Any]:
    return {**FIGURE.state, **change}


def recursion(variance: str, steps: int, v: float = 0.25) -> float:
    """The variance at the end of the chain in DDPM's letters; the best guess of the noise is linear in x."""
    value, abar = 1.0, [1.0]
    beta = [0.1 / steps + (20 - 0.1) / steps * j / (steps - 1) for j in range(steps)]
    for b in beta:
        abar.append(abar[-1] * (1 - b))
    for i in range(steps, 0, -1):
        b, now, before = beta[i - 1], abar[i], abar[i - 1]
        small = (1 - before) / (1 - now) * b
        slope = (1 - b / (now * v + 1 - now)) / math.sqrt(1 - b)
        if variance == "none":  # DDIM: sqrt(abar) x0 + sqrt(1 - abar) eps, both linear in x
            total = now * v + 1 - now
            slope = (math.sqrt(before * now) * v + math.sqrt((1 - before) * (1 - now))) / total
        noise = 0.0 if i == 1 or variance == "none" else {"forward": b, "posterior": small}[variance]
        value = slope**2 * value + noise
    return value


@needs_node
@pytest.mark.parametrize("variance", VARIANCES)
def test_the_variance_of_infinitely_many_chains_is_that_of_the_recursion(variance: str) -> None:
    lengths = (25, 100, 1000)
    settings = [state(variance=variance, steps=steps, t=0.0) for steps in lengths]
    script = """
      const { spec } = (await load("chain")).default;
      return inputs.settings.map((s) => spec.compute(s, inputs.data).all.limits.at(-1));
    """
    browser = run_js(script, {"settings": settings, "data": FIGURE.data})
    expected = [recursion(variance, steps) for steps in lengths]
    assert browser == pytest.approx(expected, rel=1e-9)
    assert [limits(variance, steps)[-1] for steps in lengths] == pytest.approx(expected, rel=1e-9)


def test_the_reply_tells_the_variances_of_the_recursion() -> None:
    assert FIGURE.question is not None
    for variance in ("forward", "posterior"):
        assert f"{recursion(variance, 25):.4f}" in FIGURE.question.reply


@needs_node
def test_every_chain_is_where_the_package_puts_it() -> None:
    """Also after the clock ran back, and after another setting was asked for in between."""
    order = [("gaussian", "forward", 0.5), ("mixture", "forward", 0.1), ("mixture", "posterior", 0.0)]
    order += [("gaussian", "none", 0.3), ("mixture", "forward", 0.6), ("mixture", "forward", 0.0)]
    settings = [state(law=law, variance=variance, steps=50, t=t) for law, variance, t in order]
    script = """
      const { spec } = (await load("chain")).default;
      return inputs.settings.map((s) => {
        const { all, taken } = spec.compute(s, inputs.data);
        return Array.from(all.states[taken]);
      });
    """
    found = run_js(script, {"settings": settings, "data": FIGURE.data})
    for (law, variance, t), points in zip(order, found, strict=True):
        expected = chains(law, variance, 50, round((1 - t) * 50))[-1]
        assert np.abs(np.array(points) - expected.flatten().numpy()).max() < 1e-9


@pytest.mark.parametrize("variance", ["forward", "posterior"])
def test_a_step_is_the_packages_step_with_the_noise_given(variance: str) -> None:
    path, den = chain_path(25), LAWS["mixture"].denoiser(chain_path(25))
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for t, s in pairwise(dl.linear_ts(25)):
        drawn = dl.randn_like(x, generator=torch.Generator().manual_seed(2))
        package = dl.ancestral_step(den, path, x, t, s, variance=variance, generator=torch.Generator().manual_seed(2))
        assert torch.allclose(step_back(den, path, x, t, s, variance, drawn), package, rtol=0, atol=1e-12)


def test_the_noise_is_drawn_start_first() -> None:
    noise = np.random.RandomState(SEED)
    start, first = noise.standard_normal((CHAINS, 2)), noise.standard_normal((CHAINS, 2))
    states = chains("mixture", "forward", 25, 1)
    path = chain_path(25)
    moved = step_back(LAWS["mixture"].denoiser(path), path, states[0], 1.0, 0.96, "forward", torch.from_numpy(first))
    assert np.array_equal(states[0].numpy(), start)
    assert torch.allclose(states[1], moved, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("law", "t"), list(product(LAWS, (0.0, 0.3, 1.0))))
def test_the_exact_variance_is_that_of_noised_data(law: str, t: float) -> None:
    g, n = torch.Generator().manual_seed(3), 200_000
    x0 = LAWS[law].sample(n, generator=g).double()
    xt = chain_path(100).mix(x0, dl.randn_like(x0, generator=g), t)
    squares = (xt - xt.mean(0)).square().mean(1)
    error = 5 * squares.std().item() / n**0.5
    assert squares.mean().item() == pytest.approx(exact_variance(law, chain_path(100), t).item(), abs=error)


@pytest.mark.parametrize(("variance", "steps"), list(product(VARIANCES, (25, 50, 100, 250))))
def test_the_thousand_chains_are_typical(variance: str, steps: int) -> None:
    """The sample variance of n draws of a Gaussian has the relative standard error sqrt(2 / (n - 1))."""
    found = chains("gaussian", variance, steps, steps)[-1].var().item()
    assert found == pytest.approx(recursion(variance, steps), rel=1.5 * math.sqrt(2 / (CHAINS - 1)))


RECORD = """
  const { spec } = (await load("chain")).default;
  const { THEMES } = await load("theme");
  return inputs.cases.map(({ state, asking }) => {
    const drawn = {};
    const panels = Object.fromEntries(spec.panels(inputs.data, state, asking).map(({ name, x, y }) => {
      drawn[name] = { x, y, calls: [] };
      const record = (method) => (...args) => { drawn[name].calls.push({ method, args }); };
      const handler = (_, method) => (method === "colours" ? THEMES.light : record(method));
      return [name, new Proxy({}, { get: handler })];
    }));
    (asking ? spec.ask : spec.draw)(panels, spec.compute(state, inputs.data), state, inputs.data);
    return drawn;
  });
"""


def drawn(*cases: dict[str, Any]) -> list[dict[str, Any]]:
    """What the figure draws: by panel its ranges and the calls of the panel's methods."""
    return run_js(RECORD, {"cases": list(cases), "data": FIGURE.data})


def of(panel: dict[str, Any], method: str) -> list[list[Any]]:
    return [call["args"] for call in panel["calls"] if call["method"] == method]


@needs_node
def test_the_line_shows_the_chains_and_their_histogram() -> None:
    (panels,) = drawn({"state": state(steps=50, t=0.4), "asking": False})
    states = chains("gaussian", "forward", 50, 30)[..., 0]
    lines = of(panels["paths"], "line")
    assert len(lines) == FIGURE.data["drawn"]
    for i, (times, values, _) in enumerate(lines):
        assert np.allclose(times, dl.linear_ts(50)[:31])
        assert np.allclose(values, states[:, i])
    ((edges, heights, _),) = of(panels["histogram"], "bars")
    assert np.allclose(heights, np.histogram(states[-1], edges)[0] / (CHAINS * np.diff(edges)))
    ((line, density, _),) = of(panels["histogram"], "line")
    exact = LAWS["gaussian"].log_prob(torch.tensor(line, dtype=torch.float64)[:, None], chain_path(50), 0.4).exp()
    assert np.allclose(density, exact)


@needs_node
def test_a_thousand_steps_are_thinned_out() -> None:
    """Both ends are kept, and the pieces in between stay where they are while the clock runs."""
    cases = [{"state": state(steps=1000, t=t), "asking": False} for t in (0.5, 0.495)]
    early, late = (of(panels["paths"], "line")[0][0] for panels in drawn(*cases))
    assert early[0] == late[0] == 1
    assert (early[-1], late[-1]) == pytest.approx((0.5, 0.495))
    assert 100 < len(early) <= len(late) < 252
    assert set(early[:-1]) <= set(late)


@needs_node
def test_the_plane_shows_the_cloud_and_the_variance_so_far() -> None:
    (panels,) = drawn({"state": state(law="mixture", variance="posterior", steps=50, t=0.4), "asking": False})
    states = chains("mixture", "posterior", 50, 30)
    assert np.allclose(of(panels["cloud"], "points")[0][0], states[-1].flatten())
    values, xs, ys, *_ = of(panels["cloud"], "contour")[0]
    grid = torch.tensor([(x, y) for y in ys for x in xs], dtype=torch.float64)
    assert np.allclose(values, LAWS["mixture"].log_prob(grid, chain_path(50), 0.4))
    (_, exact, _), (times, spreads, _) = of(panels["spread"], "line")
    assert np.allclose(times, dl.linear_ts(50)[:31])
    assert np.allclose(spreads[:31], states.var(1).mean(1))
    assert exact[40] == pytest.approx(exact_variance("mixture", chain_path(50), 0.4).item())


@needs_node
def test_the_question_shows_both_chains_and_no_answer() -> None:
    (panels,) = drawn({"state": state(law="mixture", steps=50, t=0.5), "asking": True})
    assert list(panels) == ["forward", "posterior"]
    for variance, panel in panels.items():
        heads = np.array(of(panel, "points")[0][0])[1::2]
        assert np.allclose(heads, chains("gaussian", variance, 25, 25)[-1, : len(heads), 0])
        assert not any("0.2" in text or "0.1" in text for _, _, text, _ in of(panel, "text"))


@needs_node
def test_the_variance_stays_in_its_panel() -> None:
    settings = [state(law="mixture", variance=v, steps=s, t=0.0) for v, s in product(VARIANCES, (25, 50, 100, 250))]
    for panels in drawn(*({"state": each, "asking": False} for each in settings)):
        low, high = panels["spread"]["y"]
        for _, values, _ in of(panels["spread"], "line"):
            assert low < min(values)
            assert max(values) < high
