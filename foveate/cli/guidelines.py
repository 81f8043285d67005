"""foveate guidelines MODEL | study: ShuffleNet v2's four guidelines, on a network and on this machine."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from foveate.cli.inspect import Json, Model
from foveate.cli.sample import Channels, Classes, Shape, Size, build, in_words, sample_shape


class _ModelOrCommand(TyperGroup):
    """`guidelines timm:resnet50` is `guidelines model timm:resnet50`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if not args or args[0] in known else ["model", *args])


app = typer.Typer(
    cls=_ModelOrCommand,
    no_args_is_help=True,
    subcommand_metavar="MODEL | study",
    help="ShuffleNet v2's four guidelines, on a network and on your machine.\n\n"
    "Example: foveate guidelines timm:resnet50",
)


@app.command()
def model(
    model: Model,
    shape: Shape = None,
    image_size: Size = None,
    channels: Channels = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 1,
    num_classes: Classes = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="Of measuring, about.")] = 15.0,
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="Time the places and their changes.")] = True,
    picture: Annotated[Path | None, typer.Option(help="Draw what the places cost: FILE.png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Say where a network departs from the four guidelines, what that costs here, and what a change would save.

    Example: foveate guidelines model timm:resnet50 --picture guidelines.png
    """
    from dataclasses import asdict

    from foveate.costs import guidelines, with_threads
    from foveate.devices import require_device
    from foveate.networks import example_input
    from foveate.report import guidelines_drawing, guidelines_table, picture_path, write_picture

    where = require_device(device)
    if picture is not None:
        picture_path(picture)
    sample = sample_shape(model, shape, image_size, channels, batch_size=batch_size)
    network = build(model, sample, num_classes).to(where)
    x = example_input(model, sample, batch_size=batch_size, device=where)
    with with_threads(threads):
        found = asdict(guidelines(network, x, measure=measure, budget_s=seconds))
    found["about"] = f"{model}, {in_words(sample, batch_size)}, on {found['machine']['name']}"
    if picture is not None:
        write_picture(guidelines_drawing(found), picture)
    if as_json:
        typer.echo(json.dumps(found))
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(guidelines_table(found))


@app.command()
def study(
    out: Annotated[Path, typer.Option(help="Folder for the table, the pictures and the JSON.")] = Path("guidelines"),
    guideline: Annotated[str, typer.Option(help="Which, parted by commas.")] = "G1,G2,G3,G4",
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 1,
    seconds: Annotated[float, typer.Option(min=0.0, help="Of measuring for each of the eight experiments.")] = 8.0,
    as_json: Json = False,
) -> None:
    """Run the paper's four experiments: does each guideline hold on this machine? About a minute and a half.

    Example: foveate guidelines study --out guidelines --threads 1
    """
    from dataclasses import asdict

    import torch

    from foveate.costs import experiment, experiments
    from foveate.devices import require_device
    from foveate.machine import machine_name, versions
    from foveate.report import experiments_table, write_experiments

    wanted = dict.fromkeys(name.strip().upper() for name in guideline.split(","))
    known = experiments()
    for name in wanted:
        if name not in known:
            raise LookupError(f"--guideline: wanted some of {', '.join(known)}; got {name!r}")
    require_device(device)
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: wanted a folder; {out} is a file")
    found: list[dict[str, Any]] = []
    for name in wanted:
        for width in known[name]:
            typer.echo(f"measuring {name} at {width} channels …", err=True)
            one = experiment(name, width, device=device, threads=threads, batch_size=batch_size, budget_s=seconds)
            found.append(asdict(one))
    whole = {
        "machine": machine_name(),
        "versions": versions(),
        "device": device,
        "threads": threads or torch.get_num_threads(),
        "batch_size": batch_size,
        "experiments": found,
    }
    write_experiments(whole, out)
    if as_json:
        typer.echo(json.dumps(whole))
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(experiments_table(whole))
    typer.echo(f"table and pictures: {out}")
