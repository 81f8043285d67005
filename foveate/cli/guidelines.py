"""foveate guidelines study: ShuffleNet v2's four experiments on this machine."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="ShuffleNet v2's four guidelines, on your machine.")


@app.command()
def study(
    out: Annotated[Path, typer.Option(help="Folder for the table, the pictures and the JSON.")] = Path("guidelines"),
    guideline: Annotated[str, typer.Option(help="Which, parted by commas.")] = "G1,G2,G3,G4",
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 1,
    seconds: Annotated[float, typer.Option(min=0.0, help="Of measuring for each of the eight experiments.")] = 8.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run the paper's four experiments: does each guideline hold on this machine? About a minute and a half.

    Example: foveate guidelines study --out guidelines --threads 1
    """
    from dataclasses import asdict

    import torch

    from foveate.costs import device_there, experiment, experiments
    from foveate.report import experiments_table, write_experiments
    from foveate.train import machine, versions

    wanted = dict.fromkeys(name.strip().upper() for name in guideline.split(","))
    known = experiments()
    for name in wanted:
        if name not in known:
            raise LookupError(f"--guideline: wanted some of {', '.join(known)}; got {name!r}")
    device_there(device)
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: wanted a folder; {out} is a file")
    found: list[dict[str, Any]] = []
    for name in wanted:
        for width in known[name]:
            typer.echo(f"measuring {name} at {width} channels …", err=True)
            one = experiment(name, width, device=device, threads=threads, batch_size=batch_size, budget_s=seconds)
            found.append(asdict(one))
    whole = {
        "machine": machine(),
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
