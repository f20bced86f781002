"""A class of submissions, the hostile among them: each gets the points it deserves and a sentence that says why."""

from __future__ import annotations

import csv
import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_lite.grading.exercise import Case, Exercise, Set, Task, Wrong
from ddpm_lite.grading.grade import Row, grade, needed, read, write_csv, write_feedback
from ddpm_lite.grading.sandbox import Limits

pytestmark = pytest.mark.needs("bwrap")

LIMITS = Limits(seconds=2.0, memory=1 << 28, file_size=1 << 20, reply=1 << 20)
GIVEN = "import torch"
SCALE = "def scale(x, c):\n    return c * x\n"
MEAN = "def mean(x):\n    return x.mean(0)\n"


def scale_cases(rng: np.random.Generator) -> list[Case]:
    return [Case("values", (rng.standard_normal((3, 2)), float(rng.uniform(2, 3)))) for _ in range(2)]


def mean_cases(rng: np.random.Generator) -> list[Case]:
    return [Case("values", (rng.standard_normal((4, 3)),))]


def exercise_set() -> Set:
    scale = Exercise(
        id="scale",
        dots=1,
        points=2.0,
        hints=("", ""),
        cases=scale_cases,
        oracle=lambda x, c: np.multiply(x, c),
        messages={"values": "The product is wrong.", "unchanged": "x must stay as it is."},
        wrong=(Wrong("c * x", "c + x", "values", "You add the factor."),),
    )
    mean = Exercise(
        id="mean",
        dots=1,
        points=3.0,
        hints=("", ""),
        cases=mean_cases,
        oracle=lambda x: x.sum(0) / len(x),
        messages={"values": "The mean is wrong.", "unchanged": "x must stay as it is."},
    )
    path = Path("tiny.md")
    tasks = [Task(e, e.id, f"## {e.id}", s, s, GIVEN, path) for e, s in ((scale, SCALE), (mean, MEAN))]
    return Set(path, tuple(tasks))


def notebook(*cells: str | tuple[str, str], **extra: Any) -> str:
    """A notebook of code cells, or of (type, source)."""
    pairs = [("code", cell) if isinstance(cell, str) else cell for cell in cells]
    found = [{"cell_type": kind, "metadata": {}, "source": source.splitlines(True)} for kind, source in pairs]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": found, **extra})


def graded(folder: Path, **files: str) -> dict[tuple[str, str], Row]:
    for name, text in files.items():
        suffix = ".ipynb" if text.startswith("{") else ".py"
        (folder / f"{name}{suffix}").write_text(text)
    rows = grade(folder, exercise_set(), rng=np.random.default_rng(), limits=LIMITS)
    return {(row.name, row.exercise): row for row in rows}


def points(rows: dict[tuple[str, str], Row], name: str) -> tuple[float, float]:
    return rows[name, "scale"].points, rows[name, "mean"].points


