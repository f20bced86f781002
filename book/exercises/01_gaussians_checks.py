"""The checks of the exercises of chapter 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."


def fit(rng: np.random.Generator, D: int, centre: float = 0.0, least: int = 2) -> tuple[Any, ...]:
    """The number of points, their mean and their variance."""
    return int(rng.integers(least, least + 7)), centre + rng.normal(size=D), rng.uniform(0.3, 2.0, D)


def merge_cases(rng: np.random.Generator) -> list[Case]:
    cases = [Case("values", (*fit(rng, D), *fit(rng, D, least=9))) for D in (1, 4)]  # never n_a = n_b
    one = (1, rng.normal(size=3), np.zeros(3))
    cases.append(Case("a single point", (*one, *fit(rng, 3))))
    cases.append(Case("far from 0", (*fit(rng, 3, 1e6), *fit(rng, 3, 1e6))))
    return cases


def points(n: int, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
    """n points that have this mean and this variance, in extended precision."""
    steps = np.arange(n, dtype=np.longdouble) - np.longdouble(n - 1) / 2
    steps = steps / max(steps.std(), np.longdouble(1e-300))
    return mean + np.sqrt(var.astype(np.longdouble)) * steps[:, None]


def merge_oracle(n_a: int, mean_a: Any, var_a: Any, n_b: int, mean_b: Any, var_b: Any) -> tuple[Any, ...]:
    """Make up points with these moments, and fit them all at once."""
    everything = np.concatenate([points(n_a, mean_a, var_a), points(n_b, mean_b, var_b)])
    return everything.mean(0).astype(float), everything.var(0).astype(float)


merge_fits = Exercise(
    id="merge_fits",
    dots=1,
    points=2.0,
    hints=(
        "The variance of all points has two parts: inside the machines, and between their means.",
        "Write it with the difference of the two means only: then no large numbers cancel.",
    ),
    cases=merge_cases,
    oracle=merge_oracle,
    messages={
        "values": "The moments are not those of all points together.",
        "a single point": "One machine with a single point, whose variance is 0, gives wrong moments.",
        "far from 0": "With data near 1,000,000 digits are lost: a small variance came from two large numbers.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def merge_fits(n_a, mean_a, var_a, n_b, mean_b, var_b):
    share = n_b / (n_a + n_b)
    mean = torch.lerp(mean_a, mean_b, share)
    var = (1 - share) * (var_a + (mean_a - mean).square()) + share * (var_b + (mean_b - mean).square())
    return mean, var
""",
        """
def merge_fits(n_a, mean_a, var_a, n_b, mean_b, var_b):
    mean, var = torch.empty_like(mean_a), torch.empty_like(var_a)
    for i in range(len(mean_a)):
        mean[i] = (n_a * mean_a[i] + n_b * mean_b[i]) / (n_a + n_b)
        inside = n_a * var_a[i] + n_b * var_b[i]
        between = n_a * (mean_a[i] - mean[i]) ** 2 + n_b * (mean_b[i] - mean[i]) ** 2
        var[i] = (inside + between) / (n_a + n_b)
    return mean, var
""",
    ),
    wrong=(
        Wrong(" + n_a * n_b * (gap / n) ** 2", "", "values", "The two means differ: that spreads the points too."),
        Wrong("gap * n_b / n", "gap / 2", "values", "The two parts have different numbers of points."),
        Wrong(
            "n_b * var_b) / n",
            "n_b * var_b) / (n - 2)",
            "values",
            "That is the unbiased pooled variance: the maximum-likelihood one divides by the number of points.",
        ),
        Wrong(
            "(n_a * var_a + n_b * var_b) / n + n_a * n_b * (gap / n) ** 2",
            "(n_a * (var_a + mean_a**2) + n_b * (var_b + mean_b**2)) / n - mean**2",
            "far from 0",
            "The mean of the squares minus the square of the mean: right on paper, but it cancels in floating point.",
        ),
    ),
)


