"""Which detection matches which box, as COCO and PASCAL VOC decide it: the two tables that average precision needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.boxes.outlines import coco_tools
from foveate.detections import AREAS, MOST, RIGHT, THRESHOLDS, UNCOUNTED, WRONG, Matches

Floats = NDArray[np.float64]
_LIMITS = np.array(list(AREAS.values()))
_LEAST = np.minimum(THRESHOLDS, 1 - 1e-10)


@dataclass(frozen=True)
class Found:
    """The detections or the boxes of one image, in pixels of its file.

    Attributes:
        boxes: (n, 4) x0, y0, x1, y1.
        labels: (n,).
        scores: (n,) of detections.
        crowd, area: (n,) of boxes.
    """

    boxes: Floats
    labels: NDArray[np.int64]
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    crowd: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    area: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def sides(self) -> Floats:
        """(n, 4) x, y, width, height, as COCO's tools take boxes."""
        return np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], 1)

    def only(self, places: NDArray[Any]) -> "Found":
        """Those of these places."""
        names = ("boxes", "labels", "scores", "crowd", "area")
        return Found(*(own[places] if len(own := getattr(self, name)) else own for name in names))


def overlaps(detections: Found, boxes: Found) -> Floats:
    """(detections, boxes) intersection over union; of a crowd: over the detection. Computed as COCO's tools do."""
    if not len(detections.labels) or not len(boxes.labels):
        return np.zeros((len(detections.labels), len(boxes.labels)))
    return np.asarray(
        coco_tools().mask.iou(detections.sides.tolist(), boxes.sides.tolist(), boxes.crowd.astype(int).tolist())
    )


def matched(detections: Sequence[Found], boxes: Sequence[Found], ious: Sequence[Floats] | None = None) -> Matches:
    """The matches of all images, of the best `MOST` detections of each class and image; ious: their overlaps."""
    columns: dict[str, list[Any]] = {name: [] for name in ("item", "label", "score", "matched", "ignored", "voc")}
    own: dict[str, list[Any]] = {name: [] for name in ("item", "label", "counted")}
    for item, (given, wanted) in enumerate(zip(detections, boxes, strict=True)):
        overlap = overlaps(given, wanted) if ious is None else ious[item]
        outside = (wanted.area[:, None] < _LIMITS[:, 0]) | (wanted.area[:, None] > _LIMITS[:, 1])
        counted = ~(outside | wanted.crowd[:, None])
        own["item"].append(np.full(len(wanted.labels), item))
        own["label"].append(wanted.labels)
        own["counted"].append(counted)
        order = np.argsort(-given.scores, kind="stable")
        for label in np.unique(given.labels):
            places = order[given.labels[order] == label][:MOST]
            there = np.flatnonzero(wanted.labels == label)
            near = overlap[np.ix_(places, there)]
            bits, left_out = _coco(given.only(places), near, counted[there], wanted.crowd[there])
            for name, values in (
                ("item", np.full(len(places), item)),
                ("label", given.labels[places]),
                ("score", given.scores[places]),
                ("matched", bits),
                ("ignored", left_out),
                ("voc", _voc(near, wanted.crowd[there])),
            ):
                columns[name].append(values)
    types: dict[str, Any] = {"item": np.int32, "label": np.int32, "score": np.float32, "voc": np.uint8}
    types |= {"matched": np.uint16, "ignored": np.uint16, "counted": np.bool_}
    shapes = {"matched": (0, len(AREAS)), "ignored": (0, len(AREAS)), "counted": (0, len(AREAS))}

    def table(parts: dict[str, list[Any]]) -> dict[str, NDArray[Any]]:
        return {
            name: np.concatenate([np.zeros(shapes.get(name, (0,)), types[name]), *values]).astype(types[name])
            for name, values in parts.items()
        }

    return Matches(table(columns), table(own), len(boxes))


def _coco(
    detections: Found, ious: Floats, counted: NDArray[np.bool_], crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Bits of the thresholds at which each detection matches a box, and at which it does not count: both (n, areas).

    In the order of their scores, each takes the box that it overlaps most among those that are free, one that counts
    before one that does not; crowds are always free. A number has a bit for each area and threshold.

    Args:
        detections: n, by falling score.
        ious: (n, boxes).
        counted: (boxes, areas). crowd: (boxes,).
    """
    wide, areas = len(THRESHOLDS), len(AREAS)
    everywhere = sum(1 << wide * area for area in range(areas))  # the lowest bit of each area
    reached = [everywhere * ((1 << count) - 1) for count in range(wide + 1)]
    free = [reached[wide]] * ious.shape[1]
    counts = [
        sum(reached[wide] & (((1 << wide) - 1) << wide * area) for area in np.flatnonzero(row)) for row in counted
    ]
    matches, left_out = [0] * len(ious), [0] * len(ious)
    for place in np.flatnonzero((ious >= _LEAST[0]).any(1)).tolist():
        near = np.flatnonzero(ious[place] >= _LEAST[0])
        near = near[np.argsort(ious[place, near], kind="stable")[::-1]]  # of equal ones the last
        levels = np.searchsorted(_LEAST, ious[place, near], side="right").tolist()
        missing = reached[wide]
        for to_count in (True, False):
            for box, level in zip(near.tolist(), levels, strict=True):
                taken = free[box] & reached[level] & (counts[box] if to_count else ~counts[box]) & missing
                if taken:
                    missing &= ~taken
                    matches[place] |= taken
                    left_out[place] |= 0 if to_count else taken
                    free[box] &= ~(0 if crowd[box] else taken)
    area = detections.sides[:, 2:].prod(1)
    outside = (area[:, None] < _LIMITS[:, 0]) | (area[:, None] > _LIMITS[:, 1])
    shifts, lowest = wide * np.arange(areas), (1 << wide) - 1
    bits = np.array(matches, np.int64)[:, None] >> shifts & lowest
    ignored = np.array(left_out, np.int64)[:, None] >> shifts & lowest
    ignored |= np.where(outside, ~bits & lowest, 0)
    return bits.astype(np.uint16), ignored.astype(np.uint16)


def _voc(ious: Floats, crowd: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """By VOC's rule at 0.5: each detection has the box that it overlaps most; a second one of a box is wrong."""
    found = np.full(len(ious), WRONG, np.uint8)
    if not ious.size:
        return found
    best, seen = ious.argmax(1), set()
    for place in np.flatnonzero(ious.max(1) >= THRESHOLDS[0]).tolist():
        box = int(best[place])
        if crowd[box]:
            found[place] = UNCOUNTED
        elif box not in seen:
            found[place] = RIGHT
            seen.add(box)
    return found
