"""The checks of the exercises of chapter 4."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."


def energy_cases(rng: np.random.Generator) -> list[Case]:
    shapes = {"values": (5, 3, 4), "batch equals width": (4, 4, 2)}
    return [
        Case(name, (rng.normal(size=(B, D)), rng.normal(size=(D, H)), rng.normal(size=H)))
        for name, (B, D, H) in shapes.items()
    ]


def energy_oracle(x: np.ndarray, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Differences of values of the log-density: no derivative is written down. A complex step keeps the digits."""

    def log_p(y: np.ndarray) -> np.ndarray:
        return -(y * y).sum(1) / 2 - np.cos(y @ W + b).sum(1)

    h, loss = 1e-4, np.zeros(len(x))
    for unit in np.eye(x.shape[1]):

        def slope(shift: float, unit: np.ndarray = unit) -> np.ndarray:
            return log_p(x + (shift + 1e-30j) * unit).imag / 1e-30

        curvature = (8 * (slope(h) - slope(-h)) - slope(2 * h) + slope(-2 * h)) / (12 * h)
        loss += curvature + slope(0.0) ** 2 / 2
    return loss


energy_loss = Exercise(
    id="energy_loss",
    dots=1,
    points=2.0,
    hints=(
        "Compare the loss with a Jacobian that you compute entry by entry, in two dimensions. Which entries are added?",
        "The gradient of the sum of all outputs adds whole columns of the Jacobian. Take one output at a time.",
    ),
    cases=energy_cases,
    oracle=energy_oracle,
    messages={
        "values": "The implicit loss is wrong.",
        "batch equals width": "With as many points as coordinates the loss is wrong: an axis was taken for another.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def energy_loss(x, W, b):
    phase = x @ W + b
    s = -x + torch.sin(phase) @ W.T
    trace = -x.shape[1] + torch.cos(phase) @ W.square().sum(0)
    return trace + 0.5 * (s * s).sum(1)
""",
        """
def energy_loss(x, W, b):
    def log_p(point):
        return -energy(point[None], W, b)[0]
    out = []
    for point in x:
        s = torch.autograd.functional.jacobian(log_p, point)
        out.append(torch.autograd.functional.hessian(log_p, point).trace() + s.dot(s) / 2)
    return torch.stack(out)
""",
    ),
    wrong=(
        Wrong(
            "s[:, i].sum()",
            "s.sum()",
            "values",
            "The gradient of the sum of all outputs adds the entries beside the diagonal too. They are not in a trace.",
        ),
        Wrong("s = -grad", "s = grad", "values", "That is the gradient of the energy: a score points to the data."),
        Wrong("row[:, i]", "row.sum(1)", "values", "A whole row of the Jacobian was added, not its diagonal entry."),
        Wrong(".sum(1) / 2", ".sum(1)", "values", "The square comes with a half: else the minimum is elsewhere."),
        Wrong(
            "loss + row[:, i]",
            "loss - row[:, i]",
            "values",
            "The trace is added: at the data the field should converge.",
        ),
    ),
    equivalent={
        "s = -grad(energy(x, W, b).sum(), x, create_graph=True)[-1]": "grad returns a single tensor",
        "row = grad(s[:, i].sum(), x, retain_graph=True)[-1]": "grad returns a single tensor",
    },
)


def layer_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, H: int) -> Case:
        W1, W2 = rng.normal(size=(H, D)), rng.normal(size=(D, H))
        return Case(name, (rng.normal(size=(B, D)), W1, rng.normal(size=H), W2, rng.normal(size=D)))

    return [case("values", 5, 3, 4), case("width equals hidden units", 4, 4, 4)]


def layer_oracle(x: np.ndarray, W1: np.ndarray, b1: np.ndarray, W2: np.ndarray, b2: np.ndarray) -> np.ndarray:
    """The whole Jacobian, column by column, by a complex step through the network."""

    def s(y: np.ndarray) -> np.ndarray:
        return np.stack([W2 @ np.tanh(W1 @ point + b1) + b2 for point in y])

    columns = [s(x + 1e-30j * unit).imag / 1e-30 for unit in np.eye(x.shape[1])]
    return np.trace(np.stack(columns, -1), axis1=1, axis2=2) + (s(x) ** 2).sum(1) / 2


hidden_layer_loss = Exercise(
    id="hidden_layer_loss",
    dots=2,
    points=3.0,
    hints=(
        "Write the Jacobian as a product of three matrices; the one in the middle is diagonal.",
        "The trace of a product of matrices may be summed in another order: over the dimensions first.",
    ),
    cases=layer_cases,
    oracle=layer_oracle,
    messages={
        "values": "The implicit loss is wrong.",
        "width equals hidden units": "With D = H the loss is wrong: a matrix stands where its transpose should be.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def hidden_layer_loss(x, W1, b1, W2, b2):
    a = torch.einsum("hd,bd->bh", W1, x) + b1
    slope = 1 / torch.cosh(a) ** 2
    s = torch.einsum("dh,bh->bd", W2, torch.tanh(a)) + b2
    return torch.einsum("bh,hd,dh->b", slope, W1, W2) + 0.5 * torch.einsum("bd,bd->b", s, s)
""",
        """
def hidden_layer_loss(x, W1, b1, W2, b2):
    def score(point):
        return W2 @ torch.tanh(W1 @ point + b1) + b2
    out = [
        torch.autograd.functional.jacobian(score, row).trace() + score(row).square().sum() / 2 for row in x
    ]
    return torch.stack(out)
""",
    ),
    wrong=(
        Wrong("(1 - h**2)", "(1 - h)", "values", "That is not the slope of tanh."),
        Wrong("(W1 * W2.T)", "(W1 * W1)", "values", "The way out of the hidden layer is another than the way in."),
        Wrong("(W1 * W2.T).sum(1)", "(W1.sum(1) * W2.sum(0))", "values", "That adds all entries of the Jacobian."),
        Wrong("(h @ W2.T + b2)", "(h @ W2.T)", "values", "The square is that of the whole output, with its offset."),
        Wrong(
            "(1 - h**2) @ loops",
            "loops.sum()",
            "values",
            "The slope of the hidden units is missing: the network would be linear.",
        ),
        Wrong("W2.T).sum(1)", "W2.T).mean(1)", "values", "A trace is a sum over dimensions, not their mean."),
    ),
)


