"""foveate predict: what a trained network gives for a person's own files."""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import parse

if TYPE_CHECKING:
    from foveate.study.predict import Predictor


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
        typer.Option(
            help="FILE.csv, or a folder for predictions.csv and masks; of a detector FILE.json in COCO's form or a "
            "folder for detections.json and pictures; of recordings a folder for windows.csv too. Default: print the "
            "CSV."
        ),
    ] = None,
    least_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of a detector: boxes below it are left out. Default: 0.3.")
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
    rate: Annotated[
        float | None, typer.Option(min=1e-9, help="Of recordings: samples a second of files that do not say theirs.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Of recordings: the array in each npz or mat file, or the columns of csv files.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write what a trained network gives for each file: class and scores, values, masks, or boxes.

    Masks are as large as the images; with --out FOLDER they are written as PNG with a palette, and over the images. A
    recording is read in the windows of its study, which decide together; --out FOLDER and --json have each of them.

    Example: foveate predict new-photos --run my-study:se --out predictions.csv
    """
    from foveate.devices import require_device
    from foveate.study.predict import of_network, of_run, predict_files
    from foveate.study.predict_boxes import LEAST_SCORE

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
    for option, value in (("--rate", rate), ("--key", key)):
        if value is not None and predictor.recordings is None:
            raise ValueError(f"{option} is of recordings; this network takes none")
    if predictor.boxes is not None:
        _boxes(predictor, path, out, LEAST_SCORE if least_score is None else least_score, device, batch_size, as_json)
        return
    if least_score is not None:
        raise ValueError("--least-score is of a detector's boxes; this network gives none")
    if predictor.recordings is not None:
        _recordings(predictor, path, out, rate, key, device, batch_size, as_json)
        return
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


def _boxes(
    predictor: "Predictor", path: Path, out: Path | None, least: float, device: str, batch_size: int, as_json: bool
) -> None:
    """Print or write the boxes that a detector gives."""
    from foveate.files import write_json, write_whole
    from foveate.study.predict import list_files
    from foveate.study.predict_boxes import as_coco, as_rows, find_boxes, write_found

    form, files = predictor.boxes, list_files(path)
    assert form is not None
    root = path if path.is_dir() else path.parent
    found = list(find_boxes(predictor.model, form, files, root, device=device, batch_size=batch_size, least=least))
    text = _csv(as_rows(found, form.classes), ["file", "class", "score", "x0", "y0", "x1", "y1"])
    if as_json:
        typer.echo(json.dumps({"network": predictor.name, **as_coco(found, form.classes)}))
    elif out is None:
        typer.echo(text, nl=False)
    elif out.suffix == ".json":
        write_json(out, as_coco(found, form.classes))
    elif out.suffix and not out.is_dir():
        write_whole(out, text.encode())
    else:
        write_found(found, form.classes, out)
        write_whole(out / "predictions.csv", text.encode())
    if out is not None and not as_json:
        boxes = sum(len(one.boxes.labels) for one in found)
        typer.echo(f"{out}: {boxes:,} boxes in {len(found):,} file{'s' * (len(found) > 1)} by {predictor.name}")


def _recordings(
    predictor: "Predictor",
    path: Path,
    out: Path | None,
    rate: float | None,
    key: str | None,
    device: str,
    batch_size: int,
    as_json: bool,
) -> None:
    """Print or write what a network gives for recordings and their windows."""
    from foveate.files import write_whole
    from foveate.study.predict_recordings import predict_recordings

    form, files = predictor.recordings, predictor.files(path)
    assert form is not None
    root = path if path.is_dir() else path.parent
    rows, windows = predict_recordings(
        predictor.model, form, files, root, device=device, batch_size=batch_size, key=key, rate=rate
    )
    if as_json:
        typer.echo(json.dumps({"network": predictor.name, "predictions": rows, "windows": windows}))
        return
    if out is None:
        typer.echo(_csv(rows), nl=False)
        return
    file = out
    if out.is_dir() or not out.suffix:
        out.mkdir(parents=True, exist_ok=True)
        file = out / "predictions.csv"
        write_whole(out / "windows.csv", _csv(windows).encode())
    write_whole(file, _csv(rows).encode())
    some = f"{len(rows):,} recording{'s' * (len(rows) > 1)}"
    typer.echo(f"{file}: {some}, {len(windows):,} window{'s' * (len(windows) > 1)} by {predictor.name}")


def _csv(rows: list[dict[str, Any]], names: list[str] | None = None) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
