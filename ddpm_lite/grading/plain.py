"""Runs answers of our own in this process: what the self-test and the hints need. Never a stranger's code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from .exercise import Outcome

__all__ = ["run_plainly"]


class _OutOfTimeError(BaseException):  # no `except Exception` of an answer may take it
    pass


def run_plainly(source: str, calls: Sequence[tuple[str, tuple[Any, ...]]], *, seconds: float = 60.0) -> list[Outcome]:
    """Call functions of a source, each as (name, args), in this process, without any protection.

    Arrays become tensors, and the tensors of a result become arrays. seconds: for all calls together; it is kept in
    the main thread of a Unix system only.
    """
    namespace: dict[str, Any] = {"__name__": "answer"}
    outcomes: list[Outcome] = []
    try:
        with _limit(seconds):
            exec(compile(source, "<answer>", "exec"), namespace)
            for name, args in calls:
                outcomes.append(_outcome(namespace, name, args))
    except _OutOfTimeError:
        outcomes += [Outcome(error="ran out of time")] * (len(calls) - len(outcomes))
    except Exception as error:
        outcomes = [Outcome(error=_raised(error))] * len(calls)
    return outcomes


def _outcome(namespace: dict[str, Any], name: str, args: tuple[Any, ...]) -> Outcome:
    if name not in namespace:
        return Outcome(error=f"there is no function {name}")
    given = tuple(_tensor(arg) for arg in args)
    try:
        value = _array(namespace[name](*given))
    except _OutOfTimeError:
        raise
    except Exception as error:
        return Outcome(error=_raised(error))
    return Outcome(value, changed=[place for place, arg in enumerate(args) if not _same(given[place], arg)])


def _raised(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return f"raised {type(error).__name__}: {text}" if text else f"raised {type(error).__name__}"


def _tensor(arg: Any) -> Any:
    if isinstance(arg, tuple):
        return tuple(_tensor(part) for part in arg)
    return torch.from_numpy(arg.copy()) if isinstance(arg, np.ndarray) else arg


def _array(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_array(part) for part in value)
    if isinstance(value, torch.Tensor):
        return value.detach().resolve_conj().resolve_neg().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"the result is a {type(value).__name__}: return tensors or numbers")
    return array


def _same(tensor: Any, array: Any) -> bool:
    if isinstance(array, tuple):
        return all(_same(one, other) for one, other in zip(tensor, array, strict=True))
    return not isinstance(array, np.ndarray) or np.array_equal(tensor.detach().numpy(), array, equal_nan=True)


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: Any) -> None:
        raise _OutOfTimeError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
