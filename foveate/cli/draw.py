"""foveate draw, and foveate show of a network: its architecture with its attention marked, read from its modules."""

import inspect
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import parse
from foveate.cli.sample import Channels, Classes, Shape, Size, build, sample_shape
from foveate.variant import PLAIN

if TYPE_CHECKING:
    from torch import nn

    from foveate.architecture import Architecture

CHANNELS = 256  # of the map that a lone mechanism is drawn for


def draw(
    model: Annotated[
        str,
        typer.Argument(
            help="foveate:NAME, timm:NAME, torchvision:NAME, smp:NAME, hf:NAME, path.py:function, or a mechanism.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="FILE.svg or .png.", show_default=False)],
    attention: Annotated[str | None, typer.Option(help="Insert one first, options after colons.")] = None,
    at: Annotated[str, typer.Option(help="Where: block, stage, or glob patterns parted by commas.")] = "block",
    shape: Shape = None,
    image_size: Size = None,
    channels: Channels = None,
    num_classes: Classes = None,
) -> None:
    """Draw the architecture of a network: its steps, each kind of block and of attention, read from what runs.

    Example: foveate draw foveate:se_shufflenet_v2 --out se_shufflenet_v2.svg
    """
    from foveate.attention import list_attention
    from foveate.report import architecture_drawing, picture_path, write_picture

    picture_path(out)
    wanted = [] if attention is None else parse.attention(attention)
    if attention is not None and (len(wanted) != 1 or wanted[0][0] == PLAIN):
        raise ValueError(f"--attention: wanted one mechanism, got {attention!r}")
    if attention is None and at != "block":
        raise ValueError("--at goes with --attention")
    if model in list_attention():
        given = (attention, shape, image_size, num_classes)
        if any(one is not None for one in given):
            raise ValueError(f"{model} is a mechanism; it is drawn alone, of maps with --channels")
        found = mechanism_alone(model, channels or CHANNELS)
    else:
        sample = sample_shape(model, shape, image_size, channels)
        where = at.split(",") if "," in at else at
        found = described(_named(model), sample, num_classes, wanted[0] if wanted else None, where)
    write_picture(architecture_drawing(asdict(found)), out)
    typer.echo(f"{found.name} with {attention}: {out}" if attention else f"{found.name}: {out}")


def described(
    model: str,
    sample: tuple[int, ...],
    num_classes: int | None,
    attention: tuple[str, dict[str, Any]] | None = None,
    at: Any = "block",
) -> "Architecture":
    """The architecture of a network by name, without memory for its weights where it is no detector."""
    from foveate.architecture import describe
    from foveate.insertion import insert
    from foveate.networks import build_without_memory, example_input, is_detector

    network = build_without_memory(lambda: build(model, sample, num_classes))
    device = "meta"
    if is_detector(network):  # whose boxes depend on the values
        network, device = build(model, sample, num_classes), "cpu"
    example = example_input(model, sample, device=device)
    if attention is not None:
        insert(network, attention[0], at=at, example=example, **attention[1])
    return describe(network, example, model)


def draw_marked(network: "nn.Module", example: Any, name: str, path: Path) -> None:
    """Draw a network as it is, with whatever is inserted in it."""
    from foveate.architecture import describe
    from foveate.report import architecture_drawing, write_picture

    write_picture(architecture_drawing(asdict(describe(network, example, name))), path)


def marking() -> "type[nn.Module]":
    """A module that marks a place and changes nothing."""
    from torch import Tensor, nn

    class Site(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()

        def forward(self, x: Tensor) -> Tensor:
            return x.clone()

    return Site


def mechanism_alone(name: str, channels: int) -> "Architecture":
    """A mechanism alone, on a map of 14×14 positions."""
    import torch
    from torch import nn

    from foveate.architecture import describe
    from foveate.attention import create_attention

    mechanism = create_attention(name, channels).to("meta")
    if len(inspect.signature(mechanism.forward).parameters) > 1:
        raise ValueError(f"{name} takes several maps; draw a network that has it, such as attention_unet")
    return describe(nn.Sequential(mechanism), torch.empty(1, channels, 14, 14, device="meta"), name)


def _named(model: str) -> str:
    """A network of ours with its library, as the figure names it."""
    from foveate.networks import list_networks

    return f"foveate:{model}" if model in list_networks() else model


def show_network(name: str, as_json: bool) -> None:
    """Print what a network is: its source, options, sample, costs, attention, and its steps."""
    from foveate.networks import NETWORKS, list_networks, usual_classes

    name = _named(name)
    sample = sample_shape(name, None, None, None)
    found = described(name, sample, None)
    own = name.removeprefix("foveate:")
    builder: Any = NETWORKS.get(own) if own in list_networks() else None
    options = {} if builder is None else _options(builder)
    if as_json:
        values = {**asdict(found), "classes": usual_classes(name), "options": options}
        typer.echo(json.dumps(values, default=str))
        return
    marked = ", ".join(f"{one} in {count} places" for one, count in found.attention.items())
    size = "×".join(map(str, found.shape))
    typer.echo(f"{name}: {size} → {usual_classes(name):,} outputs, {found.parameters:,} parameters")
    typer.echo(f"  attention   {marked or 'none'}")
    if options:
        typer.echo("  options     " + ", ".join(f"{key}={default!r}" for key, default in options.items()))
    typer.echo("")
    for step in found.steps:
        times = f" ×{step.repeats}" if step.repeats > 1 else ""
        inside = "" if step.block is None or step.attention else _with(found, step.block)
        words = ", ".join([step.label + times, *step.more]) + inside
        typer.echo(f"  {step.name:28} {words:60} {'×'.join(map(str, step.shape))}")
    if builder is not None:
        typer.echo("")
        typer.echo(inspect.cleandoc(getattr(builder, "func", builder).__doc__ or ""))
    typer.echo(f"\nfoveate draw {name} --out network.svg draws it.")


def _options(builder: Any) -> dict[str, Any]:
    parameters = list(inspect.signature(builder).parameters.values())
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}


def _with(found: "Architecture", block: int) -> str:
    names = dict.fromkeys(step.attention for step in found.blocks[block].steps if step.attention)
    return f", with {', '.join(names)}" if names else ""
