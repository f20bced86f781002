"""The checks of the exercises of chapter 16."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy import integrate, stats

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."


def mix_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, *shape: int) -> Case:
        return Case(name, (rng.normal(size=shape), rng.normal(size=shape[0]) * rng.uniform(0.5, 3)))

    return [case("values", 3, 5, 2), case("all sizes equal", 4, 4, 4), case("images", 3, 2, 1, 4, 3)]


def mix_oracle(z: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The noises turned by a rotation whose first axis is that of the weights: its first coordinate."""
    axes, _ = np.linalg.qr(np.column_stack([w, np.eye(len(w))[:, 1:]]))
    first = axes[:, 0] * np.sign(axes[:, 0] @ w)
    return np.tensordot(first, z, 1)


mix_noises = Exercise(
    id="mix_noises",
    dots=1,
    points=2.0,
    hints=(
        "What is the variance of one number of a weighted sum of independent noises?",
        "Scale the weights, so that this variance becomes 1. Then think of the axes.",
    ),
    cases=mix_cases,
    oracle=mix_oracle,
    messages={
        "values": "The mixture is wrong.",
        "all sizes equal": "With K = B = D it is wrong: the weights were laid along another axis.",
        "images": "For images it is wrong: a sample may have more than one axis.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def mix_noises(z, w):
    return torch.einsum("k,k...->...", w / torch.linalg.vector_norm(w), z)
""",
        """
def mix_noises(z, w):
    total = torch.zeros_like(z[0])
    for one, weight in zip(z, w):
        total = total + weight * one
    return total / math.sqrt(float((w * w).sum()))
""",
    ),
    wrong=(
        Wrong("w.square().sum().sqrt()", "w.sum()", "values", "Weights that sum to 1 make a mean, which is too short."),
        Wrong("w.square().sum().sqrt()", "w.abs().sum()", "values", "It is the variance that must be 1."),
        Wrong(".sum().sqrt()", ".sum()", "values", "Divide by the standard deviation, not by the variance."),
        Wrong("w.square().sum()", "w.square().mean()", "values", "The variances of independent noises add up."),
        Wrong(
            "share.reshape(-1, *[1] * (z.ndim - 1)) * z", "share * z", "values", "The weights belong to the first axis."
        ),
    ),
)


def invert_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, n: int) -> Case:
        angle = np.sort(rng.uniform(0.1, 1.4, n + 1))
        size = rng.uniform(0.7, 1.4, n + 1)
        m = rng.normal(size=D)
        return Case(
            name, (rng.normal(size=(B, D)) + m, size * np.cos(angle), size * np.sin(angle), m, rng.uniform(0.2, 2))
        )

    return [case("values", 4, 3, 5), case("batch equals width", 3, 3, 4)]


def invert_oracle(x: np.ndarray, alpha: np.ndarray, sigma: np.ndarray, m: np.ndarray, v: float) -> np.ndarray:
    """Euler in the clock sigma/alpha for x/alpha, with the noise as its slope: the score by the normal law."""
    y, clock = x / alpha[0], sigma / alpha
    for k in range(len(alpha) - 1):
        score = -(y - m) / (v + clock[k] ** 2)  # of data + clock noise
        y = y - clock[k] * score * (clock[k + 1] - clock[k])
    return alpha[-1] * y


invert_gaussian = Exercise(
    id="invert_gaussian",
    dots=2,
    points=3.0,
    hints=(
        "Where is the state when the noise is estimated, and at which level were alpha and sigma taken?",
        "Compare one step with the two sentences above it: estimate here, put together there.",
    ),
    cases=invert_cases,
    oracle=invert_oracle,
    messages={
        "values": "The noise is wrong.",
        "batch equals width": "With as many points as coordinates it is wrong: an axis was taken for another.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def invert_gaussian(x, alpha, sigma, m, v):
    for a, s, a_next, s_next in zip(alpha[:-1], sigma[:-1], alpha[1:], sigma[1:]):
        eps = s * (x - a * m) / (a**2 * v + s**2)
        x = a_next * (x - s * eps) / a + s_next * eps
    return x
""",
        """
def invert_gaussian(x, alpha, sigma, m, v):
    total = alpha**2 * v + sigma**2
    gain = (alpha[:-1] * alpha[1:] * v + sigma[:-1] * sigma[1:]) / total[:-1]
    return alpha[-1] * m + gain.prod() * (x - alpha[0] * m)
""",
    ),
    wrong=(
        Wrong(
            "a, s = alpha[k], sigma[k]",
            "a, s = alpha[k + 1], sigma[k + 1]",
            "values",
            "The state is still at level k: with the next level's numbers the estimates belong to another state.",
        ),
        Wrong(
            "eps = (x - a * x0) / s", "eps = (x - x0) / s", "values", "The clean part of the state is scaled by alpha."
        ),
        Wrong("(x - a * m)", "(x - m)", "values", "The state's mean is alpha times that of the data."),
        Wrong("(a**2 * v + s**2)", "(a**2 * v + s)", "values", "Variances add up: sigma enters by its square."),
        Wrong("sigma[k + 1] * eps", "sigma[k] * eps", "values", "The noise must have the size of the next level."),
        Wrong("x = alpha[k + 1] * x0", "x = alpha[k] * x0", "values", "The clean sample is scaled for the next level."),
    ),
)


