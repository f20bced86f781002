"""The checks of the exercises of chapter 13."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."
IMAGES = "For images the result is wrong, or its shape. Here B = H = W: a number of a sample can go to a row of pixels."
SHAPES = {"values": (6, 3), "images": (4, 2, 4, 4)}


def table(rng: np.random.Generator, T: int) -> np.ndarray:
    """abar of the steps 0 to T."""
    return np.concatenate([[1.0], np.cumprod(1 - rng.uniform(0.05, 0.4, T))])


def on_the_line(free: np.ndarray, bound: np.ndarray, w: float) -> np.ndarray:
    """The straight line through the estimates at 0 and 1, fitted by least squares and read off at w."""
    line = np.polyfit([0.0, 1.0], np.stack([free.ravel(), bound.ravel()]), 1)
    return (line[0] * w + line[1]).reshape(free.shape)


def contrast_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, shape: tuple[int, ...], mix: float) -> Case:
        uncond = rng.normal(size=shape) + rng.normal()
        cond = uncond + rng.normal(size=shape) + 1.0
        return Case(check, (cond, uncond, rng.uniform(1.5, 6.0, shape[0]), mix))

    return [
        case("values", SHAPES["values"], float(rng.uniform(0.2, 0.8))),
        case("images", SHAPES["images"], float(rng.uniform(0.2, 0.8))),
        case("mix", SHAPES["values"], 1.0),
    ]


def contrast_oracle(cond: Any, uncond: Any, w: Any, mix: Any) -> np.ndarray:
    """Sample by sample: bisect the factor that brings the standard deviation to that of the conditional estimate."""
    out = np.empty(cond.shape)
    for k in range(len(cond)):
        strong = on_the_line(uncond[k], cond[k], w[k])
        low, high = 0.0, 1e4
        for _ in range(120):
            factor = (low + high) / 2
            low, high = (factor, high) if np.std(factor * strong) < np.std(cond[k]) else (low, factor)
        out[k] = mix * (factor * strong) + (1 - mix) * strong
    return out


same_contrast = Exercise(
    id="same_contrast",
    dots=1,
    points=2.0,
    hints=(
        "Guide first. Then compare two standard deviations, one number for each sample: which axes do they run over?",
        "Both images of the mix are the guided one times a number, so their mix is too.",
    ),
    cases=contrast_cases,
    oracle=contrast_oracle,
    messages={
        "values": "The guided estimate, the factor or the mix is wrong.",
        "images": IMAGES,
        "mix": "With mix = 1 the standard deviation of each sample must be that of the conditional estimate.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def same_contrast(cond, uncond, w, mix):
    rows = []
    for c, u, scale in zip(cond, uncond, w):
        strong = scale * c + (1 - scale) * u
        weak = strong * ((c - c.mean()).norm() / (strong - strong.mean()).norm())
        rows.append(mix * weak + (1 - mix) * strong)
    return torch.stack(rows)
""",
        """
def same_contrast(cond, uncond, w, mix):
    c, u = cond.flatten(1), uncond.flatten(1)
    strong = torch.lerp(u, c, w[:, None])
    factor = (c.var(1, correction=0) / strong.var(1, correction=0)).sqrt()[:, None]
    return torch.lerp(strong, strong * factor, mix).view_as(cond)
""",
    ),
    wrong=(
        Wrong(
            "strong = uncond + w * (cond - uncond)",
            "strong = cond + w * (cond - uncond)",
            "values",
            "That is the other scale, in which 0 is no guidance.",
        ),
        Wrong(
            "factor = cond.std(axes, keepdim=True) / strong.std(axes, keepdim=True)",
            "factor = cond.std() / strong.std()",
            "values",
            "Each sample has its own standard deviation, and its own scale.",
        ),
        Wrong(
            "factor = cond.std(axes, keepdim=True) / strong.std(axes, keepdim=True)",
            "factor = cond.square().mean(axes, True).sqrt() / strong.square().mean(axes, True).sqrt()",
            "values",
            "A standard deviation is taken about the mean of the sample; this is the root mean square.",
        ),
        Wrong(
            "factor = cond.std(axes, keepdim=True) / strong.std(axes, keepdim=True)",
            "factor = cond.var(axes, keepdim=True) / strong.var(axes, keepdim=True)",
            "values",
            "A factor of the image multiplies the standard deviation; this is a ratio of variances.",
        ),
        Wrong(
            "mix * factor + 1 - mix",
            "(1 - mix) * factor + mix",
            "values",
            "The two images of the mix have changed places.",
        ),
        Wrong(
            "axes = tuple(range(1, cond.ndim))",
            "axes = (cond.ndim - 1,)",
            "images",
            "The standard deviation runs over all numbers of a sample, not over its last axis.",
        ),
    ),
)


