"""The command line `ddpm-lite`, also `python -m ddpm_lite`."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .grading.exercise import Set

__all__ = ["main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
exercises = typer.Typer(no_args_is_help=True, help="Build, grade and prove the exercises of the book.")
app.add_typer(exercises, name="exercises")

Source = Annotated[Path, typer.Option(help="The folder of the sets, NN_name.md.")]
Answers = Annotated[
    Path | None, typer.Option(help="A private folder of checks and answers, which win over the public.")
]
Model = Annotated[str, typer.Argument(help="digits (shipped), a state that train wrote, or a run's folder.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or another; without: the first accelerator, else the CPU.")]
SOURCE = Path("book/exercises")
SAMPLES = Path("samples.png")
MOST_NAMED = 10  # files in one line


class Product(StrEnum):
    """What can be built of a set."""

    student = "student"
    instructor = "instructor"
    nbgrader = "nbgrader"
    gradescope = "gradescope"


@app.callback()
def about() -> None:
    """Diffusion, checked: what the book's package does from the command line."""


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="mnist, fashion or cifar10.")],
    folder: Annotated[Path | None, typer.Option(help="Where to: without it, DDPM_LITE_DATA or the cache.")] = None,
) -> None:
    """Get a set of images: verify its files, download what is missing, and say where they are."""
    from .images.data import fetch

    typer.echo(fetch(name, folder=folder))


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="digits, fashion, cifar10, or a .toml or .json file.")],
    output: Annotated[Path | None, typer.Option(help="The folder of the run: without it, runs/CONFIG.")] = None,
    steps: Annotated[int | None, typer.Option(help="Train until this step.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: batch=64, network.width=48; repeatable.")
    ] = None,
    save_every: Annotated[int, typer.Option(help="Steps between two states on disk.")] = 1000,
    log_every: Annotated[int, typer.Option(help="Steps between two rows of log.csv.")] = 50,
    keep: Annotated[int, typer.Option(help="How many states stay on disk.")] = 3,
    watch: Annotated[bool, typer.Option(help="Draw and measure samples with every state.")] = True,
) -> None:
    """Train an image model, from its last good state if there is one; accelerate launch takes it to many devices."""
    from .images import config as settings
    from .images.training import Interrupted
    from .images.training import train as run
    from .images.watch import watcher

    changes = [*(set_ or []), *([] if steps is None else [f"steps={steps}"])]
    folder = output or Path("runs") / Path(config).stem
    chosen = settings.override(settings.read(config), changes)
    try:
        look = watcher(chosen) if watch else None
        typer.echo(run(chosen, folder, save_every=save_every, log_every=log_every, keep=keep, look=look))
    except Interrupted as stopped:
        typer.echo(stopped, err=True)
        raise typer.Exit(130) from None


@app.command()
def sample(
    model: Model,
    output: Annotated[Path, typer.Option(help=".png, .gif (the way from noise) or .npz (the pixels).")] = SAMPLES,
    n: Annotated[int, typer.Option(help="How many images.")] = 64,
    label: Annotated[list[int] | None, typer.Option(help="Classes, taken in turn; repeatable. Without: all.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the sampler.")] = 20,
    guidance: Annotated[float, typer.Option(help="0: no class, 1: the class, more: guided.")] = 1.0,
    sampler: Annotated[str, typer.Option(help="dpmpp, adams, heun or ddim.")] = "dpmpp",
    seed: Annotated[int, typer.Option(help="Image i depends on the seed and i, on nothing else.")] = 0,
    batch: Annotated[int, typer.Option(help="Images at a time: decides the memory, not the images.")] = 64,
    device: Device = None,
) -> None:
    """Draw images from a trained network."""
    from .images.sampling import write

    options: dict[str, Any] = {"steps": steps, "guidance": guidance, "sampler": sampler, "seed": seed}
    typer.echo(write(output, model, n, labels=label, batch=batch, device=place_for(device), **options))


