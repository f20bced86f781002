"""The checks of the exercises of chapter 9."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."
IMAGES = "For images the result is wrong, or its shape. Here B = H = W: a number of a sample can go to a row of pixels."
SHAPES = {"values": (6, 3), "images": (4, 2, 4, 4)}
ONE_AXIS = "One axis was added to the numbers of the samples. That is enough for rows, not for images."


def table(rng: np.random.Generator, T: int) -> np.ndarray:
    """abar of the steps 0 to T."""
    return np.concatenate([[1.0], np.cumprod(1 - rng.uniform(0.05, 0.4, T))])


def ratios(abar: Any) -> np.ndarray:
    """sigma/alpha."""
    return np.sqrt((1 - abar) / abar)


def falling_steps(rng: np.random.Generator, T: int, B: int, n: int, least: int) -> list[np.ndarray]:
    """n steps for each sample, falling, all at least `least`; n arrays (B,)."""
    rows = [np.sort(rng.choice(np.arange(least, T + 1), n, replace=False))[::-1] for _ in range(B)]
    rows[0] = np.array([T, *range(n - 2 + least, least - 1, -1)])  # one sample with steps of very different lengths
    return [column.copy() for column in np.array(rows).T]


def angles_cases(rng: np.random.Generator) -> list[Case]:
    s = float(rng.uniform(0.3, 3.0))
    first, last = float(s * rng.uniform(2.0, 40.0)), float(s * rng.uniform(0.01, 0.3))
    n = int(rng.integers(3, 9))
    return [Case("values", (n, s, first, last)), Case("down to the data", (n + 1, s, first, 0.0))]


def angles_oracle(n: int, s: float, first: float, last: float) -> tuple[np.ndarray, float]:
    """Turn the vector (s, r) in the complex plane by equal parts; then run DDIM with the best linear denoiser."""
    turn = ((s + 1j * last) / (s + 1j * first)) ** (1 / n)
    vectors = (s + 1j * first) * turn ** np.arange(n + 1)
    r = s * vectors.imag / vectors.real
    x = math.hypot(s, first)
    for now, then in pairwise(r):
        noise = now * x / (s**2 + now**2)
        x = x + (then - now) * noise
    return r, x / math.hypot(s, r[-1])


equal_angles = Exercise(
    id="equal_angles",
    dots=1,
    points=2.0,
    hints=(
        "Equal factors are equal cosines, so all steps have the same angle. Which angle is the whole way?",
        "Lay out the angles evenly first, and turn them into ratios at the end. There is one more ratio than steps.",
    ),
    cases=angles_cases,
    oracle=angles_oracle,
    messages={
        "values": "Ratios or product are wrong.",
        "down to the data": "With a last ratio of 0 the result is wrong.",
        "unchanged": UNCHANGED,
    },
    tolerance=1e-9,  # single precision fails
    right=(
        """
def equal_angles(n, s, first, last):
    whole = math.atan2(first, s) - math.atan2(last, s)
    ratios = [s * math.tan(math.atan2(last, s) + whole * (1 - k / n)) for k in range(n + 1)]
    product = 1.0
    for _ in range(n):
        product = product * math.cos(whole / n)
    return torch.tensor(ratios, dtype=torch.float64), torch.tensor(product, dtype=torch.float64)
""",
        """
def equal_angles(n, s, first, last):
    ends = torch.tensor([first / s, last / s], dtype=torch.float64)
    r, step = [ends[0]], torch.tan((torch.atan(ends[0]) - torch.atan(ends[1])) / n)
    for _ in range(n):
        r.append((r[-1] - step) / (1 + r[-1] * step))
    return s * torch.stack(r), (1 + step**2) ** (-n / 2)
