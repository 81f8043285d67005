"""foveate predict: what a trained network gives for a person's own files."""

import csv
import io
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli import parse


def predict(
    path: Annotated[Path, typer.Argument(help="A file, or a folder of files.", show_default=False)],
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
    out: Annotated[
        Path | None,
        typer.Option(help="FILE.csv, or a folder for predictions.csv, masks and overlays. Default: print the CSV."),
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="Of masks: predict windows of this side in pixels, or height,width, in turn.")
    ] = None,
    stride: Annotated[
        str | None, typer.Option(help="From one window to the next. Default: three quarters of the window.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(help="Of masks: MiB; the largest windows whose prediction takes no more.")
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Of masks: the mean with the mirror image.")
    ] = None,
    scales: Annotated[
        str | None, typer.Option(help="Of masks: the mean over these scales, such as 0.75,1,1.25.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write what a trained network gives for each file: class and scores, values, or masks.

    Masks are as large as the images; with --out FOLDER they are written as PNG with a palette, and over the images.

    Example: foveate predict new-photos --run my-study:se --out predictions.csv
    """
    from foveate.devices import require_device
    from foveate.study.predict import of_network, of_run, predict_files

    require_device(device)
    if (run is None) == (network is None):
        raise ValueError("wanted --run DIR or --network NAME with --weights FILE or --pretrained")
    if run is not None and (weights or pretrained):
        raise ValueError("--run: a study knows its network's weights; --weights and --pretrained go with --network")
    evaluation, given = parse.evaluation(window, stride, memory, flip, scales), parse.weights(weights, pretrained)
    predictor = of_run(run, evaluation) if run is not None else of_network(str(network), given, evaluation)
    if predictor.note:
        typer.echo(f"note: {predictor.note}", err=True)
    as_folder = out is not None and (out.is_dir() or not out.suffix)
    masks = out if as_folder else None
    rows = predict_files(predictor, path, device=device, batch_size=batch_size, masks=masks)
    if as_json:
        typer.echo(json.dumps({"network": predictor.name, "predictions": rows}))
        return
    text = _csv(rows)
    if out is None:
        typer.echo(text, nl=False)
    else:
        from foveate.files import write_whole

        file = out / "predictions.csv" if as_folder else out
        write_whole(file, text.encode())
        typer.echo(f"{file}: {len(rows):,} file{'s' * (len(rows) > 1)} by {predictor.name}")


def _csv(rows: list[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
