"""The process of a submission: values out, limits, refusals, and replies that lie."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_exercises import wait_for, workers_with

from ddpm_lite.grading import sandbox, seccomp
from ddpm_lite.grading.sandbox import Limits, Sandbox, SandboxError, run

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


@pytest.mark.needs("bwrap")
def test_python_may_have_been_called_by_a_winding_path(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(__file__).parent
    monkeypatch.setattr(sys, "executable", f"{here}/{os.path.relpath(sys.executable, here)}")
    sandbox.require_bubblewrap.cache_clear()
    (outcome,) = run(SOURCE, [("both", (np.ones(2), 3.0))])
    np.testing.assert_array_equal(outcome.value[0], [3.0, 3.0])


@pytest.mark.needs("bwrap")
def test_the_package_is_hidden_where_it_lies_among_what_python_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    above = str(sandbox.PACKAGE.parent)
    bound = [*sandbox.folders(), above]
    monkeypatch.setattr(sandbox, "folders", lambda: bound)
    source = f"import os\ndef seen(x): return len(os.listdir({above!r})), len(os.listdir({str(sandbox.PACKAGE)!r}))\n"
    (outcome,) = run(source, [("seen", (0.0,))])
    assert outcome.value[0] > 0
    assert outcome.value[1] == 0


LIMITED = """
import resource, os
def limits(x):
    kinds = [resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NOFILE]
    return tuple(n for kind in kinds for n in resource.getrlimit(kind))
def spare_memory(x):
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    return resource.getrlimit(resource.RLIMIT_AS)[1] - used
def threads(n):
    import threading, time
    for started in range(n):
        try:
            threading.Thread(target=time.sleep, args=(1,)).start()
        except RuntimeError:
            return started
    return n
def space(x):
    found = os.statvfs("/tmp")
    return found.f_blocks * found.f_frsize
"""


@pytest.mark.needs("bwrap")
def test_the_limits_inside_are_the_stated_ones() -> None:
    limits = Limits(memory=1 << 28, file_size=1 << 21, processes=5)
    calls: list[tuple[str, tuple[Any, ...]]] = [(name, (0.0,)) for name in ("limits", "spare_memory", "space")]
    kinds, memory, space, threads = (o.value for o in run(LIMITED, [*calls, ("threads", (20,))], limits=limits))
    assert kinds == (1 << 21, 1 << 21, 0, 0, 256, 256)
    assert 0.8 * (1 << 28) < memory <= 1 << 28
    assert space == 1 << 21
    assert threads == 5


@pytest.mark.parametrize("unsafe", [pytest.param(False, marks=pytest.mark.needs("bwrap")), True])
def test_a_time_out_leaves_no_process_behind(unsafe: bool) -> None:
    """Without bubblewrap, a process that the submission started is ended too."""
    token = (1 << 28) + os.getpid()
    fork = "if os.fork() == 0: time.sleep(60)" if unsafe else "pass"
    source = f"import os, time\ndef f(x):\n    {fork}\n    while True: pass\n"
    (outcome,) = run(source, [("f", (1.0,))], unsafe=unsafe, limits=Limits(seconds=1.0, memory=token))
    assert outcome.error == "ran out of time (1 s)"
    assert wait_for(lambda: not workers_with(token), 5)


@pytest.mark.needs("bwrap")
def test_a_sandbox_that_was_stopped_starts_nothing_again() -> None:
    sandbox = Sandbox(limits=Limits(seconds=60.0))
    sandbox.start()
    threading.Timer(1.0, sandbox.stop).start()
    before = time.monotonic()
    with sandbox, pytest.raises(SandboxError, match="was stopped"):
        sandbox.run(SOURCE, [("loop", (1.0,)), ("both", (1.0, 2.0))])
    assert time.monotonic() - before < 30


IDS = """
from ddpm_lite.grading.sandbox import run
source = "import os\\ndef ids(x): return os.getuid(), os.geteuid(), os.getgid(), len(os.getgroups())\\n"
for _ in range(2):
    (outcome,) = run(source, [("ids", (0.0,))])
    print(*outcome.value)