""",
    ),
    wrong=(
        Wrong(
            "s * torch.tan(angles)",
            "torch.tan(angles)",
            "values",
            "The tangent of the angle is the ratio over the standard deviation of the data: undo that division too.",
        ),
        Wrong(
            "math.atan(first / s), math.atan(last / s)",
            "math.atan(first), math.atan(last)",
            "values",
            "The angle depends on the data: a ratio is large or small only against their standard deviation.",
        ),
        Wrong(
            "torch.linspace(high, low, n + 1, dtype=torch.float64)",
            "torch.linspace(high, low, n, dtype=torch.float64)",
            "values",
            "n steps have n + 1 ends.",
        ),
        Wrong("/ n) ** n", "/ n)", "values", "That is the factor of one step, and there are n of them."),
        Wrong("/ n) ** n", ") ** n", "values", "The cosine of the whole way is the factor of one single step over it."),
    ),
    equivalent={
        "return (s * torch.tan(angles), torch.cos((angles[-1] - angles[0]) / n) ** n)": "the cosine is even",
    },
)


def runs_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, shape: tuple[int, ...]) -> Case:
        order, exact, size = rng.uniform(0.7, 4.3), rng.normal(size=shape), rng.normal(size=shape)
        return Case(check, (np.stack([exact + size * k**-order for k in (1.0, 2.0, 4.0)]),))

    return [case("values", (5, 3)), case("images", (3, 1, 3, 3))]


def runs_oracle(ends: np.ndarray) -> tuple[float, np.ndarray]:
    """Guess the order and bisect; the exact solution by least squares on the three runs, one straight line each."""
    low, high = 0.0, 8.0
    far, near = (np.square(ends[k] - ends[k + 1]).sum() for k in (0, 1))
    for _ in range(100):
        order = (low + high) / 2
        low, high = (order, high) if 4.0**order * near < far else (low, order)
    powers = np.stack([np.ones(3), [1.0, 2.0**-order, 4.0**-order]], 1)
    return order, np.linalg.lstsq(powers, ends.reshape(3, -1), rcond=None)[0][0].reshape(ends.shape[1:])


from_three_runs = Exercise(
    id="from_three_runs",
    dots=2,
    points=3.0,
    hints=(
        "Write down the differences of neighbouring runs with the formula for the error. What cancels in their ratio?",
        "The ratio of the differences is a power of 2. The finest run's error is its difference to the run before, "
        "over that power less 1.",
    ),
    cases=runs_cases,
    oracle=runs_oracle,
    messages={
        "values": "Order or exact solution are wrong.",
        "images": "For images the result is wrong, or its shape.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def from_three_runs(ends):
    sizes = ends.diff(dim=0).flatten(1).norm(dim=1)
    order = torch.log(sizes[0] / sizes[1]) / math.log(2)
    power = 2**order
    return order, (power * ends[2] - ends[1]) / (power - 1)
""",
        """
def from_three_runs(ends):
    a, b = (ends[0] - ends[1]).flatten(), (ends[1] - ends[2]).flatten()
    order = 0.5 * torch.log2(a.dot(a) / b.dot(b))
    error = (ends[1] - ends[2]) / torch.expm1(order * math.log(2))
    return order, ends[2] - error
""",
    ),
    wrong=(
        Wrong(
            "torch.log2(ratio)", "torch.log(ratio)", "values", "Twice the steps: the ratio is a power of 2, not of e."
        ),
        Wrong("torch.log2(ratio)", "torch.log2(ratio) / 2", "values", "The steps double from one run to the next."),
        Wrong(
            "second / (ratio - 1)",
            "second / ratio",
            "values",
            "The difference of two runs is not the error of the coarser one: the finer one has an error too.",
        ),
        Wrong(
            "ends[2] - second",
            "ends[2] + second",
            "values",
            "The finest run has moved from the second one towards the solution: go on in that direction.",
        ),
        Wrong(
            "ends[2] - second",
            "ends[1] - second",
            "values",
            "That is the error of the finest run: correct that one.",
        ),
    ),
    equivalent={"first, second = (ends[1] - ends[0], ends[1] - ends[2])": "only the square of the first one is used"},
)


def two_case(rng: np.random.Generator, check: str, shape: tuple[int, ...]) -> Case:
    T = int(rng.integers(7, 11))
    u, t, s = falling_steps(rng, T, shape[0], 3, 0)
    x, eps, before = rng.normal(size=(3, *shape))
    return Case(check, (x, eps, before, u, t, s, table(rng, T)))


def two_cases(rng: np.random.Generator) -> list[Case]:
    return [two_case(rng, check, shape) for check, shape in SHAPES.items()]


