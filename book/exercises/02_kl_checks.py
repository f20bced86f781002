"""The checks of the exercises of chapter 2."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."


def categorical_cases(rng: np.random.Generator) -> list[Case]:
    def logits(B: int, C: int, scale: float = 1.5) -> np.ndarray:
        return scale * rng.normal(size=(B, C))

    impossible = logits(4, 3)
    impossible[np.arange(4), rng.integers(0, 3, 4)] = -np.inf
    apart = logits(2, 3)
    apart[:, 0] += rng.uniform(800, 1000, 2)
    return [
        Case("values", (logits(5, 3), logits(5, 3))),
        Case("batch equals classes", (logits(4, 4), logits(4, 4))),
        Case("probability 0", (impossible, logits(4, 3))),
        Case("far apart", (logits(2, 3), apart)),
    ]


def categorical_oracle(logits_p: np.ndarray, logits_q: np.ndarray) -> np.ndarray:
    """Probabilities in extended precision, and the definition, term by term."""
    p, q = (np.exp(each.astype(np.longdouble)) for each in (logits_p, logits_q))
    out = np.zeros(len(p))
    for b, (row_p, row_q) in enumerate(zip(p, q, strict=True)):
        ratios = [(u / sum(row_p)) / (v / sum(row_q)) for u, v in zip(row_p, row_q, strict=True)]
        out[b] = sum(u / sum(row_p) * np.log(r) for u, r in zip(row_p, ratios, strict=True) if u > 0)
    return out


categorical_kl = Exercise(
    id="categorical_kl",
    dots=1,
    points=2.0,
    hints=(
        "Normalise in logarithms: then no probability is rounded to 0 before its logarithm is taken.",
        "A class that p never gives makes 0 times infinity. What is the limit of u log u at 0?",
    ),
    cases=categorical_cases,
    oracle=categorical_oracle,
    messages={
        "values": "The divergences are wrong.",
        "batch equals classes": "With as many rows as classes the result is wrong: an axis was taken for another.",
        "probability 0": "A class to which p gives probability 0 must add nothing.",
        "far apart": "With logits a thousand apart the result is wrong: a probability was rounded to 0.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def categorical_kl(logits_p, logits_q):
    p, q = (torch.distributions.Categorical(logits=each) for each in (logits_p, logits_q))
    log_q = logits_q - torch.logsumexp(logits_q, 1, keepdim=True)
    cross = -(torch.softmax(logits_p, 1) * log_q).sum(1)
    return cross - torch.special.entr(torch.softmax(logits_p, 1)).sum(1)
""",
        """
def categorical_kl(logits_p, logits_q):
    out = []
    for row_p, row_q in zip(logits_p, logits_q):
        kept = row_p > -math.inf
        log_p = row_p[kept] - row_p.logsumexp(0)
        log_q = row_q[kept] - row_q.logsumexp(0)
        out.append(log_p.exp() @ (log_p - log_q))
    return torch.stack(out)
""",
    ),
    wrong=(
        Wrong("log_p.exp() * (log_p - log_q)", "log_q.exp() * (log_q - log_p)", "values", "That is KL(q || p)."),
        Wrong("logits_p.log_softmax(1)", "logits_p", "values", "Logits are not log-probabilities: normalise them."),
        Wrong("logits_q.log_softmax(1)", "logits_q.log_softmax(0)", "values", "Each row is a distribution."),
        Wrong(".sum(1)", ".mean(1)", "values", "An expectation is a sum with probabilities: do not divide again."),
        Wrong(
            "torch.where(log_p.isinf(), 0.0, terms)", "terms", "probability 0", "0 times infinity is not a number here."
        ),
        Wrong(
            "logits_q.log_softmax(1)",
            "logits_q.softmax(1).log()",
            "far apart",
            "A small probability was rounded to 0, and its logarithm is minus infinity.",
        ),
    ),
)


def elbo_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, B: int, D: int, K: int, scale: float = 1.0) -> Case:
        x = rng.integers(0, 2, (B, D)).astype(float)
        log_var = np.where(rng.random((B, K)) < 0.5, 1.0, -1.0) * rng.uniform(0.5, 2.0, (B, K))
        draws = rng.normal(size=(B, K)), log_var, rng.normal(size=(B, K))
        return Case(check, (x, *draws, scale * rng.normal(size=(D, K)), scale * rng.normal(size=D)))

    return [case("values", 5, 6, 3), case("one size", 4, 4, 4), case("large logits", 8, 6, 2, scale=1500.0)]


