"""How good samples are: a classifier's reading, Frechet distance, precision and recall, the nearest training image.

The classifier is trained here, on the training images alone, and never sees a sample.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from ..metrics import frechet_distance
from ..nets.classifier import Classifier, ClassifierConfig
from ..train import batches, fit
from .data import Images, as_float, shifts

__all__ = ["Quality", "accuracy", "features", "nearest", "precision_recall", "quality", "train_classifier"]

_BLOCK = 1000


class Quality(NamedTuple):
    """Measures of a set of samples against test images, each beside what training images get in their place.

    frechet: the Frechet distance on the classifier's features; floor: that of as many training images. as_asked: the
    part of samples that the classifier reads as asked; test_accuracy: the part of test images that it reads right.
    precision: the part of samples that lie among the test images; recall: the part of test images that lie among the
    samples. nearest: the median distance to the nearest training image, a pixel; nearest_test: that of test images;
    closest, closest_test: the least instead of the median.
    """

    frechet: float
    floor: float
    as_asked: float
    test_accuracy: float
    precision: float
    recall: float
    nearest: float
    nearest_test: float
    closest: float
    closest_test: float


def train_classifier(images: Images, *, epochs: int = 8, seed: int = 0) -> Classifier:
    """Train a classifier from a fixed seed, on images shifted by up to two pixels; eval mode.

    Raises ValueError for images without classes.
    """
    if images.labels is None:
        raise ValueError("these images have no classes: put each class into a folder of its own")
    with torch.random.fork_rng(devices=[]):  # weights and dropout draw from torch's own numbers
        torch.manual_seed(seed)
        return _trained_classifier(images, epochs, Generator().manual_seed(seed))


def _trained_classifier(images: Images, epochs: int, generator: Generator) -> Classifier:
    assert images.labels is not None
    net = Classifier(ClassifierConfig(images.pixels.shape[1], len(images.classes)))

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        pixels = shifts(batch[0], 2, generator=generator)
        return cross_entropy(net(as_float(pixels, images.levels)), batch[1], reduction="none", label_smoothing=0.1)

    size = min(128, len(images))
    rows = batches((images.pixels, images.labels), size, generator=generator)
    fit(loss, net, rows, steps=epochs * (len(images) // size), lr=lambda u: 3e-3 * (1 - u))
    return net


def features(net: Classifier, pixels: Tensor, levels: int = 256) -> tuple[Tensor, Tensor]:
    """Return the features (N, F) and the classes read (N,) of uint8 images, in blocks."""
    parts, read = [], []
    with torch.no_grad():
        for block in pixels.split(_BLOCK):
            part = net.features(as_float(block, levels))
            parts.append(part)
            read.append(net.last(part).argmax(1))
    return torch.cat(parts), torch.cat(read)


def accuracy(net: Classifier, images: Images) -> float:
    """Return the part of images whose class the network reads."""
    assert images.labels is not None
    return (features(net, images.pixels, images.levels)[1] == images.labels).double().mean().item()


def precision_recall(real: Tensor, made: Tensor, *, k: int = 3) -> tuple[float, float]:
    """Return the part of samples inside the real set's neighbourhoods, and of the real set inside the samples'.

    A point is inside a set if it is nearer to one of its points than that point's k-th neighbour in the set.
    real: (N, F), made: (M, F), N and M above k. Raises ValueError otherwise.

    Source: Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models" (2019).
    Book: ch. 17
    """
    if min(len(real), len(made)) <= k:
        raise ValueError(f"k = {k} neighbours need more than {k} points; got {len(real)} and {len(made)}")

    def inside(points: Tensor, among: Tensor) -> float:
        # the first is the point itself
        radius = torch.cat([torch.cdist(b, among).kthvalue(k + 1, 1).values for b in among.split(_BLOCK)])
        hits = [(torch.cdist(b, among) <= radius).any(1) for b in points.split(_BLOCK)]
        return torch.cat(hits).double().mean().item()

    return inside(made, real), inside(real, made)


def nearest(pixels: Tensor, among: Tensor, levels: int = 256) -> tuple[Tensor, Tensor]:
    """Return the root mean square distance a pixel to the nearest of many images, and its number.

    pixels: (N, C, H, W), among: (M, C, H, W), uint8 -> (N,) in units of [-1, 1], (N,).
    """
    flat = as_float(among, levels).flatten(1)
    found = []
    for block in as_float(pixels, levels).flatten(1).split(_BLOCK // 4):
        square = flat.square().sum(1) - 2 * block @ flat.T + block.square().sum(1, keepdim=True)
        found.append(square.min(1))
    least, number = (torch.cat([each[i] for each in found]) for i in range(2))
    return (least.clamp(min=0) / flat.shape[1]).sqrt(), number


def quality(
    net: Classifier, pixels: Tensor, asked: Tensor | None, train: Images, test: Images, *, seed: int = 0
) -> Quality:
    """Measure samples against test images; as many training images, drawn by the seed, give the floor.

    pixels: (N, C, H, W) uint8; asked: (N,) the classes that were asked for, which the training images of the floor then
    have too, or None: chance would leave a larger distance.
    """
    chosen = _like(train, len(pixels), asked, Generator().manual_seed(seed))
    made, read = features(net, pixels, train.levels)
    real, _ = features(net, test.pixels, test.levels)
    base, _ = features(net, train.pixels[chosen], train.levels)
    inside, covered = precision_recall(real, made)
    near, near_test = (nearest(each, train.pixels, train.levels)[0] for each in (pixels, test.pixels[: len(pixels)]))
    return Quality(
        frechet=frechet_distance(made, real),
        floor=frechet_distance(base, real),
        as_asked=float("nan") if asked is None else (read == asked).double().mean().item(),
        test_accuracy=accuracy(net, test),
        precision=inside,
        recall=covered,
        nearest=near.median().item(),
        nearest_test=near_test.median().item(),
        closest=near.min().item(),
        closest_test=near_test.min().item(),
    )


def _like(train: Images, n: int, asked: Tensor | None, generator: Generator) -> Tensor:
    """The numbers of n training images drawn without replacement, with as many of each class as were asked for."""
    order = torch.randperm(len(train), generator=generator)
    if asked is None or train.labels is None:
        return order[:n]
    labels = train.labels[order]
    return torch.cat([order[labels == each][: int((asked == each).sum())] for each in asked.unique()])
