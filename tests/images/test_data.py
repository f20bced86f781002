"""Images: files of our own making in the published layouts, a real server, and the real files where they are."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_lite import toys
from ddpm_lite.images import data as sets


def idx(values: np.ndarray) -> bytes:
    """The published layout, written independently of the reader."""
    header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + b"".join(struct.pack(">I", n) for n in values.shape)
    return gzip.compress(header + values.astype(np.uint8).tobytes())


def made_up(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8)


# The reader of IDX


def test_idx_gives_back_what_was_written(tmp_path: Path) -> None:
    images, labels = made_up(7)
    for name, values in {"a.gz": images, "b.gz": labels}.items():
        (tmp_path / name).write_bytes(idx(values))
        assert np.array_equal(sets.read_idx(tmp_path / name).numpy(), values)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-20], "no whole gzip file"),
        (lambda raw: b"not gzip", "no whole gzip file"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-1]), "announces the shape"),
        (lambda raw: gzip.compress(gzip.decompress(raw) + b"\0"), "announces the shape"),
        (lambda raw: gzip.compress(b"\0\0\x0d" + gzip.decompress(raw)[3:]), "no IDX file of bytes"),
        (lambda raw: gzip.compress(b""), "no IDX file of bytes"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:10]), "announces the shape"),
    ],
    ids=["cut", "text", "too short", "too long", "floats", "empty", "no sizes"],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, damage, message: str) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(damage(idx(made_up(3)[0])))
    with pytest.raises(ValueError, match=message):
        sets.read_idx(path)


# A set of our own on a real server


class Counting(SimpleHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served; the requests stand in Counting.asked."""
    (folder := tmp_path / "served").mkdir()
    Counting.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Counting, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def published(server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """MNIST of our own making in place of the real one; its cache is below tmp_path."""
    folder, address = server
    values, checksums = {}, []
    for stem, n, seed in (("train", 20, 0), ("t10k", 8, 1)):
        images, labels = made_up(n, seed)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            raw = idx(array)
            (folder / f"{stem}-{kind}-ubyte.gz").write_bytes(raw)
            checksums.append(hashlib.sha256(raw).hexdigest())
            values[f"{stem}-{kind}"] = array
    source = sets.SOURCES["mnist"]._replace(addresses=(address,), files=sets._idx_files(*checksums))
    monkeypatch.setitem(sets.SOURCES, "mnist", source)
    monkeypatch.delenv("DDPM_LITE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return values


def test_a_set_is_fetched_once_verified_and_read(published: dict[str, np.ndarray], tmp_path: Path) -> None:
    train, test = sets.load("mnist"), sets.load("mnist", split="test")
    for images, stem in ((train, "train"), (test, "t10k")):
        assert np.array_equal(images.pixels[:, 0].numpy(), published[f"{stem}-images-idx3"])
        assert np.array_equal(images.labels.numpy(), published[f"{stem}-labels-idx1"])
        assert images.pixels.dtype == torch.uint8
        assert images.classes[3] == "3"
    assert len(Counting.asked) == 4
    assert sorted(path.name for path in sets.place("mnist").iterdir()) == sorted(
        name for name, _ in sets.SOURCES["mnist"].files
    )
    assert sets.place("mnist") == tmp_path / "cache" / "ddpm-lite" / "mnist"


@pytest.mark.parametrize("damage", [lambda raw: raw[:100], lambda raw: raw[:-1] + b"x", lambda raw: b""])
def test_a_damaged_file_is_fetched_again_and_no_other(published: dict[str, np.ndarray], damage) -> None:
    path = sets.fetch("mnist") / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    Counting.asked.clear()
    assert np.array_equal(sets.load("mnist", split="test").pixels[:, 0].numpy(), published["t10k-images-idx3"])
    assert Counting.asked == ["/t10k-images-idx3-ubyte.gz"]


def test_a_server_with_another_file_leaves_nothing_behind(
    published: dict[str, np.ndarray], server: tuple[Path, str]
) -> None:
    (server[0] / "train-labels-idx1-ubyte.gz").write_bytes(b"another file")
    with pytest.raises(OSError, match=r"train-labels-idx1-ubyte\.gz, which could not be had") as refused:
        sets.fetch("mnist")
    assert sets.SOURCES["mnist"].files[1].checksum.removeprefix("sha256:") in str(refused.value)
    assert [path.name for path in sets.place("mnist").iterdir()] == ["train-images-idx3-ubyte.gz"]


def test_the_next_address_is_tried(published: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    source = sets.SOURCES["mnist"]
    gone = "http://127.0.0.1:1/"
    monkeypatch.setitem(sets.SOURCES, "mnist", source._replace(addresses=(gone, *source.addresses)))
    assert len(sets.load("mnist")) == 20


def test_without_a_network_the_error_says_which_file_to_put_where(
    published: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sets.SOURCES, "mnist", sets.SOURCES["mnist"]._replace(addresses=("http://127.0.0.1:1/",)))
    with pytest.raises(OSError, match=r"train-images-idx3-ubyte\.gz") as refused:
        sets.load("mnist", folder=tmp_path / "here")
    assert str(tmp_path / "here") in str(refused.value)
    assert "DDPM_LITE_DATA" in str(refused.value)


def test_files_put_there_by_hand_need_no_network(
    published: dict[str, np.ndarray], server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    server[0].rename(tmp_path / "mine" / "mnist")
    monkeypatch.setenv("DDPM_LITE_DATA", str(tmp_path / "mine"))
    monkeypatch.setitem(sets.SOURCES, "mnist", sets.SOURCES["mnist"]._replace(addresses=()))
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    assert len(sets.load("mnist")) == 20
    assert Counting.asked == []


def test_images_and_labels_must_be_as_many(tmp_path: Path) -> None:
    images, labels = made_up(5)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(idx(labels[:4]))
    with pytest.raises(ValueError, match=r"\(5, 28, 28\) images and \(4,\) labels"):
        sets._read_idx_pair(tmp_path, "train")


# CIFAR-10


def archive(path: Path, batches: dict[str, object]) -> str:
    """Write batches as the published archive does; return the md5."""
    with tarfile.open(path, "w:gz") as tar:
        for name, batch in batches.items():
            raw = pickle.dumps(batch, protocol=2)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return hashlib.md5(path.read_bytes()).hexdigest()


def batch(n: int, seed: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    return {"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8), "labels": rng.integers(0, 10, n).tolist()}


def test_cifar_is_read_channel_by_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = {name: batch(4, k) for k, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"])}
    md5 = archive(tmp_path / "cifar-10-python.tar.gz", batches)
    files = (sets._File("cifar-10-python.tar.gz", f"md5:{md5}"),)
    monkeypatch.setitem(sets.SOURCES, "cifar10", sets.SOURCES["cifar10"]._replace(files=files, addresses=()))
    train, test = (sets.load("cifar10", split=split, folder=tmp_path) for split in ("train", "test"))
    assert train.pixels.shape == (20, 3, 32, 32)
    third = batches["data_batch_3"]
    row = third["data"][1].reshape(3, 32, 32)  # red, green, blue, each row by row
    assert np.array_equal(train.pixels[9].numpy(), row)
    assert train.labels[8:12].tolist() == third["labels"]
    assert test.labels.tolist() == batches["test_batch"]["labels"]


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch was_run",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Evil(), r"\.system, which no array needs"),
        ({"data": np.zeros((2, 3072)), "labels": [0, 1]}, "must hold"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "must hold"),
    ],
    ids=["a command", "floats", "one label too few"],
)
def test_a_wrong_batch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / "a.tar.gz", {"test_batch": content})
    with pytest.raises(ValueError, match=message):
        sets.read_cifar(tmp_path / "a.tar.gz", ("test_batch",))
    assert not (tmp_path / "was_run").exists()
    with pytest.raises(ValueError, match="holds no cifar-10-batches-py/data_batch_1"):
        sets.read_cifar(tmp_path / "a.tar.gz", ("data_batch_1",))


def test_another_archive_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / "cifar-10-python.tar.gz", {"test_batch": Evil()})
    monkeypatch.setitem(sets.SOURCES, "cifar10", sets.SOURCES["cifar10"]._replace(addresses=()))
    with pytest.raises(OSError, match="another checksum"):
        sets.load("cifar10", folder=tmp_path)


# A folder of images


def save(path: Path, array: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array, mode).save(path)


def test_a_folder_gives_its_pixels_and_its_folders_as_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cats, dogs = (rng.integers(0, 256, (2, 6, 5, 3), dtype=np.uint8) for _ in range(2))
    for n in range(2):
        save(tmp_path / "dog" / f"{n}.png", dogs[n])
        save(tmp_path / "cat" / "more" / f"{n}.png", cats[n])
    (tmp_path / "notes.txt").write_text("no image")
    images = sets.load(str(tmp_path))
    assert images.classes == ("cat", "dog")
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(images.pixels.permute(0, 2, 3, 1).numpy(), np.concatenate([cats, dogs]))


def test_grey_images_have_one_channel_and_loose_ones_no_class(tmp_path: Path) -> None:
    grey = np.arange(30, dtype=np.uint8).reshape(5, 6)
    save(tmp_path / "a.png", grey)
    images = sets.read_folder(tmp_path)
    assert images.labels is None
    assert np.array_equal(images.pixels[0, 0].numpy(), grey)
    save(tmp_path / "b" / "b.png", np.stack([grey, grey + 1, grey + 2], 2))
    mixed = sets.read_folder(tmp_path)
    assert mixed.labels is None
    assert np.array_equal(mixed.pixels[0].numpy(), np.stack([grey] * 3))


def test_a_size_cuts_the_central_square_and_averages(tmp_path: Path) -> None:
    wide = np.zeros((4, 8), dtype=np.uint8)
    wide[:, 2:4], wide[:2, 4:6] = 100, 40  # the central square is columns 2 to 5
    save(tmp_path / "a.png", wide)
    save(tmp_path / "b.png", wide[:, :4])
    with pytest.raises(ValueError, match="2 sizes"):
        sets.read_folder(tmp_path)
    pixels = sets.load(str(tmp_path), size=2).pixels
    assert pixels[0, 0].tolist() == [[100, 40], [100, 0]]
    assert pixels.shape == (2, 1, 2, 2)


def test_transparency_is_put_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((1, 2, 4), dtype=np.uint8)
    rgba[0, 1] = (10, 20, 30, 255)
    save(tmp_path / "a.png", rgba)
    assert sets.read_folder(tmp_path).pixels[0, :, 0].T.tolist() == [[255, 255, 255], [10, 20, 30]]


def test_a_folder_without_images_and_a_broken_image_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no image"):
        sets.read_folder(tmp_path)
    save(tmp_path / "a.png", np.arange(90_000).astype(np.uint8).reshape(300, 300))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:150])
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image"):
        sets.read_folder(tmp_path)
    save(tmp_path / "a.png", np.arange(4, dtype=np.uint16).reshape(2, 2))
    with pytest.raises(ValueError, match=r"a\.png .* more than 8 bits"):
        sets.read_folder(tmp_path)


# Names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cifar"}, "use one of digits, mnist, fashion, cifar10, or a folder"),
        ({"name": "digits", "split": "valid"}, "split must be 'train' or 'test'; got 'valid'"),
        ({"name": ".", "split": "test"}, "no test split"),
    ],
)
def test_unknown_names_are_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sets.load(**arguments)