def two_oracle(x: Any, eps: Any, before: Any, u: Any, t: Any, s: Any, abar: Any) -> np.ndarray:
    """Sum the line over a thousand short pieces of the way, each at its middle."""
    out = []
    for b in range(len(x)):
        r_u, r_t, r_s = ratios(abar[[u[b], t[b], s[b]]])
        edges = np.linspace(r_t, r_s, 1001)
        total = np.zeros(x.shape[1:])
        for a, c in pairwise(edges):
            share = ((a + c) / 2 - r_u) / (r_t - r_u)
            total += (c - a) * ((1 - share) * before[b] + share * eps[b])
        out.append(np.sqrt(abar[s[b]]) * (x[b] / np.sqrt(abar[t[b]]) + total))
    return np.array(out)


two_values = Exercise(
    id="two_values",
    dots=2,
    points=3.0,
    hints=(
        "The integral of a straight line is its value in the middle, times the length of the way.",
        "How far does the middle of the new step lie beyond t, measured in lengths of the step before?",
    ),
    cases=two_cases,
    oracle=two_oracle,
    messages={"values": "The point at step s is wrong.", "images": IMAGES, "unchanged": UNCHANGED},
    right=(
        """
def two_values(x, eps, eps_before, u, t, s, abar):
    out = []
    for i in range(len(x)):
        a, b, c = (math.sqrt(1 / abar[k[i]].item() - 1) for k in (u, t, s))
        middle = (b + c) / 2
        value = eps_before[i] + (middle - a) / (b - a) * (eps[i] - eps_before[i])
        out.append(abar[s[i]].sqrt() * (x[i] / abar[t[i]].sqrt() + (c - b) * value))
    return torch.stack(out)
""",
        """
def two_values(x, eps, eps_before, u, t, s, abar):
    r_u, r_t, r_s = (per_sample((1 / abar[k] - 1).sqrt(), x) for k in (u, t, s))
    slope = (eps - eps_before) / (r_t - r_u)
    area = eps * (r_s - r_t) + slope * (r_s - r_t) ** 2 / 2
    return per_sample(abar[s].sqrt(), x) * (x / per_sample(abar[t].sqrt(), x) + area)
""",
    ),
    wrong=(
        Wrong(
            "h / (2 * h_before)",
            "0.5",
            "values",
            "A half is right for equal steps only. Here the steps have different lengths.",
        ),
        Wrong("h / (2 * h_before)", "h / h_before", "values", "That is the line at the end of the step, not its mean."),
        Wrong("(eps - eps_before)", "(eps_before - eps)", "values", "The line goes on in the direction of the change."),
        Wrong(
            "/ per_sample(abar[t].sqrt(), x)",
            "/ per_sample(abar[t], x)",
            "values",
            "A root is lost: abar multiplies variances, its square root multiplies the points.",
        ),
        Wrong(
            "r = ((1 - abar) / abar).sqrt()",
            "r = (1 - abar).sqrt()",
            "values",
            "The clock of this flow is the ratio of noise to signal, not the noise alone.",
        ),
        Wrong("per_sample(r[s] - r[t], x), per", "(r[s] - r[t])[:, None], per", "images", ONE_AXIS),
    ),
)


def middle_case(rng: np.random.Generator, check: str, shape: tuple[int, ...]) -> Case:
    T = int(rng.integers(6, 9))
    t, s = falling_steps(rng, T, shape[0], 2, 1)
    return Case(check, (rng.normal(size=shape), t, s, table(rng, T)))


def middle_cases(rng: np.random.Generator) -> list[Case]:
    return [middle_case(rng, check, shape) for check, shape in SHAPES.items()]


def middle_oracle(x: Any, t: Any, s: Any, abar: Any) -> np.ndarray:
    """In the frame x/alpha a move is a multiple of the noise, and the middle is the geometric mean of the ratios."""

    def noise(frame: np.ndarray, r: float) -> np.ndarray:
        return np.array((frame - np.tanh(frame / r**2)) / r)

    out = []
    for b in range(len(x)):
        r_t, r_s = ratios(abar[[t[b], s[b]]])
        start, r_m = x[b] / np.sqrt(abar[t[b]]), np.sqrt(r_t * r_s)
        halfway = start + (r_m - r_t) * noise(start, r_t)
        out.append((start + (r_s - r_t) * noise(halfway, r_m)) / np.hypot(1, r_s))
    return np.array(out)


