"""Read a chapter's cells and run them in this process, so that a test can plant a bug under them."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import linecache
import os
import random
import re
import symtable
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any
from unittest import mock

import jupytext
import matplotlib as mpl
import numpy as np
import torch

from ddpm_lite import book
from ddpm_lite.book.show import source as source_of

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"


def written() -> list[Path]:
    """Return the chapters that exist, in order."""
    return sorted(BOOK.glob("[0-9][0-9]_*.md"))


@dataclass(frozen=True)
class Cell:
    """A code or text cell of a chapter; `line` is that of its source in the notebook's order."""

    kind: str
    source: str
    tags: frozenset[str]
    metadata: dict[str, Any]
    number: int


def cells(path: Path, kind: str | None = "code") -> list[Cell]:
    """Return the cells of a MyST chapter, all kinds when `kind` is None."""
    notebook = jupytext.read(path)
    every = [
        Cell(c.cell_type, c.source, frozenset(c.metadata.get("tags", [])), dict(c.metadata), n)
        for n, c in enumerate(notebook.cells)
    ]
    return [c for c in every if kind is None or c.kind == kind]


class CellError(RuntimeError):
    """A cell failed for another reason than the one a test looks for."""


@dataclass
class Run:
    """What running a chapter left behind."""

    names: dict[str, Any]
    printed: str
    ran: list[Cell] = field(default_factory=list)
    skipped: list[Cell] = field(default_factory=list)


def run(path: Path, skip_tags: Collection[str] = ("slow",), folder: Path | None = None) -> Run:
    """Run a chapter's cells in one fresh namespace, with the working folder `book/`; cells with a tag to skip stay out.

    An AssertionError of `book` (ProofError, NotTheSame) passes through; any other error becomes a CellError that names
    the cell.
    """
    path, out = path.resolve(), Run({"__name__": "__main__"}, "")
    printed = io.StringIO()
    with quiet(folder or BOOK), contextlib.redirect_stdout(printed):
        for cell in cells(path):
            if cell.tags & set(skip_tags):
                out.skipped.append(cell)
                continue
            execute(cell, path, out)
            out.ran.append(cell)
    out.printed = printed.getvalue()
    return out


def run_table(path: Path, table: Cell) -> Run:
    """Run one proof table and the cells that it needs, with every other check of the chapter switched off."""
    path, out = path.resolve(), Run({"__name__": "__main__"}, "")
    checks = {name: lambda *a, **k: None for name in ("card", "same", "show", "proof", "quiz")}
    with quiet(BOOK), contextlib.redirect_stdout(io.StringIO()) as printed:
        with mock.patch.multiple(book, **checks):
            for cell in needed_for(path, table)[:-1]:
                execute(cell, path, out)
        execute(table, path, out)
    out.printed = printed.getvalue()
    return out


def execute(cell: Cell, path: Path, out: Run) -> None:
    """Run one cell; its source is kept where `inspect` looks for it."""
    source = without_magics(cell.source)
    name = remember(f"<{path.name} cell {cell.number}>", source)
    try:
        exec(compile(source, name, "exec"), out.names)
    except AssertionError:
        raise
    except Exception as error:
        after = " (cells tagged slow were skipped: tag what needs them slow too)" if out.skipped else ""
        raise CellError(f"{name}: {type(error).__name__}: {error}{after}") from error


def remember(name: str, source: str) -> str:
    """Keep a source where `inspect` looks for it; return its name."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    return name


def without_magics(source: str) -> str:
    """Return a cell's source without IPython's magics; the lines keep their numbers."""
    return re.sub(r"^[%!].*$", "", source, flags=re.MULTILINE)


@contextlib.contextmanager
def quiet(folder: Path) -> Iterator[None]:
    """Work in `folder` without a screen, and leave global states as they were."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    here, show = Path.cwd(), plt.show
    plt.show = lambda *a, **k: None
    try:
        os.chdir(folder)
        with mpl.rc_context():
            yield
    finally:
        os.chdir(here)
        plt.close("all")
        plt.show = show
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)


@dataclass(frozen=True)
class Use:
    """What a piece of code does with the names of the notebook."""

    reads: set[str]  # before the piece itself binds them
    binds: set[str]
    changes: set[str]  # by x[...] = ..., x.y = ..., x += ... or a call such as x.append(...)


