"""Run a submission's functions in a process of its own: no network, no home, a read-only system, and limits."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .exercise import Outcome

__all__ = ["Limits", "Sandbox", "SandboxError", "run"]

WORKER = Path(__file__).with_name("worker.py")
PACKAGE = Path(__file__).resolve().parents[1]
NOBODY = 65534
START_SECONDS = 60.0
TIME, ENDED, UNREADABLE = "ran out of time", "ended the process", "returned what cannot be read"


class SandboxError(RuntimeError):
    """The machine cannot run a stranger's code safely, or the worker does not start."""


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    seconds: for one call. memory: bytes beyond what Python and torch take. processes: also threads.
    file_size: bytes of one file, and of all files together.   reply: bytes of what one call returns.
    """

    seconds: float = 10.0
    memory: int = 1 << 30
    processes: int = 8
    file_size: int = 1 << 24
    reply: int = 1 << 26


def folders() -> list[str]:
    """Return the folders that Python and torch need: the interpreter's (a home may hide it), the venv and torch's."""
    torch = next((p for p in map(Path, sys.path) if (p / "torch" / "__init__.py").exists()), None)
    wanted = [sys.base_prefix, sys.prefix, *([str(torch)] if torch else [])]
    found = dict.fromkeys(path for folder in wanted for path in (os.path.abspath(folder), os.path.realpath(folder)))
    return [path for path in found if not Path(path).is_relative_to("/usr")]


def parents(paths: Iterable[str]) -> list[str]:
    """Return the folders above some paths, from the top; bubblewrap would make them readable by their owner only."""
    above = {str(parent) for path in paths for parent in Path(path).parents if str(parent) != "/"}
    return sorted(above, key=lambda path: path.count("/"))


def bubblewrap(program: Sequence[str], limits: Limits) -> list[str]:
    """Return the command that runs a program with no network, no home and nothing that it could change.

    Root gets no user namespace, where its limit on processes would be void: the worker gives up the user id instead.
    """
    root = os.geteuid() == 0
    command = ["bwrap", "--die-with-parent", "--new-session", "--hostname", "sandbox", "--unshare-uts"]
    command += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-cgroup-try", "--cap-drop", "ALL"]
    command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if root else ["--unshare-user"]
    command += ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for name in ("bin", "lib", "lib64", "sbin"):
        link = Path("/", name)
        if link.is_symlink():
            command += ["--symlink", os.readlink(link), str(link)]
        elif link.exists():
            command += ["--ro-bind", str(link), str(link)]
    command += ["--perms", "1777", "--size", str(limits.file_size), "--tmpfs", "/tmp"]
    bound = folders()
    for folder in parents(bound):
        if folder != "/tmp" and not Path(folder).is_relative_to("/usr"):
            command += ["--perms", "0755", "--dir", folder]
    for folder in bound:
        command += ["--ro-bind", folder, folder]
    if any(PACKAGE.is_relative_to(folder) for folder in [*bound, "/usr"]):  # an exercise is not to be answered by it
        command += ["--tmpfs", str(PACKAGE)]
    command += ["--ro-bind", str(WORKER), "/worker.py", "--proc", "/proc", "--dev", "/dev"]
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", *program]


@cache
def require_bubblewrap() -> None:
    """Try bubblewrap once; raises SandboxError that says what is missing."""
    remedy = "grade on a machine that has it, or pass unsafe=True (--unsafe) for submissions that you trust"
    if shutil.which("bwrap") is None:
        raise SandboxError(
            f"bubblewrap (bwrap) is not installed, and a submission is a stranger's code: "
            f"apt install bubblewrap, {remedy}"
        )
    trial = subprocess.run(
        bubblewrap([sys.executable, "-I", "-c", ""], Limits()), env={}, capture_output=True, text=True, timeout=60
    )
    if trial.returncode:
        raise SandboxError(
            "bubblewrap does not work here; the system may forbid user namespaces (sysctl "
            f"kernel.unprivileged_userns_clone, AppArmor, or a container): {trial.stderr.strip()[-300:]}; {remedy}"
        )


def to_spec(value: Any, arrays: list[np.ndarray]) -> Any:
    """Return the JSON for an argument, and append its arrays."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, (tuple, list)):
        return {"tuple": [to_spec(part, arrays) for part in value]}
    return {"plain": value.item() if isinstance(value, np.generic) else value}


