"""What the tests of the algebra share: paths, kinds, random mixtures in float64, seeded draws, bounds for chance."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.stats import multivariate_normal
from torch import Tensor

import ddpm_lite as dl

BETAS = dl.linear_betas(100, start=1e-3, end=0.2)
PATHS: dict[str, dl.Path] = {
    "VP": dl.VP(),
    "Cosine": dl.Cosine(),
    "SubVP": dl.SubVP(),
    "VE": dl.VE(),
    "EDM": dl.EDM(),
    "RectifiedFlow": dl.RectifiedFlow(),
    "BetaTable": dl.BetaTable(BETAS),
}
KINDS: dict[str, dl.Kind] = {name: name for name in dl.ROWS} | {"edm(0.3)": dl.edm(0.3)}  # type: ignore[misc]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def times(seed: int, n: int, low: float = 0.05, high: float = 0.95) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=seeded(seed), dtype=torch.float64)


def random_mixture(dim: int, seed: int = 0, k: int = 3) -> dl.GaussianMixture:
    """Full covariances with eigenvalues from about .05 to 2, means a few units apart."""
    factors = normal(seed, k, dim, dim) / math.sqrt(dim)
    weights = torch.rand(k, generator=seeded(seed + 1), dtype=torch.float64) + 0.2
    covs = factors @ factors.mT + 0.05 * torch.eye(dim, dtype=torch.float64)
    return dl.GaussianMixture(weights / weights.sum(), 1.5 * normal(seed + 2, k, dim), covs)


def linear(path: dl.Path, var: float) -> dl.DenoiseFn:
    """The exact denoiser of N(0, var I), in one line: x0 = alpha var x / (alpha^2 var + sigma^2)."""

    def den(x, t):
        c = path.at(t, x)
        share = x / (c.alpha**2 * var + c.sigma**2)
        return dl.Estimate(c.alpha * var * share, c.sigma * share)

    return den


def noisy_points(mixture: dl.GaussianMixture, path: dl.Path, t: float | Tensor, n: int = 6, seed: int = 7) -> Tensor:
    """Points where p_t has its mass, (n, D)."""
    x0 = mixture.sample(n, generator=seeded(seed)).double()
    return path.mix(x0, normal(seed + 1, *x0.shape), t)


def scipy_log_prob(mixture: dl.GaussianMixture, x: Tensor, alpha: float = 1.0, sigma: float = 0.0) -> np.ndarray:
    """log p of alpha x0 + sigma z, by scipy's densities."""
    unit = np.eye(x.shape[1])
    parts = [
        np.log(w) + np.atleast_1d(multivariate_normal(alpha * m, alpha**2 * c + sigma**2 * unit).logpdf(x.numpy()))
        for w, m, c in zip(mixture.weights.numpy(), mixture.means.numpy(), mixture.covs.numpy(), strict=True)
    ]
    return np.logaddexp.reduce(parts, axis=0)


def by_hand(mixture: dl.GaussianMixture, x: np.ndarray, alpha: float, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """E[x0 | x_t] and E[eps | x_t], by dense matrices and Tweedie's formula."""
    d, weights, scores = x.shape[1], [], []
    for w, m, c in zip(mixture.weights.numpy(), mixture.means.numpy(), mixture.covs.numpy(), strict=True):
        cov, away = alpha**2 * c + sigma**2 * np.eye(d), x - alpha * m
        pull = np.linalg.solve(cov, away.T).T
        weights.append(np.log(w) - 0.5 * (away * pull).sum(1) - 0.5 * np.linalg.slogdet(cov)[1])
        scores.append(-pull)
    each = np.exp(np.array(weights) - np.logaddexp.reduce(weights, axis=0))
    score = (each[..., None] * np.array(scores)).sum(0)
    return (x + sigma**2 * score) / alpha, -sigma * score


def exact_flow(mixture: dl.GaussianMixture, path: dl.Path, x: Tensor, t: float, s: float) -> Tensor:
    """The probability-flow ODE from t to s to about 1e-11: d(x/alpha) = eps d(sigma/alpha)."""

    def ratio(u: float) -> tuple[float, float]:
        c = path.coefs(torch.tensor(u, dtype=torch.float64))
        return c.alpha.item(), c.sigma.item() / c.alpha.item()

    def slope(r: float, flat: np.ndarray) -> np.ndarray:
        return by_hand(mixture, flat.reshape(x.shape), 1.0, r)[1].ravel()  # in the frame where alpha = 1

    (a_t, r_t), (a_s, r_s) = ratio(t), ratio(s)
    start = (x / a_t).numpy().ravel()
    end = solve_ivp(slope, (r_t, r_s), start, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    return a_s * torch.from_numpy(end).reshape(x.shape)


def slope_of(errors: list[float], steps: list[int]) -> float:
    """Order of convergence: minus the slope of log error against log steps."""
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def within_law(sample: Tensor, cdf: Callable[[np.ndarray], np.ndarray], slack: float = 0.0) -> bool:
    """Kolmogorov-Smirnov by the bound P(distance > e) <= 2 exp(-2 n e^2), at a false-alarm rate of 1e-6."""
    values = np.sort(sample.double().numpy())
    n, exact = len(values), cdf(values)
    distance = max((np.arange(1, n + 1) / n - exact).max(), (exact - np.arange(n) / n).max())
    return bool(distance < math.sqrt(math.log(2e6) / (2 * n)) + slack)
