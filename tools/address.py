"""Write the project's public address wherever it is used. Run by: make address.

The address stands in one place, `repository: url` of `_config.yml`. The files below repeat it, since their formats
have no variables. The one they hold now is the `Repository` line of pyproject.toml.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("README.md", "CONTRIBUTING.md", "CITATION.cff", "pyproject.toml")
CONFIG = re.compile(r"^repository:\n(?:[ #].*\n)*?  url: *https://github\.com/([\w.-]+)/([\w.-]+?)/?(?: .*)?$", re.M)
PROJECT = re.compile(r'^Repository = "https://github\.com/([\w.-]+)/([\w.-]+)"$', re.M)


def address(text: str, pattern: re.Pattern[str]) -> tuple[str, str]:
    """Return (owner, name) as the text gives them."""
    found = pattern.search(text)
    if found is None:
        raise ValueError("no address of the form https://github.com/OWNER/NAME: write one in _config.yml")
    return found[1], found[2]


def rewrite(text: str, old: tuple[str, str], new: tuple[str, str]) -> str:
    """Replace the repository (also in links to Colab and Binder) and the site on GitHub Pages."""
    end = r"(?![\w-])"
    text = re.sub(
        rf"(?<=github\.com/){'/'.join(map(re.escape, old))}{end}"
        rf"|(?<=/github/){'/'.join(map(re.escape, old))}{end}"
        rf"|(?<=/gh/){'/'.join(map(re.escape, old))}{end}",
        "/".join(new),
        text,
    )
    pages = re.compile(rf"https://{re.escape(old[0])}\.github\.io/{re.escape(old[1])}{end}", re.I)
    return pages.sub(f"https://{new[0].lower()}.github.io/{new[1]}", text)


def changes(root: Path) -> dict[Path, str]:
    """Return the files that need a change, each with its new text."""
    new = address((root / "_config.yml").read_text(encoding="utf-8"), CONFIG)
    old = address((root / "pyproject.toml").read_text(encoding="utf-8"), PROJECT)
    texts = {root / name: (root / name).read_text(encoding="utf-8") for name in FILES}
    after = {path: rewrite(text, old, new) for path, text in texts.items()}
    return {path: text for path, text in after.items() if text != texts[path]}


if __name__ == "__main__":
    todo = changes(ROOT)
    for path, text in todo.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    print(f"{len(todo)} files changed")
