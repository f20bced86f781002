"""`book.proof` is honest: a false row fails, and a row that could not fail is refused."""

from __future__ import annotations

import math

import pytest
import torch

from ddpm_lite import book


def test_a_table_that_holds(capsys):
    book.proof(
        ("entropy of $N(0, 1)$", 0.5 * math.log(2 * math.pi * math.e), 1.4189385332046727, 1e-12),
        ("a mean", 0.503, 0.5, book.standard_errors(5, 0.001)),
        ("quoted", 1.3212, 1.321, book.stated(5e-4, "three digits are quoted")),
    )
    said = capsys.readouterr().out
    assert said.splitlines()[0].split(" | ")[0].strip() == "claim"
    assert [line.rsplit(" | ", 1)[1] for line in said.splitlines()[1:]] == ["yes"] * 3
    assert "1.4189385" in said
    assert "chance 6e-07" in said  # erfc(5 / sqrt 2) = 5.7e-7
    assert "because three digits are quoted" in said


def test_every_false_row_is_named_and_the_table_stands_first(capsys):
    with pytest.raises(book.ProofError) as caught:
        book.proof(("one", 1.0, 1.1, 1e-6), ("two", 2.0, 2.0 + 1e-9, 1e-6), ("three", 3.0, 3.1, 1e-6))
    said = str(caught.value)
    assert "2 of 3 rows" in said
    assert "one:" in said
    assert "three:" in said
    assert "two" not in said
    table = capsys.readouterr().out
    assert "no: largest difference 0.1" in table
    assert table.count("yes") == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_nan_and_infinity_never_hold(value, side):
    pair = (value, 1.0) if side == 0 else (1.0, value)
    with pytest.raises((book.ProofError, ValueError)):
        book.proof(("bad", *pair, 1e-6))
    both = torch.tensor([1.0, value]), torch.tensor([1.0, value])
    with pytest.raises((book.ProofError, ValueError)):
        book.proof(("bad", *both, 1e-6))


def test_one_object_on_both_sides_is_refused():
    x = torch.ones(3)
    with pytest.raises(ValueError, match="one object"):
        book.proof(("same", x, x, 1e-6))
    y = math.pi * 2
    with pytest.raises(ValueError, match="one object"):
        book.proof(("same", y, y, 1e-6))


def test_one_storage_on_both_sides_is_refused():
    x = torch.ones(3)
    with pytest.raises(ValueError, match="one object"):
        book.proof(("view", x, x[:], 1e-6))


def test_tensors_compare_element_by_element():
    a = torch.linspace(0, 1, 50, dtype=torch.float64)
    book.proof(("equal", a + 1e-13, a, 1e-12))
    b = a.clone()
    b[17] += 1e-3
    with pytest.raises(book.ProofError, match=r"largest difference 0\.001"):
        book.proof(("one wrong of 50", b, a, 1e-6))


def test_shapes_must_agree():
    with pytest.raises(book.ProofError, match=r"shapes \(3,\) and \(\) differ"):
        book.proof(("broadcast", torch.ones(3), 1.0, 1e-6))
    with pytest.raises(ValueError, match="empty"):
        book.proof(("empty", torch.ones(0), torch.ones(0), 1e-6))


@pytest.mark.parametrize(
    ("exact", "tolerance", "refused"),
    [
        (1.0, 1e-3, False),
        (1.0, 2e-3, True),
        (0.0, 1e-3, False),
        (0.0, 1e-2, True),
        (1000.0, 1.0, False),
        (1000.0, 1.1, True),
        (4.04e-5, 1e-4, True),  # 0 would pass
        (4.04e-5, 1e-7, False),
        (1.0, 0.0, False),
        (1.0, -1e-9, True),
        (1.0, math.nan, True),
        (1.0, math.inf, True),
    ],
)
def test_a_float_tolerance_is_round_off(exact, tolerance, refused):
    if refused:
        with pytest.raises(ValueError, match="tolerance"):
            book.proof(("row", exact + 0.0 * tolerance if exact else 1e-30, exact, tolerance))
    else:
        book.proof(("row", exact + 0.5 * tolerance, torch.tensor(exact, dtype=torch.float64), tolerance))


def test_a_large_element_does_not_widen_the_tolerance_of_a_small_one():
    with pytest.raises(ValueError, match="wider than round-off"):
        book.proof(("mixed", torch.tensor([1.0, 1e6]), torch.tensor([1.0, 1e6]), 1.0))


def test_standard_errors():
    book.proof(("inside", 0.5049, 0.5, book.standard_errors(5, 0.001)))
    with pytest.raises(book.ProofError):
        book.proof(("outside", 0.5051, 0.5, book.standard_errors(5, 0.001)))
    for z in (0, 2.9, 9, math.nan):
        with pytest.raises(ValueError, match="z="):
            book.standard_errors(z, 0.1)
    for se in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="se="):
            book.standard_errors(4, se)
    with pytest.raises(ValueError, match="as large as the number"):
        book.proof(("wide", 0.5, 0.4, book.standard_errors(5, 0.3)))


def test_standard_errors_by_element(capsys):
    exact = torch.tensor([1.0, 2.0])
    se = torch.tensor([0.001, 0.1])
    book.proof(("both", torch.tensor([1.004, 2.4]), exact, book.standard_errors(5, se)))
    assert "chance 1e-06" in capsys.readouterr().out  # two elements at 5.7e-7
    with pytest.raises(book.ProofError):
        book.proof(("first", torch.tensor([1.006, 2.0]), exact, book.standard_errors(5, se)))


def test_the_chance_is_right():
    """A true row fails as often as the table says: 200,000 draws at z = 3, 540 expected, sd 23; 7 sd: 1e-11."""
    z = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).abs()
    assert abs(int((z > 3).sum()) - 200_000 * math.erfc(3 / math.sqrt(2))) < 7 * 23.3


def test_a_reason_is_asked_for():
    with pytest.raises(ValueError, match="why"):
        book.stated(0.1, "")
    with pytest.raises(book.ProofError):
        book.proof(("still checked", 1.2, 1.0, book.stated(0.1, "the text quotes one figure")))


def test_rows_must_have_their_form():
    for rows in ((), (("a", 1.0, 1.5),), (("", 1.0, 1.5, 1e-6),), (("a", "x", 1.0, 1e-6),), ((1, 1.0, 1.5, 1e-6),)):
        with pytest.raises(ValueError, match=r"."):
            book.proof(*rows)
    with pytest.raises(ValueError, match="tolerance"):
        book.proof(("bool", 1.0, 1.5, True))


def test_gradients_and_other_types_do():
    w = torch.tensor(2.0, requires_grad=True)
    book.proof(
        ("with a graph", w**2, 4.0, 1e-6), ("whole numbers", 4, 4, 0.0), ("float32", torch.tensor(0.1), 0.1, 1e-7)
    )


@pytest.mark.parametrize(
    ("value", "tolerance", "text"),
    [
        (1.4189385332, 1e-6, "1.418939"),
        (4.0358e-5, 1e-8, "4.036e-05"),
        (0.25, 0.01, "0.25"),
        (0.275512345, 1e-5, "0.27551"),
        (1234.5678, 1e-2, "1234.57"),
        (0.0, 1e-9, "0"),
    ],
)
def test_digits_follow_the_tolerance(value, tolerance, text):
    from ddpm_lite.book.proof import _digits

    assert _digits(value, tolerance) == text
