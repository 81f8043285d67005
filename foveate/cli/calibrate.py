"""foveate calibrate | latency: latency from counts, for a device that was measured once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import parse
from foveate.cli.inspect import Json
from foveate.cli.sample import Channels, Classes, Shape, Size, build, in_words, sample_shape
from foveate.variant import PLAIN

if TYPE_CHECKING:
    from torch import nn

    from foveate.counting import Batch


def calibrate(
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("calibration.json"),
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or float64.")] = "float32",
    batch_size: Annotated[int, typer.Option(min=1)] = 1,
    seconds: Annotated[float, typer.Option(min=0.0, help="Of measuring, about.")] = 40.0,
    as_json: Json = False,
) -> None:
    """Measure a device once, so that foveate latency can tell latencies on it from counts alone. About a minute.

    Example: foveate calibrate --device cpu --out cpu.json
    """
    from dataclasses import asdict

    import torch

    from foveate.costs import calibrate
    from foveate.devices import require_device

    kinds = {
        str(kind).removeprefix("torch."): kind for kind in (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    }
    if dtype not in kinds:
        raise ValueError(f"--dtype: wanted one of {', '.join(kinds)}; got {dtype!r}")
    require_device(device)
    if not out.absolute().parent.is_dir() or out.is_dir():
        raise ValueError(f"--out: wanted a file in a folder that is there; got {out}")
    found = calibrate(
        device,
        dtype=kinds[dtype],
        threads=threads,
        batch_size=batch_size,
        budget_s=seconds,
        progress=lambda text: typer.echo(f"measuring {text} …", err=True),
    )
    found.save(out)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    typer.echo(f"{found.name}, {found.device}, {_threads(found.threads)}, {found.dtype}, batch {found.batch_size}")
    typer.echo(f"{'each network, predicted by a fit to the others':44}{'measured ms':>13}{'predicted ms':>14}")
    for one in found.checked:
        name = f"{one.network} at {one.image_size}×{one.image_size}"
        off = 100 * (one.predicted_ms / one.measured_ms - 1)
        typer.echo(f"{name:44}{one.measured_ms:>13.2f}{one.predicted_ms:>14.2f}{off:>+8.0f} %")
    typer.echo(f"median error {100 * found.error:.0f} %; 9 of 10 within a factor of {found.within:.2f}; written: {out}")


def _threads(number: int) -> str:
    return f"{number} thread{'s' if number > 1 else ''}"


def latency(
    models: Annotated[
        list[str],
        typer.Argument(
            help="foveate:NAME, timm:NAME, torchvision:NAME, smp:NAME, hf:NAME or path.py:function.",
            metavar="NETWORK...",
            show_default=False,
        ),
    ],
    calibration: Annotated[Path, typer.Option(help="What foveate calibrate wrote.")] = Path("calibration.json"),
    attention: Annotated[
        str | None,
        typer.Option(help="Each network plain and with these: names parted by commas."),
    ] = None,
    at: Annotated[str, typer.Option(help="Where: block, stage, or glob patterns parted by commas.")] = "block",
    shape: Shape = None,
    image_size: Size = None,
    channels: Channels = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 1,
    num_classes: Classes = None,
    limit_ms: Annotated[float | None, typer.Option(min=0.0, help="Leave out what is predicted above it.")] = None,
    as_json: Json = False,
) -> None:
    """Order networks by latency predicted from their counts, on a device that was calibrated; nothing is timed.

    Example: foveate latency timm:resnet50 torchvision:mobilenet_v2 --attention se,cbam --calibration cpu.json
    """
    from dataclasses import asdict

    from foveate.costs import Calibration, fastest_first

    if attention is None and at != "block":
        raise ValueError("--at goes with --attention")
    if not calibration.is_file():
        raise ValueError(f"{calibration}: no such calibration; foveate calibrate --out {calibration} measures one")
    device = Calibration.load(calibration)
    wanted = [] if attention is None else parse.attention(attention)
    samples = {name: sample_shape(name, shape, image_size, channels, batch_size=batch_size) for name in models}
    networks = _candidates(samples, wanted, at, batch_size, num_classes, device.dtype)
    ordered = fastest_first(networks, device, limit_ms=limit_ms)
    if as_json:
        typer.echo(json.dumps([{"name": name, **asdict(found)} for name, found in ordered]))
        return
    sizes = " or ".join(dict.fromkeys(in_words(sample, batch_size) for sample in samples.values()))
    typer.echo(
        f"predicted on {device.name}, {device.device}, {_threads(device.threads)}, {device.dtype}, {sizes}; "
        "nothing was timed"
    )
    for name, found in ordered:
        note = f"  not covered: {', '.join(found.uncovered)}" if found.uncovered else ""
        typer.echo(f"{name:52}{found.ms:>10.2f} ms ({found.low:.2f} to {found.high:.2f}){note}")
    if not ordered:
        typer.echo(f"none is predicted within {limit_ms} ms")
    typer.echo(
        f"networks left out of the calibration: median error {100 * device.error:.0f} %, 9 of 10 within the interval"
    )
    if batch_size != device.batch_size:
        typer.echo(f"calibrated with batches of {device.batch_size}: the error at {batch_size} is not known", err=True)


def _candidates(
    samples: dict[str, tuple[int, ...]],
    attention: list[tuple[str, dict[str, Any]]],
    at: str,
    batch_size: int,
    num_classes: int | None,
    dtype: str,
) -> "Iterator[tuple[str, nn.Module, Batch]]":
    """Every network, plain and with each attention, one at a time, with its batch."""
    import torch

    from foveate.counting import first_samples
    from foveate.insertion import insert
    from foveate.networks import example_input

    where: Any = at.split(",") if "," in at else at
    numbers: torch.dtype = getattr(torch, dtype)
    for name, sample in samples.items():
        x = example_input(name, sample, batch_size=batch_size, dtype=numbers)
        yield name, build(name, sample, num_classes).to(numbers), x
        for mechanism, options in attention:
            if mechanism == PLAIN:
                continue
            network = build(name, sample, num_classes).to(numbers)
            insert(network, mechanism, at=where, example=first_samples(x, 1), **options)
            yield f"{name} + {mechanism}{''.join(f':{k}={v}' for k, v in options.items())}", network, x