def test_only_published_sets_have_a_place() -> None:
    with pytest.raises(ValueError, match="use one of mnist, fashion, cifar10"):
        sets.place("digits")


# Levels and numbers


def test_digits_are_all_there_once() -> None:
    train, test = sets.load("digits"), sets.load("digits", split="test")
    assert (len(train), len(test), train.levels) == (1500, 297, 17)
    rows = torch.cat([sets.as_float(each.pixels, 17) for each in (train, test)]).flatten(1)
    every = toys.digits()[0].flatten(1)
    assert torch.equal(rows[np.lexsort(rows.T.numpy())], every[np.lexsort(every.T.numpy())])
    assert torch.equal(torch.cat([train.labels, test.labels]).bincount(), toys.digits()[1].bincount())


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_levels_and_numbers_are_inverse(levels: int) -> None:
    k = torch.arange(levels).to(torch.uint8)
    x = sets.as_float(k, levels)
    assert (x[0], x[-1]) == (-1, 1)
    assert torch.equal(sets.as_levels(x, levels), k)
    nearly = 0.49 * 2 / (levels - 1)
    assert torch.equal(sets.as_levels(x + nearly, levels), k)  # beyond 1 as well
    assert torch.equal(sets.as_levels(x - nearly, levels), k)


def test_numbers_are_not_converted_twice() -> None:
    with pytest.raises(ValueError, match=r"pixels must be uint8; got torch\.float32"):
        sets.as_float(torch.zeros(1, 1, 2, 2))


