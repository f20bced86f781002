"""The checks of the exercises of chapter 10."""

from __future__ import annotations

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."


def walk_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, K: int, L: int, eta: float) -> Case:
        variances = np.cumsum(rng.uniform(0.2, 1.0, L + 1))
        x, points = 2 * rng.normal(size=(B, D)), 2 * rng.normal(size=(K, D))
        return Case(name, (x, variances, eta, rng.normal(size=(L, B, D)), points))

    return [
        case("both ends", 3, 2, 4, 3, 0.0),
        case("both ends", 3, 2, 4, 3, 1.0),
        case("in between", 3, 2, 4, 4, float(rng.uniform(0.3, 0.7))),
        case("all sizes equal", 3, 3, 3, 3, float(rng.uniform(1.2, 1.6))),
    ]


def walk_oracle(x: np.ndarray, variances: np.ndarray, eta: float, z: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The ODE's half of the score, then a Langevin step of size eta^2 gap / 2; scores by a complex step of log p."""

    def log_p(y: np.ndarray, var: float) -> np.ndarray:
        logs = -((y[:, None] - points) ** 2).sum(2) / (2 * var)
        top = logs.real.max(1, keepdims=True)
        return top[:, 0] + np.log(np.exp(logs - top).sum(1))

    for noise, var, cleaner in zip(z[::-1], variances[:0:-1], variances[-2::-1], strict=True):
        s = np.stack([log_p(x + 1e-30j * unit, var).imag / 1e-30 for unit in np.eye(x.shape[1])], 1)
        h = eta**2 * (var - cleaner) / 2
        x = x + (var - cleaner) / 2 * s + h * s + np.sqrt(2 * h) * noise
    return x


walk = Exercise(
    id="walk",
    dots=1,
    points=2.0,
    hints=(
        "Split the step in two: what the ODE does, and what a Langevin step does. Which size has the Langevin step?",
        "The noise has a variance. The extra pull of the score must match the variance, not the deviation.",
    ),
    cases=walk_cases,
    oracle=walk_oracle,
    messages={
        "both ends": "With no noise, or with that of the reverse SDE, the points end elsewhere.",
        "in between": "At both ends the step is right, but not for an amount of noise in between.",
        "all sizes equal": "With equal sizes of all axes the result is wrong: an axis was taken for another.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def walk(x, variances, eta, z, points):
    gaps = variances.diff()
    for gap, var, noise in reversed(list(zip(gaps, variances[1:], z))):
        s = score(x, var, points)
        x = x + gap * s - (1 - eta**2) / 2 * gap * s + (eta**2 * gap).sqrt() * noise
    return x
""",
        """
def walk(x, variances, eta, z, points):
    L = len(z)
    for i in range(L):
        var, cleaner = variances[L - i].item(), variances[L - i - 1].item()
        away = points[None] - x[:, None]
        r = torch.softmax(-(away**2).sum(-1) / (2 * var), -1)
        s = torch.einsum("bk,bkd->bd", r, away) / var
        x = x + 0.5 * (var - cleaner) * (1 + eta * eta) * s + eta * math.sqrt(var - cleaner) * z[L - 1 - i]
    return x
""",
    ),
    wrong=(
        Wrong(
            "(1 + eta**2) / 2",
            "(1 + eta) / 2",
            "in between",
            "The pull has to balance the variance of the noise. At 0 and 1 a number equals its square.",
        ),
        Wrong("(1 + eta**2) / 2 * gap", "gap", "both ends", "Without noise only half of the score is needed."),
        Wrong("(1 + eta**2) / 2 * gap", "gap / 2", "both ends", "The noise on the way back needs its own pull."),
        Wrong("torch.sqrt(gap)", "gap", "both ends", "The gap is a variance. The noise has its root."),
        Wrong("eta * torch.sqrt(gap)", "eta**2 * torch.sqrt(gap)", "in between", "The noise is scaled by eta itself."),
        Wrong(
            "score(x, variances[i], points)",
            "score(x, variances[i - 1], points)",
            "both ends",
            "The score is taken where the step begins.",
        ),
        Wrong("z[i - 1]", "z[-i]", "both ends", "The noises were used in the wrong order."),
        Wrong("1, 0, -1)", "1, 1, -1)", "both ends", "The walk stops one level too early."),
    ),
)


def cell_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, N: int, left: float, f: float | None = None) -> Case:
        x = left + rng.uniform(0.1, 0.4) * np.arange(N)
        return Case(
            name, (rng.uniform(0.1, 1.0, N), x, rng.uniform(-2, 2) if f is None else f, float(rng.uniform(0.5, 2)))
        )

    return [
        case("drift and noise", 9, -1.3),
        case("far from the middle", 7, 20.0),
        case("two cells", 2, -0.2),
    ]


def cell_oracle(p: np.ndarray, x: np.ndarray, f: float, g2: float) -> np.ndarray:
    """Edge by edge: the mass that crosses it in a short time leaves one cell and enters the other."""
    rates, width = np.zeros(len(p)), (x[-1] - x[0]) / (len(x) - 1)
    for i in range(len(p) - 1):
        place = x[0] + (i + 0.5) * width
        swept = f * place * np.mean(p[i : i + 2])
        mixed = g2 * (p[i] - p[i + 1]) / (2 * width)
        for cell, sign in ((i, -1), (i + 1, 1)):
            rates[cell] += sign * (swept + mixed) / width
    return rates


cell_rates = Exercise(
    id="cell_rates",
    dots=2,
    points=3.0,
    hints=(
        "There are N - 1 inner edges. Compute one flux for each, then add a zero at both ends.",
        "A positive flux leaves the left cell and enters the right one. Sum your result: it must be 0.",
    ),
    cases=cell_cases,
    oracle=cell_oracle,
    messages={
        "drift and noise": "The rates are wrong.",
        "far from the middle": "Far from the middle the rates are wrong: where is the drift taken?",
        "two cells": "With two cells, and one inner edge, the rates are wrong.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def cell_rates(p, x, f, g2):
    N, width = len(p), x[1] - x[0]
    M = torch.zeros(N, N, dtype=p.dtype)
    for i in range(N - 1):
        edge = x[i] + width / 2
        for j, flow in ((i, f * edge / 2 + g2 / (2 * width)), (i + 1, f * edge / 2 - g2 / (2 * width))):
            M[i, j] -= flow / width
            M[i + 1, j] += flow / width
    return M @ p
""",
        """
def cell_rates(p, x, f, g2):
    width = float(x[1] - x[0])
    right = torch.zeros_like(p)
    right[:-1] = f * (x[:-1] + width / 2) * 0.5 * (p[:-1] + p[1:]) - 0.5 * g2 * torch.diff(p) / width
    left = right.roll(1, 0)
    return (left - right) / width
""",
    ),
    wrong=(
        Wrong("- g2 / 2", "+ g2 / 2", "drift and noise", "Noise flows from high density to low."),
        Wrong("g2 / 2 *", "g2 *", "drift and noise", "The equation has half of the squared noise."),
        Wrong("(p[1:] + p[:-1]) / 2", "p[1:]", "drift and noise", "At an edge the density is the mean of both cells."),
        Wrong("edge = (x[1:] + x[:-1]) / 2", "edge = x[1:]", "drift and noise", "The drift belongs to the edge."),
        Wrong(
            "/ width\n    flux = torch", "\n    flux = torch", "drift and noise", "A derivative has a width below it."
        ),
        Wrong(
            "torch.nn.functional.pad(flux, (1, 1))",
            "torch.cat([flux[:1], flux, flux[-1:]])",
            "drift and noise",
            "Mass is lost or won at the ends: nothing flows through the outer edges.",
        ),
        Wrong("flux[:-1] - flux[1:]", "flux[1:] - flux[:-1]", "drift and noise", "What flows out makes less."),
    ),
)


def step_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, eta: float, pure: bool = False) -> Case:
        angle = np.sort(rng.uniform(0.1, 1.4, (B, 2)), 1)  # of s and t
        size = rng.uniform(0.7, 1.5, (B, 2))  # not variance preserving
        both = np.stack([np.cos(angle), np.sin(angle)], 2) * size[..., None]  # (B, 2, 2)
        if pure:
            both[0, 1] = [0.0, 1.3]
        args = (rng.normal(size=(B, D)), both[:, 1].copy(), both[:, 0].copy(), rng.normal(size=D))
        return Case(name, (*args, float(rng.uniform(0.2, 2.0)), eta, rng.normal(size=(B, D))))

    return [
        case("without noise", 4, 2, 0.0),
        case("reverse SDE", 4, 2, 1.0),
        case("other noise", 4, 2, float(rng.uniform(0.4, 0.7))),
        case("batch and width are equal", 2, 2, float(rng.uniform(1.2, 1.5))),
        case("from pure noise", 3, 2, float(rng.uniform(1.1, 1.4)), True),
    ]


