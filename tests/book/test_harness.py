"""The harness runs a chapter's cells, finds what a table needs, and plants a bug that everyone sees."""

from __future__ import annotations

import textwrap

import chapters
import pytest
import torch

import ddpm_lite as dl
from ddpm_lite import book, paths

SAMPLE = """
---
jupytext:
  text_representation: {extension: .md, format_name: myst, format_version: 0.13}
kernelspec: {display_name: Python 3 (ipykernel), language: python, name: python3}
---
# Sample

```{code-cell} python3
import matplotlib.pyplot as plt
import torch
import ddpm_lite as dl
from ddpm_lite import book
```

```{code-cell} python3
t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
path = dl.Cosine()
found = []
found.append(path.coefs(t).alpha)
```

```{code-cell} python3
fig, ax = plt.subplots()
ax.plot(t, found[0]);
unused = 1
```

```{code-cell} python3
:tags: [slow]
trained = 3
```

```{code-cell} python3
%matplotlib inline
def total(c):
    return c.alpha**2 + c.sigma**2

book.proof(("on the circle", total(path.coefs(t)), torch.ones(9), 1e-12))
```

```{code-cell} python3
book.proof(("alpha", found[0], (1 - torch.sin(torch.pi * t / 2) ** 2).sqrt(), 1e-12))
```
"""


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "99_sample.md"
    path.write_text(SAMPLE.lstrip(), encoding="utf-8")
    return path


def test_cells_and_tags(sample):
    cells = chapters.cells(sample)
    assert [sorted(c.tags) for c in cells] == [[], [], [], ["slow"], [], []]
    assert len(chapters.cells(sample, None)) == 7


def test_run(sample, tmp_path):
    out = chapters.run(sample, folder=tmp_path)
    assert len(out.ran) == 5
    assert len(out.skipped) == 1
    assert "trained" not in out.names
    assert out.names["unused"] == 1
    assert out.printed.count("yes") == 2


def test_a_failing_cell_is_named(sample, tmp_path):
    sample.write_text(SAMPLE.lstrip().replace('book.proof(("alpha"', 'trained\nbook.proof(("alpha"'), encoding="utf-8")
    with pytest.raises(chapters.CellError, match=r"cell 6.*NameError.*tag what needs them slow"):
        chapters.run(sample, folder=tmp_path)


def test_global_states_stay(sample, tmp_path):
    sample.write_text(
        SAMPLE.lstrip().replace("unused = 1", "torch.set_default_dtype(torch.float64); torch.manual_seed(3)"), "utf-8"
    )
    before = torch.get_rng_state()
    chapters.run(sample, folder=tmp_path)
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), before)


def test_needed_cells(sample):
    first, second = chapters.proof_cells(sample)
    assert [c.number for c in chapters.needed_for(sample, first)] == [1, 2, 5]
    assert [c.number for c in chapters.needed_for(sample, second)] == [1, 2, 6]


@pytest.mark.parametrize(
    ("source", "reads", "binds", "changes"),
    [
        ("x = y", {"y"}, {"x"}, set()),
        ("x = 1; z = x", set(), {"x", "z"}, set()),
        ("z = x; x = 1", {"x"}, {"x", "z"}, set()),
        ("def f(a):\n    b = a\n    return b + c", {"c"}, {"f"}, set()),
        ("x = [i + k for i in rows]", {"rows", "k"}, {"x"}, set()),
        ("x[0] = y", {"x", "y"}, set(), {"x"}),
        ("x.append(y)", {"x", "y"}, set(), {"x"}),
        ("for a in xs:\n    b = a", {"xs"}, {"a", "b"}, set()),
        ("import a.b as c", set(), {"c"}, set()),
        ("x = lambda u: u + v", {"v"}, {"x"}, set()),
    ],
)
def test_use_of_names(source, reads, binds, changes):
    use = chapters.use_of(source)
    assert (use.reads, use.binds, use.changes) == (reads, binds, changes)


def test_a_planted_bug_is_seen_everywhere(sample, monkeypatch):
    t = torch.tensor([0.5], dtype=torch.float64)
    right = dl.Cosine().coefs(t).alpha
    held = paths.Cosine.coefs  # a reference taken before
    first, second = chapters.proof_cells(sample)
    chapters.run_table(sample, first)
    with monkeypatch.context() as patch:
        chapters.plant(patch, "paths.Cosine.coefs", "torch.sin(half * (1 - t))", "torch.sin(half * (1 - t)) ** 2")
        assert torch.allclose(held(dl.Cosine(), t).alpha, right**2)
        for table in (first, second):
            with pytest.raises(book.ProofError):
                chapters.run_table(sample, table)
    assert torch.equal(dl.Cosine().coefs(t).alpha, right)
    chapters.run_table(sample, first)


def test_an_edit_that_does_not_apply(monkeypatch):
    with pytest.raises(LookupError, match="0 times"):
        chapters.plant(monkeypatch, "paths.Cosine.coefs", "no such text", "x")
    with pytest.raises(LookupError, match="does not hold"):
        chapters.plant(monkeypatch, "predict.ROWS[v]", "no such text", "x")


def test_a_planted_row(monkeypatch):
    c = dl.Cosine().coefs(torch.tensor([0.3]))
    e = dl.Estimate(torch.ones(1), torch.ones(1))
    right = dl.encode(e, c, "score")
    chapters.plant(monkeypatch, "predict.ROWS[score]", "-1 / c.sigma", "lambda c: (0 * c.alpha, 1 / c.sigma)")
    assert torch.allclose(dl.encode(e, c, "score"), -right)


def test_a_failed_comparison_passes_through(sample, tmp_path):
    bad = textwrap.dedent("""
        def my_f(x: torch.Tensor):
            return x

        book.same(my_f, torch.neg)
    """)
    sample.write_text(SAMPLE.lstrip().replace("unused = 1", bad), encoding="utf-8")
    with pytest.raises(book.NotTheSame, match="sign is flipped"):
        chapters.run(sample, folder=tmp_path)