def either_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, log_a: np.ndarray, log_b: np.ndarray, D: int) -> Case:
        score, grad_a, grad_b = rng.normal(size=(3, len(log_a), D))
        return Case(check, (score, log_a, log_b, grad_a, grad_b))

    usual = np.log(rng.uniform(0.05, 0.95, (2, 6)))
    tiny = -rng.uniform(800, 900, 4)
    nearly = -(10.0 ** rng.uniform(-14, -10, 4))
    return [
        case("values", *usual, 3),
        case("square", *usual[:, :3], 3),
        case("both impossible", tiny, tiny + rng.normal(size=4), 2),
        case("one certain", nearly, tiny, 2),
    ]


def either_oracle(score: Any, log_a: Any, log_b: Any, grad_a: Any, grad_b: Any) -> np.ndarray:
    """Sum the three ways in which A or B holds, and take differences of its logarithm along each axis."""
    wide = np.longdouble

    def log_or(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        top = np.maximum(a, b)
        not_a, not_b = -np.expm1(a), -np.expm1(b)
        return top + np.log(np.exp(a - top) * not_b + np.exp(b - top) * not_a + np.exp(a + b - top))

    out = np.array(score, dtype=wide)
    for d in range(score.shape[1]):
        slope_a, slope_b = grad_a[:, d].astype(wide), grad_b[:, d].astype(wide)
        # a step that leaves both logarithms below 0
        step = wide(1e-4) * np.minimum(1, np.minimum(-log_a, -log_b) / (1 + np.abs(slope_a) + np.abs(slope_b)))
        ends = [log_or(log_a + sign * step * slope_a, log_b + sign * step * slope_b) for sign in (1, -1)]
        out[:, d] += (ends[0] - ends[1]) / (2 * step)
    return out.astype(float)


either_score = Exercise(
    id="either_score",
    dots=2,
    points=3.0,
    hints=(
        "The probability of 'A or B' is a + b - ab. Differentiate its logarithm, and use that the derivative of a is a "
        "times that of its logarithm.",
        "Each gradient gets a weight: the probability that this condition holds and the other does not, over that of "
        "'A or B'. Form both weights from logarithms.",
    ),
    cases=either_cases,
    oracle=either_oracle,
    messages={
        "values": "The score given A or B is wrong.",
        "square": "With as many points as dimensions a number of a point goes to a coordinate.",
        "both impossible": "Where both probabilities are 0 as floating-point numbers, their ratio still counts.",
        "one certain": "Where one condition is nearly certain the result is wrong.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def either_score(score, log_a, log_b, grad_a, grad_b):
    top = torch.maximum(log_a, log_b)
    a, b = torch.exp(log_a - top), torch.exp(log_b - top)
    total = a + b - torch.exp(log_a + log_b - top)
    part_a = a * -torch.expm1(log_b) / total
    part_b = b * -torch.expm1(log_a) / total
    return score + part_a.unsqueeze(1) * grad_a + part_b.unsqueeze(1) * grad_b
""",
        """
def either_score(score, log_a, log_b, grad_a, grad_b):
    u = log_a.clone().requires_grad_()
    v = log_b.clone().requires_grad_()
    both = torch.logaddexp(u, v + torch.log(-torch.expm1(u)))
    part_a, part_b = torch.autograd.grad(both.sum(), (u, v))
    return score + part_a[:, None] * grad_a + part_b[:, None] * grad_b
""",
    ),
    wrong=(
        Wrong(
            "log_or = torch.logaddexp(log_a, only_b)",
            "log_or = torch.logaddexp(log_a, log_b)",
            "values",
            "The sum of both probabilities counts the case that both hold twice.",
        ),
        Wrong(
            "log_or = torch.logaddexp(log_a, only_b)",
            "log_or = log_a + log_b",
            "values",
            "That is the logarithm for 'A and B'.",
        ),
        Wrong(
            "only_a = log_a + torch.log(-torch.expm1(log_b))",
            "only_a = log_a",
            "values",
            "Where B holds already, more of A does not make 'A or B' likelier.",
        ),
        Wrong(
            "return score + part_a * grad_a + part_b * grad_b",
            "return score + grad_a + grad_b",
            "values",
            "Adding both pulls is the score given A and B.",
        ),
        Wrong(
            "return score + part_a * grad_a + part_b * grad_b",
            "return score + torch.lerp(grad_b, grad_a, torch.sigmoid(log_a - log_b)[:, None])",
            "values",
            "The weights a/(a + b) belong to two conditions that exclude each other: 'A or B' has a + b - ab.",
        ),
        Wrong(
            "return score + part_a * grad_a + part_b * grad_b",
            "return part_a * grad_a + part_b * grad_b",
            "values",
            "The score without conditions is missing.",
        ),
        Wrong(
            "log_or = torch.logaddexp(log_a, only_b)",
            "log_or = torch.log(torch.exp(log_a) + torch.exp(only_b))",
            "both impossible",
            "The exponential of a very negative number is 0, and 0 / 0 is no number.",
        ),
    ),
    equivalent={
        "log_or = torch.logaddexp(only_b, log_a)": "the sum is symmetric",
    },
)


def pulled_cases(rng: np.random.Generator) -> list[Case]:
    T = int(rng.integers(6, 10))
    abar = table(rng, T)

    def case(check: str, shape: tuple[int, ...], i: np.ndarray) -> Case:
        x, eps, g, z = rng.normal(size=(4, *shape))
        return Case(check, (x, eps, g, rng.uniform(0.5, 3.0, shape[0]), i, abar, z))

    return [
        case("values", (6, 3), rng.integers(2, T + 1, 6)),
        case("images", (4, 2, 4, 4), rng.integers(2, T + 1, 4)),
        case("last step", (3, 3), np.ones(3, dtype=np.int64)),
    ]


def pulled_oracle(x: Any, eps: Any, g: Any, w: Any, i: Any, abar: Any, z: Any) -> np.ndarray:
    """Condition the joint Gaussian of x_{i-1} and x_i given x_0; then take the tilted mean by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    out = np.empty(x.shape)
    for k, step in enumerate(i):
        now, then = abar[step], abar[step - 1]
        x0 = (x[k] - np.sqrt(1 - now) * eps[k]) / np.sqrt(now)
        cov = np.sqrt(now / then) * (1 - then)
        mean = np.sqrt(then) * x0 + cov / (1 - now) * (x[k] - np.sqrt(now) * x0)
        std = np.sqrt(max(0.0, (1 - then) - cov**2 / (1 - now)))
        places = std * nodes  # about the mean
        tilt = weights * np.exp(w[k] * g[k][..., None] * places)
        moved = mean + (tilt * places).sum(-1) / tilt.sum(-1)
        out[k] = moved + std * z[k]
    return out


pulled_step = Exercise(
    id="pulled_step",
    dots=2,
    points=3.0,
    hints=(
        "Write the exponent of the Gaussian step, add the linear term, and complete the square. What happens to the "
        "variance?",
        "The mean moves by the variance of the step times the slope of the added exponent. At the last step this "
        "variance is 0.",
    ),
    cases=pulled_cases,
    oracle=pulled_oracle,
    messages={
        "values": "The mean, the pull or the noise of the step is wrong.",
        "images": IMAGES,
        "last step": "The step to x_0 has variance 0: neither the pull nor the noise acts.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def pulled_step(x, eps, g, w, i, abar, z):
    rows = []
    for k in range(len(x)):
        now, then = abar[i[k]], abar[i[k] - 1]
        beta = 1 - now / then
        x0 = (x[k] - (1 - now).sqrt() * eps[k]) / now.sqrt()
        mean = (then.sqrt() * beta * x0 + (now / then).sqrt() * (1 - then) * x[k]) / (1 - now)
        var = beta * (1 - then) / (1 - now)
        rows.append(mean + w[k] * var * g[k] + var.sqrt() * z[k])
    return torch.stack(rows)
""",
        """
def pulled_step(x, eps, g, w, i, abar, z):
    def wide(v):
        return v.reshape([len(v)] + [1] * (x.dim() - 1))
    now, then, scale = wide(abar[i]), wide(abar[i - 1]), wide(w)
    var = (1 - then) * (1 - (now / then) * (1 - then) / (1 - now))
    var = var.clamp_min(0)
    x0 = (x - (1 - now).sqrt() * eps) / now.sqrt()
    mean = then.sqrt() * x0 + (1 - then - var).clamp_min(0).sqrt() * eps
    return mean + var * scale * g + var.sqrt() * z
""",
    ),
    wrong=(
        Wrong(
            "centre + var * w.view(shape) * g + var.sqrt() * z",
            "centre + var.sqrt() * w.view(shape) * g + var.sqrt() * z",
            "values",
            "The pull is scaled by the variance of the step; its root belongs to the noise.",
        ),
        Wrong(
            "centre + var * w.view(shape) * g + var.sqrt() * z",
            "centre + var * w.view(shape) * g + var * z",
            "values",
            "Noise is scaled by a standard deviation.",
        ),
        Wrong(
            "centre + var * w.view(shape) * g + var.sqrt() * z",
            "centre + var * g + var.sqrt() * z",
            "values",
            "The scale is missing: printed versions of this algorithm lack it too.",
        ),
        Wrong(
            "centre + var * w.view(shape) * g + var.sqrt() * z",
            "centre + (1 - now) * w.view(shape) * g + var.sqrt() * z",
            "values",
            "That variance belongs to the noisy point, not to the step.",
        ),
        Wrong(
            "centre + var * w.view(shape) * g + var.sqrt() * z",
            "centre + beta / (1 - beta).sqrt() * w.view(shape) * g + var.sqrt() * z",
            "values",
            "That guides the estimate of the noise, which is another algorithm: tilt the Gaussian of the step itself.",
        ),
        Wrong(
            "beta / (1 - now).sqrt() * eps",
            "beta / (1 - now) * eps",
            "values",
            "The estimate of the noise is multiplied by a standard deviation somewhere: check the root.",
        ),
        Wrong(
            "var = beta * (1 - then) / (1 - now)",
            "var = beta",
            "values",
            "That is the variance of the noising step, the other choice of DDPM; asked is the posterior's.",
        ),
    ),
)


def line_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, T: int, v_y: float, w: float) -> Case:
        m, m_y = (float(value) for value in rng.normal(size=2))
        return Case(check, (m, float(rng.uniform(0.8, 2.0)), m_y, v_y, w, table(rng, T)))

    inside = float(rng.uniform(0.2, 0.6))
    return [
        case("values", int(rng.integers(5, 9)), inside, float(rng.uniform(1.5, 4.0))),
        case("one step", 1, inside, float(rng.uniform(1.5, 4.0))),
        case("a single point", int(rng.integers(5, 9)), 0.0, 2.0),
        case("no condition", int(rng.integers(5, 9)), inside, 0.0),
    ]


def line_oracle(m: float, v: float, m_y: float, v_y: float, w: float, abar: np.ndarray) -> tuple[float, float]:
    """Send the points 0 and 1 down the chain, with scores by differences of the log-densities."""

    def log_p(x: float, mean: float, var: float, keep: float) -> float:
        return -((x - np.sqrt(keep) * mean) ** 2) / (2 * (keep * var + 1 - keep))

    def noise(x: float, mean: float, var: float, keep: float) -> float:
        slope = (log_p(x + 1e-3, mean, var, keep) - log_p(x - 1e-3, mean, var, keep)) / 2e-3
        return -np.sqrt(1 - keep) * slope

    def down(x: float) -> float:
        for i in range(len(abar) - 1, 0, -1):
            free, bound = noise(x, m, v, abar[i]), noise(x, m_y, v_y, abar[i])
            eps = on_the_line(np.array([free]), np.array([bound]), w)[0]
            x0 = (x - np.sqrt(1 - abar[i]) * eps) / np.sqrt(abar[i])
            x = np.sqrt(abar[i - 1]) * x0 + np.sqrt(1 - abar[i - 1]) * eps
        return x

    return down(1.0) - down(0.0), down(0.0)


guided_line = Exercise(
    id="guided_line",
    dots=3,
    points=4.0,
    hints=(
        "First one step: the noise that a Gaussian law expects at x is a linear function of x. What are its slope and "
        "its value at 0?",
        "The guided noise is linear too, and so is the step. If x_i is a x_T + b, what are the a and b of x_{i-1}?",
    ),
    cases=line_cases,
    oracle=line_oracle,
    messages={
        "values": "Slope or offset of the chain are wrong.",
        "one step": "With one step, T = 1, the result is wrong.",
        "a single point": "With a class that is a single point the result is wrong.",
        "no condition": "With w = 0 the class must not matter.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def guided_line(m, v, m_y, v_y, w, abar):
    def chain(x):
        for i in range(len(abar) - 1, 0, -1):
            keep, loud = abar[i].sqrt(), (1 - abar[i]).sqrt()
            free = (x - keep * m) / (keep**2 * v + loud**2)
            bound = (x - keep * m_y) / (keep**2 * v_y + loud**2)
            eps = loud * (free + w * (bound - free))
            x = abar[i - 1].sqrt() * (x - loud * eps) / keep + (1 - abar[i - 1]).sqrt() * eps
        return x
    start = chain(torch.zeros_like(abar[0]))
    return chain(torch.ones_like(abar[0])) - start, start
""",
        """
def guided_line(m, v, m_y, v_y, w, abar):
    whole = torch.eye(2, dtype=abar.dtype)
    for i in range(1, len(abar)):
        now, then = abar[i], abar[i - 1]
        k = w / (now * v_y + 1 - now) + (1 - w) / (now * v + 1 - now)
        c = w * m_y / (now * v_y + 1 - now) + (1 - w) * m / (now * v + 1 - now)
        k, c = k * (1 - now).sqrt(), c * (1 - now).sqrt() * now.sqrt()
        add = (1 - then).sqrt() - (then * (1 - now) / now).sqrt()
        step = torch.stack([torch.stack([(then / now).sqrt() + add * k, -add * c]), torch.tensor([0.0, 1.0]).to(abar)])
        whole = whole @ step
    return whole[0, 0], whole[0, 1]
""",
    ),
    wrong=(
        Wrong(
            "pull = (1 - w) / (now * v + 1 - now)",
            "pull = 1 / (now * v + 1 - now)",
            "values",
            "Guidance moves away from the unconditional estimate: its weight is not 1.",
        ),
        Wrong(
            "pull_y = w / (now * v_y + 1 - now)",
            "pull_y = (1 + w) / (now * v_y + 1 - now)",
            "values",
            "The two weights must sum to 1.",
        ),
        Wrong(
            "pull_y = w / (now * v_y + 1 - now)",
            "pull_y = w / (now.sqrt() * v_y + 1 - now)",
            "values",
            "The data are scaled by the root, so their variance is scaled by its square.",
        ),
        Wrong(
            "b = slope * b - move * now.sqrt() * (pull_y * m_y + pull * m)",
            "b = b - move * now.sqrt() * (pull_y * m_y + pull * m)",
            "values",
            "A step multiplies also what earlier steps have added.",
        ),
        Wrong(
            "b = slope * b - move * now.sqrt() * (pull_y * m_y + pull * m)",
            "b = slope * b - move * now * (pull_y * m_y + pull * m)",
            "values",
            "The mean of the noisy data is the mean times the scale of the signal, which is a root.",
        ),
        Wrong(
            "move = ((1 - then) * (1 - now)).sqrt() - ratio * (1 - now)",
            "move = ((1 - then) * (1 - now)).sqrt()",
            "values",
            "The noise is taken out of the point before it is put back with its new size.",
        ),
    ),
    equivalent={
        "for now, then in zip(abar[1:].flip(-1), abar[:-1].flip(0)):": "a table has one axis",
        "for now, then in zip(abar[1:].flip(0), abar[:-1].flip(-1)):": "a table has one axis",
        "for now, then in zip(abar[0:].flip(0), abar[:-1].flip(0)):": "the pairs end with the shorter list",
    },
)


def halves_cases(rng: np.random.Generator) -> list[Case]:
    T = int(rng.integers(8, 12))
    abar = table(rng, T)

    def case(check: str, shape: tuple[int, ...], i: np.ndarray, w: np.ndarray) -> Case:
        both = rng.normal(size=(2 * shape[0], *shape[1:]))
        return Case(check, (both, rng.normal(size=shape), w, i, 3, 6, abar))

    return [
        case("values", (6, 3), rng.integers(4, 6, 6), rng.uniform(1.5, 5.0, 6)),
        case("images", (4, 2, 4, 4), rng.integers(4, 6, 4), rng.uniform(1.5, 5.0, 4)),
        case("no guidance", (3, 3), rng.integers(4, 6, 3), np.ones(3)),
        case("interval", (6, 2), np.array([1, 2, 3, 6, 7, T]), rng.uniform(1.5, 5.0, 6)),
    ]


def halves_oracle(both: Any, x: Any, w: Any, i: Any, low: Any, high: Any, abar: Any) -> np.ndarray:
    """Turn each half into data first, and extend the line through the two results."""
    B, out = len(x), np.empty(x.shape)
    for k in range(B):
        keep = abar[i[k]]
        free, bound = ((x[k] - np.sqrt(1 - keep) * both[row]) / np.sqrt(keep) for row in (k, B + k))
        out[k] = on_the_line(free, bound, w[k]) if i[k] in range(low, high + 1) else bound
    return out


halves_to_data = Exercise(
    id="halves_to_data",
    dots=1,
    points=2.0,
    hints=(
        "Put the scale 1 into the formula for the guided noise. Which of the two estimates must come out?",
        "There are two scales in use, and they differ by 1. Which one does the text above use?",
    ),
    cases=halves_cases,
    oracle=halves_oracle,
    messages={
        "values": "The guided estimate of x_0 is wrong.",
        "images": IMAGES,
        "no guidance": "With the scale 1 the result must be the conditional estimate.",
        "interval": "Guidance acts at the wrong steps: both ends of the interval belong to it.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def halves_to_data(both, x, w, i, low, high, abar):
    rows = []
    for k in range(len(x)):
        free, bound = both[k], both[len(x) + k]
        scale = w[k] if low <= i[k] <= high else 1.0
        noise = bound + (scale - 1) * (bound - free)
        rows.append(x[k] / abar[i[k]].sqrt() - (1 / abar[i[k]] - 1).sqrt() * noise)
    return torch.stack(rows)
""",
        """
def halves_to_data(both, x, w, i, low, high, abar):
    keep = abar[i].reshape([-1] + [1] * (x.dim() - 1))
    data = (torch.cat([x, x]) - torch.cat([1 - keep] * 2).sqrt() * both) / torch.cat([keep] * 2).sqrt()
    free, bound = data[: len(x)], data[len(x) :]
    scale = w.clone()
    scale[(i < low) | (i > high)] = 1
    return torch.lerp(free, bound, scale.reshape(keep.shape))
""",
    ),
    wrong=(
        Wrong(
            "noise = free + push * (bound - free)",
            "noise = bound + push * (bound - free)",
            "values",
            "With the scale 1 this goes beyond the conditional estimate: in this form 0 is no guidance.",
        ),
        Wrong(
            "free, bound = both.chunk(2)",
            "bound, free = both.chunk(2)",
            "values",
            "The first half of the batch is the one without the condition.",
        ),
        Wrong(
            "acts = (low <= i) & (i <= high)",
            "acts = (low <= i) & (i < high)",
            "interval",
            "Both ends belong to the interval.",
        ),
        Wrong(
            "torch.where(acts, w, torch.ones_like(w))",
            "torch.where(acts, w, torch.zeros_like(w))",
            "interval",
            "Outside the interval the condition stays, without guidance.",
        ),
        Wrong(
            "free, bound = both.chunk(2)",
            "free, bound = both[::2], both[1::2]",
            "values",
            "The halves follow one another; they are not shuffled.",
        ),
        Wrong(
            "keep = abar[i].view(pad)",
            "keep = abar[i - 1].view(pad)",
            "values",
            "abar[0] belongs to the data, abar[i] to step i.",
        ),
    ),
    equivalent={"acts = (i <= high) & (low <= i)": "both conditions must hold, in any order"},
)

EXERCISES = [same_contrast, either_score, pulled_step, guided_line, halves_to_data]
