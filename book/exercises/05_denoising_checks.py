"""The checks of the exercises of chapter 5."""

from __future__ import annotations

import itertools
import math

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."


def level_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, *shape: int) -> Case:
        x, z = rng.normal(size=shape), rng.normal(size=shape)
        return Case(name, (x, z, rng.uniform(0.1, 0.7, shape[0]), float(rng.uniform(0.3, 1.5))))

    return [case("images", 3, 2, 3, 4), case("batch equals width", 4, 4)]


def level_oracle(x: np.ndarray, z: np.ndarray, sigma: np.ndarray, w: float) -> np.ndarray:
    """One sample at a time; the target is the derivative of the log-density of the noise, by a complex step."""
    out = []
    for clean, noise, level in zip(x, z, sigma, strict=True):
        noisy = clean + level * noise
        log_p = -((noisy + 1e-30j - clean) ** 2) / (2 * level**2)
        target = log_p.imag / 1e-30
        out.append(level**2 * float(np.sum((w * np.sin(noisy) - noisy - target) ** 2)) / 2)
    return np.array(out)


levels_loss = Exercise(
    id="levels_loss",
    dots=1,
    points=2.0,
    hints=(
        "Compute the target by hand for one pixel with a small sigma. What is its size?",
        "The target is the way back over the variance. How long is the way back, in terms of z?",
    ),
    cases=level_cases,
    oracle=level_oracle,
    messages={
        "images": "The weighted denoising loss is wrong.",
        "batch equals width": "With as many samples as pixels the loss is wrong: sigma met the wrong axis.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def levels_loss(x, z, sigma, w):
    out = []
    for clean, noise, level in zip(x, z, sigma):
        noisy = clean + level * noise
        target = (clean - noisy) / level**2
        out.append(0.5 * level**2 * (image_score(noisy, w) - target).square().sum())
    return torch.stack(out)
""",
        """
def levels_loss(x, z, sigma, w):
    level = sigma[(...,) + (None,) * (x.dim() - 1)]
    guess = -level * image_score(x + level * z, w)
    return 0.5 * (guess - z).pow(2).reshape(len(x), -1).sum(-1)
""",
    ),
    wrong=(
        Wrong(
            "target = -z / level",
            "target = -z / level**2",
            "images",
            "z has standard deviation 1: the way back is sigma z, and only that is divided by the variance.",
        ),
        Wrong("-z / level", "z / level", "images", "This target points away from the clean point."),
        Wrong("x + level * z", "x + level**2 * z", "images", "sigma is a standard deviation, not a variance."),
        Wrong("sigma**2 * error", "error", "images", "The weight of the levels is missing."),
        Wrong(".sum(1) / 2", ".mean(1) / 2", "images", "The loss is a sum over the pixels."),
        Wrong(
            "level = sigma.reshape(-1, *[1] * (x.ndim - 1))",
            "level = sigma if x.ndim == 2 else sigma.reshape(-1, 1, 1, 1)",
            "batch equals width",
            "Without ones behind it, sigma is laid along the last axis.",
        ),
    ),
    equivalent={"error = (target - image_score(noisy, w)).flatten(1)": "error is only squared"},
)


def probe_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, kappa: np.ndarray) -> Case:
        return Case(name, (rng.normal(size=(B, D, D)), kappa))

    return [
        case("values", 5, 3, rng.uniform(1.2, 5.0, 5)),
        case("batch equals width", 4, 4, rng.uniform(1.2, 5.0, 4)),
        case("signs in one dimension", 3, 1, np.ones(3)),
    ]


def probe_oracle(A: np.ndarray, kappa: np.ndarray) -> np.ndarray:
    """All vectors of a law with three values, which has the moments asked for."""
    out = []
    for matrix, fourth in zip(A, kappa, strict=True):
        values = {math.sqrt(fourth): 0.5 / fourth, -math.sqrt(fourth): 0.5 / fourth, 0.0: 1 - 1 / fourth}
        mean = square = 0.0
        for v in itertools.product(values, repeat=len(matrix)):
            chance = math.prod(values[each] for each in v)
            form = np.array(v) @ matrix @ np.array(v)
            mean, square = mean + chance * form, square + chance * form**2
        out.append(square - mean**2)
    return np.array(out)


any_probe = Exercise(
    id="any_probe",
    dots=2,
    points=3.0,
    hints=(
        "Write the quadratic form as a sum over single entries and a sum over pairs. Are the two parts correlated?",
        "The part with squares of entries has the variance of one squared entry as a factor. "
        "What is it, from the fourth moment?",
    ),
    cases=probe_cases,
    oracle=probe_oracle,
    messages={
        "values": "The variance of the quadratic form is wrong.",
        "batch equals width": "With as many matrices as rows the variance is wrong: kappa met the wrong axis.",
        "signs in one dimension": "In one dimension the square of a sign is no longer random: the variance is 0.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def any_probe(A, kappa):
    out = []
    for matrix, fourth in zip(A, kappa):
        total = torch.zeros((), dtype=A.dtype)
        for i in range(len(matrix)):
            total = total + (fourth - 1) * matrix[i, i] ** 2
            for j in range(i):
                total = total + (matrix[i, j] + matrix[j, i]) ** 2
        out.append(total)
    return torch.stack(out)
""",
        """
def any_probe(A, kappa):
    own = torch.einsum("bii->bi", A)
    mixed = torch.einsum("bij,bij->b", A, A + A.transpose(1, 2))
    squares = (own * own).sum(1)
    return mixed - 2 * squares + (kappa - 1) * squares
""",
    ),
    wrong=(
        Wrong("S = (A + A.mT) / 2", "S = A", "values", "The quadratic form sees the symmetric part only."),
        Wrong(
            "(kappa - 3)", "(kappa - 1)", "values", "The diagonal was counted twice: it is among all entries already."
        ),
        Wrong("2 * everything", "everything", "values", "Each pair of entries stands in the matrix twice."),
        Wrong(
            "2 * everything + (kappa - 3) * diagonal",
            "2 * everything",
            "values",
            "This is the variance of normal probes, whatever kappa is.",
        ),
        Wrong(
            "2 * everything + (kappa - 3) * diagonal",
            "2 * (everything - diagonal)",
            "values",
            "This is the variance of signs, whatever kappa is.",
        ),
    ),
)


