"""Look into every file of a folder for what only instructors may see: exit 1 and name each leak. Run by: make student.

    python tools/leaks.py FOLDER [--answers DIR]

Looked for: lines of solutions, of right answers and of the checks, model answers, known mistakes and their hints, as
far as they stand in nothing that students may read. A line counts from 16 characters on, without its spaces.
"""

from __future__ import annotations

import argparse
import ast
import base64
import binascii
import gzip
import io
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from sphinx.search.en import SearchEnglish

from ddpm_lite.grading import Set, Task, load

ROOT = Path(__file__).resolve().parent.parent
EXERCISES = ROOT / "book" / "exercises"
LEAST = 16  # characters without spaces
PUBLIC_PARTS = {"id", "dots", "points", "tolerance", "hints", "messages"}  # of an Exercise, in a student's notebook
NOT_FOR_STUDENTS = {"template.py", "instructors.md"}  # a set with its solution, and the instructors' guide
MODULES = ("ddpm_lite/**/*.py", "ddpm_lite/**/*.js")
PUBLIC_FILES = ("book/*.md", "book/*.bib", "book/_ext/*.py", "benchmarks/*.md", *MODULES)
BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{60,}\s+)*[A-Za-z0-9+/]{20,}={0,2}")
SHORTEST_BASE64 = 80
DEPTH = 4  # of an archive in an archive
BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)
ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|[nrt])")
INDEX = re.compile(r"^Search\.setIndex\((.*)\)\s*;?\s*$", re.DOTALL)
NOT_A_WORD = re.compile(r"[\W_]+")
ONE_STRING = re.compile(r"""\s*\w?(["'])(.*)\1[,)\]]*\s*""")
RECORDED = {"tolerance", "messages", "cases"}
RECORDED_CASE = {"check", "args", "value"}
RECORDED_VALUE = {"parts", "shape", "kind", "scale", "finite", "infinite"}


@dataclass(frozen=True)
class Secret:
    """A line that no student may read, and where it stands.

    dense: the line without spaces. letters: its letters and digits, which typography keeps. "" is not looked for.
    """

    kind: str
    where: str
    line: str
    dense: str = ""
    letters: str = ""


def dense(text: str) -> str:
    return "".join(text.split())


def letters(text: str) -> str:
    return NOT_A_WORD.sub("", text)


# What to look for


def secrets(exercises: Path, answers: Path | None) -> tuple[list[Secret], str]:
    """Return the secrets of all sets of a folder, and all text that students may read."""
    pages = sorted(exercises.glob("[0-9][0-9]_*.md"))
    if not pages:
        raise SystemExit(f"{exercises} holds no set of exercises NN_name.md: name another folder with --exercises")
    files = [
        path for pattern in PUBLIC_FILES for path in sorted(ROOT.glob(pattern)) if path.name not in NOT_FOR_STUDENTS
    ]
    public = [path.read_text(encoding="utf-8") for path in files]
    found: list[Secret] = []
    for page in pages:
        sets = [load(page, answers=answers)]
        with suppress(ValueError):  # the public folder may lack its solutions, and then has none to leak
            sets.append(load(page))
        for each in sets:
            public += public_parts(each)
            found += of_set(each, files_of(page, answers))
        for file in files_of(page, answers):
            if file.suffix == ".py":
                found += of_code(file)
    return only_secret(found, "\n".join(public)), "\n".join(public)


def files_of(page: Path, answers: Path | None) -> list[Path]:
    """Return the files in which the secrets of a set stand."""
    folders = [page.parent] if answers is None else [answers, page.parent]
    files = [folder / f"{page.stem}_{kind}.py" for folder in folders for kind in ("checks", "answers")]
    return [page, *(file for file in files if file.exists())]


def public_parts(exercises: Set) -> list[str]:
    """Return what a student's notebook shows of a set."""
    texts = [exercises.title, exercises.intro, exercises.given]
    for part in exercises.parts:
        texts += [part.title, part.statement]
        if isinstance(part, Task):
            texts += [part.stub, *part.exercise.hints, *part.exercise.messages, *part.exercise.messages.values()]
    return texts


def of_set(exercises: Set, files: list[Path]) -> list[Secret]:
    """Return the secrets that a set holds as texts, piece by piece, each with the place where it stands."""
    pieces: list[tuple[str, list[str]]] = []
    for part in exercises.parts:
        if not isinstance(part, Task):
            pieces.append((f"model answer of {part.id}", sentences(part.solution)))
            continue
        name, exercise = part.exercise.id, part.exercise
        pieces.append((f"solution of {name}", part.solution.splitlines()))
        pieces += [(f"right answer of {name}", right.splitlines()) for right in exercise.right]
        for wrong in exercise.wrong:
            pieces.append((f"known mistake of {name}", [*wrong.old.splitlines(), *wrong.new.splitlines()]))
            pieces.append((f"hint of a known mistake of {name}", sentences(wrong.hint)))
        pieces += [(f"mutant of {name}", [line, *sentences(why)]) for line, why in exercise.equivalent.items()]
    return [Secret(kind, place(text, files), text) for kind, texts in pieces for text in texts]


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.:;!?])\s+", text)


