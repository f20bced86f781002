"""Rules that a program can see: no path of one machine, nothing left for later, no large file, no notebook."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".cff", ".css", ".js", ".html", ".bib", ""}
# written so that this file does not hold what it looks for
RULES = {
    "a path of one machine": r"(?<![\w.])/(wor[k]|roo[t]|op[t]|hom[e]|Us[e]rs)/",
    "a host of a package registry": r"pyp[i]\.org|pythonhoste[d]\.org|registry\.npmj[s]|download\.pytorc[h]",
    "something left for later": r"\b(TOD[O]|FIXM[E]|XX[X]|HAC[K])\b",
    "an unsafe load": r"allow_pickle *= *Tru[e]|pickle\.loa[d]s?\(|weights_only *= *Fals[e]",
}


@pytest.mark.parametrize("rule", RULES)
def test_no_file_has(rule: str, project_files: list[Path]) -> None:
    pattern = re.compile(RULES[rule])
    own = [file for file in project_files if file.suffix in TEXT and "_vendor" not in file.parts]
    assert len(own) > 20
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for file in own
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("a path of one machine", "see /ho" + "me/someone/file"),
        ("a host of a package registry", "https://py" + "pi.org/simple"),
        ("something left for later", "# TO" + "DO: mend"),
        ("an unsafe load", "np.load(f, allow_pickle=" + "True)"),
    ],
)
def test_the_rule_sees_it(rule: str, text: str) -> None:
    assert re.search(RULES[rule], text)


def test_no_large_file_and_no_notebook(project_files: list[Path]) -> None:
    """Files of other projects, which book/_vendor/README.md lists, and the sample submissions aside."""
    ours = [file for file in project_files if not {"_vendor", "samples"} & set(file.parts)]
    assert [file for file in ours if file.stat().st_size > 2_000_000] == []
    assert [file for file in ours if file.suffix == ".ipynb"] == []


def test_pins_hold_everywhere() -> None:
    """Exact versions, no local build, no address, no package of this project."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*( ; .+)?", line) for line in pins)
    names = {line.split("==")[0].lower().replace("_", "-") for line in pins}
    assert {"torch", "numpy", "jupyter-book", "pytest", "ruff", "mypy", "hatchling"} <= names
    assert not {name for name in names if name.startswith(("nvidia", "cuda", "triton", "ddpm"))}
