"""Which detection matches which box, as COCO and PASCAL VOC decide it: the two tables that average precision needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.outlines import coco_tools
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


def matched(detections: Sequence[Found], boxes: Sequence[Found]) -> Matches:
    """The matches of all images, the best `MOST` detections of each class and image."""
    columns: dict[str, list[Any]] = {name: [] for name in ("item", "label", "score", "matched", "ignored", "voc")}
    own: dict[str, list[Any]] = {name: [] for name in ("item", "label", "counted")}
    for item, (given, wanted) in enumerate(zip(detections, boxes, strict=True)):
        outside = (wanted.area[:, None] < _LIMITS[:, 0]) | (wanted.area[:, None] > _LIMITS[:, 1])
        ignore = outside | wanted.crowd[:, None]
        own["item"].append(np.full(len(wanted.labels), item))
        own["label"].append(wanted.labels)
        own["counted"].append(~ignore)
        for label in np.unique(given.labels):
            places = np.flatnonzero(given.labels == label)
            places = places[np.argsort(-given.scores[places], kind="stable")][:MOST]
            mine = given.only(places)
            there = np.flatnonzero(wanted.labels == label)
            theirs = wanted.only(there)
            ious = overlaps(mine, theirs)
            bits, left_out = _coco(mine, ious, ignore[there], theirs.crowd)
            for name, values in (
                ("item", np.full(len(places), item)),
                ("label", mine.labels),
                ("score", mine.scores),
                ("matched", bits),
                ("ignored", left_out),
                ("voc", _voc(mine, theirs, ious)),
            ):
                columns[name].append(values)
    types: dict[str, Any] = {
        "item": np.int32,
        "label": np.int32,
        "score": np.float32,
        "matched": np.uint16,
        "ignored": np.uint16,
    }
    types |= {"voc": np.uint8, "counted": np.bool_}
    shapes = {"matched": (0, len(AREAS)), "ignored": (0, len(AREAS)), "counted": (0, len(AREAS))}

    def table(parts: dict[str, list[Any]]) -> dict[str, NDArray[Any]]:
        return {
            name: np.concatenate([np.zeros(shapes.get(name, (0,)), types[name]), *values]).astype(types[name])
            for name, values in parts.items()
        }

    return Matches(table(columns), table(own), len(boxes))


def _coco(
    detections: Found, ious: Floats, ignore: NDArray[np.bool_], crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Bits of the thresholds at which each detection matches a box, and at which it does not count: both (n, areas).

    In the order of their scores, each takes the box that it overlaps most among those that are free, one that counts
    before one that does not; crowds are always free.
    """
    count, areas = len(detections.labels), len(AREAS)
    matches = np.zeros((count, areas, len(THRESHOLDS)), bool)
    left_out = np.zeros_like(matches)
    free = np.ones((areas, len(THRESHOLDS), ious.shape[1]), bool)
    counted = ~ignore.T[:, None]  # (areas, 1, boxes)
    for place in np.flatnonzero((ious >= _LEAST[0]).any(1)) if ious.size else ():
        near = np.flatnonzero(ious[place] >= _LEAST[0])
        own = ious[place, near]
        possible = free[..., near] & (own >= _LEAST[:, None])
        first = possible & counted[..., near]
        possible = np.where(first.any(2, keepdims=True), first, possible)
        taken = possible.any(2)
        overlap = np.where(possible, own, -1.0)
        best = len(near) - 1 - overlap[..., ::-1].argmax(2)  # of equal ones the last
        matches[place] = taken
        left_out[place] = taken & np.take_along_axis(~counted[..., near], best[..., None], 2)[..., 0]
        for area, threshold in zip(*np.nonzero(taken), strict=True):
            chosen = near[best[area, threshold]]
            if not crowd[chosen]:
                free[area, threshold, chosen] = False
    area = detections.sides[:, 2:].prod(1)
    outside = (area[:, None] < _LIMITS[:, 0]) | (area[:, None] > _LIMITS[:, 1])
    left_out |= outside[..., None] & ~matches
    bits = 1 << np.arange(len(THRESHOLDS))
    return (matches * bits).sum(2).astype(np.uint16), (left_out * bits).sum(2).astype(np.uint16)


def _voc(detections: Found, boxes: Found, ious: Floats) -> NDArray[np.uint8]:
    """By VOC's rule at 0.5: each detection has the box that it overlaps most; a second one of a box is wrong."""
    found = np.full(len(detections.labels), WRONG, np.uint8)
    if not ious.size:
        return found
    best, seen = ious.argmax(1), set()
    for place in np.flatnonzero(ious.max(1) >= THRESHOLDS[0]).tolist():
        box = int(best[place])
        if boxes.crowd[box]:
            found[place] = UNCOUNTED
        elif box not in seen:
            found[place] = RIGHT
            seen.add(box)
    return found
