"""The checks of the exercises of chapter 12."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."


def table(rng: np.random.Generator, T: int) -> np.ndarray:
    """abar of the steps 0 to T."""
    return np.concatenate([[1.0], np.cumprod(1 - rng.uniform(0.05, 0.4, T))])


def joint(power: float, abar: np.ndarray, i: int) -> np.ndarray:
    """The covariance of x_0, x_i and the noise of x_i, by running the chain on independent numbers."""
    start, noise = np.zeros(i + 1), np.zeros(i + 1)
    start[0] = np.sqrt(power)
    x = start.copy()
    for n in range(1, i + 1):
        keep = abar[n] / abar[n - 1]
        x, noise = np.sqrt(keep) * x, np.sqrt(keep) * noise
        x[n] += np.sqrt(1 - keep)
        noise[n] += np.sqrt(1 - keep)
    noise = noise / np.linalg.norm(noise) if i else noise
    rows = np.stack([start, x, noise])
    return rows @ rows.T


def known_cases(rng: np.random.Generator) -> list[Case]:
    T = int(rng.integers(8, 14))
    power = np.exp(rng.uniform(-3, 3, 60))
    return [
        Case("values", (power, table(rng, T), float(rng.uniform(0.2, 0.8)))),
        Case("many waves", (power[: T + 1], table(rng, T), 0.5)),
        Case("ends", (np.array([1e-9, 1e9]), table(rng, T), float(rng.uniform(0.2, 0.8)))),
    ]


def known_oracle(power: Any, abar: Any, share: Any) -> np.ndarray:
    """Run the chain, and take the squared correlation of x_0 and x_i, step by step until it is too small."""
    last = []
    for p in power:
        i = 0
        while i + 1 < len(abar):
            cov = joint(float(p), abar, i + 1)
            if cov[0, 1] ** 2 / (cov[0, 0] * cov[1, 1]) < share:
                break
            i += 1
        last.append(i)
    return np.array(last)


last_known = Exercise(
    id="last_known",
    dots=1,
    points=2.0,
    hints=(
        "What part of the variance of x_i is signal? That part is also the share of x_0 which the best estimate has.",
        "The share falls from step to step, so counting the steps at which it is large enough gives the last of them.",
    ),
    cases=known_cases,
    oracle=known_oracle,
    messages={
        "values": "The step of some wave is wrong.",
        "many waves": "A step is wrong where there are as many waves as entries of abar.",
        "ends": "A step is wrong for a very weak or a very strong wave: the answers are 0 and T.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def last_known(power, abar, share):
    steps = []
    for p in power.tolist():
        i = 0
        while i + 1 < len(abar) and p * abar[i + 1] * (1 - share) >= share * (1 - abar[i + 1]):
            i += 1
        steps.append(i)
    return torch.tensor(steps)
""",
        """
def last_known(power, abar, share):
    least = share / (share + power * (1 - share))
    return torch.searchsorted(-abar, -least, right=True) - 1
""",
    ),
    wrong=(
        Wrong(
            "(known >= share).sum(1) - 1",
            "(known >= share).sum(1)",
            "values",
            "Step 0 is counted too: with only step 0 good enough the answer is 0.",
        ),
        Wrong(
            "signal = power[:, None] * abar",
            "signal = power[:, None] * abar.sqrt()",
            "values",
            "The scale of the signal is a square root; what competes with the noise is its variance.",
        ),
        Wrong(
            "signal / (signal + 1 - abar)",
            "signal / (signal + (1 - abar).sqrt())",
            "values",
            "Variances add, not standard deviations.",
        ),
        Wrong(
            "signal = power[:, None] * abar",
            "signal = power[:, None].sqrt() * abar",
            "values",
            "The power of a wave is its variance already.",
        ),
        Wrong(
            "known = signal / (signal + 1 - abar)",
            "known = (signal / (signal + 1 - abar)).sqrt()",
            "values",
            "That is the correlation of x_0 and x_i; the share of the variance is its square.",
        ),
    ),
    equivalent={
        "return (known > share).sum(1) - 1": "no share of a random case is exactly the one that is asked for",
    },
)


def shift_cases(rng: np.random.Generator) -> list[Case]:
    return [
        Case("values", (rng.normal(size=(2, 1, 3, 5)),)),
        Case("square", (rng.normal(size=(4, 4, 4, 4)),)),
        Case("one column", (rng.normal(size=(2, 3, 4, 1)),)),
    ]