def test_right_and_wrong_and_mangled_notebooks(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    training = (
        f"open({str(marker)!r}, 'w').write('x')\nfor _ in range(10**12):\n    pass\nlosses = [1 / 0 for _ in [0]]"
    )
    rows = graded(
        tmp_path,
        right=notebook(GIVEN, SCALE, MEAN),
        plain=SCALE + MEAN,
        stub=notebook("def scale(x, c):\n    raise NotImplementedError", MEAN),
        adds=notebook("def scale(x, c):\n    return c + x"),
        syntax=notebook(SCALE, "def broken(:", "%matplotlib inline\n!ls\n" + MEAN),
        twice=notebook(SCALE, MEAN, "def scale(x, c):\n    return x"),
        retyped=notebook(("markdown", SCALE), ("raw", SCALE), MEAN),
        training=notebook(SCALE, training, MEAN, "scale.__code__ = None\nassert False"),
        inplace=SCALE.replace("c * x", "x.mul_(c)") + MEAN,
        helper=notebook(
            "K = 1.0", "def times(x, c):\n    return K * c * x", "def scale(x, c):\n    return times(x, c)"
        ),
    )
    expected = {"right": (2, 3), "plain": (2, 3), "stub": (0, 3), "adds": (0, 0), "syntax": (2, 3), "twice": (0, 3)}
    expected |= {"retyped": (0, 3), "training": (2, 3), "inplace": (0, 3), "helper": (2, 0)}
    assert {name: points(rows, name) for name in expected} == expected
    assert not marker.exists()
    assert rows["right", "scale"].reason == "Right."
    assert rows["adds", "scale"].hint == "You add the factor."
    assert rows["twice", "scale"].hint is None
    assert "defined 2 times; the last, in cell 3, counts" in rows["twice", "scale"].reason
    assert "No cell of code defines" in rows["retyped", "scale"].reason
    assert "NotImplementedError" in rows["stub", "scale"].reason
    assert "x must stay as it is" in rows["inplace", "scale"].reason


def test_files_that_are_no_notebooks(tmp_path: Path) -> None:
    (tmp_path / "big.ipynb").write_text(notebook(SCALE, junk="x" * (50 << 20)))
    (tmp_path / "empty.ipynb").write_text("")
    (tmp_path / "text.ipynb").write_text("Dear teacher, ...")
    (tmp_path / "deep.ipynb").write_text("[" * 200_000)
    (tmp_path / "list.ipynb").write_text("[]")
    (tmp_path / "bytes.py").write_bytes(b"\x00\xff\x00")
    (tmp_path / "link.py").symlink_to("/etc/passwd")
    rows = graded(tmp_path, none=notebook(), right=SCALE + MEAN)
    bad = {"big": "50 MB", "empty": "is empty", "text": "not JSON", "deep": "not JSON", "list": "format 4"}
    for name, words in {**bad, "bytes": "", "none": "No cell of code"}.items():
        assert points(rows, name) == (0, 0), name
        assert words in rows[name, "mean"].reason
    assert points(rows, "right") == (2, 3)
    assert ("link", "mean") not in rows


HOSTILE = {
    "allclose": "torch.allclose = lambda *a, **k: True\n    import numpy.testing as t\n"
    "    t.assert_allclose = np_ok = lambda *a, **k: None\n    return x",
    "equal": "class E:\n        def __eq__(self, o): return True\n        shape = (3, 2)\n    return E()",
    "tensor": "class E(torch.Tensor):\n        def __eq__(self, o): return True\n"
    "    return torch.zeros(3, 2).as_subclass(E)",
    "loop": "while True: pass",
    "memory": "return torch.ones(1 << 34).sum() * x",
    "fork": "import os\n    while True: os.fork()",
    "exit": "import os\n    os._exit(0)",
    "sysexit": "import sys\n    sys.exit()",
    "disk": "for n in range(10**4):\n        open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))",
    "fd": "import os\n    for fd in range(3, 20):\n        try: os.write(fd, b'x' * 9999)\n        except OSError: pass"
    "\n    return c * x",
    "oracle": "import ddpm_lite.grading.judge\n    return c * x",
    "checks": "import tiny_checks\n    return c * x",
    "frames": "import sys\n    f = sys._getframe()\n    while f:\n        for v in f.f_locals.values():\n"
    "            if hasattr(v, 'oracle'): return v.oracle(x, c)\n        f = f.f_back\n"
    "    raise LookupError('no oracle')",
}


AFTER = ("allclose", "loop")  # these also answer the other exercise, which they keep


def test_hostile_submissions(tmp_path: Path) -> None:
    head = "import torch\ndef scale(x, c):\n    "
    rows = graded(
        tmp_path, **{name: (MEAN if name in AFTER else "") + head + body + "\n" for name, body in HOSTILE.items()}
    )
    assert {name: points(rows, name) for name in HOSTILE} == {name: (0, 3 * (name in AFTER)) for name in HOSTILE}
    words = {
        "allclose": "product is wrong",
        "equal": "object of type E",
        "loop": "ran out of time",
        "oracle": "ddpm_lite",
    }
    words |= {
        "memory": "too much memory",
        "exit": "ended the process",
        "fork": "BlockingIOError",
        "sysexit": "SystemExit",
    }
    words |= {"disk": "OSError", "checks": "ModuleNotFoundError", "frames": "no oracle"}
    for name, word in words.items():
        assert word in rows[name, "scale"].reason, rows[name, "scale"]


def test_nothing_of_the_host_is_read_or_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer tells which of its probes got at something of the host."""
    monkeypatch.setenv("DDPM_LITE_SECRET", "sesame")
    secret = tmp_path / "secret.txt"
    secret.write_text("s")
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    threading.Thread(target=server.accept, daemon=True).start()
    probes = {
        "passwd": "open('/etc/passwd').read()",
        "home": f"__import__('os').listdir({str(Path.home())!r} + '/.ssh')",
        "work": f"open({str(secret)!r}).read()",
        "grader": f"open({str(Path(__file__).resolve())!r}).read()",
        "write": f"open({str(secret)!r}, 'w').write('x')",
        "usr": "open('/usr/x', 'w')",
        "root": "open('/x', 'w')",
        "environ": "__import__('os').environ['DDPM_LITE_SECRET']",
        "parent": f"open('/proc/{os.getpid()}/environ').read()",
        "first": "open('/proc/1/environ').read()",
        "net": f"__import__('socket').create_connection(('127.0.0.1', {port}), 1)",
        "kill": f"__import__('os').kill({os.getpid()}, 15)",
    }
    lines = [
        f"    try:\n        {code}\n        found.append({n!r})\n    except Exception: pass"
        for n, code in probes.items()
    ]
    body = "\n".join(["def scale(x, c):", "    found = []", *lines, "    raise ValueError(f'found {found}')"])
    rows = graded(tmp_path, probe=body)
    server.close()
    assert "found []" in rows["probe", "scale"].reason
    assert secret.read_text() == "s"


def test_only_what_a_function_needs_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "import os, torch\nlosses = train()\nK = 2\nJ = K + 1\ndef f(x):\n    return J * x\ntorch.x = 1\nprint(1)\n"
    )
    assert needed(read(path), "f") == "K = 2\nJ = K + 1\n\ndef f(x):\n    return J * x"


def test_csv_and_feedback(tmp_path: Path) -> None:
    rows = [Row("=cmd", "scale", 0.0, 2.0, "raised <b>*x*", "Think."), Row("b/a_c", "scale", 2.0, 2.0, "Right.")]
    write_csv(rows, tmp_path / "grades.csv")
    with (tmp_path / "grades.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table == [
        ["name", "exercise", "points", "of", "reason"],
        ["'=cmd", "scale", "0.0", "2.0", "raised <b>*x*"],
        ["b/a_c", "scale", "2.0", "2.0", "Right."],
    ]
    first, second = write_feedback(rows, tmp_path / "feedback")
    assert first.read_text() == "# =cmd: 0 of 2 points\n\n## scale: 0 of 2\n\nraised &lt;b>\\*x\\*\n\nHint: Think.\n"
    assert second.name == "b_a__c.md"


def test_a_folder_without_submissions(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no"):
        grade(tmp_path, exercise_set(), rng=np.random.default_rng())
