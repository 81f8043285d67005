"""foveate roofline: where a network's time goes, operator by operator, under what the machine can do."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli import parse
from foveate.cli.inspect import Json, Model
from foveate.cli.sample import Channels, Classes, Shape, Size, build, in_words, sample_shape
from foveate.variant import PLAIN


def roofline(
    model: Model,
    attention: Annotated[
        str | None,
        typer.Option(help="Insert one, options after colons, and tell its operators from the others."),
    ] = None,
    at: Annotated[str, typer.Option(help="Where: block, stage, or glob patterns parted by commas.")] = "block",
    shape: Shape = None,
    image_size: Size = None,
    channels: Channels = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 1,
    num_classes: Classes = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="Of measuring, about.")] = 5.0,
    picture: Annotated[Path | None, typer.Option(help="Draw it: FILE.png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Show where a network's time goes: arithmetic, memory or launches, each operator under the machine's roof.

    Example: foveate roofline timm:resnet50 --attention cbam --picture roofline.png
    """
    from dataclasses import asdict

    from foveate.costs import roofline, with_threads
    from foveate.counting import first_samples, placed
    from foveate.devices import require_device
    from foveate.insertion import insert
    from foveate.networks import example_input
    from foveate.report import picture_path, roofline_drawing, roofline_table, write_picture

    where = require_device(device)
    if picture is not None:
        picture_path(picture)
    wanted = [] if attention is None else parse.attention(attention)
    if attention is not None and (len(wanted) != 1 or wanted[0][0] == PLAIN):
        raise ValueError(f"--attention: wanted one mechanism, got {attention!r}")
    if attention is None and at != "block":
        raise ValueError("--at goes with --attention")
    sample = sample_shape(model, shape, image_size, channels, batch_size=batch_size)
    network = build(model, sample, num_classes)
    x = example_input(model, sample, batch_size=batch_size)
    before = {name for name, _ in network.named_modules()}
    for name, options in wanted:
        insert(network, name, at=at.split(",") if "," in at else at, example=first_samples(x, 1), **options)
    inserted = [name for name, _ in network.named_modules() if name not in before]
    with with_threads(threads):
        line = roofline(network.to(where), placed(x, where), inserted=inserted, budget_s=seconds)
    found: dict[str, Any] = asdict(line) | {"where": line.where(), "where_inserted": line.where(inserted=True)}
    what = f"{model} with {attention}" if attention else model
    found["about"] = f"{what}, {in_words(sample, batch_size)}, on {line.machine.name}"
    if picture is not None:
        write_picture(roofline_drawing(found), picture)
    if as_json:
        typer.echo(json.dumps(found))
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(roofline_table(found))
