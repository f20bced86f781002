"""The checks of the exercises of chapter 14."""

from __future__ import annotations

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."


def follow_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, n: int) -> Case:
        return Case(name, (rng.normal(size=(B, D)), 2 * rng.normal(size=D), float(rng.uniform(0.1, 0.6)), n))

    return [case("several steps", 4, 2, int(rng.integers(3, 8))), case("one step", 3, 3, 1)]


def follow_oracle(x: np.ndarray, m: np.ndarray, v: float, n: int) -> np.ndarray:
    """In the other clock, with the regression of noise minus data on the point from their covariances."""
    for t in np.arange(n, 0, -1) / n:
        rows = np.array([[-1.0, 1.0], [1 - t, t]])  # noise - data, and the point, from (data, noise)
        cov = rows @ np.diag([v, 1.0]) @ rows.T
        x = x - (-m + cov[0, 1] / cov[1, 1] * (x - (1 - t) * m)) / n
    return x


follow = Exercise(
    id="follow",
    dots=1,
    points=2.0,
    hints=(
        "Where is the noise in the network's clock, and where are the data? Write down the first time that is asked.",
        "The target is data minus noise. In which direction does it point, and at which end does the walk begin?",
    ),
    cases=follow_cases,
    oracle=follow_oracle,
    messages={
        "several steps": "The points end elsewhere. Which times is the network asked for, and in which order?",
        "one step": "With a single step the points end elsewhere: all of them should end at one place.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def follow(x, m, v, n):
    taus = torch.linspace(0, 1, n + 1, dtype=torch.float64).tolist()
    for tau, after in zip(taus[:-1], taus[1:]):
        x = x + (after - tau) * v_net(x, tau, m, v)
    return x
""",
        """
def follow(x, m, v, n):
    h, t = 1 / n, n  # t counts down in our clock
    while t > 0:
        x = x - h * -v_net(x, 1 - t / n, m, v)
        t -= 1
    return x
""",
    ),
    wrong=(
        Wrong("tau = i / n", "tau = 1 - i / n", "several steps", "This clock starts at the data. The noise is at 0."),
        Wrong(
            "tau = i / n\n        x = x + v_net",
            "tau = 1 - i / n\n        x = x - v_net",
            "several steps",
            "Time and sign are taken as if the network were trained in this book's clock. It was not.",
        ),
        Wrong("x + v_net", "x - v_net", "several steps", "The target is data minus noise: it points to the data."),
        Wrong("tau = i / n", "tau = (i + 1) / n", "several steps", "Euler asks at the start of a step."),
        Wrong("v_net(x, tau, m, v) / n", "v_net(x, tau, m, v)", "several steps", "A step has the length 1/n."),
        Wrong("range(n)", "range(1, n)", "several steps", "A step is missing."),
        Wrong("x = x + v_net", "x += v_net", "unchanged", "This writes into the caller's noise."),
    ),
)


def move_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int) -> Case:
        alpha, sigma = rng.uniform(0.3, 1.0, B), rng.uniform(0.2, 5.0, B)
        return Case(
            name,
            (
                rng.normal(size=(B, D)),
                rng.normal(size=(B, D)),
                alpha,
                sigma,
                -rng.uniform(0.1, 2, B),
                rng.normal(size=B),
            ),
        )

    return [case("another path", 4, 2), case("as many samples as coordinates", 3, 3)]


def move_oracle(
    y: np.ndarray, u: np.ndarray, alpha: np.ndarray, sigma: np.ndarray, dalpha: np.ndarray, dsigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample by sample: the time by bisection of the log-ratio, the pair by solving two equations for two unknowns."""
    times, places, speeds = [], [], []
    for i in range(len(y)):
        low, high = 0.0, 1.0
        for _ in range(80):
            t = (low + high) / 2
            low, high = (t, high) if np.log(t) - np.log1p(-t) < np.log(sigma[i] / alpha[i]) else (low, t)
        x = y[i] * (1 - t) / alpha[i]
        pair = np.linalg.solve([[1 - t, t], [-1.0, 1.0]], np.stack([x, u[i]]))
        times.append(t)
        places.append(x)
        speeds.append(np.array([dalpha[i], dsigma[i]]) @ pair)
    return np.array(times), np.array(places), np.array(speeds)


move_path = Exercise(
    id="move_path",
    dots=2,
    points=3.0,
    hints=(
        "Equal ratios: t : (1 - t) = sigma : alpha. Then both points are multiples of each other: by which factor?",
        "The place and the network's answer are two equations for data and noise. Those two give every velocity.",
    ),
    cases=move_cases,
    oracle=move_oracle,
    messages={
        "another path": "The time (value 1), the place (value 2) or the velocity (value 3) is wrong.",
        "as many samples as coordinates": "With as many samples as coordinates it is wrong: whose is a time?",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def move_path(y, u, alpha, sigma, dalpha, dsigma):
    ratio = sigma / alpha
    t = ratio / (1 + ratio)
    x = torch.einsum("bd,b->bd", y, (1 - t) / alpha)
    data = x - torch.einsum("b,bd->bd", t, u)
    return t, x, torch.einsum("b,bd->bd", dalpha, data) + torch.einsum("b,bd->bd", dsigma, data + u)
""",
        """
def move_path(y, u, alpha, sigma, dalpha, dsigma):
    times, places, speeds = [], [], []
    for each, answer, a, s, da, ds in zip(y, u, alpha, sigma, dalpha, dsigma):
        t = torch.sigmoid(s.log() - a.log())
        x = each / a * (1 - t)
        A = torch.stack([torch.stack([1 - t, t]), torch.tensor([-1.0, 1.0], dtype=y.dtype)])
        pair = torch.linalg.solve(A, torch.stack([x, answer]))
        times, places, speeds = times + [t], places + [x], speeds + [da * pair[0] + ds * pair[1]]
    return torch.stack(times), torch.stack(places), torch.stack(speeds)
""",
    ),
    wrong=(
        Wrong("t = sigma / scale", "t = alpha / scale", "another path", "At t = 1 the straight path is pure noise."),
        Wrong(
            "scale = alpha + sigma",
            "scale = torch.sqrt(alpha**2 + sigma**2)",
            "another path",
            "On the straight path the two factors sum to 1, not their squares.",
        ),
        Wrong("x = y / scale[:, None]", "x = y", "another path", "The straight path is at another scale."),
        Wrong("data = x - t", "data = x + t", "another path", "Which end lies behind, and which ahead?"),
        Wrong("x + (1 - t[:, None]) * u", "x + t[:, None] * u", "another path", "How far is it to the noise?"),
        Wrong(
            "dalpha[:, None] * data + dsigma[:, None] * noise",
            "scale[:, None] * u",
            "another path",
            "The other path has a speed of its own; a velocity is not scaled like a place.",
        ),
    ),
)


def tubes_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, K: int, D: int, far: float = 1.0) -> Case:
        a, b = 0.7 * rng.normal(size=(K, D)), 0.7 * rng.normal(size=(K, D))
        r = float(rng.uniform(1.2, 1.6) if far == 1 else 0.1)
        return Case(name, (far * rng.normal(size=(B, D)), rng.uniform(0.1, 0.9, B), a, b, r))

    return [
        case("some pairs", 4, 3, 2),
        case("all sizes equal", 3, 3, 3),
        case("far away", 4, 3, 2, 20.0),
    ]


def tubes_oracle(x: np.ndarray, t: np.ndarray, a: np.ndarray, b: np.ndarray, r: float) -> np.ndarray:
    """Each point rides with its tube for an imaginary instant; tubes weighted by their densities."""

    def ride(time: complex, start: np.ndarray, end: np.ndarray, z: np.ndarray) -> np.ndarray:
        return (1 - time) * start + time * end + r * np.sqrt(time * (1 - time)) * z

    out = []
    for place, time in zip(x, t, strict=True):
        speeds, logs = [], []
        for start, end in zip(a, b, strict=True):
            z = (place - ride(time, start, end, np.zeros_like(place))) / (r * np.sqrt(time * (1 - time)))
            speeds.append(ride(time + 1e-30j, start, end, z).imag / 1e-30)
            logs.append(-(z @ z) / 2)
        odds = np.exp(np.array(logs) - max(logs))
        out.append(odds @ np.array(speeds) / odds.sum())
    return np.array(out)


tubes = Exercise(
    id="tubes",
    dots=3,
    points=4.0,
    hints=(
        "First one tube: the point is the tube's mean plus its deviation times a fixed z. Differentiate in time.",
        "Then the crowd: the mean over the tubes, with their shares of the density at this place. Use logarithms.",
    ),
    cases=tubes_cases,
    oracle=tubes_oracle,
    messages={
        "some pairs": "The velocity is wrong.",
        "all sizes equal": "With equal sizes of all axes the result is wrong: an axis was taken for another.",
        "far away": "Far from all pairs the result is wrong: densities were rounded to 0.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def tubes(x, t, a, b, r):
    out = []
    for place, time in zip(x, t):
        mean = (1 - time) * a + time * b
        z = (place - mean) / (time * (1 - time)).sqrt()
        w = torch.softmax(-(z**2).sum(1) / (2 * r**2), 0)
        out.append(w @ (b - a + (1 - 2 * time) / (2 * (time * (1 - time)).sqrt()) * z))
    return torch.stack(out)
""",
        """
def tubes(x, t, a, b, r):
    var = r**2 * t * (1 - t)
    mean = torch.einsum("b,kd->bkd", 1 - t, a) + torch.einsum("b,kd->bkd", t, b)
    gap = x.unsqueeze(1) - mean
    logs = -0.5 * torch.einsum("bkd,bkd->bk", gap, gap) / var.unsqueeze(1)
    w = (logs - logs.logsumexp(1, keepdim=True)).exp()
    rate = (r**2 * (1 - 2 * t) / (2 * var))[:, None]
    return w @ (b - a) + rate * torch.einsum("bk,bkd->bd", w, gap)
""",
    ),
    wrong=(
        Wrong("b - a + widening * away", "b - a", "some pairs", "The tube also changes its width."),
        Wrong("(1 - 2 * t) / (2 * t", "(1 - 2 * t) / (t", "some pairs", "That is the rate of the variance."),
        Wrong("t * (1 - t) * r**2", "t * (1 - t) * r", "some pairs", "A variance has the square of the width."),
        Wrong("(2 * var[..., 0])", "var[..., 0]", "some pairs", "A Gaussian's exponent has a half."),
        Wrong("- (1 - t) * a - t * b", "- t * a - (1 - t) * b", "some pairs", "At t = 1 there is noise, not data."),
        Wrong("each = b - a", "each = a - b", "some pairs", "The clock runs from data to noise."),
        Wrong("(w[..., None] * each).sum(1)", "each.mean(1)", "some pairs", "Pairs that are not here do not count."),
        Wrong(
            "torch.softmax(-away.square().sum(2) / (2 * var[..., 0]), 1)",
            "torch.exp(-away.square().sum(2) / (2 * var[..., 0])); w = w / w.sum(1, keepdim=True)",
            "far away",
            "The exponentials are all 0 there. What counts are their ratios.",
        ),
    ),
    equivalent={
        "w = torch.softmax(-away.square().sum(2) / (2 * var[..., -1]), 1)": "the last axis has one entry",
    },
)


def law_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, D: int, n: int, rank: int) -> Case:
        root, other = rng.normal(size=(D, rank)), rng.normal(size=(D, D))
        return Case(name, (rng.normal(size=D), root @ root.T, rng.normal(size=D), other @ other.T, n))

    return [
        case("several steps", 3, int(rng.integers(3, 7)), 3),
        case("one step", 2, 1, 2),
        case("singular", 3, 3, 1),
    ]


def law_oracle(m: np.ndarray, C: np.ndarray, a: np.ndarray, S: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The start's mean and the columns of its root walk; the velocity by conditioning data and noise on the point."""
    D = len(m)
    joint = np.block([[C, np.zeros((D, D))], [np.zeros((D, D)), np.eye(D)]])  # data, noise
    x = a + np.concatenate([np.zeros((1, D)), np.linalg.cholesky(S).T])
    for t in np.arange(n, 0, -1) / n:
        look = np.hstack([(1 - t) * np.eye(D), t * np.eye(D)])
        gain = joint @ look.T @ np.linalg.inv(look @ joint @ look.T)
        pair = np.concatenate([m, np.zeros(D)]) + (x - (1 - t) * m) @ gain.T
        x = x - (pair[:, D:] - pair[:, :D]) / n
    spread = x[1:] - x[0]
    return x[0], spread.T @ spread


euler_law = Exercise(
    id="euler_law",
    dots=2,
    points=3.0,
    hints=(
        "The velocity is a matrix times the distance from the mean at t, plus the velocity of that mean.",
        "A linear step moves a mean and a covariance. Where is the exact mean before the step, and where after it?",
    ),
    cases=law_cases,
    oracle=law_oracle,
    messages={
        "several steps": "The mean or the covariance is wrong.",
        "one step": "With a single step the result is wrong: at t = 1 the velocity leads every point to one place.",
        "singular": "With a singular covariance of the data the result is wrong.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def euler_law(m, C, a, S, n):
    values, basis = torch.linalg.eigh(C)
    factor, mean = torch.ones_like(values), a
    for i in range(n, 0, -1):
        t = i / n
        slope = (t - (1 - t) * values) / ((1 - t) ** 2 * values + t**2)
        factor = factor * (1 - slope / n)
        mean = mean + m / n - basis @ (slope * (basis.T @ (mean - (1 - t) * m))) / n
    whole = basis @ torch.diag(factor) @ basis.T
    return mean, whole @ S @ whole
""",
        """
def euler_law(m, C, a, S, n):
    D = len(m)
    x = a + torch.cat([torch.zeros(1, D, dtype=m.dtype), torch.linalg.cholesky(S).T])
    for i in range(n, 0, -1):
        t = i / n
        away = torch.linalg.inv((1 - t) ** 2 * C + t**2 * torch.eye(D, dtype=m.dtype)) @ (x - (1 - t) * m).T
        data, noise = m + (1 - t) * (C @ away).T, t * away.T
        x = x + (data - noise) / n
    walk = x[1:] - x[:1]
    return x[0], walk.T @ walk
""",
    ),
    wrong=(
        Wrong("(1 - t) ** 2 * C", "(1 - t) * C", "several steps", "A covariance scales with the square."),
        Wrong("t * eye - (1 - t) * C", "t * eye + (1 - t) * C", "several steps", "Which sign have the data in u?"),
        Wrong("step @ cov @ step.T", "step @ cov", "several steps", "A covariance is moved from both sides."),
        Wrong("(1 - t + 1 / n) * m", "(1 - t) * m", "several steps", "The mean moves during the step."),
        Wrong("step @ (mean - (1 - t) * m)", "step @ mean", "several steps", "The slope acts on the distance."),
        Wrong("range(n, 0, -1)", "range(n, 1, -1)", "several steps", "The last step is missing."),
        Wrong("eye - slope / n", "eye + slope / n", "several steps", "The walk goes towards smaller times."),
        Wrong(
            "mean, cov = a, S",
            "mean, cov = torch.zeros_like(m), eye",
            "several steps",
            "The walk begins at the given start.",
        ),
    ),
    equivalent={
        "eye = torch.eye(len(m))": "zeros and ones are exact in every precision",
        "cov = step @ cov @ step": "a step is symmetric",
        "mean = (mean - (1 - t) * m) @ step + (1 - t + 1 / n) * m": "a step is symmetric",
        "marginal = (t - 1) ** 2 * C + t ** 2 * eye": "a square",
    },
)


def ot_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, t: np.ndarray) -> Case:
        root = rng.normal(size=(D, D))
        C = root @ root.T + 0.1 * np.eye(D)
        return Case(name, (rng.normal(size=(B, D)), t, rng.normal(size=D), C))

    return [
        case("on the way", 4, 2, rng.uniform(0.1, 0.9, 4)),
        case("all sizes equal", 3, 3, rng.uniform(0.1, 0.9, 3)),
        case("both ends", 2, 3, np.array([0.0, 1.0])),
    ]


def ot_oracle(x: np.ndarray, t: np.ndarray, m: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The root of C by Newton's iteration; each point is traced back to the start of its line."""
    D = len(m)
    Y, Z = C, np.eye(D)
    for _ in range(60):
        Y, Z = (Y + np.linalg.inv(Z)) / 2, (Z + np.linalg.inv(Y)) / 2
    velocities, scores = [], []
    for place, time in zip(x, t, strict=True):
        M = (1 - time) * Y + time * np.eye(D)
        z = np.linalg.solve(M, place - (1 - time) * m)
        velocities.append(z - (m + Y @ z))
        scores.append(-np.linalg.solve(M @ M.T, place - (1 - time) * m))
    return np.array(velocities), np.array(scores)


ot_field = Exercise(
    id="ot_field",
    dots=3,
    points=4.0,
    hints=(
        "Only one line passes x at time t. Find the noise z where it begins; its velocity is noise minus data.",
        "The point at t is a linear function of z, so its density is Gaussian. Work on the axes of C.",
    ),
    cases=ot_cases,
    oracle=ot_oracle,
    messages={
        "on the way": "The velocity (value 1) or the score (value 2) is wrong. Are the pairs (T(z), z), T with the "
        "symmetric root?",
        "all sizes equal": "With equal sizes of all axes the result is wrong: an axis was taken for another.",
        "both ends": "At the data (t = 0) or at the noise (t = 1) the result is wrong.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def ot_field(x, t, m, C):
    values, basis = torch.linalg.eigh(C)
    root = basis @ torch.diag(values.sqrt()) @ basis.T
    velocity, score = [], []
    for place, time in zip(x, t):
        M = (1 - time) * root + time * torch.eye(len(m), dtype=m.dtype)
        away = place - (1 - time) * m
        z = torch.linalg.solve(M, away)
        velocity.append(z - root @ z - m)
        score.append(-torch.linalg.solve(M @ M, away))
    return torch.stack(velocity), torch.stack(score)
""",
        """
def ot_field(x, t, m, C):
    U, S, _ = torch.linalg.svd(C)
    s, t = S.sqrt(), t.view(-1, 1)
    std = s + t * (1 - s)
    z = torch.einsum("bd,de->be", x - (1 - t) * m, U) / std
    back = lambda rows: torch.einsum("be,de->bd", rows, U)
    return back(z - s * z) - m, -back(z / std)
""",
    ),
    wrong=(
        Wrong(
            "score = -(z / stretch) @ basis.T",
            "score = -(x + (1 - t) * velocity) / t",
            "on the way",
            "That formula needs noise that does not depend on the data.",
        ),
        Wrong("-(z / stretch)", "-z", "on the way", "The density at t is wider or narrower than the noise."),
        Wrong(
            "(1 - t) * values.sqrt() + t",
            "torch.sqrt((1 - t) ** 2 * values + t**2)",
            "on the way",
            "Variances add for independent pairs. These pairs are not.",
        ),
        Wrong("z * (1 - values.sqrt())", "z * (values.sqrt() - 1)", "on the way", "The clock runs from data to noise."),
        Wrong("@ basis.T - m", "@ basis.T", "on the way", "The mean moves too."),
        Wrong("(x - (1 - t) * m) @ basis", "x @ basis", "on the way", "Measure from the mean at t."),
        Wrong("(1 - t) * values.sqrt() + t", "(1 - t) * values + t", "on the way", "The map has the root of C."),
    ),
)

EXERCISES = [follow, move_path, tubes, euler_law, ot_field]
