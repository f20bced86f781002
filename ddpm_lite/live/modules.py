"""One text of a figure's ES module and all that it imports, because a widget carries a single module.

A module imports names of its neighbours, `import { a, b } from "./draw.js";` on one line, and exports its own,
`export function`, `export const` or `export class`. Top-level names differ over all modules, so the join is the
modules one after the other, without those words.
"""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

HERE = Path(__file__).parent
IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=function|const|class)", re.MULTILINE)


def source(name: str) -> str:
    """The text of one module of this folder; ValueError for a name that is none."""
    file = HERE / f"{name}.js"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in HERE.glob("*.js")))
        raise ValueError(f"module = {name!r}: there is no {file.name} in {HERE.name}/; give one of {known}")
    return file.read_text(encoding="utf-8")


def imports(name: str) -> list[str]:
    """The modules that a module imports itself."""
    return IMPORT.findall(source(name))


def joined(name: str) -> str:
    """A module and, before it, every module that it needs, as one ES module."""
    needs: dict[str, list[str]] = {}
    todo = [name]
    while todo:
        each = todo.pop()
        if each not in needs:
            needs[each] = imports(each)
            todo += needs[each]
    order = TopologicalSorter(needs).static_order()
    return "\n".join(EXPORT.sub("", IMPORT.sub("", source(each))).strip() + "\n" for each in order)
