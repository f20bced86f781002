"""Run a submission's functions in a process of its own: no network, no home, a read-only system, and limits."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import secrets
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from . import seccomp
from .exercise import Outcome

__all__ = ["Limits", "Sandbox", "SandboxError", "run"]

WORKER = Path(__file__).with_name("worker.py")
PACKAGE = Path(__file__).resolve().parents[1]
START_SECONDS = 60.0
LONGEST_SPEC = 1 << 18  # bytes
TIME, ENDED, UNREADABLE = "ran out of time", "ended the process", "returned what cannot be read"


class SandboxError(RuntimeError):
    """The machine cannot run a stranger's code safely, or the worker does not start."""


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    seconds: for one call. memory: bytes beyond what Python and torch take. processes: what it may start: threads, and
    processes where no filter of system calls forbids them. file_size: bytes of one file, and of all files together.
    reply: bytes of what one call returns.
    """

    seconds: float = 10.0
    memory: int = 1 << 30
    processes: int = 8
    file_size: int = 1 << 24
    reply: int = 1 << 26


def interpreter() -> str:
    """Return the path of this Python, without the `..` of a folder that the sandbox does not have."""
    return os.path.abspath(sys.executable)


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


def spare_user() -> int | None:
    """Return a user id of no one's for a sandbox that root starts; None where the caller is not root or has no other.

    Each sandbox gets its own: the system counts the processes of a user, not of a sandbox.
    """
    if os.geteuid() != 0:
        return None
    ranges = [[int(n) for n in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    first, _, count = max(ranges)
    top = min(first + count, 1 << 31)
    return top // 2 + secrets.randbelow(top - top // 2) if top > 1 << 12 else None


def others_may_run() -> bool:
    """Whether users other than root reach this Python: then a worker may give up root without bubblewrap too."""
    bound = folders()
    return all(os.stat(folder).st_mode & 1 for folder in [*parents([*bound, str(WORKER)]), *bound])


def bubblewrap(program: Sequence[str], limits: Limits, *, user: int | None = None, filter_fd: int = -1) -> list[str]:
    """Return the command that runs a program with no network, no home and nothing that it could change.

    user: what the program itself will change to, as root. Then there is no user namespace, where a limit on the
    processes of root would be void. filter_fd: an open file with the filter of system calls, -1 for none.
    """
    bound = folders()
    command = ["bwrap", *namespaces(user), *system(), "--perms", "1777", "--size", str(limits.file_size)]
    command += ["--tmpfs", "/tmp", *python(bound), *hidden(bound), "--ro-bind", str(WORKER), "/worker.py"]
    command += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]
    command += ["--seccomp", str(filter_fd)] if filter_fd >= 0 else []
    return [*command, *program]


def namespaces(user: int | None) -> list[str]:
    options = ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--unshare-uts", "--unshare-ipc"]
    options += ["--unshare-pid", "--unshare-net", "--unshare-cgroup-try", "--cap-drop", "ALL"]
    may_change = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return [*options, *(["--unshare-user"] if user is None else may_change)]


def system() -> list[str]:
    """Return the options for /usr and what the loader needs beside it."""
    options = ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for name in ("bin", "lib", "lib64", "sbin"):
        link = Path("/", name)
        if link.is_symlink():
            options += ["--symlink", os.readlink(link), str(link)]
        elif link.exists():
            options += ["--ro-bind", str(link), str(link)]
    return options


def python(bound: Sequence[str]) -> list[str]:
    """Return the options for the folders of Python and torch, below folders that hold nothing else."""
    options: list[str] = []
    for folder in parents(bound):
        if folder != "/tmp" and not Path(folder).is_relative_to("/usr"):
            options += ["--perms", "0755", "--dir", folder]
    for folder in bound:
        options += ["--ro-bind", folder, folder]
    return options


def hidden(bound: Sequence[str]) -> list[str]:
    """Return the options that empty our own package, where it lies among them: no exercise is answered by it."""
    return ["--tmpfs", str(PACKAGE)] if any(PACKAGE.is_relative_to(folder) for folder in [*bound, "/usr"]) else []


@contextlib.contextmanager
def system_call_filter() -> Iterator[int]:
    """Yield the end of a pipe that holds the filter, or -1 where there is none for this machine."""
    program = seccomp.program()
    if program is None:
        yield -1
        return
    out, into = os.pipe()
    try:
        os.write(into, program)
        os.close(into)
        yield out
    finally:
        os.close(out)


@cache
def require_bubblewrap() -> None:
    """Try bubblewrap once; raises SandboxError that says what is missing."""
    remedy = "grade on a machine that has it, or pass unsafe=True (--unsafe) for submissions that you trust"
    if shutil.which("bwrap") is None:
        raise SandboxError(
            f"bubblewrap (bwrap) is not installed, and a submission is a stranger's code: "
            f"apt install bubblewrap, {remedy}"
        )
    with system_call_filter() as fd:
        command = bubblewrap([interpreter(), "-I", "-c", ""], Limits(), user=spare_user(), filter_fd=fd)
        trial = subprocess.run(
            command, env={}, pass_fds=[fd] if fd >= 0 else [], capture_output=True, text=True, timeout=60
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
    if members["spec.npy"].nbytes > LONGEST_SPEC:  # JSON takes many times its length
        raise ValueError("too long")
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

    unsafe: run without bubblewrap; only the limits hold, and root is given up where others may run this Python.
    Raises SandboxError where bubblewrap is missing or does not work. One thread calls `run`; another may call `stop`.
    """

    def __init__(self, *, unsafe: bool = False, limits: Limits | None = None) -> None:
        self.unsafe, self.limits = unsafe, limits or Limits()
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped, self.lock = False, threading.Lock()
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
                outcomes.append(Outcome(error=str(error)))
            if outcomes[-1].error == UNREADABLE:
                self.end()
            if self.process is None:
                fatal[name], fresh = str(outcomes[-1].error), True
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
        with system_call_filter() as fd:
            process = self.launch(fd)
        assert process.stderr is not None
        try:
            exchange(process, None, START_SECONDS, self.limits.reply)
        except (EOFError, TimeoutError, ValueError) as error:
            kill(process)
            said = process.stderr.read()[-600:].decode(errors="replace").strip()
            raise SandboxError(f"the worker does not start ({error}): {said}") from error

    def launch(self, filter_fd: int) -> subprocess.Popen[bytes]:
        """Start the process; raises SandboxError after `stop`."""
        user = spare_user() if not self.unsafe or others_may_run() else None
        limits = {"memory": self.limits.memory, "file_size": self.limits.file_size, "user": user}
        limits["processes"] = None if self.unsafe else self.limits.processes
        program = [interpreter(), "-I", str(WORKER) if self.unsafe else "/worker.py", json.dumps(limits)]
        command = program if self.unsafe else bubblewrap(program, self.limits, user=user, filter_fd=filter_fd)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        env, pipe = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", **threads}, subprocess.PIPE
        passed = [] if self.unsafe or filter_fd < 0 else [filter_fd]
        with self.lock:
            if self.stopped:
                raise SandboxError("the grading was stopped")
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=pipe, env=env, start_new_session=True, pass_fds=passed
            )
            return self.process

    def stop(self) -> None:
        """Kill the process from another thread, and let none be started again."""
        with self.lock:
            self.stopped = True
            if self.process is not None and self.process.poll() is None:
                kill(self.process)

    def end(self) -> None:
        """Kill the process with its whole group."""
        with self.lock:
            process, self.process = self.process, None
        if process is None:
            return
        kill(process)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


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
        while not complete(got, most):
            ready = [key.fileobj for key, _ in selector.select(max(0.0, deadline - time.monotonic()))]
            if time.monotonic() >= deadline:
                raise TimeoutError(f"no reply in {seconds:g} s")
            if process.stdin in ready:
                to_do = to_do[sent(process.stdin, to_do) :]
                if not to_do:
                    selector.unregister(process.stdin)
            if process.stdout in ready:
                got += received(process)
    return bytes(got[8 : 8 + struct.unpack("<Q", got[:8])[0]])


def complete(got: bytearray, most: int) -> bool:
    """Whether a whole frame has come; raises ValueError for one that is too long."""
    size = struct.unpack("<Q", got[:8])[0] if len(got) >= 8 else 0
    if max(size, len(got) - 8) > most:
        raise ValueError("too long")
    return len(got) >= 8 + size


def sent(pipe: IO[bytes], to_do: memoryview) -> int:
    """Write what the pipe takes and return how much that was; all of it, if no one reads any more."""
    try:
        return os.write(pipe.fileno(), to_do)
    except BrokenPipeError:
        return len(to_do)


def received(process: subprocess.Popen[bytes]) -> bytes:
    """Return what has come; raises EOFError when the process has closed its output."""
    assert process.stdout is not None
    part = os.read(process.stdout.fileno(), 1 << 20)
    if not part:
        raise EOFError(ENDED if lingers(process) else f"{ENDED} (exit code {process.wait()})")
    return part


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
