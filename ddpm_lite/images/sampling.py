"""Draw images from a trained network: every image has a seed of its own, so the batch size changes nothing."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor

from ..guidance import cfg
from ..paths import Path as NoisePath
from ..predict import DenoiseFn, Denoiser
from ..rng import derived_seed
from ..samplers import adams, ddim_step, dpmpp_2m, heun_step, iterate, karras_ts
from .checkpoints import Trained
from .data import as_levels
from .shipped import open_model

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SAMPLERS", "grid", "movie", "noise_levels", "sample_images", "starts", "trajectory", "write"]

Solver = Callable[[DenoiseFn, NoisePath, Tensor, Tensor, float], Iterator[Tensor]]

# what a command line may name; all follow the probability-flow ODE. Order 5 needs more steps on a network of images.
SAMPLERS: dict[str, Solver] = {
    "dpmpp": lambda den, path, x, ts, data_std: dpmpp_2m(den, path, x, ts),
    "adams": lambda den, path, x, ts, data_std: adams(den, path, x, ts, data_std=data_std, order=3),
    "heun": lambda den, path, x, ts, data_std: iterate(heun_step, den, path, x, ts),
    "ddim": lambda den, path, x, ts, data_std: iterate(ddim_step, den, path, x, ts),
}


def sample_images(
    trained: Trained,
    n: int,
    *,
    labels: Tensor | None = None,
    steps: int = 20,
    guidance: float = 1.0,
    sampler: str = "dpmpp",
    seed: int = 0,
    batch: int = 64,
    progress: bool = False,
) -> Tensor:
    """Return n images, (n, C, H, W) uint8, on the CPU: image i depends on seed and i, on nothing else.

    labels: (n,) classes, or None for images of no class. guidance: 0 for no class, 1 for the class, more for guided.
    Raises ValueError for labels that do not exist, and for a guidance or a sampler that cannot be.

    Book: ch. 17
    """
    from tqdm import tqdm

    done = []
    for first in tqdm(range(0, n, batch), desc="batches", disable=not progress):
        part = slice(first, min(first + batch, n))
        chosen = None if labels is None else labels[part]
        *_, x = trajectory(
            trained, range(n)[part], labels=chosen, steps=steps, guidance=guidance, sampler=sampler, seed=seed
        )
        done.append(as_levels(x, trained.form.levels).cpu())
    return torch.cat(done)


def trajectory(
    trained: Trained,
    numbers: range,
    *,
    labels: Tensor | None = None,
    steps: int = 20,
    guidance: float = 1.0,
    sampler: str = "dpmpp",
    seed: int = 0,
) -> Iterator[Tensor]:
    """Yield the images with these numbers at every step, from noise, (B, C, H, W) in the scale of the path."""
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}; got {sampler!r}")
    device, path = next(trained.net.parameters()).device, trained.config.noise_path()
    den, ts = _guided(trained, labels, guidance, device), noise_levels(path, steps)
    x = path.coefs(ts[0]).sigma.item() * starts(trained.form.shape, numbers, seed).to(device)
    with torch.no_grad():
        yield from SAMPLERS[sampler](den, path, x, ts, trained.config.sigma_data)


def _guided(trained: Trained, labels: Tensor | None, guidance: float, device: torch.device) -> DenoiseFn:
    """The network's denoiser for these labels, guided away from the one without a class."""
    net, config, _ = trained
    free = Denoiser(net, config.noise_path(), config.prediction())
    if labels is None:
        return free
    if not config.network.classes:
        raise ValueError("labels were given to a network without classes: leave them out")
    if labels.min() < 0 or labels.max() >= config.network.classes:
        raise ValueError(f"labels must be in 0..{config.network.classes - 1}; got {labels.unique().tolist()}")
    return cfg(replace(free, cond=labels.to(device)), free, guidance)


