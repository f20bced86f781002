"""The checks of the exercises of chapter 8."""

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


def per_sample(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *[1] * (x.ndim - 1))


def condition(cov: np.ndarray, mean: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, float]:
    """The law of the first of two jointly Gaussian numbers, given the second; mean (2, N), seen (N,)."""
    gain = cov[0, 1] / cov[1, 1]
    return mean[0] + gain * (seen - mean[1]), float(cov[0, 0] - gain * cov[1, 0])


def forward(abar: np.ndarray, s: int, last: int) -> np.ndarray:
    """x_s, ..., x_last as linear maps of x_s and of the noise of each step, by running the chain; a row each."""
    rows = [np.eye(last - s + 1)[0]]
    for n, i in enumerate(range(s + 1, last + 1), 1):
        beta = 1 - abar[i] / abar[i - 1]
        rows.append(np.sqrt(1 - beta) * rows[-1] + np.sqrt(beta) * np.eye(last - s + 1)[n])
    return np.array(rows)


def posterior(abar: np.ndarray, s: int, t: int, u: int, x_s: np.ndarray, x_u: np.ndarray) -> tuple[np.ndarray, float]:
    """The law of x_t given x_s and x_u, from the joint covariance of x_t and x_u."""
    rows = forward(abar, s, u)[[t - s, u - s]]
    return condition(rows[:, 1:] @ rows[:, 1:].T, rows[:, :1] * x_s.ravel(), x_u.ravel())


def between_case(rng: np.random.Generator, check: str, shape: tuple[int, ...]) -> Case:
    T = int(rng.integers(7, 11))
    steps = np.array([np.sort(rng.choice(T + 1, 3, replace=False)) for _ in range(shape[0])])
    steps[0], steps[1] = (0, 1, 3), (2, 5, 6)  # moves of different lengths
    s, t, u = (column.copy() for column in steps.T)
    return Case(check, (rng.normal(size=shape), rng.normal(size=shape), s, t, u, table(rng, T)))


def between_cases(rng: np.random.Generator) -> list[Case]:
    return [between_case(rng, check, shape) for check, shape in SHAPES.items()]


def between_oracle(x_s: Any, x_u: Any, s: Any, t: Any, u: Any, abar: Any) -> tuple[Any, ...]:
    """Run the chain as a linear map of its noise, and condition the joint Gaussian of x_t and x_u."""
    laws = [posterior(abar, s[b], t[b], u[b], x_s[b], x_u[b]) for b in range(len(s))]
    means = [mean.reshape(x_s.shape[1:]) for mean, _ in laws]
    return np.array(means), np.array([var for _, var in laws])


between = Exercise(
    id="between",
    dots=2,
    points=3.0,
    hints=(
        "Write down the law of x_t given x_s, and that of x_u given x_t. Is anything else needed?",
        "As a function of x_t both are Gaussian, as in the derivation of the posterior: only x_s is not the data now.",
    ),
    cases=between_cases,
    oracle=between_oracle,
    messages={
        "values": "Mean or variance is not that of x_t given both neighbours.",
        "images": IMAGES,
        "unchanged": UNCHANGED,
    },
    right=(
        """
def between(x_s, x_u, s, t, u, abar):
    first, second = abar[t] / abar[s], abar[u] / abar[t]
    var = 1 / (1 / (1 - first) + second / (1 - second))
    near = per_sample(var * first.sqrt() / (1 - first), x_s)
    far = per_sample(var * second.sqrt() / (1 - second), x_s)
    return near * x_s + far * x_u, var
""",
        """
def between(x_s, x_u, s, t, u, abar):
    means, variances = [], []
    for a, b, i, j, k in zip(x_s, x_u, s, t, u):
        var_t = 1 - abar[j] / abar[i]
        var_u = 1 - abar[k] / abar[i]
        gain = (abar[k] / abar[j]).sqrt() * var_t / var_u
        guess = (abar[k] / abar[i]).sqrt() * a
        means.append((abar[j] / abar[i]).sqrt() * a + gain * (b - guess))
        variances.append(var_t - gain**2 * var_u)
    return torch.stack(means), torch.stack(variances)
""",
    ),
    wrong=(
        Wrong(
            "var_1, var_2 = 1 - keep_1, 1 - keep_2",
            "var_1, var_2 = 1 - a_t, 1 - keep_2",
            "values",
            "1 - abar is the variance of the noise since the data; here the noise since x_s counts.",
        ),
        Wrong(
            "from_s = keep_1.sqrt() * var_2",
            "from_s = keep_1.sqrt() * var_1",
            "values",
            "Each neighbour got its own variance as weight. The more noise lies towards one, the less it says.",
        ),
        Wrong(
            "keep_2.sqrt()",
            "keep_2",
            "values",
            "A root is lost: abar multiplies variances, its square root multiplies the points.",
        ),
        Wrong(
            "keep_1, keep_2 = a_t / a_s, a_u / a_t",
            "keep_1, keep_2 = a_t, a_u / a_t",
            "values",
            "From x_s to x_t only part of the chain lies between: abar_t counts from the data.",
        ),
        Wrong(
            "(var_1 * var_2 / var_both).flatten()",
            "(var_1 * var_2 / var_both).sqrt().flatten()",
            "values",
            "The variance is asked for, not the standard deviation.",
        ),
        Wrong(
            "per_sample(abar[i], x_s) for",
            "abar[i][:, None] for",
            "images",
            "One axis was added to the numbers of the samples. That is enough for rows, not for images.",
        ),
    ),
)