def angle_cases(rng: np.random.Generator) -> list[Case]:
    def sample(N: int, D: int) -> np.ndarray:
        return np.stack([rng.vonmises(rng.uniform(-3, 3), rng.uniform(0.5, 3), N) for _ in range(D)], 1)

    return [
        Case("values", (sample(15, 4),)),
        Case("as many points as columns", (sample(6, 6),)),
    ]


def angle_oracle(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The loss is quadratic in (a, b): probe it at six points, by differences of log p, and solve for its minimum."""

    def loss(column: np.ndarray, a: float, b: float) -> float:
        def slope(u: np.ndarray) -> np.ndarray:
            v = u + 1e-30j
            return (a * np.cos(v) + b * np.sin(v)).imag / 1e-30

        h = 1e-3
        steps = slope(column + h) - slope(column - h), slope(column + 2 * h) - slope(column - 2 * h)
        curvature = (8 * steps[0] - steps[1]) / (12 * h)
        return float(np.mean(curvature + slope(column) ** 2 / 2))

    found = []
    for column in x.T:
        f = {(a, b): loss(column, a, b) for a, b in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1))}
        aa, bb = f[1, 0] + f[-1, 0] - 2 * f[0, 0], f[0, 1] + f[0, -1] - 2 * f[0, 0]
        ab = f[1, 1] - f[1, 0] - f[0, 1] + f[0, 0]
        linear = [(f[1, 0] - f[-1, 0]) / 2, (f[0, 1] - f[0, -1]) / 2]
        found.append(np.linalg.solve([[aa, ab], [ab, bb]], -np.array(linear)))
    a, b = np.array(found).T
    return a, b


fit_angles = Exercise(
    id="fit_angles",
    dots=2,
    points=3.0,
    hints=(
        "The score is a sum of two known functions with the factors a and b: the loss is quadratic in them.",
        "Set both derivatives of the mean loss to 0: two linear equations for each column.",
    ),
    cases=angle_cases,
    oracle=angle_oracle,
    messages={
        "values": "The fitted a and b are not those of the least mean implicit loss.",
        "as many points as columns": "With as many points as columns the fit is wrong: look for the axis of the means.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def fit_angles(x):
    fits = []
    for column in x.T:
        features = torch.stack([-torch.sin(column), torch.cos(column)], 1)
        slopes = torch.stack([-torch.cos(column), -torch.sin(column)], 1)
        fits.append(torch.linalg.solve(features.T @ features, -slopes.sum(0)))
    a, b = torch.stack(fits, 1)
    return a, b
""",
        """
def fit_angles(x):
    z = torch.exp(1j * x)
    first, second = z.mean(0), (z * z).mean(0)
    # C = (1 + Re second)/2, A = (1 - Re second)/2, B = -Im second/2
    fit = 2 * (first + second * first.conj()) / (1 - second.abs() ** 2)
    return fit.real, fit.imag
""",
    ),
    wrong=(
        Wrong(
            "return (C * p - B * q) / det, (A * q - B * p) / det",
            "return 2 * p, 2 * q",
            "values",
            "That holds only when the angles are spread evenly: the square of the score depends on where the data are.",
        ),
        Wrong(
            "B = -(s * c)",
            "B = (s * c)",
            "values",
            "The two parts of the score have opposite signs.",
        ),
        Wrong(
            "p, q = c.mean(0), s.mean(0)",
            "p, q = -c.mean(0), -s.mean(0)",
            "values",
            "With this sign the hill stands where the data are not: check the sign of the trace.",
        ),
        Wrong(
            "A = (s * s).mean(0)",
            "A = (c * c).mean(0)",
            "values",
            "The score is the derivative of a cos x + b sin x: cosine becomes sine.",
        ),
        Wrong("det = A * C - B * B", "det = A * C", "values", "The equations are coupled: solve for both."),
    ),
)


