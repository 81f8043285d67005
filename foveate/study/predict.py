"""What a trained network gives for files that belong to no data set."""

import csv
import dataclasses
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from foveate.data import open_data
from foveate.data.classes import IMAGENET
from foveate.data.clips.files import clip_paths
from foveate.data.dataset import Dataset, Target
from foveate.data.decode import read_image
from foveate.data.listing import ENDINGS
from foveate.data.photos import Photos
from foveate.data.signals.batches import SignalWindows
from foveate.data.signals.files import ENDINGS as OF_SIGNALS
from foveate.data.transforms import published
from foveate.files import write_whole
from foveate.networks import input_channels, is_detector
from foveate.study.predict_boxes import BoxForm
from foveate.study.predict_recordings import RecordingForm, form_of
from foveate.study.trained import find_run
from foveate.tasks import create_task
from foveate.tasks.inversion import Inversion
from foveate.tasks.mask_pictures import legend, mask_image, overlay, palette
from foveate.tasks.pictures import above
from foveate.tasks.segmentation import Segmentation
from foveate.tasks.task import main_output
from foveate.trained import load_trained

OVERLAYS = Path("overlays")  # in the folder of the masks
PROBED = 64  # pixels of an image that shows whether a network gives a map


def list_files(path: Path, endings: Sequence[str] = tuple(ENDINGS)) -> list[Path]:
    """The file, or those below a folder with these endings, sorted. Raises: ValueError: if there is none."""
    if path.is_file():
        return [path]
    files = sorted(one for one in path.rglob("*") if one.suffix.lower() in endings and one.is_file())
    if not files:
        kind = "image" if ".png" in endings else " or ".join(endings)
        there = f"no {kind} in it" if path.is_dir() else "no such file or folder"
        raise ValueError(f"{path}: wanted {'an' if kind == 'image' else 'a'} {kind} file or a folder of them; {there}")
    return files


@dataclass(frozen=True)
class Predictor:
    """A trained network with what stands before and behind it.

    Attributes:
        name: in words.
        prepare: from a file to a sample (C, *S), of its own size or of one for all.
        answers: what `rows` and `masks` take, from the network and a batch of samples of one size.
        rows: from answers to plain values, a row a sample.
        masks: from answers to class numbers (H, W), for tasks that give one for each position; else None.
        classes: names of the classes of the masks.
        note: for the reader, on the weights; "" where there is nothing to say.
        boxes: of a detector; `prepare` and `rows` are then not called.
        recordings: of a network of signals; `prepare` and `rows` are then not called.
        arrays: from answers to values (H, W), for tasks that give one for each position; else None.
        files: from a path to the files that it takes there, as `list_files`.
    """

    name: str
    model: nn.Module
    prepare: Callable[[Path], Tensor]
    answers: Callable[[nn.Module, Tensor], Any]
    rows: Callable[[Any], list[dict[str, Any]]]
    masks: Callable[[Any], list[NDArray[Any]]] | None = None
    classes: tuple[str, ...] = ()
    note: str = ""
    boxes: BoxForm | None = None
    recordings: RecordingForm | None = None
    arrays: Callable[[Any], NDArray[np.float32]] | None = None
    files: Callable[[Path], list[Path]] = list_files


def of_run(text: str, evaluation: Mapping[str, Any] | None = None) -> Predictor:
    """The network of DIR[:ARM[:SEED]], with the preprocessing and the classes of the data it was trained on.

    evaluation: how masks are predicted, as `foveate.tasks.prediction.Prediction` has it; given beside what the study
        says, or in its place.

    Raises: ValueError, LookupError: if there is no such run, or its data cannot be opened or give no samples of files.
        TypeError: the task has no such evaluation.
    """
    trained = find_run(text)
    run = trained.run
    data = open_data(run.data)
    if isinstance(data.test, SignalWindows):
        task = create_task(run.task, data, **with_evaluation(run.task_options, evaluation))
        return Predictor(
            trained.name,
            trained.model,
            whole_image,
            task.answers,
            task.predict,
            recordings=form_of(run.data, data.test, task),
            files=partial(list_files, endings=OF_SIGNALS),
        )
    if data.prepare is None:
        raise ValueError(f"{text}: data of the kind {run.data.kind!r} do not say how a file becomes a sample")
    task = create_task(run.task, data, **with_evaluation(run.task_options, evaluation))
    if task.detects:
        names = data.targets["boxes"].names
        form = BoxForm(data.prepare, data.scale_of or _own_size, names)
        return Predictor(trained.name, trained.model, data.prepare, task.answers, task.predict, boxes=form)
    if isinstance(task, Inversion):
        made = (trained.model, data.prepare, task.answers, task.predict)
        return Predictor(trained.name, *made, arrays=task.models, files=partial(list_files, endings=(".npy",)))
    prepare, channels = data.prepare, input_channels(run.network, data.inputs[0])

    def sample(file: Path) -> Tensor:
        found = prepare(file)
        return found.expand(channels, *found.shape[1:])

    masks = task.masks if task.dense else None
    classes = tuple(getattr(task, "classes", ())) if task.dense else ()
    files = clip_paths if len(data.inputs) == 4 else list_files
    return Predictor(trained.name, trained.model, sample, task.answers, task.predict, masks, classes, files=files)


