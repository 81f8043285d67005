"""foveate data make | check."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Make the embedded set as files; check your own folder.")


@app.command()
def make(
    out: Annotated[Path, typer.Argument(help="A folder that is not there yet, or empty.", show_default=False)],
    images: Annotated[int, typer.Option(help="Training images.")] = 2000,
    test_images: Annotated[int, typer.Option(help="Test images.")] = 1000,
    image_size: Annotated[int, typer.Option(help="Side in pixels.")] = 32,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Write scattered digits as PNG files in class folders.

    Example: foveate data make digits --images 500
    """
    from foveate.data import make_embedded

    make_embedded(out, images, test_images=test_images, image_size=image_size, seed=seed)
    typer.echo(f"{out}: {images} train and {test_images} test images of {image_size}×{image_size} pixels")


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="A data folder.", show_default=False)]) -> None:
    """Open and decode every file of a data folder; list what is empty, cut short or no image.

    Example: foveate data check photos
    """
    from foveate.data import check_folder

    if not folder.is_dir():
        raise ValueError(f"{folder}: wanted a data folder; there is none")
    problems = check_folder(folder)
    for problem in problems:
        typer.echo(f"note: {problem}" if problem.kind == "note" else str(problem))
    serious = sum(problem.kind != "note" for problem in problems)
    if serious:
        typer.echo(f"{serious} problem{'s' * (serious > 1)} in {folder}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{folder}: every file can be read")