by_the_middle = Exercise(
    id="by_the_middle",
    dots=3,
    points=4.0,
    hints=(
        "With the noise fixed the integral has a closed form. Write it as a function of both ends, and use it twice.",
        "The mean of two values of the log-ratio belongs to some abar: solve for it. Both moves start at x_t.",
    ),
    cases=middle_cases,
    oracle=middle_oracle,
    messages={"values": "The point at step s is wrong.", "images": IMAGES, "unchanged": UNCHANGED},
    right=(
        """
def by_the_middle(x, t, s, abar):
    r_t, r_s = (1 / abar[t] - 1).sqrt(), (1 / abar[s] - 1).sqrt()
    r_m = (r_t * r_s).sqrt()
    frame = x / per_sample(abar[t].sqrt(), x)
    first = noise_net(x, abar[t])
    abar_m = 1 / (1 + r_m**2)
    x_m = per_sample(abar_m.sqrt(), x) * (frame + per_sample(r_m - r_t, x) * first)
    end = frame + per_sample(r_s - r_t, x) * noise_net(x_m, abar_m)
    return per_sample(abar[s].sqrt(), x) * end
""",
        """
def by_the_middle(x, t, s, abar):
    out = []
    for i in range(len(x)):
        one = x[i][None]
        now, then = abar[t[i]][None], abar[s[i]][None]
        odds = ((now / (1 - now)) * (then / (1 - then))).sqrt()
        mid = odds / (1 + odds)
        def ddim(noise, a):
            clean = (one - (1 - now).sqrt() * noise) / now.sqrt()
            return a.sqrt() * clean + (1 - a).sqrt() * noise
        halfway = ddim(noise_net(one, now), mid)
        out.append(ddim(noise_net(halfway, mid), then)[0])
    return torch.stack(out)
""",
    ),
    wrong=(
        Wrong(
            "torch.sigmoid((torch.logit(start) + torch.logit(end)) / 2)",
            "(start + end) / 2",
            "values",
            "The middle is taken in the log-ratio, not in abar.",
        ),
        Wrong(
            "torch.logit(a) / 2, torch.logit(b) / 2",
            "torch.logit(a), torch.logit(b)",
            "values",
            "The log of alpha over sigma is half of the log of their squares.",
        ),
        Wrong(
            "noise_net(halfway, middle)",
            "noise_net(halfway, start)",
            "values",
            "The network must be told the noise level of the point that it sees.",
        ),
        Wrong(
            "torch.expm1(lam_b - lam_a)",
            "(lam_b - lam_a)",
            "values",
            "The weight in the integral is an exponential: the length of the way in lambda is only its first term.",
        ),
        Wrong(
            "(b / a).sqrt() * x",
            "(b / a) * x",
            "values",
            "A root is lost: abar multiplies variances, its square root multiplies the points.",
        ),
        Wrong("per_sample(start, x), per_sample(end, x)", "start[:, None], end[:, None]", "images", ONE_AXIS),
    ),
    equivalent={
        "return (move(noise_net(halfway, middle), start, end), end.add_(1))[0]": "a picked row is a copy",
        "return (move(noise_net(halfway, middle), start, end), start.add_(1))[0]": "a picked row is a copy",
        "return ((b / a).sqrt() * x - fall * noise, noise.add_(1))[0]": "the noise is made anew for each move",
    },
)


def skip_case(rng: np.random.Generator, check: str, shape: tuple[int, ...], eta: float, far: bool) -> Case:
    T = int(rng.integers(7, 11))
    t, prev = falling_steps(rng, T, shape[0], 2, 0)
    prev = prev if far else t - 1
    x, eps, z = rng.normal(size=(3, *shape))
    return Case(check, (x, eps, z, t, prev, table(rng, T), eta))


def skip_cases(rng: np.random.Generator) -> list[Case]:
    eta = float(rng.uniform(0.2, 0.9))
    return [
        skip_case(rng, "every step", (6, 3), eta, False),
        skip_case(rng, "skipped steps", (6, 3), eta, True),
        skip_case(rng, "images", (4, 2, 4, 4), 1.0, True),
    ]


