"""Hostile and mangled submissions: each gets exactly the points it deserves and a sentence that says why."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tiny_exercises import GIVEN, LIMITS, MEAN, SCALE, exercise_set, graded, notebook, points, wait_for, workers_with

from ddpm_lite.grading.grade import grade

pytestmark = pytest.mark.needs("bwrap")

HEAD = "import ctypes, gc, os, sys, threading, time\nimport numpy as np\nimport torch\n"


def function(name: str, body: str) -> str:
    return f"def {name}(x, c):\n    " + "\n    ".join(body.splitlines()) + "\n"


# name -> body, what the reason says; "Right." gets the points. They run one after the other in one process.
MILD = {
    "list_bomb": ("found = []\nwhile True: found.append(bytes(1 << 24))", "used too much memory"),
    "tensor_bomb": ("return torch.ones(1 << 34).sum() * x", "used too much memory"),
    "expanded": ("return torch.zeros(()).expand(10**9)", "used too much memory"),
    "many": ("return tuple(range(65))", "object of type tuple"),
    "deep": ("return ((((x,),),),)", "object of type tuple"),
    "claims": ("class Equal:\n    shape = (3, 2)\n    def __eq__(self, o): return True\nreturn Equal()", "type Equal"),
    "lazy": ("class Lazy:\n    def __array__(self, *a, **k): return (c * x).numpy()\nreturn Lazy()", "type Lazy"),
    "generator": ("return (row for row in c * x)", "type generator"),
    "text": ("return 'right'", "type str"),
    "array_class": (
        "class E(np.ndarray):\n    def __eq__(self, o): return True\n"
        "    def __array_ufunc__(self, *a, **k): return True\nreturn np.zeros((3, 2)).view(E)",
        "6 of 6 numbers differ",
    ),
    "tensor_class": (
        "class E(torch.Tensor):\n    def __eq__(self, o): return True\n    def allclose(self, *a): return True\n"
        "return torch.zeros(3, 2, dtype=torch.float64).as_subclass(E)",
        "6 of 6 numbers differ",
    ),
    "tensor_dispatch": (
        "class E(torch.Tensor):\n    @classmethod\n    def __torch_function__(cls, *a, **k): return True\n"
        "return torch.zeros(3, 2).as_subclass(E)",
        "returned a quantised tensor",  # its every attribute is True
    ),
    "complex_": ("return torch.complex(c * x, 0 * x)", "array of complex128"),
    "negated_view": ("return torch.complex(0 * x, -c * x).conj().imag", "Right."),
    "float16": ("return (c * x).half()", "type float16"),
    "bfloat16": ("return (c * x).bfloat16()", "array of bfloat16"),
    "sparse": ("return (c * x).to_sparse()", "sparse tensor"),
    "quantised": ("return torch.quantize_per_tensor((c * x).float(), 1e-7, 0, torch.qint32)", "quantised tensor"),
    "meta": ("return (c * x).to('meta')", "meta tensor"),
    "grad": ("return x.requires_grad_() * c", "Right."),
    "nan": ("return x * float('nan')", "6 of 6 numbers are NaN"),
    "boxed": ("return torch.full((3, 2), 0x7FF8DEADBEEF0001).view(torch.float64)", "6 of 6 numbers are NaN"),
    "objects": ("return np.array([[object()]])", "array of object"),
    "recursion": ("return scale_again(x, c)", "RecursionError"),
    "sysexit": ("sys.exit(0)", "SystemExit"),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "long_words": ("raise ValueError('x' * 10**6)", "xxx"),
    "fork": ("while True: os.fork()", "PermissionError"),
    "spawn": ("os.posix_spawn('/usr/bin/true', ['true'], {})", "PermissionError"),
    "disk": ("for n in range(99):\n    open(f'/tmp/{n}', 'wb').write(bytes(1 << 19))", "No space left"),
    "big_file": ("open('/tmp/0', 'wb').truncate(1 << 30)", "File too large"),
    "memory_file": ("while True: os.write(os.memfd_create('m'), bytes(1 << 19))", "PermissionError"),
    "files": ("found = []\nwhile True: found.append(open('/dev/zero'))", "Too many open files"),
    "oracle": ("import ddpm_lite.grading.judge\nreturn c * x", "No module named 'ddpm_lite'"),
    "checks": ("import tiny_checks\nreturn c * x", "No module named 'tiny_checks'"),
    "frames": (
        "f = sys._getframe()\nnames = []\nwhile f:\n    names += [n for n in f.f_locals]\n    f = f.f_back\n"
        "known = {'oracle', 'expected', 'case', 'cases', 'task', 'exercise', 'judge'} & set(names)\n"
        "raise LookupError(f'saw {sorted(known)}')",
        "saw []",
    ),
    "collector": (
        "seen = [o for o in gc.get_objects() if type(o).__module__.startswith('ddpm_lite')]\n"
        "twins = [o for o in gc.get_objects() if isinstance(o, np.ndarray) and o.shape == x.shape\n"
        "         and np.allclose(o, (c * x).numpy())]\nraise LookupError(f'saw {seen + twins}')",
        "saw []",
    ),
    "spam": ("for _ in range(2000):\n    print('x' * (1 << 20))\n    sys.stderr.write('x')\nreturn c * x", "Right."),
    "allclose": ("torch.allclose = torch.equal = lambda *a, **k: True\nreturn x", "numbers differ"),
    "testing": (
        "import numpy.testing\nnumpy.testing.assert_allclose = np.allclose = lambda *a, **k: None\nreturn x",
        "numbers differ",
    ),
    "threads": ("while True: threading.Thread(target=time.sleep, args=(99,)).start()", "can't start new thread"),
    "after": ("return c * x", "Right."),
}


def test_what_a_function_may_try_and_return(tmp_path: Path) -> None:
    """All in one process, so no earlier function spoils a later one."""
    source = HEAD + "def scale_again(x, c):\n    return scale_again(x, c) + 1\n"
    source += "".join(function(name, body) for name, (body, _) in MILD.items())
    rows = graded(tmp_path, list(MILD), hostile=source)
    for name, (_, words) in MILD.items():
        row = rows["hostile", name]
        assert words in row.reason, row
        assert row.points == (2.0 if words == "Right." else 0.0), row


# each ends or spoils its process; `mean` stands beside it, is right and keeps its 3 points
FATAL = {
    "loop": ("while True: pass", "ran out of time (2 s)"),
    "sleep": ("time.sleep(99)", "ran out of time (2 s)"),
    "stopped": ("os.kill(os.getpid(), 19)\ntime.sleep(99)", "ran out of time (2 s)"),
    "exit": ("os._exit(0)", "ended the process (exit code 0)"),
    "stack": ("sys.setrecursionlimit(10**9)\ndef f(n): return sorted([n], key=f)\nreturn f(1)", "ended the process"),
    "crash": ("ctypes.string_at(0)", "ended the process"),
    "closed": ("os.closerange(0, 99)\nreturn c * x", "ended the process|ran out of time"),  # late, if bubblewrap is
    "long": ("return torch.zeros(1 << 18)", "returned more than 1 MB"),
    "saved": ("np.savez = lambda *a, **k: None\nreturn c * x", "returned what cannot be read"),
    "junk": (
        "for fd in range(3, 99):\n    try: os.write(fd, b'x' * 9999)\n    except OSError: pass\nreturn c * x",
        "returned more than 1 MB",
    ),
}


def test_who_ends_the_process_loses_that_function_only(tmp_path: Path) -> None:
    files = {name: HEAD + MEAN + function("scale", body) for name, (body, _) in FATAL.items()}
    rows = graded(tmp_path, **files, zz_last=SCALE + MEAN)
    assert {name: points(rows, name) for name in files} == dict.fromkeys(files, (0, 3))
    for name, (_, words) in FATAL.items():
        assert any(each in rows[name, "scale"].reason for each in words.split("|")), rows[name, "scale"]
    assert points(rows, "zz_last") == (2, 3)


def test_a_thread_that_outlives_its_call_changes_no_result(tmp_path: Path) -> None:
    body = "def spin():\n    while True: x.zero_()\ny = c * x\nthreading.Thread(target=spin).start()\nreturn y"
    rows = graded(tmp_path, thread=HEAD + MEAN + function("scale", body))
    assert points(rows, "thread") in {(2, 3), (0, 3)}  # right values; whether x was changed in time is its own luck
    assert rows["thread", "scale"].reason == "Right." or "x must stay" in rows["thread", "scale"].reason


def test_nothing_of_the_host_is_read_or_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer tells which of its probes got at something of the host."""
    monkeypatch.setenv("DDPM_LITE_SECRET", "sesame")
    secret = tmp_path / "secret.txt"
    secret.write_text("s")
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    threading.Thread(target=server.accept, daemon=True).start()
    here = Path(__file__).resolve()
    probes = {
        "passwd": "open('/etc/passwd').read()",
        "home": f"os.listdir({str(Path.home())!r} + '/.ssh')",
        "other homes": "assert os.listdir('/home')",
        "work": f"open({str(secret)!r}).read()",
        "checks": f"open({str(here.parents[2] / 'book' / 'exercises' / '01_gaussians_checks.py')!r}).read()",
        "package": f"open({str(here.parents[2] / 'ddpm_lite' / 'grading' / 'judge.py')!r}).read()",
        "tests": f"open({str(here)!r}).read()",
        "write": f"open({str(secret)!r}, 'w').write('x')",
        "usr": "open('/usr/x', 'w')",
        "root": "open('/x', 'w')",
        "dev": "open('/dev/shm/x', 'w')",
        "worker": "open('/worker.py', 'w')",
        "python": "open(os.__file__, 'a')",
        "environ": "os.environ['DDPM_LITE_SECRET']",
        "parent": f"open('/proc/{os.getpid()}/environ').read()",
        "first": "open('/proc/1/environ').read()",
        "first's errors": "open('/proc/1/fd/2', 'wb')",
        "others": "assert [p for p in os.listdir('/proc') if p.isdigit() and int(p) > 9]",
        "kernel": "open('/proc/sys/kernel/hostname', 'w').write('x')",
        "net": f"__import__('socket').create_connection(('127.0.0.1', {port}), 1)",
        "outside": "__import__('socket').create_connection(('192.0.2.1', 80), 0.2)",
        "interfaces": "assert [n for _, n in __import__('socket').if_nameindex() if n != 'lo']",
        "kill": f"os.kill({os.getpid()}, 15)",
        "is root": "assert 0 in os.getresuid() + os.getresgid() + tuple(os.getgroups())",
        "becomes root": "os.setuid(0)",
        "namespace": "assert ctypes.CDLL(None).unshare(0x10000000) == 0",
        "mount": "assert ctypes.CDLL(None).mount(b'a', b'/tmp', b'tmpfs', 0, None) == 0",
        "shared memory": "assert ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) >= 0",
        "hostname": f"assert os.uname().nodename == {os.uname().nodename!r}",
        "handles": "assert [fd for fd in os.listdir('/proc/self/fd') if int(fd) > 6]",
        "capabilities": "assert int([s for s in open('/proc/self/status') if 'CapEff' in s][0].split()[1], 16)",
        "raised limit": "import resource as r; r.setrlimit(r.RLIMIT_AS, (-1, -1))",
    }
    lines = [f"try:\n    {code}\n    found.append({n!r})\nexcept Exception: pass" for n, code in probes.items()]
    body = "\n".join(["found = []", *lines, "raise ValueError(f'found {found}')"])
    rows = graded(tmp_path, probe=HEAD + function("scale", body))
    server.close()
    assert "found []" in rows["probe", "scale"].reason
    assert secret.read_text() == "s"


