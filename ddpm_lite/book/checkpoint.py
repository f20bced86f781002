"""`checkpoint`: tensors that a chapter ships, because making them takes longer than the chapter may run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

FOLDER = Path(__file__).parent / "checkpoints"
RETRAIN = "DDPM_LITE_RETRAIN"  # set in the environment: train again and write the files
LARGEST = 10**6  # bytes


def checkpoint(name: str, train: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of a shipped file; `make checkpoints` calls `train` again and writes the file.

    `name` is the chapter and a word, such as "12_digits", the stem of a file in `ddpm_lite/book/checkpoints`. `train`
    returns tensors by name, such as a state_dict. It is called only when DDPM_LITE_RETRAIN is set in the environment.
    Raises ValueError for another name and for a file of more than 1 MB, FileNotFoundError when there is no file.
    """
    if not re.fullmatch(r"\d\d_[a-z_]+", name):
        raise ValueError(f"name={name!r}: give the chapter's two digits and a word, such as '12_digits'")
    from safetensors.torch import load, save

    path = FOLDER / f"{name}.safetensors"
    if os.environ.get(RETRAIN):
        content = save({key: value.detach().cpu().contiguous() for key, value in train().items()})
        if len(content) > LARGEST:
            raise ValueError(
                f"{name} has {len(content)} bytes, more than 1 MB: train a smaller network, or save halves"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path}. Install the package again, or train it with `make checkpoints` "
            f"(that is: run the chapter with {RETRAIN}=1)."
        )
    return load(path.read_bytes())  # a mapped file would change under tensors that are in use