def skip_oracle(x: Any, eps_hat: Any, z: Any, t: Any, prev: Any, abar: Any, eta: float) -> np.ndarray:
    """Fresh noise by conditioning: the part of the noise at prev that the noise at t does not know, times eta."""
    out = []
    for b in range(len(x)):
        keep = abar[t[b]] / abar[prev[b]]
        joint = np.array([[1 - abar[prev[b]], np.sqrt(keep) * (1 - abar[prev[b]])], [0.0, 1 - abar[t[b]]]])
        var = eta**2 * (joint[0, 0] - joint[0, 1] ** 2 / joint[1, 1])  # at eta = 1: of x_prev given x_t and x_0
        x_0 = np.linalg.solve([[np.sqrt(abar[t[b]])]], (x[b] - np.sqrt(1 - abar[t[b]]) * eps_hat[b]).reshape(1, -1))
        old = np.sqrt(max(0.0, 1 - abar[prev[b]] - var)) * eps_hat[b]
        out.append(np.sqrt(abar[prev[b]]) * x_0.reshape(x.shape[1:]) + old + np.sqrt(max(0.0, var)) * z[b])
    return np.array(out)


skipping_step = Exercise(
    id="skipping_step",
    dots=2,
    points=3.0,
    hints=(
        "Print the noise level that the step believes to reach, for t = 100 and prev = 80.",
        "Which arguments does the function never use? Each of them should matter.",
    ),
    cases=skip_cases,
    oracle=skip_oracle,
    messages={
        "every step": "Also with neighbouring steps the result is wrong.",
        "skipped steps": "With neighbouring steps it is right, with skipped ones it is wrong.",
        "images": IMAGES,
        "unchanged": UNCHANGED,
    },
    right=(
        """
def skipping_step(x, eps_hat, z, t, prev, abar, eta):
    a, b = abar[t], abar[prev]
    std = eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
    clean = (x - per_sample((1 - a).sqrt(), x) * eps_hat) / per_sample(a.sqrt(), x)
    direction = per_sample((1 - b - std**2).clamp(min=0).sqrt(), x) * eps_hat
    return per_sample(b.sqrt(), x) * clean + direction + per_sample(std, x) * z
""",
        """
def skipping_step(x, eps_hat, z, t, prev, abar, eta):
    out = []
    for i in range(len(x)):
        a, b = abar[t[i]].item(), abar[prev[i]].item()
        share = eta * math.sqrt((1 - a / b) / (1 - a))
        noise = math.sqrt(1 - share**2) * eps_hat[i] + share * z[i]
        clean = (x[i] - math.sqrt(1 - a) * eps_hat[i]) / math.sqrt(a)
        out.append(math.sqrt(b) * clean + math.sqrt(1 - b) * noise)
    return torch.stack(out)
""",
    ),
    wrong=(
        Wrong(
            "per_sample(abar[prev], x)",
            "per_sample(abar[t - 1], x)",
            "skipped steps",
            "The step always believes to reach the neighbour of t, however far prev is.",
        ),
        Wrong("eta**2 *", "eta *", "every step", "The share is one of variances, and eta multiplies the spread."),
        Wrong(
            "(1 - share).sqrt() * eps_hat",
            "(1 - share) * eps_hat",
            "every step",
            "Variances of the old and the fresh noise must add up to 1, not their sizes.",
        ),
        Wrong(
            "share.sqrt() * z",
            "share * z",
            "every step",
            "A root is lost: the share is a variance, and noise is multiplied by a standard deviation.",
        ),
        Wrong(
            "then.sqrt() * x_0",
            "now.sqrt() * x_0",
            "every step",
            "The clean part must have the size that belongs to the level at the end of the step.",
        ),
        Wrong(
            "per_sample(abar[t], x), per_sample(abar[prev], x)",
            "abar[t][:, None], abar[prev][:, None]",
            "images",
            ONE_AXIS,
        ),
    ),
)

EXERCISES = [equal_angles, from_three_runs, two_values, by_the_middle, skipping_step]