"""


@pytest.mark.needs("bwrap", "root")
def test_each_sandbox_that_root_starts_is_a_user_of_its_own_without_groups() -> None:
    env = {**os.environ, "PYTHONPATH": str(sandbox.PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", IDS], env=env, extra_groups=[4242], capture_output=True, text=True)
    one, two = ([int(n) for n in line.split()] for line in done.stdout.splitlines())
    assert one[3] == two[3] == 0
    assert min(one[:3] + two[:3]) >= 1 << 11
    assert one[:3] == [one[0]] * 3
    assert two[:3] == [two[0]] * 3
    assert one[0] != two[0]


@pytest.mark.needs("bwrap", "root")
def test_without_bubblewrap_root_is_given_up_where_others_may_run_python() -> None:
    done = in_an_open_view([sys.executable, "-c", IDS.replace("(0.0,))]", "(0.0,))], unsafe=True")])
    rows = [[int(n) for n in line.split()] for line in done.stdout.splitlines()]
    assert len(rows) == 2
    assert min(n for row in rows for n in row[:3]) >= 1 << 11


NOT_ROOT = """
import json, subprocess, sys, time
import numpy as np
from ddpm_lite.grading.sandbox import run
others = [subprocess.Popen(["sleep", "60"]) for _ in range(40)]
source = json.loads(sys.argv[1])
calls = [("threads", (20,)), ("own", (np.ones(2),)), ("forks", (0.0,)), ("probes", (0.0,))]
for outcome in run(source, calls):
    print(repr(outcome.error), np.shape(outcome.value), outcome.value if np.ndim(outcome.value) == 0 else "")
for other in others:
    other.kill()
    other.wait()
"""


@pytest.mark.needs("bwrap", "root")
def test_a_user_who_is_not_root_gets_the_same_sandbox() -> None:
    """The user has 40 more processes, which must not count, and may look into `/proc/1`, which holds no file."""
    source = LIMITED + (
        "def own(x): return 2 * x\n"
        "def forks(x):\n    while True: os.fork()\n"
        "def probes(x):\n    found = []\n"
        "    for n in os.listdir('/proc/1/fd'):\n"
        "        open_file = os.readlink(f'/proc/1/fd/{n}')\n"
        "        found += [] if open_file.startswith(('pipe:', 'anon_inode:')) else [open_file]\n"
        "    for path, mode in (('/etc/passwd', 'r'), ('/x', 'w'), ('/usr/x', 'w'), ('/dev/shm/x', 'w')):\n"
        "        try: found.append(open(path, mode).name)\n        except OSError: pass\n"
        "    found += [s for s in open('/proc/1/environ').read().split(chr(0)) if 'PYTHONPATH' in s]\n"
        "    raise ValueError(f'found {found}')\n"
    )
    done = as_nobody([sys.executable, "-c", NOT_ROOT, json.dumps(source)])
    assert done.stdout.splitlines() == [
        "None () 8",
        "None (2,) ",
        "'raised PermissionError: [Errno 1] Operation not permitted' () None",
        "'raised ValueError: found []' () None",
    ], done.stderr


@pytest.mark.needs("bwrap", "root")
def test_where_all_processes_of_a_user_count_the_limit_is_on_top_of_them() -> None:
    """As on older kernels: the worker runs outside any namespace, beside 40 processes of the same user."""
    limits = {"memory": 1 << 28, "file_size": 1 << 20, "user": None, "processes": 6}
    message = sandbox.pack({"source": LIMITED, "name": "threads", "args": [{"plain": 20}]}, [])
    script = (
        "import subprocess, sys\n"
        "others = [subprocess.Popen(['sleep', '60']) for _ in range(40)]\n"
        "frame = bytes.fromhex(sys.argv[1])\n"
        f"command = [sys.executable, '-I', {str(sandbox.WORKER)!r}, {json.dumps(limits)!r}]\n"
        "print(subprocess.run(command, input=frame, capture_output=True).stdout.hex())\n"
        "for other in others: other.kill()\n"
    )
    done = as_nobody([sys.executable, "-c", script, (struct.pack("<Q", len(message)) + message).hex()])
    replies = bytes.fromhex(done.stdout)
    first = struct.unpack("<Q", replies[:8])[0]
    assert sandbox.outcome(replies[16 + first :], (20,)).value == 6, done.stderr


def as_nobody(command: list[str]) -> subprocess.CompletedProcess[str]:
    return in_an_open_view(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *command])


def in_an_open_view(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command where everybody sees the folders of Python, although root's home may hide them."""
    folders = [*sandbox.folders(), str(sandbox.PACKAGE.parent)]
    closed = [f for f in sandbox.parents(folders) if not os.stat(f).st_mode & 1]
    view = ["bwrap", "--cap-add", "ALL", "--dev-bind", "/", "/"]
    for top in [f for f in closed if str(Path(f).parent) not in closed]:
        inside = [f for f in folders if Path(f).is_relative_to(top)]
        view += ["--perms", "0755", "--tmpfs", top]
        for folder in [f for f in sandbox.parents(inside) if Path(f).is_relative_to(top) and f != top]:
            view += ["--perms", "0755", "--dir", folder]
        for folder in inside:
            view += ["--ro-bind", folder, folder]
    env = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(sandbox.PACKAGE.parent)}
    return subprocess.run([*view, *command], env=env, cwd="/tmp", capture_output=True, text=True, timeout=120)


