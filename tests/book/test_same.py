"""`book.same` accepts what is equal, refuses what is not, and says why."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from ddpm_lite import book
from ddpm_lite.book import _draws


def shrink(x: Tensor, t: Tensor) -> Tensor:
    """A function of the package's style."""
    return (1 - t)[:, None] * x


def normal_log_prob(x: Tensor) -> Tensor:
    return -0.5 * (x**2).sum(-1) - 0.5 * x.shape[-1] * math.log(2 * math.pi)


def refuse(mine, ours, **inputs) -> str:
    with pytest.raises(book.NotTheSame) as caught:
        book.same(mine, ours, **inputs)
    return str(caught.value)


def test_another_style_is_the_same(capsys):
    book.same(lambda x, t: torch.einsum("b,bd->bd", 1 - t, x), shrink)
    said = capsys.readouterr().out
    assert "the same on 20 random inputs; largest difference" in said


def test_other_names_and_another_order():
    book.same(lambda point, time: (1 - time)[:, None] * point, shrink)
    book.same(lambda t, x: (1 - t)[:, None] * x, shrink)


@pytest.mark.parametrize(
    ("mine", "hint"),
    [
        (lambda x, t: -shrink(x, t), "the sign is flipped"),
        (lambda x, t: 2 * shrink(x, t), "2 times"),
        (lambda x, t: shrink(x, t) ** 2, "the square of it"),
        (lambda x, t: shrink(x, t).abs().sqrt(), "the square root"),
        (lambda x, t: shrink(x, t) + 0.25, "plus the constant 0.25"),
        (lambda x, t: shrink(x, t).float(), "round-off of float32"),
        (lambda x, t: shrink(x, t) * x.shape[1], "D times it"),
        (lambda x, t: shrink(x, t) / x.shape[1], "over D"),
        (lambda x, t: 1 / shrink(x, t), "one over it"),
    ],
)
def test_hints(mine, hint):
    assert hint in refuse(mine, shrink)


def test_a_lost_constant_for_each_dimension():
    said = refuse(lambda x: -0.5 * (x**2).sum(-1), normal_log_prob)
    assert "plus the constant 0.918939 for each dimension" in said


def test_no_hint_where_there_is_no_known_relation():
    assert "hint" not in refuse(lambda x, t: shrink(x, t) + torch.sin(x) * t[:, None], shrink)


def test_smallest_input_is_shown():
    said = refuse(lambda x, t: -shrink(x, t), shrink)
    assert "x = (1, 1) [" in said
    assert "t = (1,) [" in said
    assert "yours: (1, 1)" in said
    assert "ours:  (1, 1)" in said


def test_forgotten_padding_is_found_and_named():
    """Right for B = 1; silent for B == D; an error or a wrong shape elsewhere."""
    assert "to the shape (B, 1)" in refuse(lambda x, t: (1 - t) * x, shrink)


def test_batch_equal_to_width_is_drawn():
    """A function that hides its error for every B != D is caught by the draws with B == D."""

    def only_square(x, t):
        return (1 - t) * x if x.shape[0] == x.shape[1] > 1 else shrink(x, t)

    said = refuse(only_square, shrink)
    assert "of 20 random inputs" in said
    assert any(b == d > 1 for b, d in _draws.SIZES)


def test_shapes_must_agree():
    assert "your shape is (1, 1), the package's (1,)" in refuse(lambda x: normal_log_prob(x)[:, None], normal_log_prob)
    said = refuse(lambda x, t: shrink(x, t)[:, :1], shrink)
    assert "shape" in said
    assert "to the shape (B, 1)" not in said


def test_arguments_stay_as_they_are():
    def in_place(x, t):
        return x.mul_((1 - t)[:, None])

    assert "changes its argument x in place" in refuse(in_place, shrink)


def test_an_argument_grown_in_place():
    def grow(x, t):
        out = shrink(x, t)
        x.resize_(0)
        return out

    assert "in place" in refuse(grow, shrink)


def test_an_error_of_the_reader_is_kept():
    def broken(x, t):
        raise KeyError("sigma")

    with pytest.raises(book.NotTheSame, match="yours raises KeyError") as caught:
        book.same(broken, shrink)
    assert isinstance(caught.value.__cause__, KeyError)


def test_nan_is_not_the_same():
    assert "largest difference" in refuse(lambda x, t: shrink(x, t) * math.nan, shrink)
    half = lambda x, t: torch.where(x > 0, shrink(x, t), torch.nan)  # noqa: E731
    refuse(half, shrink)