# Augmentation


def test_flips_mirror_half_of_the_images() -> None:
    x = torch.arange(2 * 3 * 4, dtype=torch.uint8).reshape(1, 2, 3, 4).repeat(2000, 1, 1, 1)
    y = sets.flips(x, generator=torch.Generator().manual_seed(0))
    mirrored = (y == x.flip(3)).flatten(1).all(1)
    assert torch.equal(mirrored, ~(y == x).flatten(1).all(1))
    assert abs(mirrored.double().mean() - 0.5) < 5 * 0.5 / 2000**0.5  # five standard errors: false alarm 6e-7


def test_shifts_are_those_of_a_mirrored_image_all_equally_often() -> None:
    image = torch.arange(2 * 5 * 4, dtype=torch.uint8).reshape(1, 2, 5, 4)
    wide = torch.from_numpy(np.pad(image[0].numpy(), ((0, 0), (1, 1), (1, 1)), mode="reflect"))
    n = 9000
    y = sets.shifts(image.repeat(n, 1, 1, 1), 1, generator=torch.Generator().manual_seed(1))
    count = {
        (i, j): int((y == wide[:, i : i + 5, j : j + 4]).flatten(1).all(1).sum()) for i in range(3) for j in range(3)
    }
    assert sum(count.values()) == n
    error = (n / 9 * 8 / 9) ** 0.5
    assert max(abs(c - n / 9) for c in count.values()) < 5.5 * error  # 9 cells: false alarm below 4e-7
    assert torch.equal(sets.shifts(image, 0), image)