def place(text: str, files: list[Path]) -> str:
    """Return the file, and the line in it, where a text begins."""
    start = dense(text)[: 2 * LEAST] or " "  # which no text has, its spaces removed
    for file in files:
        before, found, _ = dense(file.read_text(encoding="utf-8")).partition(start)
        if found:
            return f"{shown(file)}:{line_after(file, len(before))}"
    return shown(files[0])


def line_after(file: Path, count: int) -> int:
    """Return the number of the line that holds the character after so many, spaces not counted."""
    ends = accumulate(len(dense(line)) for line in file.read_text(encoding="utf-8").splitlines())
    return next(number for number, end in enumerate(ends, 1) if end > count)


def shown(file: Path) -> str:
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)


def of_code(file: Path) -> list[Secret]:
    """Return the lines of a file of checks or answers, without the parts of an Exercise that students see."""
    source = file.read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Exercise":
            if lines[node.lineno - 1].endswith("Exercise("):  # before it the exercise's name alone, which is its id
                lines[node.lineno - 1] = ""
            for keyword in node.keywords:
                if keyword.arg in PUBLIC_PARTS:
                    for n in range(keyword.lineno - 1, keyword.end_lineno or keyword.lineno):
                        lines[n] = ""
    return [Secret("checks", f"{shown(file)}:{n}", bare(line)) for n, line in enumerate(lines, 1)]


def bare(line: str) -> str:
    """Return a line of code, or what stands in it where it is a single string."""
    string = ONE_STRING.fullmatch(line)
    return string[2] if string else line


def only_secret(found: list[Secret], public: str) -> list[Secret]:
    """Return the secrets that stand in no public text, each line once."""
    public_dense, public_letters = dense(public), letters(public)
    seen: dict[str, Secret] = {}
    for secret in found:
        form, words = dense(secret.line), letters(secret.line)
        form = form if len(form) >= LEAST and form not in public_dense else ""
        words = words if len(words) >= LEAST and words not in public_letters else ""
        if form or words:
            seen.setdefault(form or words, replace(secret, dense=form, letters=words))
    return list(seen.values())


def only_terms(found: list[Secret], public: str) -> dict[str, str]:
    """Return the words, and their stems, that stand in secrets alone -> where."""
    stem = SearchEnglish({}).stem
    known = words(public)
    known |= {stem(word) for word in known}
    terms: dict[str, str] = {}
    for secret in found:
        for word in words(secret.line) - known:
            if stem(word) not in known:
                terms.setdefault(word, secret.where)
                terms.setdefault(stem(word), secret.where)
    return {term: where for term, where in terms.items() if len(term) > 3 and not term.isdigit()}


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


# What a file says


class Page(HTMLParser):
    """The text of an HTML page, the values of its attributes, and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text: list[str] = []
        self.parts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parts += [value for _, value in attrs if value]

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if data.strip().startswith(("{", "[")):
            self.parts.append(data)

    def handle_comment(self, data: str) -> None:
        self.parts.append(data)


def texts(name: str, data: bytes, depth: int = DEPTH) -> Iterator[str]:
    """Yield all that a file says: as it is, and with every packing taken off."""
    yield (text := data.decode("utf-8", errors="replace"))
    yield ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else " ", text)  # strings of a script
    if depth == 0:
        return
    try:
        for inner, content in unpacked(name, data):
            yield from texts(inner, content, depth - 1)
    except BROKEN as error:
        if depth == DEPTH:  # further in it is a piece of base64 that only looks like an archive
            raise ValueError(f"cannot be unpacked ({error}): remove it, or pack it without a password") from error
    for part in unfolded(name, text):
        yield from texts("", part.encode(errors="replace"), depth - 1)
    for run in BASE64.findall(text):
        if len(run) >= SHORTEST_BASE64:
            with suppress(binascii.Error, ValueError):
                run = "".join(run.split()).rstrip("=")
                yield from texts("", base64.b64decode(run + "=" * (-len(run) % 4)), depth - 1)


def unpacked(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the files in an archive, a compressed file, an inventory of Sphinx, or an array of bytes."""
    if data.startswith(b"\x1f\x8b"):
        yield name.removesuffix(".gz"), gzip.decompress(data)
    elif data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield member, archive.read(member)
    elif data.startswith(b"# Sphinx inventory"):
        yield "", zlib.decompress(data.split(b"\n", 4)[4])
    elif data.startswith(b"\x93NUMPY"):
        yield "", np.load(io.BytesIO(data), allow_pickle=False).tobytes()