def step_oracle(
    x: np.ndarray, at_t: np.ndarray, at_s: np.ndarray, mu: np.ndarray, v: float, eta: float, z: np.ndarray
) -> np.ndarray:
    """Mean and variance of x/alpha - mu over l = log(v + sigma^2/alpha^2), by Runge-Kutta; any path has one answer."""
    alpha_t = np.maximum(at_t[:, :1], 1e-7)
    ends = [np.log(v + (pair[:, 1:] / alpha) ** 2) for pair, alpha in ((at_t, alpha_t), (at_s, at_s[:, :1]))]

    def slopes(y: np.ndarray, place: np.ndarray) -> np.ndarray:
        mean, var = y
        return np.stack([(1 + eta**2) / 2 * mean, (1 + eta**2) * var - eta**2 * np.exp(place)])

    n, y = 800, np.stack([x / alpha_t - mu, np.zeros_like(x)])
    h = (ends[1] - ends[0]) / n
    for i in range(n):
        place = ends[0] + i * h
        k1 = slopes(y, place)
        k2 = slopes(y + h / 2 * k1, place + h / 2)
        k3 = slopes(y + h / 2 * k2, place + h / 2)
        k4 = slopes(y + h * k3, place + h)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return at_s[:, :1] * (mu + y[0] + np.sqrt(np.maximum(y[1], 0)) * z)