def edit_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int) -> Case:
        root = rng.normal(size=(D, D))
        C = root @ root.T / D + 0.1 * np.eye(D)
        return Case(
            name, (2 * rng.normal(size=(B, D)), rng.normal(size=D), C, rng.uniform(0.3, 1.2), rng.uniform(0.3, 1.5))
        )

    return [case("values", 4, 3), case("batch equals width", 3, 3)]


def edit_oracle(g: np.ndarray, m: np.ndarray, C: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
    """x_t at 2 D points, a rule that is exact for squares; x given x_t by conditioning the joint Gaussian."""
    D = len(m)
    joint = np.block([[C, alpha * C], [alpha * C, alpha**2 * C + sigma**2 * np.eye(D)]])
    precision = np.linalg.inv(joint)
    cov = np.linalg.inv(precision[:D, :D])
    out = []
    for guide in g:
        total = np.trace(cov)
        nodes = np.concatenate([np.eye(D), -np.eye(D)]) * math.sqrt(D)
        for z in nodes:
            away = alpha * guide + sigma * z - alpha * m
            mean = m - cov @ precision[:D, D:] @ away
            total += ((mean - guide) ** 2).sum() / (2 * D)
        out.append(total)
    return np.array(out)


edit_distance = Exercise(
    id="edit_distance",
    dots=2,
    points=3.0,
    hints=(
        "The edited point is the posterior mean plus a posterior deviation. Its mean depends on the added noise.",
        "Three parts: the square of the mean shift, the variance of the posterior mean over the added noise, and the "
        "trace of the posterior covariance.",
    ),
    cases=edit_cases,
    oracle=edit_oracle,
    messages={
        "values": "The mean square distance is wrong.",
        "batch equals width": "With as many guides as coordinates it is wrong: an axis was taken for another.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def edit_distance(g, m, C, alpha, sigma):
    D = len(m)
    S = alpha**2 * C + sigma**2 * torch.eye(D, dtype=C.dtype)
    K = alpha * C @ torch.linalg.inv(S)
    post = C - K @ S @ K.T
    out = []
    for one in g:
        shift = m + alpha * K @ (one - m) - one
        out.append(shift @ shift + sigma**2 * (K @ K.T).trace() + post.trace())
    return torch.stack(out)
""",
        """
def edit_distance(g, m, C, alpha, sigma):
    values, axes = torch.linalg.eigh(C)
    r = alpha**2 * values / (alpha**2 * values + sigma**2)
    away = (g - m) @ axes
    return ((1 - r) ** 2 * away**2 + values * (1 - r**2)).sum(1)
""",
    ),
    wrong=(
        Wrong(" + of_mean", "", "values", "The added noise moves the posterior mean: that counts too."),
        Wrong(" + of_posterior", "", "values", "The reverse SDE adds noise of its own."),
        Wrong("+ of_mean", "+ of_mean / sigma**2", "values", "The added noise has the variance sigma squared."),
        Wrong(
            "(C - alpha * gain @ C)",
            "C",
            "values",
            "Given the noisy guide, less than the variance of the data is left.",
        ),
        Wrong("(eye - alpha * gain)", "(eye - gain)", "values", "The guide is scaled before it is noised."),
        Wrong(
            "gain = alpha * torch",
            "gain = torch",
            "values",
            "Check the slope of the posterior mean in the noisy point.",
        ),
        Wrong("(m - g) @", "(0 * m - g) @", "values", "The data have a mean."),
    ),
    equivalent={
        "away = (g - m) @ (eye - alpha * gain)": "away is only squared",
        "away = (m - g) @ (alpha * gain - eye)": "away is only squared",
        "of_posterior = (C - C @ (alpha * gain)).trace()": "a trace, and the two matrices commute",
    },
)


def overhead_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, T: int) -> Case:
        return Case(name, (np.sort(rng.uniform(0.1, 0.98, T))[::-1].copy(), rng.uniform(0.3, 3)))

    return [case("values", 6), case("one level", 1)]


def overhead_oracle(alpha: np.ndarray, v: float) -> float:
    """Each KL between normal laws, its mean over data and noise by quadrature; the information by entropies."""
    noise = 1 - alpha**2
    nats = (alpha[-1] ** 2 * v) / (2 * noise[-1])
    for k in range(1, len(alpha)):
        gain = alpha[k] / alpha[k - 1]
        step = noise[k] - gain**2 * noise[k - 1]
        var, share = step * noise[k - 1] / noise[k], alpha[k - 1] * step / noise[k]
        left = 1 / (1 / v + alpha[k] ** 2 / noise[k])  # variance of x0 given x_k
        kl = lambda e, s=share, w=var: (s * e) ** 2 / (2 * w)  # noqa: E731
        law = stats.norm(0, math.sqrt(left))
        edge = 12 * math.sqrt(left)
        nats += integrate.quad(lambda e, f=kl, p=law: f(e) * p.pdf(e), -edge, edge, epsabs=1e-13)[0]
    top = stats.norm(0, math.sqrt(alpha[0] ** 2 * v + noise[0])).entropy()
    return (nats - (top - stats.norm(0, math.sqrt(noise[0])).entropy())) / math.log(2)


step_overhead = Exercise(
    id="step_overhead",
    dots=2,
    points=3.0,
    hints=(
        "Each KL is between two normal laws of one variance. In signal-to-noise ratios it becomes short: its factor is "
        "their difference between the two levels.",
        "At which of the two levels is the clean sample estimated, when a step down is described?",
    ),
    cases=overhead_cases,
    oracle=overhead_oracle,
    messages={
        "values": "The overhead is wrong.",
        "one level": "With a single level it is wrong: only the prior's term is left, and what the receiver knows.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def step_overhead(alpha, v):
    snr = (1 / alpha**2 - 1).reciprocal()
    total = 0.5 * v * snr[-1] - 0.5 * torch.log(1 + v * snr[0])
    for k in range(1, len(alpha)):
        total = total + 0.5 * (snr[k - 1] - snr[k]) / (1 / v + snr[k])
    return total / math.log(2)
""",
        """
def step_overhead(alpha, v):
    snr = torch.cat([alpha**2 / (1 - alpha**2), torch.zeros(1, dtype=alpha.dtype)])
    grow = (1 + v * snr[:-1]) / (1 + v * snr[1:])
    return ((grow - 1) - grow.log()).sum() / (2 * math.log(2))
""",
    ),
    wrong=(
        Wrong(
            "error[1:]", "error[:-1]", "values", "The estimate is made at the noisier level: there the receiver stands."
        ),
        Wrong("v * snr[-1] / 2 +", "", "values", "The first message, about the last level, was left out."),
        Wrong("alpha**2 / (1 - alpha**2)", "alpha / (1 - alpha**2)", "values", "It is a ratio of variances."),
        Wrong("snr[0]) / 2", "snr[-1]) / 2", "values", "At the end the receiver holds the cleanest level."),
        Wrong("/ math.log(2)", "", "values", "The result was asked in bits."),
        Wrong("error = v / (1 + v * snr)", "error = 1 / (1 + snr)", "values", "The data have the variance v."),
    ),
)


def rounded_down(c: int, a: int, x: int) -> bool:
    """Whether x/(a/c) in floats is less than the whole number that it should be."""
    return math.floor(x / (a / c)) != x * c // a


def coin_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, n: int, c: int, a: int, x: int) -> Case:
        return Case(name, (x, rng.integers(0, 2, n), a, c))

    c = int(rng.choice([7, 11, 13]))
    a = int(rng.integers(3, c - 2))
    both = rng.permutation([0, 1] * 4)
    traps = [t for t in itertools.product(range(20, 40), range(3, 17), range(1, 40)) if rounded_down(*t)]
    size, ones, start = traps[int(rng.integers(len(traps)))]
    return [
        Case("values", (int(rng.integers(1, 9)), both, a, c)),
        case("from zero", 5, 7, 3, 0),
        case("rare ones", 2, 9, 1, int(rng.integers(1, 9))),
        Case("rounding", (start, np.append(1, rng.integers(0, 2, 2)), ones, size)),
    ]


