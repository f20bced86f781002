"""A known mistake, planted into the package, makes the chapter's proof table fail; the untouched table holds.

Each bug is an edit of one line of the package. An edit that no longer applies fails, so the list stays up to date.
"""

from __future__ import annotations

from typing import NamedTuple

import chapters
import pytest

from ddpm_lite import book


class Bug(NamedTuple):
    """In `where`, `old` becomes `new`; the chapter's proof table with this number must refuse it.

    `where` is a function, "paths.Path.g2", or an entry of a dictionary, "predict.ROWS[v]", of which `new` is all.
    """

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
    Bug("01", 1, "the covariance's basis left out", "reference.GaussianMixture.__init__",
        "eigenvalues.clamp_min(0), basis", "eigenvalues.clamp_min(0), torch.eye(d).to(basis).expand(k, d, d)"),
    Bug("01", 3, "the basis transposed", "reference.GaussianMixture._set_axes",
        "basis.permute(1, 2, 0)", "basis.permute(2, 1, 0)"),
    Bug("01", 1, "density sum in place of log-sum-exp", "reference.GaussianMixture.log_prob",
        "noised.log_joint.logsumexp(1)", "noised.log_joint.exp().sum(1)"),
    Bug("01", 1, "samples with a variance for a standard deviation", "reference.GaussianMixture.sample",
        "self._variances[:, k].mT.sqrt()", "self._variances[:, k].mT"),
    Bug("01", 1, "components drawn without their weights", "reference.GaussianMixture.sample",
        "self.weights.to(device)", "torch.ones_like(self.weights)"),
    Bug("01", 1, "samples without the basis", "reference.GaussianMixture.sample",
        "if self._basis is not None", "if False"),
    Bug("01", 1, "rand for randn", "rng.randn_like",
        "torch.randn(", "torch.rand("),
    Bug("01", 3, "the component's weight lost in the denoiser's gain", "reference.GaussianMixture._average",
        "alpha * (share @ spread.mT)", "(share @ spread.mT)"),
    Bug("01", 3, "bits without ln 2", "likelihood.bits_per_dim",
        " * math.log(2)", ""),
    Bug("01", 3, "one level is 1/levels wide", "likelihood.bits_per_dim",
        "levels / 2", "levels"),
    Bug("01", 3, "bits of the whole, not of a dimension", "likelihood.bits_per_dim",
        "nats / (dimensions * math.log(2))", "nats / math.log(2)"),
    # chapter 3
    Bug("03", 1, "score without its minus", "energy.score_of",
        "-value_and_gradient", "value_and_gradient"),
    Bug("03", 1, "gradient of the mean over the batch", "mcmc.value_and_gradient",
        "value.sum()", "value.mean()"),
    Bug("03", 2, "Langevin noise without its 2", "mcmc.langevin",
        "math.sqrt(2 * step)", "math.sqrt(step)"),
    Bug("03", 2, "Langevin noise scaled by the variance", "mcmc.langevin",
        "math.sqrt(2 * step)", "2 * step"),
    Bug("03", 2, "half of the score, as in the other convention", "mcmc.langevin",
        "step * score(x)", "step / 2 * score(x)"),
    Bug("03", 2, "MALA without the ratio of proposals", "mcmc.mala",
        "log_p_y - log_p + log_q_ratio", "log_p_y - log_p"),
    Bug("03", 2, "MALA with that ratio upside down", "mcmc.mala",
        "z.square() - back.square()", "back.square() - z.square()"),
    Bug("03", 2, "MALA keeps every proposal", "mcmc.mala",
        "_keep(log_p_y - log_p + log_q_ratio, generator)", "torch.ones(len(x), dtype=torch.bool)"),
    Bug("03", 2, "Metropolis with the ratio upside down", "mcmc.metropolis",
        "_keep(log_p_y - log_p,", "_keep(log_p - log_p_y,"),
    Bug("03", 2, "a uniform number for its logarithm", "mcmc._keep",
        "u.log() <=", "u <="),
    Bug("03", 3, "positive and negative phase exchanged", "energy.cd_loss",
        "low - high +", "high - low +"),
    Bug("03", 3, "both phases lower the energy", "energy.cd_loss",
        "low - high +", "low + high +"),
    Bug("03", 3, "half of the score in the chain of CD", "mcmc.langevin",
        "step * score(x)", "step / 2 * score(x)"),
    Bug("03", 3, "persistent chains that are not kept", "energy.ReplayBuffer.put",
        "self.x[slots] = x.detach().to(self.x)", "pass"),
    Bug("03", 4, "weights with the level for the step between levels", "mcmc.annealed_importance",
        "(beta - before) *", "beta *"),
    Bug("03", 4, "weights without the base", "mcmc.annealed_importance",
        " - _value(base_log_prob, x)", ""),
    Bug("03", 4, "levels that run from the target to the base", "mcmc._between",
        "(1 - beta) * base_log_prob(x) + beta * log_prob(x)", "beta * base_log_prob(x) + (1 - beta) * log_prob(x)"),
    Bug("03", 4, "the chain of the levels keeps every proposal", "mcmc.mala",
        "_keep(log_p_y - log_p + log_q_ratio, generator)", "torch.ones(len(x), dtype=torch.bool)"),
    # chapter 4
    Bug("04", 1, "no half before the square", "scorematch._half_square",
        " / 2", ""),
    Bug("04", 1, "mean over dimensions for the sum", "scorematch._sum",
        ".sum(1)", ".mean(1)"),
    Bug("04", 1, "target with the sign of the energy's gradient", "scorematch.explicit_sm",
        "- target)", "+ target)"),
    Bug("04", 1, "trace subtracted", "scorematch.implicit_sm",
        "loss + _quadratic", "loss - _quadratic"),
    Bug("04", 1, "the same entry D times for the trace", "scorematch._units",
        "unit[:, i] = 1", "unit[:, 0] = 1"),
    Bug("04", 1, "rows of the Jacobian for its diagonal", "scorematch._quadratic",
        "_sum(product * v)", "_sum(product)"),
    Bug("04", 1, "the last coordinate left out of the trace", "scorematch._units",
        "range(x[0].numel())", "range(x[0].numel() - 1)"),
    Bug("04", 1, "score of an energy without its minus", "energy.score_of",
        "-value_and_gradient", "value_and_gradient"),
    Bug("04", 1, "score of the mixture with its sign flipped", "reference.GaussianMixture.score",
        "(-self._average", "(self._average"),
    Bug("04", 2, "no half before the square", "scorematch._half_square",
        " / 2", ""),
    Bug("04", 2, "trace subtracted", "scorematch.implicit_sm",
        "loss + _quadratic", "loss - _quadratic"),
    Bug("04", 2, "weights left out of the mixture", "reference.GaussianMixture._noised_isotropic",
        "self.weights.to(x).log() + log_each", "log_each"),
    Bug("04", 2, "score with a standard deviation for the variance", "reference.GaussianMixture._noised_isotropic",
        "precision = 1 / variances", "precision = 1 / variances.sqrt()"),
    Bug("04", 3, "target with the sign of the energy's gradient", "scorematch.explicit_sm",
        "- target)", "+ target)"),
    # chapter 2
    Bug("02", 1, "KL without its half", "variational.gaussian_kl",
        "+ log_dets) / 2", "+ log_dets)"),
    Bug("02", 1, "KL with the determinants exchanged", "variational.gaussian_kl",
        "_log_diagonal(root_b) - _log_diagonal(root_a)", "_log_diagonal(root_a) - _log_diagonal(root_b)"),
    Bug("02", 1, "KL that keeps the dimension", "variational.gaussian_kl",
        "- d + log_dets", "+ log_dets"),
    Bug("02", 1, "half of the log-determinant", "variational.gaussian_kl",
        "2 * (_log_diagonal", "(_log_diagonal"),
    Bug("02", 1, "the trace of the other direction", "variational.gaussian_kl",
        "solve_triangular(root_b, root_a", "solve_triangular(root_a, root_b"),
    Bug("02", 1, "distance of the means in units of the first", "variational.gaussian_kl",
        "solve_triangular(root_b, (mean_a", "solve_triangular(root_a, (mean_a"),
    Bug("02", 1, "a root's trace for that of the covariance", "variational.gaussian_kl",
        "ratio.square().sum((-2, -1))", "ratio.diagonal(dim1=-2, dim2=-1).sum(-1)"),
    Bug("02", 1, "weights left out of the mixture", "reference.GaussianMixture._noised_isotropic",
        "self.weights.to(x).log() + log_each", "log_each"),
    Bug("02", 2, "samples with a variance for a standard deviation", "reference.GaussianMixture.sample",
        "self._variances[:, k].mT.sqrt()", "self._variances[:, k].mT"),
    Bug("02", 2, "KL without its half", "variational.gaussian_kl",
        "+ log_dets) / 2", "+ log_dets)"),
    Bug("02", 3, "reconstruction at the mean of q alone", "variational.PPCA.elbo",
        "square + spread", "square"),
    Bug("02", 3, "the rate added", "variational.PPCA.elbo",
        "/ 2 - rate", "/ 2 + rate"),
    Bug("02", 3, "rate in the other direction", "variational.PPCA.elbo",
        "(mean, cov, torch.zeros_like(mean), _eye(mean.shape[1], x))",
        "(torch.zeros_like(mean), _eye(mean.shape[1], x), mean, cov)"),
    Bug("02", 3, "standard deviation for variance in the constant", "variational.PPCA.elbo",
        "2 * math.pi * var", "2 * math.pi * var.sqrt()"),
    Bug("02", 3, "posterior without the prior", "variational.PPCA.posterior",
        "_eye(self.weight.shape[1], x) + self", "self"),
    Bug("02", 3, "posterior mean without the noise", "variational.PPCA.posterior",
        "@ self.weight @ cov / self.var", "@ self.weight @ cov"),
    Bug("02", 3, "posterior of data that are not centred", "variational.PPCA.posterior",
        "(x - self.mean)", "x"),
    Bug("02", 3, "marginal without the noise's variance, but its square", "variational.PPCA.log_prob",
        "self.var * _eye", "self.var**2 * _eye"),
    Bug("02", 3, "log-determinant twice", "variational.PPCA.log_prob",
        "- _log_diagonal(root)", "- 2 * _log_diagonal(root)"),
    Bug("02", 4, "the noise counted twice in W", "variational.PPCA.fit",
        "(top - var)", "top"),
    Bug("02", 4, "noise as the sum of what was left out", "variational.PPCA.fit",
        "values[:-k].mean()", "values[:-k].sum()"),
    Bug("02", 4, "covariance with N - 1", "variational.PPCA.fit",
        "correction=0", "correction=1"),
    Bug("02", 4, "W with an eigenvalue for its root", "variational.PPCA.fit",
        ".clamp(min=0).sqrt()", ".clamp(min=0)"),
    # chapter 7
    Bug("07", 1, "abar by an index too early", "paths.BetaTable.__post_init__",
        "(1, 0)", "(2, 0))[:-1].clone("),
    Bug("07", 1, "abar by an index too late", "paths.BetaTable.__post_init__",
        "(1, 0)", "(0, 1), value=-10.05"),
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
        "torch.linspace(start, end, n, dtype=torch.float64)",
        "torch.linspace(start**0.5, end**0.5, n, dtype=torch.float64) ** 2"),
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
    Bug("07", 2, "noised means not scaled", "reference.GaussianMixture._noised_isotropic",
        "- alpha * self._centre", "- self._centre"),
    Bug("07", 2, "VP: the integral of beta without its half", "paths.VP.total",
        "/ 2 * t", "* t"),
    Bug("07", 2, "VP: abar for its square root", "paths.VP.coefs",
        "torch.exp(-0.5 * total)", "torch.exp(-total)"),
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
        "return 2 * c.sigma * (c.dsigma - self.drift(t, x) * c.sigma)",
        "return (2 * c.sigma * (c.dsigma - self.drift(t, x) * c.sigma)).sqrt()"),
    Bug("07", 3, "g2 without the drift", "paths.Path.g2",
        "c.dsigma - self.drift(t, x) * c.sigma", "c.dsigma"),
    Bug("07", 3, "VP: alpha' without its half", "paths.VP.coefs",
        "-0.5 * beta * alpha", "-beta * alpha"),
    Bug("07", 3, "sub-VP: sigma of VP", "paths.SubVP.coefs",
        "-torch.expm1(-total)", "torch.sqrt(-torch.expm1(-total))"),
    Bug("07", 3, "VE: sigma' without its rate", "paths.VE.coefs",
        "rate * sigma)", "sigma)"),
    Bug("07", 1, "BetaTable: the slope of the next step", "paths.BetaTable.coefs",
        "[i - 1] * steps", "[i.clamp(max=steps - 1)] * steps"),
    # chapter 8
    Bug("08", 2, "posterior mean with sigma_t for sigma_s", "paths.posterior",
        "alpha_ts * cs.sigma**2 * xt", "alpha_ts * ct.sigma**2 * xt"),
    Bug("08", 2, "posterior mean without alpha_s", "paths.posterior",
        "cs.alpha * var_ts * x0", "var_ts * x0"),
    Bug("08", 2, "posterior variance is beta", "paths.posterior",
        "return mean, var_ts * cs.sigma**2 / ct.sigma**2", "return mean, var_ts"),
    Bug("08", 2, "posterior variance with a lost square", "paths.posterior",
        "return mean, var_ts * cs.sigma**2 / ct.sigma**2", "return mean, var_ts * cs.sigma / ct.sigma"),
    Bug("08", 2, "abar by an index too late", "paths.BetaTable.__post_init__",
        "(1, 0)", "(0, 1), value=-10.05"),
    Bug("08", 2, "decode with the sign of eps flipped", "predict.decode",
        "c.alpha * y - a * xt", "a * xt - c.alpha * y"),
    Bug("08", 2, "determinant with a plus", "predict.decode",
        "det = c.alpha * b - c.sigma * a", "det = c.alpha * b + c.sigma * a"),
    Bug("08", 2, "sigma for alpha in the denoiser's gain", "reference.GaussianMixture._average",
        "gain = alpha[..., None]", "gain = sigma[..., None]"),
    Bug("08", 2, "eps without sigma", "reference.GaussianMixture.denoiser",
        "noised.sigma * pull", "pull"),
    Bug("08", 3, "posterior variance is beta", "paths.posterior",
        "return mean, var_ts * cs.sigma**2 / ct.sigma**2", "return mean, var_ts"),
    Bug("08", 3, "posterior mean without alpha_s", "paths.posterior",
        "cs.alpha * var_ts * x0", "var_ts * x0"),
    Bug("08", 3, "lam is the whole log-SNR", "paths._lam",
        "c.alpha.log() - c.sigma.log()", "2 * (c.alpha.log() - c.sigma.log())"),
    Bug("08", 4, "loss with a sum for a mean", "losses.matching_loss",
        ".flatten(1).mean(1)", ".flatten(1).sum(1) / 2**0.5"),
    Bug("08", 4, "loss against the data, not the noise", "losses.matching_loss",
        "Estimate(x0, x1)", "Estimate(x1, x0)"),
    Bug("08", 4, "noise scaled by the variance", "losses.matching_loss",
        "c.sigma * x1", "c.sigma**2 * x1"),
    Bug("08", 4, "weight without its square", "losses.reweight",
        "** 2", "** 1"),
    Bug("08", 4, "weight upside down", "losses.reweight",
        "determinant(c, to) / determinant(c, kind)", "determinant(c, kind) / determinant(c, to)"),
    Bug("08", 2, "v with its sign flipped", "predict.ROWS[v]",
        "(-c.sigma, c.alpha)", "lambda c: (c.sigma, -c.alpha)"),
    Bug("08", 4, "DDPM's times from 0 to T - 1", "losses.discrete_t",
        "torch.randint(1, steps + 1,", "torch.randint(0, steps,"),
    Bug("08", 4, "score of the mixture with its sign flipped", "reference.GaussianMixture.score",
        "(-self._average", "(self._average"),
    Bug("08", 2, "score with the wrong sign", "predict.ROWS[score]",
        "-1 / c.sigma", "lambda c: (torch.zeros_like(c.alpha), 1 / c.sigma)"),
    Bug("08", 2, "score with the variance", "predict.ROWS[score]",
        "-1 / c.sigma", "lambda c: (torch.zeros_like(c.alpha), -1 / c.sigma**2)"),
    Bug("08", 5, "noise scaled by the variance", "samplers.ancestral_step",
        "var.sqrt()", "var"),
    Bug("08", 5, "beta for beta-tilde", "samplers.ancestral_step",
        'if variance == "forward":', "if True:"),
    Bug("08", 5, "noise in the last step", "samplers.ancestral_step",
        "sigma > 0", "sigma >= 0"),
    Bug("08", 5, "forward variance of the whole path", "samplers.ancestral_step",
        "transition(path, t, s, x)[1]", "path.at(t, x).sigma ** 2"),
    Bug("08", 5, "eta without its square root", "samplers.ddim_step",
        "fresh.sqrt() *", "fresh *"),
    Bug("08", 5, "all of sigma_s and noise on top", "samplers.ddim_step",
        "(1 - fresh).sqrt() * e.eps", "e.eps"),
    Bug("08", 5, "rand for randn", "rng.randn_like",
        "torch.randn(", "torch.rand("),
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