def unfolded(name: str, text: str) -> Iterator[str]:
    """Yield the words of a page, and the strings of a JSON text."""
    if name.endswith((".html", ".htm", ".svg", ".xml")):
        page = Page(text)
        yield "".join(page.text)
        yield from page.parts
    index = INDEX.match(text)
    if index or text.lstrip().startswith(("{", "[", '"')):
        with suppress(json.JSONDecodeError):
            yield "\n".join(strings(json.loads(index[1] if index else text)))


def strings(value: Any) -> Iterator[str]:
    """Yield the strings of a decoded JSON text; the lines of a list follow each other."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


# The comparison


class Needles:
    """Many texts to find in a long one: first by a hash of how they start."""

    def __init__(self, needles: set[str]) -> None:
        self.by_start: dict[int, list[str]] = {}
        for needle in needles:
            self.by_start.setdefault(int(hashes(needle)[0]), []).append(needle)
        self.starts = np.array(sorted(self.by_start), dtype=np.uint64)

    def found(self, text: str) -> set[str]:
        """Return the needles that stand in a text."""
        seen = hashes(text)
        if not (seen.size and self.starts.size):
            return set()
        nearest = self.starts[np.searchsorted(self.starts, seen).clip(max=self.starts.size - 1)]
        starts = set(nearest[nearest == seen].tolist())
        return {needle for start in starts for needle in self.by_start[start] if needle in text}


def hashes(text: str) -> np.ndarray:
    """Return a number for each LEAST bytes that follow each other in a text."""
    letters = np.frombuffer(text.encode(errors="replace"), dtype=np.uint8).astype(np.uint64)
    count = max(letters.size - LEAST + 1, 0)
    total = np.zeros(count, dtype=np.uint64)
    for shift in range(LEAST):
        total = total * np.uint64(1_000_003) + letters[shift : shift + count]
    return total


class Search:
    """Finds secrets in files."""

    def __init__(self, exercises: Path = EXERCISES, answers: Path | None = None) -> None:
        self.secrets, public = secrets(exercises, answers)
        self.terms = only_terms(self.secrets, public)
        self.dense = Needles({secret.dense for secret in self.secrets} - {""})
        self.letters = Needles({secret.letters for secret in self.secrets} - {""})

    def leaks(self, folder: Path) -> dict[Path, list[str]]:
        """Return file -> what it gives away, for every file of a folder that gives something away."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        found = {file: self.in_file(file) for file in files}
        return {file: leaks for file, leaks in found.items() if leaks}

    def in_file(self, file: Path) -> list[str]:
        """Return what a file gives away, a sentence a leak."""
        try:
            said = list(dict.fromkeys(texts(file.name, file.read_bytes())))
        except ValueError as error:
            return [str(error)]
        whole = "\0".join(said)
        forms = ("\0".join(map(form, said)) for form in (dense, letters))
        found = self.dense.found(next(forms)) | self.letters.found(next(forms))
        leaks = [
            f"{secret.kind} ({secret.where}): {secret.line.strip()[:70]}"
            for secret in self.secrets
            if secret.dense in found or secret.letters in found
        ]
        if file.name.startswith("searchindex"):
            leaks += [f"search term of {self.terms[term]}: {term}" for term in sorted(words(whole) & set(self.terms))]
        return leaks + list(unexpected(said))


def unexpected(said: Iterable[str]) -> Iterator[str]:
    """Yield what the recorded checks of a notebook hold beside arguments, messages and sums."""
    for text in said:
        with suppress(json.JSONDecodeError):
            spec = json.loads(text) if text.startswith("{") and '"cases"' in text else {}
            entries = [entry for entry in spec.values() if isinstance(entry, dict) and "cases" in entry]
            for entry in entries:
                keys = set(entry) - RECORDED
                for case in entry["cases"]:
                    keys |= set(case) - RECORDED_CASE
                    keys |= {key for value in flat(case["value"]) for key in value} - RECORDED_VALUE
                yield from (f"the recorded checks hold {key!r}" for key in sorted(keys))


def flat(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [value, *(inner for part in value.get("parts", []) for inner in flat(part))]


def main(arguments: list[str] | None = None) -> int:
    """Print each leak of a folder; return 1 where there is one."""
    parser = argparse.ArgumentParser(description="Look into every file of a folder for what only instructors may see.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--exercises", type=Path, default=EXERCISES, help="the folder of the sets NN_name.md")
    parser.add_argument("--answers", type=Path, help="a folder of private answers")
    given = parser.parse_args(arguments)
    if not given.folder.is_dir():
        parser.error(f"{given.folder} is no folder: build the site first (make student)")
    search = Search(given.exercises, given.answers)
    leaks = search.leaks(given.folder)
    for file, found in leaks.items():
        print(*(f"{file}: {leak}" for leak in found), sep="\n")
    count = sum(path.is_file() for path in given.folder.rglob("*"))
    print(f"{len(search.secrets)} lines looked for in {count} files: {len(leaks)} of them leak", file=sys.stderr)
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main())