def test_mangled_notebooks(tmp_path: Path) -> None:
    bare = json.loads(notebook(SCALE, MEAN, "check('scale', scale)"))
    bare = {"cells": [{"cell_type": "code", "source": "".join(cell["source"])} for cell in bare["cells"]]}
    broken = [f"def broken_{n}(:" for n in range(300)]
    rows = graded(
        tmp_path,
        stripped=json.dumps(bare),
        unchecked=notebook(GIVEN, SCALE, MEAN),
        doubled=notebook(GIVEN, SCALE, SCALE, MEAN, MEAN),
        retyped=notebook(("markdown", SCALE), ("raw", SCALE), MEAN),
        top_loop=notebook("while True: pass", SCALE, MEAN, "import time\ntime.sleep(10**6)"),
        shadowed=notebook("x = [1 / 0 for _ in [0]]\nc = __import__('time').sleep(99)", SCALE, MEAN),
        timed=notebook("%%time\n" + SCALE, "%%bash\nrm -rf /", "%matplotlib inline\n" + MEAN),
        written=notebook("%%writefile a.py\n" + SCALE, MEAN),
        renamed=notebook("import math as torch", "def helper(x): return torch.pi", SCALE, MEAN),
        breaks_given=notebook("torch = None", SCALE, "def mean(x):\n    return torch.mean(x, 0)"),
        annotated=notebook("from __future__ import annotations", "def scale(x: Tensor, c: Foo): return c * x"),
        broken=notebook(*broken, SCALE),
    )
    expected = {"stripped": (2, 3), "unchecked": (2, 3), "doubled": (2, 3), "retyped": (0, 3), "top_loop": (2, 3)}
    expected |= {"shadowed": (2, 3), "timed": (2, 3), "written": (0, 3), "renamed": (2, 3), "breaks_given": (2, 0)}
    expected |= {"annotated": (2, 0), "broken": (2, 0)}
    assert {name: points(rows, name) for name in expected} == expected
    assert rows["doubled", "scale"].reason == "Right. scale is defined 2 times; the last, in cell 3, counts."
    assert rows["retyped", "scale"].reason == "No cell of code defines the function scale."
    assert "NoneType" in rows["breaks_given", "mean"].reason
    assert "cell 1 is left out: invalid syntax in line 1." in rows["broken", "mean"].reason
    assert len(rows["broken", "mean"].reason) <= 2000