def noise_levels(path: NoisePath, steps: int) -> Tensor:
    """EDM's levels of sigma/alpha from 80, or from the path's noisiest level, down to .002, then 0."""
    noisiest, cleanest = (-path.lam(1.0)).exp().item(), (-path.lam(0.0)).exp().item()
    return karras_ts(path, steps, sigma_max=min(80.0, noisiest), sigma_min=max(0.002, 1.01 * cleanest))


def starts(shape: tuple[int, ...], numbers: range, seed: int) -> Tensor:
    """Return standard normal noise, one image a number, each from a generator of its own; (B, C, H, W)."""
    seeds = (derived_seed(seed, number) for number in numbers)
    return torch.stack([torch.randn(shape, generator=Generator().manual_seed(each)) for each in seeds])


def grid(pixels: Tensor, *, levels: int = 256, columns: int | None = None, scale: int | None = None) -> Image:
    """Return a picture of all images, row by row, with a line of white between them.

    pixels: (N, C, H, W) uint8. scale: pixels a side of one pixel; without it, small images are enlarged to about 56.
    """
    from PIL import Image

    n, c, h, w = pixels.shape
    columns = min(columns or math.ceil(n**0.5), n)
    rows, scale = math.ceil(n / columns), scale or max(1, 56 // h)
    bytes_ = (pixels.double() * (255 / (levels - 1))).round().to(torch.uint8)
    bytes_ = bytes_.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    sheet = torch.full((c, rows * (h * scale + 2) + 2, columns * (w * scale + 2) + 2), 255, dtype=torch.uint8)
    for k, image in enumerate(bytes_):
        top, left = 2 + k // columns * (h * scale + 2), 2 + k % columns * (w * scale + 2)
        sheet[:, top : top + h * scale, left : left + w * scale] = image
    return Image.fromarray(sheet[0].numpy() if c == 1 else sheet.permute(1, 2, 0).numpy())


def movie(file: str | os.PathLike[str], trained: Trained, numbers: range, *, steps: int = 20, **options: Any) -> Tensor:
    """Write the way from noise to images as an endless GIF and return the images, uint8.

    Each state is divided by sqrt(sigma^2 / sd^2 + alpha^2), so that its variance is about that of the data.
    options: as for `trajectory`.
    """
    form, sd, path = trained.form, trained.config.sigma_data, trained.config.noise_path()
    c = path.coefs(noise_levels(path, steps))
    scales = torch.hypot(c.sigma / sd, c.alpha).tolist()
    states = trajectory(trained, numbers, steps=steps, **options)
    frames = [as_levels(x / scale, form.levels).cpu() for x, scale in zip(states, scales, strict=True)]
    sheets = [grid(each, levels=form.levels) for each in frames]
    sheets[0].save(file, save_all=True, append_images=sheets[1:], duration=[80] * steps + [2000], loop=0)
    return frames[-1]


def write(
    file: Path,
    model: str | Path,
    n: int,
    *,
    labels: list[int] | None = None,
    batch: int = 64,
    device: str = "cpu",
    **options: Any,
) -> Path:
    """Draw n images and write them by the ending of the file: a sheet, a movie, or pixels with their labels.

    model: as for `open_model`. labels: classes, taken in turn; None takes all, or none where the network has none.
    Raises ValueError for another ending, n < 1 and a model that is not there.
    """
    if file.suffix not in (".png", ".gif", ".npz") or n < 1:
        raise ValueError(f"give n >= 1 and a file .png, .gif or .npz; got n={n}, {file}")
    trained = open_model(model, device=device)
    chosen = torch.tensor(labels) if labels else torch.arange(trained.config.network.classes)
    cond = chosen[torch.arange(n) % len(chosen)] if len(chosen) else None
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".gif":
        movie(file, trained, range(n), labels=cond, **options)
        return file
    pixels = sample_images(trained, n, labels=cond, batch=batch, progress=True, **options)
    if file.suffix == ".png":
        grid(pixels, levels=trained.form.levels).save(file)
    else:
        arrays: dict[str, Any] = {"pixels": pixels.numpy()} | ({} if cond is None else {"labels": cond.numpy()})
        np.savez_compressed(file, **arrays)
    return file