def coin_oracle(x: int, bits: np.ndarray, a: int, c: int) -> int:
    """By counting: the numbers are gone through, and each is given to its symbol."""
    x = int(x)
    for bit in bits.tolist():
        number, seen = -1, -1
        while seen < x:
            number += 1
            belongs = -(-(number + 1) * a // c) + (-number * a // c)
            seen += int(belongs == bit)
        x = number
    return x


push_coins = Exercise(
    id="push_coins",
    dots=3,
    points=4.0,
    hints=(
        "How many numbers below n belong to 1? The definition makes this a telescoping sum. Which n is the first "
        "with more than x of them below n + 1?",
        "For a 1 the result is the largest n whose count is at most x, for a 0 use the count n minus that of the ones. "
        "Turn rounding up into whole-number division with two minus signs.",
    ),
    cases=coin_cases,
    oracle=coin_oracle,
    messages={
        "values": "The number is wrong.",
        "from zero": "Starting from 0 the number is wrong.",
        "rare ones": "With rare ones the number is wrong.",
        "rounding": "For some fractions the number is off by one, or by what one becomes.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def push_coins(x, bits, a, c):
    for bit in bits:
        if int(bit) == 1:
            x = (x * c) // a
        else:
            x = ((x + 1) * c + (c - a) - 1) // (c - a) - 1
    return x
""",
        """
def push_coins(x, bits, a, c):
    for bit in bits.tolist():
        rounds, rest = divmod(x, a if bit else c - a)
        mine = [n for n in range(c) if (-(-(n + 1) * a // c) + (-n * a // c)) == bit]
        x = rounds * c + mine[rest]
    return x
""",
    ),
    wrong=(
        Wrong("x * c // a", "x * a // c", "values", "A push makes the number larger: a rare symbol more so."),
        Wrong("(-(x + 1) * c)", "(-x * c)", "values", "Check the first zero: which number is it?"),
        Wrong("(c - a)) - 1", "(c - a))", "values", "Counting begins with 0."),
        Wrong(
            "x = -((-(x + 1) * c) // (c - a)) - 1",
            "x = (x + 1) * c // (c - a) - 1",
            "values",
            "Here one must round up.",
        ),
        Wrong("if bit:", "if not bit:", "values", "The two symbols were exchanged."),
        Wrong(
            "x * c // a", "math.floor(x / (a / c))", "rounding", "A quotient of floats is rounded, also before floor."
        ),
    ),
)

EXERCISES = [mix_noises, invert_gaussian, edit_distance, step_overhead, push_coins]