def use_of(source: str) -> Use:
    """Return what a cell reads, binds and changes."""
    whole = Use(set(), set(), set())
    for statement in ast.parse(source).body:
        one = use_of_statement(statement)
        whole.reads.update(one.reads - whole.binds)
        whole.binds.update(one.binds)
        whole.changes.update(one.changes - whole.binds)
    return whole


def use_of_statement(statement: ast.stmt) -> Use:
    """Return what one statement reads, binds and changes; the target of a loop counts as bound before its body."""
    table = symtable.symtable(ast.unparse(statement), "cell", "exec")
    reads = {s.get_name() for s in table.get_symbols() if s.is_referenced()} | globals_inside(table)
    binds = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    counters = names_of_comprehensions(statement)  # since Python 3.12 the table lists them beside the others
    reads, binds = reads - counters, binds - counters
    if isinstance(statement, ast.For):
        targets = {n.id for n in ast.walk(statement.target) if isinstance(n, ast.Name)}
        reads -= targets - {n.id for n in ast.walk(statement.iter) if isinstance(n, ast.Name)}
    changes = set()
    for node in ast.walk(statement):
        called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.func
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
            changes |= {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            changes.add(node.target.id)
        elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            changes.add(called.value.id)
    return Use(reads, binds, changes)


def names_of_comprehensions(statement: ast.stmt) -> set[str]:
    """Return the names that only comprehensions bind: in `[i + k for i in rows]` that is i."""
    kinds = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    inner = {node for whole in ast.walk(statement) if isinstance(whole, kinds) for node in ast.walk(whole)}
    targets = {
        name.id
        for node in inner
        if isinstance(node, ast.comprehension)
        for name in ast.walk(node.target)
        if isinstance(name, ast.Name)
    }
    return targets - {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and node not in inner}


def globals_inside(table: symtable.SymbolTable) -> set[str]:
    """Return the names of the notebook that functions, classes and comprehensions read."""
    found: set[str] = set()
    for child in table.get_children():
        found |= {s.get_name() for s in child.get_symbols() if s.is_global() and s.is_referenced()}
        found |= globals_inside(child)
    return found


def needed_for(path: Path, last: Cell) -> list[Cell]:
    """Return the cells that a cell depends on through names, in order, and the cell itself.

    A cell counts when it binds or changes a needed name, or sets an option of torch. Figures fall out.
    """
    kept, names = [last], set(use_of(without_magics(last.source)).reads)
    for cell in reversed([c for c in cells(path) if c.number < last.number]):
        use = use_of(without_magics(cell.source))
        if (use.binds | use.changes - {"book", "plt", "dl", "torch"}) & names or "torch.set_" in cell.source:
            kept.append(cell)
            names = names - use.binds | use.reads | use.changes
    return kept[::-1]


def proof_cells(path: Path) -> list[Cell]:
    """Return the cells that hold a proof table."""
    return [c for c in cells(path) if "book.proof(" in c.source]


def edited(function: FunctionType, old: str, new: str) -> CodeType:
    """Return the code of a function with one piece of its source replaced; it must occur once, docstring aside."""
    source = source_of(function)
    if source.count(old) != 1:
        raise LookupError(
            f"{function.__qualname__} holds {old!r} {source.count(old)} times: bring the planted bug up to date"
        )
    source = re.sub(r"^@.*\n", "", source.replace(old, new), flags=re.MULTILINE)
    scope: dict[str, Any] = {}
    name = remember(f"<{function.__qualname__} with a bug: {new}>", source)
    exec(compile(source, name, "exec"), function.__globals__, scope)
    return scope[function.__name__].__code__


def plant(monkeypatch: Any, where: str, old: str, new: str) -> None:
    """Put a bug into the package for everyone who holds the function or the dictionary.

    `where` is a function, such as "paths.Path.g2", in whose source `old` becomes `new`; or an entry of a dictionary,
    such as "predict.ROWS[v]", which becomes `new` and whose module must hold `old`.
    """
    where, _, key = where.rstrip("]").partition("[")
    name, *attributes = where.split(".")
    module = importlib.import_module(f"ddpm_lite.{name}")
    found: Any = module
    for attribute in attributes:
        found = inspect.getattr_static(found, attribute)
    if key:
        if old not in inspect.getsource(module):
            raise LookupError(f"{where} does not hold {old!r}: bring the planted bug up to date")
        monkeypatch.setitem(found, key, eval(new, vars(module)))
    else:
        function = getattr(found, "__func__", found)
        monkeypatch.setattr(function, "__code__", edited(function, old, new))
