"""The Rosetta table of book/notation.md: each filled cell is evaluated on both sides.

Ours is the package. The paper's side is written in the paper's own recursion, letters and indices. The tests hold
the text of the cell too, so a cell that is edited fails until its check is read again.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from scipy.integrate import quad

import ddpm_lite as dl

PAGE = Path(__file__).parents[2] / "book" / "notation.md"
T = 50
BETAS = torch.linspace(1e-3, 0.2, T, dtype=torch.float64)
STEP = 17  # DDPM's t, from 1 to T
SIGMAS = torch.logspace(1, -1, 10, dtype=torch.float64)  # NCSN's sigma_1 (largest) to sigma_L
LEVEL = 3  # NCSN's i, from 1 to L
TAU = 0.37  # flow time of the flow rows
TIME, EARLIER = 0.63, 0.41  # continuous t and s of the SDE rows

DISCRETE, VP, VE, NCSN = dl.BetaTable(BETAS), dl.VP(), dl.VE(), dl.VE(sigma_min=0.1, sigma_max=10.0)
KARRAS, FLOW = dl.EDM(), dl.RectifiedFlow()
WORLD = dl.book_mixture(2)
X = torch.tensor([[0.3, -0.8], [1.1, 0.2], [-0.4, 0.9]], dtype=torch.float64)


# What the papers define, each by its own recursion


def abar(t: int) -> float:
    """DDPM's abar_t (DDIM's alpha_t), by the product over steps 1 to t."""
    product = 1.0
    for i in range(1, t + 1):
        product *= 1 - BETAS[i - 1].item()
    return product


def beta_int(t: float, s: float = 0.0) -> float:
    """Score-SDE's int_s^t beta for beta(t) = 0.1 + 19.9 t, by quadrature."""
    return quad(lambda u: 0.1 + 19.9 * u, s, t)[0]


def ve_sigma(t: float) -> float:
    """Score-SDE's geometric sigma(t) from 0.01 to 50."""
    return 0.01 * (50 / 0.01) ** t


def ve_variance(t: float, s: float) -> float:
    """int_s^t d[sigma^2](u), by quadrature of its density in u."""
    return quad(lambda u: 2 * ve_sigma(u) ** 2 * math.log(5000), s, t)[0]


def gamma(t: float) -> float:
    """VDM's gamma, with SNR = exp(-gamma), for the linear VP process."""
    return math.log(math.expm1(beta_int(t)))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


# Our side


def ours(path: dl.Path, t: float, what: str) -> float:
    c = path.coefs(torch.tensor(t, dtype=torch.float64))
    values = {"alpha": c.alpha, "sigma": c.sigma, "ratio": c.sigma / c.alpha, "lam": path.lam(t)}
    return values[what].item()


def ncsn_time(i: int) -> float:
    """Our t of NCSN's level i: level 1 is t = 1, level L is t = 0."""
    return 1 - (i - 1) / (len(SIGMAS) - 1)


def ours_step(path: dl.Path, t: float, s: float) -> float:
    return dl.transition(path, t, s, X)[1].item()


def noise_of(step, path: dl.Path, t: float, s: float, **options) -> float:
    """The standard deviation of the noise that a step adds: how its result moves with the draw z."""
    den = WORLD.denoiser(path)
    ends, draws = [], []
    for seed in (0, 1):
        ends.append(step(den, path, X, t, s, generator=torch.Generator().manual_seed(seed), **options))
        draws.append(dl.randn_like(X, generator=torch.Generator().manual_seed(seed)))
    ratios = (ends[0] - ends[1]) / (draws[0] - draws[1])
    assert ratios.std() < 1e-9
    return ratios.mean().item()


def eps_of(path: dl.Path, t: float) -> torch.Tensor:
    return WORLD.denoiser(path)(X, t).eps


def score(path: dl.Path, t: float) -> torch.Tensor:
    """The true score, by central differences of log p_t."""
    h, columns = 1e-5, []
    for axis in torch.eye(2, dtype=torch.float64):
        up, down = (WORLD.log_prob(X + sign * h * axis, path, t) for sign in (1, -1))
        columns.append((up - down) / (2 * h))
    return torch.stack(columns, 1)


