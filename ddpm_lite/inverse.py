"""Inverse problems: draws of x0 given y = A x0 + noise z, from a denoiser that knows x0 alone.

A is a matrix (M, D) on a sample's D numbers in a row: the rows of the identity that a mask keeps for inpainting,
`average_pooling` for super-resolution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .guidance import add_score
from .paths import Coefs, Path, Time, transition
from .predict import DenoiseFn, Estimate
from .reference import GaussianMixture
from .rng import randn_like
from .samplers import Step

__all__ = ["average_pooling", "dps", "gaussian_posterior", "mixture_posterior", "pigdm", "repaint", "replacement"]


def average_pooling(shape: tuple[int, ...], k: int) -> Tensor:
    """The matrix that averages k x k blocks of an image: y = A x, x and y in a row; (C H W/k^2, C H W), float64.

    shape: (C, H, W). Its transpose, the adjoint, gives each pixel 1/k^2 of its block's number.

    Raises ValueError unless k >= 1 divides H and W.   Book: ch. 15
    """
    if len(shape) != 3 or k < 1 or shape[1] % k or shape[2] % k:
        raise ValueError(f"shape = {shape}, k = {k}: give (C, H, W) with H and W multiples of k")
    units = torch.eye(torch.Size(shape).numel(), dtype=torch.float64)
    return F.avg_pool2d(units.reshape(-1, *shape), k).flatten(1).mT.contiguous()


def gaussian_posterior(mean: Tensor, cov: Tensor, A: Tensor, y: Tensor, *, noise: float) -> tuple[Tensor, Tensor]:
    """The law of x0 ~ N(mean, cov) given y = A x0 + noise z, exactly.

    K = C A^T (A C A^T + noise^2 I)^-1,  mean + K (y - A mean),  C - K A C.

    mean: (D,); cov: (D, D); A: (M, D); y: (M,) or (B, M); noise: a standard deviation, may be 0.
    Returns the mean, (D,) or (B, D), and the covariance, (D, D).

    Raises ValueError when shapes disagree or noise < 0.   Source: Bishop 2006, eq. 2.116.   Book: ch. 15
    """
    _check(A, y, noise)
    if mean.ndim != 1 or cov.shape != (len(mean), len(mean)) or A.shape[1] != len(mean):
        raise ValueError(
            f"mean has shape {tuple(mean.shape)}, cov {tuple(cov.shape)}, A {tuple(A.shape)}: give (D,), (D, D), (M, D)"
        )
    seen = A @ cov  # (M, D): covariance of y and x0
    gain = torch.linalg.solve(seen @ A.mT + noise**2 * torch.eye(len(A)).to(A), seen).mT  # (D, M)
    return mean + (y - A @ mean) @ gain.mT, cov - gain @ seen


def mixture_posterior(mixture: GaussianMixture, A: Tensor, y: Tensor, *, noise: float) -> GaussianMixture:
    """The law of x0 ~ mixture given y = A x0 + noise z, exactly: a mixture again.

    Each component's Gaussian becomes its `gaussian_posterior`, each weight is multiplied by that component's density
    of y, N(y; A m, A C A^T + noise^2 I). Components whose weight rounds to 0 are left out.

    A: (M, D); y: (M,); noise: a standard deviation, may be 0.

    Raises ValueError when shapes disagree, noise < 0, or a component leaves y without a density.   Book: ch. 15
    """
    _check(A, y, noise)
    if y.ndim != 1 or A.shape[1] != mixture.means.shape[1]:
        raise ValueError(
            f"A has shape {tuple(A.shape)}, y {tuple(y.shape)}: give (M, {mixture.means.shape[1]}) and (M,)"
        )
    A, y = A.to(mixture.means), y.to(mixture.means)
    seen = A @ mixture.covs @ A.mT + noise**2 * torch.eye(len(A)).to(A)  # (K, M, M)
    if (torch.linalg.eigvalsh(seen)[:, 0] <= 0).any():
        raise ValueError("a component's y = A x0 + noise z lies on fewer than M dimensions: give noise > 0")
    log_y = torch.distributions.MultivariateNormal(mixture.means @ A.mT, seen).log_prob(y)
    parts = [gaussian_posterior(m, c, A, y, noise=noise) for m, c in zip(mixture.means, mixture.covs, strict=True)]
    means, covs = (torch.stack(each) for each in zip(*parts, strict=True))
    weights = (mixture.weights.log() + log_y).softmax(0)
    kept = weights > 0  # the others are below the smallest number
    return GaussianMixture(weights[kept], means[kept], (covs + covs.mT)[kept] / 2)


def replacement(step: Step, known: Tensor, mask: Tensor) -> Step:
    """Inpainting by replacement: after each step the known numbers of x_s are drawn from q(x_s | known).

    x_s = step(x_t) where mask is False, alpha_s known + sigma_s z where it is True, so `known` itself at s = 0.

    known: (B, *shape), or a shape that broadcasts to it; read where mask is True. mask: bool, likewise.
    Returns a step, which takes the options of `step`.

    Biased, however many steps: the step to s sees noise on the known numbers that has nothing to do with the noise
    on the others. Two numbers of variance 1 and correlation .9, the first known to be 1.5: with DDPM's 1000 steps
    the second has mean .938 and variance .308, exact 1.35 and .19; infinitely many steps give .940 and .311.

    Raises ValueError when mask is not bool.
    Source: Song et al. 2021 (Score-SDE), sec. 5.   Book: ch. 15
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"mask has dtype {mask.dtype}: give bool, True where x0 is known")

    def replaced(
        den: DenoiseFn,
        path: Path,
        x: Tensor,
        t: Time,
        s: Time,
        *,
        generator: torch.Generator | None = None,
        **kw: object,
    ) -> Tensor:
        free = step(den, path, x, t, s, generator=generator, **kw)
        given = known.to(free).expand_as(free)
        return torch.where(mask, path.mix(given, randn_like(free, generator=generator), s), free)

    return replaced


