"""Images in memory as bytes: official files behind a checksum, the digits of scikit-learn, any folder.

Files are looked for in the folder that DDPM_LITE_DATA names, else in the user's cache, one folder for each set.
Only `as_float` and `as_levels` convert: a network sees [-1, 1], everything stored is uint8.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import pickle
import sys
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from .. import toys

__all__ = [
    "Images",
    "as_float",
    "as_levels",
    "fetch",
    "flips",
    "load",
    "names",
    "place",
    "read_cifar",
    "read_folder",
    "read_idx",
    "shifts",
]

Split = Literal["train", "test"]
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Images:
    """Images of one size, all in memory, and their classes.

    pixels: (N, C, H, W) uint8 in 0..levels - 1. labels: (N,) int64, an index of classes, or None.
    """

    pixels: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    levels: int = 256

    def __len__(self) -> int:
        return len(self.pixels)

    def to(self, device: torch.device | str) -> Images:
        """Return the same images on another device."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, pixels=self.pixels.to(device), labels=labels)


class _File(NamedTuple):
    name: str
    checksum: str  # "sha256:..." or "md5:..."


class _Source(NamedTuple):
    """A published set: its folder, the addresses to try in order, its files, and how a split is read from them."""

    folder: str
    addresses: tuple[str, ...]
    files: tuple[_File, ...]
    read: Callable[[Path, Split], tuple[Tensor, Tensor]]
    classes: tuple[str, ...]


def load(name: str, *, split: Split = "train", folder: str | Path | None = None, size: int | None = None) -> Images:
    """Load a set of images by its name, or all images of a folder.

    name: "digits" (8 x 8, 17 levels, no files needed; 1,500 images to train and 297 to test, drawn once with a fixed
    seed), "mnist", "fashion", "cifar10", or the path of a folder of images, which has no test split. folder: where the
    files of a published set lie or will lie, else `place(name)`. size: for a folder alone, the side of its images.
    Raises ValueError for another name or split and for files that are no images, OSError where a file is missing and
    cannot be downloaded: the message says which file to put where.

    Book: ch. 17
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test'; got {split!r}")
    if name == "digits":
        return _digits(split)
    if name in SOURCES:
        source = SOURCES[name]
        pixels, labels = source.read(fetch(name, folder=folder), split)
        return Images(pixels, labels, source.classes)
    if not Path(name).is_dir():
        raise ValueError(
            f"there is no set {name!r} and no such folder: use one of {', '.join(names())}, or a folder's path"
        )
    if split == "test":
        raise ValueError(f"the folder {name} has no test split: put its test images into a folder of their own")
    return read_folder(name, size=size)


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return ("digits", *SOURCES)


def place(name: str) -> Path:
    """Return the folder of a published set: below DDPM_LITE_DATA if that is set, else in the user's cache."""
    if name not in SOURCES:
        raise ValueError(f"there are no files of a set {name!r}: use one of {', '.join(SOURCES)}")
    root = os.environ.get("DDPM_LITE_DATA")
    return (Path(root) if root else _cache()) / SOURCES[name].folder


def fetch(name: str, *, folder: str | Path | None = None) -> Path:
    """Verify the files of a published set, download those that are missing or damaged, and return their folder.

    A download is moved into the folder only when its checksum is right. Needs no network, and no pooch, when all files
    are there. Raises OSError that names the file, the folder and the checksum when no address gives the right file.
    """
    target = place(name) if folder is None else Path(folder)
    for file in SOURCES[name].files:
        path = target / file.name
        if not (path.is_file() and _checksum(path, file.checksum) == file.checksum):
            _download(name, file, target)
    return target


def read_idx(path: str | Path) -> Tensor:
    """Read a gzipped IDX file of bytes: (n, rows, cols) for images, (n,) for labels, uint8.

    Two zero bytes, 8 for unsigned bytes, the number of dimensions, each size as a big-endian uint32, then the values.
    Raises ValueError for a file that is cut, damaged or of another kind.

    Source: the layout that LeCun, Cortes and Burges publish with MNIST.
    """
    try:
        raw = gzip.decompress(Path(path).read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is no whole gzip file ({error}): delete it and fetch it again") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no IDX file of bytes: it begins with {raw[:4].hex()}, not 000008")
    start = 4 + 4 * raw[3]
    shape = tuple(np.frombuffer(raw[4:start], dtype=">u4").tolist()) if len(raw) >= start else ()
    if len(shape) != raw[3] or len(raw) != start + math.prod(shape):
        raise ValueError(f"{path} announces the shape {shape} and holds {len(raw) - start} bytes of values")
    return torch.frombuffer(bytearray(raw[start:]), dtype=torch.uint8).reshape(shape)


