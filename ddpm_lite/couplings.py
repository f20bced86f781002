"""Which noise goes with which data point: the pairs (x0, x1) that a flow is trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ot_couple", "reflow_pairs"]

LEVELS, SWEEPS = 4, 7  # what is spent on prices for the solver: they change its time, not its result


def ot_couple(x0: Tensor, x1: Tensor) -> Tensor:
    """Minibatch optimal transport: x1 in the order that minimises sum_i |x0_i - x1_i|^2, exactly.

    x0 keeps its order, so labels stay with their points. Only -2 x0_i . x1_j of the squared distance depends on
    the order. The time is cubic in B at worst. As B grows the pairs tend to the optimal transport plan; at any B
    they leave x1 dependent on x0, so the velocity learned from them no longer gives the score.

    x0, x1: (B, *shape). Returns (B, *shape), the samples of x1 permuted. Needs SciPy.

    Raises ValueError when x0 and x1 differ in shape or hold a number that is not finite.
    Source: Tong et al. 2023, alg. 3.   Book: ch. 14
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    if x0.shape != x1.shape or x0.ndim < 2:
        raise ValueError(f"x0 has shape {tuple(x0.shape)}, x1 {tuple(x1.shape)}: give both the same (B, *shape)")
    cost = (-x0.detach().flatten(1).double() @ x1.detach().flatten(1).double().mT).cpu().numpy()  # (B, B)
    if not np.isfinite(cost.sum()):
        raise ValueError("x0 or x1 holds a number that is not finite: remove it")
    _, order = linear_sum_assignment(_priced(cost))
    return x1[torch.from_numpy(order).to(x1.device)]


def _priced(cost: np.ndarray) -> np.ndarray:
    """The cost less a price a column, such that most rows find their smallest number in a column of their own.

    A price changes every assignment's cost alike, so the best one stays the best, and the solver finds it several
    times faster. The prices come from Sinkhorn's iteration at falling heat. Writes into cost.
    """
    import numpy as np

    cost -= cost.min(1, keepdims=True)
    cost -= cost.min(0)  # not below 0, with a 0 in every row and column
    heat = 0.2 * (float(cost.mean()) or 1.0)
    plan = cost.astype(np.float32)
    plan *= -1 / heat
    np.exp(plan, out=plan)
    a: np.ndarray = np.ones(len(plan), np.float32)
    b, prices = a, np.zeros(len(plan))
    for level in range(LEVELS):
        if level:
            plan *= a[:, None]
            plan *= b
            plan *= plan
            plan *= plan  # the power 4: a quarter of the heat
            heat /= 4
        a = np.ones_like(a)
        for _ in range(SWEEPS):
            b = 1 / (a @ plan)
            a = 1 / (plan @ b)
        prices += heat * np.log(b)
    cost -= prices
    return cost


def reflow_pairs(generate: Callable[[Tensor], Tensor], x1: Tensor, *, block: int = 4096) -> tuple[Tensor, Tensor]:
    """The pairs of a trained flow, to train the next, straighter one on: x0 = generate(x1), without gradients.

    generate: noise (b, *shape) -> samples (b, *shape), for example `lambda x: sample(step, den, path, x, ts)`;
    it sees at most `block` samples at a time. x1: (B, *shape), noise. Returns (x0, x1), x0 in the dtype of x1.
    For the exact flow both marginals are kept and no convex transport cost grows; on a line the pairs are already
    the optimal ones, so that one Euler step along them is exact.

    Raises ValueError when block is below 1 or generate returns another shape.
    Source: Liu et al. 2022 (rectified flow), alg. 1.   Book: ch. 14
    """
    if block < 1:
        raise ValueError(f"block = {block}: give the number of samples at a time, at least 1")
    with torch.no_grad():
        x0 = torch.cat([generate(part) for part in x1.split(block)]).to(x1)
    if x0.shape != x1.shape:
        raise ValueError(f"generate returned shape {tuple(x0.shape)}: it must return that of x1, {tuple(x1.shape)}")
    return x0, x1
