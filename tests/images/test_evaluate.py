"""Measures of samples: against sets whose answer is known by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ddpm_lite import frechet_distance
from ddpm_lite.images import evaluate
from ddpm_lite.images.data import Images, load
from ddpm_lite.nets.classifier import Classifier, ClassifierConfig


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def reader() -> Classifier:
    return evaluate.train_classifier(load("digits"), epochs=8)


def test_the_classifier_reads_digits_that_it_has_not_seen(reader: Classifier) -> None:
    assert evaluate.accuracy(reader, load("digits", split="test")) > 0.95
    assert not reader.training


def test_the_classifier_is_the_same_for_the_same_seed() -> None:
    a, b, c = (evaluate.train_classifier(load("digits"), epochs=1, seed=s) for s in (0, 0, 1))
    same = [torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)]
    assert all(same)
    assert not torch.equal(a.last.weight, c.last.weight)


def test_the_callers_random_numbers_stay() -> None:
    before = torch.random.get_rng_state()
    evaluate.train_classifier(load("digits"), epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_features_in_blocks_are_those_of_the_whole(reader: Classifier) -> None:
    pixels = load("digits").pixels[:1050]
    parts, read = evaluate.features(reader, pixels, 17)
    with torch.no_grad():
        whole = reader.features(pixels.float() / 8 - 1)
        assert torch.allclose(parts, whole, atol=1e-5)
        assert torch.equal(read, reader(pixels.float() / 8 - 1).argmax(1))


def test_precision_and_recall_by_hand() -> None:
    """Four points on a line at distance 1; k = 1: every neighbourhood is [x - 1, x + 1]."""
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    made = torch.tensor([[0.5], [3.9], [4.1], [9.0]])
    precision, recall = evaluate.precision_recall(real, made, k=1)
    assert precision == 0.5  # .5 and 3.9 lie within 1 of a real point, 4.1 and 9 do not
    # neighbourhoods of the samples: .5 +- 3.4, 3.9 +- .2, 4.1 +- .2, 9 +- 4.9: all four real points but none by 3.9
    assert recall == 1.0
    assert evaluate.precision_recall(real, real + 100, k=1) == (0.0, 0.0)
    with pytest.raises(ValueError, match="k = 3 neighbours need more than 3 points; got 3 and 4"):
        evaluate.precision_recall(real[:3], made)


def test_recall_falls_when_a_part_of_the_data_is_missing() -> None:
    """Two clusters, samples of one of them: precision stays 1, recall is that cluster's share."""
    x = torch.randn(400, 2, generator=seeded(0))
    x[:100] += 50
    made = torch.randn(300, 2, generator=seeded(1))
    precision, recall = evaluate.precision_recall(x, made, k=20)
    assert precision > 0.97
    assert recall == pytest.approx(0.75, abs=0.03)


def test_the_nearest_image_is_found() -> None:
    among = torch.randint(0, 256, (700, 1, 5, 5), generator=seeded(2), dtype=torch.uint8)
    pixels = among[[3, 600, 44]].clone()
    pixels[1, 0, 2, 2] ^= 128
    distance, number = evaluate.nearest(pixels, among)
    assert number.tolist() == [3, 600, 44]
    assert distance.tolist() == pytest.approx([0, 256 / 255 / 5, 0], abs=2e-3)  # one of 25 pixels by 128 levels
    brute = torch.cdist(pixels.flatten(1).double(), among.flatten(1).double()).min(1).values / 127.5 / 5
    assert torch.allclose(distance.double(), brute, atol=2e-3)


def test_a_set_is_measured_beside_its_floor(reader: Classifier) -> None:
    train, test = load("digits"), load("digits", split="test")
    chosen = torch.randperm(1500, generator=seeded(7))[:297]
    copies = evaluate.quality(reader, train.pixels[chosen], train.labels[chosen], train, test)
    noise = torch.randint(0, 17, (297, 1, 8, 8), generator=seeded(8), dtype=torch.uint8)
    bad = evaluate.quality(reader, noise, torch.randint(0, 10, (297,), generator=seeded(9)), train, test)
    one = train.pixels[train.labels == 3][:100]
    narrow = evaluate.quality(reader, one, torch.full((100,), 3), train, test)
    assert copies.frechet < 3 * copies.floor < bad.frechet
    assert copies.nearest == pytest.approx(0, abs=1e-3)
    assert copies.nearest_test > 0.1
    assert copies.as_asked > 0.95
    assert abs(bad.as_asked - 0.1) < 5 * math.sqrt(0.09 / 297)  # five standard errors: false alarm 6e-7
    assert max(bad.precision, bad.recall) < 0.6 < 0.85 < min(copies.precision, copies.recall)
    assert narrow.recall < 0.3 < 0.8 < narrow.precision


def test_the_floor_is_that_of_the_same_classes(reader: Classifier) -> None:
    """Samples of all classes in turn: training images drawn by chance would have a larger distance."""
    train, test = load("digits"), load("digits", split="test")
    asked, pixels = torch.arange(100) % 10, test.pixels[:100]
    by_chance, in_turn = (
        [evaluate.quality(reader, pixels, which, train, test, seed=s).floor for s in range(5)]
        for which in (None, asked)
    )
    assert sum(in_turn) < 0.7 * sum(by_chance)
    drawn = train.pixels[torch.randperm(1500, generator=seeded(2))[:100]]
    real = evaluate.features(reader, test.pixels, 17)[0]
    assert by_chance[2] == pytest.approx(frechet_distance(evaluate.features(reader, drawn, 17)[0], real))


def test_images_without_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="no classes"):
        evaluate.train_classifier(Images(torch.zeros(4, 1, 8, 8, dtype=torch.uint8)))


def test_the_classifier_counts_its_parameters() -> None:
    """Counted by hand: two 3 x 3 convolutions and two normalisations a level, then two linear layers."""
    convolutions = sum(9 * (a * w + w * w) + 4 * w for a, w in ((1, 32), (32, 64), (64, 96)))
    assert sum(p.numel() for p in Classifier().parameters()) == convolutions + 97 * 64 + 65 * 10 == 210_666
    with pytest.raises(ValueError, match="every width must be at least 1"):
        ClassifierConfig(widths=())
