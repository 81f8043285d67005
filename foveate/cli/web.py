"""foveate web: the explorer page of a study, or of networks."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from foveate.cli import parse


def web(
    what: Annotated[
        list[str],
        typer.Argument(
            help="A study's folder; or networks: foveate:NAME, timm:NAME, torchvision:NAME, a saved file, …",
            metavar="DIR|NETWORK…",
            show_default=False,
        ),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    host: Annotated[
        str, typer.Option(help="Address to listen on; of one that others reach, the page's address has a token.")
    ] = "127.0.0.1",
    weights: Annotated[str | None, typer.Option(help="Of a network: a file.")] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Of a network: the weights that timm or torchvision publish.")
    ] = False,
    attention: Annotated[
        str | None, typer.Option(help="Of a network: offer it with each of these inserted as well, untrained.")
    ] = None,
    at: Annotated[str, typer.Option(help="Where: block, stage, or glob patterns parted by commas.")] = "block",
) -> None:
    """Open a local page: drop an image, see what networks look at, click a position, compare two, watch a study train.

    Nothing is written and no image is kept. Needs the extra foveate[web].

    Example: foveate web foveate-study
    """
    if missing := [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]:
        raise ValueError(f'foveate web needs {" and ".join(missing)}: pip install "foveate[web]"')
    from foveate.web import networks_by_name, networks_of_study, serve

    folder = Path(what[0])
    if folder.is_dir():
        if len(what) > 1 or weights or pretrained or attention:
            raise ValueError(f"{folder}: a study goes alone, without networks, weights or attention")
        networks, title, study = networks_of_study(folder), folder.resolve().name, folder
    else:
        inserted = [] if attention is None else parse.attention(attention)
        given = parse.weights(weights, pretrained)
        networks = networks_by_name(what, given, inserted, at.split(",") if "," in at else at)
        title, study = ", ".join(what), None
    serve(
        networks,
        title=title,
        study=study,
        host=host,
        port=port,
        on_start=lambda address: typer.echo(f"{address}  (Ctrl-C ends it)"),
    )