exact_step = Exercise(
    id="exact_step",
    dots=2,
    points=3.0,
    hints=(
        "Both ends are Gaussian and their variances are known. What is missing is their correlation.",
        "Under the reverse SDE the pair has the law of the forward process. What does eta do to a correlation?",
    ),
    cases=step_cases,
    oracle=step_oracle,
    messages={
        "without noise": "Without noise the step is wrong: a point keeps its distance to the mean, in deviations.",
        "reverse SDE": "With the noise of the reverse SDE the step is wrong.",
        "other noise": "With some other amount of noise the step is wrong.",
        "batch and width are equal": "With B = D the result is wrong: times belong to rows, the mean to columns.",
        "from pure noise": "From pure noise the step is wrong: where the signal is 0, what is the correlation?",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def exact_step(x, at_t, at_s, mu, v, eta, z):
    out = []
    for xt, (a_t, s_t), (a_s, s_s), noise in zip(x, at_t.tolist(), at_s.tolist(), z):
        var_t, var_s = a_t**2 * v + s_t**2, a_s**2 * v + s_s**2
        rho = ((a_t / a_s) ** 2 * var_s / var_t) ** (eta**2 / 2)
        mean = a_s * mu + rho * math.sqrt(var_s / var_t) * (xt - a_t * mu)
        out.append(mean + math.sqrt(var_s * (1 - rho**2)) * noise)
    return torch.stack(out)
""",
        """
def exact_step(x, at_t, at_s, mu, v, eta, z):
    scales = torch.tensor([v, 1.0], dtype=x.dtype)
    var_t, var_s = ((pair**2 @ scales)[:, None] for pair in (at_t, at_s))
    covariance = at_t[:, :1] / at_s[:, :1] * var_s
    rho = covariance.pow(eta**2) / (var_t * var_s).sqrt().pow(eta**2)
    slope = rho * (var_s / var_t).sqrt()
    return at_s[:, :1] * mu + slope * (x - at_t[:, :1] * mu) + (var_s - slope**2 * var_t).clamp(min=0).sqrt() * z
""",
    ),
    wrong=(
        Wrong("** (eta**2)", "** eta", "other noise", "It is the variance of the noise that counts in the exponent."),
        Wrong("** (eta**2)", "", "without noise", "The correlation depends on the noise; without noise it is 1."),
        Wrong(
            "* std_s / std_t)",
            "* std_t / std_s)",
            "reverse SDE",
            "The correlation of the forward process is upside down.",
        ),
        Wrong("alpha_t / alpha_s * std_s", "alpha_s / alpha_t * std_s", "reverse SDE", "Signal shrinks towards noise."),
        Wrong("1 - rho**2", "1 - rho", "reverse SDE", "What the start explains is the square of the correlation."),
        Wrong("torch.sqrt(1 - rho**2)", "(1 - rho**2)", "reverse SDE", "The noise has the root of a variance."),
        Wrong("(x - alpha_t * mu)", "(x - mu)", "without noise", "At time t the mean has shrunk."),
        Wrong(
            "(alpha_t / alpha_s * std_s / std_t) ** (eta**2)",
            "torch.exp(eta**2 * (alpha_t.clamp(min=1e-2) / alpha_s * std_s / std_t).log())",
            "from pure noise",
            "Where the signal is 0 the start says nothing about the end.",
        ),
    ),
)


def decode_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, K: int, far: float = 0.0) -> Case:
        w, m, s = rng.dirichlet(np.full(K, 3.0)), 2 * rng.normal(size=K), rng.uniform(0.4, 1.0, K)
        alpha, sigma = rng.uniform(0.4, 1.0), rng.uniform(0.5, 1.5)
        z = alpha * rng.permutation(np.linspace(m.min(), m.max(), B)) + 0.2 * rng.normal(size=B)
        if far:
            z = np.resize([far, -far], B) + rng.normal(size=B)
        return Case(name, (z, w, m, s, float(alpha), float(sigma)))

    return [case("as many points as components", 5, 5), case("far out", 4, 3, 25.0)]


def decode_oracle(z: np.ndarray, w: np.ndarray, m: np.ndarray, s: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
    """The ODE itself for x/alpha, with the variance u of the noise as the clock: dx/du = -score/2, by Runge-Kutta."""

    def slope(x: np.ndarray, u: float) -> np.ndarray:
        var = s**2 + u
        away = m - x[:, None]
        logs = np.log(w) - np.log(var) / 2 - away**2 / (2 * var)
        r = np.exp(logs - logs.max(1, keepdims=True))
        return -(r / r.sum(1, keepdims=True) * away / var).sum(1) / 2

    x, c, n = z / alpha, s.min() ** 2, 500
    clock = np.exp(np.linspace(np.log((sigma / alpha) ** 2 + c), np.log(c), n + 1)) - c
    for u, h in zip(clock, np.diff(clock), strict=False):
        k1 = slope(x, u)
        k2 = slope(x + h / 2 * k1, u + h / 2)
        k3 = slope(x + h / 2 * k2, u + h / 2)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(x + h * k3, u + h))
    return x


decode = Exercise(
    id="decode",
    dots=3,
    points=4.0,
    hints=(
        "Paths that keep their order keep the mass on their left. Which equation for the end follows?",
        "Solve it by halving an interval. Far out compare the logarithm of the smaller of the two tails.",
    ),
    cases=decode_cases,
    oracle=decode_oracle,
    messages={
        "as many points as components": "The points end elsewhere. (Here there are as many points as components.)",
        "far out": "Far out the result is wrong: a probability was rounded to 0 or 1 before it was compared.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def decode(z, w, m, s, alpha, sigma):
    noisy = torch.hypot(alpha * s, torch.full_like(s, sigma))
    def side(x, mean, std, sign):
        return torch.logsumexp(w.log() + torch.special.log_ndtr(sign * (x - mean) / std), 0)
    out = []
    for point in z:
        left, right = (side(point, alpha * m, noisy, c) for c in (1.0, -1.0))
        sign, goal = (1.0, left) if left < right else (-1.0, right)
        low, high = -200.0, 200.0
        for _ in range(46):
            middle = (low + high) / 2
            if (side(middle, m, s, sign) < goal) == (sign > 0):
                low = middle
            else:
                high = middle
        out.append((low + high) / 2)
    return torch.tensor(out, dtype=z.dtype)
""",
        """
def decode(z, w, m, s, alpha, sigma):
    # the ODE in the noise's variance, in many steps of order 4
    x, c, n = z / alpha, float(s.min()) ** 2, 500
    end = math.log((sigma / alpha) ** 2 + c)
    clock = [math.exp(end + (math.log(c) - end) * i / n) - c for i in range(n + 1)]
    def slope(x, u):
        var, away = s**2 + u, m - x[:, None]
        r = torch.softmax(w.log() - var.log() / 2 - away**2 / (2 * var), 1)
        return -(r * away / var).sum(1) / 2
    for u, after in zip(clock[:-1], clock[1:]):
        h = after - u
        a = slope(x, u)
        b = slope(x + h / 2 * a, u + h / 2)
        d = slope(x + h / 2 * b, u + h / 2)
        x = x + h / 6 * (a + 2 * b + 2 * d + slope(x + h * d, after))
    return x
""",
    ),
    wrong=(
        Wrong(
            "(alpha * s) ** 2 + sigma**2",
            "s ** 2 + sigma**2",
            "as many points as components",
            "The data shrink with the signal.",
        ),
        Wrong(
            "tails(z, alpha * m,",
            "tails(z, m,",
            "as many points as components",
            "The means shrink with the signal too.",
        ),
        Wrong(
            "torch.sqrt((alpha * s) ** 2 + sigma**2)",
            "alpha * s + sigma",
            "as many points as components",
            "Variances add, not deviations.",
        ),
        Wrong("w.log() + torch", "torch", "as many points as components", "The components have weights."),
        Wrong(
            "torch.where(left < right, a < left, b > right)",
            "a < left",
            "far out",
            "On the right the mass on the left is rounded to 1. Use the other tail there.",
        ),
        Wrong(
            "torch.special.log_ndtr(c * y)",
            "torch.log(torch.special.ndtr(c * y))",
            "far out",
            "The logarithm of a probability that was rounded to 0.",
        ),
        Wrong("range(45)", "range(10)", "as many points as components", "Halve the interval until nothing changes."),
    ),
    equivalent={
        "for _ in range(46):": "once more halves an interval that is small enough",
        "for _ in range(44):": "once less leaves an interval that is small enough",
        "low, high = (torch.full_like(z, -200), torch.full_like(z, 201))": "all ends lie within",
        "low, high = (torch.full_like(z, -200), torch.full_like(z, 199))": "all ends lie within",
        "low, high = (torch.full_like(z, -201), torch.full_like(z, 200))": "all ends lie within",
        "low, high = (torch.full_like(z, -199), torch.full_like(z, 200))": "all ends lie within",
        "below = torch.where(left <= right, a < left, b > right)": "at the median both tails say the same",
        "below = torch.where(left < right, a <= left, b > right)": "equality means that the place is found",
        "below = torch.where(left < right, a < left, b >= right)": "equality means that the place is found",
    },
)