def term_case(rng: np.random.Generator, check: str, shape: tuple[int, ...]) -> Case:
    T = int(rng.integers(6, 10))
    t = rng.integers(2, T + 1, shape[0])
    t[0], t[-1] = 2, T
    x_0 = rng.normal(size=shape)
    return Case(check, (x_0, x_0 + 0.8 * rng.normal(size=shape), rng.uniform(0.1, 0.9, shape), t, table(rng, T)))


def term_cases(rng: np.random.Generator) -> list[Case]:
    return [term_case(rng, check, shape) for check, shape in SHAPES.items()]


def term_oracle(x_0: Any, x_0_hat: Any, v: Any, t: Any, abar: Any) -> np.ndarray:
    """Integrate q log(q/p) in each coordinate by a Gauss-Hermite rule, at an x_t of our own choice."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    terms = np.zeros(x_0.shape)
    for b, step in enumerate(t):
        beta = 1 - abar[step] / abar[step - 1]
        x_t = np.linspace(-1, 2, x_0[b].size)
        mean, var = posterior(abar, 0, step - 1, step, x_0[b], x_t)
        mean_p, _ = posterior(abar, 0, step - 1, step, x_0_hat[b], x_t)
        var_p = beta ** v[b].ravel() * var ** (1 - v[b].ravel())
        x = mean[:, None] + np.sqrt(var) * nodes  # (D, nodes)
        log_q = log_normal(x, mean[:, None], np.full((1, 1), var))
        log_p = log_normal(x, mean_p[:, None], var_p[:, None])
        terms[b] = ((log_q - log_p) @ weights / weights.sum()).reshape(x_0.shape[1:])
    return terms.reshape(len(x_0), -1).sum(1)


def log_normal(x: np.ndarray, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
    return -((x - mean) ** 2) / (2 * var) - np.log(2 * np.pi * var) / 2


bound_term = Exercise(
    id="bound_term",
    dots=3,
    points=4.0,
    hints=(
        "x_t is no argument. Write the difference of the two means first, and see what becomes of x_t.",
        "The KL divergence of two Gaussians on the line has a part from the variances and a part from the means. "
        "Which of the two variances divides the square of the difference?",
    ),
    cases=term_cases,
    oracle=term_oracle,
    messages={
        "values": "The KL divergence is wrong.",
        "images": IMAGES,
        "unchanged": UNCHANGED,
    },
    right=(
        """
def bound_term(x_0, x_0_hat, v, t, abar):
    total = x_0.new_zeros(len(x_0))
    for b, i in enumerate(t.tolist()):
        beta = 1 - abar[i] / abar[i - 1]
        var_q = 1 / (1 / (1 - abar[i - 1]) + (1 - beta) / beta)
        var_p = beta ** v[b] * var_q ** (1 - v[b])
        shift = var_q * abar[i - 1].sqrt() / (1 - abar[i - 1])
        Normal = torch.distributions.Normal
        q = Normal(shift * x_0[b], var_q.sqrt())
        p = Normal(shift * x_0_hat[b], var_p.sqrt())
        total[b] = torch.distributions.kl_divergence(q, p).sum()
    return total
""",
        """
def bound_term(x_0, x_0_hat, v, t, abar):
    snr = abar / (1 - abar)
    shrink = per_sample((1 - abar[t]) / (1 - abar[t - 1]), x_0) ** v  # var_p / var_q
    fall = per_sample(snr[t - 1] - snr[t], x_0)
    kl = shrink.log() + 1 / shrink - 1 + fall * (x_0 - x_0_hat) ** 2 / shrink
    return torch.einsum("b...->b", kl) / 2
