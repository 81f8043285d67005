"""foveate evaluate: the accuracy of one network."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import parse
from foveate.cli.bar import Bar

if TYPE_CHECKING:
    from foveate.data import Dataset
    from foveate.data.dataset import Batch, LabelledImages
    from foveate.data.transforms import Preprocessing
    from foveate.tasks import Scores
    from foveate.trained import TrainedNetwork

MOST_SHOWN = 25  # classes of a confusion matrix that is printed; --json has it whole
THREADS = 2  # that decode the next batches while the network is at work
UNKNOWN = (
    "the preprocessing that {network} was trained with is not known: the usual one of its kind is used; "
    "--image-size, --crop-pct, --interpolation, --mean, --std and --bgr say another"
)


def evaluate(
    network: Annotated[
        str | None,
        typer.Argument(
            help="foveate:NAME, timm:NAME, torchvision:NAME, path.py:function, or a file that foveate.save wrote.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="In place of a network, one of a study: DIR, DIR:ARM or DIR:ARM:SEED.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Class folders, test/ or val/ with class folders, images with labels.json, CIFAR-10, or parquet. "
            "With --run: other data than the study's test part.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Safetensors file or torch checkpoint, or a folder that has the pretrained one.")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="The weights that timm or torchvision publish, in their caches.")
    ] = False,
    source: Annotated[str | None, typer.Option(help="Whose official weights they are (GitHub owner/name).")] = None,
    cls: Annotated[str | None, typer.Option(help="The class there.")] = None,
    num_classes: Annotated[int | None, typer.Option(min=1, help="Outputs. Default: those of the weights.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the network's constructor; may be repeated.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="File of each image's class: JSON, or lines 'file class'.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="The network's classes in order: names parted by commas, or a file of them.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the square that is shown, in pixels.")] = None,
    crop_pct: Annotated[float | None, typer.Option(help="Its share of the resized short side.")] = None,
    interpolation: Annotated[str | None, typer.Option(help="nearest, bilinear, bicubic, lanczos or linear.")] = None,
    mean: Annotated[str | None, typer.Option(help="Of the channels, from 0 to 1, parted by commas.")] = None,
    std: Annotated[str | None, typer.Option(help="Of the channels, parted by commas.")] = None,
    bgr: Annotated[bool, typer.Option("--bgr", help="The network takes blue first.")] = False,
    images: Annotated[int | None, typer.Option(min=1, help="Use only this many, spread over the set.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    window: Annotated[
        str | None,
        typer.Option(help="With --run, of masks: predict windows of this side in pixels, or height,width, in turn."),
    ] = None,
    stride: Annotated[
        str | None, typer.Option(help="From one window to the next. Default: three quarters of the window.")
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(help="With --run, of masks: MiB; the largest windows whose prediction takes no more."),
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="With --run, of masks: the mean with the mirror image.")
    ] = None,
    scales: Annotated[
        str | None, typer.Option(help="With --run, of masks: the mean over these scales, such as 0.75,1,1.25.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    amp: Annotated[bool, typer.Option("--amp", help="bfloat16 autocast.")] = False,
    channels_last: Annotated[bool, typer.Option("--channels-last")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how often a trained network is right, with the preprocessing that it was published with.

    Of a network that a study trained (--run) the scores are those of its task, whole and by class.

    Example: foveate evaluate timm:resnet50 --weights resnet50.safetensors --data imagenet
    """
    from foveate.data.evaluation import evaluation_set, find_images
    from foveate.devices import require_device
    from foveate.trained import load_trained

    require_device(device, "--device")
    if data is not None and not data.strip():
        raise ValueError("--data: wanted a folder; got an empty text")
    if (network is None) == (run is None):
        raise ValueError("wanted a network with --weights and --data, or --run DIR")
    if run is not None:
        if weights or pretrained or source or cls or option or labels or classes:
            raise ValueError("--run: a study knows its network; it goes with --data, --device and --batch-size")
        predicted = parse.evaluation(window, stride, memory, flip, scales)
        _show_run(run, data, predicted, device=device, batch_size=batch_size, as_json=as_json)
        return
    if window or stride or memory or flip is not None or scales:
        raise ValueError("--window, --stride, --memory, --flip and --scales go with --run of a study of segmentation")
    assert network is not None
    if data is None:
        raise ValueError("--data: wanted the folder of images to evaluate on")
    given: dict[str, Any] = {"image_size": image_size, "crop_pct": crop_pct, "interpolation": interpolation}
    given |= {"mean": _numbers("--mean", mean), "std": _numbers("--std", std), "bgr": bgr or None}
    given = {key: value for key, value in given.items() if value is not None}
    trained = load_trained(
        network,
        parse.weights(weights, pretrained),
        num_classes=num_classes,
        options=parse.pairs(option or [], "--option"),
        source=source,
        cls=cls,
    )
    found = find_images(Path(data).expanduser(), labels=labels)
    preprocessing = preprocessing_of(trained, found, given)
    names = trained.classes if classes is None else _names(classes)
    tested = evaluation_set(found, trained.outputs, preprocessing, names=names, channels=trained.channels, most=images)
    began = time.perf_counter()
    with Bar(len(tested.test)) as bar:
        scores = score_classifier(
            trained.model,
            tested,
            batch_size=batch_size,
            device=device,
            amp=amp,
            channels_last=channels_last,
            progress=bar.update,
        )
    seconds = time.perf_counter() - began
    for note in (trained.note, *tested.notes, "" if preprocessing.known else UNKNOWN.format(network=network)):
        if note:
            typer.echo(f"note: {note}", err=True)
    count = len(tested.test)
    right = int(scores.items["accuracy"].sum())
    right5 = int(scores.items["top5"].sum()) if "top5" in scores.items else None
    top1, top5 = 100 * right / count, None if right5 is None else 100 * right5 / count
    if as_json:
        answer: dict[str, Any] = {"network": network, "weights": str(weights) if weights else trained.file or None}
        answer |= {"source": trained.source, "data": data, "num_classes": trained.outputs, "images": count}
        answer |= {"correct": right, "correct5": right5, "top1": top1, "top5": top5, "device": device}
        answer |= {"preprocessing": dataclasses.asdict(preprocessing), "classes": tested.about["classes"]}
        typer.echo(json.dumps(answer | {"seconds": seconds}))
        return
    of = f", weights of {trained.source}" if trained.source else ""
    part = f" of {len(found.labels):,}" if count < len(found.labels) else ""
    typer.echo(f"{network}, {trained.outputs} classes{of}: {count:,}{part} images of {found.name}")
    five = "" if top5 is None else f"   top-5 {top5:.2f} % ({right5:,})"
    typer.echo(f"top-1 {top1:.2f} % ({right:,} right){five}")
    typer.echo(f"{preprocessing}")
    typer.echo(f"classes numbered {tested.about['classes']}")
    typer.echo(f"{seconds:.1f} s, {count / seconds:,.0f} images a second on {device}")


