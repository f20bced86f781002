"""The checks of the exercises of chapter 11."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy import stats

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."


def bits_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, C: int, H: int, W: int) -> Case:
        levels = int(rng.integers(5, 40))
        k, u = rng.integers(0, levels, (B, C, H, W)), rng.uniform(size=(B, C, H, W))
        return Case(name, (k, u, rng.uniform(0.3, 0.7, C), rng.uniform(0.05, 0.4, C), levels))

    return [case("values", 3, 2, 4, 5), case("channels equal width", 1, 3, 3, 3)]


def bits_oracle(k: np.ndarray, u: np.ndarray, mean: np.ndarray, std: np.ndarray, levels: int) -> np.ndarray:
    """The law of k + u itself, in units of a level: there a bin has width 1, and no constant is needed."""
    place, scale = (levels * v[:, None, None] for v in (mean, std))
    return -(stats.logistic.logpdf(k + u, place, scale) / math.log(2)).mean((1, 2, 3))


standard_bits = Exercise(
    id="standard_bits",
    dots=1,
    points=2.0,
    hints=(
        "Write down the density of the dequantised number x from that of the standardised one. What is the factor?",
        "An image has as many such factors as it has numbers. How many of them are in the code?",
    ),
    cases=bits_cases,
    oracle=bits_oracle,
    messages={
        "values": "The bits are wrong.",
        "channels equal width": "For one image with as many channels as columns the bits are wrong: look at the axes.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def standard_bits(k, u, mean, std, levels):
    place = levels * mean.view(-1, 1, 1)
    scale = levels * std.view(-1, 1, 1)
    nats = scale.log() - log_p((k + u - place) / scale)
    return nats.mean((1, 2, 3)) / math.log(2)
""",
        """
def standard_bits(k, u, mean, std, levels):
    out = []
    for one, noise in zip(k, u):
        total = 0.0
        for c in range(len(std)):
            y = ((one[c] + noise[c]) / levels - mean[c]) / std[c]
            density = torch.exp(log_p(y)) / std[c] / levels
            total = total - density.log2().sum()
        out.append(total / one.numel())
    return torch.stack(out)
""",
    ),
    wrong=(
        Wrong(
            "D // len(std) * std.log()",
            "std.log()",
            "values",
            "Each pixel of a channel was divided by its deviation, so the change of variables has a factor for each.",
        ),
        Wrong("nats + D", "nats - D", "values", "Standardising stretches the numbers, which thins their density."),
        Wrong(
            "math.log2(levels)",
            "math.log2(levels / 2)",
            "values",
            "That is the width of a bin for data from -1 to 1. These run from 0 to 1.",
        ),
        Wrong("(k + u) / levels", "(k + u) / (levels - 1)", "values", "There are as many bins as levels."),
        Wrong("(D * math.log(2))", "D", "values", "The log-density is in nats: turn it to bits."),
        Wrong("= (k + u)", "= (k + 0 * u)", "values", "The noise within a bin was left out."),
    ),
    equivalent={
        "y = (mean[:, None, None] - x) / std[:, None, None]": "the logistic law is symmetric",
        "nats = nats + D / len(std) * std.log().sum()": "D is a multiple of the number of channels",
        "D = y[-1].numel()": "all images have one size",
    },
)


def prior_cases(rng: np.random.Generator) -> list[Case]:
    shapes = {"values": (5, 3), "batch equals width": (4, 4), "one image": (1, 2, 3, 4)}
    return [
        Case(
            name,
            (rng.normal(size=shape[0]) - 5, rng.normal(size=shape), rng.normal(size=shape[1:]), rng.uniform(0.3, 3)),
        )
        for name, shape in shapes.items()
    ]


def prior_oracle(log_p0: np.ndarray, x1: np.ndarray, mean: np.ndarray, std: float) -> np.ndarray:
    """Take the old prior off and put the new one on, each as a law of the whole vector."""
    flat, place = x1.reshape(len(x1), -1), mean.ravel()
    eye = np.eye(flat.shape[1])
    new = stats.multivariate_normal(place, std**2 * eye).logpdf(flat)
    return log_p0 - stats.multivariate_normal(0 * place, eye).logpdf(flat) + new