def positive_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, D: int, scale: float = 1.0) -> Case:
        x = scale * rng.gamma(2.0, 1.0, (B, D)) + 1e-3 * scale
        return Case(name, (x, rng.uniform(0.5, 3.0, D), rng.uniform(0.3, 2.0, D)))

    return [case("values", 5, 3), case("batch equals width", 4, 4), case("close to the edge", 4, 2, 1e-6)]


def positive_oracle(x: np.ndarray, k: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Differentiate x^2 s as a whole by a complex step, with s the derivative of the log-density by another one.

    The inner derivative of u = x + i h is taken with a real difference in the logarithm, exact for these densities.
    """

    def s(u: Any) -> Any:
        """d/du of (k - 1) log u - r u, by a central difference of second order, corrected to sixth."""
        h = 2e-3 * u
        steps = [((k - 1) * np.log((u + j * h) / (u - j * h)) - 2 * j * r * h) / (2 * j * h) for j in (1, 2, 3)]
        return 1.5 * steps[0] - 0.6 * steps[1] + 0.1 * steps[2]

    slope = ((x + 1e-30j) ** 2 * s(x + 1e-30j)).imag / 1e-30
    return (x**2 * s(x) ** 2 / 2 + slope).sum(1)


positive_loss = Exercise(
    id="positive_loss",
    dots=2,
    points=3.0,
    hints=(
        "Expand the square. In the middle term the unknown derivative of p meets the weight times the model's score.",
        "Integrate by parts with the weight and the score together as one factor: its derivative has two terms.",
    ),
    cases=positive_cases,
    oracle=positive_oracle,
    messages={
        "values": "The weighted implicit loss is wrong.",
        "batch equals width": "With as many points as coordinates the loss is wrong: look for the summed axis.",
        "close to the edge": "Close to the edge the loss is wrong: digits are lost, or something was added to x.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def positive_loss(x, k, r):
    s = (k - 1) / x - r
    s_slope = -(k - 1) / x**2
    return (0.5 * x**2 * s**2 + x**2 * s_slope + 2 * x * s).sum(-1)
""",
        """
def positive_loss(x, k, r):
    x = x.clone().requires_grad_()
    log_p = ((k - 1) * x.log() - r * x).sum()
    (s,) = torch.autograd.grad(log_p, x, create_graph=True)
    (slope,) = torch.autograd.grad((x**2 * s).sum(), x)
    return ((x * s) ** 2 / 2 + slope).sum(1).detach()
""",
    ),
    wrong=(
        Wrong(
            "slope = (k - 1) - 2 * r * x",
            "slope = -(k - 1) * torch.ones_like(x)",
            "values",
            "The weight has a derivative too: only the score was differentiated.",
        ),
        Wrong(
            "(flow / x) ** 2 / 2 + slope",
            "((k - 1) / x - r) ** 2 / 2 - (k - 1) / x**2",
            "values",
            "This is the plain implicit loss: the edge counts in it.",
        ),
        Wrong("(flow / x) ** 2 / 2", "flow**2 / 2", "values", "The square of the score has its weight once."),
        Wrong(
            "(flow / x)",
            "(flow / (x + 1e-10))",
            "close to the edge",
            "A small number in the denominator is not small where the data are smaller. Nothing is divided by 0 here.",
        ),
        Wrong(
            "+ slope",
            "- slope",
            "values",
            "The sign turns twice: in the square and by parts.",
        ),
        Wrong("(k - 1) * x - r", "k * x - r", "values", "A gamma density has the power k - 1."),
        Wrong(".sum(1)", ".mean(1)", "values", "The losses of the dimensions are added."),
    ),
    equivalent={"flow = r * x ** 2 - (k - 1) * x": "flow is only squared"},
)


