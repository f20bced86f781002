"""Chapter 5: a noisy point, the clean points that it may come from, and the arrow to their mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..paths import EDM
from ..reference import GaussianMixture, book_mixture
from ..viz import PALETTE, density
from .controls import Choice, Clock, Knobs, Presets, Question, Slider
from .figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

__all__ = ["NoisyPoint"]

SEED = 3
DRAWS = 400
LEAST = 1e-9  # components of the posterior below this weight are left out
LOUDEST = 2.0  # standard deviation of the noise
PATH = EDM(sigma_max=LOUDEST)


class NoisyPoint(Figure):
    """A noisy point to drag, its cloud of clean points, their mean by Tweedie's formula, and the targets.   Book: ch. 5

    The noisy point is a clean point of the book's mixture plus noise; on the line only its first coordinate counts.
    """

    module = "noisy"
    title = "A noisy point and the clean points behind it"
    controls = (
        Choice("dim", "World", (("plane", "in the plane"), ("line", "on the line")), "plane"),
        Slider("noise", "Noise level σ", 0.1, LOUDEST, 0.01, 0.6),
        Clock("n", "Clean points drawn", 1, DRAWS, 1, 8.0, "{value:.0f}"),
        Knobs("at", -3.0, 3.0, (1.5, -0.5)),
        Presets(
            "Noise",
            (
                ("little", {"noise": 0.15}),
                ("medium", {"noise": 0.6}),
                ("much", {"noise": 1.8}),
            ),
        ),
    )
    sentence = (
        "The mean of all possible clean points lies {shift:.3f} from the noisy point; the score times σ² is "
        "{tweedie:.3f} long. The mean of {n} draws misses the exact mean by {off:.3f}, and one draw by {spread:.3f} "
        "(exact: {exact:.3f}). At this point the denoising loss cannot fall below {floor:.3f}."
    )
    question = Question(
        "The red point was made from a clean point of this density, by adding noise of standard deviation 0.6. A "
        "network sees the red point and must say where the clean one was. Its loss is the squared distance. What "
        "does a perfect network answer?",
        (
            "The top of the most probable hill",
            "The clean point from which it was made",
            "The mean of all clean points that could have led here, even where there are no data",
        ),
        answer=2,
        reply=(
            "The arrow leads to this mean, and it is σ² times the score. Draw more clean points, drag the red one, "
            "change the noise: the single targets scatter, and their mean is the score."
        ),
    )

    def constants(self) -> dict[str, Any]:
        mixtures = {"line": book_mixture(1), "plane": book_mixture(2)}
        parts = ("weights", "means", "covs")
        worlds = {name: {part: getattr(each, part).tolist() for part in parts} for name, each in mixtures.items()}
        return {"worlds": worlds, "seed": SEED, "draws": DRAWS, "least": LEAST}

    def truth(self, state: Mapping[str, Any]) -> dict[str, Any]:
        mixture, at, sigma, t = seen(state)
        away = clean_points(state) - mixture.denoiser(PATH)(at, t).x0
        spread = variance(state)
        return {
            "shift": (mixture.denoiser(PATH)(at, t).x0 - at).norm().item(),
            "tweedie": (sigma**2 * mixture.score(at, PATH, t)).norm().item(),
            "n": state["n"],
            "off": away.mean(0).norm().item(),
            "spread": away.square().sum(1).mean().sqrt().item(),
            "exact": spread**0.5,
            "floor": spread / (2 * sigma**4),
        }

    def still(self, state: Mapping[str, Any]) -> Picture:
        import matplotlib.pyplot as plt

        picture, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.5))
        (on_line if state["dim"] == "line" else in_plane)(left, right, state)
        return picture


def seen(state: Mapping[str, Any]) -> tuple[GaussianMixture, Tensor, float, float]:
    """The mixture, the noisy point (1, D), sigma, and the time of PATH that has this sigma."""
    line = state["dim"] == "line"
    at = torch.tensor([state["at"][: 1 if line else 2]], dtype=torch.float64)
    return book_mixture(1 if line else 2), at, state["noise"], state["noise"] / LOUDEST


def variance(state: Mapping[str, Any]) -> float:
    """Trace of the posterior covariance, sigma^2 D + sigma^4 tr grad grad log p_sigma."""
    mixture, at, sigma, t = seen(state)
    H = torch.func.jacrev(lambda point: mixture.score(point[None], PATH, t)[0])(at[0])
    return sigma**2 * len(H) + sigma**4 * H.trace().item()


def posterior(state: Mapping[str, Any]) -> GaussianMixture:
    """The law of the clean point, given the noisy one: a mixture again."""
    mixture, at, sigma, _ = seen(state)
    noised = mixture.covs + sigma**2 * torch.eye(at.shape[1]).double()
    each = [
        w.log() + torch.distributions.MultivariateNormal(m, S).log_prob(at[0])
        for w, m, S in zip(mixture.weights, mixture.means, noised, strict=True)
    ]
    r = torch.softmax(torch.stack(each), 0)
    kept = r > LEAST
    gain = mixture.covs @ torch.linalg.inv(noised)
    means = mixture.means + torch.einsum("kde,ke->kd", gain, at - mixture.means)
    covs = sigma**2 * gain
    return GaussianMixture(r[kept] / r[kept].sum(), means[kept], ((covs + covs.mT) / 2)[kept])


def clean_points(state: Mapping[str, Any]) -> Tensor:
    """The first n draws from the posterior, (n, D): uniforms choose components, then come the normals."""
    law, rng = posterior(state), np.random.RandomState(SEED)
    u, z = rng.random_sample(DRAWS), rng.standard_normal((DRAWS, law.means.shape[1]))
    k = torch.searchsorted(law.weights.cumsum(0), torch.from_numpy(u), right=True).clamp(max=len(law.weights) - 1)
    roots = torch.linalg.cholesky(law.covs)
    return (law.means[k] + torch.einsum("nde,ne->nd", roots[k], torch.from_numpy(z)))[: state["n"]]


def in_plane(left: Axes, right: Axes, state: Mapping[str, Any]) -> None:
    mixture, at, sigma, t = seen(state)
    x, s = clean_points(state), mixture.score(at, PATH, t)
    density(left, mixture.log_prob, limits=(-3, 3), levels=5)
    left.plot(*x.T, ".", color=PALETTE.sky, ms=3)
    style: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.012, "color": PALETTE.blue}
    left.quiver(*at.T, *(sigma**2 * s).T, **style)
    left.plot(*at.T, "o", color=PALETTE.vermilion)
    targets = (x - at) / sigma
    right.plot(*targets.T, ".", color=PALETTE.sky, ms=3)
    right.plot(*targets.mean(0, keepdim=True).T, "o", color=PALETTE.vermilion)
    right.plot(*(sigma * s).T, "x", color=PALETTE.blue, ms=10)
    right.set(xlim=(-4, 4), ylim=(-4, 4), xlabel="target times σ, $x_1$", ylabel="$x_2$", title="o mean, x exact")


def on_line(left: Axes, right: Axes, state: Mapping[str, Any]) -> None:
    mixture, at, sigma, t = seen(state)
    x, s = clean_points(state), mixture.score(at, PATH, t)
    axis = torch.linspace(-4, 4, 401, dtype=torch.float64)[:, None]
    for law, colour in ((mixture, "0.6"), (posterior(state), PALETTE.blue)):
        curve = law.log_prob(axis).exp()
        left.plot(axis, curve / curve.max(), color=colour)
    left.plot(x, torch.full_like(x, -0.08), "|", color=PALETTE.sky)
    left.plot(at, [[0.0]], "o", color=PALETTE.vermilion)
    left.set(xlabel="x", ylabel="density, scaled")
    targets = (x - at) / sigma
    right.hist(targets[:, 0].numpy(), bins=np.linspace(-4, 4, 41).tolist(), color=PALETTE.sky)
    right.axvline(targets.mean().item(), color=PALETTE.vermilion)
    right.axvline((sigma * s).item(), color=PALETTE.blue, linestyle="--")
    right.set(xlabel="target times σ", ylabel="draws", title="red mean, blue exact")