def read_cifar(path: str | Path, members: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Read batches of CIFAR-10 from its archive: (N, 3, 32, 32) uint8 and (N,) int64.

    A batch is a pickle: only what an array of numbers needs is allowed in it, anything else is refused unread.
    Raises ValueError for a missing member, a refused pickle and sizes that do not fit.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images" (2009); the layout is its web page's.
    """
    pixels, labels = [], []
    with tarfile.open(path) as archive:
        for member in members:
            try:
                file = archive.extractfile(f"cifar-10-batches-py/{member}")
            except KeyError:
                file = None
            if file is None:
                raise ValueError(f"{path} holds no cifar-10-batches-py/{member}: fetch it again")
            batch = _Arrays(file, encoding="latin1").load()
            data = np.asarray(batch["data"])
            if data.dtype != np.uint8 or data.shape != (len(batch["labels"]), 3072):
                raise ValueError(f"{member} of {path} must hold (n, 3072) bytes; got {data.dtype} {data.shape}")
            pixels.append(torch.tensor(data).reshape(-1, 3, 32, 32))
            labels.append(torch.tensor(batch["labels"], dtype=torch.int64))
    return torch.cat(pixels), torch.cat(labels)


def read_folder(folder: str | Path, *, size: int | None = None) -> Images:
    """Read all images below a folder; the folders directly in it are the classes, if every image lies in one.

    Each image is cut to its central square and resized to size x size with averaging; without size, all must be equal
    in height and width, and stay as they are. One channel if all images are grey, else three: transparency is put on
    white. Raises ValueError where there is no image, where one cannot be read, and where sizes differ.
    """
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not files:
        raise ValueError(f"{root} holds no image ({', '.join(sorted(_SUFFIXES))})")
    pictures = [_picture(path, size) for path in files]
    shapes = {picture.shape[:2] for picture in pictures}
    if len(shapes) > 1:
        raise ValueError(f"the images of {root} have {len(shapes)} sizes, such as {sorted(shapes)[:3]}: give size=")
    if any(picture.ndim == 3 for picture in pictures):
        pictures = [picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2) for picture in pictures]
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    else:
        pixels = torch.from_numpy(np.stack(pictures))[:, None]
    folders = [path.relative_to(root).parts[:-1] for path in files]
    if not all(folders):
        return Images(pixels)
    classes = tuple(sorted({parts[0] for parts in folders}))
    return Images(pixels, torch.tensor([classes.index(parts[0]) for parts in folders]), classes)


def as_float(pixels: Tensor, levels: int = 256) -> Tensor:
    """Return 2 k / (levels - 1) - 1 as float32, in [-1, 1]; pixels: uint8 k in 0..levels - 1."""
    if pixels.dtype != torch.uint8:
        raise ValueError(f"pixels must be uint8; got {pixels.dtype}: numbers in [-1, 1] are converted already")
    return pixels.float().mul_(2 / (levels - 1)).sub_(1)


def as_levels(x: Tensor, levels: int = 256) -> Tensor:
    """Return the nearest level 0..levels - 1 as uint8; x: images in [-1, 1], what lies outside is cut off."""
    return ((x.float() + 1) * ((levels - 1) / 2)).round_().clamp_(0, levels - 1).to(torch.uint8)


def flips(x: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Mirror each image left to right with probability 1/2, on its device; x: (B, C, H, W)."""
    return torch.where(_draw(2, x, generator)[:, None, None, None] == 1, x.flip(3), x)


def shifts(x: Tensor, most: int, *, generator: Generator | None = None) -> Tensor:
    """Move each image by up to `most` pixels in both directions, its edge mirrored; x: (B, C, H, W).

    Both offsets are uniform on -most..most. Raises ValueError where `most` is not in 0..min(H, W) - 1.
    """
    b, c, h, w = x.shape
    if not 0 <= most < min(h, w):
        raise ValueError(f"most must be in 0..{min(h, w) - 1} for images of {h} x {w}; got {most}")
    wide = pad(x.float(), (most,) * 4, mode="reflect").to(x.dtype)
    rows = _draw(2 * most + 1, x, generator)[:, None] + torch.arange(h, device=x.device)  # (B, H)
    columns = _draw(2 * most + 1, x, generator)[:, None] + torch.arange(w, device=x.device)  # (B, W)
    image, channel = torch.arange(b, device=x.device), torch.arange(c, device=x.device)
    return wide[image[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def _draw(n: int, x: Tensor, generator: Generator | None) -> Tensor:
    """One number 0..n - 1 for each image, drawn on the generator's device and moved to that of x."""
    device = x.device if generator is None else generator.device
    return torch.randint(n, (len(x),), generator=generator, device=device).to(x.device)


def _digits(split: Split) -> Images:
    x, labels = toys.digits()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(5))
    chosen = order[:1500] if split == "train" else order[1500:]
    return Images(as_levels(x[chosen], 17), labels[chosen], _DIGITS, 17)


def _read_idx_pair(folder: Path, split: Split) -> tuple[Tensor, Tensor]:
    stem = "train" if split == "train" else "t10k"
    pixels, labels = (read_idx(folder / f"{stem}-{kind}.gz") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    if pixels.ndim != 3 or labels.ndim != 1 or len(pixels) != len(labels):
        raise ValueError(f"{folder} holds {tuple(pixels.shape)} images and {tuple(labels.shape)} labels of {stem}")
    return pixels[:, None], labels.long()


def _read_cifar_archive(folder: Path, split: Split) -> tuple[Tensor, Tensor]:
    train = tuple(f"data_batch_{n}" for n in range(1, 6))
    return read_cifar(folder / "cifar-10-python.tar.gz", train if split == "train" else ("test_batch",))


class _Arrays(pickle.Unpickler):
    """Unpickles dictionaries, lists, numbers, texts and numpy arrays; nothing else can be named in the file."""

    ALLOWED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, name: text.encode(name),
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise ValueError(f"the pickle names {module}.{name}, which no array needs: it was not read") from None


def _picture(path: Path, size: int | None) -> np.ndarray:
    """Return (H, W) for a grey image, else (H, W, 3), uint8."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("a folder of images is read with pillow: pip install pillow") from error
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith(("I", "F")):
                raise OSError("it has more than 8 bits a channel")
            if picture.has_transparency_data:
                rgba = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            picture = picture.convert("L" if opened.mode in ("1", "L", "LA") else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(
            f"{path} cannot be read as an image ({error}): mend it, or take it out of the folder"
        ) from error
    if size is not None:
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BOX)
    return np.array(picture)


def _cache() -> Path:
    """The user's folder for caches, as the system names it."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "ddpm-lite"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ddpm-lite"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddpm-lite"


def _checksum(path: Path, like: str) -> str:
    kind = like.partition(":")[0]
    with open(path, "rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def _download(name: str, file: _File, folder: Path) -> None:
    """Put a file into its folder, verified, from the first address that has it."""
    tried = ["it is there with another checksum"] if (folder / file.name).exists() else []
    try:
        import pooch

        for address in SOURCES[name].addresses:
            try:
                pooch.retrieve(address + file.name, file.checksum, file.name, folder, progressbar=sys.stderr.isatty())
                return
            except (OSError, ValueError) as error:  # no network, no right to write; another checksum
                tried.append(f"{address + file.name}: {error}")
    except ImportError:
        tried.append("downloads need pooch: pip install pooch")
    kind, _, digest = file.checksum.partition(":")
    raise OSError(
        f"{name} needs {file.name}, which could not be had ({'; '.join(tried)}). Get it elsewhere and put it into "
        f"{folder}, or name the folder that holds {SOURCES[name].folder}/ in DDPM_LITE_DATA. Its {kind} is {digest}."
    )


def _idx_files(*checksums: str) -> tuple[_File, ...]:
    stems = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(_File(f"{s}-ubyte.gz", f"sha256:{c}") for s, c in zip(stems, checksums, strict=True))


SOURCES = {
    "mnist": _Source(
        "mnist",
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
        _idx_files(
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        _read_idx_pair,
        _DIGITS,
    ),
    "fashion": _Source(
        "fashion-mnist",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        _idx_files(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        _read_idx_pair,
        ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    "cifar10": _Source(
        "cifar-10",
        ("https://www.cs.toronto.edu/~kriz/",),
        (_File("cifar-10-python.tar.gz", "md5:c58f30108f718f92721af3b95e74349a"),),
        _read_cifar_archive,
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
}
