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

EXERCISES = [merge_fits, fuse, log_odds]