def _show_run(
    run: str, data: str | None, predicted: dict[str, Any], *, device: str, batch_size: int, as_json: bool
) -> None:
    """Print the scores of a study's network."""
    from foveate.study.evaluation import evaluate_run

    found = evaluate_run(run, data, device=device, batch_size=batch_size, evaluation=predicted)
    scores = found.scores
    metrics = [one for one in found.task.metrics if one.name in scores.values]  # other data may have no small box
    if as_json:
        confusion = None if scores.confusion is None else scores.confusion.tolist()
        answer = {
            "run": str(found.trained.folder),
            "arm": found.trained.run.arm,
            "seed": found.trained.run.seed,
            "data": found.data.description,
            "items": len(found.data.test),
            "metrics": [
                {
                    **one.model_dump(exclude={"shown"}),
                    "value": scores.values[one.name],
                    "interval": found.intervals.get(one.name),
                }
                for one in metrics
            ],
            "by_class": {name: dict(figures) for name, figures in scores.by_class.items()},
            "classes": list(scores.confused or scores.by_class),
            "confusion": confusion,
        }
        typer.echo(json.dumps(answer))
        return
    typer.echo(
        f"{found.trained.run.network}, {found.trained.name}: {len(found.data.test):,} items of {found.data.name}"
    )
    for one in metrics:
        interval = found.intervals.get(one.name)
        over = "" if interval is None else f" ({' to '.join(map(one.number, interval))} over new items)"
        typer.echo(f"{one.name} {one.format(scores.values[one.name])}{over}")
    for line in scores.findings:
        typer.echo(f"note: {line}", err=True)
    for note in found.task.notes:
        typer.echo(note)
    if scores.by_class:
        figures = list(next(iter(scores.by_class.values())))
        wide = max(len(name) for name in scores.by_class) + 2
        typer.echo("\n" + " " * wide + "".join(f"{figure:>11}" for figure in figures))
        for name, row in scores.by_class.items():
            cells = (f"{value:,}" if isinstance(value, int) else f"{100 * value:.1f} %" for value in row.values())
            typer.echo(f"{name:{wide}}" + "".join(f"{cell:>11}" for cell in cells))
    if scores.confusion is not None and len(scores.confusion) <= MOST_SHOWN:
        names = list(scores.confused or scores.by_class)
        wide, cell = max(map(len, names)) + 2, max(7, len(f"{scores.confusion.max():,}") + 2)
        typer.echo("\nconfusion: true class in rows, predicted in columns")
        typer.echo(" " * wide + "".join(f"{name[: cell - 1]:>{cell}}" for name in names))
        for name, counts in zip(names, scores.confusion, strict=True):
            typer.echo(f"{name:{wide}}" + "".join(f"{count:>{cell},}" for count in counts))


