"""foveate evaluate: the accuracy of one network."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli import parse


def evaluate(
    network: Annotated[
        str,
        typer.Argument(
            help="foveate:NAME, timm:NAME, torchvision:NAME, path.py:function, or a file that foveate.save wrote.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="Class folders, val/ with class folders, images with labels.json, CIFAR-10's files, or parquet.",
            show_default=False,
        ),
    ],
    weights: Annotated[Path | None, typer.Option(help="Safetensors file or torch checkpoint.")] = None,
    source: Annotated[str | None, typer.Option(help="Whose official weights they are (GitHub owner/name).")] = None,
    cls: Annotated[str | None, typer.Option(help="The class there.")] = None,
    num_classes: Annotated[int | None, typer.Option(min=1, help="Outputs. Default: those of the weights.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the network's constructor; may be repeated.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="File of each image's class: JSON, or lines 'file class'.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the square that is shown, in pixels.")] = None,
    crop_pct: Annotated[float | None, typer.Option(help="Its share of the resized short side.")] = None,
    interpolation: Annotated[str | None, typer.Option(help="nearest, bilinear, bicubic or lanczos.")] = None,
    mean: Annotated[str | None, typer.Option(help="Of the channels, from 0 to 1, parted by commas.")] = None,
    std: Annotated[str | None, typer.Option(help="Of the channels, parted by commas.")] = None,
    bgr: Annotated[bool, typer.Option("--bgr", help="The network wants blue first.")] = False,
    images: Annotated[int | None, typer.Option(min=1, help="Use only so many, spread over the set.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    amp: Annotated[bool, typer.Option("--amp", help="bfloat16 autocast.")] = False,
    channels_last: Annotated[bool, typer.Option("--channels-last")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show top-1 and top-5 accuracy of a trained network, with the preprocessing that it was published with.

    Example: foveate evaluate timm:resnet50 --weights resnet50.safetensors --data imagenet
    """
    from foveate.devices import require_device
    from foveate.evaluation import find_images, make_ready, published, score

    require_device(device, "--device")
    given: dict[str, Any] = {"image_size": image_size, "crop_pct": crop_pct, "interpolation": interpolation}
    given |= {"mean": _numbers("--mean", mean), "std": _numbers("--std", std), "bgr": bgr or None}
    ready = make_ready(
        network, weights, num_classes=num_classes, options=parse.pairs(option or [], "--option"), source=source, cls=cls
    )
    found = find_images(data, ready.outputs, labels=labels)
    usual = published(ready.name, ready.source, weights.name if weights else "")
    if found.size is not None:  # small images are shown as they are
        usual = dataclasses.replace(usual, image_size=found.size, crop_pct=1.0)
    if crop_pct is None and image_size is not None and found.size is not None:
        given["crop_pct"] = 1.0
    changed = {key: value for key, value in given.items() if value is not None}
    if ready.channels == 1 and "mean" not in changed:
        changed |= {"mean": (0.5,), "std": (0.5,)} if "std" not in changed else {"mean": (0.5,)}
    preprocessing = dataclasses.replace(usual, **changed)
    if len(preprocessing.mean) != ready.channels:
        raise ValueError(f"--mean, --std: wanted {ready.channels} numbers each, got {len(preprocessing.mean)}")
    with _Bar(found.count if images is None else min(images, found.count)) as bar:
        result = score(
            ready.model,
            found,
            preprocessing,
            channels=ready.channels,
            batch_size=batch_size,
            most=images,
            device=device,
            amp=amp,
            channels_last=channels_last,
            progress=bar.update,
        )
    if as_json:
        answer: dict[str, Any] = {
            "network": network,
            "weights": str(weights) if weights else None,
            "source": ready.source,
        }
        answer |= {"data": str(data), "num_classes": ready.outputs, "images": result.images, "correct": result.right}
        answer |= {"correct5": result.right5, "top1": result.top1, "top5": result.top5, "device": device}
        answer |= {"preprocessing": dataclasses.asdict(preprocessing), "seconds": result.seconds}
        typer.echo(json.dumps(answer))
        return
    of = f", weights of {ready.source}" if ready.source else ""
    part = f" of {found.count:,}" if result.images < found.count else ""
    typer.echo(f"{network}, {ready.outputs} classes{of}: {result.images:,}{part} images of {found.name}")
    five = "" if result.top5 is None else f"   top-5 {result.top5:.2f} % ({result.right5:,})"
    typer.echo(f"top-1 {result.top1:.2f} % ({result.right:,} right){five}")
    typer.echo(f"{preprocessing}")
    typer.echo(f"{result.seconds:.1f} s, {result.images / result.seconds:,.0f} images a second on {device}")


def _numbers(flag: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{flag}: wanted numbers parted by commas, such as 0.485,0.456,0.406; got {text!r}") from None


class _Bar:
    """A bar on standard error, where that is a terminal."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self.bars = Progress(console=console, transient=True, disable=not console.is_terminal)
        self.task = self.bars.add_task("images", total=total)

    def __enter__(self) -> "_Bar":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def update(self, done: int, total: int) -> None:
        self.bars.update(self.task, completed=done, total=total)