def count_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, k: np.ndarray, J: int) -> Case:
        return Case(name, (k.astype(float), rng.uniform(0.5, 12.0, J), rng.dirichlet(np.full(J, 3.0))))

    return [
        case("values", rng.integers(1, 15, 6), 4),
        case("as many counts as rates", rng.integers(0, 10, 5), 5),
        case("no photon", np.zeros(2, dtype=np.int64), 3),
        case("large counts", rng.integers(400, 600, 3), 3),
    ]


def count_oracle(k: np.ndarray, rates: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bayes' rule over the table of rates, without the probabilities of counts."""
    means, variances = [], []
    for n in k:
        log_joint = np.log(weights) + n * np.log(rates / rates.max()) - rates
        r = np.exp(log_joint - log_joint.max())
        r = r / r.sum()
        means.append(r @ rates)
        variances.append(r @ (rates - means[-1]) ** 2)
    return np.array(means), np.array(variances)


counts = Exercise(
    id="counts",
    dots=2,
    points=3.0,
    hints=(
        "Write the posterior mean as one sum over rates divided by another. "
        "The upper one has one more power of the rate.",
        "A sum over rates with one more power of the rate is the probability of another count, up to a factorial. "
        "The mean square has two more powers.",
    ),
    cases=count_cases,
    oracle=count_oracle,
    messages={
        "values": "Mean or variance of the rate, given the count, is wrong.",
        "as many counts as rates": "With as many counts as rates the result is wrong: an axis was taken for another.",
        "no photon": "After a count of 0 the result is wrong.",
        "large counts": "For large counts the result is wrong: a probability was 0 before it was divided.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def counts(k, rates, weights):
    log_joint = weights.log() + k.unsqueeze(1) * rates.log() - rates
    r = torch.softmax(log_joint, dim=1)
    mean = r @ rates
    return mean, (r * (rates - mean[:, None]) ** 2).sum(1)
""",
        """
def counts(k, rates, weights):
    def ratio(n):
        log = rates.log()
        top = torch.logsumexp(weights.log() + (n + 1) * log - rates, 0)
        return torch.exp(top - torch.logsumexp(weights.log() + n * log - rates, 0))
    means = torch.stack([ratio(n) for n in k])
    nexts = torch.stack([ratio(n + 1) for n in k])
    return means, means * (nexts - means)
""",
    ),
    wrong=(
        Wrong(
            "mean = (k + 1) * torch.exp(log_p(k + 1) - here)",
            "mean = k * torch.exp(log_p(k - 1) - here)",
            "values",
            "One more power of the rate belongs to a larger count, not to a smaller one.",
        ),
        Wrong(
            "square = (k + 1) * (k + 2)",
            "square = (k + 1) ** 2",
            "values",
            "Two factorials meet: the second factor is another than the first.",
        ),
        Wrong(
            "mean = (k + 1) * torch",
            "mean = torch",
            "values",
            "The factorials of the two counts differ by a factor.",
        ),
        Wrong("square - mean**2", "square", "values", "That is the mean square, not the variance."),
        Wrong(
            "weights.log() + each",
            "each",
            "values",
            "Frequent rates are more probable: the table has weights.",
        ),
        Wrong(
            "return torch.logsumexp(weights.log() + each, 1)",
            "return torch.exp(weights.log() + each).sum(1).log()",
            "large counts",
            "For large counts every probability is rounded to 0, and its logarithm is infinite.",
        ),
    ),
)


def moment_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, K: int, far: float = 0.0) -> Case:
        x = 2 * rng.normal(size=B) + far * np.resize([1.0, -1.0], B)
        world = rng.dirichlet(np.full(K, 3.0)), 2 * rng.normal(size=K), rng.uniform(0.2, 0.9, K)
        return Case(name, (x, float(rng.uniform(0.5, 1.4)), *world))

    return [
        case("values", 5, 3),
        case("as many points as components", 4, 4),
        case("far out", 4, 2, far=70.0),
    ]


def moment_oracle(
    x: np.ndarray, sigma: float, weights: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bayes' rule on a fine grid of clean numbers."""
    out = []
    for seen in x:
        clean = np.linspace(min(means.min(), seen) - 12, max(means.max(), seen) + 12, 8001)
        logs = np.log(weights) - np.log(variances) / 2 - (clean[:, None] - means) ** 2 / (2 * variances)
        joint = np.logaddexp.reduce(logs, 1) - (seen - clean) ** 2 / (2 * sigma**2)
        r = np.exp(joint - joint.max())
        r = r / r.sum()
        mean = r @ clean
        out.append((mean, r @ (clean - mean) ** 2, r @ (clean - mean) ** 3))
    first, second, third = np.array(out).T
    return first, second, third


three_moments = Exercise(
    id="three_moments",
    dots=3,
    points=4.0,
    hints=(
        "The chapter has a function whose first two derivatives are the first two moments. It is the logarithm of an "
        "exponential mean, so go on.",
        "Each derivative by the noisy number brings down one over the variance of the noise. Count them for the third.",
    ),
    cases=moment_cases,
    oracle=moment_oracle,
    messages={
        "values": "One of the three moments is wrong.",
        "as many points as components": "With as many points as components a moment is wrong: look for the axis.",
        "far out": "Far out a moment is wrong: a density was 0 before its logarithm was taken.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def three_moments(x, sigma, weights, means, variances):
    total = variances + sigma**2
    away = x[:, None] - means
    r = torch.softmax(weights.log() - 0.5 * total.log() - away**2 / (2 * total), 1)
    centre = means + variances / total * away
    width = variances * sigma**2 / total
    mean = (r * centre).sum(1)
    off = centre - mean[:, None]
    return mean, (r * (width + off**2)).sum(1), (r * (3 * width * off + off**3)).sum(1)
""",
        """
def three_moments(x, sigma, weights, means, variances):
    def log_p(point):
        total = variances + sigma * sigma
        return torch.logsumexp(weights.log() - total.log() / 2 - (point - means) ** 2 / (2 * total), 0)
    one = torch.func.grad(log_p)
    two = torch.func.grad(one)
    three = torch.func.grad(two)
    v = sigma * sigma
    rows = [(p + v * one(p), v + v * v * two(p), v * v * v * three(p)) for p in x]
    return tuple(torch.stack(column) for column in zip(*rows))
""",
    ),
    wrong=(
        Wrong("sigma**6", "sigma**4", "values", "A third derivative brings down one over the variance three times."),
        Wrong(
            "variance = sigma**2 + sigma**4 * second",
            "variance = sigma**4 * second",
            "values",
            "The square of the noisy number has a second derivative too.",
        ),
        Wrong("x + sigma**2 * first", "x + sigma * first", "values", "The score is in units of one over the variance."),
        Wrong("x + sigma**2 * first", "x - sigma**2 * first", "values", "The score points to the clean numbers."),
        Wrong("total = variances + sigma**2", "total = variances", "values", "The density of noisy numbers is wider."),
        Wrong(
            "slopes = [torch.logsumexp(each, 1)]",
            "slopes = [torch.exp(each).sum(1).log()]",
            "far out",
            "Far out every density is rounded to 0, and its logarithm has no derivative.",
        ),
    ),
    equivalent={"square = (means - x[:, None]) ** 2": "a square"},
)


def twice_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, H: int, sigma: float) -> Case:
        x, z = rng.normal(size=(B, D)), rng.normal(size=(B, D))
        return Case(name, (x, z, sigma, rng.normal(size=(D, H)) / math.sqrt(D), rng.normal(size=H)))

    return [
        case("values", 5, 3, 4, float(rng.uniform(0.2, 0.6))),
        case("all sizes equal", 4, 4, 4, float(rng.uniform(0.7, 1.5))),
        case("tiny noise", 5, 3, 4, 1e-6),
    ]


def twice_oracle(x: np.ndarray, z: np.ndarray, sigma: float, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The definition; for tiny noise its limit, v^T J v + |s|^2/2 with v = z, whose error is of order sigma^2."""

    def s(y: np.ndarray) -> np.ndarray:
        return np.tanh(y @ W + b) @ W.T - y

    if sigma < 1e-4:
        return (z * s(x + 1e-30j * z).imag / 1e-30).sum(1) + (s(x) ** 2).sum(1) / 2
    losses = [((s(x + sign * sigma * z) + sign * z / sigma) ** 2).sum(1) / 2 for sign in (1, -1)]
    return (losses[0] + losses[1]) / 2 - (z**2).sum(1) / (2 * sigma**2)


twice = Exercise(
    id="twice",
    dots=3,
    points=4.0,
    hints=(
        "Expand both squares on paper, and subtract on paper too: a computer cannot subtract such numbers.",
        "Of the two products with z, one has a minus. What remains is a difference of two scores over a small number.",
    ),
    cases=twice_cases,
    oracle=twice_oracle,
    messages={
        "values": "The mean of the two losses, less the constant, is wrong.",
        "all sizes equal": "With B = D = H the result is wrong: an axis was taken for another.",
        "tiny noise": "At sigma = 1e-6 the result has lost its digits: large numbers were subtracted.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def twice(x, z, sigma, W, b):
    out = torch.zeros(len(x), dtype=x.dtype)
    for sign in (1.0, -1.0):
        s = vector_score(x + sign * sigma * z, W, b)
        out = out + 0.25 * (s * s).sum(1) + 0.5 * sign * torch.einsum("bd,bd->b", s, z) / sigma
    return out
""",
        """
def twice(x, z, sigma, W, b):
    up, down = vector_score(x + sigma * z, W, b), vector_score(x - sigma * z, W, b)
    middle, half = (up + down) / 2, (up - down) / 2
    return ((middle**2 + half**2) / 2 + half * z / sigma).sum(-1)
""",
    ),
    wrong=(
        Wrong(
            "return (squares / 4 + change / 2).sum(1)",
            "a, b = plus + z / sigma, minus - z / sigma\n"
            "    both = (a.square() + b.square()).sum(1) / 4\n"
            "    return both - z.square().sum(1) / (2 * sigma**2)",
            "tiny noise",
            "On paper this is right. In float64 two numbers of size 1e12 were subtracted, and few digits are left.",
        ),
        Wrong("(plus - minus)", "(plus + minus)", "values", "With -z the product with the noise has the other sign."),
        Wrong("z / sigma\n", "z / sigma**2\n", "values", "The target is the noise over sigma, not over its square."),
        Wrong("squares / 4", "squares / 2", "values", "Each loss has a half, and their mean has another."),
        Wrong("change / 2", "change", "values", "The mean of two losses: each product counts half."),
        Wrong(
            "minus = vector_score(x - sigma * z, W, b)",
            "minus = vector_score(x, W, b)",
            "values",
            "The second noise is the first one turned round, not no noise.",
        ),
    ),
)

EXERCISES = [levels_loss, any_probe, counts, three_moments, twice]