def numpy_net(x: np.ndarray) -> np.ndarray:
    W = x.shape[-1]
    ramp = np.array([-1.0]) if W == 1 else np.linspace(-1, 1, W)
    return np.tanh(x + ramp) + 0.5 * np.roll(x, 1, -2) * ramp


def shift_oracle(x: Any) -> np.ndarray:
    """Column by column: average what the network says of this column wherever the shift has put it."""
    W = x.shape[-1]
    out = np.zeros(x.shape)
    for column in range(W):
        for place in range(W):
            order = [(column + other - place) % W for other in range(W)]  # the column that comes to each place
            out[..., column] += numpy_net(x[..., order])[..., place] / W
    return out


shift_mean = Exercise(
    id="shift_mean",
    dots=2,
    points=2.0,
    hints=(
        "For one shift: move the columns, ask the network, and move its answer. In which direction, and by how much?",
        "There are as many shifts as columns, and no shift is one of them.",
    ),
    cases=shift_cases,
    oracle=shift_oracle,
    messages={
        "values": "The result is not the mean over the shifts, or an answer was not moved back.",
        "square": "For images with as many rows as columns the result is wrong: columns are the last axis.",
        "one column": "With one column there is one shift, that by nothing.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def shift_mean(x):
    W = x.shape[-1]
    total = torch.zeros_like(x)
    for k in range(W):
        there = torch.cat([x[..., k:], x[..., :k]], -1)
        answer = net(there)
        total = total + torch.cat([answer[..., W - k:], answer[..., :W - k]], -1)
    return total / W
""",
        """
def shift_mean(x):
    W = x.shape[-1]
    index = (torch.arange(W)[None, :] + torch.arange(W)[:, None]) % W
    shifted = torch.stack([x[..., row] for row in index])
    answers = net(shifted)
    back = torch.stack([a[..., row.argsort()] for a, row in zip(answers, index)])
    return back.mean(0)
""",
    ),
    wrong=(
        Wrong(
            ".roll(-k, -1) for",
            ".roll(k, -1) for",
            "values",
            "The answer goes on in the direction of the input: it must come back.",
        ),
        Wrong(
            "net(x.roll(k, -1)).roll(-k, -1)",
            "net(x.roll(k, -1))",
            "values",
            "The answers stay where the shifts have put them: that mean has one value for all columns, nearly.",
        ),
        Wrong(
            "for k in range(W)",
            "for k in range(1, W)",
            "values",
            "No shift belongs to the group too.",
        ),
        Wrong(
            "net(x.roll(k, -1)).roll(-k, -1)",
            "net(x.roll(k, -2)).roll(-k, -2)",
            "values",
            "The rows were shifted; the columns are the last axis.",
        ),
        Wrong(
            "torch.stack(answers).mean(0)",
            "torch.stack(answers).sum(0)",
            "values",
            "The sum is equivariant too, but W times too large.",
        ),
        Wrong(
            "W = x.shape[-1]",
            "W = x.shape[0]",
            "values",
            "As many shifts were taken as there are images.",
        ),
    ),
)


def lost_cases(rng: np.random.Generator) -> list[Case]:
    weights = rng.dirichlet(np.full(6, 2.0))
    n = int(rng.integers(20, 40))
    return [
        Case("values", (weights, n, int(rng.integers(3, 8)))),
        Case("weight 0", (np.array([0.0, 0.4, 0.6]), n, 1)),
        Case("m = 0", (weights, n, 0)),
        Case("m = n", (weights, n, n)),
        Case("many samples", (np.array([0.036, 0.04, 0.044, 0.88]), 5000, 200)),
    ]


def lost_oracle(weights: Any, n: Any, m: Any) -> float:
    """Draw the samples one by one: the law of the count below m, as a vector that each draw moves on."""
    total = 0.0
    for w in weights:
        below = np.zeros(m)
        if m:
            below[0] = 1.0
        for _ in range(n if m else 0):
            below = (1 - w) * below + w * np.concatenate([[0.0], below[:-1]])
        total += below.sum()
    return float(total)


lost_by_chance = Exercise(
    id="lost_by_chance",
    dots=2,
    points=3.0,
    hints=(
        "The expected number of lost modes is a sum of probabilities, one a mode. Which law has the count of one mode?",
        "Powers and binomial coefficients of thousands leave the range of float64; their logarithms do not.",
    ),
    cases=lost_cases,
    oracle=lost_oracle,
    tolerance=1e-6,
    messages={
        "values": "The expected number is wrong for small n.",
        "weight 0": "A mode of weight 0 is lost for certain if m is at least 1.",
        "m = 0": "With m = 0 no mode can be lost.",
        "m = n": "With m = n all samples must lie on the mode.",
        "many samples": "For 5,000 samples the result is wrong or not finite: work with logarithms.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def lost_by_chance(weights, n, m):
    total = 0.0
    for w in weights.tolist():
        for k in range(m):
            if w == 0:
                total += float(k == 0)
            else:
                log_ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
                total += math.exp(log_ways + k * math.log(w) + (n - k) * math.log1p(-w))
    return total
""",
        """
def lost_by_chance(weights, n, m):
    lost = torch.zeros_like(weights)
    log_term = n * torch.log1p(-weights)
    for k in range(m):
        lost = lost + log_term.exp()
        log_term = log_term + math.log((n - k) / (k + 1)) + weights.log() - torch.log1p(-weights)
    return lost.sum()
""",
    ),
    wrong=(
        Wrong(
            "k = torch.arange(m, dtype=weights.dtype)",
            "k = torch.arange(m + 1, dtype=weights.dtype)",
            "values",
            "With exactly m samples a mode is kept.",
        ),
        Wrong(
            "k = torch.arange(m, dtype=weights.dtype)",
            "k = torch.arange(1, m, dtype=weights.dtype)",
            "values",
            "A mode without any sample is lost too.",
        ),
        Wrong(
            "(n - k) * torch.log1p(-p)",
            "n * torch.log1p(-p)",
            "values",
            "Only the samples that are not on the mode have missed it.",
        ),
        Wrong(
            "(ways + log_p).exp().sum()",
            "(ways + log_p).exp().sum(1).mean()",
            "values",
            "The number of lost modes is asked for, not their part of all modes.",
        ),
        Wrong(
            "ways = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)",
            "ways = math.lgamma(n + 1) - torch.lgamma(k + 1)",
            "values",
            "The order of the misses does not count either: a factorial is missing.",
        ),
        Wrong(
            "torch.special.xlogy(k, p)",
            "k * p.log()",
            "weight 0",
            "0 times log 0 is no number; here it stands for 0 to the power 0, which is 1.",
        ),
        Wrong(
            "return (ways + log_p).exp().sum()",
            "return (ways.exp() * log_p.exp()).sum()",
            "many samples",
            "Each factor alone leaves the range of float64: add the logarithms first.",
        ),
    ),
)