def rate_by_quadrature(mean: float, var: float) -> float:
    """KL(N(mean, var) || N(0, 1)) as the integral of its definition."""
    nodes, weights = np.polynomial.legendre.leggauss(80)
    std = np.sqrt(var)
    z = mean + 12 * std * nodes
    log_q = -((z - mean) ** 2) / (2 * var) - np.log(2 * np.pi * var) / 2
    log_p = -(z**2) / 2 - np.log(2 * np.pi) / 2
    return float(np.sum(12 * std * weights * np.exp(log_q) * (log_q - log_p)))


def elbo_oracle(x: Any, mu: Any, log_var: Any, eps: Any, W: Any, c: Any) -> np.ndarray:
    """Pixel by pixel with probabilities in extended precision; the rate by quadrature."""
    out = np.zeros(len(x))
    for b in range(len(x)):
        z = [m + np.sqrt(np.exp(v)) * e for m, v, e in zip(mu[b], log_var[b], eps[b], strict=True)]
        for pixel, row, shift in zip(x[b], W, c, strict=True):
            logit = sum(w * u for w, u in zip(row, z, strict=True)) + shift
            away = logit if pixel == 0 else -logit  # the logit of the other value
            out[b] -= max(away, 0) + np.log1p(np.exp(-abs(away)))
        out[b] -= sum(rate_by_quadrature(m, np.exp(v)) for m, v in zip(mu[b], log_var[b], strict=True))
    return out


