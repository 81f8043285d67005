"""foveate roofline: where a network's time goes, operator by operator, under what the machine can do."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli import parse
from foveate.cli.inspect import Classes, Json, Model, Size
from foveate.spec import PLAIN


def roofline(
    model: Model,
    attention: Annotated[
        str | None,
        typer.Option(help="Insert one, options after colons, and tell its operators from the others."),
    ] = None,
    at: Annotated[str, typer.Option(help="Where: block, stage, or glob patterns parted by commas.")] = "block",
    image_size: Size = 224,
    channels: Annotated[int, typer.Option(min=1, help="Channels of the image.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1)] = 1,
    num_classes: Classes = 1000,
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

    import torch

    from foveate.costs import roofline, with_threads
    from foveate.devices import require_device
    from foveate.insertion import insert
    from foveate.networks import build_network
    from foveate.report import picture_path, roofline_drawing, roofline_table, write_picture

    where = require_device(device)
    if picture is not None:
        picture_path(picture)
    wanted = [] if attention is None else parse.attention(attention)
    if attention is not None and (len(wanted) != 1 or wanted[0][0] == PLAIN):
        raise ValueError(f"--attention: wanted one mechanism, got {attention!r}")
    if attention is None and at != "block":
        raise ValueError("--at goes with --attention")
    network = build_network(model, num_classes=num_classes, in_channels=channels)
    x = torch.randn(batch_size, channels, image_size, image_size)
    before = {name for name, _ in network.named_modules()}
    for name, options in wanted:
        insert(network, name, at=at.split(",") if "," in at else at, example=x[:1], **options)
    inserted = [name for name, _ in network.named_modules() if name not in before]
    with with_threads(threads):
        line = roofline(network.to(where), x.to(where), inserted=inserted, budget_s=seconds)
    found: dict[str, Any] = asdict(line) | {"where": line.where(), "where_inserted": line.where(inserted=True)}
    what = f"{model} with {attention}" if attention else model
    found["about"] = f"{what}, batch {batch_size} of {image_size}×{image_size}, on {line.machine.name}"
    if picture is not None:
        write_picture(roofline_drawing(found), picture)
    if as_json:
        typer.echo(json.dumps(found))
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(roofline_table(found))