""",
    ),
    wrong=(
        Wrong(
            "gap**2 / log_var.exp()",
            "gap**2 / tilde_beta",
            "values",
            "The squared difference is measured with the variance of the model, the second law of the KL divergence.",
        ),
        Wrong(
            "log_ratio = tilde_beta.log() - log_var",
            "log_ratio = log_var - tilde_beta.log()",
            "values",
            "The two laws are exchanged in the part of the variances: KL is not symmetric.",
        ),
        Wrong(
            "v * beta.log() + (1 - v) * tilde_beta.log()",
            "(v * beta + (1 - v) * tilde_beta).log()",
            "values",
            "The variances were interpolated, not their logarithms.",
        ),
        Wrong(
            "v * beta.log() + (1 - v) * tilde_beta.log()",
            "v * tilde_beta.log() + (1 - v) * beta.log()",
            "values",
            "The two ends are exchanged: v = 1 is the large variance.",
        ),
        Wrong(
            "early.sqrt() * beta / (1 - late)",
            "1.0",
            "values",
            "The estimate of the data differs by this much; the mean of the step differs by less.",
        ),
        Wrong("log_var.exp()", "(log_var / 2).exp()", "values", "A standard deviation stands for a variance."),
        Wrong("sum(1)", "mean(1)", "values", "The bound adds the coordinates; their mean belongs to the simple loss."),
        Wrong("kl.flatten(1).sum(1)", "kl.sum(1)", "images", "Only one axis was summed: an image has three."),
    ),
    equivalent={
        "gap = early.sqrt() * beta / (1 - late) * (x_0_hat - x_0)": "gap is squared",
        "gap = early.sqrt() * beta / (late - 1) * (x_0 - x_0_hat)": "gap is squared",
    },
)


def loss_case(rng: np.random.Generator, check: str, shape: tuple[int, ...], silent: bool = False) -> Case:
    T = int(rng.integers(6, 10))
    abar = table(rng, T)
    t = rng.integers(1, T + 1, shape[0])
    t[0], t[-1] = 1, T
    if silent:
        abar[-1] = 0.0
    gamma = float(np.sqrt(abar[1] / (1 - abar[1]) * abar[3] / (1 - abar[3])))  # between two levels of the chain
    v_hat, x_0, eps = rng.normal(size=(3, *shape))
    return Case(check, (v_hat, x_0, eps, t, abar, gamma))


def loss_cases(rng: np.random.Generator) -> list[Case]:
    cases = [loss_case(rng, check, shape) for check, shape in SHAPES.items()]
    return [*cases, loss_case(rng, "no signal left", (4, 2), silent=True)]


def loss_oracle(v_hat: Any, x_0: Any, eps: Any, t: Any, abar: Any, gamma: float) -> np.ndarray:
    """Solve for the estimate of x_0 that the prediction means, and weigh its own error."""
    losses = []
    for b, step in enumerate(t):
        alpha, sigma = np.sqrt(abar[step]), np.sqrt(1 - abar[step])
        x_t = alpha * x_0[b] + sigma * eps[b]
        right = np.stack([x_t.ravel(), v_hat[b].ravel()])
        x_0_hat, _ = np.linalg.solve([[alpha, sigma], [-sigma, alpha]], right)
        snr = (alpha / sigma) ** 2
        losses.append(min(snr, gamma) * np.mean((x_0[b].ravel() - x_0_hat) ** 2))
    return np.array(losses)


clipped_loss = Exercise(
    id="clipped_loss",
    dots=1,
    points=2.0,
    hints=(
        "At a fixed x_t, an error of v is an error of the data times a number. Which number?",
        "Write x_0 with x_t and v, the estimate with x_t and v_hat, and subtract. Divide by nothing that can be 0.",
    ),
    cases=loss_cases,
    oracle=loss_oracle,
    messages={
        "values": "The loss is not the clipped weight times the squared error of the data.",
        "images": IMAGES,
        "no signal left": "Where no signal is left the loss is wrong: it must be a finite number.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def clipped_loss(v_hat, x_0, eps, t, abar, gamma):
    alpha, sigma = (per_sample(a, x_0) for a in (abar[t].sqrt(), (1 - abar[t]).sqrt()))
    x_0_hat = alpha * (alpha * x_0 + sigma * eps) - sigma * v_hat
    snr = (abar / (1 - abar))[t]
    error = (x_0 - x_0_hat).flatten(1).pow(2).mean(1)
    return torch.where(snr < gamma, snr, gamma) * error
""",
        """
def clipped_loss(v_hat, x_0, eps, t, abar, gamma):
    losses = []
    for b in range(len(t)):
        a = abar[t[b]].item()
        weight = min(a, gamma * (1 - a))
        v = math.sqrt(a) * eps[b] - math.sqrt(1 - a) * x_0[b]
        losses.append(weight * torch.nn.functional.mse_loss(v_hat[b], v))
    return torch.stack(losses)
""",
    ),
    wrong=(
        Wrong(
            "weight = noise * (",
            "weight = (",
            "values",
            "That weight belongs to the error of the data; the error of v is larger.",
        ),
        Wrong(
            "weight = noise * (",
            "weight = noise / signal * (",
            "values",
            "That weight belongs to a network that predicts the noise.",
        ),
        Wrong("clamp(max=", "clamp(min=", "values", "The weight was kept above gamma; it must stay below."),
        Wrong(
            "(signal / noise).clamp",
            "(signal / noise).sqrt().clamp",
            "values",
            "The signal-to-noise ratio is a ratio of variances: this is its root.",
        ),
        Wrong(
            "v = v - per_sample",
            "v = v + per_sample",
            "values",
            "The sign of the data in v: read its definition again.",
        ),
        Wrong(
            ".flatten(1).mean(1)",
            ".mean()",
            "values",
            "The mean went over the batch too: then the weights meet the wrong errors.",
        ),
        Wrong(
            "weight = noise * (signal / noise).clamp(max=gamma)",
            "weight = signal * (signal / noise).clamp(max=gamma) / (signal / noise)",
            "no signal left",
            "The road over the error of the noise divides by the SNR: where no signal is left, it is 0.",
        ),
        Wrong(".flatten(1).mean(1)", ".mean(-1)", "images", "Only one axis was averaged: an image has three."),
    ),
    equivalent={
        "return weight * (v_hat - v).square().flatten(1).mean(1)": "the difference is squared",
    },
)