def pack(spec: Any, arrays: list[np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(spec).encode(), dtype=np.uint8)
    np.savez(buffer, spec=text, **{f"a{n}": array for n, array in enumerate(arrays)})  # type: ignore[arg-type]
    return buffer.getvalue()


def read_array(raw: bytes) -> np.ndarray:
    """Read one .npy; what its header claims costs no memory."""
    file = io.BytesIO(raw)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "fiub":
        raise ValueError(f"dtype {dtype}")
    array = np.frombuffer(raw, dtype, count=math.prod(shape), offset=file.tell())
    return array.reshape(shape, order="F" if fortran else "C").copy()


def unpack(message: bytes) -> tuple[Any, list[np.ndarray]]:
    """Return JSON and arrays of a reply, which a hostile worker may have written: no compression, no pickle."""
    with zipfile.ZipFile(io.BytesIO(message)) as file:
        infos = file.infolist()
        if len(infos) > 256 or sum(info.file_size for info in infos) > len(message):
            raise ValueError("too long")
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise ValueError("compressed")
        members = {info.filename: read_array(file.read(info)) for info in infos}
    return json.loads(members["spec.npy"].tobytes()), [members[f"a{n}.npy"] for n in range(len(members) - 1)]


def from_spec(spec: Any, arrays: list[np.ndarray], depth: int = 0) -> Any:
    if "array" in spec:
        return arrays[int(spec["array"])]
    if depth > 4 or len(spec["tuple"]) > 64:
        raise ValueError("too deep or too long")
    return tuple(from_spec(part, arrays, depth + 1) for part in spec["tuple"])


def changed(before: Any, after: Any) -> bool:
    """Whether an argument differs from what was sent, in shape or in a byte."""
    if isinstance(before, tuple):
        return len(before) != len(after) or any(changed(b, a) for b, a in zip(before, after, strict=True))
    if not isinstance(before, np.ndarray):
        return False
    return not isinstance(after, np.ndarray) or before.shape != after.shape or before.tobytes() != after.tobytes()


def outcome(message: bytes, args: Sequence[Any]) -> Outcome:
    """Read a reply; one that is not what the worker writes is an error of the submission."""
    try:
        spec, arrays = unpack(message)
        if "error" in spec:
            return Outcome(error=str(spec["error"])[:400])
        left = [None if part is None else from_spec(part, arrays) for part in spec["left"]]
        places = [n for n, (b, a) in enumerate(zip(args, left, strict=True)) if a is not None and changed(b, a)]
        return Outcome(from_spec(spec["value"], arrays), changed=places)
    except Exception:
        return Outcome(error=UNREADABLE)


class Sandbox:
    """One submission's process, started when first needed and again after an exit or a time-out.

    unsafe: run without bubblewrap. Raises SandboxError where bubblewrap is missing or does not work.
    """

    def __init__(self, *, unsafe: bool = False, limits: Limits | None = None) -> None:
        self.unsafe, self.limits = unsafe, limits or Limits()
        self.process: subprocess.Popen[bytes] | None = None
        if not unsafe:
            require_bubblewrap()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def run(self, source: str, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Outcome]:
        """Return what the calls came to. A call that ends the process stands for the later calls of its function."""
        outcomes: list[Outcome] = []
        fatal: dict[str, str] = {}
        fresh = True
        for name, args in calls:
            if name in fatal:
                outcomes.append(Outcome(error=fatal[name]))
                continue
            arrays: list[np.ndarray] = []
            specs = [to_spec(arg, arrays) for arg in args]
            message = pack({"source": source if fresh else None, "name": name, "args": specs}, arrays)
            try:
                outcomes.append(outcome(self.ask(message), args))
                fresh = False
            except EOFError as error:
                fatal[name], fresh = str(error), True
                outcomes.append(Outcome(error=str(error)))
        return outcomes

    def ask(self, message: bytes) -> bytes:
        """Send a message and return the reply; raises EOFError in words when the process had to end."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        assert self.process is not None
        try:
            return exchange(self.process, message, self.limits.seconds, self.limits.reply)
        except (TimeoutError, ValueError, EOFError) as error:
            self.end()
            late, long = f"{TIME} ({self.limits.seconds:g} s)", f"returned more than {self.limits.reply >> 20} MB"
            words = {TimeoutError: late, ValueError: long}.get(type(error), str(error))
            raise EOFError(words) from None

    def start(self) -> None:
        """Start the worker and wait for its imports; raises SandboxError with what it said."""
        self.end()
        user = NOBODY if not self.unsafe and os.geteuid() == 0 else None
        limits = {"memory": self.limits.memory, "file_size": self.limits.file_size, "user": user}
        limits["processes"] = None if self.unsafe else self.limits.processes
        where = str(WORKER) if self.unsafe else "/worker.py"
        program = [sys.executable, "-I", where, json.dumps(limits)]
        command = program if self.unsafe else bubblewrap(program, self.limits)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        with tempfile.TemporaryFile() as errors:
            pipe = subprocess.PIPE
            env = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", **threads}
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=errors, env=env, start_new_session=True
            )
            try:
                exchange(self.process, None, START_SECONDS, self.limits.reply)
            except (EOFError, TimeoutError, ValueError) as error:
                self.end()
                errors.seek(0)
                said = errors.read()[-600:].decode(errors="replace").strip()
                raise SandboxError(f"the worker does not start ({error}): {said}") from error

    def end(self) -> None:
        """Kill the process with its whole group."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.process = None


def exchange(process: subprocess.Popen[bytes], message: bytes | None, seconds: float, most: int) -> bytes:
    """Write a frame and read one.

    Raises TimeoutError, EOFError when the process has ended, ValueError for a reply of more than `most` bytes.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    to_do = memoryview(b"" if message is None else struct.pack("<Q", len(message)) + message)
    got, deadline = bytearray(), time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if to_do:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        while True:
            ready = [key.fileobj for key, _ in selector.select(max(0.0, deadline - time.monotonic()))]
            if time.monotonic() >= deadline:
                raise TimeoutError(f"no reply in {seconds:g} s")
            if process.stdin in ready:
                try:
                    to_do = to_do[os.write(process.stdin.fileno(), to_do) :]
                except BrokenPipeError:
                    to_do = to_do[:0]
                if not to_do:
                    selector.unregister(process.stdin)
            if process.stdout in ready:
                part = os.read(process.stdout.fileno(), 1 << 20)
                if not part:
                    raise EOFError(f"{ENDED} (exit code {process.wait()})" if not lingers(process) else ENDED)
                got += part
                size = struct.unpack("<Q", got[:8])[0] if len(got) >= 8 else 0
                if max(size, len(got) - 8) > most:
                    raise ValueError("too long")
                if len(got) >= 8 and len(got) - 8 >= size:
                    return bytes(got[8 : 8 + size])


def lingers(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process that closed its output still runs a moment later."""
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        return True
    return False


def run(
    source: str, calls: Sequence[tuple[str, tuple[Any, ...]]], *, unsafe: bool = False, limits: Limits | None = None
) -> list[Outcome]:
    """Run a source and make the calls (function, arguments) in a process that knows no answer.

    Raises SandboxError where bubblewrap is missing or does not work, unless unsafe.
    """
    with Sandbox(unsafe=unsafe, limits=limits) as sandbox:
        return sandbox.run(source, calls)
