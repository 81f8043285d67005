"""Why the average precision of a detector is near 0: what would make it better says what is wrong."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from foveate.detections import THRESHOLDS
from foveate.tasks.matching import Found, matched

NEAR_NOTHING = 0.05  # AP50 below which something is looked for
CLEAR, TIMES = 0.1, 5  # AP50 that a repair must reach to be named, and how many times the one there is
MOST_IMAGES = 200  # that are looked at
MOST_OF = 0.8  # of AP50 without classes: labels that a shift makes right
SIZE = 2.0  # times as large or as small: of another size
Boxes = NDArray[np.float64]
_FORMATS: dict[str, Callable[[Boxes], Boxes]] = {
    "[x, y, width, height]": lambda b: np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], 1),
    "[centre x, centre y, width, height]": lambda b: np.concatenate(
        [b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], 1
    ),
    "[y0, x0, y1, x1]": lambda b: b[:, [1, 0, 3, 2]],
}


def ap50(detections: Sequence[Found], boxes: Sequence[Found]) -> float:
    """AP50 over all classes; 0 where there are no boxes."""
    return float(np.nan_to_num(matched(detections, boxes).mean(threshold=THRESHOLDS[0])[0]))


def diagnose(detections: Sequence[Found], boxes: Sequence[Found], classes: Sequence[str]) -> list[str]:
    """A line for each thing that may be wrong, the likeliest first; []: nothing is seen.

    Each repair is tried on up to 200 images: it is named where with it AP50 reaches 0.1 and is five times as high.
    """
    step = max(1, len(boxes) // MOST_IMAGES)
    detections, boxes = detections[::step], boxes[::step]
    count = sum(len(one.labels) for one in detections)
    if not sum(len(one.labels) for one in boxes):
        return ["no image has a box: there is nothing to find"]
    if not count:
        return ["the detector finds nothing: every score is below its own threshold, or its training diverged"]
    now = ap50(detections, boxes)
    found: list[tuple[float, str]] = []

    def try_out(changed: Sequence[Found], line: str) -> None:
        value = ap50(changed, boxes)
        if value >= max(CLEAR, TIMES * now):
            found.append((value, f"{line} (AP50 would be {value:.1%})"))

    alike = ap50([_one_class(one) for one in detections], [_one_class(one) for one in boxes])
    for shift in (1, -1):
        way = "one too low" if shift == 1 else "one too high, as where the background has the number 0"
        changed = [_with(one, labels=one.labels + shift) for one in detections]
        if ap50(changed, boxes) >= MOST_OF * alike:
            try_out(changed, f"labels are off by one: {way}")
    if not found and len(classes) > 1 and alike >= max(CLEAR, TIMES * now):
        line = "boxes are right and classes are not: labels are permuted, or the classifier has not learned"
        found.append((alike, f"{line} (AP50 without classes is {alike:.1%})"))
    for name, change in _FORMATS.items():
        line = f"boxes are {name} where [x0, y0, x1, y1] are wanted"
        try_out([_with(one, boxes=change(one.boxes)) for one in detections], line)
    extent = _extent(boxes)
    if max((one.boxes.max(initial=0) for one in detections), default=0) <= 2 < extent.max():
        for name, change in {"[x0, y0, x1, y1]": lambda b: b, **_FORMATS}.items():
            line = f"boxes are shares of the image's sides, as {name}; pixels are wanted"
            try_out([_with(one, boxes=change(one.boxes * np.tile(extent, 2))) for one in detections], line)
    found += [] if found else _of_scale(detections, boxes, now)
    lines = [line for _, line in sorted(found, key=lambda one: -one[0])]
    return lines or _of_size(detections, boxes)


def _with(one: Found, *, boxes: Boxes | None = None, labels: NDArray[np.int64] | None = None) -> Found:
    return Found(one.boxes if boxes is None else boxes, one.labels if labels is None else labels, one.scores)


def _one_class(one: Found) -> Found:
    return Found(one.boxes, np.zeros_like(one.labels), one.scores, one.crowd, one.area)


def _extent(found: Sequence[Found]) -> NDArray[np.float64]:
    """The largest x and y of any box."""
    whole = np.concatenate([one.boxes for one in found])
    return whole.reshape(-1, 2).max(0) if len(whole) else np.zeros(2)


def _of_scale(detections: Sequence[Found], boxes: Sequence[Found], now: float) -> list[tuple[float, str]]:
    """Boxes that fit when all are multiplied by one number."""
    theirs, ours = _extent(boxes), _extent(detections)
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = theirs / ours
    found = []
    for factor in {round(float(one), 2) for one in factors if np.isfinite(one) and not 0.8 < one < 1.25}:
        value = ap50([_with(one, boxes=one.boxes * factor) for one in detections], boxes)
        if value >= max(CLEAR, TIMES * now):
            line = f"boxes are scaled: times {factor:g} they fit, as boxes of an image resized on the way do"
            found.append((value, f"{line} (AP50 would be {value:.1%})"))
    return found


def _of_size(detections: Sequence[Found], boxes: Sequence[Found]) -> list[str]:
    """Boxes of another size than those to be found, as anchors of another size give them."""
    theirs, ours = (
        float(np.median(np.sqrt(np.concatenate([one.sides[:, 2:].prod(1).clip(0) for one in found]))))
        for found in (boxes, detections)
    )
    if ours and theirs and not 1 / SIZE < ours / theirs < SIZE:
        sides = f"detections have sides of about {ours:.0f} pixels, boxes of {theirs:.0f}"
        return [f"{sides}: anchors or strides of another size, or a training too short to move them"]
    return []
