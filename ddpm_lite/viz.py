"""Pictures: every function draws on the axes it is given and hands them back.

Images live in [-1, 1] everywhere else; `image_grid` is the one place that turns them into grey levels or
colours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

__all__ = ["PALETTE", "STYLE", "Palette", "density", "image_grid", "scatter", "vector_field"]


class Palette(NamedTuple):
    """Eight colours that stay apart for colour-blind readers.

    Source: Okabe and Ito, "Color Universal Design" (2008).   Book: ch. 1
    """

    blue: str = "#0072B2"
    vermilion: str = "#D55E00"
    green: str = "#009E73"
    orange: str = "#E69F00"
    purple: str = "#CC79A7"
    sky: str = "#56B4E9"
    yellow: str = "#F0E442"
    black: str = "#000000"


PALETTE = Palette()

# White paper also on a dark page; text is about 12 pixels high when the default figure is 360 pixels wide.
STYLE: dict[str, object] = {
    "figure.figsize": (5.0, 3.6),
    "figure.dpi": 144,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.dpi": 144,
    "savefig.facecolor": "white",
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": f"cycler('color', {list(PALETTE)!r})",
    "lines.linewidth": 2.0,
    "image.cmap": "cividis",
    "image.interpolation": "nearest",
}


def scatter(
    ax: Axes,
    x: Tensor,
    *,
    color: str = PALETTE.blue,
    size: float = 4.0,
    alpha: float = 0.5,
    label: str | None = None,
) -> Axes:
    """Draw 2-D points on axes of equal scale.

    x: (N, 2). `size` is the diameter of a point in typographic points. Raises ValueError for another shape.

    Book: ch. 1
    """
    points = _points(x)
    ax.scatter(points[:, 0], points[:, 1], s=size**2, c=color, alpha=alpha, label=label, linewidths=0)
    ax.set_aspect("equal")
    return ax


def density(
    ax: Axes,
    log_prob: Callable[[Tensor], Tensor],
    *,
    limits: tuple[float, float] = (-3.0, 3.0),
    grid: int = 200,
    levels: int = 8,
    color: str = PALETTE.black,
) -> Axes:
    """Draw the contour lines of a 2-D density, p(x) = exp(log_prob(x)), at `levels` values of p
    spaced evenly between 0 and its maximum.

    log_prob: (N, 2) -> (N,) in nats. `limits` bound both coordinates. Raises ValueError when log_prob returns
    another shape or `limits` do not increase.

    Book: ch. 1
    """
    points = _square(limits, grid)
    values = log_prob(points)
    if values.shape != (len(points),):
        raise ValueError(f"log_prob must map (N, 2) to (N,); it returned {tuple(values.shape)} for N = {len(points)}")
    p = values.exp().detach().cpu().numpy().reshape(grid, grid)
    axis = torch.linspace(*limits, grid).numpy()
    heights = p.max() * torch.arange(1, levels + 1).numpy() / (levels + 1)
    ax.contour(axis, axis, p, levels=heights, colors=color, linewidths=1.0)
    ax.set_aspect("equal")
    return ax


def vector_field(
    ax: Axes,
    field: Callable[[Tensor], Tensor],
    *,
    limits: tuple[float, float] = (-3.0, 3.0),
    grid: int = 20,
    color: str = PALETTE.black,
) -> Axes:
    """Draw a 2-D vector field as arrows on a square grid; the longest arrow is about one cell long.

    field: (N, 2) -> (N, 2), such as a score or a velocity at a fixed t. `limits` bound both coordinates.
    Raises ValueError when `field` returns another shape or `limits` do not increase.

    Book: ch. 4
    """
    points = _square(limits, grid)
    arrows = field(points)
    if arrows.shape != points.shape:
        raise ValueError(f"field must map (N, 2) to (N, 2); it returned {tuple(arrows.shape)}")
    base, tip = points.numpy(), arrows.detach().cpu().numpy()
    cell = (limits[1] - limits[0]) / (grid - 1)
    longest = arrows.detach().norm(dim=1).max().item()
    scale = longest / cell if longest > 0 else 1.0
    ax.quiver(*base.T, *tip.T, color=color, angles="xy", scale_units="xy", scale=scale, width=0.004)
    ax.set_aspect("equal")
    return ax


def image_grid(ax: Axes, x: Tensor, *, columns: int = 8) -> Axes:
    """Draw images in rows of `columns`, with a white line of one pixel between them.

    x: (N, C, H, W) in [-1, 1] with C = 1 (grey) or 3 (red, green, blue); -1 is black and 1 is white. Values
    outside are drawn as the nearest of the two. Raises ValueError for other shapes.

    Book: ch. 7
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3) or len(x) == 0:
        raise ValueError(f"x must be images of shape (N, 1 or 3, H, W) with N > 0; got {tuple(x.shape)}")
    if columns < 1:
        raise ValueError(f"columns must be at least 1; got {columns}")
    n, c, h, w = x.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    sheet = torch.ones(c, rows * (h + 1) - 1, columns * (w + 1) - 1)
    levels = ((x.detach().float().cpu() + 1) / 2).clamp(0, 1)  # (N, C, H, W) in [0, 1]
    for i, image in enumerate(levels):
        top, left = i // columns * (h + 1), i % columns * (w + 1)
        sheet[:, top : top + h, left : left + w] = image
    ax.imshow(sheet.permute(1, 2, 0).squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    return ax


def _points(x: Tensor) -> np.ndarray:
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"x must have shape (N, 2); got {tuple(x.shape)}. Choose two coordinates: x[:, :2].")
    return x.detach().cpu().numpy()


def _square(limits: tuple[float, float], grid: int) -> Tensor:
    """The (grid * grid, 2) points of a square grid, the first coordinate running fastest."""
    low, high = limits
    if not low < high or grid < 2:
        raise ValueError(f"limits must increase and grid be at least 2; got limits={limits}, grid={grid}")
    axis = torch.linspace(low, high, grid)
    return torch.cartesian_prod(axis, axis).flip(1)