def mit_score(tau: float, alpha: float, beta: float, dalpha: float, dbeta: float) -> torch.Tensor:
    """MIT 6.S184's conversion, from the velocity in the clock tau (ours with its sign turned)."""
    u = -dl.encode(WORLD.denoiser(FLOW)(X, 1 - tau), FLOW.at(1 - tau, X), "velocity")
    return (alpha * u - dalpha * X) / (beta * (dalpha * beta - alpha * dbeta))


def mit_noise() -> tuple[torch.Tensor, torch.Tensor]:
    """One whole step of X' = X + h (u + sigma^2/2 score) + sigma sqrt(h) z against our reverse SDE with g = sigma."""
    t, h = 0.6, 0.01
    z = dl.randn_like(X, generator=torch.Generator().manual_seed(0))
    g2 = FLOW.g2(t, X).item()
    u = -dl.encode(WORLD.denoiser(FLOW)(X, t), FLOW.at(t, X), "velocity")
    theirs = X + h * (u + g2 / 2 * WORLD.score(X, FLOW, t)) + (g2 * h) ** 0.5 * z
    step = dl.em_step(WORLD.denoiser(FLOW), FLOW, X, t, t - h, generator=torch.Generator().manual_seed(0))
    return step, theirs


def ddpm_noise() -> tuple[list[float], list[float]]:
    tilde = (1 - abar(STEP - 1)) / (1 - abar(STEP)) * BETAS[STEP - 1].item()
    t, s = STEP / T, (STEP - 1) / T
    pair = [noise_of(dl.ancestral_step, DISCRETE, t, s, variance=v) for v in ("forward", "posterior")]
    return pair, [BETAS[STEP - 1].item() ** 0.5, tilde**0.5]


def ddim_noise() -> tuple[list[float], list[float]]:
    t, s = STEP / T, (STEP - 1) / T
    etas = (0.3, 1.0)
    root = ((1 - abar(STEP - 1)) / (1 - abar(STEP))) ** 0.5 * (1 - abar(STEP) / abar(STEP - 1)) ** 0.5
    return [noise_of(dl.ddim_step, DISCRETE, t, s, eta=eta) for eta in etas], [eta * root for eta in etas]


def churn() -> tuple[float, float]:
    sigma, churned = 2.0, 2.0 * 1.2
    return ours_step(KARRAS, churned / 80, sigma / 80) ** 0.5, (churned**2 - sigma**2) ** 0.5


def langevin() -> tuple[torch.Tensor, torch.Tensor]:
    """One Langevin step with our h = eps/2 and with NCSN's eps."""
    eps, s = 0.02, WORLD.score(X)
    z = dl.randn_like(X, generator=torch.Generator().manual_seed(0))
    h = eps / 2
    return X + h * s + (2 * h) ** 0.5 * z, X + eps / 2 * s + eps**0.5 * z


def guidance() -> tuple[torch.Tensor, torch.Tensor]:
    """Ours uncond + w (cond - uncond); Ho & Salimans (1 + w') cond - w' uncond; MIT (1 - w) uncond + w cond."""
    cond, uncond, w = X, X.flip(0), 2.5
    mine = uncond + w * (cond - uncond)
    ho = (1 + (w - 1)) * cond - (w - 1) * uncond
    return torch.stack([mine, mine]), torch.stack([ho, (1 - w) * uncond + w * cond])