def chain_case(rng: np.random.Generator, check: str, shape: tuple[int, ...]) -> Case:
    T = int(rng.integers(6, 10))
    t = rng.integers(2, T + 1, shape[0])
    t[0], t[-1] = 2, T
    abar = table(rng, T)
    data = rng.choice([-1.0, 1.0], shape)
    level = per_sample(abar[t], data)
    x_t = np.sqrt(level) * data + np.sqrt(1 - level) * rng.normal(size=shape)
    return Case(check, (x_t, rng.normal(size=shape), t, abar))


def chain_cases(rng: np.random.Generator) -> list[Case]:
    cases = [chain_case(rng, check, shape) for check, shape in SHAPES.items()]
    x_t, z, t, abar = chain_case(rng, "the step to the data", (4, 3)).args
    return [*cases, Case("the step to the data", (x_t, z, np.ones_like(t), abar))]


def chain_oracle(x_t: Any, z: Any, t: Any, abar: Any) -> np.ndarray:
    """Weigh the two possible values of each number of x_0 by Bayes, and put their mean into the posterior."""
    out = np.zeros(x_t.shape)
    for b, step in enumerate(t):
        x, a = x_t[b].ravel(), abar[step]
        likelihood = np.exp(-((x - np.sqrt(a) * np.array([[-1.0], [1.0]])) ** 2) / (2 * (1 - a)))
        x_0 = (likelihood[1] - likelihood[0]) / likelihood.sum(0)
        mean, var = posterior(abar, 0, step - 1, step, x_0, x)
        out[b] = (mean + np.sqrt(max(var, 0.0)) * z[b].ravel()).reshape(x_t.shape[1:])
    return out


