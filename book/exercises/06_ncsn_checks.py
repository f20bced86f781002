"""The checks of the exercises of chapter 6."""

from __future__ import annotations

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."


def falling(rng: np.random.Generator, levels: int) -> np.ndarray:
    """Levels from a random largest to a random smallest one, not quite geometric."""
    return np.sort(rng.uniform(0.3, 3.0, levels))[::-1].copy()


def anneal_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, K: int, L: int, n: int) -> Case:
        x, points = 3 * rng.normal(size=(B, D)), 2 * rng.normal(size=(K, D))
        return Case(name, (x, falling(rng, L), float(rng.uniform(0.1, 0.4)), rng.normal(size=(L, n, B, D)), points))

    return [case("values", 3, 2, 4, 3, 2), case("all sizes equal", 3, 3, 3, 3, 3)]


def anneal_oracle(x: np.ndarray, sigmas: np.ndarray, rho: float, z: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Each coordinate of the score by a complex step of log p; the step in the letters of the paper, alpha = 2 h."""

    def log_p(y: np.ndarray, sigma: float) -> np.ndarray:
        logs = -((y[:, None] - points) ** 2).sum(2) / (2 * sigma**2)
        top = logs.real.max(1, keepdims=True)
        return top[:, 0] + np.log(np.exp(logs - top).sum(1))

    for i, sigma in enumerate(sigmas):
        alpha = 2 * rho * sigma**2
        for j in range(z.shape[1]):
            s = np.stack([log_p(x + 1e-30j * unit, sigma).imag / 1e-30 for unit in np.eye(x.shape[1])], 1)
            x = x + alpha / 2 * s + np.sqrt(alpha) * z[i, j]
    return x


anneal = Exercise(
    id="anneal",
    dots=1,
    points=2.0,
    hints=(
        "Take one point of data at 0 and many steps at one level. Which variance should particles have? Which do they?",
        "One paper writes half of the score, the other the whole one. Each has its own factor before the noise.",
    ),
    cases=anneal_cases,
    oracle=anneal_oracle,
    messages={
        "values": "The particles end elsewhere.",
        "all sizes equal": "With equal sizes of all axes the result is wrong: an axis was taken for another.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def anneal(x, sigmas, rho, z, points):
    levels, n = z.shape[:2]
    for i in range(levels):
        alpha = 2 * rho * sigmas[i] ** 2
        for j in range(n):
            x = x + 0.5 * alpha * score(x, sigmas[i], points) + alpha.sqrt() * z[i, j]
    return x
""",
        """
def anneal(x, sigmas, rho, z, points):
    for i, sigma in enumerate(sigmas.tolist()):
        for noise in z[i]:
            shifts = points[None] - x[:, None]
            r = torch.softmax(-(shifts**2).sum(-1) / (2 * sigma**2), -1)
            x = x + rho * torch.einsum("bk,bkd->bd", r, shifts) + sigma * math.sqrt(2 * rho) * noise
    return x
""",
    ),
    wrong=(
        Wrong(
            "drift = h * score",
            "drift = h / 2 * score",
            "values",
            "Half of the score belongs to the noise sqrt(h), the whole one to sqrt(2 h).",
        ),
        Wrong("torch.sqrt(2 * h)", "torch.sqrt(h)", "values", "With the whole score the noise has the variance 2 h."),
        Wrong("torch.sqrt(2 * h)", "2 * h", "values", "The noise was scaled by its variance, not its deviation."),
        Wrong("rho * sigma**2", "rho * sigma", "values", "A step is an area: it goes with the square of the level."),
        Wrong("zip(sigmas, z)", "zip(sigmas.flip(0), z)", "values", "The levels run from the largest to the smallest."),
    ),
)


def loss_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, L: int) -> Case:
        index = np.append(rng.integers(0, L, B - 2), [0, L - 1])
        return Case(
            name, (rng.normal(size=(B, D)), index, rng.normal(size=(B, D)), falling(rng, L), rng.normal(size=(D, D)))
        )

    return [case("values", 6, 3, 4), case("batch, width and levels are equal", 4, 4, 4)]