def repaint(step: Step, known: Tensor, mask: Tensor, *, jumps: int) -> Step:
    """RePaint: a step of `replacement`, then `jumps` times back to t by q(x_t | x_s) and the step again.

    jumps + 1 evaluations of `step` for one step; the paper's U is jumps + 1, its jump length is 1 here. jumps = 0
    is `replacement`. Arguments as there.

    Biased, but less: in the example there, 10 jumps a step give the second number mean 1.323 and variance .186.

    Raises ValueError when jumps < 0 or mask is not bool.   Source: Lugmayr et al. 2022, alg. 1.   Book: ch. 15
    """
    if jumps < 0:
        raise ValueError(f"jumps = {jumps}: give how often to go back, 0 or more")
    down = replacement(step, known, mask)

    def repainted(
        den: DenoiseFn,
        path: Path,
        x: Tensor,
        t: Time,
        s: Time,
        *,
        generator: torch.Generator | None = None,
        **kw: object,
    ) -> Tensor:
        for _ in range(jumps):
            clean = down(den, path, x, t, s, generator=generator, **kw)
            alpha_ts, var_ts = transition(path, t, s, x)
            x = alpha_ts * clean + var_ts.sqrt() * randn_like(x, generator=generator)
        return down(den, path, x, t, s, generator=generator, **kw)

    return repainted