def segment_cases(rng: np.random.Generator) -> list[Case]:
    dear, cheap = int(rng.integers(60, 90)), int(rng.integers(8, 12))
    return [
        Case("ties", (6, 1, 1)),
        Case("values", (int(rng.choice([37, 41, 43, 53, 61])), dear, cheap)),
        Case("dear inputs", (int(rng.integers(10, 20)), 1000000, 1)),
    ]


def segment_oracle(T: Any, a: Any, b: Any) -> tuple[int, int]:
    """Play it: keep a list of what is in memory, and watch its largest sum."""
    best = (0, -1)
    for m in range(1, T + 1):
        kept, peak = [], 0
        starts = list(range(0, T, m))
        for _ in starts:
            kept.append(a)
            peak = max(peak, sum(kept))
        for start in reversed(starts):
            for _ in range(start, min(start + m, T)):
                kept.append(b)
                peak = max(peak, sum(kept))
            del kept[len(starts) :]
        if best[1] < 0 or peak < best[1]:
            best = (m, peak)
    return best


best_segment = Exercise(
    id="best_segment",
    dots=2,
    points=2.0,
    hints=(
        "What is in memory while the longest segment runs its backward pass? The inputs, and what else?",
        "The chain has at most T lengths of segments: try them all.",
    ),
    cases=segment_cases,
    oracle=segment_oracle,
    messages={
        "values": "The length or the peak is wrong; the last segment is shorter than the others.",
        "dear inputs": "Inputs that cost more than everything else: one segment is best.",
        "ties": "Of several lengths with the same peak the smallest is asked for.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def best_segment(T, a, b):
    best = None
    for m in range(1, T + 1):
        segments = (T + m - 1) // m
        if best is None or segments * a + m * b < best[1]:
            best = m, segments * a + m * b
    return best
""",
        """
def best_segment(T, a, b):
    m = torch.arange(1, T + 1)
    peak = (T + m - 1) // m * a + m * b
    least = peak.min()
    return (peak == least).nonzero()[0, 0] + 1, least
""",
    ),
    wrong=(
        Wrong(
            "math.ceil(T / m)",
            "T // m",
            "values",
            "The last, shorter segment has an input too.",
        ),
        Wrong(
            "peaks.index(peak) + 1, peak",
            "peaks.index(peak), peak",
            "ties",
            "The list begins with m = 1, Python's count with 0.",
        ),
        Wrong(
            "for m in range(1, T + 1)",
            "for m in range(1, T)",
            "dear inputs",
            "One segment for the whole chain is allowed too.",
        ),
        Wrong(
            "return peaks.index(peak) + 1, peak",
            "return T - peaks[::-1].index(peak), peak",
            "ties",
            "That is the largest of the best lengths.",
        ),
        Wrong(
            "math.ceil(T / m) * a + m * b",
            "math.ceil(T / m) * (a + b)",
            "ties",
            "All steps of a segment are kept while it runs again, not one.",
        ),
        Wrong(
            "peak = min(peaks)",
            "peak = peaks[round(math.sqrt(T)) - 1]",
            "values",
            "The root of T is best only if an input and a step cost the same.",
        ),
    ),
    equivalent={
        "peaks = [math.ceil(T / m) * a + m * b for m in range(1, T + 2)]": "a segment longer than the chain costs more",
    },
)


def noise_case(rng: np.random.Generator, check: str, shape: tuple[int, int]) -> Case:
    T = int(rng.integers(6, 10))
    i = rng.integers(1, T + 1, shape[0])
    i[0], i[-1] = 1, T
    return Case(check, (rng.normal(size=shape), i, np.exp(rng.uniform(-3, 2, shape[1])), table(rng, T)))


def noise_cases(rng: np.random.Generator) -> list[Case]:
    return [noise_case(rng, "values", (6, 3)), noise_case(rng, "as many images as waves", (4, 4))]


def noise_oracle(c: Any, i: Any, power: Any, abar: Any) -> np.ndarray:
    """Run the chain of each wave, and regress its noise on what is seen."""
    out = np.zeros(c.shape)
    for b, step in enumerate(i):
        for k, p in enumerate(power):
            cov = joint(float(p), abar, int(step))
            out[b, k] = cov[2, 1] / cov[1, 1] * c[b, k]
    return out


wave_noise = Exercise(
    id="wave_noise",
    dots=2,
    points=2.0,
    hints=(
        "Which symbol stands for a variance, and which for a standard deviation? Check each line in turn.",
        "Take a wave of very small power: then x_i is noise times its scale, and the estimate must give it back.",
    ),
    cases=noise_cases,
    oracle=noise_oracle,
    messages={
        "values": "The estimate of the noise is wrong.",
        "as many images as waves": "With as many images as waves, steps and powers have changed places.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def wave_noise(c, i, power, abar):
    keep = abar[i].unsqueeze(1)
    x_0 = keep.sqrt() * power * c / (keep * power + 1 - keep)
    return (c - keep.sqrt() * x_0) / (1 - keep).sqrt()
""",
        """
def wave_noise(c, i, power, abar):
    rows = []
    for row, step in zip(c, i.tolist()):
        snr = abar[step] * power / (1 - abar[step])
        rows.append(row / (1 + snr) / (1 - abar[step]).sqrt())
    return torch.stack(rows)
""",
    ),
    wrong=(
        Wrong(
            "return noise.sqrt() * c / total",
            "return noise * c / total",
            "values",
            "The noise in x_i is the standard deviation times eps: its covariance with eps is the standard deviation.",
        ),
        Wrong(
            "total = keep * power + noise",
            "total = keep * power + noise.sqrt()",
            "values",
            "Variances add, so the noise enters the total with its variance.",
        ),
        Wrong(
            "total = keep * power + noise",
            "total = keep.sqrt() * power + noise",
            "values",
            "The signal is scaled by a root, and its variance by the square of that.",
        ),
        Wrong(
            "keep = abar[i][:, None]",
            "keep = abar[i - 1][:, None]",
            "values",
            "abar[0] belongs to the data, abar[i] to step i.",
        ),
        Wrong(
            "keep = abar[i][:, None]",
            "keep = abar[i]",
            "values",
            "One step for each image, one power for each wave: the steps need an axis more.",
        ),
    ),
)

EXERCISES = [last_known, shift_mean, lost_by_chance, best_segment, wave_noise]