def loss_oracle(x0: np.ndarray, index: np.ndarray, eps: np.ndarray, sigmas: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Sample by sample, with the target by a complex step of the log-density of the noise."""
    losses = []
    for b, i in enumerate(index):
        sigma, noisy = sigmas[i], x0[b] + sigmas[i] * eps[b]
        shifted = noisy + 1e-30j * np.eye(len(noisy))
        target = (-((shifted - x0[b]) ** 2).sum(1) / (2 * sigma**2)).imag / 1e-30
        losses.append(sigma**2 * ((np.tanh(noisy @ W) / sigma - target) ** 2).sum() / 2)
    return np.array(losses)


level_loss = Exercise(
    id="level_loss",
    dots=1,
    points=2.0,
    hints=(
        "Write the target with the noise: which way does the score of the noise point, seen from the noisy sample?",
        "Multiply the weight into the square: the level cancels everywhere but in the noisy sample.",
    ),
    cases=loss_cases,
    oracle=loss_oracle,
    messages={
        "values": "The losses of the samples are wrong.",
        "batch, width and levels are equal": "With B = D = L the loss is wrong: levels belong to rows, not columns.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def level_loss(x0, index, eps, sigmas, W):
    losses = []
    for x, i, e in zip(x0, index, eps):
        s = network((x + sigmas[i] * e)[None], W)[0] / sigmas[i]
        losses.append(0.5 * sigmas[i] ** 2 * (s + e / sigmas[i]).square().sum())
    return torch.stack(losses)
""",
        """
def level_loss(x0, index, eps, sigmas, W):
    sigma = sigmas.gather(0, index).unsqueeze(1)
    noisy = torch.addcmul(x0, sigma, eps)
    gap = sigma * (network(noisy, W) / sigma - (x0 - noisy) / sigma**2)
    return torch.einsum("bd,bd->b", gap, gap) / 2
""",
    ),
    wrong=(
        Wrong(
            "network(noisy, W) + eps",
            "network(noisy, W) - eps",
            "values",
            "The score of the noise points back to the clean sample, against the noise.",
        ),
        Wrong(
            "(network(noisy, W) + eps)",
            "((network(noisy, W) + eps) / sigma)",
            "values",
            "The weight is missing: small levels outweigh the others.",
        ),
        Wrong("sigma * eps", "sigma**2 * eps", "values", "The noise has the standard deviation sigma."),
        Wrong(
            "[:, None]",
            "",
            "values",
            "One level belongs to each sample: it multiplies a row.",
        ),
        Wrong(".sum(1) / 2", ".sum(1)", "values", "The denoising loss has a half."),
        Wrong(".sum(1)", ".mean(1)", "values", "The loss is a sum over dimensions."),
    ),
)


def variance_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, D: int, L: int, n: int, floor: float = 0.2) -> Case:
        v = rng.uniform(floor, 2.0, D)
        if not floor:
            v[0] = 0.0
        return Case(name, (v, falling(rng, L), float(rng.uniform(0.1, 0.5)), n))

    return [
        case("values", 4, 3, 2),  # few steps: the start is not forgotten
        case("a fixed dimension", 2, 2, 2, 0.0),
    ]


