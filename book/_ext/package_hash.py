"""Run a chapter again when the package changes, and not only when the chapter does.

The execution cache looks at a notebook's cells alone. Here it gets a folder for each state of `ddpm_lite/`, and the
chapters count as outdated when that folder changes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment


def package_hash(package: Path) -> str:
    """Return a short hash of the names and the contents of the package's files."""
    total = hashlib.sha256()
    for file in sorted(package.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
            for part in (file.relative_to(package).as_posix().encode(), file.read_bytes()):
                total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()[:16]


def set_cache(app: Sphinx, config: Config) -> None:
    """Point the execution cache at this state's folder in `_build/.jupyter_cache`."""
    source = Path(app.srcdir)
    cache = source / "_build" / ".jupyter_cache" / package_hash(source / "ddpm_lite")  # one for all places of the site
    config.nb_execution_cache_path = str(cache)


def outdated(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Return the chapters when the package has another state than at the last build."""
    now = app.config.nb_execution_cache_path
    before, env.package_state = getattr(env, "package_state", now), now
    return [name for name, data in env.metadata.items() if "kernelspec" in data] if before != now else []


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the two events."""
    app.connect("config-inited", set_cache)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
