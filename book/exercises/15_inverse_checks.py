"""The checks of the exercises of chapter 15."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."


def camera_case(rng: np.random.Generator, check: str, B: int, W: int, k: int, r: int) -> Case:
    y = rng.normal(size=(B, math.ceil(W / k)))
    return Case(check, (y, rng.normal(size=2 * r + 1), W, k))


def camera_cases(rng: np.random.Generator) -> list[Case]:
    W = int(rng.integers(5, 8)) * 2
    return [
        camera_case(rng, "values", 3, W, 2, 1),
        camera_case(rng, "a length that k does not divide", 2, W + 1, 3, 2),
        camera_case(rng, "every number kept", 6, 6, 1, 1),
    ]


def camera_oracle(y: Any, c: Any, W: Any, k: Any) -> np.ndarray:
    """Photograph every unit vector: the rows of A^T."""
    r = len(c) // 2
    columns = []
    for unit in np.eye(W):
        padded = np.concatenate([np.zeros(r), unit, np.zeros(r)])
        columns.append([padded[start : start + 2 * r + 1] @ c for start in range(0, W, k)])
    return y @ np.array(columns).T


camera_adjoint = Exercise(
    id="camera_adjoint",
    dots=1,
    points=2.0,
    hints=(
        "Undo the steps in the other order, each by its own adjoint. What is the adjoint of keeping every k-th number?",
        "In A^T y, a number of y reaches neighbours of its place too. To which side does the first number of the "
        "kernel send it?",
    ),
    cases=camera_cases,
    oracle=camera_oracle,
    messages={
        "values": "The inner products of A x with y and of x with your result differ.",
        "a length that k does not divide": "The result is wrong where the last kept number is not k before the end.",
        "every number kept": "With k = 1 only the blur is left, and its adjoint is wrong.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def camera_adjoint(y, c, W, k):
    r = len(c) // 2
    out = torch.zeros(len(y), W, dtype=y.dtype)
    for m in range(y.shape[1]):
        for j in range(len(c)):
            place = m * k + j - r
            if 0 <= place < W:
                out[:, place] += c[j] * y[:, m]
    return out
""",
        """
def camera_adjoint(y, c, W, k):
    x = torch.zeros(len(y), W, dtype=y.dtype, requires_grad=True)
    seen = torch.nn.functional.conv1d(x[:, None], c[None, None], stride=k, padding=len(c) // 2)[:, 0]
    return torch.autograd.grad((seen * y).sum(), x)[0]
""",
    ),
    wrong=(
        Wrong(
            "c.flip(0)[None, None]",
            "c[None, None]",
            "values",
            "The adjoint of a blur is the blur with the kernel turned round.",
        ),
        Wrong(
            "u[:, ::k] = y",
            "u[:] = y.repeat_interleave(k, 1)[:, :W]",
            "values",
            "The adjoint of leaving numbers out puts zeros in their places.",
        ),
        Wrong(
            "u[:, ::k] = y",
            "u[:, ::k] = y / k",
            "values",
            "The camera keeps numbers, it does not average them: no factor belongs there.",
        ),
        Wrong(
            "u[:, ::k] = y",
            "u[:, : y.shape[1]] = y",
            "values",
            "The numbers of y belong to the places 0, k, 2k and so on.",
        ),
        Wrong(
            "c.flip(0)[None, None]",
            "c.flip(0)[None, None] / c.square().sum()",
            "values",
            "That is near an inverse. The adjoint has the numbers of the kernel themselves.",
        ),
    ),
    equivalent={
        "turned = c.flip(-1)[None, None]": "the kernel has one axis",
        "return torch.nn.functional.conv1d(u[:, None], turned, padding=pad)[:, -1]": "there is one channel",
    },
)


def noise_case(rng: np.random.Generator, check: str, B: int, M: int, D: int, J: int, far: float = 0.0) -> Case:
    A, points = rng.normal(size=(M, D)), rng.normal(size=(7, D))
    levels = np.exp(rng.uniform(-0.3, 1.0, J))
    x0 = points[rng.integers(0, 7, B)]
    y = x0 @ A.T + rng.choice(levels, B)[:, None] * rng.normal(size=(B, M)) + far
    return Case(check, (y, A, points, levels))


