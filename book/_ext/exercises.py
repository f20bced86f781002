"""The pages of exercises, the list of them in a chapter, and the student notebooks that the site publishes.

The page `book/exercises/NN_name` is made from that notebook and its checks; none of its cells runs. The environment
variable DDPM_LITE_EXERCISES says for whom: `public` (the default: solutions in drop-downs), `student` (no solutions) or
`instructor` (open solutions and the known mistakes). DDPM_LITE_ANSWERS names a folder of private answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from address import colab_address
from chapter_numbers import chapter_of
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective, SphinxRole

from ddpm_lite.grading import Essay, Set, Task, load
from ddpm_lite.grading.notebook import dots, mistakes_cell, student_notebook, worth, write_notebook

MODE, ANSWERS = "DDPM_LITE_EXERCISES", "DDPM_LITE_ANSWERS"
MODES = ("public", "student", "instructor")
FOLDER = "exercises"
WORK = """\
**How to work.** The {{exercise-notebook}}`notebook` holds the exercises, the hints and the checks, and needs numpy and
torch alone. [Open it in Colab]({colab}), or download it and open it in any Jupyter. In a copy of the repository,
`ddpm-lite exercises build student {name}` writes it too. Each check says `right.`, or in a sentence what is wrong."""
FOR = {
    "public": "Each exercise ends with its solution. Write your own first.",
    "student": "",
    "instructor": "*For instructors: the solutions are open, with the known mistakes and what refuses them.*",
}


def mode() -> str:
    """Return whom the pages are for; raises ExtensionError for a value that is none of MODES."""
    value = os.environ.get(MODE, MODES[0])
    if value not in MODES:
        raise ExtensionError(f"{MODE} is {value!r}: set it to one of {', '.join(MODES)}, or unset it ({MODES[0]})")
    return value


def answers() -> Path | None:
    """Return the folder of private answers; raises ExtensionError where it is no folder."""
    value = os.environ.get(ANSWERS)
    if value and not Path(value).is_dir():
        raise ExtensionError(
            f"{ANSWERS} is {value!r}, which is no folder: name that of the private answers, or unset it"
        )
    return Path(value).resolve() if value else None


def check_settings(app: Sphinx, config: Config) -> None:
    """Stop before any page is read when a setting is wrong."""
    mode()
    answers()


def is_exercises(docname: str) -> bool:
    """Tell whether a page is one of exercises."""
    return docname.split("/")[-2:-1] == [FOLDER] and chapter_of(docname) is not None


def read(env: BuildEnvironment, docname: str) -> Set:
    """Return the exercises of a page, and let the page that is being read depend on their files."""
    path = Path(env.doc2path(docname))
    try:
        exercises = load(path, answers=answers())
    except ValueError as error:
        raise ExtensionError(str(error)) from error
    files = [path, path.with_name(f"{path.stem}_checks.py")]
    if private := answers():
        files += [private / f"{path.stem}_checks.py", private / f"{path.stem}_answers.py"]
    for file in filter(Path.exists, files):
        env.note_dependency(str(file))
    return exercises


def replace_source(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the generated page in the place of the notebook."""
    if is_exercises(docname):
        exercises = read(app.env, docname)
        source[0] = page(exercises, chapter_of(docname) or 0, mode(), colab_address(app, docname))


def page(exercises: Set, chapter: int, mode: str, colab: str) -> str:
    """Return the page as MyST without a cell that runs."""
    parts = [f"# {exercises.title}", exercises.intro, WORK.format(colab=colab, name=exercises.name), FOR[mode]]
    if exercises.given:
        parts += ["Every answer may use this code:", code(exercises.given)]
    for number, part in enumerate(exercises.parts, 1):
        parts.append(section(part, f"{chapter}.{number}", mode))
    return "\n\n".join(part for part in parts if part) + "\n"


def section(part: Task | Essay, number: str, mode: str) -> str:
    """Return one exercise."""
    statement = part.statement.partition("\n")[2].strip()
    text = [f"({anchor(number)})=\n## Exercise {number}: {part.title}", label(part), statement]
    if isinstance(part, Task):
        text += ["The code to mend:" if part.debug else "Start from this:", code(part.stub)]
        text += [
            dropdown(f"{name} hint", hint) for name, hint in zip(("First", "Second"), part.exercise.hints, strict=True)
        ]
    if mode != "student" and part.solution:
        title, body = ("Solution", code(part.solution)) if isinstance(part, Task) else ("A model answer", part.solution)
        text.append(dropdown(title, body, opened=mode == "instructor"))
    if mode == "instructor" and isinstance(part, Task):
        text.append(f":::{{div}} dl-mistakes\n{mistakes_cell(part).source}\n:::")
    return "\n\n".join(text)


def anchor(number: str) -> str:
    return f"exercise-{number.replace('.', '-')}"


def label(part: Task | Essay) -> str:
    if isinstance(part, Essay):
        return f"Essay, {worth(part)}."
    return f"{spoken_dots(part.exercise.dots)} {worth(part)}"


