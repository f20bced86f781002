"""Energy-based models, p(x) = exp(-E(x)) / Z: their score, and learning from a difference of energies."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .mcmc import value_and_gradient

__all__ = ["ReplayBuffer", "cd_loss", "score_of"]

Energy = Callable[[Tensor], Tensor]  # (B, *shape) -> (B,)


def score_of(energy: Energy) -> Callable[[Tensor], Tensor]:
    """The score of exp(-E)/Z, which does not depend on Z: s(x) = -grad_x E(x).

    Works under `torch.no_grad()`, as samplers need. Where gradients are on, the score can be differentiated again, by
    parameters and by x: `implicit_sm(score_of(energy), x)` trains.

    energy: (B, *shape) -> (B,). Returns a function (B, *shape) -> (B, *shape).

    The function raises ValueError when energy does not return (B,).   Book: ch. 3
    """
    return lambda x: -value_and_gradient(energy, x)[1]


def cd_loss(energy: Energy, x_pos: Tensor, x_neg: Tensor, *, reg: float = 0.0) -> Tensor:
    """Contrastive divergence: E(x_pos) - E(x_neg) + reg (E(x_pos)^2 + E(x_neg)^2).

    Its gradient in the parameters is that of -log p(x_pos) if x_neg comes from the model itself (reg = 0); nothing
    flows back through x_neg. What the chain that makes x_neg starts from gives the method its name, and its bias:

        x_neg = langevin(score_of(energy), x, step=h, n=k)                   # CD-k: start at the data
        x_neg = langevin(score_of(energy), randn_like(x), step=h, n=1000)    # MCMC maximum likelihood: at noise

        start, slots = buffer.draw(randn_like(x), restart=0.05)              # PCD: where the last chains ended
        x_neg = langevin(score_of(energy), start, step=h, n=k)
        buffer.put(slots, x_neg)

    The loss itself says nothing about the fit. The fixed point is biased where the chain is. On unit-variance Gaussian
    data and `langevin` of step h it is the precision (1 - sqrt(1 - 2h))/h for every k: 1.1716 at h = .25, not 1. With
    `mala`, which leaves the model as it is, it is 1. Short chains from data never see modes far from all data.

    x_pos, x_neg: (B, *shape). Returns (B,).

    Raises ValueError when the shapes differ, reg < 0, or energy does not return (B,).
    Source: Hinton 2002; Tieleman 2008 (PCD); Du & Mordatch 2019 (reg).   Book: ch. 3
    """
    if x_neg.shape != x_pos.shape:
        raise ValueError(f"x_neg has shape {tuple(x_neg.shape)}: give it the shape of x_pos, {tuple(x_pos.shape)}")
    if not reg >= 0:
        raise ValueError(f"reg = {reg}: give 0, or a small positive number")
    low, high = energy(x_pos), energy(x_neg.detach())
    for value in (low, high):
        if value.shape != x_pos.shape[:1]:
            raise ValueError(f"energy returned shape {tuple(value.shape)}: it must return ({len(x_pos)},)")
    return low - high + reg * (low.square() + high.square())


class ReplayBuffer:
    """Samples of many chains that go on from one training step to the next (persistent contrastive divergence).

    x: (N, *shape), where the chains start. It holds these samples and nothing else, in `.x`; as the model learns
    they lag behind it, so k steps and the learning rate must let them follow.

    Raises ValueError when x has no sample.   Source: Tieleman 2008; Du & Mordatch 2019.   Book: ch. 3
    """

    def __init__(self, x: Tensor) -> None:
        if x.ndim < 2 or not len(x):
            raise ValueError(f"x has shape {tuple(x.shape)}: give (N, *shape), one starting point a chain")
        self.x = x.detach().clone()

    def draw(
        self, fresh: Tensor, *, restart: float = 0.05, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """len(fresh) different chains: where they stand, and their slots for `put`.

        Each starts again at its point of fresh with probability restart, .05 in Du & Mordatch 2019.

        fresh: (B, *shape), B <= N. Returns (B, *shape) and (B,).

        Raises ValueError when fresh has the wrong shape or too many points, or restart lies outside [0, 1].
        """
        if fresh.shape[1:] != self.x.shape[1:] or not 0 < len(fresh) <= len(self.x):
            raise ValueError(f"fresh has shape {tuple(fresh.shape)}: give 1 to N samples like {tuple(self.x.shape)}")
        if not 0 <= restart <= 1:
            raise ValueError(f"restart = {restart}: give the share of chains that start again, from 0 to 1")
        device = self.x.device if generator is None else generator.device
        slots = torch.randperm(len(self.x), generator=generator, device=device)[: len(fresh)].to(self.x.device)
        again = torch.rand(len(fresh), generator=generator, device=device).to(self.x.device) < restart
        start = self.x[slots]
        start[again] = fresh.detach()[again].to(start)
        return start, slots

    def put(self, slots: Tensor, x: Tensor) -> None:
        """Store where the chains of `draw` stand now: x (B, *shape) at slots (B,).

        Raises ValueError when x has the wrong shape.
        """
        if x.shape != (len(slots), *self.x.shape[1:]):
            raise ValueError(f"x has shape {tuple(x.shape)}: give {(len(slots), *self.x.shape[1:])}, a sample a slot")
        self.x[slots] = x.detach().to(self.x)