def test_files_that_are_no_notebooks(tmp_path: Path) -> None:
    (tmp_path / "big.ipynb").write_text(notebook(SCALE, junk="x" * (50 << 20)))
    (tmp_path / "long.py").write_text(SCALE + "#" * (1 << 20))
    (tmp_path / "empty.ipynb").write_text("")
    (tmp_path / "text.ipynb").write_text("Dear teacher, ...")
    (tmp_path / "deep.ipynb").write_text("[" * 200_000)
    (tmp_path / "list.ipynb").write_text("[]")
    (tmp_path / "sums.py").write_text("def scale(x, c):\n    return " + "1 + " * 50_000 + "1\n")
    (tmp_path / "bytes.py").write_bytes(b"\x00\xff\x00")
    (tmp_path / "link.py").symlink_to("/etc/passwd")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.py")
    rows = graded(tmp_path, none=notebook(), right=SCALE + MEAN)
    bad = {"big": "50 MB", "empty": "is empty", "text": "not JSON", "deep": "not JSON", "list": "format 4"}
    bad |= {"bytes": "left out", "none": "No cell of code", "long": "more than 1048576 characters", "sums": "left out"}
    for name, words in bad.items():
        assert points(rows, name) == (0, 0), name
        assert words in rows[name, "scale"].reason, rows[name, "scale"]
    assert points(rows, "right") == (2, 3)
    assert {name for name, _ in rows} == {*bad, "right"}