def preprocessing_of(
    trained: "TrainedNetwork", images: "LabelledImages", given: dict[str, Any] | None = None
) -> "Preprocessing":
    """What the network was published with, changed as given; small images are shown in their own size.

    Args:
        trained: the network.
        images: that it is tested on.
        given: fields of `Preprocessing` that replace the published ones.

    Raises: ValueError: if a value is out of its range, or mean and std are not of the network's channels.
    """
    from foveate.data.transforms import published

    given = dict(given or {})
    usual = published(trained.name, trained.source, trained.file)
    if images.side is not None:
        usual = dataclasses.replace(usual, image_size=images.side, crop_pct=1.0)
        if "image_size" in given:
            given.setdefault("crop_pct", 1.0)
    if trained.channels == 1:
        usual = dataclasses.replace(usual, mean=(0.5,), std=(0.5,), bgr=False, known=False)
    if trained.saved and trained.source is None:
        usual = dataclasses.replace(usual, known=False)
    if {"mean", "std"} <= given.keys():
        given["known"] = True
    found = dataclasses.replace(usual, **given)
    if len(found.mean) != trained.channels:
        raise ValueError(f"--mean, --std: wanted {trained.channels} numbers each, got {len(found.mean)}")
    return found


def score_classifier(
    model: Any,
    data: "Dataset",
    *,
    batch_size: int = 64,
    device: str = "cpu",
    amp: bool = False,
    channels_last: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> "Scores":
    """Scores of the task classification on the test split; the network is left in evaluation mode on the device.

    Args:
        model: (N, C, H, W) → logits (N, classes).
        data: of `evaluation_set`.
        batch_size: images at a time.
        device: torch's name of it.
        amp: bfloat16 autocast.
        channels_last: memory format.
        progress: called with (images done, images in all).

    Raises: ValueError: if an image cannot be read, by its path; if the outputs have another shape or are not finite.
    """
    import torch

    from foveate.data.reading import read_ahead
    from foveate.tasks import create_task
    from foveate.train.evaluation import evaluate as scores_of

    model = model.to(device, memory_format=torch.channels_last if channels_last else torch.contiguous_format).eval()
    split, task = data.test, create_task("classification", data)
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=amp):
        with torch.inference_mode():
            task.check(model, split.batch([0], None).to(device, channels_last=channels_last))
        parts = [list(range(at, min(at + batch_size, len(split)))) for at in range(0, len(split), batch_size)]
        batches = read_ahead(split, parts, device=device, channels_last=channels_last, threads=THREADS)
        scores = scores_of(model, task, _counted(batches, len(split), progress))
    finite = [bool(value) for value in abs(scores.items["loss"]) < float("inf")]
    if not all(finite):
        raise ValueError(f"{split.name_of(finite.index(False))}: the network's outputs are not finite numbers")
    return scores


def _counted(batches: Iterator["Batch"], count: int, progress: Callable[[int, int], None] | None) -> Iterator["Batch"]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        if progress is not None:
            progress(done, count)


def _names(text: str) -> Sequence[str]:
    """Names of classes: of a file (a JSON list, or a name a line), or parted by commas."""
    file = Path(text).expanduser()
    if not file.is_file():
        return [name.strip() for name in text.split(",")]
    content = file.read_text(encoding="utf-8")
    if file.suffix.lower() != ".json":
        return [line.strip() for line in content.splitlines() if line.strip()]
    try:
        names = json.loads(content)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{file}: wanted a JSON list of the classes' names")
    return names


def _numbers(flag: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{flag}: wanted numbers parted by commas, such as 0.485,0.456,0.406; got {text!r}") from None