other_prior = Exercise(
    id="other_prior",
    dots=1,
    points=2.0,
    hints=(
        "The log-density has two parts. Which of them knows the prior, and which only the flow?",
        "Take the old prior's log-density at the end point away, and add the new one's.",
    ),
    cases=prior_cases,
    oracle=prior_oracle,
    messages={
        "values": "The log-density of the new model is wrong.",
        "batch equals width": "With as many points as coordinates it is wrong: an axis was taken for another.",
        "one image": "For an image it is wrong: every axis but the first belongs to the sample.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def other_prior(log_p0, x1, mean, std):
    normal = torch.distributions.Normal
    ratio = normal(mean, std).log_prob(x1) - normal(0.0, 1.0).log_prob(x1)
    return log_p0 + ratio.flatten(1).sum(1)
""",
        """
def other_prior(log_p0, x1, mean, std):
    out = []
    for value, x in zip(log_p0, x1):
        old = math.exp(-0.5) ** x.square().sum()
        new = -(x - mean).square().sum() / (2 * std**2) - math.log(std**2) * x.numel() / 2
        out.append(value - old.log() + new)
    return torch.stack(out)
""",
    ),
    wrong=(
        Wrong("- z[0]", "+ z[0]", "values", "A wider prior is thinner: check the sign of the constant."),
        Wrong("z[0].numel() * math.log(std)", "math.log(std)", "values", "Each dimension has the factor once."),
        Wrong("z = (x1 - mean) / std", "z = (x1 - mean) / std**2", "values", "Divide by the standard deviation."),
        Wrong("(x1.square() - z.square())", "(-z.square())", "values", "The old prior is still in the result."),
        Wrong("(x1.square() - z.square())", "(z.square() - x1.square())", "values", "Old and new are exchanged."),
        Wrong("flatten(1).sum(1)", "sum(1)", "one image", "An image has more than one axis to sum over."),
    ),
    equivalent={
        "z = (mean - x1) / std": "z enters by its square and its size",
        "return log_p0 + change - z[-1].numel() * math.log(std)": "all samples have one size",
    },
)


def points_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, N: int, D: int, far: float = 0.0) -> Case:
        alpha, sigma = rng.uniform(0.3, 1.2), rng.uniform(0.5, 1.2)
        x = 1.5 * rng.normal(size=(B, D)) + far * np.resize([1.0, -1.0], D)
        return Case(name, (x, 1.5 * rng.normal(size=(N, D)), alpha, sigma, rng.uniform(-2, -0.5), rng.uniform(0.5, 2)))

    return [
        case("values", 5, 4, 3),
        case("all sizes equal", 4, 4, 4),
        case("far away", 4, 3, 2, far=200.0),
    ]


def points_oracle(
    x: np.ndarray, points: np.ndarray, alpha: float, sigma: float, dalpha: float, dsigma: float
) -> np.ndarray:
    """A complex step through the velocity, one coordinate at a time."""

    def velocity(y: np.ndarray) -> np.ndarray:
        away = y[:, None] - alpha * points
        logs = -(away * away).sum(2) / (2 * sigma**2)
        p = np.exp(logs - logs.real.max(1, keepdims=True))
        x0 = (p / p.sum(1, keepdims=True)) @ points
        return dalpha * x0 + dsigma * (y - alpha * x0) / sigma

    return sum(velocity(x + 1e-30j * unit)[:, i].imag / 1e-30 for i, unit in enumerate(np.eye(x.shape[1])))


points_divergence = Exercise(
    id="points_divergence",
    dots=3,
    points=4.0,
    hints=(
        "The mean of the noise follows from the mean of the clean point. So only one divergence is needed.",
        "The slope of the mean clean point is a covariance, times a factor of the path. The trace of a covariance is a "
        "mean square.",
    ),
    cases=points_cases,
    oracle=points_oracle,
    messages={
        "values": "The divergence is wrong.",
        "all sizes equal": "With B = N = D the divergence is wrong: an axis was taken for another.",
        "far away": "Far from all points it is wrong: densities were 0 before they were divided.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def points_divergence(x, points, alpha, sigma, dalpha, dsigma):
    away = x.unsqueeze(1) - alpha * points
    r = torch.softmax(-0.5 * (away / sigma).square().sum(-1), dim=1)
    mean = torch.einsum("bn,nd->bd", r, points)
    second = torch.einsum("bn,nd,nd->b", r, points, points)
    spread = second - mean.square().sum(1)
    factor = alpha / sigma**2 * (dalpha - dsigma * alpha / sigma)
    return factor * spread + dsigma / sigma * x.shape[1]
""",
        """
def points_divergence(x, points, alpha, sigma, dalpha, dsigma):
    def velocity(y):
        logs = -(y - alpha * points).square().sum(1) / (2 * sigma**2)
        x0 = torch.softmax(logs, 0) @ points
        return dalpha * x0 + dsigma * (y - alpha * x0) / sigma
    rows = [torch.autograd.functional.jacobian(velocity, row).trace() for row in x]
    return torch.stack(rows)
""",
    ),
    wrong=(
        Wrong(
            "r = torch.softmax(-square / (2 * sigma**2), 1)",
            "r = torch.exp(-square / (2 * sigma**2)); r = r / r.sum(1, keepdim=True)",
            "far away",
            "Far away every density is rounded to 0, and 0 is divided by 0.",
        ),
        Wrong("alpha * spread / sigma**2", "spread / sigma**2", "values", "The clean point enters scaled."),
        Wrong(
            "(x.shape[1] - alpha * of_x0)",
            "x.shape[1]",
            "values",
            "The noise is what is left of x after the clean point: that moves with x too.",
        ),
        Wrong("(x.shape[1] - alpha", "(1 - alpha", "values", "The divergence of x itself is the number of dimensions."),
        Wrong("- alpha * points)", "- points)", "values", "The noisy copies of a point lie around alpha times it."),
        Wrong("(2 * sigma**2)", "(2 * sigma)", "values", "The exponent has the variance."),
        Wrong(
            "away = points - (r @ points)[:, None]",
            "away = points - 0 * (r @ points)[:, None]",
            "values",
            "A covariance is measured about the mean.",
        ),
    ),
    equivalent={
        "away = (r @ points)[:, None] - points": "away is only squared",
        "square = (alpha * points - x[:, None]).square().sum(2)": "a square",
    },
)