def test_names_that_are_alike_or_odd_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a_").mkdir()
    (tmp_path / "a").mkdir()
    for name in ("a.py", "a_/b.py", "a/_b.py", "UPPER.PY"):
        (tmp_path / name).write_text(SCALE)
    (tmp_path / "a.ipynb").write_text(notebook(MEAN))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.py")).write_text(SCALE + MEAN)
    rows = graded(tmp_path)
    found = {name: points(rows, name) for name, _ in rows}
    assert found == {
        "a": (0, 3),
        "a.py": (2, 0),
        "a_/b": (2, 0),
        "a/_b": (2, 0),
        "UPPER": (2, 0),
        "\\udcff\n": (2, 3),
    }


def test_a_long_chain_of_definitions_is_read_in_time(tmp_path: Path) -> None:
    chain = ["a0 = 1.0", *(f"a{n} = a{n - 1}" for n in range(1, 4000))]
    start = time.monotonic()
    rows = graded(tmp_path, chain="\n".join([*reversed(chain[1:]), *chain, function("scale", "return a3999 * c * x")]))
    assert rows["chain", "scale"].points == 2.0
    assert time.monotonic() - start < 30


def test_one_sandbox_takes_no_threads_from_another(tmp_path: Path) -> None:
    """The system counts threads a user: so no two sandboxes are the same user."""
    bomb = "try:\n    while True: threading.Thread(target=time.sleep, args=(1.5,)).start()\nexcept RuntimeError: pass"
    polite = (
        "end = time.monotonic() + 1.0\nwhile time.monotonic() < end:\n    t = threading.Thread(target=int)\n"
        "    t.start()\n    t.join()\nreturn c * x"
    )
    files = {f"bomb{n}": HEAD + function("scale", bomb + "\ntime.sleep(1.2)\nreturn c * x") for n in range(2)}
    files |= {f"polite{n}": HEAD + function("scale", polite) for n in range(2)}
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    rows = grade(tmp_path, exercise_set("scale"), rng=np.random.default_rng(), limits=LIMITS, workers=4)
    assert {row.name: row.points for row in rows} == dict.fromkeys(files, 2.0)


