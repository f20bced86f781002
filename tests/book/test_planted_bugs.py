"""A known mistake, planted into the package, makes the chapter's proof table fail; the untouched table holds.

Each bug is an edit of one line of the package. An edit that no longer applies fails, so the list stays up to date.
"""

from __future__ import annotations

from typing import NamedTuple

import chapters
import pytest

from ddpm_lite import book


class Bug(NamedTuple):
    """In `where`, `old` becomes `new`; the chapter's proof table with this number must refuse it."""

    chapter: str
    table: int
    name: str
    where: str
    old: str
    new: str


# fmt: off
BUGS = [
    # chapter 1
    Bug("01", 1, "log-density without its constant", "reference.GaussianMixture._noised",
        " + math.log(2 * math.pi)", ""),
    Bug("01", 1, "log-determinant without its half", "reference.GaussianMixture._noised",
        "variances.log()", "2 * variances.log()"),
    Bug("01", 1, "standard deviation for variance in the exponent", "reference.GaussianMixture._noised",
        "pull = away / variances", "pull = away / variances.sqrt()"),
    Bug("01", 1, "no half before the square", "reference.GaussianMixture._noised",
        "-0.5 * (away", "-1.0 * (away"),
    Bug("01", 1, "weights left out of the mixture", "reference.GaussianMixture._noised",
        "self.weights.to(x).log() + log_each", "log_each"),
    Bug("01", 1, "the covariance's basis left out", "reference.GaussianMixture._rotate",
        "if self._basis is None", "if True"),
    Bug("01", 3, "the basis transposed", "reference.GaussianMixture._rotate",
        '"bkd,kde->bke"', '"bkd,ked->bke"'),
    Bug("01", 1, "density sum in place of log-sum-exp", "reference.GaussianMixture.log_prob",
        "noised.log_joint.logsumexp(1)", "noised.log_joint.exp().sum(1)"),
    Bug("01", 1, "samples with a variance for a standard deviation", "reference.GaussianMixture.sample",
        "self._variances[k].sqrt()", "self._variances[k]"),
    Bug("01", 1, "components drawn without their weights", "reference.GaussianMixture.sample",
        "self.weights.to(device)", "torch.ones_like(self.weights)"),
    Bug("01", 1, "samples without the basis", "reference.GaussianMixture._rotate_back",
        "if self._basis is None", "if True"),
    Bug("01", 1, "rand for randn", "rng.randn_like",
        "torch.randn(", "torch.rand("),
    Bug("01", 3, "the component's weight lost in the denoiser's gain", "reference.GaussianMixture.denoiser",
        "gain = noised.alpha[..., None] * ", "gain = "),
    Bug("01", 3, "bits without ln 2", "likelihood.bits_per_dim",
        " * math.log(2)", ""),
    Bug("01", 3, "one level is 1/levels wide", "likelihood.bits_per_dim",
        "levels / 2", "levels"),
    Bug("01", 3, "bits of the whole, not of a dimension", "likelihood.bits_per_dim",
        "nats / (dimensions * math.log(2))", "nats / math.log(2)"),
    # chapter 7
    Bug("07", 1, "abar by an index too early", "paths.BetaTable.__post_init__",
        "F.pad(torch.log1p(-betas).cumsum(0), (1, 0))", "F.pad(torch.log1p(-betas).cumsum(0), (2, 0))[:-1]"),
    Bug("07", 1, "abar by an index too late", "paths.BetaTable.__post_init__",
        "F.pad(torch.log1p(-betas).cumsum(0), (1, 0))", "torch.cat([torch.log1p(-betas).cumsum(0), torch.log1p(-betas).cumsum(0)[-1:]])"),
    Bug("07", 1, "abar as a sum of betas", "paths.BetaTable.__post_init__",
        "torch.log1p(-betas)", "-betas"),
    Bug("07", 1, "beta as a standard deviation", "paths.BetaTable.__post_init__",
        "torch.log1p(-betas)", "torch.log1p(-betas.square())"),
    Bug("07", 1, "1 - abar for its square root", "paths.BetaTable.coefs",
        "torch.sqrt(-torch.expm1(log_abar))", "-torch.expm1(log_abar)"),
    Bug("07", 1, "abar for its square root", "paths.BetaTable.coefs",
        "torch.exp(log_abar / 2)", "torch.exp(log_abar)"),
    Bug("07", 1, "the last beta is 0.2", "paths.linear_betas",
        "torch.linspace(start, end", "torch.linspace(start, 10 * end"),
    Bug("07", 1, "square roots of betas are evenly spaced", "paths.linear_betas",
        "torch.linspace(start, end, n, dtype=torch.float64)", "torch.linspace(start**0.5, end**0.5, n, dtype=torch.float64) ** 2"),
    Bug("07", 1, "transition without the square of sigma", "paths.transition",
        "-(ct.sigma**2)", "-ct.sigma"),
    Bug("07", 1, "log-SNR halved in the transition", "paths.transition",
        "torch.expm1(2 * fall)", "torch.expm1(fall)"),
    Bug("07", 1, "alpha ratio upside down", "paths.transition",
        "ct.alpha / cs.alpha", "cs.alpha / ct.alpha"),
    Bug("07", 2, "noise scaled by the variance", "paths.Path.mix",
        "c.sigma * x1", "c.sigma**2 * x1"),
    Bug("07", 2, "signal scaled by alpha squared", "paths.Path.mix",
        "c.alpha * x0", "c.alpha**2 * x0"),
    Bug("07", 2, "noised covariance with sigma for sigma squared", "reference.GaussianMixture._noised",
        "sigma[..., None] ** 2", "sigma[..., None]"),
    Bug("07", 2, "noised covariance with alpha for alpha squared", "reference.GaussianMixture._noised",
        "alpha[..., None] ** 2", "alpha[..., None]"),
    Bug("07", 2, "noised means not scaled", "reference.GaussianMixture._noised",
        "alpha[..., None] * self.means", "self.means"),
    Bug("07", 2, "VP: the integral of beta without its half", "paths.VP.total",
        "* t**2 / 2", "* t**2"),
    Bug("07", 2, "VP: abar for its square root", "paths.VP.coefs",
        "torch.exp(-total / 2)", "torch.exp(-total)"),
    Bug("07", 2, "VP: sigma is the variance", "paths.VP.coefs",
        "torch.sqrt(-torch.expm1(-total))", "-torch.expm1(-total)"),
    Bug("07", 2, "cosine on twice its quarter", "paths.Cosine.coefs",
        "half = math.pi / 2", "half = math.pi / 4"),
    Bug("07", 2, "flow's clock runs the other way", "paths.RectifiedFlow.coefs",
        "Coefs(1 - t, t,", "Coefs(t, 1 - t,"),
    Bug("07", 2, "lam is the whole log-SNR", "paths._lam",
        "c.alpha.log() - c.sigma.log()", "2 * (c.alpha.log() - c.sigma.log())"),
    Bug("07", 2, "t_of with half its argument", "paths.VP.t_of",
        "2 * as_tensor(lam)", "as_tensor(lam)"),
    Bug("07", 3, "drift with the wrong sign", "paths.Path.drift",
        "return c.dalpha / c.alpha", "return -c.dalpha / c.alpha"),
    Bug("07", 3, "drift is minus beta", "paths.Path.drift",
        "return c.dalpha / c.alpha", "return 2 * c.dalpha / c.alpha"),
    Bug("07", 3, "g for g squared", "paths.Path.g2",
        "return 2 * c.sigma * (c.dsigma - self.drift(t, x) * c.sigma)", "return (2 * c.sigma * (c.dsigma - self.drift(t, x) * c.sigma)).sqrt()"),
    Bug("07", 3, "g2 without the drift", "paths.Path.g2",
        "c.dsigma - self.drift(t, x) * c.sigma", "c.dsigma"),
    Bug("07", 3, "VP: alpha' without its half", "paths.VP.coefs",
        "-beta / 2 * alpha,", "-beta * alpha,"),
    Bug("07", 3, "sub-VP: sigma of VP", "paths.SubVP.coefs",
        "-torch.expm1(-total)", "torch.sqrt(-torch.expm1(-total))"),
    Bug("07", 3, "VE: sigma' without its rate", "paths.VE.coefs",
        "rate * sigma)", "sigma)"),
    Bug("07", 1, "BetaTable: the slope of the next step", "paths.BetaTable.coefs",
        "[i - 1] * steps", "[i.clamp(max=steps - 1)] * steps"),
]
# fmt: on


def chapter(number: str):
    """Return the path of a chapter; a chapter that is not written yet has no test."""
    return next(path for path in chapters.written() if path.name.startswith(number))


@pytest.mark.parametrize("path", chapters.written(), ids=lambda path: path.stem)
def test_every_chapter_has_bugs(path):
    assert sum(path.name.startswith(bug.chapter) for bug in BUGS) >= 5


@pytest.mark.parametrize("path", chapters.written(), ids=lambda path: path.stem)
def test_untouched_tables_hold(path):
    """The same cells as below, without a bug; else a bug would be found by a table that never holds."""
    for cell in chapters.proof_cells(path):
        if "slow" not in cell.tags:
            assert "yes" in chapters.run_table(path, cell).printed


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.chapter}: {bug.name}")
def test_table_refuses(bug, monkeypatch):
    """The table alone must find it: the chapter's other checks, which may see it first, are switched off."""
    path = chapter(bug.chapter)
    table = chapters.proof_cells(path)[bug.table - 1]
    chapters.plant(monkeypatch, bug.where, bug.old, bug.new)
    with pytest.raises(book.ProofError):
        chapters.run_table(path, table)