def test_times_are_ordered_and_inside():
    seen = []

    def note(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        seen.append((t, s))
        return x

    book.same(lambda x, t, s: x + 0, note)
    t, s = torch.cat([t for t, _ in seen]), torch.cat([s for _, s in seen])
    assert len(seen) == 20
    assert bool(((s > 0) & (s < t) & (t < 1)).all())
    assert t.dtype == torch.float64
    assert all(a.shape == b.shape and a.ndim == 1 for a, b in seen)


class Pair(NamedTuple):
    x0: Tensor
    eps: Tensor


def pair(x: Tensor, t: Tensor) -> Pair:
    return Pair(shrink(x, t), x - shrink(x, t))


def test_tuples_name_what_differs():
    book.same(lambda x, t: (shrink(x, t), t[:, None] * x), pair)
    assert "eps: largest difference" in refuse(lambda x, t: (shrink(x, t), -t[:, None] * x), pair)
    assert "yours returns 1 results, the package's 2" in refuse(shrink_copy, pair)


def shrink_copy(x, t):
    return shrink(x, t)


def test_floats_and_numbers():
    def half_log(w: float) -> float:
        return 0.5 * math.log(w)

    book.same(lambda w: math.log(math.sqrt(w)), half_log)
    book.same(lambda w: torch.tensor(w, dtype=torch.float64).log() / 2, half_log)
    refuse(lambda w: math.log(w), half_log)


def test_a_given_value_is_fixed_and_a_function_of_g_is_drawn():
    def scaled(x: Tensor, cov: Tensor, power: int) -> Tensor:
        seen.append((x.shape[0], cov.shape[0], power))
        return x.sum(-1) * torch.linalg.det(cov) ** power

    seen: list[tuple[int, int, int]] = []
    cov = lambda g, D: torch.randn(D, D, generator=g)  # noqa: E731
    book.same(lambda x, cov, power: x.sum(-1) * torch.det(cov) ** power, scaled, cov=cov, power=2)
    assert {p for _, _, p in seen} == {2}
    assert len({d for _, d, _ in seen}) > 2


def test_a_given_x_sets_the_shape_of_the_rest():
    def mix(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        assert x0.shape == x1.shape == (3, 1, 4, 4)
        return x0 + t[:, None, None, None] * (x1 - x0)

    images = lambda g: torch.randn(3, 1, 4, 4, generator=g)  # noqa: E731
    book.same(lambda x0, x1, t: torch.lerp(x0, x1, t.view(-1, 1, 1, 1)), mix, x0=images)


def test_a_function_as_a_value_stays_a_function():
    def apply(score, x: Tensor) -> Tensor:
        return score(x)

    book.same(lambda score, x: -x, apply, score=lambda x: -x)


def test_both_get_the_same_generator():
    def noised(x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return x + torch.randn(x.shape, generator=generator, dtype=x.dtype)

    def mine(x, *, generator=None):
        return torch.randn(x.shape, generator=generator, dtype=x.dtype) + x

    book.same(mine, noised)
    refuse(lambda x, *, generator=None: x + 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype), noised)


def test_methods_and_defaults():
    class Line:
        def at(self, x: Tensor, t: Tensor, slope: float = 2.0) -> Tensor:
            return slope * shrink(x, t)

    book.same(lambda x, t: 2 * shrink(x, t), Line().at)
    book.same(lambda x, t, slope: slope * shrink(x, t), Line().at)
    assert "the arguments differ" in refuse(lambda x: x, Line().at)


def test_a_builtin_without_a_signature():
    book.same(lambda x: torch.log1p(x.expm1()), torch.abs, x=lambda g: torch.rand(4, 2, generator=g))


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(ValueError, match="one function"):
        book.same(shrink, shrink)
    with pytest.raises(ValueError, match="no such argument"):
        book.same(shrink_copy, shrink, z=1)
    with pytest.raises(ValueError, match="give path="):
        book.same(lambda path, x: x, with_path)
    with pytest.raises(ValueError, match="not finite"):
        book.same(lambda x: x.log() * 1, lambda x: x.log())


def with_path(path: Path, x: Tensor) -> Tensor:  # type: ignore[name-defined]  # noqa: F821
    return x


def test_positive_names_are_positive():
    book.same(lambda var: var.sqrt().log() * 2, lambda var: var.log())
    book.same(lambda abar: (1 - abar).sqrt() ** 2, lambda abar: 1 - abar)