def with_evaluation(options: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A task's options with what is given of its evaluation in place of the study's.

    What chooses the window takes the place of whatever chose it before.
    """
    if not given:
        return dict(options)
    before = dict(options.get("evaluation", {}))
    if {"window", "memory"} & set(given):
        before = {key: value for key, value in before.items() if key not in ("window", "stride", "memory")}
    return {**options, "evaluation": before | dict(given)}


def of_network(network: str, weights: str | Path | None, evaluation: Mapping[str, Any] | None = None) -> Predictor:
    """A network by name with weights, or a saved one, with the preprocessing that it was published with.

    Classes have the names of the saved network's card, ImageNet's for 1000 outputs, else numbers. A network that gives
    a map is shown whole images at their own size, and masks are predicted as `evaluation` says.

    Raises: LookupError, ValueError, TypeError: as `foveate.trained.load_trained`. ValueError: an evaluation for a
        network that gives no map.
    """
    trained = load_trained(network, weights)
    if is_detector(trained.model):
        names = trained.classes or object_names(trained.outputs)
        form = BoxForm(whole_image, _own_size, names)
        return Predictor(trained.name, trained.model, whole_image, _as_given, _no_rows, note=trained.note, boxes=form)
    split = as_published(trained.name, trained.channels, trained.source, trained.file)
    names = trained.classes or class_names(trained.outputs)
    if gives_a_map(trained.model, trained.channels):
        task = Segmentation(_without_items(split, names, trained.channels), evaluation=evaluation)
        answers = task.answers, task.predict, task.masks
        return Predictor(trained.name, trained.model, split.prepare_whole, *answers, names, trained.note)
    if evaluation:
        raise ValueError(f"{network}: {', '.join(evaluation)}: wanted a network that gives a map of classes")

    def rows(given: Any) -> list[dict[str, Any]]:
        best = torch.softmax(main_output(given).float(), 1).topk(min(5, trained.outputs), 1)
        return [_ranked(names, *one) for one in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    return Predictor(trained.name, trained.model, split.prepare, _as_given, rows, note=trained.note)


def as_published(name: str, channels: int, source: str | None = None, file: str = "") -> Photos:
    """A split without photos whose `prepare` makes images what a network by name was published for."""
    found = published(name, source, file)
    if channels == 1:
        found = dataclasses.replace(found, mean=(0.5,), std=(0.5,), bgr=False)
    return Photos([], np.empty(0, np.int64), found, names=[], channels=channels)


def _own_size(size: tuple[int, int]) -> tuple[float, float]:
    return 1.0, 1.0


def _as_given(model: nn.Module, inputs: Any) -> Any:
    return model(inputs)


def _no_rows(given: Any) -> list[dict[str, Any]]:
    return []


def gives_a_map(model: nn.Module, channels: int) -> bool:
    """Does the network give one for a small image? One that refuses the image is taken for a classifier."""
    with torch.inference_mode():
        try:
            return main_output(model.eval()(torch.zeros(1, channels, PROBED, PROBED))).dim() == 4
        except (RuntimeError, ValueError, AssertionError):
            return False


def _without_items(split: Photos, names: Sequence[str], channels: int) -> Dataset:
    return Dataset(
        "files", (channels, PROBED, PROBED), {"mask": Target("mask", tuple(names))}, split, split, "", "files"
    )


def whole_image(file: Any) -> Tensor:
    """A file or PIL image as (3, H, W) in 0 to 1; a detector resizes it itself."""
    return torch.from_numpy(np.array(read_image(file))).permute(2, 0, 1).float().div_(255)


def object_names(outputs: int) -> tuple[str, ...]:
    """COCO's for a detector with its number of outputs, else numbers; without the background."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    names = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    return tuple(names[1:]) if outputs == len(names) else tuple(str(number) for number in range(1, outputs))


def class_names(outputs: int) -> tuple[str, ...]:
    """ImageNet's for 1000 outputs, else numbers."""
    if outputs != IMAGENET:
        return tuple(str(number) for number in range(outputs))
    from torchvision.models import get_model_weights

    return tuple(get_model_weights("resnet18").DEFAULT.meta["categories"])


def _ranked(names: Sequence[str], best: list[int], scores: list[float]) -> dict[str, Any]:
    """{"class", "score", "class2", "score2", …}, the best first."""
    row: dict[str, Any] = {}
    for place, (number, score) in enumerate(zip(best, scores, strict=True), 1):
        ending = "" if place == 1 else str(place)
        row |= {f"class{ending}": names[number], f"score{ending}": score}
    return row


def predict_files(
    predictor: Predictor, path: Path, *, device: str = "cpu", batch_size: int = 32, masks: Path | None = None
) -> list[dict[str, Any]]:
    """A row {"file", …} for each file.

    masks: a folder for what a predictor with masks gives: PNG files of class numbers with a palette, named and as large
        as the images; overlays/, the same as JPEG over the images, with a legend; and classes.csv. Of a predictor with
        arrays their .npy files.

    Raises: ValueError: if there is no file, or one cannot be read; names it.
    """
    files = predictor.files(path)
    root = path if path.is_dir() and files != [path] else path.parent
    names = [file.relative_to(root) for file in files]
    if masks is not None and predictor.masks is not None:
        _refuse_doubled([place for name in names for place in _places(name)])
    model = predictor.model.to(device).eval()
    rows: list[dict[str, Any]] = []
    for part, samples in _batches(predictor, files, batch_size):
        with torch.inference_mode():
            given = predictor.answers(model, samples.to(device))
        shown = [names[number] for number in part]
        rows += [{"file": str(name), **row} for name, row in zip(shown, predictor.rows(given), strict=True)]
        if masks is not None:
            masks.mkdir(parents=True, exist_ok=True)
            if predictor.masks is not None:
                for number, mask in zip(part, predictor.masks(given), strict=True):
                    _write_mask(mask, files[number], masks, names[number], predictor.classes)
            if predictor.arrays is not None:
                for number, values in zip(part, predictor.arrays(given), strict=True):
                    place = masks / names[number].with_suffix(".npy")
                    place.parent.mkdir(parents=True, exist_ok=True)
                    np.save(place, values)
    if masks is not None and predictor.masks is not None:
        write_whole(masks / "classes.csv", _classes_csv(predictor.classes).encode())
    return rows


def _batches(predictor: Predictor, files: Sequence[Path], most: int) -> Iterator[tuple[list[int], Tensor]]:
    """Numbers of files that follow one another and whose samples are of one size, and these samples."""
    waiting: list[tuple[int, Tensor]] = []
    for number, file in enumerate(files):
        sample = _sample(predictor, file)
        if waiting and (len(waiting) == most or sample.shape != waiting[0][1].shape):
            yield [one for one, _ in waiting], torch.stack([one for _, one in waiting])
            waiting = []
        waiting.append((number, sample))
    yield [one for one, _ in waiting], torch.stack([one for _, one in waiting])


def _places(name: Path) -> tuple[Path, Path]:
    """Where mask and overlay of an image go."""
    return name.with_suffix(".png"), OVERLAYS / name.with_suffix(".jpg")


def _refuse_doubled(places: Sequence[Path]) -> None:
    """Raise ValueError where two files would have one mask."""
    twice = next((place for place, count in Counter(places).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{twice.with_suffix('')}: wanted one image of this name, for its mask; got several endings")


def _sample(predictor: Predictor, file: Path) -> Tensor:
    try:
        return predictor.prepare(file)
    except Exception as error:  # a decoder meets damage in many ways
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(text if str(file) in text else f"{file}: {text}") from None


def _write_mask(mask: NDArray[Any], file: Path, folder: Path, name: Path, classes: Sequence[str]) -> None:
    """The mask and its overlay at the size of the image."""
    photo = read_image(file).convert("RGB")
    image = mask_image(mask, classes).resize(photo.size, Image.Resampling.NEAREST)
    places = [folder / place for place in _places(name)]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
    image.save(places[0])
    large = np.asarray(image)
    there = [number for number in np.unique(large).tolist() if number < len(classes)]
    drawn = overlay(np.asarray(photo), large, classes)
    explained = legend(classes, max(drawn.shape[1], 240), only=there)
    Image.fromarray(above(drawn, explained)).save(places[1], quality=92)


def _classes_csv(classes: Sequence[str]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["number", "class", "r", "g", "b"])
    writer.writerows(
        [number, *one] for number, one in enumerate(zip(classes, *palette(classes).T.tolist(), strict=True))
    )
    return buffer.getvalue()