def probe_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, m: int) -> Case:
        return Case(name, (rng.normal(size=(B, D, D)), m))

    return [
        case("values", 3, 5, int(rng.integers(2, 5))),
        case("one coordinate", 3, 4, 1),
        case("all coordinates", 2, 4, 4),
        case("batch equals width", 3, 3, 2),
    ]


def probe_oracle(A: np.ndarray, m: int) -> np.ndarray:
    """All sets of m coordinates with all their signs."""
    D = A.shape[1]
    probes = []
    for chosen in itertools.combinations(range(D), m):
        for signs in itertools.product((-1.0, 1.0), repeat=m):
            v = np.zeros(D)
            v[list(chosen)] = signs
            probes.append(v * math.sqrt(D / m))
    return np.einsum("pi,bij,pj->bp", probes, A, probes).var(1)


sparse_variance = Exercise(
    id="sparse_variance",
    dots=3,
    points=4.0,
    hints=(
        "Fix the set first, and average over the signs. What is left of the diagonal, and how much noise is beside it?",
        "The total variance is the mean over the sets of the variance by the signs, plus the variance over the sets of "
        "the mean. For the latter: the mean of m numbers out of D, drawn without putting them back.",
    ),
    cases=probe_cases,
    oracle=probe_oracle,
    messages={
        "values": "The variance is wrong.",
        "one coordinate": "For m = 1 the variance is wrong: then only the diagonal is ever seen.",
        "all coordinates": "For m = D the variance is wrong: it is the one of random signs.",
        "batch equals width": "With as many matrices as rows the variance is wrong: an axis was taken for another.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def sparse_variance(A, m):
    D = A.shape[-1]
    d = torch.diagonal(A, dim1=1, dim2=2)
    one = (D / m - 1) * D / (D - 1)  # of the covariance of the indicators, times (D/m)^2 D
    choice = one * ((d - d.mean(1, keepdim=True)) ** 2).sum(1)
    off = A - torch.diag_embed(d)
    pair = D * (m - 1) / (m * (D - 1))
    return choice + pair * ((off**2).sum((1, 2)) + torch.einsum("bij,bji->b", off, off))
""",
        """
def sparse_variance(A, m):
    D = A.shape[1]
    p, pp = m / D, m * (m - 1) / (D * (D - 1))  # one, two coordinates are chosen
    out = []
    for a in A:
        s = (a + a.T) / 2
        total = 0.0
        for i in range(D):
            for j in range(D):
                both = p if i == j else pp
                total = total + (both - p * p) * s[i, i] * s[j, j] / p**2
                if i != j:
                    total = total + 2 * pp * s[i, j] ** 2 / p**2
        out.append(total)
    return torch.stack(out)
""",
    ),
    wrong=(
        Wrong(
            "* (D - m) / (m * (D - 1))",
            "/ m",
            "values",
            "The coordinates are not put back: with all of them there is no chance left in the choice.",
        ),
        Wrong(
            "S = (A + A.mT) / 2",
            "S = A",
            "values",
            "Two entries across the diagonal meet the same pair of signs: they act through their mean.",
        ),
        Wrong(
            "2 * D * (m - 1) / (m * (D - 1)) * beside",
            "2 * beside",
            "values",
            "An entry beside the diagonal counts only when both of its coordinates are chosen.",
        ),
        Wrong("choice + 2 * D", "2 * D", "values", "The choice of the coordinates makes noise by itself."),
        Wrong("correction=0", "correction=1", "values", "The factor for drawing without return is there already."),
        Wrong(" - d.square().sum(1)", "", "values", "A sign squared is 1: the diagonal makes no noise by its signs."),
    ),
)


def euler_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, H: int, n: int) -> Case:
        """A step changes no distance by more than nine tenths of it, so that each map is invertible."""
        W1, W2 = rng.normal(size=(H, D)), rng.normal(size=(D, H))
        W2 *= 0.9 * n / (np.linalg.norm(W1, 2) * np.linalg.norm(W2, 2))
        return Case(name, (rng.normal(size=(B, D)), W1, rng.normal(size=H), W2, n))

    return [case("values", 5, 3, 4, 4), case("one step", 3, 2, 3, 1), case("all sizes equal", 4, 4, 4, 3)]


def euler_oracle(x: np.ndarray, W1: np.ndarray, b: np.ndarray, W2: np.ndarray, n: int) -> np.ndarray:
    """The Jacobian of the whole chain by a complex step, and one determinant of it."""

    def chain(y: np.ndarray) -> np.ndarray:
        for t in np.arange(n) / n:
            y = y + np.tanh(y @ W1.T + b + t) @ W2.T / n
        return y

    columns = [chain(x + 1e-30j * unit).imag / 1e-30 for unit in np.eye(x.shape[1])]
    return stats.norm.logpdf(chain(x)).sum(1) + np.linalg.slogdet(np.stack(columns, -1))[1]


euler_log_prob = Exercise(
    id="euler_log_prob",
    dots=2,
    points=3.0,
    hints=(
        "Each step is a change of variables by itself. Where is its Jacobian taken: before the step, or after it?",
        "The trace is only the first term of what a step of finite size needs. D is small: take the determinant.",
    ),
    cases=euler_cases,
    oracle=euler_oracle,
    messages={
        "values": "The log-density of the chain is wrong.",
        "one step": "With a single step the log-density is wrong.",
        "all sizes equal": "With B = D = H it is wrong: a matrix stands where its transpose should be.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def euler_log_prob(x, W1, b, W2, n):
    def chain(point):
        for k in range(n):
            point = point + field(point[None], k / n, W1, b, W2)[0] / n
        return point
    out = []
    for point in x:
        end = chain(point)
        jacobian = torch.autograd.functional.jacobian(chain, point)
        log_prior = -(end.square() + math.log(2 * math.pi)).sum() / 2
        out.append(log_prior + torch.linalg.det(jacobian).abs().log())
    return torch.stack(out)
""",
        """
def euler_log_prob(x, W1, b, W2, n):
    total = x.new_zeros(len(x))
    for k in range(n):
        h = torch.tanh(x @ W1.T + b + k / n)
        # det(I + W2 S W1 / n) = det(I + S W1 W2 / n), with one row and column for each hidden unit
        small = torch.eye(len(b), dtype=x.dtype) + (1 - h * h)[..., None] * (W1 @ W2) / n
        total = total + torch.linalg.slogdet(small).logabsdet
        x = x + h @ W2.T / n
    return total + torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
""",
    ),
    wrong=(
        Wrong(
            "torch.linalg.slogdet(step)[1]",
            "h * jacobian.diagonal(dim1=1, dim2=2).sum(1)",
            "values",
            "The trace is right for infinitely short steps. These are not.",
        ),
        Wrong(
            "log_prior + log_det",
            "log_prior - log_det",
            "values",
            "Where space is stretched towards the noise, the data were denser.",
        ),
        Wrong("+ h * jacobian", "+ jacobian", "values", "A step of size h moves the point by h times the velocity."),
        Wrong("b + k * h) ** 2", "b) ** 2", "values", "The velocity depends on the time of the step."),
        Wrong(
            "* slope[:, None]) @ W1",
            "* slope[:, None]) @ W2.T",
            "values",
            "The way into the hidden layer is another than the way out.",
        ),
        Wrong("D / 2 * math", "math", "values", "The constant of the prior counts once for each dimension."),
    ),
    equivalent={"return (log_prior + log_det, x.add_(1))[0]": "x is a new tensor after the first step"},
)

EXERCISES = [standard_bits, other_prior, points_divergence, sparse_variance, euler_log_prob]
