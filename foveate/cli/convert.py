"""foveate convert: an official checkpoint → one file of ours."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli import parse


def convert(
    file: Annotated[Path, typer.Argument(help="The checkpoint, as released.", show_default=False)],
    source: Annotated[
        str, typer.Option(help="The code it belongs to: a GitHub owner/name.", metavar="OWNER/NAME", show_default=False)
    ],
    cls: Annotated[str, typer.Option(help="The network's class, function or graph there.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The file to write.", metavar="FILE.safetensors", show_default=False)],
    ctor: Annotated[
        list[str] | None, typer.Option(help="A constructor argument there; again for another.", metavar="NAME=VALUE")
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(min=1, help="A fresh classifier for this number of classes; the rest is the checkpoint's."),
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights; else what the repository states.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="A figure for the card; again for another.", metavar="NAME=VALUE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Convert an official checkpoint to one safetensors file that `foveate.load` opens, with a card of its origin.

    The checkpoint is opened without running anything in it. `foveate show FILE.safetensors` prints the card.

    Example: foveate convert resnet20.th --source akamaster/pytorch_resnet_cifar10 --cls resnet20
    --metric "CIFAR-10 top-1=91.73 %" --out resnet20.safetensors
    """
    from foveate.networks import origin_of, read_weights, weights_fingerprint
    from foveate.official import licence_of, load_and_tell
    from foveate.saving import save

    arguments = parse.pairs(ctor or [], "--ctor")
    figures = _figures(metric or [])
    if out.is_dir() or not out.parent.is_dir() or (out.exists() and file.exists() and out.samefile(file)):
        why = (
            "a folder"
            if out.is_dir()
            else "in no folder that there is"
            if not out.parent.is_dir()
            else "the checkpoint"
        )
        raise ValueError(f"--out: wanted a file to write; {out} is {why}")
    model, note = load_and_tell(source, cls, arguments, read_weights(file), num_classes=num_classes)
    if note:
        typer.echo(f"note: {note}", err=True)
    origin = origin_of(model)
    if origin is None:
        raise ValueError(f"--cls: wanted a whole network; {cls} of {source} is a part of one")
    about = {
        "source": f"https://github.com/{source}",
        "class": cls + (f" {json.dumps(arguments, default=str)}" if arguments else ""),
        "file": f"{file.name} (SHA-256 {weights_fingerprint(file)}…)",
        "licence": licence or licence_of(source),
        **figures,
    }
    if num_classes is not None:
        about["classifier"] = f"{num_classes} classes; fresh weights if the checkpoint has another number"
    save(model, out, about=about)
    parameters = sum(p.numel() for p in model.parameters())
    if as_json:
        facts = {"file": str(out), "network": origin.name, "num_classes": origin.num_classes, "options": origin.options}
        typer.echo(json.dumps({**facts, "parameters": parameters, "about": about}))
        return
    typer.echo(f"{out}: {origin.name}, {origin.num_classes:,} classes, {parameters:,} parameters")
    for key, value in about.items():
        typer.echo(f"  {key:10} {value}")
    if origin.options:
        options = ", ".join(f"{key} = {_toml(value)}" for key, value in origin.options.items())
        typer.echo(f'in a study file: network = "{origin.name}"; network_options = {{ {options} }}; weights = "{out}"')
    else:
        typer.echo(f"next: foveate study run --network {origin.name} --weights {out} …")


def _figures(texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise ValueError(f"--metric: wanted NAME=VALUE, such as 'top-1=77.6 %'; got {text!r}")
        found[name.strip()] = value.strip()
    return found


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