INTERRUPTED = """
import sys
import numpy as np
from tiny_exercises import exercise_set
from ddpm_lite.grading.grade import grade
from ddpm_lite.grading.sandbox import Limits
limits = Limits(seconds=300.0, memory=int(sys.argv[2]))
rng, unsafe = np.random.default_rng(0), sys.argv[3] == "unsafe"
grade(sys.argv[1], exercise_set(), rng=rng, limits=limits, workers=2, unsafe=unsafe)
"""


@pytest.mark.parametrize(
    ("kind", "ends"), [("safe", signal.SIGINT), ("unsafe", signal.SIGINT), ("safe", signal.SIGKILL)]
)
def test_an_interrupted_grading_leaves_no_process_behind(tmp_path: Path, kind: str, ends: int) -> None:
    token, root = (1 << 28) + os.getpid(), Path(__file__).resolve().parents[2]
    for n in range(5):
        (tmp_path / f"{n}.py").write_text(HEAD + function("scale", "while True: pass"))
    env = {**os.environ, "PYTHONPATH": f"{root / 'tests'}:{root}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path), str(token), kind]
    grading = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    try:
        assert wait_for(lambda: len(workers_with(token)) >= (2 if kind == "unsafe" else 6))
        time.sleep(3.0)  # until they are in the loop
        grading.send_signal(ends)
        _, said = grading.communicate(timeout=20)
        assert wait_for(lambda: not workers_with(token), 10)
        assert ends == signal.SIGKILL or "KeyboardInterrupt" in said
    finally:  # else a failure here would slow down all that follows
        grading.kill()
        for number in workers_with(token):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
