"""foveate explain: what a trained network looks at in a person's own images."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli import parse
from foveate.cli.bar import Bar
from foveate.explaining import METHODS

REMOVED = "removed"
NO_GATES = "has no attention of its own that is recorded: the map alone is shown"


def explain(
    images: Annotated[
        list[Path], typer.Argument(help="Image or video files, folders of them, or of frames.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pictures, arrays and explain.json.", show_default=False)],
    run: Annotated[
        str | None, typer.Option(help="A study's network: DIR, DIR:ARM or DIR:ARM:SEED, or the folder of a run.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="As of foveate evaluate: a name, or a saved file.")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="With --network: safetensors file or torch checkpoint, or a folder that has the pretrained one."
        ),
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="The weights that timm or torchvision publish, in their caches.")
    ] = False,
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}.")] = "gradcam",
    layer: Annotated[
        str | None, typer.Option(help="Layer, or a glob pattern over layers. Default: found by itself.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Class or value by name or number. Default: the best class, the first value.")
    ] = None,
    point: Annotated[
        str | None,
        typer.Option(
            help="y,x in shares of the image, or frame,y,x of a clip: what this point attends to, of affinities."
        ),
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option(
            help="A second network: DIR[:ARM[:SEED]], or removed: the same without its attention. Default: with --run, "
            "the plain network of that seed; none: nothing."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a trained network looks at: a map over each image with its score, and the network's own gates.

    Example: foveate explain new-photos --run my-study:cbam --out explained
    """
    from foveate.data.clips.files import clip_paths
    from foveate.devices import require_device
    from foveate.explain.files import explain_files, without_attention
    from foveate.registry import nearest
    from foveate.study.explainable import explainable_network, explainable_run, plain_beside
    from foveate.study.predict import list_files

    require_device(device)
    if (run is None) == (network is None):
        raise ValueError("wanted --run DIR or --network NAME with --weights FILE or --pretrained")
    if run is not None and (weights or pretrained):
        raise ValueError("--run: a study knows its network's weights; --weights and --pretrained go with --network")
    if method not in METHODS:
        raise ValueError(f"--method: no method is called {method!r}; {nearest(method, METHODS)}")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: wanted a folder; got a file")
    at = None if point is None else _point(point)
    if run is not None:
        networks = [explainable_run(run)]
    else:
        networks = [explainable_network(str(network), parse.weights(weights, pretrained))]
    if beside == REMOVED:
        networks.append(without_attention(networks[0]))
    elif beside is not None and beside != "none":
        networks.append(explainable_run(beside))
    elif beside is None and run is not None and (plain := plain_beside(run)) is not None:
        networks.append(plain)
    files = [file for path in images for file in (clip_paths if networks[0].clips else list_files)(path)]
    root = images[0] if len(images) == 1 and images[0].is_dir() and files != images else None
    with Bar(len(files)) as bar:
        rows = explain_files(
            networks,
            files,
            root or _common(files),
            out,
            method=method,
            layer=layer,
            target=target,
            point=at,
            device=device,
            progress=bar.update,
        )
    for note in dict.fromkeys([*(one.note for one in networks), *(row["note"] for row in rows)]):
        if note:
            typer.echo(f"note: {note}", err=True)
    first = rows[0]["networks"][0]
    if not first["gates"]:
        typer.echo(f"note: {networks[0].name} {NO_GATES}", err=True)
    if as_json:
        typer.echo(json.dumps({"method": method, "out": str(out), "images": rows}))
        return
    for row in rows:
        typer.echo(f"{out / row['picture']}: {'; '.join(map(_words, row['networks']))}")


def _words(facts: dict[str, Any]) -> str:
    score = "" if facts["score"] is None else f" {facts['score']:.3f}"
    shown = f"{facts['class']}{score}, " if facts["class"] else ""
    return f"{facts['network']}: {shown}{', '.join(facts['layers'])}"


def _point(text: str) -> tuple[float, float] | tuple[float, float, float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) not in (2, 3) or not all(0 <= share <= 1 for share in shares):
        raise ValueError(f"--point: wanted y,x in shares of the image, 0 to 1, or frame,y,x of a clip; got {text!r}")
    return (shares[0], shares[1]) if len(shares) == 2 else (shares[0], shares[1], shares[2])


def _common(files: list[Path]) -> Path:
    """The folder that all files lie below."""
    import os

    return Path(os.path.commonpath([file.parent for file in files]))
