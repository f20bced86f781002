"""Derive every address in the site from the one in `_config.yml` (`repository: url`).

The theme's Colab button points at the chapter's `.md` file, which Colab cannot open. The theme also copies each
executed notebook to `_sources/`; here the button gets that file on the branch that holds the published site.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

COLAB = "https://colab.research.google.com"
BRANCH = "gh-pages"  # the branch that holds the published site


def owner_and_name(url: str) -> tuple[str, str]:
    """Split https://github.com/OWNER/NAME."""
    owner, name = url.removesuffix("/").removesuffix(".git").split("/")[-2:]
    return owner, name


def set_site_address(app: Sphinx, config: Config) -> None:
    """Set the address of the published site: GitHub Pages of the repository."""
    owner, name = owner_and_name(config.html_theme_options["repository_url"])
    config.html_baseurl = f"https://{owner.lower()}.github.io/{name}/"


def colab_address(app: Sphinx, page: str) -> str:
    """Return where Colab opens the published notebook of a page."""
    owner, name = owner_and_name(app.config.html_theme_options["repository_url"])
    return f"{COLAB}/github/{owner}/{name}/blob/{BRANCH}/_sources/{page}.ipynb"


def open_notebook(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Point the Colab button of a chapter at its published notebook."""
    groups = (group.get("buttons", []) for group in context.get("header_buttons", []))
    for button in (button for buttons in groups for button in buttons):
        if button.get("url", "").startswith(COLAB):
            button["url"] = colab_address(app, page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the events, the button's after the theme's."""
    app.connect("config-inited", set_site_address)
    app.connect("html-page-context", open_notebook, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
