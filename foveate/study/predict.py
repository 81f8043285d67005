"""What a trained network gives for files that belong to no data set."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from foveate.data import open_data
from foveate.data.classes import IMAGENET
from foveate.data.decode import read_image
from foveate.data.listing import ENDINGS
from foveate.data.photos import Photos
from foveate.data.transforms import published
from foveate.networks import input_channels, is_detector
from foveate.study.predict_boxes import BoxForm
from foveate.study.trained import find_run
from foveate.tasks import create_task
from foveate.tasks.task import main_output
from foveate.trained import load_trained


@dataclass(frozen=True)
class Predictor:
    """A trained network with what stands before and behind it.

    Attributes:
        name: in words.
        prepare: from a file to a sample (C, *S).
        rows: from the network's outputs of a batch to plain values, a row a sample.
        masks: from outputs and a sample's size to class numbers (H, W), for tasks that give one for each position; else
            None.
        note: for the reader, on the weights; "" where there is nothing to say.
        boxes: of a detector; `prepare` and `rows` are then not called.
    """

    name: str
    model: nn.Module
    prepare: Callable[[Path], Tensor]
    rows: Callable[[Any], list[dict[str, Any]]]
    masks: Callable[[Any, tuple[int, ...]], list[NDArray[Any]]] | None = None
    note: str = ""
    boxes: BoxForm | None = None


def of_run(text: str) -> Predictor:
    """The network of DIR[:ARM[:SEED]], with the preprocessing and the classes of the data it was trained on.

    Raises: ValueError, LookupError: if there is no such run, or its data cannot be opened or give no samples of files.
    """
    trained = find_run(text)
    run = trained.run
    data = open_data(run.data)
    if data.prepare is None:
        raise ValueError(f"{text}: data of the kind {run.data.kind!r} do not say how a file becomes a sample")
    task = create_task(run.task, data, **run.task_options)
    if task.detects:
        names = data.targets["boxes"].names
        form = BoxForm(data.prepare, getattr(data.test, "scale_of", lambda size: (1.0, 1.0)), names)
        return Predictor(trained.name, trained.model, data.prepare, task.predict, boxes=form)
    prepare, channels = data.prepare, input_channels(run.network, data.inputs[0])

    def sample(file: Path) -> Tensor:
        found = prepare(file)
        return found.expand(channels, *found.shape[1:])

    return Predictor(trained.name, trained.model, sample, task.predict, task.masks if task.dense else None)


def of_network(network: str, weights: Path | None) -> Predictor:
    """A network by name with a file of weights, or a saved one, with the preprocessing that it was published with.

    Classes have the names of the saved network's card, ImageNet's for 1000 outputs, else numbers.

    Raises: LookupError, ValueError, TypeError: as `foveate.trained.load_trained`.
    """
    trained = load_trained(network, weights)
    if is_detector(trained.model):
        names = trained.classes or _object_names(trained.outputs)
        form = BoxForm(_whole_image, lambda size: (1.0, 1.0), names)
        return Predictor(trained.name, trained.model, _whole_image, lambda given: [], note=trained.note, boxes=form)
    published_with = published(trained.name, trained.source, weights.name if weights else "")
    if trained.channels == 1:
        published_with = dataclasses.replace(published_with, mean=(0.5,), std=(0.5,), bgr=False)
    split = Photos([], np.empty(0, np.int64), published_with, names=[], channels=trained.channels)
    names = trained.classes or _class_names(trained.outputs)

    def rows(given: Any) -> list[dict[str, Any]]:
        best = torch.softmax(main_output(given).float(), 1).topk(min(5, trained.outputs), 1)
        return [_ranked(names, *one) for one in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    return Predictor(trained.name, trained.model, split.prepare, rows, note=trained.note)


def _whole_image(file: Path) -> Tensor:
    """(3, H, W) in 0 to 1; a detector resizes it itself."""
    return torch.from_numpy(np.array(read_image(file))).permute(2, 0, 1).float().div_(255)


def _object_names(outputs: int) -> tuple[str, ...]:
    """COCO's for a detector with its number of outputs, else numbers; without the background."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    names = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    return tuple(names[1:]) if outputs == len(names) else tuple(str(number) for number in range(1, outputs))


def _class_names(outputs: int) -> tuple[str, ...]:
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


def list_files(path: Path) -> list[Path]:
    """The file, or the image files below a folder, sorted. Raises: ValueError: if there is none."""
    if path.is_file():
        return [path]
    files = sorted(one for one in path.rglob("*") if one.suffix.lower() in ENDINGS and one.is_file())
    if not files:
        there = "no image in it" if path.is_dir() else "no such file or folder"
        raise ValueError(f"{path}: wanted an image file or a folder of them; {there}")
    return files


def predict_files(
    predictor: Predictor, path: Path, *, device: str = "cpu", batch_size: int = 32, masks: Path | None = None
) -> list[dict[str, Any]]:
    """A row {"file", …} for each file; with `masks` a folder for PNG files of class numbers, named as the files.

    Raises: ValueError: if there is no file, or one cannot be read; names it.
    """
    files = list_files(path)
    root = path if path.is_dir() else path.parent
    if masks is not None and predictor.masks is not None:
        _refuse_doubled([file.with_suffix(".png") for file in files])
    model = predictor.model.to(device).eval()
    rows: list[dict[str, Any]] = []
    for start in range(0, len(files), batch_size):
        part = files[start : start + batch_size]
        samples = torch.stack([_sample(predictor, file) for file in part]).to(device)
        with torch.inference_mode():
            given = model(samples)
        names = [file.relative_to(root) for file in part]
        rows += [{"file": str(name), **row} for name, row in zip(names, predictor.rows(given), strict=True)]
        if masks is not None:
            _write_masks(predictor, given, tuple(samples.shape[2:]), names, masks)
    return rows


def _refuse_doubled(masks: Sequence[Path]) -> None:
    """Raise ValueError where two files would have one mask."""
    twice = next((mask for mask in masks if masks.count(mask) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice.with_suffix('')}: wanted one image of this name, for its mask; got several endings")


def _sample(predictor: Predictor, file: Path) -> Tensor:
    try:
        return predictor.prepare(file)
    except Exception as error:  # a decoder meets damage in many ways
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(text if str(file) in text else f"{file}: {text}") from None


def _write_masks(predictor: Predictor, given: Any, size: tuple[int, ...], names: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if predictor.masks is None:
        return
    for name, mask in zip(names, predictor.masks(given, size), strict=True):
        place = folder / name.with_suffix(".png")
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(place)
