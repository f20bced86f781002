"""The checks of the exercises of chapter 3."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."


def weigh_cases(rng: np.random.Generator) -> list[Case]:
    dead = rng.normal(size=9)
    dead[[1, 6]] = -np.inf
    return [
        Case("values", (rng.normal(size=7), float(rng.normal()))),
        Case("dead particles", (dead, float(rng.normal()))),
        Case("far from 0", (3 * rng.normal(size=8) - 5000, 11.0)),
        Case("far from 0", (3 * rng.normal(size=8) + 900, -2.0)),
    ]


def weigh_oracle(log_w: np.ndarray, log_z0: float) -> tuple[Any, ...]:
    """In extended precision, about the middle of the finite log weights; moments by pairs of particles."""
    finite = log_w[np.isfinite(log_w)]
    shift = np.longdouble((finite.min() + finite.max()) / 2)
    w = np.exp(log_w.astype(np.longdouble) - shift)
    n, total = len(w), np.add.reduce(w)
    spread = sum((a - b) ** 2 for i, a in enumerate(w) for b in w[:i]) / (n * (n - 1))  # sample variance
    error = np.sqrt(spread * n) / total
    effective = 1 / np.add.reduce((w / total) ** 2)
    return float(log_z0 + shift + np.log(total) - np.log(np.longdouble(n))), float(error), float(effective)


weigh = Exercise(
    id="weigh",
    dots=1,
    points=2.0,
    hints=(
        "Divide all weights by the largest one before you leave the logarithms.",
        "Of the three results only the first changes when all weights are multiplied by one number.",
    ),
    cases=weigh_cases,
    oracle=weigh_oracle,
    messages={
        "values": "One of the three numbers is wrong.",
        "dead particles": "With particles of weight 0 a number is wrong: they count among the B particles.",
        "far from 0": "With log weights far from 0 a number is lost: a weight was 0 or infinite on the computer.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def weigh(log_w, log_z0):
    n = len(log_w)
    total, squares = log_w.logsumexp(0), (2 * log_w).logsumexp(0)
    effective = torch.exp(2 * total - squares)
    variance = (n / effective - 1) * n / (n - 1)
    return log_z0 + total - math.log(n), torch.sqrt(variance / n), effective
""",
        """
def weigh(log_w, log_z0):
    share = torch.softmax(log_w, 0)
    n = share.numel()
    relative = share * n
    error = math.sqrt(((relative - 1) ** 2).sum().item() / (n * (n - 1)))
    return torch.logsumexp(log_w, 0).item() - math.log(n) + log_z0, error, 1 / (share @ share).item()
""",
    ),
    wrong=(
        Wrong(
            "w.mean().log()",
            "(log_w - top).mean()",
            "values",
            "The mean of the logarithms is not the logarithm of the mean: it is never larger.",
        ),
        Wrong("w.mean().log()", "w.sum().log()", "values", "The estimate is the mean weight, not the sum."),
        Wrong("log_z0 + top", "top - log_z0", "values", "The mean weight is a ratio of constants: which is below?"),
        Wrong(" / math.sqrt(len(w))", "", "values", "That is the spread of one weight, not of the mean of all."),
        Wrong("w.sum() ** 2", "w.sum()", "values", "The effective number must not change when all weights double."),
        Wrong(
            "torch.exp(log_w - top)",
            "torch.exp(log_w - top)[log_w > -math.inf]",
            "dead particles",
            "Particles of weight 0 were drawn too: they belong to the mean.",
        ),
        Wrong("top = log_w.max()", "top = 0 * log_w.max()", "far from 0", "Every weight became 0 or infinite."),
    ),
)


def spin_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, N: int, D: int, scale: float = 1.0) -> Case:
        x = rng.choice([-1.0, 1.0], (N, D))
        return Case(check, (x, scale * rng.normal(size=D), scale * rng.normal(size=(D, D))))

    return [
        case("values", 9, 3),
        case("values", 4, 4),
        case("one spin", 5, 1),
        case("strong couplings", 6, 5, 300.0),
    ]


