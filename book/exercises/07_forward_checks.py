"""The checks of the exercises of chapter 7."""

from __future__ import annotations

import numpy as np

from ddpm_lite.grading import Case, Exercise, Wrong

UNCHANGED = "An argument was changed in place: the caller still needs it."


def abar_table(rng: np.random.Generator, T: int) -> np.ndarray:
    return np.cumprod(1 - rng.uniform(0.1, 0.5, T))


def larger_cases(rng: np.random.Generator) -> list[Case]:
    T, k = int(rng.integers(4, 9)), int(rng.choice([3, 5]))
    ends_clean = abar_table(rng, T)
    ends_clean[-1] = 0.0
    return [
        Case("values", (abar_table(rng, T), k)),
        Case("values", (abar_table(rng, 1), k)),
        Case("terminal SNR 0", (ends_clean, k)),
    ]


def larger_oracle(abar: np.ndarray, k: int) -> np.ndarray:
    """Bisect for each new abar with the averaging filter written out, then make each step end at its variance."""
    averaging = np.full((k, k), 1 / k**2)
    low, high = np.zeros_like(abar), np.ones_like(abar)
    for _ in range(200):
        middle = (low + high) / 2
        signal, noise = middle * averaging.sum() ** 2, (1 - middle) * (averaging**2).sum()
        too_clean = signal * (1 - abar) > abar * noise
        low, high = np.where(too_clean, low, middle), np.where(too_clean, middle, high)
    var, betas = 0.0, []
    for target in 1 - high:
        betas.append((target - var) / (1 - var))
        var = target
    return np.array(betas)