binary_elbo = Exercise(
    id="binary_elbo",
    dots=2,
    points=3.0,
    hints=(
        "Test the parts alone: what is the standard deviation of many draws of z, for a known log_var?",
        "Write down what the logarithm of a variance is in terms of the standard deviation.",
    ),
    cases=elbo_cases,
    oracle=elbo_oracle,
    messages={
        "values": "The ELBO is wrong.",
        "one size": "With as many images as pixels and latent variables the ELBO is wrong: look for the summed axis.",
        "large logits": "With large logits the ELBO is wrong: an exponential overflowed.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def binary_elbo(x, mu, log_var, eps, W, c):
    q = torch.distributions.Normal(mu, log_var.exp().sqrt())
    rate = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    logits = torch.einsum("dk,bk->bd", W, mu + q.stddev * eps) + c
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none")
    return -(loss.sum(1) + rate.sum(1))
""",
        """
def binary_elbo(x, mu, log_var, eps, W, c):
    s = log_var.exp() ** 0.5
    out = []
    for b in range(len(x)):
        logits = W @ (mu[b] + s[b] * eps[b]) + c
        signs = 2 * x[b] - 1
        rate = 0.5 * (mu[b] @ mu[b] + s[b] @ s[b] - len(s[b])) - s[b].log().sum()
        out.append(torch.nn.functional.logsigmoid(signs * logits).sum() - rate)
    return torch.stack(out)
""",
    ),
    wrong=(
        Wrong(
            "torch.exp(log_var / 2)",
            "torch.exp(log_var)",
            "values",
            "The noise is multiplied by a variance. Half of the logarithm belongs to the standard deviation.",
        ),
        Wrong(
            "log_var).sum(1) / 2",
            "log_var).mean(1) / 2",
            "values",
            "The rate is a sum over the latent variables: a mean makes it too cheap, by a factor K.",
        ),
        Wrong("log_px - rate", "log_px + rate", "values", "The rate is paid: it is taken from the reconstruction."),
        Wrong(
            "log_var.exp() - 1", "torch.exp(log_var / 2) - 1", "values", "The variance enters the rate, not its root."
        ),
        Wrong("mu**2", "mu.abs()", "values", "A distance of the means enters a divergence of Gaussians as a square."),
        Wrong(
            "torch.nn.functional.softplus(logits)",
            "torch.log(1 + torch.exp(logits))",
            "large logits",
            "The exponential of a large logit overflows before its logarithm is taken.",
        ),
    ),
)


def baseline_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, n: int, D: int, offset: float = 0.0) -> Case:
        f = offset + 2 * rng.normal(size=n)
        return Case(check, (f, rng.normal(size=(n, D)), rng.uniform(0.3, 2.0, D)))

    return [
        case("values", int(rng.integers(5, 9)), 3, offset=3.0),
        case("as many draws as dimensions", 4, 4),
        case("values", 2, 1, offset=-1.0),
    ]


def baseline_oracle(f: np.ndarray, eps: np.ndarray, s: np.ndarray) -> tuple[Any, ...]:
    """A mean over pairs of draws, half the product of their differences: no baseline appears."""
    n = len(f)
    by_mean, by_log_s = np.zeros(len(s)), np.zeros(len(s))
    for i in range(n):
        for j in range(i):
            share = (f[i] - f[j]) / (n * (n - 1))
            by_mean += share * (eps[i] - eps[j]) / s
            by_log_s += share * (eps[i] ** 2 - eps[j] ** 2)
    return by_mean, by_log_s


baseline_gradient = Exercise(
    id="baseline_gradient",
    dots=2,
    points=3.0,
    hints=(
        "First the score: differentiate log q(z) by m and by log s at a fixed z, and write the result with eps.",
        "The sum over the others is the sum over all without one: no loop is needed.",
    ),
    cases=baseline_cases,
    oracle=baseline_oracle,
    messages={
        "values": "The gradients are wrong.",
        "as many draws as dimensions": "With n = D the gradients are wrong: look for the summed axis.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def baseline_gradient(f, eps, s):
    n, weight = len(f), []
    for i in range(n):
        others = torch.cat([f[:i], f[i + 1 :]])
        weight.append(f[i] - others.mean())
    weight = torch.stack(weight)
    return weight @ (eps / s) / n, weight @ (eps * eps - 1) / n
""",
        """
def baseline_gradient(f, eps, s):
    n = len(f)
    by_mean = torch.zeros_like(s, requires_grad=True)
    by_log_s = torch.zeros_like(s, requires_grad=True)
    q = torch.distributions.Normal(by_mean, s * by_log_s.exp())
    log_q = q.log_prob((s * eps).detach()).sum(1)
    surrogate = ((f - f.mean()) * n / (n - 1) * log_q).mean()
    return torch.autograd.grad(surrogate, (by_mean, by_log_s))
""",
    ),
    wrong=(
        Wrong(
            "(f.sum() - f) / (n - 1)",
            "f.mean()",
            "values",
            "The draw itself is in its baseline: that makes the gradient too small, by the factor (n - 1)/n.",
        ),
        Wrong("(f - others)[:, None]", "f[:, None]", "values", "No baseline is taken away: unbiased, but very noisy."),
        Wrong("weight * eps / s", "weight * eps", "values", "The score of a Gaussian by its mean has a scale."),
        Wrong("weight * eps / s", "weight * eps / s**2", "values", "The draw is s eps away from the mean, not eps."),
        Wrong(
            "(eps**2 - 1)",
            "(eps**2 - 1) / s",
            "values",
            "That is the derivative by s. The one by log s has a factor s more.",
        ),
        Wrong("[:, None] / n", "[:, None]", "values", "The estimate is the mean over the draws, not their sum."),
    ),
    equivalent={
        f"return ((weight * eps / s).sum(0), (weight * (eps ** 2 {end})).sum(0))": "the weights add up to 0"
        for end in ("+ 1", "- 2", "- 0")
    },
)


def covariance(rng: np.random.Generator, n: int, scale: float = 1.0) -> np.ndarray:
    root = rng.normal(size=(n, n))
    return scale * (root @ root.T + 0.3 * np.eye(n))


def rate_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, K: int, D: int, size: float = 0.6, sharp: float = 1.0) -> Case:
        return Case(check, (size * rng.normal(size=(K, D)), covariance(rng, K, 0.3 * sharp), covariance(rng, D)))

    return [
        case("values", 2, 4),
        case("values", 4, 2),
        case("as many latents as dimensions", 3, 3),
        case("values", 3, 2, size=0.0),
        case("a sharp encoder", 6, 7, sharp=1e-60),
    ]