@app.command()
def evaluate(
    model: Model,
    n: Annotated[int, typer.Option(help="How many samples.")] = 2000,
    steps: Annotated[int, typer.Option(help="Steps of the sampler.")] = 20,
    guidance: Annotated[float, typer.Option(help="0: no class, 1: the class, more: guided.")] = 1.0,
    sampler: Annotated[str, typer.Option(help="dpmpp, adams, heun or ddim.")] = "dpmpp",
    seed: Annotated[int, typer.Option(help="Decides the samples and all that is drawn.")] = 0,
    bits: Annotated[int, typer.Option(help="Bits a dimension of so many test images; 0: none.")] = 32,
    output: Annotated[Path | None, typer.Option(help="Write the measures here, as JSON.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="Write samples above the nearest training images here.")] = None,
    device: Device = None,
) -> None:
    """Measure a trained network: Frechet distance and its floor, precision, recall, copies, bits a dimension."""
    from .images.report import evaluate as measure

    options: dict[str, Any] = {"steps": steps, "guidance": guidance, "sampler": sampler, "seed": seed}
    found = measure(model, n=n, bits_of=bits, pairs=pairs, device=place_for(device), **options)
    text = json.dumps(found, indent=2)
    typer.echo(text)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")


@exercises.command()
def build(
    product: Annotated[
        Product, typer.Argument(help="Blank or complete notebooks, a course, or autograders to upload.")
    ],
    names: Annotated[list[str] | None, typer.Argument(help="The sets, such as 07_forward; without names, all.")] = None,
    source: Source = SOURCE,
    answers: Answers = None,
    output: Annotated[Path | None, typer.Option(help="Where to: without it, _build/exercises/PRODUCT.")] = None,
    pip_index: Annotated[str | None, typer.Option(help="For gradescope: a further package index for pip.")] = None,
) -> None:
    """Write notebooks for students or instructors, a course for nbgrader, or autograders for Gradescope."""
    from .grading.nbgrader import write_course

    sets = load_sets(source, answers, names)
    folder = output or Path("_build/exercises") / product.value
    if product is Product.nbgrader:
        written = write_course(progress(sets), folder, secrets.randbits(32))
    else:
        written = [write_one(product, each, folder, answers, pip_index) for each in progress(sets)]
    for path in written:
        typer.echo(path)


def write_one(product: Product, each: Set, folder: Path, answers: Path | None, index: str | None) -> Path:
    from .grading.gradescope import write_autograder
    from .grading.notebook import instructor_notebook, student_notebook, write_notebook

    if product is Product.gradescope:
        return write_autograder(each, folder / f"{each.name}.zip", answers=answers, index=index)
    path = folder / f"{each.name}.ipynb"
    write_notebook(student_notebook(each) if product is Product.student else instructor_notebook(each), path)
    return path


@exercises.command()
def grade(
    folder: Annotated[Path, typer.Argument(help="The submissions: .ipynb and .py, also in folders.")],
    name: Annotated[str | None, typer.Option("--set", help="The set; without it, that of the folder's name.")] = None,
    source: Source = SOURCE,
    answers: Answers = None,
    csv: Annotated[Path | None, typer.Option(help="Write name, exercise, points, reason here.")] = None,
    feedback: Annotated[
        Path | None, typer.Option(help="Write one Markdown file a submission into this folder.")
    ] = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Run submissions that you trust without bubblewrap.")
    ] = False,
) -> None:
    """Grade a folder of submissions, each in a process of its own, on fresh random cases."""
    from .grading.grade import grade as grade_folder
    from .grading.grade import total, write_csv, write_feedback

    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: name the one that holds the submissions; unpack a zip first")
    each = load_sets(source, answers, [name or folder.resolve().name], remedy="name one with --set")[0]
    make_room(csv, feedback)
    say_left_out(folder)
    rows = grade_folder(folder, each, rng=np.random.default_rng(), unsafe=unsafe, progress=True)
    if csv is not None:
        write_csv(rows, csv)
        typer.echo(f"grades: {csv}")
    if feedback is not None:
        typer.echo(f"feedback: {len(write_feedback(rows, feedback))} files in {feedback}")
    for person in dict.fromkeys(row.name for row in rows):
        typer.echo(f"{person}: {total([row for row in rows if row.name == person])}")


@exercises.command()
def selftest(
    names: Annotated[list[str] | None, typer.Argument(help="The sets, such as 07_forward; without names, all.")] = None,
    seeds: Annotated[int, typer.Option(help="How many draws of the cases; 300 before a release.")] = 20,
    source: Source = SOURCE,
    answers: Answers = None,
) -> None:
    """Prove the grader: right answers pass, and every known or automatic mistake is refused."""
    from .grading.selftest import selftest as prove

    report = prove(load_sets(source, answers, names), seeds=seeds, progress=True)
    typer.echo(report)
    if report.problems:
        raise typer.Exit(1)


@exercises.command()
def new(
    name: Annotated[str, typer.Argument(help="The chapter's number and a word, such as 09_ddim.")],
    source: Source = SOURCE,
    answers: Annotated[Path | None, typer.Option(help="Put checks and answers into this private folder.")] = None,
) -> None:
    """Start a set: a notebook and its checks that pass the self-test as they stand."""
    from .grading.template import write_template

    for path in write_template(name, source, answers):
        typer.echo(path)


def place_for(device: str | None) -> str:
    """Return the device asked for, else the accelerator, else the CPU; ValueError where the machine lacks it."""
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    here = ["cpu"] if found is None else [found.type, "cpu"]
    if device is not None and device.partition(":")[0] not in here:
        raise ValueError(f"--device {device} is not on this machine: use {' or '.join(here)}")
    return device or here[0]


def make_room(csv: Path | None, feedback: Path | None) -> None:
    """Make the folders of what will be written, before the work; raises ValueError where that cannot be."""
    if csv is not None and csv.is_dir():
        raise ValueError(f"--csv {csv} is a folder: name a file, such as {csv / 'grades.csv'}")
    if feedback is not None and feedback.is_file():
        raise ValueError(f"--feedback {feedback} is a file: name a folder")
    for folder in (csv and csv.parent, feedback):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)


