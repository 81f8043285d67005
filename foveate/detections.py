"""Average precision from the matches of detections that a run keeps, for the set as it is or with images resampled.

Two tables have what is kept, in `items.npz`. "detections", a row a detection, in the order of the images and of falling
scores within an image:

    item     the number of its image
    label    its class
    score
    matched  (4,) bits: bit t is set where it matches a box at THRESHOLDS[t], among the boxes of each of AREAS
    ignored  (4,) bits: bit t is set where it counts neither as right nor as wrong
    voc      RIGHT, WRONG or UNCOUNTED by the rule of PASCAL VOC at 0.5

and "boxes", a row a box: item, label, and counted (4,): is it to be found, among the boxes of each of AREAS?

Source: the protocol of COCO, T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", 2014, arXiv:1405.0312, as
pycocotools has it; VOC's: M. Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 88 (2010).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from foveate.registry import nearest

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())  # of the intersection over the union
RECALLS, ELEVEN = np.linspace(0, 1, 101), np.linspace(0, 1, 11)
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # pixels
SIZES = tuple(name for name in AREAS if name != "all")
MOST = 100  # detections of an image and class that count
WRONG, RIGHT, UNCOUNTED = 0, 1, 2
BLOCK = 2_000_000  # numbers that are worked on at once

Array = NDArray[np.float64]
Table = Mapping[str, NDArray]


@dataclass
class Matches:
    """Both tables of a run, and average precision under weights of the images."""

    detections: Table
    boxes: Table
    images: int
    _last: dict[str, tuple[int, Array]] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> int:
        """One more than the highest label."""
        return 1 + max(int(table["label"].max(initial=-1)) for table in (self.detections, self.boxes))

    def precisions(self, weights: Array | None = None, area: str = "all") -> Array:
        """(B, thresholds, classes): the average precision by COCO's rule; nan for classes without boxes to be found.

        Args:
            weights: (B, images), how often each image is in the set; None: once.
            area: of AREAS.
        """
        weights = np.ones((1, self.images)) if weights is None else np.asarray(weights, float)
        key = hash(weights.tobytes())
        if self._last.get(area, (None,))[0] != key:
            self._last[area] = key, self._precisions(weights, list(AREAS).index(area))
        return self._last[area][1]

    def figure(self, what: str) -> Callable[[Array], Array]:
        """weights (B, images) → (B,) of a figure, as the metrics of a detector name it: "mAP", "AP50", "AP75",
        "VOC AP", "VOC AP 11", "size small", "class 3".

        Raises: ValueError: if there is no such figure.
        """
        kind, _, which = what.partition(" ")
        if kind == "size" and which in SIZES:
            return lambda weights: self.mean(weights, area=which)
        if kind == "class" and which.isdecimal() and int(which) < self.classes:
            return lambda weights: self.of_class(int(which), weights)
        simple: dict[str, Callable[[Array], Array]] = {
            "mAP": self.mean,
            "AP50": lambda weights: self.mean(weights, threshold=0.5),
            "AP75": lambda weights: self.mean(weights, threshold=0.75),
            "VOC AP": self.voc,
            "VOC AP 11": lambda weights: self.voc(weights, eleven=True),
        }
        if what not in simple:
            raise ValueError(f"detections: no figure {what!r} is made of them; {nearest(what, simple)}")
        return simple[what]

    def _precisions(self, weights: Array, area: int) -> Array:
        found = np.full((len(weights), len(THRESHOLDS), self.classes), np.nan)
        for label in range(self.classes):
            wanted = self._wanted(label, area)
            if not wanted.any():
                continue
            order = self._order(label)
            items = self.detections["item"][order]
            matched, ignored = (self.detections[name][order, area] for name in ("matched", "ignored"))
            for start, part in _blocks(weights, len(order)):
                precisions = _of_class(part, wanted, items, matched, ignored)
                found[start : start + part.shape[1], :, label] = precisions
        return found

    def _wanted(self, label: int, area: int = 0) -> NDArray[np.int64]:
        """(images,) boxes of the class that are to be found in each image."""
        chosen = (self.boxes["label"] == label) & self.boxes["counted"][:, area]
        return np.bincount(self.boxes["item"][chosen], minlength=self.images)

    def _order(self, label: int) -> NDArray[np.int64]:
        """The detections of the class by falling score."""
        own = np.flatnonzero(self.detections["label"] == label)
        return own[np.argsort(-self.detections["score"][own], kind="stable")]

    def mean(self, weights: Array | None = None, *, threshold: float | None = None, area: str = "all") -> Array:
        """(B,) the mean over classes that have boxes, and over thresholds or at one of them; nan: there is no box."""
        precisions = self.precisions(weights, area)
        if threshold is not None:
            place = int(np.abs(np.array(THRESHOLDS) - threshold).argmin())
            precisions = precisions[:, place : place + 1]
        return _mean(precisions.reshape(len(precisions), -1))

    def of_class(self, label: int, weights: Array | None = None) -> Array:
        """(B,) the mean over thresholds of one class."""
        return _mean(self.precisions(weights)[:, :, label])

    def voc(self, weights: Array | None = None, *, eleven: bool = False) -> Array:
        """(B,) the mean over classes by VOC's rule at 0.5: the area under the curve of 2010 and later, or the mean at
        eleven recalls of 2007."""
        weights = np.ones((1, self.images)) if weights is None else np.asarray(weights, float)
        found = np.full((len(weights), self.classes), np.nan)
        for label in range(self.classes):
            wanted = self._wanted(label)
            if not wanted.any():
                continue
            order = self._order(label)
            order = order[self.detections["voc"][order] != UNCOUNTED]
            items, places = self.detections["item"][order], np.flatnonzero(self.detections["voc"][order] == RIGHT)
            for start, part in _blocks(weights, len(order)):
                boxes = wanted @ part
                recall, precision = _curve(part[items[places]].cumsum(0), part[items].cumsum(0)[places], boxes)
                shares = _reached(recall, ELEVEN) / len(ELEVEN) if eleven else recall
                precisions = (np.diff(shares, axis=0, prepend=0) * precision).sum(0)
                found[start : start + part.shape[1], label] = np.where(boxes > 0, precisions, np.nan)
        return _mean(found)

    def curve(self, label: int, threshold: float = 0.5) -> tuple[Array, Array, Array]:
        """Recall, precision and score after each detection of a class by falling score, as they are: not made to fall.

        Detections that count neither way are left out.
        """
        bit = int(np.abs(np.array(THRESHOLDS) - threshold).argmin())
        order = self._order(label)
        counts = (self.detections["ignored"][order, 0] >> bit) & 1 == 0
        order = order[counts]
        right = ((self.detections["matched"][order, 0] >> bit) & 1).astype(float).cumsum()
        return (
            right / max(self._wanted(label).sum(), 1),
            right / np.arange(1, len(right) + 1),
            self.detections["score"][order],
        )


def _blocks(weights: Array, rows: int) -> Iterator[tuple[int, Array]]:
    """Weights (images, some of B) and the number of the first, so that arrays (rows, some of B) fit into the cache."""
    step = max(BLOCK // max(rows, 1), 8)
    for start in range(0, len(weights), step):
        yield start, np.ascontiguousarray(weights[start : start + step].T)


def _mean(values: Array) -> Array:
    """(B, n) → (B,) of those that are numbers; nan where none is."""
    known = np.isfinite(values)
    count = known.sum(1)
    return np.where(count > 0, np.where(known, values, 0).sum(1) / np.maximum(count, 1), np.nan)


def _of_class(
    weights: Array,
    wanted: NDArray[np.int64],
    items: NDArray[np.int64],
    matched: NDArray[np.uint16],
    ignored: NDArray[np.uint16],
) -> Array:
    """(B, thresholds) of the detections of one class, by falling score; weights (images, B)."""
    found = np.empty((weights.shape[1], len(THRESHOLDS)))
    somewhere = ignored != (1 << len(THRESHOLDS)) - 1
    items, matched, ignored = items[somewhere], matched[somewhere], ignored[somewhere]
    total, boxes = weights[items].cumsum(0), wanted @ weights
    for bit in range(len(THRESHOLDS)):
        out = (ignored >> bit) & 1 == 1
        places = np.flatnonzero(((matched >> bit) & 1 == 1) & ~out)
        counted = total[places]
        if out.any():
            left_out = np.concatenate([np.zeros((1, weights.shape[1])), weights[items[out]].cumsum(0)])
            counted = counted - left_out[np.searchsorted(np.flatnonzero(out), places)]
        recall, precision = _curve(weights[items[places]].cumsum(0), counted, boxes)
        reached = np.diff(_reached(recall, RECALLS), axis=0, prepend=0)
        found[:, bit] = np.where(boxes > 0, (reached * precision).sum(0) / len(RECALLS), np.nan)
    return found


def _curve(hits: Array, total: Array, boxes: Array) -> tuple[Array, Array]:
    """Recall, and the best precision at that recall or more, at each right detection: both (right ones, B).

    Precision falls between right detections, so that its best values are at them.

    Args:
        hits, total: right and all detections up to each right one, (right ones, B).
        boxes: (B,) to be found.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(boxes > 0, hits / boxes, 0.0)
    return recall, np.maximum.accumulate((hits / (total + np.spacing(1)))[::-1])[::-1]


def _reached(recall: Array, levels: Array) -> NDArray[np.int64]:
    """How many of the evenly spaced levels from 0 to 1 a recall reaches."""
    last = (recall * (len(levels) - 1) + 1e-9).astype(np.int64)
    return np.asarray(last + (levels[last] <= recall))
