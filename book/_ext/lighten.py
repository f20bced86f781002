"""Make the pages light: no script stops the first paint, icons are those that the pages show, pictures are packed.

The theme would load every icon of Font Awesome, twice: as a script of 1.5 MB and as fonts. Here the script goes (in
`_templates/layout.html`), and the theme's style sheet keeps the icons that the built pages name, with their shapes.
"""

from __future__ import annotations

import base64
import io
import logging as plain_logging
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from PIL import Image
from sphinx.application import Sphinx
from sphinx.builders.html._assets import _JavaScript
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
plain_logging.getLogger("fontTools").setLevel(plain_logging.WARNING)  # it tells of every table that it cuts
SETTINGS = "_static/documentation_options.js"
STYLE = "styles/pydata-sphinx-theme.css"
UNUSED = ("scripts/fontawesome.js", "vendor/fontawesome", "sphinx-thebe.js", "sphinx-thebe.css")
SHAPES_LICENCE = """
/*! Font Awesome Free 6 by @fontawesome - https://fontawesome.com, a part of its fonts and styles.
 * License - https://fontawesome.com/license/free (Icons: CC BY 4.0, Fonts: SIL OFL 1.1, Code: MIT License)
 * Copyright Fonticons, Inc. */
"""
NAMED = re.compile(r'class="([^"]*\bfa-[^"]*)"')
IN_SCRIPT = re.compile(r"""["'](fa[a-z]* fa-[\w -]+)["']""")
RULE = re.compile(r'((?:\.fa-[\w-]+:before,?)+)\{content:"([^"]+)"\}')
FACE = re.compile(r"@font-face\{[^}]*font-family:Font Awesome[^}]*\}")
DRAWN = re.compile(r"[\ue000-\uf8ff]")


def defer(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Let every script file wait for the page; settings stay in the page. Nothing of thebe, and nothing twice."""
    scripts = sorted((js for js in context["script_files"] if not is_thebe(js)), key=lambda js: js.priority)
    context["script_files"] = list(dict.fromkeys(deferred(js, app.outdir) for js in scripts))
    context["css_files"] = [css for css in context["css_files"] if not is_thebe(css)]


def is_thebe(asset: Any) -> bool:
    """Tell whether a script or style sheet belongs to thebe, which this book does not use."""
    return "thebe" in str(asset.filename) or "THEBE_JS_URL" in asset.attributes.get("body", "")


def deferred(js: _JavaScript, site: Path) -> _JavaScript:
    """Return a file as one that runs when the page has been read; Sphinx's file of settings as a part of the page."""
    if js.filename == SETTINGS:
        return _JavaScript("", priority=js.priority, body=(site / SETTINGS).read_text(encoding="utf-8"))
    if not js.filename:
        return _JavaScript("", priority=js.priority, **js.attributes)
    return _JavaScript(js.filename, priority=js.priority, **{**js.attributes, "async": None, "defer": "defer"})


def cut_icons(app: Sphinx, exception: Exception | None) -> None:
    """Keep in the theme's style sheet the icons that the pages, the theme's scripts and the sheet itself show."""
    if exception or app.builder.format != "html":
        return
    static = app.outdir / "_static"
    style = (static / STYLE).read_text(encoding="utf-8")
    codes = {name: char(code) for names, code in RULE.findall(style) for name in re.findall(r"\.(fa-[\w-]+)", names)}
    icons = named(app.outdir)
    for name in sorted(icons - set(re.findall(r"\.(fa-[\w-]+)", style))):  # the sheet has icons, and sizes of them
        LOGGER.warning("a page shows the icon %r, which the theme's Font Awesome does not have", name)
    shown = {codes[name] for name in icons if name in codes} | set(DRAWN.findall(style))
    style = RULE.sub(lambda rule: rule[0] if char(rule[2]) in shown else "", style)
    style = FACE.sub(lambda face: with_shapes(face[0], static / "styles", shown), style)
    (static / STYLE).write_text(style.removesuffix(SHAPES_LICENCE) + SHAPES_LICENCE, encoding="utf-8")
    for file in UNUSED:
        path = static / file
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def char(code: str) -> str:
    r"""Return the character that a style sheet writes as itself or as \f0c9."""
    number = re.fullmatch(r"\\([0-9a-f]{2,6}) ?", code)
    return chr(int(number[1], 16)) if number else code.removeprefix("\\")


def named(site: Path) -> set[str]:
    """Return the classes fa-... of the built pages and of the theme's own scripts."""
    scripts = [script for script in (site / "_static/scripts").glob("*.js") if script.name != "fontawesome.js"]
    texts = [match for page in pages(site) for match in NAMED.findall(page.read_text(encoding="utf-8"))]
    texts += [match for script in scripts for match in IN_SCRIPT.findall(script.read_text(encoding="utf-8"))]
    return {name for text in texts for name in text.split() if name.startswith("fa-")}


def with_shapes(face: str, styles: Path, shown: set[str]) -> str:
    """Return a font rule that holds the shapes of the shown icons, or nothing where the font has none of them."""
    address = re.search(r"url\(([^)]+\.ttf)\)", face)
    if not address:  # cut already
        return face
    font = TTFont(styles / address[1])
    codes = {ord(icon) for icon in shown} & set(font.getBestCmap())
    if not codes:
        return ""
    options = Options(layout_features=[], name_IDs=[], notdef_outline=False, hinting=False, flavor="woff")
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=codes)
    subsetter.subset(font)
    font.flavor = "woff"
    font.save(out := io.BytesIO())
    data = base64.b64encode(out.getvalue()).decode()
    return re.sub(r"src:[^}]*", f'src:url(data:font/woff;base64,{data}) format("woff")', face)


def pack_pictures(app: Sphinx, exception: Exception | None) -> None:
    """Store the pages' PNG pictures as WebP without loss: the same pixels in half the bytes."""
    if exception or app.builder.format != "html":
        return
    pictures = list((app.outdir / "_images").glob("*.png"))
    for picture in pictures:
        Image.open(picture).save(picture.with_suffix(".webp"), lossless=True, exact=True, quality=100, method=6)
        picture.unlink()
    for page in pages(app.outdir):
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r'(_images/[^"/]+)\.png"', r'\1.webp"', text), encoding="utf-8")


def pages(site: Path) -> list[Path]:
    """Return the built pages."""
    return [page for page in site.rglob("*.html") if "_static" not in page.parts]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the events, after all others."""
    app.connect("html-page-context", defer, priority=950)
    app.connect("build-finished", cut_icons, priority=900)
    app.connect("build-finished", pack_pictures, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
