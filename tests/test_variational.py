"""Gaussian KL and probabilistic PCA against torch.distributions, scipy, quadrature and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.decomposition import PCA

import ddpm_lite as dl


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(*shape: int, seed: int = 0) -> torch.Tensor:
    root = normal(*shape, shape[-1], seed=seed)
    return root @ root.mT + 0.2 * torch.eye(shape[-1], dtype=torch.float64)


def model(d: int = 5, k: int = 2, seed: int = 0) -> dl.PPCA:
    return dl.PPCA(normal(d, k, seed=seed), normal(d, seed=seed + 1), 0.3)


@pytest.mark.parametrize("batch", [(), (4,), (3, 3)])
def test_gaussian_kl_is_that_of_torch(batch: tuple[int, ...]) -> None:
    a, b = ((normal(*batch, 3, seed=s), covariance(*batch, 3, seed=s + 1)) for s in (0, 10))
    exact = torch.distributions.kl_divergence(*(torch.distributions.MultivariateNormal(*each) for each in (a, b)))
    assert torch.allclose(dl.gaussian_kl(*a, *b), exact, rtol=1e-12)
    assert dl.gaussian_kl(*a, *b).shape == batch


def test_gaussian_kl_broadcasts_and_is_the_integral_of_its_definition() -> None:
    means, one = torch.tensor([[-1.0], [0.0], [2.0]]).double(), torch.ones(1, 1).double()
    x = np.linspace(-20, 20, 40_001)
    p = scipy.stats.norm(0.5, 0.7)
    kls = dl.gaussian_kl(means, one, torch.tensor([0.5]).double(), 0.49 * one)
    for mean, kl in zip(means[:, 0].tolist(), kls.tolist(), strict=True):
        q = scipy.stats.norm(mean, 1)
        assert kl == pytest.approx(np.trapezoid(q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), x), rel=1e-10)


def test_gaussian_kl_has_gradients() -> None:
    mean, cov = normal(3).requires_grad_(), covariance(3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda m, c: dl.gaussian_kl(m, (c + c.mT) / 2, normal(3, seed=5), covariance(3, seed=6)), (mean, cov)
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mean_b": torch.zeros(2)}, r"mean_b has shape \(2,\)"),
        ({"cov_a": torch.eye(2)}, r"cov_a has shape \(2, 2\)"),
        ({"cov_b": torch.ones(3)}, r"cov_b has shape \(3,\)"),
        ({"cov_b": -torch.eye(3)}, "cov_b is not positive definite"),
        ({"mean_a": torch.tensor(0.0)}, "give"),
    ],
)
def test_gaussian_kl_refuses(change: dict[str, torch.Tensor], named: str) -> None:
    arguments = {"mean_a": torch.zeros(3), "cov_a": torch.eye(3), "mean_b": torch.zeros(3), "cov_b": torch.eye(3)}
    with pytest.raises(ValueError, match=named):
        dl.gaussian_kl(**{**arguments, **change})


def test_ppca_is_a_gaussian_and_its_posterior_is_the_conditioned_joint() -> None:
    ppca, x = model(), normal(7, 5, seed=3)
    W, mean = ppca.weight.numpy(), ppca.mean.numpy()
    joint = np.block([[np.eye(2), W.T], [W, W @ W.T + 0.3 * np.eye(5)]])
    assert np.allclose(ppca.log_prob(x), scipy.stats.multivariate_normal(mean, joint[2:, 2:]).logpdf(x), rtol=1e-12)
    gain = joint[:2, 2:] @ np.linalg.inv(joint[2:, 2:])
    found, cov = ppca.posterior(x)
    assert np.allclose(found, (x.numpy() - mean) @ gain.T, rtol=1e-10)
    assert np.allclose(cov, joint[:2, :2] - gain @ joint[2:, :2], rtol=1e-10)


def test_elbo_is_its_integral_for_one_latent() -> None:
    ppca, x = model(3, 1), normal(4, 3, seed=3)
    means, var = normal(4, 1, seed=4), 0.4
    z = torch.linspace(-12, 12, 4001).double()
    bounds = ppca.elbo(x, means, torch.tensor([[var]], dtype=torch.float64))
    for row, m, value in zip(x, means[:, 0], bounds, strict=True):
        q = torch.distributions.Normal(m, math.sqrt(var))
        decoded = torch.distributions.Normal(z[:, None] * ppca.weight[:, 0] + ppca.mean, math.sqrt(0.3))
        log_joint = decoded.log_prob(row).sum(1) - z**2 / 2 - math.log(2 * math.pi) / 2
        inside = q.log_prob(z).exp() * (log_joint - q.log_prob(z))
        assert value.item() == pytest.approx(torch.trapezoid(inside, z).item(), rel=1e-9)


def test_gap_of_the_elbo_is_the_kl_to_the_posterior() -> None:
    ppca, x = model(), normal(6, 5, seed=3)
    mean, cov = normal(6, 2, seed=4), covariance(6, 2, seed=5)
    gap = ppca.log_prob(x) - ppca.elbo(x, mean, cov)
    assert torch.allclose(gap, dl.gaussian_kl(mean, cov, *ppca.posterior(x)), rtol=1e-9)
    assert (ppca.log_prob(x) - ppca.elbo(x, *ppca.posterior(x))).abs().max() < 1e-11


def test_fit_is_that_of_scikit_learn() -> None:
    """scikit-learn's score is the mean log-likelihood, with a covariance of divisor N - 1."""
    x = normal(40, 6) @ covariance(6, seed=2)
    theirs, ours = PCA(2).fit(x), dl.PPCA.fit(x, 2)
    assert float(ours.var) == pytest.approx(theirs.noise_variance_ * 39 / 40, rel=1e-10)
    shrunk = dl.PPCA(ours.weight * math.sqrt(40 / 39), ours.mean, ours.var * 40 / 39)
    assert shrunk.log_prob(x).mean().item() == pytest.approx(theirs.score(x), rel=1e-10)
    assert ours.log_prob(x).mean() > shrunk.log_prob(x).mean()


def test_ppca_refuses() -> None:
    with pytest.raises(ValueError, match=r"var = 0\.0"):
        dl.PPCA(torch.ones(3, 2), torch.zeros(3), 0.0)
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(2,\)"):
        dl.PPCA(torch.ones(3, 2), torch.zeros(2), 1.0)
    with pytest.raises(ValueError, match="k = 3"):
        dl.PPCA.fit(torch.ones(5, 3), 3)
