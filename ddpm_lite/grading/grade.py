"""Grade a folder of submissions: notebooks and Python files in, points, reasons and feedback out."""

from __future__ import annotations

import ast
import csv
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .exercise import Case, Set, Task
from .judge import judge
from .sandbox import Limits, Sandbox

__all__ = ["Row", "Submission", "grade", "needed", "read", "write_csv", "write_feedback"]

LARGEST = 20 << 20  # bytes of a submission; a notebook with many pictures has about 5 MB
LONGEST = 1 << 20  # characters of its code
COLUMNS = ("name", "exercise", "points", "of", "reason")


@dataclass(frozen=True)
class Row:
    """What one submission gets for one exercise, and why."""

    name: str
    exercise: str
    points: float
    of: float
    reason: str
    hint: str | None = None


@dataclass
class Submission:
    """The imports, definitions and plain assignments of a submission, each with the place that it comes from.

    notes: what was left out, in sentences.
    """

    statements: list[tuple[str, ast.stmt]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def places(self, name: str) -> list[str]:
        """Return where a function is defined."""
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        return [place for place, node in self.statements if isinstance(node, kinds) and node.name == name]


def grade(
    folder: str | Path, exercises: Set, *, rng: np.random.Generator, unsafe: bool = False, limits: Limits | None = None
) -> list[Row]:
    """Return a row for each submission (.ipynb and .py, also in folders) and exercise; one bad one stops no other.

    All get the same cases, drawn from rng. Raises ValueError for a folder without submissions, SandboxError where
    bubblewrap is missing or does not work, unless unsafe.
    """
    folder = Path(folder)
    files = submissions(folder)
    if not files:
        raise ValueError(f"{folder} holds no .ipynb and no .py file: name the folder of the submissions")
    cases = [task.exercise.cases(rng) for task in exercises.exercises]
    rows = []
    for name, path in files.items():
        with Sandbox(unsafe=unsafe, limits=limits) as sandbox:
            try:
                submission = read(path)
            except (ValueError, RecursionError, MemoryError, OSError) as error:
                reason = str(error) if isinstance(error, ValueError) else f"cannot be read: {type(error).__name__}"
                rows += [_row(name, task, 0.0, reason) for task in exercises.exercises]
                continue
            for task, drawn in zip(exercises.exercises, cases, strict=True):
                rows.append(_grade_one(name, submission, task, drawn, sandbox))
    return rows


def submissions(folder: Path) -> dict[str, Path]:
    """Return name -> file, sorted; names are unique, links and hidden folders are left out."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith((".", "__")) for part in inside.parts)
        if hidden or path.suffix not in (".ipynb", ".py") or path.is_symlink() or not path.is_file():
            continue
        name = inside.with_suffix("").as_posix()
        found[inside.as_posix() if name in found else name] = path
    return found


def read(path: Path) -> Submission:
    """Read a notebook or a Python file; nothing of it runs. Raises ValueError in words for what is neither."""
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"the file has {size >> 20} MB, and at most {LARGEST >> 20} are read: clear its outputs")
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    if not text.strip():
        raise ValueError("the file is empty")
    cells = [("the file", text)] if path.suffix == ".py" else code_cells(text)
    if sum(len(source) for _, source in cells) > LONGEST:
        raise ValueError(f"the code has more than {LONGEST} characters")
    found = Submission()
    for place, source in cells:
        _add(found, place, source)
    return found


def code_cells(text: str) -> list[tuple[str, str]]:
    """Return (place, source) of the cells that hold code; a cell re-typed as text does not count."""
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("the file is no notebook: it is not JSON. Download it again as .ipynb") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise ValueError("the file is no notebook of format 4: it has no list of cells")
    found = []
    for number, cell in enumerate(cells, 1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", "")
            lines = source if isinstance(source, list) else [source]
            found.append((f"cell {number}", "".join(str(line) for line in lines)))
    return found


def without_magics(source: str) -> str:
    """Return a cell without its lines for IPython; a cell magic such as %%bash makes the whole cell no Python."""
    lines = source.splitlines()
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("%%") and first.split()[0] not in ("%%time", "%%timeit", "%%capture"):
        return ""
    kept = []
    for line in lines:
        bare = line.lstrip()
        magic = bare.startswith(("%", "!", "?")) or (bare.endswith("?") and "#" not in bare)
        kept.append(line[: len(line) - len(bare)] + "pass" if magic else line)
    return "\n".join(kept) + "\n"


def _add(found: Submission, place: str, source: str) -> None:
    """Add the statements of a cell; one that is no Python costs only itself."""
    try:
        tree = _parse(source)
    except SyntaxError as error:
        found.notes.append(f"{place} is left out: {error.msg} in line {error.lineno}.")
        return
    except (ValueError, RecursionError, MemoryError) as error:
        found.notes.append(f"{place} is left out: {type(error).__name__}.")
        return
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    found.statements += [(place, node) for node in tree.body if isinstance(node, kinds) and _is_plain(node)]


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except SyntaxError:
            return ast.parse(without_magics(source))


def _is_plain(node: ast.stmt) -> bool:
    """Whether an assignment is to names only: `torch.allclose = ...` is not."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    inner = [part for target in targets for part in ast.walk(target)]
    return not any(isinstance(part, (ast.Attribute, ast.Subscript)) for part in inner)


def _binds(node: ast.stmt) -> set[str]:
    """Return the names that a statement gives a value to."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _uses(node: ast.stmt) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def needed(submission: Submission, name: str) -> str:
    """Return the source that a function needs: what it names, and what that names; `losses = train()` stays out.

    Of a name defined twice the last definition counts, the others stay for what they were used for.
    """
    nodes = [node for _, node in submission.statements]
    wanted, grown = {name}, True
    chosen: set[int] = set()
    while grown:
        new = {n for n, node in enumerate(nodes) if _binds(node) & (wanted | {"*"})} - chosen
        chosen |= new
        wanted = wanted.union(*(_uses(nodes[n]) for n in new))
        grown = bool(new)
    last = max((n for n, node in enumerate(nodes) if _defines(node, name)), default=None)
    chosen -= {n for n, node in enumerate(nodes) if _defines(node, name) and n != last}
    return ast.unparse(ast.Module([nodes[n] for n in sorted(chosen)], []))


def _defines(node: ast.stmt, name: str) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name


def _grade_one(name: str, submission: Submission, task: Task, cases: Sequence[Case], sandbox: Sandbox) -> Row:
    """Run and judge one function of a submission."""
    exercise = task.exercise
    places = submission.places(exercise.id)
    notes = list(submission.notes)
    if len(places) > 1:
        notes.insert(0, f"{exercise.id} is defined {len(places)} times; the last, in {places[-1]}, counts.")
    if not places:
        return _row(name, task, 0.0, " ".join([f"No cell of code defines the function {exercise.id}.", *notes]))
    try:
        source = task.source(needed(submission, exercise.id))
        outcomes = sandbox.run(source, [(exercise.id, case.args) for case in cases])
        verdict = judge(exercise, outcomes, cases, task=task)
    except (RecursionError, SyntaxError, MemoryError) as error:
        return _row(name, task, 0.0, f"The function is nested too deep to be read ({type(error).__name__}).")
    if verdict.passed:
        return _row(name, task, exercise.points, " ".join(["Right.", *(notes if len(places) > 1 else [])]))
    return _row(name, task, 0.0, " ".join([verdict.message, *notes]), verdict.hint)


def _row(name: str, task: Task, points: float, reason: str, hint: str | None = None) -> Row:
    text = " ".join("".join(c if c.isprintable() else " " for c in reason).split())
    return Row(name, task.exercise.id, points, task.exercise.points, text, hint)


def write_csv(rows: Sequence[Row], path: str | Path) -> None:
    """Write name, exercise, points, of, reason; text that a spreadsheet would take for a formula gets a quote."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            values = [getattr(row, column) for column in COLUMNS]
            writer.writerow(
                [f"'{v}" if isinstance(v, str) and v.startswith(("=", "+", "-", "@")) else v for v in values]
            )


def write_feedback(rows: Sequence[Row], folder: str | Path) -> list[Path]:
    """Write one Markdown file a submission and return their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in dict.fromkeys(row.name for row in rows):
        own = [row for row in rows if row.name == name]
        total, most = sum(row.points for row in own), sum(row.of for row in own)
        parts = [f"# {_quote(name)}: {total:g} of {most:g} points"]
        for row in own:
            parts += [f"## {row.exercise}: {row.points:g} of {row.of:g}", _quote(row.reason)]
            parts += [f"Hint: {row.hint}"] if row.hint else []
        path = folder / f"{name.replace('_', '__').replace('/', '_')}.md"
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        written.append(path)
    return written


def _quote(text: str) -> str:
    """Return text that may be a student's, so that Markdown and HTML show it as it stands."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\`*[]!|#" else c for c in text)