def test_shifts_refuse_more_than_the_image() -> None:
    with pytest.raises(ValueError, match=r"most must be in 0\.\.3 for images of 5 x 4; got 4"):
        sets.shifts(torch.zeros(1, 1, 5, 4), 4)


def test_images_move_together() -> None:
    images = sets.load("digits", split="test").to("meta")
    assert {images.pixels.device.type, images.labels.device.type} == {"meta"}
    assert dataclasses.replace(images, labels=None).to("meta").labels is None


# The real files


@pytest.mark.parametrize(
    ("name", "mean", "std", "fewest", "most"),
    [("mnist", 0.13066, 0.30811, 5421, 6742), ("fashion", 0.28604, 0.35302, 6000, 6000)],
)
def test_the_real_files(data: Path, name: str, mean: float, std: float, fewest: int, most: int) -> None:
    """The published statistics of the training pixels and the sizes of the classes."""
    images = sets.load(name, folder=data / sets.SOURCES[name].folder)
    pixels = images.pixels.double() / 255
    assert images.pixels.shape == (60_000, 1, 28, 28)
    assert abs(pixels.mean() - mean) < 1e-5
    assert abs(pixels.std() - std) < 1e-5
    assert (images.labels.bincount().min(), images.labels.bincount().max()) == (fewest, most)
    assert sets.load(name, split="test", folder=data / sets.SOURCES[name].folder).pixels.shape == (10_000, 1, 28, 28)


def test_the_command_says_where_the_files_are(tmp_path: Path) -> None:
    """A real process: verified files are silence and a path, a missing one is a line with the remedy and status 2."""
    command = [sys.executable, "-m", "ddpm_lite", "data"]
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    env = {**kept, "HTTPS_PROXY": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    done = subprocess.run([*command, "mnist", "--folder", tmp_path], env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(r"error: mnist needs train-images-idx3-ubyte\.gz.*put it into", done.stderr)
    assert "Traceback" not in done.stderr
    done = subprocess.run([*command, "digits"], env=env, capture_output=True, text=True)
    assert (done.returncode, "use one of mnist, fashion, cifar10" in done.stderr) == (2, True)


def test_the_command_finds_the_real_files(data: Path) -> None:
    command = [sys.executable, "-m", "ddpm_lite", "data", "fashion"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(data / "fashion-mnist"))
