"""The process that runs a submission: it reads calls, makes them and writes what they return, and knows no answer.

Run as `python -I worker.py LIMITS`, with LIMITS as JSON; it imports nothing of the package. A frame on stdin or stdout
is the length of a message in 8 bytes, then the message: an .npz without compression and without pickle.
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import sys
import threading
import time
from typing import Any, BinaryIO

import numpy as np
import torch

MEMORY = "used too much memory"
MOST_PROCESSES = 1 << 22  # that Linux can number
FILES = 256  # open at once


def pack(spec: Any, arrays: list[np.ndarray]) -> bytes:
    """Return a message: `spec` is JSON in which {"array": n} stands for an array."""
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(spec).encode(), dtype=np.uint8)
    np.savez(buffer, spec=text, **{f"a{n}": array for n, array in enumerate(arrays)})  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(message: bytes) -> tuple[Any, list[np.ndarray]]:
    with np.load(io.BytesIO(message), allow_pickle=False) as file:
        return json.loads(file["spec"].tobytes()), [file[f"a{n}"] for n in range(len(file.files) - 1)]


def to_call(spec: Any, arrays: list[np.ndarray]) -> Any:
    """Return an argument of a call: arrays as fresh tensors."""
    if "array" in spec:
        return torch.from_numpy(arrays[spec["array"]].copy())
    return tuple(to_call(part, arrays) for part in spec["tuple"]) if "tuple" in spec else spec["plain"]


def to_spec(value: Any, arrays: list[np.ndarray], depth: int = 0) -> Any:
    """Return the JSON for a value and append its arrays; raises TypeError for what is no array, number or tuple."""
    if isinstance(value, torch.Tensor):
        value = to_array(value)
    if isinstance(value, (np.ndarray, np.generic, bool, int, float)):
        value = np.array(value)
        if value.dtype.kind not in "fiub":
            raise TypeError(f"returned an array of {value.dtype}")
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, (tuple, list)) and depth < 3 and len(value) <= 64:
        return {"tuple": [to_spec(part, arrays, depth + 1) for part in value]}
    if isinstance(value, str) and depth:  # a string among the arguments
        return {"tuple": []}
    if value is None:
        raise TypeError("returned nothing: the function must end with a return statement")
    raise TypeError(f"returned an object of type {type(value).__name__}, not a tensor, a number or a tuple of those")


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """Return the numbers of a tensor; raises TypeError for one that is not a plain array of them."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        kind = "quantised" if tensor.is_quantized else "meta" if tensor.is_meta else "nested or sparse"
        raise TypeError(f"returned a {kind} tensor: return a plain one")
    if tensor.dtype is torch.bfloat16:
        raise TypeError("returned an array of bfloat16")
    return tensor.detach().resolve_conj().resolve_neg().cpu().numpy()


def explain(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "not enough memory" in text:
        return MEMORY
    return f"raised {type(error).__name__}: {text}" if text else f"raised {type(error).__name__}"


def define(source: str) -> tuple[dict[str, Any], str | None]:
    """Run a source, statement by statement; return its names and the first error."""
    import ast

    names: dict[str, Any] = {"__name__": "submission"}
    first = None
    for node in ast.parse(source).body:
        try:
            future = "from __future__ import annotations\n" if "from __future__" in source else ""
            body = [*ast.parse(future).body, node]
            exec(compile(ast.Module(body, []), "submission", "exec", dont_inherit=True), names)
        except BaseException as error:
            first = first or explain(error)
    return names, first


def call(names: dict[str, Any], first: str | None, name: str, specs: list[Any], arrays: list[np.ndarray]) -> bytes:
    """Return the message of one call: its value or error, and the arguments as the call left them."""
    if name not in names:
        return pack({"error": f"could not be defined: {first}" if first else "is not defined"}, [])
    arguments = [to_call(spec, arrays) for spec in specs]
    out: list[np.ndarray] = []
    try:
        value = to_spec(names[name](*arguments), out)
    except TypeError as error:
        text = str(error)
        return pack({"error": text if text.startswith("returned ") else explain(error)}, [])
    except BaseException as error:
        cause = f" (an earlier line {first})" if first and isinstance(error, NameError) else ""
        return pack({"error": explain(error) + cause}, [])
    left = [to_spec(argument, out, 1) if keeps_arrays(argument) else None for argument in arguments]
    return pack({"value": value, "left": left}, out)


def keeps_arrays(argument: Any) -> bool:
    return isinstance(argument, (torch.Tensor, tuple))


def confine(limits: dict[str, Any]) -> None:
    """Give up root where asked, and set the limits that no submission can raise again."""
    if limits["user"] is not None:
        os.setgroups([])
        os.setresgid(*[limits["user"]] * 3)
        os.setresuid(*[limits["user"]] * 3)
    if limits["processes"] is not None:
        most = least_processes() + limits["processes"] - 1
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    for kind, limit in (
        (resource.RLIMIT_AS, used + limits["memory"]),
        (resource.RLIMIT_FSIZE, limits["file_size"]),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))


def least_processes() -> int:
    """Return the lowest limit on processes under which one more starts.

    Older kernels count all processes of the user on the machine, newer ones those of the sandbox.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    low, high = 0, MOST_PROCESSES if hard == resource.RLIM_INFINITY else min(hard, MOST_PROCESSES)
    while high - low > 1:
        middle = (low + high) // 2
        resource.setrlimit(resource.RLIMIT_NPROC, (middle, hard))
        low, high = (low, middle) if starts() else (middle, high)
    return high


def starts() -> bool:
    """Whether a thread starts; the one before may take a moment to be gone."""
    for _ in range(3):
        thread = threading.Thread(target=int)
        try:
            thread.start()
        except RuntimeError:
            time.sleep(0.002)
            continue
        thread.join()
        return True
    return False


def read_frame(file: BinaryIO) -> bytes | None:
    head = file.read(8)
    return file.read(struct.unpack("<Q", head)[0]) if len(head) == 8 else None


def main() -> None:
    """Serve until stdin ends; the first frame out says that the imports are done."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    torch.set_num_threads(1)
    confine(json.loads(sys.argv[1]))
    me, names, first = os.getpid(), {}, None  # type: tuple[int, dict[str, Any], str | None]
    message = pack({"ready": True}, [])
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    while True:
        replies.write(struct.pack("<Q", len(message)) + message)
        replies.flush()
        frame = read_frame(requests)
        if frame is None:
            return
        spec, arrays = unpack(frame)
        if spec["source"] is not None:
            names, first = define(spec["source"])
        message = call(names, first, spec["name"], spec["args"], arrays)
        if os.getpid() != me:  # a process that the submission forked
            os._exit(0)


if __name__ == "__main__":
    main()
