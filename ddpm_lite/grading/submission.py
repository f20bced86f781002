"""What a submission, a notebook or a Python file, defines; nothing of it runs here."""

from __future__ import annotations

import ast
import json
import symtable
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Submission", "left_out", "needed", "read", "submissions"]

LARGEST = 20 << 20  # bytes of a submission; a notebook with many pictures has about 5 MB
LONGEST = 1 << 20  # characters of its code
SUFFIXES = (".ipynb", ".py")
PARSING = threading.Lock()  # a filter of warnings holds for all threads


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

    def definition(self, name: str) -> str:
        """Return the source of the function that counts, the last of its name, without comments; "" for none."""
        found = [node for _, node in self.statements if _defines(node, name)]
        return ast.unparse(found[-1]) if found else ""


def submissions(folder: Path) -> dict[str, Path]:
    """Return name -> file, sorted; names are unique, links and hidden folders are left out."""
    found: dict[str, Path] = {}
    for path in filter(_is_submission, _visible(folder)):
        name, whole = (text.encode("utf-8", "backslashreplace").decode() for text in _names(path.relative_to(folder)))
        found[whole if name in found else name] = path
    return found


def left_out(folder: Path) -> list[Path]:
    """Return the files that are no submissions, such as a zip or a link; hidden ones do not count."""
    return [path for path in _visible(folder) if not _is_submission(path)]


def _visible(folder: Path) -> list[Path]:
    """Return the files of a folder and its folders, sorted."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file())
    return [path for path in found if not any(p.startswith((".", "__")) for p in path.relative_to(folder).parts)]


def _is_submission(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_symlink()


def _names(path: Path) -> tuple[str, str]:
    return path.with_suffix("").as_posix(), path.as_posix()


def read(path: Path) -> Submission:
    """Read a notebook or a Python file; nothing of it runs. Raises ValueError in words for what is neither."""
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"the file has {size >> 20} MB, and at most {LARGEST >> 20} are read: clear its outputs")
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    if not text.strip():
        raise ValueError("the file is empty")
    cells = [("the file", text)] if path.suffix.lower() == ".py" else code_cells(text)
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
            text = "".join(str(line) for line in (source if isinstance(source, list) else [source]))
            found += [(f"cell {number}", text)] if text.strip() else []
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
    with PARSING, warnings.catch_warnings():
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
    """Return the names that a statement looks up outside itself; `x` inside `def f(x)` is not one."""
    try:
        whole = symtable.symtable(ast.unparse(node), "cell", "exec")
    except (SyntaxError, ValueError):
        return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    found: set[str] = set()
    scopes = [whole]
    while scopes:
        scope = scopes.pop()
        outer = (s for s in scope.get_symbols() if (s.is_referenced() if scope is whole else s.is_global()))
        found |= {symbol.get_name() for symbol in outer}
        scopes += scope.get_children()
    return found


def needed(submission: Submission, name: str) -> str:
    """Return the source that a function needs: what it names, and what that names; `losses = train()` stays out.

    It is what the notebook holds when its cells have run from top to bottom: who gives `math` or a given helper another
    meaning gets that meaning, in the functions that name it. Of a function `name` defined twice the last counts.
    """
    nodes = [node for _, node in submission.statements]
    binding: dict[str, list[int]] = {}
    for n, node in enumerate(nodes):
        for bound in ["*"] if _is_future(node) else _binds(node):
            binding.setdefault(bound, []).append(n)
    chosen: set[int] = set()
    wanted, seen = [name, "*"], {name, "*"}
    while wanted:
        for n in set(binding.get(wanted.pop(), ())) - chosen:
            chosen.add(n)
            new = _uses(nodes[n]) - seen
            seen |= new
            wanted += new
    last = max((n for n, node in enumerate(nodes) if _defines(node, name)), default=None)
    chosen -= {n for n, node in enumerate(nodes) if _defines(node, name) and n != last}
    return ast.unparse(ast.Module([nodes[n] for n in sorted(chosen)], []))


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _defines(node: ast.stmt, name: str) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name