def mixture_cases(rng: np.random.Generator) -> list[Case]:
    def case(name: str, B: int, K: int, D: int, far: float = 0.0) -> Case:
        x = 1.5 * rng.normal(size=(B, D)) + far * np.resize([1.0, -1.0], D)
        weights = rng.dirichlet(np.full(K, 3.0))
        return Case(name, (x, weights, 1.5 * rng.normal(size=(K, D)), rng.uniform(0.4, 1.5, K)))

    return [
        case("values", 5, 3, 2),
        case("batch, components and width are equal", 4, 4, 4),
        case("far away", 4, 3, 2, far=300.0),
    ]


def mixture_oracle(x: np.ndarray, weights: np.ndarray, means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Slopes of log p by a complex step, and the second derivative by differences of them."""
    D = x.shape[1]

    def log_p(y: np.ndarray) -> np.ndarray:
        away = y[:, None] - means
        logs = np.log(weights) - D / 2 * np.log(2 * np.pi * variances) - (away * away).sum(2) / (2 * variances)
        top = logs.real.max(1, keepdims=True)
        return top[:, 0] + np.log(np.exp(logs - top).sum(1))

    def slope(y: np.ndarray, unit: np.ndarray) -> np.ndarray:
        return log_p(y + 1e-30j * unit).imag / 1e-30

    h, loss = 1e-3, np.zeros(len(x))
    for unit in np.eye(D):
        first, second, third = (slope(x + j * h * unit, unit) - slope(x - j * h * unit, unit) for j in (1, 2, 3))
        loss += (45 * first - 9 * second + third) / (60 * h) + slope(x, unit) ** 2 / 2
    return loss


mixture_loss = Exercise(
    id="mixture_loss",
    dots=3,
    points=4.0,
    hints=(
        "The score is the mean of the components' scores, weighted by the probability of each component at this point. "
        "These probabilities depend on x too.",
        "The trace has two parts: the mean of the components' traces, and how much their scores differ there.",
    ),
    cases=mixture_cases,
    oracle=mixture_oracle,
    messages={
        "values": "The implicit loss of the exact score is wrong.",
        "batch, components and width are equal": "With B = K = D the loss is wrong: an axis was taken for another.",
        "far away": "Far from all components the loss is wrong: densities were 0 before they were divided.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def mixture_loss(x, weights, means, variances):
    dims = x.shape[1]
    away = x.unsqueeze(1) - means
    logs = torch.log(weights) - 0.5 * dims * torch.log(variances) - (away**2).sum(-1) / (2 * variances)
    r = (logs - logs.logsumexp(1, keepdim=True)).exp()
    u = -away / variances.unsqueeze(-1)
    s = torch.einsum("bk,bkd->bd", r, u)
    spread = torch.einsum("bk,bkd,bkd->b", r, u, u) - (s * s).sum(1)
    return spread - dims * (r / variances).sum(1) + 0.5 * (s * s).sum(1)
""",
        """
def mixture_loss(x, weights, means, variances):
    def log_p(point):
        square = (point - means).square().sum(1)
        return (weights.log() - len(point) / 2 * variances.log() - square / (2 * variances)).logsumexp(0)
    out = []
    for point in x:
        s = torch.autograd.functional.jacobian(log_p, point)
        out.append(torch.autograd.functional.hessian(log_p, point).trace() + s.square().sum() / 2)
    return torch.stack(out)
""",
    ),
    wrong=(
        Wrong(
            "(away - D / variances)",
            "(-D / variances)",
            "values",
            "The probabilities of the components depend on x as well: their derivative is missing.",
        ),
        Wrong(
            "pull - s[:, None]",
            "pull",
            "values",
            "The spread of the components' scores is measured about their mean.",
        ),
        Wrong("D / variances)", "1 / variances)", "values", "Each dimension has its own share in the trace."),
        Wrong(
            " - D * variances.log() / 2",
            "",
            "values",
            "A narrow component is denser: its constant is missing.",
        ),
        Wrong("weights.log() - D", "-D", "values", "Frequent components are more probable at every point."),
        Wrong(
            "torch.softmax(log_joint, 1)[..., None]",
            "(log_joint.exp() / log_joint.exp().sum(1, keepdim=True))[..., None]",
            "far away",
            "Far away every density is rounded to 0, and 0 is divided by 0.",
        ),
    ),
    equivalent={
        "pull = (x[:, None] - means) / variances[:, None]": "pull and s enter by even powers only",
        "away = (s[:, None] - pull).square().sum(2)": "a square",
        "trace = (r[..., -1] * (away - D / variances)).sum(1)": "the last axis has one entry",
    },
)

EXERCISES = [energy_loss, hidden_layer_loss, fit_angles, positive_loss, mixture_loss]
