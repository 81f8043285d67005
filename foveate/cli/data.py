"""foveate data make | check."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import parse

if TYPE_CHECKING:
    from foveate.data.inspection import Inspection

app = typer.Typer(no_args_is_help=True, help="Make the embedded set as files; check your own folder.")
CLASSES_SHOWN = 20
TAKEN = "taken out of the training part where early stopping or a choice of values needs one"


@app.command()
def make(
    what: Annotated[
        str,
        typer.Argument(
            metavar="OUT|salt",
            help="The folder that scattered digits are written to, not there yet or empty; or 'salt': velocity models "
            "with salt and their shot gathers, written to --out.",
            show_default=False,
        ),
    ],
    images: Annotated[int, typer.Option(help="Training images.")] = 2000,
    test_images: Annotated[int, typer.Option(help="Test images.")] = 1000,
    image_size: Annotated[int, typer.Option(help="Side in pixels.")] = 32,
    seed: Annotated[int, typer.Option()] = 0,
    out: Annotated[Path | None, typer.Option(help="salt: a folder that is not there yet, or empty.")] = None,
    n: Annotated[int | None, typer.Option("--n", help="salt: training models (800).", show_default=False)] = None,
    test_models: Annotated[
        int | None, typer.Option(help="salt: test models (an eighth as many).", show_default=False)
    ] = None,
    style: Annotated[
        str | None, typer.Option(help="salt: layered (where it is not said) or seg.", show_default=False)
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="salt: cells along depth and x (70,70).", metavar="H,W", show_default=False)
    ] = None,
) -> None:
    """Write scattered digits as PNG files in class folders, or salt models with their simulated shot gathers.

    Gathers are simulated on all cores and kept; a killed call goes on where it stopped.

    Example: foveate data make digits --images 500
    Example: foveate data make salt --style layered --n 800 --out salt
    """
    if what == "salt":
        for option, value, usual in (
            ("--images", images, 2000), ("--test-images", test_images, 1000), ("--image-size", image_size, 32),
        ):  # fmt: skip
            if value != usual:
                raise ValueError(f"{option} is for digits; salt models take --n, --test-models and --size")
        _make_salt(out, n, test_models, style, size, seed)
        return
    for option, given in (
        ("--out", out),
        ("--n", n),
        ("--test-models", test_models),
        ("--style", style),
        ("--size", size),
    ):
        if given is not None:
            raise ValueError(f"{option} is for salt models: foveate data make salt; got {what!r}, a folder for digits")
    from foveate.data import make_embedded

    out = Path(what)
    make_embedded(out, images, test_images=test_images, image_size=image_size, seed=seed)
    typer.echo(f"{out}: {images} train and {test_images} test images of {image_size}×{image_size} pixels")


def _make_salt(
    out: Path | None, n: int | None, test_models: int | None, style: str | None, size: str | None, seed: int
) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from foveate.data.seismic.made import make_salt

    if out is None:
        raise ValueError("foveate data make salt: wanted --out DIR, the folder to write to; got none")
    sides = parse.sides(size or "70,70")
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("gathers of models", total=None)
        line = make_salt(
            out,
            800 if n is None else n,
            test_models=test_models,
            style=style or "layered",
            size=sides,
            seed=seed,
            progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    typer.echo(line)


@app.command()
def check(
    source: Annotated[str, typer.Argument(help="A data folder, or 'embedded'.", show_default=False)],
    kind: Annotated[str, typer.Option(help="How to read it: a registered kind, or path.py:function.")] = "auto",
    task: Annotated[
        str,
        typer.Option(help="What the data are for, such as segmentation: decides how they are read, and is checked."),
    ] = "",
    option: Annotated[
        list[str] | None, typer.Option(help="Of the kind of data; again for another.", metavar="NAME=VALUE")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Files that cannot be used are left out, as with skip_bad = true.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Open and decode every file of a data folder: classes, counts, sizes, the split, and everything that is wrong.

    Exit status 1 if the data cannot be used as they are.

    Example: foveate data check photos
    """
    from foveate.data import inspect_data
    from foveate.tasks import TASKS, create_task

    if not source.strip():
        raise ValueError("wanted a data folder; got an empty name")
    if task:
        TASKS.get(task)
    options = parse.pairs(option or [], "--option") | ({"skip_bad": True} if skip_bad else {})
    found = inspect_data(source, kind=kind, task=task, options=options)
    if task and found.data is not None:
        create_task(task, found.data)  # the data have its targets
    if as_json:
        typer.echo(json.dumps(found.row()))
    else:
        for line in _lines(found):
            typer.echo(line)
    if found.serious:
        if not as_json:
            typer.echo(f"{found.serious} problem{'s' * (found.serious > 1)} in {source}", err=True)
        raise typer.Exit(1)


def _lines(found: "Inspection") -> list[str]:
    lines = [f"note: {problem}" if problem.kind == "note" else str(problem) for problem in found.problems]
    if found.data is None:
        return lines
    row: dict[str, Any] = found.row()
    lines.append(found.data.description)
    parts = [part for part in ("train", "validation", "test") if part in row]
    names = list(row["train"].get("classes", {}))
    if names:
        wide = max(map(len, ["class", *names[:CLASSES_SHOWN]]))
        if found.data.train.pixels is not None:
            lines.append("images with each class:")
        if found.data.train.annotations is not None:
            lines.append("boxes of each class:")
        lines.append(f"  {'class':<{wide}}" + "".join(f"  {part:>{max(7, len(part))}}" for part in parts))
        for name in names[:CLASSES_SHOWN]:
            counts = (f"  {row[part]['classes'][name]:>{max(7, len(part))},}" for part in parts)
            lines.append(f"  {name:<{wide}}" + "".join(counts))
        if len(names) > CLASSES_SHOWN:
            lines.append(f"  … and {len(names) - CLASSES_SHOWN:,} more (--json lists all)")
    if "validation" not in parts:
        lines.append(f"validation: no part of its own; {TAKEN}")
    lines += [f"{key}: {value}" for key, value in found.data.about.items()]
    lines.append(f"{found.source}: can be used (kind {found.kind})")
    return lines