larger_image = Exercise(
    id="larger_image",
    dots=1,
    points=2.0,
    hints=(
        "The mean of a block keeps the signal. By what factor does it shrink the variance of the noise?",
        "Change the SNR first, then go back to abar, and get each beta from two neighbours. What is before step 1?",
    ),
    cases=larger_cases,
    oracle=larger_oracle,
    messages={
        "values": "With these betas the mean of a block does not have the SNR of the old pixel.",
        "terminal SNR 0": "Where the old schedule ends with abar = 0, the new betas are wrong.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def larger_image(abar, k):
    lam = torch.log(abar / (1 - abar)) / 2 - math.log(k)
    log_abar = torch.nn.functional.logsigmoid(2 * lam)
    return -torch.expm1(torch.diff(log_abar, prepend=torch.zeros(1, dtype=abar.dtype)))
""",
        """
def larger_image(abar, k):
    kept, betas = 1.0, torch.empty_like(abar)
    for i, old in enumerate(abar.tolist()):
        new = old / (k * k - (k * k - 1) * old)
        betas[i] = 1 - new / kept
        kept = new
    return betas
""",
    ),
    wrong=(
        Wrong("k**2", "k", "values", "A block has more pixels than its side is long: count the noises in the mean."),
        Wrong(
            "abar / (abar + k**2 * (1 - abar))",
            "k**2 * abar / (k**2 * abar + 1 - abar)",
            "values",
            "Larger images are easier to read through noise, so they need more noise, not less.",
        ),
        Wrong(
            "torch.cat([new.new_ones(1), new[:-1]])",
            "torch.cat([new[1:], new.new_ones(1)])",
            "values",
            "The table was shifted the wrong way: a step starts from the state before it, and step 1 from clean data.",
        ),
        Wrong(
            "new.new_ones(1)",
            "new[:1]",
            "values",
            "The first beta came out as 0: before step 1 the data are clean.",
        ),
        Wrong(
            "1 - new / before",
            "1 - (new / before).sqrt()",
            "values",
            "beta is a variance, and abar is a product of 1 - beta: there is no square root.",
        ),
        Wrong(
            "return 1 - new / before",
            "return (1 - new / before).clamp(max=0.999)",
            "terminal SNR 0",
            "Nobody asked for a limit on beta: where nothing of the data is left, the last beta is 1.",
        ),
    ),
)


def noise_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, shape: tuple[int, ...], betas: np.ndarray) -> Case:
        return Case(check, (rng.normal(size=shape), betas))

    def draw(T: int) -> np.ndarray:
        return rng.uniform(0.05, 0.6, T)

    T = int(rng.integers(5, 9))
    return [
        case("values", (T, 3, 2), draw(T)),
        case("values", (1, 4, 4), draw(1)),
        case("images", (T, 3, 2, 4, 3), draw(T)),
        case("last beta is 1", (T, 3, 2), np.append(draw(T - 1), 1.0)),
        case("tiny betas", (T, 3, 2), 1e-13 * draw(T)),
    ]


def noise_oracle(z: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Run the chain from x0 = 0, together with its variance."""
    x, var = np.zeros_like(z[0]), 0.0
    for beta, fresh in zip(betas, z, strict=True):
        x, var = np.sqrt(1 - beta) * x + np.sqrt(beta) * fresh, (1 - beta) * var + beta
    return x / np.sqrt(var)


total_noise = Exercise(
    id="total_noise",
    dots=2,
    points=3.0,
    hints=(
        "Follow one noise to the end of the chain: which steps shrink it after it was added?",
        "The shrunken noises are independent, so their variances add up to that of the noise in x_T.",
    ),
    cases=noise_cases,
    oracle=noise_oracle,
    messages={
        "values": "With this noise the closed form does not give the x_T of the chain.",
        "images": "For samples with several axes the noise is wrong.",
        "last beta is 1": "When the last step leaves nothing of what was there before, the noise is wrong.",
        "tiny betas": "With betas near 1e-13 digits are lost: 1 - abar was the difference of two equal numbers.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def total_noise(z, betas):
    x, var = torch.zeros_like(z[0]), 0.0
    for beta, fresh in zip(betas, z):
        x = (1 - beta).sqrt() * x + beta.sqrt() * fresh
        var = (1 - beta) * var + beta
    return x / var**0.5
""",
        """
def total_noise(z, betas):
    T = len(betas)
    chain = torch.eye(T, dtype=z.dtype) - torch.diag((1 - betas[1:]).sqrt(), -1)
    weights = torch.linalg.solve(chain, torch.diag(betas.sqrt()))[-1]
    return torch.tensordot(weights / weights.norm(), z, dims=1)
""",
    ),
    wrong=(
        Wrong("betas * after", "betas**2 * after", "values", "The step adds sqrt(beta) times its noise, not beta."),
        Wrong(
            "after.flip(0).cumprod(0).flip(0)",
            "after.cumprod(0)",
            "values",
            "A noise is shrunk by the steps that come after it, not by those before: the first noises are the weakest.",
        ),
        Wrong(
            "torch.cat([1 - betas[1:], betas.new_ones(1)])",
            "1 - betas",
            "values",
            "A step shrinks what was there before it; its own fresh noise is not shrunk.",
        ),
        Wrong("(share / share.sum()).sqrt()", "share.sqrt()", "values", "This is the noise in x_T; scale it to 1."),
        Wrong("(share / share.sum()).sqrt()", "share / share.sum()", "values", "Variances were taken as weights."),
        Wrong('"t,t...->..."', '"t,tbd->bd"', "images", "A sample may have any number of axes, not only one."),
        Wrong(
            "after.flip(0).cumprod(0).flip(0)",
            "(1 - betas).prod() / (1 - betas).cumprod(0)",
            "last beta is 1",
            "A product over the later steps as a quotient of two products: with beta = 1 it is 0/0.",
        ),
        Wrong(
            "share.sum()",
            "(1 - (1 - betas).prod())",
            "tiny betas",
            "1 - abar cancels when abar is near 1. The same number is a sum of positive terms that you have.",
        ),
    ),
    equivalent={
        "after = after.flip(0).cumprod(0).flip(-1)": "after has a single axis",
        "after = after.flip(0).cumprod(-1).flip(0)": "after has a single axis",
        "after = after.flip(-1).cumprod(0).flip(0)": "after has a single axis",
    },
)


def levels(rng: np.random.Generator, N: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales of any size, with a ratio of noise to signal that rises."""
    alpha = rng.uniform(0.4, 1.6, N)
    return alpha, alpha * np.cumsum(rng.uniform(0.2, 0.9, N))


def level_cases(rng: np.random.Generator) -> list[Case]:
    def variance() -> float:
        return float(rng.uniform(0.3, 0.8) * rng.choice([1, 4]))

    alpha, sigma = levels(rng, int(rng.integers(4, 8)))
    return [
        Case("values", (alpha, sigma, variance())),
        Case("values", (*levels(rng, 1), variance())),
        Case("values", (alpha, np.append(0.0, sigma[1:]), variance())),
        Case("pure noise last", (np.append(alpha[:-1], 0.0), sigma, variance())),
    ]


def level_oracle(alpha: np.ndarray, sigma: np.ndarray, v: float) -> np.ndarray:
    """Write every level as a sum of the data and of fresh independent noises, one for each step."""
    N = len(alpha)
    sums = np.zeros((N, N + 1))  # of x0 and the noises, whose variances are v, 1, ..., 1
    sums[0, :2] = alpha[0], sigma[0]
    for i in range(1, N):
        sums[i] = alpha[i] / alpha[i - 1] * sums[i - 1]
        sums[i, i + 1] = np.sqrt(sigma[i] ** 2 - (sums[i, 1:] ** 2).sum())
    return sums @ np.diag([v, *[1.0] * N]) @ sums.T


level_covariance = Exercise(
    id="level_covariance",
    dots=2,
    points=3.0,
    hints=(
        "Write the noisier point as a multiple of the cleaner one plus fresh noise.",
        "Fresh noise has no covariance with what was there before. So which of the two levels gives its variance?",
    ),
    cases=level_cases,
    oracle=level_oracle,
    messages={
        "values": "The covariances are not those of one forward process.",
        "pure noise last": "Where the last level has alpha = 0, the covariances are wrong.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def level_covariance(alpha, sigma, v):
    N = len(alpha)
    cov = torch.zeros(N, N, dtype=alpha.dtype)
    for i in range(N):
        cov[i, i] = alpha[i] ** 2 * v + sigma[i] ** 2
        for j in range(i + 1, N):
            cov[i, j] = cov[j, i] = alpha[j] / alpha[j - 1] * cov[i, j - 1]
    return cov
""",
        """
def level_covariance(alpha, sigma, v):
    ratio = (sigma / alpha) ** 2
    noise = torch.outer(alpha, alpha) * torch.minimum(ratio, ratio[:, None])
    noise.diagonal().copy_(sigma**2)
    return v * torch.outer(alpha, alpha) + noise
""",
    ),
    wrong=(
        Wrong(
            "factor * var[:, None]",
            "(torch.outer(alpha, alpha) * v + torch.outer(sigma, sigma)).triu(1)",
            "values",
            "Here both levels have the same epsilon. In a forward process only a part of the noise is common.",
        ),
        Wrong(
            "factor * var[:, None]",
            "(torch.outer(alpha, alpha) * v).triu(1)",
            "values",
            "Here the noises are independent. In a forward process the noise of the cleaner level stays.",
        ),
        Wrong("var[:, None]", "var", "values", "The variance of the noisier level holds fresh noise: take the other."),
        Wrong(
            "(alpha / alpha[:, None]).triu(1)",
            "(alpha / alpha[:, None] > 0).double().triu(1)",
            "values",
            "On the way to the noisier level the point is not only noised: it is also scaled.",
        ),
        Wrong(
            "upper + upper.mT", "upper", "values", "A covariance matrix is symmetric: both orders of the two levels."
        ),
        Wrong(
            "(alpha / alpha[:, None]).triu(1)",
            "(alpha / alpha[:, None]) * torch.ones(len(alpha), len(alpha)).triu(1)",
            "pure noise last",
            "alpha / alpha is 0/0 at the last level, and 0 times NaN is NaN: do not divide there.",
        ),
    ),
)


def sde_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, B: int, D: int, M: int) -> Case:
        F = 0.8 * rng.normal(size=(D, D)) - 0.5 * np.eye(D)
        return Case(check, (rng.normal(size=(B, D)), F, rng.normal(size=(D, M)), float(rng.uniform(0.5, 1.2))))

    damping, push = rng.uniform(0.5, 2.0, 2)
    velocity = np.array([[0.0, damping], [-damping, -2 * damping]])
    coasting = np.array([[0.0, 1.0], [0.0, 0.0]])
    noise = np.array([[0.0], [push]])
    return [
        case("values", 3, 3, 3),
        case("values", 2, 4, 3),
        Case("too few eigenvectors", (rng.normal(size=(3, 2)), velocity, noise, float(rng.uniform(0.5, 1.5)))),
        Case("too few eigenvectors", (rng.normal(size=(3, 2)), coasting, noise, float(rng.uniform(0.5, 1.5)))),
    ]


def sde_oracle(x0: np.ndarray, F: np.ndarray, G: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
    """Power series in t of m' = F m and V' = F V + V F^T + G G^T; 80 terms are more than enough."""
    mean, cov = x0.T.copy(), np.zeros_like(F)
    of_mean, of_cov = mean, G @ G.T  # k-th derivatives at 0 times t^k / k!, the second for k + 1
    of_cov = t * of_cov
    for k in range(1, 81):
        of_mean = t / k * F @ of_mean
        mean, cov = mean + of_mean, cov + of_cov
        of_cov = t / (k + 1) * (F @ of_cov + of_cov @ F.T)
    return mean.T, cov


linear_sde = Exercise(
    id="linear_sde",
    dots=3,
    points=4.0,
    hints=(
        "Write the short-time rule for the mean vector and for the covariance matrix, as the chapter does for numbers.",
        "Both are linear equations with constant coefficients. A matrix exponential solves such equations.",
    ),
    cases=sde_cases,
    oracle=sde_oracle,
    messages={
        "values": "Mean or covariance is not that of x_t.",
        "too few eigenvectors": "Where F has fewer eigenvectors than dimensions, the result is wrong.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def linear_sde(x0, F, G, t):
    D, one = len(F), torch.eye(len(F), dtype=F.dtype)
    system = torch.zeros(D * D + 1, D * D + 1, dtype=F.dtype)
    system[:-1, :-1] = torch.kron(F, one) + torch.kron(one, F)
    system[:-1, -1] = (G @ G.T).flatten()
    cov = torch.matrix_exp(t * system)[:-1, -1].reshape(D, D)
    return (torch.matrix_exp(t * F) @ x0.T).T, cov
""",
        """
def linear_sde(x0, F, G, t):
    h, Q = t / 2**20, G @ G.T
    A = torch.eye(len(F), dtype=F.dtype) + h * F + h**2 / 2 * F @ F
    V = h * Q + h**2 / 2 * (F @ Q + Q @ F.T)
    for _ in range(20):  # each step is followed by an equal one
        A, V = A @ A, A @ V @ A.T + V
    return x0 @ A.T, V
""",
        """
def linear_sde(x0, F, G, t):
    def slope(m, V):
        return m @ F.T, F @ V + V @ F.T + G @ G.T

    m, V, n = x0, torch.zeros_like(F), 400
    h = t / n
    for _ in range(n):
        a, A = slope(m, V)
        b, B = slope(m + h / 2 * a, V + h / 2 * A)
        c, C = slope(m + h / 2 * b, V + h / 2 * B)
        d, D = slope(m + h * c, V + h * C)
        m, V = m + h / 6 * (a + 2 * b + 2 * c + d), V + h / 6 * (A + 2 * B + 2 * C + D)
    return m, V
""",
    ),
    wrong=(
        Wrong(
            "A @ both[:D, D:]",
            "t * G @ G.mT",
            "values",
            "Only the noise was added up. The drift moves and shrinks noise that came earlier.",
        ),
        Wrong(
            "A @ both[:D, D:]",
            "t * A @ G @ G.mT @ A.mT",
            "values",
            "All noise was treated as if it had come at the start. It comes at every moment.",
        ),
        Wrong("x0 @ A.mT", "x0 @ A", "values", "A point is a row here, so the matrix that acts on it is transposed."),
        Wrong(
            "torch.matrix_exp(",
            "torch.exp(",
            "values",
            "The exponential of each number is not the exponential of the matrix.",
        ),
        Wrong("G @ G.mT", "2 * G @ G.mT", "values", "G G^T is the growth of the covariance itself, not half of it."),
        Wrong(
            "torch.matrix_exp(t * torch.cat([upper, lower]))",
            "(lambda w, P: (P @ w.exp().diag() @ P.pinverse()).real)(*torch.linalg.eig(t * torch.cat([upper, lower])))",
            "too few eigenvectors",
            "An exponential by eigenvalues needs as many eigenvectors as dimensions, and this matrix has fewer.",
        ),
    ),
)


def cosine_cases(rng: np.random.Generator) -> list[Case]:
    def case(check: str, shape: tuple[int, ...], T: int, i: np.ndarray) -> Case:
        return Case(check, (rng.normal(size=shape), rng.normal(size=shape), i, T))

    T = int(rng.integers(6, 20))

    def inside(B: int) -> np.ndarray:
        return np.append(0, rng.integers(1, T - 1, B - 1))

    return [
        case("values", (4, 4), T, inside(4)),
        case("images", (3, 2, 3, 3), T, inside(3)),
        case("all steps", (3, 2), T, np.full(3, T - 1)),
        case("all steps", (3, 2), 1, np.zeros(3, dtype=np.int64)),
    ]


def cosine_oracle(x0: np.ndarray, eps: np.ndarray, i: np.ndarray, T: int) -> np.ndarray:
    """Walk each sample through its steps: factor of x0 and variance; beta as a product of sines."""
    angles = (np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2
    x = np.empty_like(x0)
    for b, last in enumerate(i):
        factor, var = 1.0, 0.0
        for j in range(last + 1):
            a, c = angles[j], angles[j + 1]
            beta = min(np.sin(c - a) * np.sin(c + a) / np.cos(a) ** 2, 0.999)
            factor, var = factor * np.sqrt(1 - beta), (1 - beta) * var + beta
        x[b] = factor * x0[b] + np.sqrt(var) * eps[b]
    return x


cosine_noising = Exercise(
    id="cosine_noising",
    dots=2,
    points=3.0,
    hints=(
        "Noise a sample to index 0. One step has been taken: is there any noise in the result?",
        "Compare the two tables: does the product of 1 - beta up to index i agree with abar there, also at the last i?",
    ),
    cases=cosine_cases,
    oracle=cosine_oracle,
    messages={
        "values": "The noised samples are not those of the chain at these indices.",
        "images": "For image-shaped samples the result is wrong.",
        "all steps": "After all T steps the result is not that of the chain, whose last beta is limited.",
        "unchanged": UNCHANGED,
    },
    right=(
        """
def cosine_noising(x0, eps, i, T):
    def f(u):
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    kept, table = 1.0, []
    for j in range(1, T + 1):
        kept *= 1 - min(1 - f(j / T) / f((j - 1) / T), 0.999)
        table.append(kept)
    out = torch.empty_like(x0)
    for b, n in enumerate(i.tolist()):
        out[b] = math.sqrt(table[n]) * x0[b] + math.sqrt(1 - table[n]) * eps[b]
    return out
""",
        """
def cosine_noising(x0, eps, i, T):
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    f = (1 + torch.cos((u + 0.008) / 1.008 * math.pi)) / 2
    abar = f[1:] / f[0]
    if T > 1:
        abar[-1] = abar[-2] * 0.001
    else:
        abar[-1] = 0.001
    alpha, sigma = abar[i].sqrt(), (1 - abar[i]).sqrt()
    return torch.einsum("b,b...->b...", alpha, x0) + torch.einsum("b,b...->b...", sigma, eps)
""",
    ),
    wrong=(
        Wrong(
            "abar = (1 - betas).cumprod(0)",
            "abar = f[:-1] / f[0]",
            "values",
            "The table is one step late: index 0 holds clean data. It also ignores the limit on the last beta.",
        ),
        Wrong(
            "abar = (1 - betas).cumprod(0)",
            "abar = f[1:] / f[0]",
            "all steps",
            "The last beta was limited, but this table does not know it: it must come from the betas.",
        ),
        Wrong(".clamp(max=0.999)", "", "all steps", "The limit on beta is gone."),
        Wrong(
            "T + 1, dtype",
            "T, dtype",
            "values",
            "T steps have T + 1 ends: the table has one step too few, and every step is too long.",
        ),
        Wrong("math.pi / 2) ** 2", "math.pi / 2)", "values", "This cosine is the signal scale; abar is its square."),
        Wrong("(1 - now).sqrt()", "(1 - now)", "values", "1 - abar is a variance: noise is scaled by its root."),
        Wrong("now.sqrt() * x0", "now * x0", "values", "abar scales the variance of the data; the data get its root."),
        Wrong(
            ".reshape(-1, *[1] * (x0.ndim - 1))",
            "",
            "values",
            "abar of sample b was multiplied with coordinate b of all samples: pad its shape with ones.",
        ),
        Wrong(
            "abar[i].reshape(-1, *[1] * (x0.ndim - 1))",
            "abar[i].reshape(-1, 1)",
            "images",
            "abar has one number a sample; it must get as many axes as the samples have.",
        ),
    ),
    equivalent={
        "u = torch.linspace(0, 1, T + 1)": "for at most 20 steps float32 stays inside the tolerance: no mistake",
        "abar = (1 - betas).cumprod(-1)": "betas has a single axis",
    },
)

EXERCISES = [larger_image, total_noise, level_covariance, linear_sde, cosine_noising]