def test_the_filter_of_system_calls_is_whole_and_known_for_two_machines() -> None:
    for machine in ("x86_64", "aarch64"):
        program = seccomp.program(machine)
        assert program is not None
        lines = [struct.unpack_from("<HBBI", program, n) for n in range(0, len(program), 8)]
        assert lines[-1] == (6, 0, 0, 0x7FFF0000)
        assert all(n + 1 + max(true, false) < len(lines) for n, (_, true, false, _) in enumerate(lines[:-1]))
    assert seccomp.program("sparc") is None


def npy(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def zipped(kind: int, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def one(value: Any) -> dict[str, Any]:
    return {"value": value, "left": [None]}


def members(message: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(message)) as file:
        return {name.removesuffix(".npy"): file.read(name) for name in file.namelist()}


HONEST = sandbox.pack(one({"array": 0}), [np.array(3.0)])


class Bomb:
    """Whoever unpickles it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_an_honest_reply_is_read_and_no_other_form_of_it(tmp_path: Path) -> None:
    assert sandbox.outcome(HONEST, (1.0,)).value == 3.0
    assert sandbox.outcome(zipped(zipfile.ZIP_STORED, **members(HONEST)), (1.0,)).value == 3.0
    assert sandbox.outcome(zipped(zipfile.ZIP_DEFLATED, **members(HONEST)), (1.0,)).error == sandbox.UNREADABLE
    body = npy("{'descr': '|O', 'fortran_order': False, 'shape': (), }") + pickle.dumps(
        np.array(Bomb(tmp_path / "bomb"))
    )
    bomb = zipped(zipfile.ZIP_STORED, spec=members(HONEST)["spec"], a0=body)
    assert sandbox.outcome(bomb, (1.0,)).error == sandbox.UNREADABLE
    assert not (tmp_path / "bomb").exists()


@pytest.mark.parametrize(
    "message",
    [
        sandbox.pack(one({"tuple": [{"array": 0}] * 65}), [np.array(3.0)]),
        sandbox.pack(one({"tuple": [{"tuple": [{"tuple": [{"tuple": [{"tuple": [{"tuple": []}]}]}]}]}]}), []),
        sandbox.pack(one({"tuple": [{"tuple": []}] * 9} | {"pad": "x" * (1 << 18)}), []),  # JSON may be long in memory
        sandbox.pack({"value": {"array": 0}, "left": []}, [np.array(3.0)]),
        sandbox.pack(one({"array": 0}), [np.array(3.0 + 1j)]),
        sandbox.pack(one({"array": 0}), [np.array("text")]),
        sandbox.pack(one({"array": 0}), [np.zeros(1)] * 300),
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


@pytest.mark.needs("bwrap")
def test_a_name_that_an_earlier_line_did_not_define_is_explained() -> None:
    (found,) = run("import no_such_library as lib\ndef f(x): return lib.double(x)", [("f", (1.0,))])
    assert str(found.error).startswith("raised NameError: name 'lib' is not defined (an earlier line raised Module")


@pytest.mark.needs("bwrap")
def test_an_argument_with_the_same_numbers_in_another_shape_counts_as_changed() -> None:
    (found,) = run("def widen(x):\n    x.unsqueeze_(0)\n    return 1.0", [("widen", (np.ones(3),))])
    assert found.error is None
    assert list(found.changed) == [0]