def noise_cases(rng: np.random.Generator) -> list[Case]:
    return [
        noise_case(rng, "values", 5, 3, 4, 2),
        noise_case(rng, "as many levels as observations", 3, 3, 3, 3),
        noise_case(rng, "far points", 2, 3, 4, 2, far=200.0),
    ]


def noise_oracle(y: Any, A: Any, points: Any, levels: Any) -> np.ndarray:
    """Bayes' rule for pairs of a point and a level, one observed number after the other."""
    out = np.zeros((len(y), len(levels)))
    for b, row in enumerate(y):
        log_p = np.zeros((len(points), len(levels)))
        for seen, line in zip(row, A, strict=True):
            expected = points @ line
            for j, s in enumerate(levels):
                log_p[:, j] += -((seen - expected) ** 2) / (2 * s**2) - math.log(s * math.sqrt(2 * math.pi))
        p = np.exp(log_p - log_p.max())
        out[b] = p.sum(0) / p.sum()
    return out


which_noise = Exercise(
    id="which_noise",
    dots=2,
    points=2.0,
    hints=(
        "For a given level, what is the density of y? It is a mean over all points.",
        "Here the factor of the Gaussian density that does not depend on y does depend on the level.",
    ),
    cases=noise_cases,
    oracle=noise_oracle,
    messages={
        "values": "The probabilities are wrong.",
        "as many levels as observations": "With as many levels as observations, two axes have changed places.",
        "far points": "Far from all points every density underflows: work with logarithms.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def which_noise(y, A, points, levels):
    columns = []
    for s in levels:
        law = torch.distributions.Normal(points @ A.T, s)
        columns.append(law.log_prob(y[:, None]).sum(-1).logsumexp(1))
    return torch.stack(columns, 1).softmax(1)
""",
        """
def which_noise(y, A, points, levels):
    squares = torch.cdist(y, points @ A.T) ** 2
    pairs = -squares[:, :, None] / (2 * levels**2) - A.shape[0] * levels.log()
    p = (pairs - pairs.amax((1, 2), keepdim=True)).exp().sum(1)
    return p / p.sum(1, keepdim=True)
""",
    ),
    wrong=(
        Wrong(
            "(log_p.logsumexp(2) - scale).softmax(1)",
            "log_p.logsumexp(2).softmax(1)",
            "values",
            "Without the factor in front of the exponential the largest level always wins.",
        ),
        Wrong(
            "y.shape[1] * levels.log()",
            "levels.log()",
            "values",
            "Each observed number brings its own factor.",
        ),
        Wrong(
            "log_p.logsumexp(2)",
            "log_p.amax(2)",
            "values",
            "All points count, not the nearest alone.",
        ),
        Wrong(
            "(2 * levels[:, None] ** 2)",
            "(2 * levels[:, None])",
            "values",
            "The levels are standard deviations.",
        ),
        Wrong(
            "log_p.logsumexp(2)",
            "log_p.mean(2)",
            "values",
            "The mean is over densities, not over their logarithms.",
        ),
        Wrong(
            "log_p.logsumexp(2)",
            "log_p.exp().mean(2).log()",
            "far points",
            "The densities of far points are below the smallest number.",
        ),
    ),
    equivalent={
        "squares = (points @ A.T - y[:, None]).square().sum(-1)": "a square has no sign",
    },
)


def ends_case(rng: np.random.Generator, check: str, v: np.ndarray) -> Case:
    B = len(v)
    s, w = rng.uniform(0.4, 1.5, B), rng.uniform(0.3, 2.0, B)
    return Case(check, (rng.normal(size=B), rng.normal(size=B), v, s, w))


def ends_cases(rng: np.random.Generator) -> list[Case]:
    return [
        ends_case(rng, "values", rng.uniform(0.3, 3.0, 5)),
        ends_case(rng, "no variance", np.array([0.0, 1.0])),
    ]


def ends_oracle(y: Any, m: Any, v: Any, s: Any, w: Any) -> tuple[np.ndarray, np.ndarray]:
    """Push the first two moments through small steps in u = v/(v + sigma^2), from 0 to 1.

    The score times v/u^2 moves the mean, and noise of the variance v du/u^2 is added; u d and u^2 V stay finite.
    """

    def slope(u: float, p: np.ndarray, P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        def speed(d_times_u: np.ndarray, target: np.ndarray) -> np.ndarray:  # u times dd/du
            return -d_times_u / u + w * v / s**2 * (target - d_times_u)

        # (u d)' = d + u d' and (u^2 V)' = 2 u V + u^2 V', V' = 2 V (d'/d without target) + v/u^2
        return p / u + speed(p, y - m), 2 * P / u + 2 * P * (-1 / u - w * v / s**2) + v

    n, p, P = 2000, np.zeros(len(y)), np.zeros(len(y))
    h = 1 / n
    for i in range(n):
        u = (i + 0.5) * h  # away from 0
        a = slope(u, p, P)
        b = slope(u, p + h / 2 * a[0], P + h / 2 * a[1])
        c = slope(u, p + h / 2 * b[0], P + h / 2 * b[1])
        d = slope(u, p + h * c[0], P + h * c[1])
        p, P = (
            old + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4) for old, k1, k2, k3, k4 in zip((p, P), a, b, c, d, strict=True)
        )
    return m + p, P


dps_ends = Exercise(
    id="dps_ends",
    dots=2,
    points=2.0,
    hints=(
        "Measure from the mean m, in units of the data's standard deviation: which problem of the chapter is it then?",
        "A factor w before the gradient acts like another noise of the observation. Which one?",
    ),
    cases=ends_cases,
    oracle=ends_oracle,
    messages={
        "values": "Mean or variance of the end is wrong.",
        "no variance": "For data of variance 0 there is nothing to learn from y.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def dps_ends(y, m, v, s, w):
    noise = s / w.sqrt()
    mean = y - (y - m) * torch.exp(-v / noise**2)
    return mean, -torch.expm1(-2 * v / noise**2) * noise**2 / 2
""",
        """
def dps_ends(y, m, v, s, w):
    u, weights = torch.linspace(0, 1, 4001, dtype=y.dtype)[:, None], torch.ones(4001, 1, dtype=y.dtype)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    rate = w * v / s**2
    mean = (weights * torch.exp(-rate * (1 - u))).sum(0) / 12000 * rate * (y - m)
    variance = (weights * torch.exp(-2 * rate * (1 - u))).sum(0) / 12000 * v
    return m + mean, variance
""",
    ),
    wrong=(
        Wrong(
            "rate = w * v / s**2",
            "rate = w / s**2",
            "values",
            "The chapter's data have variance 1; here the variance sets how much noise s means.",
        ),
        Wrong(
            "mean = m + (y - m) *",
            "mean = y *",
            "values",
            "Without an observation the mean would be m, not 0.",
        ),
        Wrong(
            "s**2 / (2 * w) *",
            "s**2 / 2 *",
            "values",
            "A stronger pull leaves less variance.",
        ),
        Wrong(
            "(1 - (-2 * rate).exp())",
            "(1 - (-rate).exp())",
            "values",
            "A variance shrinks with the square of the factor of a deviation.",
        ),
        Wrong(
            "mean = m + (y - m) * (1 - (-rate).exp())",
            "mean = m + (y - m) * v / (v + s**2)",
            "values",
            "That is the exact posterior's mean.",
        ),
        Wrong(
            "variance = s**2 / (2 * w) * (1 - (-2 * rate).exp())",
            "variance = v * (1 - (-2 * rate).exp()) / (2 * rate)",
            "no variance",
            "0/0 where the data have no variance.",
        ),
    ),
)