step_by_score = Exercise(
    id="step_by_score",
    dots=2,
    points=3.0,
    hints=(
        "Divide x_t by the factor of the data in it: what is then the standard deviation of the noise?",
        "When a variable is divided by a number, what happens to the slope of its log-density?",
    ),
    cases=chain_cases,
    oracle=chain_oracle,
    messages={
        "values": "The step is wrong.",
        "images": IMAGES,
        "the step to the data": "The last step, from t = 1 to the data, is wrong: it adds no noise.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def step_by_score(x_t, z, t, abar):
    a, a_s = per_sample(abar[t], x_t), per_sample(abar[t - 1], x_t)
    varsigma = torch.sqrt(1 / a - 1)
    u = x_t / a.sqrt()
    x_0 = u + varsigma**2 * score_net(u, varsigma)
    eps = -varsigma * score_net(u, varsigma)
    var = (1 - a_s) / (1 - a) * (1 - a / a_s)
    return a_s.sqrt() * x_0 + (1 - a_s - var).clamp(min=0).sqrt() * eps + var.sqrt() * z
""",
        """
def step_by_score(x_t, z, t, abar):
    out = torch.empty_like(x_t)
    for b, i in enumerate(t):
        now, before = abar[i], abar[i - 1]
        root = now.sqrt()
        x_0 = (x_t[b] + (1 - now) * score_net(x_t[b] / root, (1 - now).sqrt() / root) / root) / root
        beta = 1 - now / before
        mean = before.sqrt() * beta * x_0 + (1 - beta).sqrt() * (1 - before) * x_t[b]
        out[b] = mean / (1 - now) + (beta * (1 - before) / (1 - now)).sqrt() * z[b]
    return out
""",
    ),
    wrong=(
        Wrong(
            "score_net(x_t / late.sqrt(), noise)",
            "score_net(x_t, noise)",
            "values",
            "The network was trained on data that nothing has shrunk; x_t contains shrunk data.",
        ),
        Wrong(
            "((1 - late) / late).sqrt()",
            "(1 - late).sqrt()",
            "values",
            "That is the noise in x_t. Its level in the variable that the network sees is another.",
        ),
        Wrong(
            "noise) / late.sqrt()",
            "noise)",
            "values",
            "The score of u was used as the score of x_t: a slope changes when the variable is rescaled.",
        ),
        Wrong(
            "x_t + beta * score",
            "x_t - beta * score",
            "values",
            "The score points to where the density is higher: step with it. The noise has the other sign.",
        ),
        Wrong(" / (1 - beta).sqrt()", "", "values", "The noising step shrinks the point, so the step back grows it."),
        Wrong("var.sqrt() * z", "var * z", "values", "The standard deviation multiplies the noise, not the variance."),
        Wrong(
            "beta * (1 - early) / (1 - late)",
            "beta",
            "values",
            "That is the large variance, that of the noising step: with it the last step adds noise too.",
        ),
        Wrong(
            "beta * (1 - early) /",
            "beta * (1 - early).clamp(min=1e-4) /",
            "the step to the data",
            "The variance was kept away from 0, as for its logarithm. Then the last step still adds a little noise.",
        ),
        Wrong(
            "per_sample(abar[t], x_t), per_sample(abar[t - 1], x_t)",
            "abar[t][:, None], abar[t - 1][:, None]",
            "images",
            "One axis was added to the numbers of the samples. That is enough for rows, not for images.",
        ),
    ),
)


def debug_case(
    rng: np.random.Generator, check: str, shape: tuple[int, ...], *, far: bool = False, last: bool = False
) -> Case:
    """x_t from an x_0 that the predicted noise gives back; far: outside [-1, 1]; last: t = 0."""
    T = int(rng.integers(6, 10))
    betas = rng.uniform(0.05, 0.4, T)
    t = np.zeros(shape[0], dtype=int) if last else rng.integers(1, T, shape[0])
    if not last:
        t[0], t[-1] = 1, T - 1
    x_0 = rng.uniform(-0.9, 0.9, shape)
    if far:
        x_0 = rng.uniform(2.2, 3.0, shape) * np.where(np.arange(x_0.size).reshape(shape) % 2, -1, 1)
    eps = rng.normal(size=shape)
    eps[-1] = 3 * np.sign(x_0[-1])  # the mean of this step lies outside [-1, 1], and must
    level = per_sample(np.cumprod(1 - betas)[t], x_0)
    return Case(check, (np.sqrt(level) * x_0 + np.sqrt(1 - level) * eps, eps, rng.normal(size=shape), t, betas))


def debug_cases(rng: np.random.Generator) -> list[Case]:
    return [
        *(debug_case(rng, check, shape) for check, shape in SHAPES.items()),
        debug_case(rng, "an estimate outside [-1, 1]", (5, 3), far=True),
        debug_case(rng, "the last step", (4, 2), last=True),
    ]


def debug_oracle(x: Any, eps_hat: Any, z: Any, t: Any, betas: Any) -> np.ndarray:
    """Divide the noise out of x, cut the rest, and condition the joint Gaussian on it."""
    abar = np.concatenate([[1.0], np.cumprod(1 - betas)])
    out = np.zeros(x.shape)
    for b, step in enumerate(t + 1):
        system = [[np.sqrt(abar[step]), np.sqrt(1 - abar[step])], [0.0, 1.0]]
        x_0 = np.linalg.solve(system, np.stack([x[b].ravel(), eps_hat[b].ravel()]))[0]
        mean, var = posterior(abar, 0, step - 1, step, np.minimum(np.maximum(x_0, -1), 1), x[b])
        out[b] = (mean + np.sqrt(max(var, 0.0)) * z[b].ravel()).reshape(x.shape[1:])
    return out


clipped_step = Exercise(
    id="clipped_step",
    dots=2,
    points=3.0,
    hints=(
        "Take the steps one at a time, and compare each with the posterior. Which is the first that is wrong?",
        "How large should the noise of the last step be? Print each number that goes into it.",
    ),
    cases=debug_cases,
    oracle=debug_oracle,
    messages={
        "values": "A step in the middle of the chain is wrong.",
        "images": IMAGES,
        "an estimate outside [-1, 1]": "The estimate of the data is not clipped before the posterior uses it.",
        "the last step": "The last step, at t = 0, must return the clipped estimate itself.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def clipped_step(x, eps_hat, z, t, betas):
    abar = torch.cat([torch.ones(1, dtype=betas.dtype), torch.cumprod(1 - betas, 0)])
    now, before = per_sample(abar[t + 1], x), per_sample(abar[t], x)
    x_0 = torch.clip(x / now.sqrt() - (1 / now - 1).sqrt() * eps_hat, -1.0, 1.0)
    var = (1 - before) / (1 - now) * (1 - now / before)
    eps = (x - now.sqrt() * x_0) / (1 - now).sqrt()
    return before.sqrt() * x_0 + (1 - before - var).clamp(min=0).sqrt() * eps + var.sqrt() * z
""",
        """
def clipped_step(x, eps_hat, z, t, betas):
    out = []
    for b, i in enumerate(t.tolist()):
        now = math.prod((1 - betas[: i + 1]).tolist())
        x_0 = ((x[b] - math.sqrt(1 - now) * eps_hat[b]) / math.sqrt(now)).clamp(-1, 1)
        if i == 0:
            out.append(x_0)
            continue
        beta = betas[i].item()
        before = now / (1 - beta)
        precision = 1 / (1 - before) + (1 - beta) / beta
        mean = math.sqrt(before) * x_0 / (1 - before) + math.sqrt(1 - beta) * x[b] / beta
        out.append(mean / precision + z[b] / math.sqrt(precision))
    return torch.stack(out)
""",
    ),
    wrong=(
        Wrong(
            "torch.where(t > 0, abar[t - 1], 1.0)",
            "abar[t - 1]",
            "the last step",
            "At t = 0 the index t - 1 is -1: that is the last entry of the table, the level of almost pure noise.",
        ),
        Wrong("var.sqrt() * z", "var * z", "values", "The standard deviation multiplies the noise, not the variance."),
        Wrong(
            "x - (1 - now).sqrt() * eps_hat",
            "x - (1 - now) * eps_hat",
            "values",
            "A root is lost: the noise in x has the standard deviation, not the variance, as its factor.",
        ),
        Wrong(
            ".clamp(-1, 1)",
            "",
            "an estimate outside [-1, 1]",
            "The estimate must be clipped: its posterior then stays near data that can exist.",
        ),
        Wrong(
            "return mean + var.sqrt() * z",
            "return mean.clamp(-1, 1) + var.sqrt() * z",
            "values",
            "Only the estimate of the data lies in [-1, 1]; a noisy point may lie outside.",
        ),
        Wrong(
            "var = beta * (1 - before) / (1 - now)",
            "var = beta",
            "values",
            "That is the large variance, that of the noising step: with it the last step adds noise too.",
        ),
        Wrong(
            "(1 - beta).sqrt() * (1 - before)",
            "now.sqrt() * (1 - before)",
            "values",
            "In the weight of x stands the shrinking of one step: the 'alpha' of the paper is not the 'alpha bar'.",
        ),
        Wrong(
            "per_sample(torch.where(t > 0, abar[t - 1], 1.0), x)",
            "torch.where(t > 0, abar[t - 1], 1.0)[:, None]",
            "images",
            "One axis was added to the numbers of the samples. That is enough for rows, not for images.",
        ),
    ),
    equivalent={
        "abar = (1 - betas).cumprod(-1)": "betas has one axis only, so that it is also the last",
    },
)

EXERCISES = [between, bound_term, clipped_loss, step_by_score, clipped_step]
