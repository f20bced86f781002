"""All measures of a trained model in one go: `ddpm-lite evaluate`."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from ..likelihood import bits_per_dim, dequantise, ode_log_prob, vlb
from ..nets.classifier import Classifier
from ..paths import Path as NoisePath
from ..predict import Denoiser
from ..rng import derived_seed
from ..samplers import angle_ts, logsnr_ts
from .checkpoints import Trained
from .data import Images, as_float, load
from .evaluate import nearest, quality, train_classifier
from .sampling import grid, sample_images
from .shipped import NAMES, load_classifier, open_model
from .watch import held_out_loss

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["bits", "copies", "evaluate", "reader_of"]

PROBE, NOISE, SPREAD = range(3)  # what a seed is for
CHAIN = 1000  # steps of the bound


def evaluate(
    model: str | Path,
    *,
    n: int = 2000,
    steps: int = 20,
    guidance: float = 1.0,
    sampler: str = "dpmpp",
    seed: int = 0,
    bits_of: int = 32,
    pairs: Path | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure n samples of a model, of all classes in turn, against the test images of its data.

    model: the name of a shipped model, a state, or the folder of a run; its data must have a test split. The measures
    are those of `Quality`, the loss on test images, and bits a dimension of the first bits_of test images (0: none).
    pairs: a picture, samples above the training images that are nearest to them.
    Raises ValueError for data without a test split, OSError where the data cannot be had.

    Book: ch. 17
    """
    trained = open_model(model, device=device)
    train, test = (load(trained.config.data, split=split) for split in ("train", "test"))
    classes = trained.config.network.classes
    labels = torch.arange(n) % classes if classes else None
    options: dict[str, Any] = {"steps": steps, "guidance": guidance, "sampler": sampler, "seed": seed}
    pixels = sample_images(trained, n, labels=labels, progress=True, **options)
    found = quality(reader_of(trained.config.data, train), pixels, labels, train, test)._asdict()
    if pairs is not None:
        copies(pixels[:20], train).save(pairs)
    measured = {**found, "test_loss": held_out_loss(trained, test)}
    if bits_of:
        measured |= bits(trained, test, bits_of, seed=seed)
    return {"data": trained.config.data, "n": n, **options, "bits_of": bits_of, "measured": measured}


def reader_of(data: str, train: Images) -> Classifier:
    """Return the classifier of a set of images: shipped, or trained on them now."""
    return load_classifier(data) if data in NAMES else train_classifier(train)


def copies(pixels: Tensor, train: Images) -> Image:
    """Return a picture: samples in the upper rows of pairs, the nearest training images below them."""
    _, number = nearest(pixels, train.pixels, train.levels)
    rows = zip(pixels.split(10), train.pixels[number].split(10), strict=True)
    return grid(torch.cat([each for pair in rows for each in pair]), levels=train.levels, columns=10)


def bits(trained: Trained, images: Images, n: int, *, seed: int = 0) -> dict[str, float]:
    """Return bits a dimension of the first n images, by the ODE and by the variational bound of 1,000 steps.

    Both are upper bounds of the bits of the images, which are spread over their bins and come with their classes; each
    has its standard error over images. The ODE takes Hutchinson's estimate with random signs, and both start from
    N(0, sigma^2 + alpha^2 sd^2) at the path's noisy end.

    Book: ch. 11
    """
    net, config, form = trained
    path = config.noise_path()
    device = next(net.parameters()).device
    some = images.to(device)
    cond = some.labels[:n] if config.network.classes and some.labels is not None else None
    den = Denoiser(net, path, config.prediction(), cond=cond)
    x0 = dequantise(as_float(some.pixels[:n], form.levels), form.levels, generator=_generator(seed, SPREAD))
    probe = torch.randint(0, 2, x0.shape, generator=_generator(seed, PROBE)).to(x0) * 2 - 1
    prior = partial(_log_prior, std=_noisy_std(path, config.sigma_data))
    flow_ts = angle_ts(path, 8, middle=0.3, t_min=_time(path, 0.08 / form.levels)).flip(0)
    log_p = ode_log_prob(den, path, x0, flow_ts, prior=prior, probe=probe, data_std=config.sigma_data)
    chain_ts = logsnr_ts(path, CHAIN, t_max=_time(path, 20.0), t_min=_time(path, 0.5 / form.levels)).flip(0)
    with torch.no_grad():
        bound = vlb(den, path, x0, chain_ts.to(x0.dtype), generator=_generator(seed, NOISE))
    out: dict[str, float] = {}
    for name, nats in (("ode_bits", -log_p), ("bound_bits", bound)):
        each = bits_per_dim(nats, form.shape, levels=form.levels)
        out |= {name: each.mean().item(), f"{name}_error": each.std().item() / math.sqrt(n)}
    return out


def _time(path: NoisePath, ratio: float) -> float:
    """The time where sigma/alpha has this value, or the nearest one that the path reaches."""
    least, most = (-path.lam(0.0)).exp().item(), (-path.lam(1.0)).exp().item()
    inside = torch.tensor(min(max(ratio, 1.01 * least), most), dtype=torch.float64)
    return min(path.t_of(-inside.log()).item(), 1.0)


def _noisy_std(path: NoisePath, data_std: float) -> float:
    c = path.coefs(torch.tensor(1.0, dtype=torch.float64))
    return math.hypot(c.sigma.item(), c.alpha.item() * data_std)


def _log_prior(x: Tensor, std: float) -> Tensor:
    return -0.5 * (x.flatten(1) / std).square().sum(1) - x[0].numel() * math.log(std * math.sqrt(2 * math.pi))


def _generator(seed: int, purpose: int) -> Generator:
    return Generator().manual_seed(derived_seed(seed, purpose))
