"""Images with boxes over them: right, wrong and missed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from foveate.tasks.pictures import Picture

RIGHT, WRONG, MISSED = (0, 158, 115), (213, 94, 0), (86, 180, 233)  # of Okabe and Ito
OVERLAP = 0.5  # of a box with the object that it finds
DASH = 5  # pixels


@dataclass(frozen=True)
class Shown:
    """Boxes of one image: (n, 4) x0, y0, x1, y1, labels from 0, scores (1 where it is an object), masks (n, H, W)."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    masks: NDArray[np.bool_] | None = None

    @classmethod
    def of_target(cls, target: Mapping[str, Tensor]) -> "Shown":
        """The objects of a batch's target; crowds are left out."""
        kept = ~target["crowd"]
        boxes = target["boxes"][kept].cpu().numpy()
        masks = target["masks"][kept].cpu().numpy() if "masks" in target else None
        return cls(boxes, target["labels"][kept].cpu().numpy(), np.ones(len(boxes), np.float32), masks)

    @classmethod
    def of_result(cls, found: Mapping[str, Tensor]) -> "Shown":
        """What a detector gives for an image, its labels from 1; boxes of the background, 0, are left out."""
        kept = found["labels"] > 0
        masks = (found["masks"][kept, 0] >= 0.5).cpu().numpy() if "masks" in found else None
        values = (found["boxes"][kept].float(), found["labels"][kept] - 1, found["scores"][kept].float())
        boxes, labels, scores = (one.detach().cpu().numpy() for one in values)
        return cls(boxes, labels, scores, masks)


def drawn_boxes(
    picture: Picture, factor: float, classes: Sequence[str], objects: Shown | None, found: Shown | None
) -> tuple[Picture, str]:
    """An image with boxes, and their counts in words.

    Green: found and right, with class and score; orange: found and wrong; blue and dashed: missed. Without objects, or
    without what was found, all boxes are green.

    Args:
        picture: the image, or a map over it.
        factor: pixels of the picture a pixel of the boxes.
        classes: names, by label.
        objects: what is there; None: not known.
        found: what a detector found; None: the objects alone are drawn.
    """
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    if found is None or objects is None:
        one = objects if found is None else found
        assert one is not None
        for place in range(len(one.labels)):
            _box(draw, one.boxes[place] * factor, RIGHT, _words(one, place, classes, scored=found is not None))
        return _masked(canvas, one), f"{len(one.labels)} {'objects' if found is None else 'found'}"
    right, seen = matched(found, objects)
    for place in np.flatnonzero(~seen).tolist():
        _dashed(draw, objects.boxes[place] * factor, MISSED, classes[objects.labels[place]])
    for place in np.argsort(found.scores).tolist():
        _box(draw, found.boxes[place] * factor, RIGHT if right[place] else WRONG, _words(found, place, classes))
    return _masked(canvas, found), f"{right.sum()} right, {(~right).sum()} wrong, {(~seen).sum()} missed"


def matched(found: Shown, objects: Shown) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of the found boxes are right, and which objects are found.

    In the order of its score, each takes the object of its class that it overlaps most by half or more among those that
    are free.
    """
    right, seen = np.zeros(len(found.labels), bool), np.zeros(len(objects.labels), bool)
    for place in np.argsort(-found.scores, kind="stable"):
        fits = (objects.labels == found.labels[place]) & ~seen
        shares = overlap(found.boxes[place], objects.boxes) * fits
        if fits.any() and shares.max() >= OVERLAP:
            right[place] = seen[shares.argmax()] = True
    return right, seen


def overlap(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) intersection over union of a box with others."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    both = np.clip(high - low, 0, None).prod(1, dtype=np.float64)
    either = (box[2:] - box[:2]).prod(dtype=np.float64) + (boxes[:, 2:] - boxes[:, :2]).prod(1, dtype=np.float64) - both
    return both / np.maximum(either, 1e-12)


def _words(one: Shown, place: int, classes: Sequence[str], *, scored: bool = True) -> str:
    label = int(one.labels[place])
    name = classes[label] if label < len(classes) else str(label)
    return f"{name} {one.scores[place]:.2f}" if scored else name


def _box(draw: ImageDraw.ImageDraw, box: NDArray[np.float32], colour: tuple[int, int, int], words: str) -> None:
    draw.rectangle(box.tolist(), outline=colour, width=2)
    _label(draw, box, colour, words)


def _dashed(draw: ImageDraw.ImageDraw, box: NDArray[np.float32], colour: tuple[int, int, int], words: str) -> None:
    x0, y0, x1, y1 = box.tolist()
    for start in np.arange(x0, x1, 2 * DASH).tolist():
        for y in (y0, y1):
            draw.line((start, y, min(start + DASH, x1), y), fill=colour, width=2)
    for start in np.arange(y0, y1, 2 * DASH).tolist():
        for x in (x0, x1):
            draw.line((x, start, x, min(start + DASH, y1)), fill=colour, width=2)
    _label(draw, box, colour, words)


def _label(draw: ImageDraw.ImageDraw, box: NDArray[np.float32], colour: tuple[int, int, int], words: str) -> None:
    font = ImageFont.load_default(11)
    wide = font.getlength(words)
    x, y = float(box[0]), max(float(box[1]) - 13, 0)
    draw.rectangle((x, y, x + wide + 3, y + 12), fill=colour)
    draw.text((x + 2, y), words, fill="white", font=font)


def _masked(canvas: Image.Image, one: Shown) -> Picture:
    """The picture with the objects' masks as a light colour over it."""
    picture = np.asarray(canvas)
    if one.masks is None or not len(one.masks):
        return picture
    large = np.asarray(Image.fromarray(one.masks.any(0)).resize(canvas.size))[..., None]
    return np.asarray(np.where(large, 0.65 * picture + 0.35 * np.array(RIGHT), picture), np.uint8)