def spin_oracle(x: np.ndarray, b: np.ndarray, J: np.ndarray) -> tuple[Any, ...]:
    """Walk through the states one by one in plain Python; where that is smooth, central differences agree."""
    D = len(b)

    def features(s: Any) -> np.ndarray:
        return np.array([*s, *(s[i] * s[j] for i in range(D) for j in range(i + 1, D))])

    weights = np.array([*b, *(J[i, j] for i in range(D) for j in range(i + 1, D))])
    table = np.array([features(s) for s in product((-1.0, 1.0), repeat=D)])
    seen = np.array([features(s) for s in x])
    levels = table @ weights
    at_most = levels.max()
    odds = [np.exp(level - at_most) for level in levels]
    slope = sum(o * f for o, f in zip(odds, table, strict=True)) / sum(odds) - seen.sum(0) / len(x)
    pairs = np.zeros((D, D))
    pairs[np.triu_indices(D, 1)] = slope[D:]
    return slope[:D], pairs


spin_gradient = Exercise(
    id="spin_gradient",
    dots=2,
    points=3.0,
    hints=(
        "The derivative of the energy in a parameter is minus a product of spins. Average it over data, then states.",
        "List all states as rows of a matrix, and let a softmax divide by Z.",
    ),
    cases=spin_cases,
    oracle=spin_oracle,
    messages={
        "values": "A gradient is wrong.",
        "one spin": "A single spin has no pair; its gradients are wrong, or of another shape.",
        "strong couplings": "With large parameters a gradient is lost: a weight of a state was infinite.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def spin_gradient(x, b, J):
    D = len(b)
    b, J = b.clone().requires_grad_(), J.clone().requires_grad_()
    k = torch.arange(2**D)
    s = torch.stack([(k // 2**i % 2) * 2.0 - 1 for i in range(D)], 1).to(x)
    upper = torch.triu(torch.ones(D, D, dtype=x.dtype), 1)
    def minus_energy(v):
        return v @ b + torch.einsum("ni,ij,nj->n", v, J * upper, v)
    loss = torch.logsumexp(minus_energy(s), 0) - minus_energy(x).mean()
    return torch.autograd.grad(loss, (b, J))
""",
        """
def spin_gradient(x, b, J):
    N, D = x.shape
    states = [[1.0 if n >> i & 1 else -1.0 for i in range(D)] for n in range(2**D)]
    s = torch.tensor(states, dtype=torch.float64)
    level = torch.zeros(len(s), dtype=torch.float64)
    for i in range(D):
        level = level + b[i] * s[:, i]
        for j in range(i + 1, D):
            level = level + J[i, j] * s[:, i] * s[:, j]
    p = torch.exp(level - level.logsumexp(0))
    grad_b, grad_J = torch.zeros_like(b), torch.zeros_like(J)
    for i in range(D):
        grad_b[i] = (p * s[:, i]).sum() - x[:, i].mean()
        for j in range(i + 1, D):
            grad_J[i, j] = (p * s[:, i] * s[:, j]).sum() - (x[:, i] * x[:, j]).mean()
    return grad_b, grad_J
""",
    ),
    wrong=(
        Wrong(
            "s.T @ (p[:, None] * s) - x.T @ x / len(x)",
            "x.T @ x / len(x) - s.T @ (p[:, None] * s)",
            "values",
            "The sign: the energy contains minus the product of spins, and the gradient is that of the loss.",
        ),
        Wrong("s @ J.triu(1)", "s @ J", "values", "Entries of J on and below the diagonal must not count."),
        Wrong("pairs.triu(1)", "pairs", "values", "The loss does not depend on entries on and below the diagonal."),
        Wrong("torch.tensor([-1.0, 1.0])", "torch.tensor([0.0, 1.0])", "values", "These spins are -1 and 1, not bits."),
        Wrong(
            "states.reshape(-1, D)",
            "states",
            "one spin",
            "With a single spin torch.cartesian_prod gives no matrix, but a vector.",
        ),
        Wrong("x.T @ x / len(x)", "x.T @ x / D", "values", "The positive phase is a mean over the data."),
        Wrong(
            "torch.softmax(minus_energy, 0)",
            "minus_energy.exp() / minus_energy.exp().sum()",
            "strong couplings",
            "Right on paper, but the exponential of a large number is infinite.",
        ),
    ),
    equivalent={
        "p = torch.softmax(minus_energy, -1)": "a vector has one axis",
        "pairs = s.T @ (p[:, None] / s) - x.T @ x / len(x)": "a spin is its own inverse",
        "return (p @ s - x.mean(0), pairs.triu(0))": "the square of a spin is 1, in the data as in the states",
        "minus_energy = s @ b + (s @ J.triu(1) / s).sum(1)": "a spin is its own inverse",
        "minus_energy = s @ b + (s @ J.triu(0) * s).sum(1)": "the square of a spin is 1: one constant for all states",
    },
)


def positive(rng: np.random.Generator, D: int) -> np.ndarray:
    root = rng.normal(size=(D, D))
    return root @ root.T / D + 0.3 * np.eye(D)


def settled_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, D: int, share: float) -> Case:
        P, M = positive(rng, D), positive(rng, D)
        longest = 2 / np.linalg.eigvals(M @ P).real.max()
        return Case(check, (P, M, float(share * longest)))

    identity = (positive(rng, 3), np.eye(3), 0.05)
    return [
        Case("without a matrix", identity),
        case("values", 3, 0.5),
        case("values", 1, 0.6),
        case("values", 2, 0.97),
    ]


def settled_oracle(P: np.ndarray, M: np.ndarray, h: float) -> np.ndarray:
    """Solve C = A C A^T + 2 h M for all entries of C at once."""
    D = len(P)
    A = np.eye(D) - h * M @ P
    flat = np.linalg.solve(np.eye(D * D) - np.kron(A, A), (2 * h * M).flatten())
    return flat.reshape(D, D)


settled_cov = Exercise(
    id="settled_cov",
    dots=2,
    points=3.0,
    hints=(
        "Begin with M = I: then everything commutes, and the variance formula of the chapter holds in each direction.",
        "For another M write x as a root of M times y, and ask which steps y takes on which target.",
    ),
    cases=settled_cases,
    oracle=settled_oracle,
    messages={
        "values": "The covariance is not the one that a step leaves as it is.",
        "without a matrix": "With M = I, plain Langevin, the covariance is wrong.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def settled_cov(P, M, h):
    values, basis = torch.linalg.eigh(M)
    root = basis @ torch.diag(values.sqrt()) @ basis.T
    scale, axes = torch.linalg.eigh(root @ P @ root)
    return root @ axes @ torch.diag(1 / (scale * (1 - h * scale / 2))) @ axes.T @ root
""",
        """
def settled_cov(P, M, h):
    A = torch.eye(len(P), dtype=P.dtype) - h * M @ P
    C, power = 2 * h * M, A
    for _ in range(40):  # doubles the number of steps each time
        C = C + power @ C @ power.T
        power = power @ power
    return C
""",
    ),
    wrong=(
        Wrong(
            "h / 2 * P @ M @ P",
            "0 * P",
            "without a matrix",
            "That is the covariance of the target: the step is not small.",
        ),
        Wrong(
            "h / 2 *",
            "h *",
            "without a matrix",
            "In one dimension with M = 1 compare with the variance in the chapter.",
        ),
        Wrong(
            "P - h / 2", "P + h / 2", "without a matrix", "Steps that are too long make the cloud wider, not narrower."
        ),
        Wrong("P @ M @ P", "M @ P @ M", "without a matrix", "Try M = 2I: which of the two scales right?"),
        Wrong("P @ M @ P", "P @ P", "values", "The matrix M belongs into the result."),
    ),
)


def mala_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, B: int, D: int, equal: bool = False) -> Case:
        x = rng.choice([-1.0, 1.0], (B, D)) + 0.3 * rng.normal(size=(B, D))
        h = np.full(D, rng.uniform(0.03, 0.06)) if equal else rng.uniform(0.01, 0.08, D)
        return Case(check, (x, rng.normal(size=(B, D)), rng.uniform(size=B), h, rng.uniform(0.5, 1.5, D)))

    far = case("values", 5, 2)
    far.args[0][:] *= 30  # log ratios of many thousands
    return [
        case("one step for all", 6, 3, equal=True),
        case("values", 6, 3),
        case("values", 40, 2),
        case("values", 4, 4),
        far,
    ]


def mala_oracle(x: np.ndarray, z: np.ndarray, u: np.ndarray, h: np.ndarray, a: np.ndarray) -> tuple[Any, ...]:
    """Metropolis-Hastings with full Gaussian densities of the proposals, and slopes by a complex step."""

    def level(v: Any) -> Any:
        return (a * (v**2 - 1) ** 2).sum(1) + v.prod(1)

    def middle(v: np.ndarray) -> np.ndarray:
        slopes = [level(v + 1e-30j * unit).imag / 1e-30 for unit in np.eye(len(a))]
        return v - np.stack(slopes, 1) @ np.diag(h)

    def log_q(to: np.ndarray, origin: np.ndarray) -> np.ndarray:
        away, cov = to - middle(origin), np.diag(2 * h)
        square = np.einsum("bi,ij,bj->b", away, np.linalg.inv(cov), away)
        return -square / 2 - np.linalg.slogdet(2 * np.pi * cov)[1] / 2

    y = middle(x) + z @ np.linalg.cholesky(np.diag(2 * h))
    log_ratio = -level(y) + log_q(x, y) + level(x) - log_q(y, x)
    return np.where((np.log(u) <= log_ratio)[:, None], y, x), log_ratio


mala_step = Exercise(
    id="mala_step",
    dots=2,
    points=3.0,
    hints=(
        "Write down the density of the way there and that of the way back. From where does each of them start?",
        "When x and y are exchanged, the logarithm of the ratio must only change its sign.",
    ),
    cases=mala_cases,
    oracle=mala_oracle,
    messages={
        "one step for all": "With the same step for all coordinates states or ratios are wrong.",
        "values": "With different steps states or ratios are wrong.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def mala_step(x, z, u, h, a):
    normal = torch.distributions.Normal
    there = normal(x + h * score(x, a), (2 * h).sqrt())
    y = there.mean + there.stddev * z
    back = normal(y + h * score(y, a), (2 * h).sqrt())
    log_ratio = back.log_prob(x).sum(1) - there.log_prob(y).sum(1) - energy(y, a) + energy(x, a)
    return torch.where((u.log() <= log_ratio).unsqueeze(1), y, x), log_ratio
""",
        """
def mala_step(x, z, u, h, a):
    new, ratios = x.clone(), []
    for b in range(len(x)):
        now = x[b : b + 1]
        y = now + h * score(now, a) + (2 * h) ** 0.5 * z[b]
        noise = (now - y - h * score(y, a)) / (2 * h) ** 0.5
        ratio = energy(now, a) - energy(y, a) + (z[b] ** 2 - noise**2).sum() / 2
        if math.log(u[b]) <= ratio:
            new[b] = y[0]
        ratios.append(ratio[0])
    return new, torch.stack(ratios)
""",
    ),
    wrong=(
        Wrong(
            "x - y - h * score(y, a)",
            "x - y - h * score(x, a)",
            "one step for all",
            "The way back starts at y: its pull is the score there.",
        ),
        Wrong(
            " + (there - back).sum(1)", "", "one step for all", "The proposal is not symmetric: its ratio is missing."
        ),
        Wrong("(there - back)", "(back - there)", "one step for all", "The density of the way back stands above."),
        Wrong(
            "energy(x, a) - energy(y, a)",
            "energy(y, a) - energy(x, a)",
            "one step for all",
            "A lower energy is a higher probability.",
        ),
        Wrong("torch.sqrt(2 * h)", "torch.sqrt(h)", "one step for all", "The noise has variance 2h in our convention."),
        Wrong(
            "torch.log(u) <= log_ratio",
            "u <= log_ratio",
            "one step for all",
            "A logarithm is compared with a uniform number.",
        ),
        Wrong(
            "back = (x - y - h * score(y, a)) ** 2 / (4 * h)",
            "back = (x - y - h * score(y, a)) ** 2 / (4 * h.mean())",
            "values",
            "Each coordinate has its own step, on the way back as well.",
        ),
    ),
    equivalent={
        "keep = torch.log(u) < log_ratio": "both sides are equal with probability 0",
        "there = (h * score(x, a) - (y - x)) ** 2 / (4 * h)": "a square",
        "back = (h * score(y, a) - (x - y)) ** 2 / (4 * h)": "a square",
    },
)


def ring_cases(rng: np.random.Generator) -> list[Case]:
    return [
        Case("values", (rng.normal(size=(5, 3, 3)),)),
        Case("values", (rng.normal(size=(3, 3, 3)),)),
        Case("values", (rng.normal(size=(1, 4, 4)),)),
        Case("values", (rng.normal(size=(2, 3, 3)),)),
        Case("large energies", (2000 + 300 * rng.normal(size=(4, 3, 3)),)),
        Case("large energies", (-2000 + 300 * rng.normal(size=(4, 3, 3)),)),
        Case("a long ring", (rng.normal(size=(60, 4, 4)),)),
    ]


def ring_oracle(pair: np.ndarray) -> float:
    """List all configurations; a long ring by the sum over its first half and its second, from eigenvalues' road."""
    N, K, _ = pair.shape
    if K**N > 10_000:
        return long_ring(pair)
    totals = [-sum(pair[i, s[i], s[(i + 1) % N]] for i in range(N)) for s in product(range(K), repeat=N)]
    most = max(totals)
    return float(most + np.log(sum(np.exp(np.longdouble(t - most)) for t in totals)))


def long_ring(pair: np.ndarray) -> float:
    """The trace of the product of matrices, in extended precision and from the eigenvalues of the product."""
    product_, scale = np.eye(pair.shape[1]), 0.0
    for e in pair[::-1]:
        product_ = np.exp(-e) @ product_
        size = product_.max()
        product_, scale = product_ / size, scale + np.log(size)
    return float(scale + np.log(np.linalg.eigvals(product_).sum().real))


ring_log_z = Exercise(
    id="ring_log_z",
    dots=3,
    points=4.0,
    hints=(
        "Sum over one site at a time. What must be remembered of the sites that are done?",
        "The last site meets the first again: keep the state of the first site until the end.",
    ),
    cases=ring_cases,
    oracle=ring_oracle,
    messages={
        "values": "log Z is wrong.",
        "large energies": "With large energies log Z is lost: an exponential was 0 or infinite.",
        "a long ring": "For a long ring log Z is wrong.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def ring_log_z(pair):
    low = pair.amin((1, 2), keepdim=True)
    factors = torch.exp(low - pair)
    total, log_scale = torch.eye(pair.shape[1], dtype=pair.dtype), -low.sum()
    log_rows = []
    for first in range(pair.shape[1]):
        log_row = -pair[0, first]
        for e in pair[1:]:
            log_row = torch.logsumexp(log_row[:, None] - e, 0)
        log_rows.append(log_row[first])
    return torch.stack(log_rows).logsumexp(0)
""",
        """
def ring_log_z(pair):
    def join(a, b):
        return torch.logsumexp(a.unsqueeze(-1) + b.unsqueeze(-3), -2)
    parts = list(-pair)
    while len(parts) > 1:
        pairs = [join(a, b) for a, b in zip(parts[::2], parts[1::2])]
        parts = pairs + parts[len(pairs) * 2 :]
    return torch.logsumexp(torch.diag(parts[0]), 0)
""",
    ),
    wrong=(
        Wrong("log_m.diagonal()", "log_m.flatten()", "values", "That is an open chain: the ring is not closed."),
        Wrong("log_m = -pair[0]", "log_m = pair[0]", "values", "A low energy has a large weight."),
        Wrong("pair[1:]", "pair[1:-1]", "values", "The last site has a neighbour too: the first."),
        Wrong("- e, 1)", "- e, 0)", "values", "The sum runs over the site in the middle, not over the first."),
        Wrong("- e, 1)", "- e.T, 1)", "values", "The pair has a direction: site i first, its neighbour second."),
        Wrong(
            "torch.logsumexp(log_m[:, :, None] - e, 1)",
            "(log_m.exp() @ (-e).exp()).log()",
            "large energies",
            "Right on paper, but exponentials of thousands are 0 or infinite.",
        ),
    ),
    equivalent={
        "return torch.logsumexp(log_m.diagonal(), -1)": "a vector has one axis",
    },
)

EXERCISES = [weigh, spin_gradient, settled_cov, mala_step, ring_log_z]