def expm(M: np.ndarray) -> np.ndarray:
    """exp(M) by its series at M/1024, squared ten times."""
    small, term, total = M / 1024, np.eye(len(M)), np.eye(len(M))
    for k in range(1, 12):
        term = term @ small / k
        total = total + term
    for _ in range(10):
        total = total @ total
    return total


def moments_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, D: int, t: float) -> Case:
        A, G, root = rng.normal(size=(D, D)), rng.normal(size=(D, D)), rng.normal(size=(D, D))
        return Case(name, (A, G, rng.normal(size=D), root @ root.T, t))

    x_and_v = np.array([[0.0, 1.0], [-float(rng.uniform(1, 3)), -float(rng.uniform(1, 3))]])
    push = np.array([[0.0, 0.0], [0.0, float(rng.uniform(0.5, 2))]])
    physics = Case(
        "a point with a velocity", (x_and_v, push, rng.normal(size=2), np.eye(2), float(rng.uniform(0.5, 2)))
    )
    return [
        physics,
        case("any matrices", 3, float(rng.uniform(0.5, 1.2))),
        case("one number", 1, float(rng.uniform(0.5, 1.2))),
        case("no time", 2, 0.0),
    ]


def moments_oracle(
    A: np.ndarray, G: np.ndarray, m: np.ndarray, C: np.ndarray, t: float
) -> tuple[np.ndarray, np.ndarray]:
    """The noise of each moment, carried to the end and added up by Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    move = expm(A * t)
    cov = move @ C @ move.T
    for node, weight in zip(nodes, weights, strict=True):
        pushed = expm(A * (t * (1 - node) / 2)) @ G
        cov = cov + weight * t / 2 * pushed @ pushed.T
    return move @ m, cov


linear_moments = Exercise(
    id="linear_moments",
    dots=3,
    points=4.0,
    hints=(
        "Write the equation of the covariance. It is linear, with a constant term: what does G add in a short time?",
        "A linear equation with a constant term is a larger linear equation without one. One exponential solves it.",
    ),
    cases=moments_cases,
    oracle=moments_oracle,
    messages={
        "a point with a velocity": "For a point that a noisy velocity moves the mean or the covariance is wrong.",
        "any matrices": "For matrices without any symmetry the mean or the covariance is wrong.",
        "one number": "With D = 1 the result is wrong.",
        "no time": "At t = 0 nothing has happened yet.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def linear_moments(A, G, m, C, t):
    D = len(A)
    eye = torch.eye(D, dtype=A.dtype)
    both = torch.kron(A, eye) + torch.kron(eye, A)
    whole = torch.zeros(D * D + 1, D * D + 1, dtype=A.dtype)
    whole[:-1, :-1], whole[:-1, -1] = both, (G @ G.T).flatten()
    start = torch.cat([C.flatten(), torch.ones(1, dtype=A.dtype)])
    cov = (torch.linalg.matrix_exp(whole * t) @ start)[:-1].view(D, D)
    return torch.linalg.matrix_exp(A * t) @ m, cov
""",
        """
def linear_moments(A, G, m, C, t):
    n = 600
    h, Q = t / n, G @ G.T
    def slope(P):
        return A @ P + P @ A.T + Q
    for _ in range(n):
        a = slope(C)
        b = slope(C + h / 2 * a)
        c = slope(C + h / 2 * b)
        C = C + h / 6 * (a + 2 * b + 2 * c + slope(C + h * c))
    return torch.matrix_exp(t * A) @ m, C
""",
    ),
    wrong=(
        Wrong("G @ G.T", "G.T @ G", "any matrices", "Which index of G belongs to y, and which to the noise?"),
        Wrong("G @ G.T", "G", "a point with a velocity", "Noise adds a variance: a square of G."),
        Wrong(
            "[-A, G", "[A, G", "a point with a velocity", "The two blocks of the large matrix move in opposite ways."
        ),
        Wrong("E[D:, D:].T  #", "E[D:, D:]  #", "a point with a velocity", "The block holds the transposed motion."),
        Wrong(
            "move @ C @ move.T",
            "move.T @ C @ move",
            "a point with a velocity",
            "A covariance is moved from both sides.",
        ),
        Wrong(
            "+ move @ E[:D, D:]", "+ E[:D, D:]", "a point with a velocity", "The noise of early moments moves on too."
        ),
        Wrong("move @ C @ move.T +", "C +", "a point with a velocity", "The covariance of the start moves on too."),
    ),
)

EXERCISES = [walk, cell_rates, exact_step, decode, linear_moments]