def dps(den: DenoiseFn, path: Path, A: Tensor, y: Tensor, *, noise: float, scale: float = 1.0) -> DenoiseFn:
    """Diffusion posterior sampling: the score plus scale * grad_x log N(y; A x0hat(x), noise^2 I).

    The gradient goes through `den`, also under no_grad. A: (M, D); y: (M,) or (B, M); noise: a standard deviation.
    The paper takes the gradient of |y - A x0hat|^2 times a tuned number over |y - A x0hat|; this is the likelihood's.

    Biased: it takes x0hat for certain. x0 ~ N(0, 1), y = 1 with noise variance .25, VE from sigma 300: the
    probability-flow ODE gives mean 1.278 and variance .018, the reverse SDE .982 and .125, exact .800 and .200.

    Raises ValueError when shapes disagree or noise is not positive, and where alpha = 0.
    Source: Chung et al. 2023 (DPS), alg. 1.   Book: ch. 15
    """
    if noise == 0:
        raise ValueError("noise = 0: give a positive standard deviation, or use pigdm")
    return _guided(den, path, A, y, noise, scale, lambda c: torch.zeros_like(c.sigma))


def pigdm(den: DenoiseFn, path: Path, A: Tensor, y: Tensor, *, noise: float, data_var: float = 1.0) -> DenoiseFn:
    """Pi-GDM: the score plus grad_x log N(y; A x0hat(x), noise^2 I + r^2 A A^T), x0 given x_t being N(x0hat, r^2 I).

    r^2 = v sigma^2/(v alpha^2 + sigma^2),  v = data_var: the exact variance for data N(m, v I), for which the guided
    score is exact. The gradient goes through `den`, also under no_grad. Arguments as in `dps`; noise may be 0.

    Biased for other data: in the example of `replacement`, noise = 0, the probability-flow ODE on VP gives the second
    number mean 1.266 and variance .232, the reverse SDE 1.281 and .214; exact 1.35 and .19.

    Raises ValueError when shapes disagree, noise < 0, data_var is not positive, noise = 0 and the rows of A depend on
    each other, and where alpha = 0.
    Source: Song et al. 2023 (Pi-GDM), sec. 3.   Book: ch. 15
    """
    if not data_var > 0:
        raise ValueError(f"data_var = {data_var}: give the variance of a number of x0, positive")
    return _guided(den, path, A, y, noise, 1.0, lambda c: data_var * c.sigma**2 / (data_var * c.alpha**2 + c.sigma**2))


def _guided(
    den: DenoiseFn, path: Path, A: Tensor, y: Tensor, noise: float, scale: float, spread: Callable[[Coefs], Tensor]
) -> DenoiseFn:
    """The score plus scale * (A dx0hat/dx)^T (noise^2 I + spread A A^T)^-1 (y - A x0hat)."""
    _check(A, y, noise)
    values, basis = torch.linalg.eigh(A @ A.mT)  # (M,), (M, M)
    if noise == 0 and values[0] < 1e-12 * values[-1]:
        raise ValueError("noise = 0 and the rows of A depend on each other: give noise > 0, or drop rows")

    def guided(x: Tensor, t: Time) -> Estimate:
        if x.shape[1:].numel() != A.shape[1]:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, A {tuple(A.shape)}: each sample must hold {A.shape[1]} numbers"
            )
        c, (a, target, w, rotate) = path.at(t, x), (part.to(x) for part in (A, y, values, basis))
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            e = den(leaf, t)
            seen = e.x0.flatten(1) @ a.mT  # (B, M)
            var = noise**2 + spread(c).to(x).reshape(-1, 1) * w
            pull = (target - seen.detach()) @ rotate / var @ rotate.mT
            (extra,) = torch.autograd.grad((seen * pull).sum(), leaf)
        return add_score(Estimate(e.x0.detach(), e.eps.detach()), c, scale * extra)

    return guided


def _check(A: Tensor, y: Tensor, noise: float) -> None:
    if A.ndim != 2 or y.ndim not in (1, 2) or y.shape[-1] != len(A):
        raise ValueError(f"A has shape {tuple(A.shape)}, y {tuple(y.shape)}: give (M, D) and (M,) or (B, M)")
    if not 0 <= noise < float("inf"):
        raise ValueError(f"noise = {noise}: give a standard deviation, 0 or more")