def guide_case(rng: np.random.Generator, check: str, B: int, M: int, D: int, alpha: float, var: Any = None) -> Case:
    var = rng.uniform(0.3, 2.0, D) if var is None else var
    numbers = (alpha, float(rng.uniform(0.3, 1.2)), float(rng.uniform(0.2, 0.8)))
    data = (rng.normal(size=(B, D)), rng.normal(size=(B, M)), rng.normal(size=(M, D)), rng.normal(size=D), var)
    return Case(check, data + numbers)


def guide_cases(rng: np.random.Generator) -> list[Case]:
    alpha = float(rng.uniform(0.4, 0.9))
    return [
        guide_case(rng, "values", 5, 2, 4, alpha),
        guide_case(rng, "square", 3, 3, 3, alpha),
        guide_case(rng, "no variance", 3, 2, 4, alpha, np.array([0.0, 1.0, 0.0, 0.5])),
        guide_case(rng, "pure noise", 3, 2, 4, 0.0),
    ]


def guide_oracle(x: Any, y: Any, A: Any, mean: Any, var: Any, alpha: Any, sigma: Any, s: Any) -> np.ndarray:
    """Condition the joint Gaussian of x_t and y, and take central differences of log p(y | x_t), a quadratic."""
    C = np.diag(var)
    xx, yx = alpha**2 * C + sigma**2 * np.eye(len(var)), alpha * A @ C
    map_x = yx @ np.linalg.inv(xx)
    cov = A @ C @ A.T + s**2 * np.eye(len(A)) - map_x @ yx.T

    def log_p(at: np.ndarray) -> np.ndarray:
        off = y - A @ mean - (at - alpha * mean) @ map_x.T
        return -0.5 * np.einsum("bi,ij,bj->b", off, np.linalg.inv(cov), off)

    h = 1e-3
    steps = h * np.eye(len(var))
    return np.stack([(log_p(x + step) - log_p(x - step)) / (2 * h) for step in steps], 1)