D, N = STEP / T, ncsn_time(LEVEL)
A, SIG = abar(STEP), SIGMAS[LEVEL - 1].item()
KT, KS = 0.05, 0.05 * 80  # our t of EDM and EDM's sigma
CELLS = {
    ("alpha", "DDPM"): (r"$\sqrt{\bar\alpha_t}$", lambda: (ours(DISCRETE, D, "alpha"), A**0.5)),
    ("alpha", "DDIM"): (r"$\sqrt{\alpha_t}$", lambda: (ours(DISCRETE, D, "alpha"), A**0.5)),
    ("alpha", "NCSN"): (r"$1$", lambda: (ours(NCSN, N, "alpha"), 1.0)),
    ("alpha", "SDE, VE"): (r"$1$", lambda: (ours(VE, TIME, "alpha"), 1.0)),
    ("alpha", "SDE, VP"): (
        r"$e^{-\frac12 \int_0^t \beta}$",
        lambda: (ours(VP, TIME, "alpha"), math.exp(-beta_int(TIME) / 2)),
    ),
    ("alpha", "VDM"): (
        r"$\sqrt{\mathrm{sigmoid}(-\gamma_t)}$",
        lambda: (ours(VP, TIME, "alpha"), sigmoid(-gamma(TIME)) ** 0.5),
    ),
    ("alpha", "EDM"): (r"$s(t) = 1$", lambda: (ours(KARRAS, KT, "alpha"), 1.0)),
    ("alpha", "flow matching"): (r"$\tau$", lambda: (ours(FLOW, 1 - TAU, "alpha"), TAU)),
    ("alpha", "MIT 6.S184"): (r"$\alpha_\tau$", lambda: (ours(FLOW, 1 - TAU, "alpha"), TAU)),
    ("sigma", "DDPM"): (r"$\sqrt{1 - \bar\alpha_t}$", lambda: (ours(DISCRETE, D, "sigma"), (1 - A) ** 0.5)),
    ("sigma", "DDIM"): (r"$\sqrt{1 - \alpha_t}$", lambda: (ours(DISCRETE, D, "sigma"), (1 - A) ** 0.5)),
    ("sigma", "NCSN"): (r"$\sigma_i$", lambda: (ours(NCSN, N, "sigma"), SIG)),
    ("sigma", "SDE, VE"): (
        r"$\sigma(t)$",
        lambda: (ours(VE, TIME, "sigma"), (ve_sigma(0.0) ** 2 + ve_variance(TIME, 0.0)) ** 0.5),
    ),
    ("sigma", "SDE, VP"): (
        r"$\sqrt{1 - e^{-\int_0^t \beta}}$",
        lambda: (ours(VP, TIME, "sigma"), (1 - math.exp(-beta_int(TIME))) ** 0.5),
    ),
    ("sigma", "VDM"): (
        r"$\sqrt{\mathrm{sigmoid}(\gamma_t)}$",
        lambda: (ours(VP, TIME, "sigma"), sigmoid(gamma(TIME)) ** 0.5),
    ),
    ("sigma", "EDM"): (r"$\sigma$", lambda: (ours(KARRAS, KT, "sigma"), KS)),
    ("sigma", "flow matching"): (r"$1 - \tau$", lambda: (ours(FLOW, 1 - TAU, "sigma"), 1 - TAU)),
    ("sigma", "MIT 6.S184"): (r"$\beta_\tau$", lambda: (ours(FLOW, 1 - TAU, "sigma"), 1 - TAU)),
    ("step", "DDPM"): (
        r"$\beta_t = 1 - \bar\alpha_t / \bar\alpha_{t-1}$",
        lambda: ([ours_step(DISCRETE, D, D - 1 / T)] * 2, [BETAS[STEP - 1].item(), 1 - A / abar(STEP - 1)]),
    ),
    ("step", "DDIM"): (
        r"$1 - \alpha_t / \alpha_{t-1}$",
        lambda: (ours_step(DISCRETE, D, D - 1 / T), 1 - A / abar(STEP - 1)),
    ),
    ("step", "NCSN"): (
        r"$\sigma_i^2 - \sigma_{i+1}^2$",
        lambda: (ours_step(NCSN, N, ncsn_time(LEVEL + 1)), SIG**2 - SIGMAS[LEVEL].item() ** 2),
    ),
    ("step", "SDE, VE"): (
        r"$\int_s^t \mathrm{d}[\sigma^2]$",
        lambda: (ours_step(VE, TIME, EARLIER), ve_variance(TIME, EARLIER)),
    ),
    ("step", "SDE, VP"): (
        r"$1 - e^{-\int_s^t \beta}$",
        lambda: (ours_step(VP, TIME, EARLIER), 1 - math.exp(-beta_int(TIME, EARLIER))),
    ),
    ("ratio", "DDPM"): (
        r"$\sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}$",
        lambda: (ours(DISCRETE, D, "ratio"), ((1 - A) / A) ** 0.5),
    ),
    ("ratio", "DDIM"): (
        r"$\sqrt{(1 - \alpha_t) / \alpha_t}$",
        lambda: (ours(DISCRETE, D, "ratio"), ((1 - A) / A) ** 0.5),
    ),
    ("ratio", "NCSN"): (r"$\sigma_i$", lambda: (ours(NCSN, N, "ratio"), SIG)),
    ("ratio", "SDE, VE"): (r"$\sigma(t)$", lambda: (ours(VE, TIME, "ratio"), ve_sigma(TIME))),
    ("ratio", "SDE, VP"): (
        r"$\sqrt{e^{\int_0^t \beta} - 1}$",
        lambda: (ours(VP, TIME, "ratio"), (math.exp(beta_int(TIME)) - 1) ** 0.5),
    ),
    ("ratio", "VDM"): (r"$e^{\gamma_t / 2}$", lambda: (ours(VP, TIME, "ratio"), math.exp(gamma(TIME) / 2))),
    ("ratio", "EDM"): (r"$\sigma$", lambda: (ours(KARRAS, KT, "ratio"), KS)),
    ("ratio", "flow matching"): (r"$(1 - \tau) / \tau$", lambda: (ours(FLOW, 1 - TAU, "ratio"), (1 - TAU) / TAU)),
    ("ratio", "MIT 6.S184"): (r"$\beta_\tau / \alpha_\tau$", lambda: (ours(FLOW, 1 - TAU, "ratio"), (1 - TAU) / TAU)),
    ("lam", "DDPM"): (
        r"$\frac12 \log \frac{\bar\alpha_t}{1 - \bar\alpha_t}$",
        lambda: (ours(DISCRETE, D, "lam"), math.log(A / (1 - A)) / 2),
    ),
    ("lam", "DDIM"): (
        r"$\frac12 \log \frac{\alpha_t}{1 - \alpha_t}$",
        lambda: (ours(DISCRETE, D, "lam"), math.log(A / (1 - A)) / 2),
    ),
    ("lam", "NCSN"): (r"$-\log \sigma_i$", lambda: (ours(NCSN, N, "lam"), -math.log(SIG))),
    ("lam", "SDE, VE"): (r"$-\log \sigma(t)$", lambda: (ours(VE, TIME, "lam"), -math.log(ve_sigma(TIME)))),
    ("lam", "SDE, VP"): (
        r"$-\frac12 \log(e^{\int_0^t \beta} - 1)$",
        lambda: (ours(VP, TIME, "lam"), -math.log(math.exp(beta_int(TIME)) - 1) / 2),
    ),
    ("lam", "VDM"): (r"$-\gamma_t / 2$", lambda: (ours(VP, TIME, "lam"), -gamma(TIME) / 2)),
    ("lam", "EDM"): (r"$-\log \sigma$", lambda: (ours(KARRAS, KT, "lam"), -math.log(KS))),
    ("lam", "flow matching"): (
        r"$\log \frac{\tau}{1 - \tau}$",
        lambda: (ours(FLOW, 1 - TAU, "lam"), math.log(TAU / (1 - TAU))),
    ),
    ("lam", "MIT 6.S184"): (
        r"$\log \frac{\alpha_\tau}{\beta_\tau}$",
        lambda: (ours(FLOW, 1 - TAU, "lam"), math.log(TAU / (1 - TAU))),
    ),
    ("noise", "DDPM"): (r"$\sigma_t$, with $\sigma_t^2 = \beta_t$ or $\tilde\beta_t$", ddpm_noise),
    ("noise", "DDIM"): (r"$\sigma_t(\eta)$", ddim_noise),
    ("noise", "NCSN"): (r"$\sqrt{\epsilon}$, our $h = \epsilon / 2$", langevin),
    ("noise", "SDE, VE"): (
        r"$g(t) \sqrt{\Delta t}$",
        lambda: (noise_of(dl.em_step, VE, TIME, TIME - 0.01), (0.01 * 2 * math.log(5000)) ** 0.5 * ve_sigma(TIME)),
    ),
    ("noise", "SDE, VP"): (
        r"$g(t) \sqrt{\Delta t}$",
        lambda: (noise_of(dl.em_step, VP, TIME, TIME - 0.01), (0.01 * (0.1 + 19.9 * TIME)) ** 0.5),
    ),
    ("noise", "EDM"): (r"$S_\mathrm{noise} \sqrt{\hat\sigma^2 - \sigma^2}$", churn),
    ("noise", "MIT 6.S184"): (r"$\sigma_\tau \sqrt{\Delta\tau}$", mit_noise),
    ("score", "DDPM"): (
        r"$-\epsilon_\theta / \sqrt{1 - \bar\alpha_t}$",
        lambda: (score(DISCRETE, D), -eps_of(DISCRETE, D) / (1 - A) ** 0.5),
    ),
    ("score", "DDIM"): (
        r"$-\epsilon_\theta / \sqrt{1 - \alpha_t}$",
        lambda: (score(DISCRETE, D), -eps_of(DISCRETE, D) / (1 - A) ** 0.5),
    ),
    ("score", "NCSN"): (r"$s_\theta$", lambda: (score(NCSN, N), WORLD.score(X, NCSN, N))),
    ("score", "SDE, VE"): (r"$s_\theta$", lambda: (score(VE, TIME), WORLD.score(X, VE, TIME))),
    ("score", "SDE, VP"): (r"$s_\theta$", lambda: (score(VP, TIME), WORLD.score(X, VP, TIME))),
    ("score", "VDM"): (
        r"$-\hat\epsilon / \sigma_t$",
        lambda: (score(VP, TIME), -eps_of(VP, TIME) / sigmoid(gamma(TIME)) ** 0.5),
    ),
    ("score", "EDM"): (
        r"$(D - x) / \sigma^2$",
        lambda: (score(KARRAS, KT), (WORLD.denoiser(KARRAS)(X, KT).x0 - X) / KS**2),
    ),
    ("score", "flow matching"): (
        r"$\frac{\tau u - x}{1 - \tau}$",
        lambda: (
            score(FLOW, 1 - TAU),
            (TAU * -dl.encode(WORLD.denoiser(FLOW)(X, 1 - TAU), FLOW.at(1 - TAU, X), "velocity") - X) / (1 - TAU),
        ),
    ),
    ("score", "MIT 6.S184"): (
        r"$\frac{\alpha_\tau u - \dot\alpha_\tau x}"
        r"{\beta_\tau (\dot\alpha_\tau \beta_\tau - \alpha_\tau \dot\beta_\tau)}$",
        lambda: (score(FLOW, 1 - TAU), mit_score(TAU, TAU, 1 - TAU, 1.0, -1.0)),
    ),
    ("data", "DDPM"): (r"$t = 0$", lambda: (ours(DISCRETE, 0 / T, "sigma"), (1 - abar(0)) ** 0.5)),
    ("data", "DDIM"): (r"$t = 0$", lambda: (ours(DISCRETE, 0 / T, "sigma"), (1 - abar(0)) ** 0.5)),
    ("data", "NCSN"): (r"$i = L$", lambda: (ours(NCSN, 0.0, "sigma"), SIGMAS[len(SIGMAS) - 1].item())),
    ("data", "SDE, VE"): (r"$t = 0$", lambda: (ours(VE, 0.0, "sigma"), ve_sigma(0.0))),
    ("data", "SDE, VP"): (r"$t = 0$", lambda: (ours(VP, 0.0, "alpha"), math.exp(-beta_int(0.0)))),
    ("data", "VDM"): (r"$t = 0$", lambda: (ours(VP, 1e-6, "ratio"), math.exp(gamma(1e-6) / 2))),
    ("data", "EDM"): (r"$\sigma = 0$", lambda: (ours(KARRAS, 0.0, "sigma"), 0.0)),
    ("data", "flow matching"): (r"$\tau = 1$", lambda: (ours(FLOW, 1 - 1.0, "alpha"), 1.0)),
    ("data", "MIT 6.S184"): (r"$\tau = 1$", lambda: (ours(FLOW, 1 - 1.0, "alpha"), 1.0)),
    ("w", "MIT 6.S184"): (r"$w$", guidance),
}
ROWS = ("alpha", "sigma", "step", "ratio", "lam", "noise", "score", "data", "w")


def table() -> dict[tuple[str, str], str]:
    """The filled cells of the page, by row and paper."""
    text = PAGE.read_text(encoding="utf-8").split("## The Rosetta table")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    head, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    papers = [paper.split(" {cite")[0] for paper in head[1:]]
    assert len(body) == len(ROWS)
    filled = {}
    for name, row in zip(ROWS, body, strict=True):
        cells = dict(zip(papers, row[1:], strict=True))
        filled |= {(name, paper): cell for paper, cell in cells.items() if cell}
    return filled


def test_every_filled_cell_has_its_check() -> None:
    assert table() == {key: text for key, (text, _) in CELLS.items()}


@pytest.mark.parametrize("key", CELLS, ids=" / ".join)
def test_both_sides_agree(key: tuple[str, str]) -> None:
    mine, theirs = (torch.as_tensor(side, dtype=torch.float64) for side in CELLS[key][1]())
    tolerance = 1e-8 if key[0] == "score" else 1e-10  # central differences, round-off
    torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)