def rate_oracle(A: np.ndarray, C: np.ndarray, S: np.ndarray) -> tuple[float, float]:
    """Information from the singular values of the whitened channel; the rest of the mean rate is the mismatch.

    The mean over x is one over the 2 D points +-sqrt(D) L e_i, which have the covariance S.
    """
    K, D = A.shape
    signal = np.linalg.svd(np.linalg.solve(np.linalg.cholesky(C), A @ np.linalg.cholesky(S)))[1]
    information = float(np.sum(np.log(np.hypot(1.0, signal))))
    corners = np.sqrt(D) * np.linalg.cholesky(S)
    x = np.concatenate([corners.T, -corners.T])  # (2 D, D)
    rates = (np.trace(C) + np.sum((x @ A.T) ** 2, 1) - K - np.linalg.slogdet(C)[1]) / 2
    return information, float(np.mean(rates)) - information


split_rate = Exercise(
    id="split_rate",
    dots=2,
    points=3.0,
    hints=(
        "What is the distribution of z over all data? A linear map of a Gaussian plus independent noise.",
        "For the information, the mean of the quadratic form is the same number as the trace: they cancel.",
    ),
    cases=rate_cases,
    oracle=rate_oracle,
    messages={
        "values": "Information or mismatch is wrong.",
        "as many latents as dimensions": "With K = D the result is wrong: a matrix was taken for its transpose.",
        "a sharp encoder": "With a sharp encoder the result is wrong: a determinant was rounded to 0.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def split_rate(A, C, S):
    L = torch.linalg.cholesky(S)
    total = (A @ L) @ (A @ L).T + C
    log_total, log_noise = torch.linalg.slogdet(total)[1], torch.linalg.slogdet(C)[1]
    q = torch.distributions.MultivariateNormal(torch.zeros(len(C), dtype=C.dtype), total)
    p = torch.distributions.MultivariateNormal(torch.zeros(len(C), dtype=C.dtype), torch.eye(len(C), dtype=C.dtype))
    return 0.5 * (log_total - log_noise), torch.distributions.kl_divergence(q, p)
""",
        """
def split_rate(A, C, S):
    gain = torch.linalg.solve(C, A @ S @ A.T)
    information = torch.log1p(torch.linalg.eigvals(gain).real).sum() / 2
    total_rate = (C.trace() + (A @ S @ A.T).trace() - len(C) - torch.logdet(C)) / 2
    return information, total_rate - information
""",
    ),
    wrong=(
        Wrong("A @ S @ A.T + C", "A @ S @ A.T", "values", "The encoder's own noise spreads z too."),
        Wrong("A @ S @ A.T + C", "A @ A.T + C", "values", "The data are not N(0, I): their covariance is missing."),
        Wrong(
            "(total.trace() - len(C) - torch.logdet(total)) / 2",
            "(total.trace() - len(C) - torch.logdet(C)) / 2",
            "values",
            "That is the whole mean rate: the information is counted twice.",
        ),
        Wrong(
            "torch.logdet(total) - torch.logdet(C)",
            "-torch.logdet(C)",
            "values",
            "Entropy of z minus that of z given x.",
        ),
        Wrong("- len(C) -", "-", "values", "A divergence is 0 when q(z) is the prior: try total = I."),
        Wrong(
            "torch.logdet(total) - torch.logdet(C)",
            "torch.logdet(total) - torch.det(C).log()",
            "a sharp encoder",
            "The determinant is rounded to 0 before its logarithm is taken.",
        ),
    ),
)


def bound_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, n: int, B: int, D: int, K: int, far: float = 1.0) -> Case:
        q = rng.normal(size=(B, K)), rng.uniform(0.3, 1.5, (B, K))
        eps, W = rng.normal(size=(n, B, K)), rng.normal(size=(D, K))
        return Case(check, (far * rng.normal(size=(B, D)), *q, eps, W, float(rng.uniform(0.3, 0.8))))

    far = case("far away", 4, 3, 4, 2)
    x = np.where(rng.random((3, 4)) < 0.5, -1, 1) * rng.uniform(25, 32, (3, 4))
    return [
        case("values", 6, 4, 5, 2),
        case("one size", 3, 3, 3, 3),
        case("values", 1, 4, 3, 2),
        Case(far.check, (x, *far.args[1:])),
    ]


def bound_oracle(x: Any, m: Any, s: Any, eps: Any, W: Any, v: float) -> np.ndarray:
    """The joint Gaussian of z and x with its covariance matrix, and weights in extended precision."""
    D, K = W.shape
    joint = np.block([[np.eye(K), W.T], [W, W @ W.T + v * np.eye(D)]])
    inverse, log_det = np.linalg.inv(joint), np.linalg.slogdet(2 * np.pi * joint)[1]
    out = np.zeros(len(x))
    for b in range(len(x)):
        total = np.longdouble(0)
        for draw in eps[:, b]:
            both = np.concatenate([m[b] + s[b] * draw, x[b]])
            density_q = np.prod(np.exp(-(draw**2) / 2) / (np.sqrt(2 * np.pi) * s[b]))
            total += np.exp(np.longdouble(-(both @ inverse @ both + log_det) / 2)) / density_q
        out[b] = float(np.log(total / len(eps)))
    return out


many_draw_bound = Exercise(
    id="many_draw_bound",
    dots=3,
    points=4.0,
    hints=(
        "Three log-densities make log w: the decoder, the prior, the encoder. In two of them log 2 pi cancels.",
        "Only logarithms of the weights are numbers that float64 can hold. How did chapter 1 add such numbers?",
    ),
    cases=bound_cases,
    oracle=bound_oracle,
    messages={
        "values": "The bound is wrong.",
        "one size": "With n = B = D = K the bound is wrong: an axis was taken for another.",
        "far away": "Far away the bound is wrong: all weights were rounded to 0.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def many_draw_bound(x, m, s, eps, W, v):
    normal = torch.distributions.Normal
    z = m + s * eps
    log_w = normal(torch.einsum("nbk,dk->nbd", z, W), math.sqrt(v)).log_prob(x).sum(-1)
    log_w = log_w + normal(0.0, 1.0).log_prob(z).sum(-1) - normal(m, s).log_prob(z).sum(-1)
    top = log_w.max(0).values
    return top + (log_w - top).exp().mean(0).log()
""",
        """
def many_draw_bound(x, m, s, eps, W, v):
    n, B, K = eps.shape
    total = torch.full((B,), -math.inf, dtype=x.dtype)
    for i in range(n):
        z = m + s * eps[i]
        log_joint = -(z * z).sum(1) / 2 - ((x - z @ W.T) ** 2).sum(1) / (2 * v)
        log_joint = log_joint - K / 2 * math.log(2 * math.pi) - W.shape[0] / 2 * math.log(2 * math.pi * v)
        log_q = -(eps[i] ** 2).sum(1) / 2 - K / 2 * math.log(2 * math.pi) - torch.log(s).sum(1)
        total = torch.logaddexp(total, log_joint - log_q)
    return total - math.log(n)
""",
    ),
    wrong=(
        Wrong(
            "torch.logsumexp(log_px + log_ratio, 0) - math.log(len(eps))",
            "(log_px + log_ratio).mean(0)",
            "values",
            "The mean of the logarithms is the ELBO again. The logarithm is taken last.",
        ),
        Wrong(" - math.log(len(eps))", "", "values", "A mean, not a sum: otherwise more draws exceed log p(x)."),
        Wrong(" + s.log().sum(1)", "", "values", "The encoder's density depends on its width."),
        Wrong(
            "(eps.square() - z.square()).sum(2) / 2",
            "-z.square().sum(2) / 2",
            "values",
            "The encoder's density is missing in the weight.",
        ),
        Wrong("m + s * eps", "m + s**2 * eps", "values", "The noise is multiplied by the standard deviation."),
        Wrong("misfit / v", "misfit / v**2", "values", "v is a variance already."),
        Wrong(
            "torch.logsumexp(log_px + log_ratio, 0) - math.log(len(eps))",
            "(log_px + log_ratio).exp().mean(0).log()",
            "far away",
            "Every weight is rounded to 0 before the mean is taken.",
        ),
    ),
    equivalent={"misfit = (z @ W.T - x).square().sum(2)": "the square of a difference, turned round"},
)

EXERCISES = [categorical_kl, binary_elbo, baseline_gradient, split_rate, many_draw_bound]
