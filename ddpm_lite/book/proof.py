"""`proof`: a table of claims, each with a computed number beside an exact one; a false row stops the build."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ._display import inline, put

_LOOSE = 1e-3  # the largest float tolerance, relative to max(1, |exact|), that needs no reason
_STYLE = (
    "<style>:where(.dl-proof table){border-collapse:collapse}"
    ":where(.dl-proof th,.dl-proof td){padding:.2em .7em;text-align:left;border-bottom:1px solid currentColor}"
    ":where(.dl-proof){overflow-x:auto}:where(.dl-proof td.dl-number){font-variant-numeric:tabular-nums}"
    ":where(.dl-proof tr.dl-fails){font-weight:700}</style>"
)


class ProofError(AssertionError):
    """A row of a proof table does not hold."""


@dataclass(frozen=True)
class StandardErrors:
    """`z` standard errors of size `se`: the tolerance of a Monte-Carlo estimate."""

    z: float
    se: float | Tensor


@dataclass(frozen=True)
class Stated:
    """A tolerance wider than round-off, with its reason."""

    tol: float
    why: str


Tolerance = float | StandardErrors | Stated
Row = tuple[str, Any, Any, Tolerance]


def standard_errors(z: float, se: float | Tensor) -> StandardErrors:
    """Return a tolerance of `z` standard errors: |computed - exact| <= z se.

    `se` is a float, or a Tensor of the shape of the compared numbers. Raises ValueError unless 3 <= z <= 8 and se is
    positive and finite: below 3 a true row fails once in 370 times, above 8 a false one may pass.
    """
    size = torch.as_tensor(se, dtype=torch.float64)
    if not 3 <= z <= 8:
        raise ValueError(f"z={z}: give a number of standard errors from 3 to 8")
    if not bool((torch.isfinite(size) & (size > 0)).all()):
        raise ValueError(f"se={se}: give the positive, finite standard error of the computed number")
    return StandardErrors(float(z), se)


def stated(tol: float, why: str) -> Stated:
    """Return a tolerance wider than round-off with its reason, which the table prints.

    Raises ValueError when the reason is missing.
    """
    if len(why.split()) < 3:
        raise ValueError(f"why={why!r}: say in a few words why the tolerance is wider than round-off")
    return Stated(float(tol), why)


def proof(*rows: Row) -> None:
    """Display the table "computed | exact | tolerance | holds" and raise ProofError if a row does not hold.

    A row is ``(claim, computed, exact, tolerance)``. The numbers are floats or Tensors of one shape; Tensors compare by
    their largest difference. The tolerance is a float (absolute, for round-off), `standard_errors(z, se)` or
    `stated(tol, why)`. NaN and infinity never hold. Raises ValueError for a row that could not fail: one object on both
    sides, or a float tolerance above 1e-3 max(1, |exact|) or as large as the exact number.
    """
    if not rows:
        raise ValueError("rows is empty: give at least one (claim, computed, exact, tolerance)")
    judged = [_judge(row) for row in rows]
    put(_markup(judged), _text(judged))
    failed = [f"{j.claim}: computed {j.computed}, exact {j.exact}, {j.why}" for j in judged if not j.holds]
    if failed:
        raise ProofError(f"{len(failed)} of {len(rows)} rows do not hold:\n  " + "\n  ".join(failed))


@dataclass(frozen=True)
class _Judged:
    """A row, ready to print."""

    claim: str
    computed: str
    exact: str
    tolerance: str
    holds: bool
    why: str


def _judge(row: Row) -> _Judged:
    """Compare the two sides of a row."""
    if not (isinstance(row, tuple) and len(row) == 4):
        raise ValueError(f"row={row!r}: give the tuple (claim, computed, exact, tolerance)")
    claim, computed, exact, tolerance = row
    if not (isinstance(claim, str) and claim.strip()):
        raise ValueError(f"claim={claim!r}: give a sentence")
    if _one_object(computed, exact):
        raise ValueError(f"{claim}: computed and exact are one object; compute them by different code")
    a, b = _number(claim, computed), _number(claim, exact)
    allowed = _allowed(claim, b, tolerance)
    if a.shape != b.shape:
        why = f"shapes {tuple(a.shape)} and {tuple(b.shape)} differ"
        return _Judged(claim, str(tuple(a.shape)), str(tuple(b.shape)), _say(tolerance, b), False, why)
    if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        return _Judged(claim, _write(a, 0.0), _write(b, 0.0), _say(tolerance, b), False, "not finite")
    gap = (a - b).abs()
    holds = bool((gap <= allowed).all())
    step = float(allowed.min()) if allowed.numel() else 0.0
    why = f"largest difference {float(gap.max()):.2g}, tolerance {float(allowed.max()):.2g}"
    return _Judged(claim, _write(a, step), _write(b, step), _say(tolerance, b), holds, why)


def _one_object(a: Any, b: Any) -> bool:
    """Say whether both sides are one object, or Tensors in one place of the memory; small whole numbers always are."""
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.numel() and b.numel():
        return a.data_ptr() == b.data_ptr()
    return a is b and not isinstance(a, int)


def _number(claim: str, value: Any) -> Tensor:
    """Return `value` as a float64 Tensor, refusing what is not a number."""
    try:
        x = torch.as_tensor(value).detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{claim}: {value!r} is not a number or a Tensor") from error
    if x.numel() == 0:
        raise ValueError(f"{claim}: an empty Tensor proves nothing")
    return x


def _allowed(claim: str, exact: Tensor, tolerance: Tolerance) -> Tensor:
    """Return the allowed difference, refusing a tolerance under which the row could not fail."""
    if isinstance(tolerance, StandardErrors):
        allowed = tolerance.z * torch.as_tensor(tolerance.se).detach().to("cpu", torch.float64)
        if bool((allowed >= exact.abs().clamp(min=1)).any()):
            raise ValueError(f"{claim}: z se = {float(allowed.max()):.2g} is as large as the number; draw more samples")
        return allowed
    size = tolerance.tol if isinstance(tolerance, Stated) else float(tolerance)
    if not (math.isfinite(size) and size >= 0) or isinstance(tolerance, bool):
        raise ValueError(f"{claim}: tolerance={tolerance!r}; give a number that is finite and not negative")
    if not isinstance(tolerance, Stated):
        largest, smallest = float(exact.abs().max()), float(exact.abs().clamp(min=1).min())
        if size > _LOOSE * smallest:
            raise ValueError(
                f"{claim}: tolerance={size:g} is wider than round-off; "
                "give standard_errors(z, se), or stated(tol, why) with the reason"
            )
        if 0 < largest <= size:
            raise ValueError(f"{claim}: tolerance={size:g} is as large as exact={largest:g}; 0 would pass too")
    return torch.tensor(size, dtype=torch.float64)


def _say(tolerance: Tolerance, exact: Tensor) -> str:
    """Describe a tolerance; standard errors with the chance that a true row fails."""
    if isinstance(tolerance, StandardErrors):
        se = torch.as_tensor(tolerance.se, dtype=torch.float64)
        chance = min(1.0, exact.numel() * math.erfc(tolerance.z / math.sqrt(2)))
        return f"{tolerance.z:g} standard errors of {float(se.max()):.2g}; a true row fails with chance {chance:.0e}"
    if isinstance(tolerance, Stated):
        return f"{tolerance.tol:.2g}, because {tolerance.why}"
    return f"{tolerance:.0e}" if tolerance else "0"


def _write(x: Tensor, tolerance: float) -> str:
    """Write a number to the digit that the tolerance resolves; a long Tensor by its shape and range."""
    if x.numel() == 1:
        return _digits(float(x), tolerance)
    if x.ndim == 1 and x.numel() <= 4:
        return "(" + ", ".join(_digits(float(v), tolerance) for v in x) + ")"
    low, high = (_digits(float(v), tolerance) for v in (x.min(), x.max()))
    return f"{x.numel()} numbers, {low} to {high}"


def _digits(value: float, tolerance: float) -> str:
    """Write `value` with the significant digits above `tolerance`, at least 3 and at most 8."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    top = math.floor(math.log10(abs(value)))
    digits = 8 if tolerance == 0 else top - math.floor(math.log10(tolerance)) + 1
    return f"{value:.{min(8, max(3, digits))}g}"


def _markup(judged: list[_Judged]) -> str:
    """Return the table as HTML."""
    head = "".join(f'<th scope="col">{h}</th>' for h in ("claim", "computed", "exact", "tolerance", "holds"))
    body = "".join(
        f'<tr class="{"dl-holds" if j.holds else "dl-fails"}"><td>{inline(j.claim)}</td>'
        f'<td class="dl-number">{html.escape(j.computed)}</td><td class="dl-number">{html.escape(j.exact)}</td>'
        f"<td>{inline(j.tolerance)}</td><td>{_mark(j)}</td></tr>"
        for j in judged
    )
    return f'{_STYLE}<div class="dl-proof"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _mark(j: _Judged) -> str:
    """Return the last column: yes, or no with the reason."""
    return "yes" if j.holds else f"no: {html.escape(j.why)}"


def _text(judged: list[_Judged]) -> str:
    """Return the table as plain text."""
    lines = [("claim", "computed", "exact", "tolerance", "holds")]
    lines += [(j.claim, j.computed, j.exact, j.tolerance, "yes" if j.holds else f"no: {j.why}") for j in judged]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(" | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
