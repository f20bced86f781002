"""Put live figures on the published pages: a still picture, the figure in its place, and what runs it with no kernel.

A figure's output holds a widget view, a picture and a text. A web page gets the picture, with the text as its
description, and the view; every other format gets the picture. An output whose HTML begins with KERNEL needs a kernel:
its page shows that HTML, a note, and the picture. A page gets the state of the widgets that it shows, and no more.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import anywidget
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

HOST = "live/host.js"
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
LINKS = ("LinkModel", "DirectionalLinkModel")
KERNEL = '<div class="dl-kernel"'
SHOWN = re.compile(rf'<script type="{re.escape(VIEW)}">(.*?)</script>', re.DOTALL)
REFERENCE = re.compile(r"(?:IPY_MODEL_|anywidget:)(\w+)")


class PlaceFigures(SphinxPostTransform):
    """Keep of a figure's output what the format can show, before MyST-NB keeps one of its parts."""

    default_priority = 3

    def run(self, **kwargs: Any) -> None:
        for bundle in [node for node in self.document.findall(nodes.container) if "nb_element" in node]:
            if bundle["nb_element"] == "mime_bundle":
                parts = {part["mime_type"]: part for part in bundle.children}
                if VIEW in parts and "image/png" in parts:
                    self.place(bundle, parts)

    def place(self, bundle: nodes.container, parts: dict[str, nodes.container]) -> None:
        """Replace the bundle."""
        picture = parts["image/png"].children[0]
        if "text/plain" in parts:
            picture.setdefault("alt", parts["text/plain"].astext())
        if self.app.builder.format != "html":
            bundle.replace_self(picture)
        elif "text/html" in parts and parts["text/html"].astext().startswith(KERNEL):
            bundle.replace_self([*parts["text/html"].children, picture])
        else:
            still = nodes.container("", picture, classes=["dl-still"])
            bundle.replace_self(nodes.container("", still, *parts[VIEW].children, classes=["dl-output"]))


def needed(models: dict[str, Any], shown: list[str]) -> dict[str, Any]:
    """Return the models that the shown ones reach, and the links between those."""
    reach = {name: set(REFERENCE.findall(json.dumps(model["state"]))) for name, model in models.items()}
    found: set[str] = set()
    waiting = set(shown) & set(models)
    while waiting:
        found |= waiting
        waiting = {name for each in waiting for name in reach[each]} & set(models) - found
    found |= {name for name, model in models.items() if model["model_name"] in LINKS and reach[name] <= found}
    return {name: model for name, model in models.items() if name in found}


def add_host(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Cut the state of a page's widgets to those that it shows, and add the host where some are left."""
    states = [js for js in context.get("script_files", []) if js.attributes.get("type") == STATE]
    shown = [json.loads(view)["model_id"] for view in SHOWN.findall(context.get("body", ""))]
    for js in states:
        state = json.loads(js.attributes["body"])
        state["state"] = needed(state["state"], shown)
        context["script_files"].remove(js)
        if state["state"]:
            body = json.dumps(state).replace("</", r"<\/")
            app.add_js_file(None, type=STATE, body=body)
            app.add_js_file(HOST, loading_method="defer")


def copy_anywidget(app: Sphinx, exception: Exception | None) -> None:
    """Lay anywidget beside the full manager of ipywidgets, for a page that needs both."""
    if not exception and app.builder.format == "html":
        source = Path(anywidget.__file__).parent / "nbextension" / "index.js"
        shutil.copyfile(source, app.outdir / "_static" / "jupyter-widgets" / "anywidget.js")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the transform and the events, the page's after MyST-NB's."""
    app.add_post_transform(PlaceFigures)
    app.connect("html-page-context", add_host, priority=900)
    app.connect("build-finished", copy_anywidget)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