def covariances(rng: np.random.Generator, K: int, D: int) -> np.ndarray:
    roots = rng.normal(size=(K, D, D))
    return roots @ roots.transpose(0, 2, 1) + 0.3 * np.eye(D)


def fuse_cases(rng: np.random.Generator) -> list[Case]:
    shapes = {"values": (4, 3), "one Gaussian": (1, 2), "as many Gaussians as dimensions": (3, 3)}
    return [Case(name, (rng.normal(size=(K, D)), covariances(rng, K, D))) for name, (K, D) in shapes.items()]


def fuse_oracle(means: np.ndarray, covs: np.ndarray) -> tuple[Any, ...]:
    """Observe x + noise once for each further expert, and condition the joint Gaussian on it."""
    mean, cov = means[0], covs[0]
    for seen, noise in zip(means[1:], covs[1:], strict=True):
        gain = np.linalg.solve(cov + noise, cov).T
        mean, cov = mean + gain @ (seen - mean), cov - gain @ cov
    return mean, cov


fuse = Exercise(
    id="fuse",
    dots=2,
    points=3.0,
    hints=(
        "Add the exponents: each is a quadratic form with the inverse of its covariance.",
        "Complete the square: the inverses add up, and each weights its own mean.",
    ),
    cases=fuse_cases,
    oracle=fuse_oracle,
    messages={
        "values": "Mean or covariance is not that of the product.",
        "one Gaussian": "The product of a single Gaussian must be that Gaussian.",
        "as many Gaussians as dimensions": "With K = D the result is wrong: an axis was taken for another.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def fuse(means, covs):
    precision, weighted = 0, 0
    for mean, cov in zip(means, covs):
        precision = precision + torch.inverse(cov)
        weighted = weighted + torch.linalg.solve(cov, mean)
    return torch.linalg.solve(precision, weighted), torch.inverse(precision)
""",
        """
def fuse(means, covs):
    def log_product(x):
        return sum(
            torch.distributions.MultivariateNormal(mean, cov).log_prob(x) for mean, cov in zip(means, covs)
        )
    start = torch.zeros_like(means[0])
    cov = torch.linalg.inv(-torch.autograd.functional.hessian(log_product, start))
    return cov @ torch.autograd.functional.jacobian(log_product, start), cov
""",
    ),
    wrong=(
        Wrong("precisions.sum(0)", "precisions.mean(0)", "values", "The inverses add up: more experts know more."),
        Wrong("inv(precisions.sum(0))", "inv(precisions).mean(0)", "values", "Covariances are averaged, not inverses."),
        Wrong("inv(covs)", "cholesky(covs)", "values", "A root of the covariance stands where its inverse should be."),
        Wrong(
            'cov @ torch.einsum("kij,kj->i", precisions, means)',
            "means.mean(0)",
            "values",
            "An expert that is more certain must weigh more.",
        ),
    ),
    equivalent={
        "mean = torch.einsum('kij,kj->i', precisions, means) @ cov": "cov is symmetric",
    },
)


def odds_cases(rng: np.random.Generator) -> list[Case]:
    def samples(N: int, M: int, D: int) -> tuple[np.ndarray, np.ndarray]:
        return 1.5 * rng.normal(size=(N, D)), 0.7 + 0.8 * rng.normal(size=(M, D))

    return [
        Case("values", (rng.normal(size=(5, 3)), *samples(12, 7, 3))),
        Case("batch equals width", (rng.normal(size=(4, 4)), *samples(9, 14, 4))),
        Case("far away", (60 + 40 * rng.normal(size=(5, 2)), *samples(10, 6, 2))),
    ]


def odds_oracle(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The density in D dimensions at once, with a determinant and an inverse matrix."""

    def log_joint(part: np.ndarray) -> np.ndarray:
        cov = np.diag(np.diag(np.atleast_2d(np.cov(part.T, bias=True))))
        away = x - part.sum(0) / len(part)
        square = np.einsum("bi,ij,bj->b", away, np.linalg.inv(cov), away)
        return np.log(len(part)) - np.linalg.slogdet(2 * np.pi * cov)[1] / 2 - square / 2

    return log_joint(a) - log_joint(b)


log_odds = Exercise(
    id="log_odds",
    dots=2,
    points=3.0,
    hints=(
        "Test the density alone: does it integrate to 1, and what is the standard deviation of its samples?",
        "Read what the second argument of torch.distributions.Normal is.",
    ),
    cases=odds_cases,
    oracle=odds_oracle,
    messages={
        "values": "The log odds are wrong.",
        "batch equals width": "With as many points as coordinates the log odds are wrong: look for the summed axis.",
        "far away": "Far from both samples the log odds are wrong: a density was 0 before its logarithm was taken.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def log_odds(x, a, b):
    def joint(part):
        std, mean = part.std(0, unbiased=False), part.mean(0)
        z = (x - mean) / std
        return math.log(len(part)) - (z * z / 2 + torch.log(std)).sum(-1)
    return joint(a) - joint(b)
""",
        """
def log_odds(x, a, b):
    odds = x.new_full((len(x),), math.log(len(a)) - math.log(len(b)))
    for i in range(x.shape[1]):
        for part, sign in ((a[:, i], 1), (b[:, i], -1)):
            var = ((part - part.mean()) ** 2).mean()
            odds = odds - sign * 0.5 * ((x[:, i] - part.mean()) ** 2 / var + var.log())
    return odds
""",
    ),
    wrong=(
        Wrong(
            "var.sqrt()",
            "var",
            "values",
            "torch.distributions.Normal, like torch.normal, takes a standard deviation; it was given a variance.",
        ),
        Wrong("correction=0", "correction=1", "values", "Maximum likelihood divides by N, not by N - 1."),
        Wrong(
            " + math.log(len(a) / len(b))", "", "values", "One source is more frequent: its prior belongs to the odds."
        ),
        Wrong(".sum(1)", ".sum(0)", "values", "The logarithms are added over the coordinates, not over the points."),
        Wrong("at[0] - at[1]", "(at[0].exp() / at[1].exp()).log()", "far away", "Subtract logarithms instead."),
    ),
)


def squeezed_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, B: int, D: int, far: float = 0.0) -> Case:
        L = np.tril(0.4 * rng.normal(size=(D, D)), -1) + np.diag(rng.uniform(0.4, 1.4, D))
        L[0, 0] *= -1 if check == "a negative entry of L" else 1
        mu = rng.normal(size=D) + far * np.resize([1, -1], D)
        mu[0] += 4  # where the slope of tanh is small, but not yet rounded to 0
        return Case(check, (rng.normal(size=(B, D)), mu, L))

    return [
        case("values", 5, 3),
        case("a negative entry of L", 4, 4),
        case("close to the walls", 5, 2, far=40.0),
    ]


def squeezed_oracle(z: np.ndarray, mu: np.ndarray, L: np.ndarray) -> np.ndarray:
    """Differentiate the whole map by a complex step, and take the determinant of its Jacobian."""
    step = 1e-30
    columns = [np.tanh(mu + (z + 1j * step * unit) @ L.T).imag / step for unit in np.eye(len(mu))]
    jacobians = np.stack(columns, -1)  # (B, D, D)
    return np.log(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)).sum(1) - np.linalg.slogdet(jacobians)[1]


squeezed_log_prob = Exercise(
    id="squeezed_log_prob",
    dots=2,
    points=3.0,
    hints=(
        "Two maps in a row: each takes the logarithm of its own determinant away. One Jacobian is diagonal.",
        "Write the slope of tanh with exponentials, and simplify its logarithm on paper.",
    ),
    cases=squeezed_cases,
    oracle=squeezed_oracle,
    messages={
        "values": "The log-density is wrong.",
        "a negative entry of L": "With a negative entry on the diagonal of L the log-density is wrong.",
        "close to the walls": "Close to the walls the log-density is wrong: there tanh is rounded to 1 or -1.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def squeezed_log_prob(z, mu, L):
    x = mu + torch.einsum("ij,bj->bi", L, z)
    normal = torch.distributions.MultivariateNormal(mu, L @ L.T)
    slope = 2 * (math.log(2) - x - torch.nn.functional.softplus(-2 * x))
    return normal.log_prob(x) - slope.sum(-1)
""",
        """
def squeezed_log_prob(z, mu, L):
    out = []
    for row in z:
        x = mu + L @ row
        log_z = torch.distributions.Normal(0.0, 1.0).log_prob(row).sum()
        jacobian = torch.diag(1 / torch.cosh(x) ** 2) @ L
        out.append(log_z - torch.linalg.slogdet(jacobian).logabsdet)
    return torch.stack(out)
""",
    ),
    wrong=(
        Wrong(" - log_slope.sum(1)", "", "values", "tanh squeezes volumes too: its Jacobian is missing."),
        Wrong("- log_slope.sum(1)", "+ log_slope.sum(1)", "values", "Where the map squeezes, the density grows."),
        Wrong(" - log_det", "", "values", "This is the density of z, not that of x, before tanh: L stretches it."),
        Wrong("z @ L.T", "z @ L", "values", "The rows of z are points: a row times L is not L times the point."),
        Wrong(
            ".abs().log()",
            ".log()",
            "a negative entry of L",
            "A volume grows by the absolute value of the determinant: a mirror does not make it negative.",
        ),
        Wrong(
            "2 * (math.log(2) - torch.logaddexp(x, -x))",
            "(1 - torch.tanh(x) ** 2).log()",
            "close to the walls",
            "Right on paper, but tanh is rounded to 1, and the logarithm of 0 is minus infinity.",
        ),
        Wrong(
            "2 * (math.log(2) - torch.logaddexp(x, -x))",
            "(1 - torch.tanh(x) ** 2 + 1e-6).log()",
            "values",
            "A small number inside the logarithm hides the infinity, and makes every value a little wrong.",
        ),
    ),
    equivalent={
        "log_slope = 2 * (math.log(2) - torch.logaddexp(-x, x))": "the sum of two exponentials, exchanged",
    },
)


def level_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, levels: int, D: int) -> Case:
        outer = check == "first and last level"
        k = rng.choice([0, levels - 1], (4, D)) if outer else rng.integers(1, levels - 1, (4, D))
        return Case(check, (k, rng.uniform(-0.7, 0.7, D), rng.uniform(0.35, 0.8, D), levels))

    return [
        case("values", int(rng.integers(9, 18)), 3),
        case("values", 256, 4),
        case("first and last level", int(rng.integers(5, 9)), 4),
        far_levels(rng),
    ]


def far_levels(rng: np.random.Generator) -> Case:
    """Cells above and below the mean, most of them 40 or more standard deviations away, the outermost among them."""
    k = np.array([[0, 31, 2, 29], [1, 30, 0, 31], [3, 28, 4, 27]])
    return Case("far from the mean", (k, np.array([0.2, -0.2, 0.2, -0.2]), rng.uniform(0.018, 0.022, 4), 32))


def log_integral(low: float, high: float) -> float:
    """log of the integral of N(0, 1), by a composite Gauss-Legendre rule; tails are cut where nothing is left."""
    start = min(-14.0, high - 14.0) if np.isinf(low) else low
    end = max(14.0, low + 14.0) if np.isinf(high) else high
    nodes, weights = np.polynomial.legendre.leggauss(12)
    edges = np.linspace(start, end, 101)
    radius = np.diff(edges)[:, None] / 2
    x = edges[:-1, None] + radius * (nodes + 1)
    log_density = -(x**2) / 2 - np.log(2 * np.pi) / 2
    most = log_density.max()
    return float(most + np.log(np.sum(radius * weights * np.exp(log_density - most))))


def level_oracle(k: np.ndarray, mean: np.ndarray, std: np.ndarray, levels: int) -> np.ndarray:
    """Integrate the density over each cell, scaled by its greatest value there."""
    edges = np.array([-np.inf, *(2 * np.arange(1, levels) / levels - 1), np.inf])
    bits = np.zeros(k.shape)
    for b, i in np.ndindex(*k.shape):
        low, high = (edges[k[b, i] : k[b, i] + 2] - mean[i]) / std[i]
        bits[b, i] = -log_integral(low, high) / np.log(2)
    return bits.sum(1) / k.shape[1]


level_bits = Exercise(
    id="level_bits",
    dots=3,
    points=4.0,
    hints=(
        "The probability of a cell is a difference of two values of the distribution function. Which cells need one "
        "value only?",
        "Right of the mean both values are almost 1: mirror the cell to the left. Then take the larger logarithm "
        "out of the difference, as log-sum-exp does for a sum.",
    ),
    cases=level_cases,
    oracle=level_oracle,
    messages={
        "values": "The bits per dimension are wrong.",
        "first and last level": "The first or the last level is wrong: its cell has no end on one side.",
        "far from the mean": "Far from the mean the cost is wrong: a probability was rounded before its logarithm.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def level_bits(k, mean, std, levels):
    infinite = torch.full_like(mean, math.inf)
    low = torch.where(k == 0, -infinite, (2 * k / levels - 1 - mean) / std)
    high = torch.where(k == levels - 1, infinite, (2 * (k + 1) / levels - 1 - mean) / std)
    mirror = low > -high
    low, high = torch.where(mirror, -high, low), torch.where(mirror, -low, high)
    a, b = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return -(b + torch.log(-torch.expm1(a - b))).sum(1) / (k.shape[1] * math.log(2))
""",
        """
def level_bits(k, mean, std, levels):
    fine = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    nats = torch.zeros(k.shape, dtype=torch.float64)
    for b in range(k.shape[0]):
        for i in range(k.shape[1]):
            if k[b, i] in (0, levels - 1):
                inner = 2 / levels - 1 if k[b, i] == 0 else 1 - 2 / levels
                sign = 1 if k[b, i] == 0 else -1
                nats[b, i] = -torch.special.log_ndtr(sign * (inner - mean[i]) / std[i])
            else:
                x = 2 * (k[b, i] + fine) / levels - 1
                density = torch.distributions.Normal(mean[i], std[i]).log_prob(x)
                nats[b, i] = -density.logsumexp(0) - math.log(2 / levels / 2000)
    return nats.mean(1) / math.log(2)
""",
    ),
    wrong=(
        Wrong(" / math.log(2)", "", "values", "These are nats: a nat is more than a bit."),
        Wrong("log_p.mean(1)", "log_p.sum(1)", "values", "That is the cost of the whole picture, not of a dimension."),
        Wrong("(2 * k + 1) / levels", "2 * k / levels", "values", "Half a cell off: level k begins there."),
        Wrong(
            "1 / (levels * std)",
            "1 / ((levels - 1) * std)",
            "values",
            "There are as many cells as levels between -1 and 1.",
        ),
        Wrong(
            "near + torch.log1p(-torch.exp(far - near))",
            "(2 * half).log() - (z**2 + math.log(2 * math.pi)) / 2",
            "values",
            "Density times width is not the probability of a cell: the density is not flat in it.",
        ),
        Wrong(
            "torch.where(k == 0, log_cdf(half + z), log_p)",
            "log_p",
            "first and last level",
            "What lies below the lowest level belongs to the lowest level.",
        ),
        Wrong(
            "near + torch.log1p(-torch.exp(far - near))",
            "(near.exp() - far.exp()).log()",
            "far from the mean",
            "Both probabilities are rounded to 0 before the difference is taken.",
        ),
        Wrong(
            "log_cdf(half - z.abs()), log_cdf(-half - z.abs())",
            "log_cdf(z + half), log_cdf(z - half)",
            "far from the mean",
            "Far above the mean both values of the distribution function are rounded to 1. Below the mean all is well.",
        ),
    ),
)

EXERCISES = [merge_fits, fuse, log_odds, squeezed_log_prob, level_bits]