def variance_oracle(v: np.ndarray, sigmas: np.ndarray, rho: float, n: int) -> np.ndarray:
    """The chain is linear in its start and its noises: run it on one unit impulse at a time, add squared answers."""
    total = len(sigmas) * n

    def end(start: float, at: int) -> np.ndarray:
        x = np.full_like(v, start)
        for k in range(total):
            sigma = sigmas[k // n]
            h = rho * sigma**2
            x = x - h * x / (v + sigma**2) + np.sqrt(2 * h) * (k == at)
        return x

    return end(sigmas[0], -1) ** 2 + sum(end(0.0, k) ** 2 for k in range(total))


ladder_variance = Exercise(
    id="ladder_variance",
    dots=2,
    points=3.0,
    hints=(
        "The exact score of noised Gaussian data is linear. What does one step do to a variance?",
        "A step multiplies x by a factor and adds independent noise. What does each do to the variance?",
    ),
    cases=variance_cases,
    oracle=variance_oracle,
    messages={
        "values": "The variance after the last level is wrong.",
        "a fixed dimension": "Where the data do not vary the result is wrong: what is the noised variance there?",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def ladder_variance(v, sigmas, rho, n):
    out = torch.zeros_like(v) + sigmas[0].square()
    for s2 in sigmas.square():
        settled = (v + s2) / (1 - rho * s2 / (2 * (v + s2)))
        out = settled + (1 - rho * s2 / (v + s2)) ** (2 * n) * (out - settled)
    return out
""",
        """
def ladder_variance(v, sigmas, rho, n):
    h = (rho * sigmas**2).repeat_interleave(n)
    k = 1 - h[:, None] / (v + sigmas.repeat_interleave(n)[:, None] ** 2)
    later = torch.cat([k.flip(0).cumprod(0).flip(0)[1:], torch.ones(1, len(v), dtype=v.dtype)])
    return k.prod(0) ** 2 * sigmas[0] ** 2 + (2 * h[:, None] * later**2).sum(0)
""",
    ),
    wrong=(
        Wrong("shrink**2 * spread", "shrink * spread", "values", "A factor of x is squared in its variance."),
        Wrong("+ 2 * step", "+ step", "values", "The noise of a step has the variance 2 h."),
        Wrong(
            "step / (v + sigma**2)",
            "step / sigma**2",
            "values",
            "The data have a width of their own: the noised density is wider.",
        ),
        Wrong("sigmas[0] ** 2 *", "(v + sigmas[0] ** 2) *", "values", "The particles begin with the noise alone."),
        Wrong(
            "shrink = 1 - step / (v + sigma**2)",
            "shrink = 1 - (step / v) / (1 + sigma**2 / v)",
            "a fixed dimension",
            "Dividing by the variance of the data fails where it is 0. The noised variance never is.",
        ),
        Wrong("range(n)", "range(n - 1)", "values", "Each level has n steps."),
        Wrong(
            "rho * sigma**2",
            "rho * (v + sigma**2)",
            "values",
            "The step is in units of the noise here, not of the noised data.",
        ),
    ),
    equivalent={
        "spread = sigmas[0] ** 2 / torch.ones_like(v)": "a division by 1",
        "shrink = step / (v + sigma ** 2) - 1": "the factor is only squared",
    },
)


def levels_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, D: int, low: float, high: float, finest: float = 0.001) -> Case:
        ends = float(rng.uniform(10, 1000)), float(rng.uniform(finest, 10 * finest))
        return Case(name, (D, *ends, float(rng.uniform(low, high))))

    return [
        case("values", int(rng.integers(3, 60)), 0.3, 0.9),
        case("one dimension", 1, 0.5, 0.8, 1e-12),  # many levels: a ratio that is nearly right gives another number
        case("very many dimensions", 10**12, 0.3, 0.9),
    ]


def levels_oracle(D: int, largest: float, smallest: float, c: float) -> int:
    """Count up or bisect: C of one dimension by Gauss-Hermite quadrature in excess of 1, to the power D."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()

    def log_c(levels: int) -> float:
        g = np.log(largest / smallest) / (levels - 1)  # log of the ratio
        # E_m sqrt(p q)/m with m = N(0, 1) and stds exp(g/2), exp(-g/2): the exponent is x^2/2 - x^2 cosh(g)/2
        excess = weights @ np.expm1(-(nodes**2) * np.sinh(g / 2) ** 2) if g < 1 else 1 / np.sqrt(np.cosh(g)) - 1
        return float(D * np.log1p(excess))

    low, high = 1, 2
    while log_c(high) < np.log(c):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if log_c(middle) >= np.log(c) else (middle, high)
    return high


least_levels = Exercise(
    id="least_levels",
    dots=3,
    points=4.0,
    hints=(
        "The integral is a product over dimensions. In one it is Gaussian, and depends on the ratio of levels alone.",
        "Solve for the ratio. In many dimensions it is close to 1: use logarithms, and functions for small numbers.",
    ),
    cases=levels_cases,
    oracle=levels_oracle,
    messages={
        "values": "The number of levels is not the least one.",
        "one dimension": "In one dimension the number is wrong.",
        "very many dimensions": "In very many dimensions digits are lost: the ratio is hardly more than 1.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def least_levels(D, largest, smallest, c):
    # 1 / cosh(log ratio) = c^(2/D)
    ratio = math.asinh(math.sqrt(math.expm1(-4 * math.log(c) / D)))
    return math.ceil(math.log(largest / smallest) / ratio) + 1
""",
        """
def least_levels(D, largest, smallest, c):
    span, levels = math.log(largest) - math.log(smallest), 2
    def log_c(levels):
        g = span / (levels - 1)
        return -0.5 * D * math.log1p(2 * math.sinh(g / 2) ** 2)
    step = 1
    while log_c(levels + step) < math.log(c):
        step *= 2
    while step:
        if log_c(levels) < math.log(c):
            levels += step
            if log_c(levels - 1) >= math.log(c):
                levels -= step
        step //= 2
    return levels + (log_c(levels) < math.log(c))
""",
    ),
    wrong=(
        Wrong(
            "2 * math.log(c) / D", "math.log(c) / D", "values", "The integral over one dimension holds a square root."
        ),
        Wrong("1 + math.ceil", "math.ceil", "values", "There is one level more than there are gaps."),
        Wrong("math.ceil(", "math.floor(", "values", "Rounded down, neighbours have too little in common."),
        Wrong("2 * math.log(c) / D", "2 * math.log(c)", "values", "The overlap is a product over all dimensions."),
        Wrong(
            "math.sqrt(-math.expm1(2 * log_q))",
            "-math.expm1(2 * log_q)",
            "values",
            "Solve the quadratic equation for the ratio again: a root was lost.",
        ),
        Wrong(
            "math.sqrt(-math.expm1(2 * log_q))",
            "math.sqrt(1 - math.exp(log_q) ** 2)",
            "very many dimensions",
            "1 minus a number close to 1 has lost its digits.",
        ),
    ),
)


def last_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, K: int, far: float = 0.0) -> Case:
        x = rng.normal(size=(B, D)) + far * np.resize([1.0, -1.0], D)
        return Case(name, (x, float(rng.uniform(0.5, 1.2)), rng.normal(size=(K, D)), rng.dirichlet(np.full(K, 3.0))))

    return [
        case("values", 5, 2, 3),
        case("batch, width and points are equal", 4, 4, 4),
        case("far away", 3, 2, 3, 200.0),
    ]


def last_oracle(x: np.ndarray, sigma: float, points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both moments from derivatives of the noised log p: one by a complex step, one by differences."""

    def log_p(y: np.ndarray) -> np.ndarray:
        logs = np.log(weights) - ((y[:, None] - points) ** 2).sum(2) / (2 * sigma**2)
        top = logs.real.max(1, keepdims=True)
        return top[:, 0] + np.log(np.exp(logs - top).sum(1))

    def slope(y: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """Of log p + |y|^2/(2 sigma^2), which is smooth also far away."""
        return log_p(y + 1e-30j * unit).imag / 1e-30 + y @ unit / sigma**2

    h, columns, total = 1e-3, [], np.zeros(len(x))
    for unit in np.eye(x.shape[1]):
        columns.append(sigma**2 * slope(x, unit))
        first, second, third = (slope(x + j * h * unit, unit) - slope(x - j * h * unit, unit) for j in (1, 2, 3))
        total += sigma**4 * (45 * first - 9 * second + third) / (60 * h)
    return np.stack(columns, 1), total


last_step = Exercise(
    id="last_step",
    dots=2,
    points=3.0,
    hints=(
        "How probable is each point of the data, given x? These probabilities answer both questions.",
        "The variance is about the conditional mean, not about x. Far away, compare logarithms before exponentials.",
    ),
    cases=last_cases,
    oracle=last_oracle,
    tolerance=1e-6,
    messages={
        "values": "The mean or the variance of the clean point is wrong.",
        "batch, width and points are equal": "With B = D = K the result is wrong: an axis was taken for another.",
        "far away": "Far from all points the result is wrong: densities were 0 before they were divided.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def last_step(x, sigma, points, weights):
    logs = torch.log(weights) + (x @ points.T - points.square().sum(1) / 2) / sigma**2
    r = (logs - logs.logsumexp(1, keepdim=True)).exp()
    mean = torch.einsum("bk,kd->bd", r, points)
    spread = torch.einsum("bk,bkd->b", r, (points[None] - mean[:, None]) ** 2)
    return mean, spread
""",
        """
def last_step(x, sigma, points, weights):
    means, spreads = [], []
    for row in x:
        logs = weights.log() - (points - row).square().sum(1) / (2 * sigma**2)
        r = torch.exp(logs - logs.max())
        r = r / r.sum()
        mean = (r[:, None] * points).sum(0)
        means.append(mean)
        spreads.append((r[:, None] * (points - mean) ** 2).sum())
    return torch.stack(means), torch.stack(spreads)
""",
    ),
    wrong=(
        Wrong("(2 * sigma**2)", "(2 * sigma)", "values", "The exponent holds the variance of the noise."),
        Wrong("(2 * sigma**2)", "sigma**2", "values", "The exponent of a Gaussian has a half."),
        Wrong("weights.log() - square", "-square", "values", "Frequent points are more probable at every x."),
        Wrong(
            "(points - mean[:, None])",
            "(points - x[:, None])",
            "values",
            "The variance is about the conditional mean, not about the particle.",
        ),
        Wrong(
            "torch.softmax(weights.log() - square / (2 * sigma**2), 1)",
            "torch.nn.functional.normalize(weights * torch.exp(-square / (2 * sigma**2)), p=1, dim=1, eps=0.0)",
            "far away",
            "Far away every density is rounded to 0, and 0 is divided by 0.",
        ),
    ),
    equivalent={
        "square = (points - x[:, None]).square().sum(2)": "a square",
        "away = (mean[:, None] - points).square().sum(2)": "a square",
    },
)

EXERCISES = [anneal, level_loss, ladder_variance, least_levels, last_step]
