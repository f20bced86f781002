"""A look at a run while it trains: the loss on images it has not seen, and samples with their measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ..losses import matching_loss
from ..metrics import frechet_distance
from .checkpoints import Trained
from .config import Config
from .data import Images, load, names
from .evaluate import features
from .sampling import grid, sample_images
from .shipped import NAMES, load_classifier
from .training import Glance, draw

__all__ = ["held_out_loss", "watcher"]

_PARTS = 8  # of the held-out images, so that they fit where a batch fits


def watcher(config: Config, *, n: int = 200, shown: int = 64) -> Callable[[Trained], Glance]:
    """Return what `train` calls after each state, for the data of a run.

    It draws n samples, of all classes in turn, always from the same noise, and shows the first of them. Measures:
    test_loss, where the data has a test split; as_asked and frechet, by the classifier that ships for this data.

    Book: ch. 17
    """
    test = load(config.data, split="test") if config.data in names() else None
    reader = load_classifier(config.data) if config.data in NAMES else None
    classes = config.network.classes
    labels = torch.arange(n) % classes if classes else None

    def look(trained: Trained) -> Glance:
        pixels = sample_images(trained, n, labels=labels)
        measures = {} if test is None else {"test_loss": held_out_loss(trained, test)}
        if reader is not None and test is not None:
            made, read = features(reader, pixels, trained.form.levels)
            real, _ = features(reader, test.pixels[:2000], trained.form.levels)
            measures["frechet"] = frechet_distance(made, real)
            if labels is not None:
                measures["as_asked"] = (read == labels).double().mean().item()
        return Glance(measures, grid(pixels[:shown], levels=trained.form.levels))

    return look


@torch.no_grad()
def held_out_loss(trained: Trained, images: Images, *, n: int = 512, seed: int = 0) -> float:
    """Return the mean training loss of a network on n images, with their labels and as they are.

    The images, times and noise are those of a first training step with this seed: the same at every call.
    """
    net, device = trained.net, next(trained.net.parameters()).device
    config = replace(trained.config, batch=n, drop=0.0, flip=False, shift=0, seed=seed)
    path, kind = config.noise_path(), config.prediction()
    losses = [
        matching_loss(net, path, part.x0, kind=kind, t=part.t, x1=part.x1, cond=part.cond).mean()
        for part in draw(images.to(device), config, 0).split(_PARTS)
    ]
    return torch.stack(losses).mean().item()
