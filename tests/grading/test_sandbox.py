"""The process of a submission: values out, limits, refusals, and replies that lie."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from typing import Any

import numpy as np
import pytest

from ddpm_lite.grading import sandbox
from ddpm_lite.grading.sandbox import Limits, SandboxError, run

SOURCE = """
import torch
def both(x, k): return x * k, k
def inplace(x, y): return y.mul_(2)
def loop(x):
    while True: pass
def leave(x):
    import os
    os._exit(3)
def long(x): return torch.zeros(1 << 18)
def none(x): pass
"""


@pytest.mark.needs("bwrap")
def test_values_errors_and_restarts() -> None:
    x = np.array([[1.0, np.nan], [2.0, 3.0]])
    calls: list[tuple[str, tuple[Any, ...]]] = [("both", (x, 2.0)), ("inplace", (x, x)), ("loop", (x,)), ("loop", (x,))]
    calls += [("leave", (x,)), ("long", (x,)), ("none", (x,)), ("absent", (x,)), ("both", (np.arange(3), 2))]
    found = run(SOURCE, calls, limits=Limits(seconds=1.0, reply=1 << 19))
    np.testing.assert_array_equal(found[0].value[0], 2 * x)
    assert found[0].value[1] == 2.0
    assert not found[0].changed
    assert found[1].changed == [1]
    errors = [outcome.error for outcome in found[2:8]]
    assert errors[0] == errors[1] == "ran out of time (1 s)"
    assert errors[2] == "ended the process (exit code 3)"
    assert errors[3] == "returned more than 0 MB"
    assert str(errors[4]).startswith("returned nothing")
    assert errors[5] == "is not defined"
    assert found[8].value[0].dtype == np.int64


def test_without_bubblewrap_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.require_bubblewrap.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SandboxError, match=r"not installed.*unsafe=True"):
        run(SOURCE, [])
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/bwrap")
    refused = subprocess.CompletedProcess([], 1, "", "bwrap: No permissions to create new namespace")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: refused)
    with pytest.raises(SandboxError, match=r"user namespaces.*No permissions"):
        run(SOURCE, [])


def test_unsafe_runs_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (outcome,) = run(SOURCE, [("both", (np.ones(2), 3.0))], unsafe=True)
    np.testing.assert_array_equal(outcome.value[0], [3.0, 3.0])


def npy(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def zipped(kind: int, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"PK\x03\x04 no zip",
        zipped(zipfile.ZIP_DEFLATED, spec=bytes(1 << 24)),
        zipped(zipfile.ZIP_STORED, spec=npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,), }")),
        zipped(zipfile.ZIP_STORED, spec=npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }")),
        sandbox.pack({"value": {"array": 7}, "left": [None]}, []),
        sandbox.pack(["no", "dict"], []),
    ],
)
def test_a_reply_that_lies_is_an_error(message: bytes) -> None:
    assert sandbox.outcome(message, (1.0,)).error == "returned what cannot be read"