def spoken_dots(count: int) -> str:
    """Return the difficulty as dots that a screen reader reads as words."""
    return f'<span class="dl-dots" role="img" aria-label="Difficulty {count} of 3">{dots(count)}</span>'


def code(source: str) -> str:
    return f"````{{code-block}} python\n{source.strip()}\n````"


def dropdown(title: str, body: str, opened: bool = False) -> str:
    return f":::::{{dropdown}} {title}\n{':open:' if opened else ''}\n{body}\n:::::"


def listing(exercises: Set, chapter: int, link: Callable[[str], str], shown: Callable[[int], str] = spoken_dots) -> str:
    """Return the list of a chapter's exercises as Markdown.

    link: anchor -> its address, "" -> that of the page. shown: difficulty -> text.
    """
    numbered = [(f"{chapter}.{number}", part) for number, part in enumerate(exercises.parts, 1)]
    lines = [
        f"- [Exercise {number}: {part.title}]({link(anchor(number))}) "
        + ("(essay)" if isinstance(part, Essay) else shown(part.exercise.dots))
        for number, part in numbered
    ]
    intro = (
        f"[The page of exercises]({link('')}) has a notebook to work in, with hints, and checks that say what is wrong."
    )
    return "\n".join([intro, "", *lines])


def exercises_of(docname: str) -> str:
    """Return the page with the exercises of a chapter."""
    folder, _, name = docname.rpartition("/")
    return f"{folder}/{FOLDER}/{name}"


def plain_listing(app: Sphinx, chapter: str, site: str) -> str:
    """Return the list for a chapter's notebook: links into the published site."""
    docname = exercises_of(chapter)
    page = f"{site}{FOLDER}/{docname.rpartition('/')[2]}.html"
    exercises = load(app.env.doc2path(docname), answers=answers())
    return listing(
        exercises,
        chapter_of(docname) or 0,
        lambda target: f"{page}#{target}" if target else page,
        dots,
    )


class ExerciseList(SphinxDirective):
    """Put the list of the chapter's exercises on its page."""

    def run(self) -> list[nodes.Node]:
        docname = exercises_of(self.env.docname)
        exercises = read(self.env, docname)
        local = f"{FOLDER}/{docname.rpartition('/')[2]}.md"
        text = listing(exercises, chapter_of(docname) or 0, lambda target: f"#{target}" if target else local)
        box = nodes.container(classes=["dl-exercises"])
        self.state.nested_parse(StringList(text.splitlines(), self.env.docname), self.content_offset, box)
        return [box]


class NotebookLink(SphinxRole):
    """Link the student notebook of the page."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        docname = self.env.docname
        address = f"{'../' * docname.count('/')}_sources/{docname}.ipynb"
        return [nodes.reference("", self.text, refuri=address, internal=True, classes=["download"])], []


def offer_the_notebook(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Let the buttons of a page of exercises offer its notebook, and never its source, which holds the solutions."""
    if not is_exercises(page):
        return
    context["sourcename"] = ""  # Sphinx copies no source
    groups = context.get("header_buttons", [])
    for button in [button for group in groups for button in group.get("buttons", [])]:
        if button.get("label") == "download-source-button":
            address = f"{context['pathto']('_sources', 1)}/{page}.ipynb"
            button.update(url=address, text=".ipynb", icon="fas fa-code", label="download-notebook-button")
            button["tooltip"] = "Download notebook file"
    groups.insert(0, launch_buttons(colab_address(app, page)))


def launch_buttons(colab: str) -> dict[str, Any]:
    """Return the theme's group of launch buttons with Colab alone: Binder would open the source."""
    icon = "_static/images/logo_colab.png"
    button = {"type": "link", "text": "Colab", "tooltip": "Launch on Colab", "icon": icon, "url": colab}
    group = {"type": "group", "tooltip": "Launch interactive content", "icon": "fas fa-rocket"}
    return {**group, "buttons": [button], "label": "launch-buttons"}


def publish_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Write the student notebooks, after the chapters' notebooks got their last form."""
    if exception or app.builder.format != "html":
        return
    for docname in filter(is_exercises, sorted(app.env.found_docs)):
        exercises = load(app.env.doc2path(docname), answers=answers())
        write_notebook(student_notebook(exercises), app.outdir / "_sources" / f"{docname}.ipynb")


def outdated(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Return the pages of exercises when they were built for others, or with other answers."""
    now = (mode(), str(answers()))
    before, env.exercises_state = getattr(env, "exercises_state", now), now
    return [name for name in env.found_docs if is_exercises(name)] if before != now else []


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the events: the buttons' after the theme's, the notebooks' after the chapters'."""
    app.add_directive("exercise-list", ExerciseList)
    app.add_role("exercise-notebook", NotebookLink())
    app.connect("config-inited", check_settings)
    app.connect("env-get-outdated", outdated)
    app.connect("source-read", replace_source)
    app.connect("html-page-context", offer_the_notebook, priority=600)
    app.connect("build-finished", publish_notebooks, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
