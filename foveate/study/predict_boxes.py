"""What a detector gives for files that belong to no data set: rows, COCO's form, pictures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from foveate.data.decode import read_image
from foveate.files import write_json
from foveate.tasks.box_pictures import Shown, drawn_boxes
from foveate.tasks.pictures import captioned

LEAST_SCORE = 0.3


@dataclass(frozen=True)
class BoxForm:
    """How a file becomes a detector's image, and what its labels are.

    Attributes:
        prepare: from a file to an image (3, H, W) in 0 to 1.
        scale_of: from (width, height) of a file to the pixels of that image a pixel of the file, along x and y.
        classes: names, in the order of the labels, which count from 1.
    """

    prepare: Callable[[Path], Tensor]
    scale_of: Callable[[tuple[int, int]], tuple[float, float]]
    classes: Sequence[str]


@dataclass(frozen=True)
class Found:
    """What a detector gave for one file, in the file's pixels; best score first."""

    file: Path
    name: str
    size: tuple[int, int]
    boxes: Shown


def find_boxes(
    model: nn.Module, form: BoxForm, files: Sequence[Path], root: Path, *, device: str, batch_size: int, least: float
) -> Iterator[Found]:
    """The boxes of each file with this score or more.

    Args:
        files: images.
        root: folder that names are given below.

    Raises: ValueError: if a file cannot be read; names it.
    """
    model = model.to(device).eval()
    for start in range(0, len(files), batch_size):
        part = files[start : start + batch_size]
        with torch.inference_mode():
            given = model([form.prepare(file).to(device) for file in part])
        for file, one in zip(part, given, strict=True):
            size = read_image(file).size
            kept = one["scores"] >= least
            best = Shown.of_result({key: value[kept] for key, value in one.items()})
            yield Found(file, str(file.relative_to(root)), size, _in_file(best, form.scale_of(size), size))


def _in_file(found: Shown, scale: tuple[float, float], size: tuple[int, int]) -> Shown:
    """Boxes and masks of a detector's image in the pixels of the file."""
    boxes = np.clip(found.boxes / np.tile(scale, 2), 0, np.tile(size, 2)).astype(np.float32)
    order = np.argsort(-found.scores, kind="stable")
    masks = None
    if found.masks is not None:
        shape = (round(size[1] * scale[1]), round(size[0] * scale[0]))
        cut = found.masks[order, : shape[0], : shape[1]]
        masks = np.array([np.asarray(Image.fromarray(one).resize(size)) for one in cut], bool)
    return Shown(boxes[order], found.labels[order], found.scores[order], masks)


def as_rows(found: Sequence[Found], classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row a box: file, class, score and corners in pixels of the file."""
    return [
        {"file": one.name, "class": _name(classes, label), "score": float(score)}
        | dict(zip(("x0", "y0", "x1", "y1"), map(float, box), strict=True))
        for one in found
        for box, label, score in zip(one.boxes.boxes, one.boxes.labels, one.boxes.scores, strict=True)
    ]


def as_coco(found: Sequence[Found], classes: Sequence[str]) -> dict[str, Any]:
    """COCO's form: images, categories numbered from 1, annotations with a score; masks as run lengths."""
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(found, 1):
        for place, (box, label) in enumerate(zip(one.boxes.boxes.astype(float), one.boxes.labels, strict=True)):
            x0, y0, x1, y1 = box.tolist()
            entry = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": int(label) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
                "score": float(one.boxes.scores[place]),
            }
            if one.boxes.masks is not None:
                mask = one.boxes.masks[place]
                entry |= {"segmentation": run_lengths(mask), "area": int(mask.sum())}
            annotations.append(entry)
    images = [
        {"id": number, "file_name": one.name, "width": one.size[0], "height": one.size[1]}
        for number, one in enumerate(found, 1)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    return {"images": images, "categories": categories, "annotations": annotations}


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's uncompressed run lengths of a mask (H, W): down the columns, zeros first."""
    flat = mask.T.reshape(-1)
    changes = np.flatnonzero(np.diff(flat)) + 1
    ends = np.concatenate([[0], changes, [len(flat)]])
    counts = np.diff(ends).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if len(flat) and flat[0] else counts}


def write_found(found: Sequence[Found], classes: Sequence[str], folder: Path) -> None:
    """Write detections.json in COCO's form and a picture of each file, named as the file, .png."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "detections.json", as_coco(found, classes))
    for one in found:
        place = folder / Path(one.name).with_suffix(".png")
        place.parent.mkdir(parents=True, exist_ok=True)
        drawn, line = drawn_boxes(np.asarray(read_image(one.file)), 1.0, classes, None, one.boxes)
        Image.fromarray(captioned(drawn, line)).save(place)


def _name(classes: Sequence[str], label: int) -> str:
    return classes[label] if label < len(classes) else str(label + 1)