exact_guide = Exercise(
    id="exact_guide",
    dots=3,
    points=3.0,
    hints=(
        "Given x_t, the numbers of x_0 are still independent Gaussians. What are their means and variances?",
        "Then y given x_t is Gaussian too. Its covariance does not depend on x_t, only its mean does.",
    ),
    cases=guide_cases,
    oracle=guide_oracle,
    messages={
        "values": "The gradient is wrong.",
        "square": "With as many samples as numbers and rows, two axes have changed places.",
        "no variance": "A number of variance 0 is known: the gradient along it is 0, and nothing is divided by it.",
        "pure noise": "At alpha = 0 the noised point says nothing, so the gradient is 0.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def exact_guide(x, y, A, mean, var, alpha, sigma, s):
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        share = alpha**2 * var / (alpha**2 * var + sigma**2)
        left = var * (1 - share)
        x0 = mean + alpha * left / sigma**2 * (leaf - alpha * mean)
        cov = A @ torch.diag(left) @ A.T + s**2 * torch.eye(A.shape[0], dtype=A.dtype)
        law = torch.distributions.MultivariateNormal(x0 @ A.T, cov)
        return torch.autograd.grad(law.log_prob(y).sum(), leaf)[0]
""",
        """
def exact_guide(x, y, A, mean, var, alpha, sigma, s):
    rows = []
    total = alpha**2 * var + sigma**2
    gain = alpha * var / total
    B = A @ torch.diag(gain)
    left = A @ torch.diag(var - alpha * gain * var) @ A.T
    inverse = torch.linalg.inv(left + s**2 * torch.eye(len(A), dtype=A.dtype))
    for x_b, y_b in zip(x, y):
        rows.append(B.T @ inverse @ (y_b - A @ mean - B @ (x_b - alpha * mean)))
    return torch.stack(rows)
""",
    ),
    wrong=(
        Wrong(
            "cov = cov + A * (var * sigma**2 / total) @ A.T",
            "cov = cov + 0 * A @ A.T",
            "values",
            "That is DPS: it takes the estimate of x_0 for certain.",
        ),
        Wrong(
            "A * (var * sigma**2 / total) @ A.T",
            "A * var @ A.T",
            "values",
            "x_t has told something about x_0: less than the whole variance is left.",
        ),
        Wrong(
            "return gain * (pull @ A)",
            "return pull @ A",
            "values",
            "The gradient is with respect to x_t, and the estimate changes less than x_t does.",
        ),
        Wrong(
            "gain * (x - alpha * mean)",
            "gain * (x - mean)",
            "values",
            "The mean of x_t is alpha times that of x_0.",
        ),
        Wrong(
            "cov = s**2 * torch.eye",
            "cov = s * torch.eye",
            "values",
            "The covariance of the noise needs the square of what is given.",
        ),
        Wrong(
            "total = alpha**2 * var + sigma**2",
            "total = alpha * var + sigma**2",
            "values",
            "A variance is scaled by the square.",
        ),
    ),
)


def view_case(rng: np.random.Generator, check: str, shape: tuple[int, ...], s: float) -> Case:
    abar = np.concatenate([[1.0], np.cumprod(1 - rng.uniform(0.1, 0.4, 7))])
    i = rng.integers(4, 8, shape[0])
    i[0], i[-1] = 4, 7
    return Case(check, (rng.normal(size=shape), s, i, abar, rng.normal(size=shape)))


def view_cases(rng: np.random.Generator) -> list[Case]:
    noisy = view_case(rng, "very noisy y", (4, 3), 1.0)
    noisy.args[2][:2] = 0, 1
    return [
        view_case(rng, "values", (5, 3), float(rng.uniform(0.3, 0.5))),
        view_case(rng, "images", (3, 1, 3, 3), float(rng.uniform(0.3, 0.5))),
        noisy,
    ]


def view_oracle(y: Any, s: Any, i: Any, abar: Any, z: Any) -> np.ndarray:
    """Search the fresh noise's size by halving: the variances of the two noises must sum to that of the step."""
    out = np.zeros(y.shape)
    for b, step in enumerate(i):
        scale = np.sqrt(abar[step])
        low, high = 0.0, 1.0
        for _ in range(100):
            middle = (low + high) / 2
            coefficients = np.array([scale * s, middle])  # of the noise in y, and of the fresh one
            if coefficients @ coefficients > 1 - abar[step]:
                high = middle
            else:
                low = middle
        out[b] = scale * y[b] + low * z[b]
    return out


noised_view = Exercise(
    id="noised_view",
    dots=2,
    points=2.0,
    hints=(
        "Write down the variance of the noise that the scaled observation has, and that of the step.",
        "Which symbol stands for a standard deviation, and where are variances added?",
    ),
    cases=view_cases,
    oracle=view_oracle,
    messages={
        "values": "The two noises together do not have the variance of the step.",
        "images": "The result is wrong for images: each has its own step.",
        "very noisy y": "Where y is noisier than the step, no noise is added; nothing may be NaN.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def noised_view(y, s, i, abar, z):
    rows = []
    for row, noise, keep in zip(y, z, abar[i].tolist()):
        left = max(0.0, 1 - keep * (1 + s * s))
        rows.append(math.sqrt(keep) * row + math.sqrt(left) * noise)
    return torch.stack(rows)
""",
        """
def noised_view(y, s, i, abar, z):
    keep = abar[i]
    while keep.ndim < y.ndim:
        keep = keep.unsqueeze(-1)
    left = torch.relu(1 - keep * (1 + s**2))
    return torch.sqrt(keep) * y + torch.sqrt(left) * z
""",
    ),
    wrong=(
        Wrong(
            "keep * s**2",
            "keep * s",
            "values",
            "s is a standard deviation: variances add, so its square enters.",
        ),
        Wrong(
            "(1 - keep - keep * s**2)",
            "(1 - keep - s**2)",
            "values",
            "The observation is scaled, and its noise with it.",
        ),
        Wrong(
            "(1 - keep - keep * s**2)",
            "(1 - keep)",
            "values",
            "That puts the whole noise of the step on top of the noise of y.",
        ),
        Wrong(
            "fresh.sqrt() * z",
            "fresh * z",
            "values",
            "A draw is scaled by the standard deviation, not by the variance.",
        ),
        Wrong(
            "return keep.sqrt() * y",
            "return keep * y",
            "values",
            "The table holds the square of the scale.",
        ),
        Wrong(
            ".reshape(-1, *[1] * (y.ndim - 1))",
            "[:, None]",
            "images",
            "The steps need as many axes as the images.",
        ),
        Wrong(
            "(1 - keep - keep * s**2).clamp(min=0)",
            "(1 - keep - keep * s**2)",
            "very noisy y",
            "The root of a negative number is no number.",
        ),
    ),
)

EXERCISES = [camera_adjoint, which_noise, dps_ends, exact_guide, noised_view]