def say_left_out(folder: Path) -> None:
    from .grading.submission import left_out

    names = [path.relative_to(folder).as_posix() for path in left_out(folder)]
    if names:
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        typer.echo(f"not graded, no .ipynb and no .py: {', '.join(names[:MOST_NAMED])}{more}", err=True)


def load_sets(
    source: Path, answers: Path | None, names: Iterable[str] | None, remedy: str = "use one of these"
) -> list[Set]:
    """Load the named sets, or all; raises ValueError for a folder without sets and for an unknown name."""
    from .grading.source import load

    paths = {path.stem: path for path in sorted(source.glob("[0-9][0-9]_*.md"))}
    if not paths:
        raise ValueError(f"{source} holds no set NN_name.md: run this in the book's folder, or name another: --source")
    wanted = [name.removesuffix(".md") for name in names or paths]
    unknown = [name for name in wanted if name not in paths]
    if unknown:
        raise ValueError(f"there is no set {', '.join(unknown)} in {source}: {remedy}: {', '.join(paths)}")
    return [load(paths[name], answers=answers) for name in wanted]


def progress(sets: list[Set]) -> Iterable[Set]:
    from tqdm import tqdm

    return tqdm(sets, desc="sets", unit="", file=sys.stderr)


def main() -> None:
    """Run a command; what the caller can mend is one line on stderr and exit status 2."""
    from .grading.sandbox import SandboxError

    try:
        app()
    except (ValueError, SandboxError, OSError, MemoryError, FloatingPointError) as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    except ModuleNotFoundError as error:
        typer.echo(f"error: {error}: pip install 'ddpm-lite[instructor,images]'", err=True)
        raise SystemExit(2) from None
