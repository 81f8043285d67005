"""What a detector is measured by: average precision as COCO's tools compute it, its matches kept for each image."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.annotation import Annotation
from foveate.data.boxes.outlines import coco_tools
from foveate.detections import AREAS, SIZES, Matches
from foveate.spec import Metric
from foveate.tasks.diagnosis import NEAR_NOTHING, diagnose
from foveate.tasks.matching import Found, matched, overlaps
from foveate.tasks.task import Scores

MOST_CLASSES = 20  # whose average precisions are metrics of their own
MAP, AP50, AP75, VOC, VOC11 = "mAP", "AP50", "AP75", "VOC AP", "VOC AP 11"
BACKGROUND = "background"
LONGEST = 45  # characters of a class's name in that of its metric
_PLACES = {MAP: slice(None), AP50: slice(0, 1), AP75: slice(5, 6)}  # among the thresholds


def detection_metrics(classes: Sequence[str], *parts: Sequence[Annotation]) -> tuple[Metric, ...]:
    """The metrics of a detector: mAP, AP50 and AP75 of COCO, VOC's two, AP by size, and by class where they are few.

    Args:
        classes: names.
        parts: annotations of each part of the data that is measured on; sizes and classes without boxes in one of them
            are left out.
    """
    metrics = [Metric(name, remade_by=f"detections:{name}") for name in (MAP, AP50, AP75, VOC, VOC11)]
    for size in SIZES:
        if all(any(_counted(one, size).any() for one in part) for part in parts):
            metrics.append(Metric(f"AP {size}", remade_by=f"detections:size {size}", of=size))
    for label, name in enumerate(class_metrics(classes) if len(classes) <= MOST_CLASSES else ()):
        if all(any((_counted(one) & (one.labels == label)).any() for one in part) for part in parts):
            metrics.append(Metric(name, remade_by=f"detections:class {label}", of=classes[label]))
    return tuple(metrics)


def class_metrics(classes: Sequence[str]) -> list[str]:
    """What the average precision of each class is called: "AP of cat", in the characters that a metric's name has."""
    names: list[str] = []
    for label, name in enumerate(classes):
        own = "AP of " + re.sub(r"[^\w @./%+()\[\]:-]", "_", name)[:LONGEST]
        names.append(f"{own} {label}" if own in names else own)
    return names


def _counted(one: Annotation, size: str = "all") -> NDArray[np.bool_]:
    low, high = AREAS[size]
    return np.asarray(~one.crowd & (one.area >= low) & (one.area <= high))


class DetectionScores:
    """Detections and boxes of image after image; at the end average precision, matches, confusion, curves, findings.

    Args:
        classes: names, in the order of the labels.
        metrics: whose values are wanted; None: all that are defined.
    """

    def __init__(self, classes: Sequence[str], metrics: Sequence[Metric] | None = None) -> None:
        self.classes = tuple(classes)
        self.wanted = None if metrics is None else {metric.name for metric in metrics}
        self.detections: list[Found] = []
        self.boxes: list[Found] = []
        self.ious: list[NDArray[np.float64]] = []

    def add(self, predictions: Sequence[Mapping[str, Any]], targets: Sequence[Mapping[str, Any]]) -> None:
        """The detections and the targets of a batch, an entry an image.

        Args:
            predictions: {"boxes": (n, 4) x0 y0 x1 y1 in pixels of the batch, "scores": (n,), "labels": (n,) from 0}.
            targets: as a batch of images with boxes has them; measured in pixels of the file, if they have a "scale".
        """
        for given, target in zip(predictions, targets, strict=True):
            scale = np.tile(_array(target["scale"]).astype(float), 2) if "scale" in target else np.ones(4)
            boxes = _array(target["boxes"]).astype(float).reshape(-1, 4) / scale
            own = _array(given["boxes"]).astype(float).reshape(-1, 4) / scale
            scores = _array(given["scores"]).astype(np.float32)
            labels = _array(given["labels"]).astype(np.int64)
            if not len(own) == len(scores) == len(labels):
                counts = f"{len(own)} boxes, {len(scores)} scores and {len(labels)} labels"
                raise ValueError(f"detections: wanted as many boxes as scores and labels; got {counts}")
            known = np.isfinite(own).all(1) & np.isfinite(scores)
            self.detections.append(Found(own[known], labels[known], scores[known]))
            area = _array(target["area"]).astype(float)
            crowd = _array(target["crowd"]).astype(bool)
            self.boxes.append(Found(boxes, _array(target["labels"]).astype(np.int64), crowd=crowd, area=area))
            self.ious.append(overlaps(self.detections[-1], self.boxes[-1]))

    def matches(self) -> Matches:
        """The matches of all images so far."""
        return matched(self.detections, self.boxes, self.ious)

    def values(self) -> dict[str, float]:
        """The values of `detection_metrics`, and AR, that are defined."""
        return self._values(*coco_evaluation(self.detections, self.boxes, len(self.classes)), self.matches())

    def _values(self, precision: NDArray[np.float64], recall: NDArray[np.float64], found: Matches) -> dict[str, float]:
        values = {name: _mean(precision[place, :, :, 0]) for name, place in _PLACES.items()}
        values |= {VOC: float(found.voc()[0]), VOC11: float(found.voc(eleven=True)[0])}
        values |= {f"AP {size}": _mean(precision[..., 1 + number]) for number, size in enumerate(SIZES)}
        names = class_metrics(self.classes)
        values |= {name: _mean(precision[:, :, label, 0]) for label, name in enumerate(names)}
        values["AR"] = _mean(recall[..., 0])
        return {
            name: value
            for name, value in values.items()
            if np.isfinite(value) and (self.wanted is None or name in self.wanted)
        }

    def scores(self) -> Scores:
        """The values; the tables of matches; by class AP, AP50, recall and precision at the score that is best for F1;
        the confusion at that score, the background as one more class; curves of precision by recall; what may be wrong,
        where AP50 is near 0."""
        precision, recall = coco_evaluation(self.detections, self.boxes, len(self.classes))
        found = self.matches()
        values = self._values(precision, recall, found)
        confusion = confusion_of(self.detections, self.boxes, self.ious, len(self.classes), best_score(found))
        by_class: dict[str, dict[str, float]] = {}
        for label, name in enumerate(self.classes):
            if precision[0, 0, label, 0] < 0:
                continue
            true, given = confusion[label].sum(), confusion[:, label].sum()
            by_class[name] = {
                "AP": _mean(precision[:, :, label, 0]),
                "AP50": _mean(precision[:1, :, label, 0]),
                "recall": float(confusion[label, label] / max(true, 1)),
                "precision": float(confusion[label, label] / max(given, 1)),
                "number": int(true),
            }
        learned = _mean(precision[:1, :, :, 0]) > NEAR_NOTHING
        return Scores(
            values,
            by_class=by_class,
            confusion=confusion,
            confused=(*self.classes, BACKGROUND),
            tables={"detections": found.detections, "boxes": found.boxes},
            curves={name: precision[0, :, self.classes.index(name), 0] for name in by_class},
            findings=[] if learned else diagnose(self.detections, self.boxes, self.classes),
        )


def _array(value: Any) -> NDArray[Any]:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _mean(precision: NDArray[np.float64]) -> float:
    """Over what is defined, which COCO's tools mark by −1 where it is not; nan: nothing is."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else float("nan")


def coco_evaluation(
    detections: Sequence[Found], boxes: Sequence[Found], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision (thresholds, recalls, classes, areas) and recall (thresholds, classes, areas) by faster-coco-eval, −1
    where a class has no box."""
    tools = coco_tools()
    images = [{"id": number} for number in range(1, len(boxes) + 1)]
    categories = [{"id": label + 1, "name": str(label)} for label in range(classes)]
    rows: list[list[dict[str, Any]]] = [[], []]
    for place, all_found in enumerate((boxes, detections)):
        for image, found in enumerate(all_found, 1):
            sides, labels = found.sides.tolist(), (found.labels + 1).tolist()
            area = found.area.tolist() if place == 0 else [side[2] * side[3] for side in sides]
            crowd = found.crowd.astype(int).tolist() if place == 0 else [0] * len(sides)
            scores = found.scores.astype(float).tolist() if place else [0.0] * len(sides)
            for side, label, size, of_many, score in zip(sides, labels, area, crowd, scores, strict=True):
                row = {"id": len(rows[place]) + 1, "image_id": image, "category_id": label, "bbox": side, "area": size}
                rows[place].append(row | {"iscrowd": of_many, "score": score})
    sets = [tools.COCO({"images": images, "categories": categories, "annotations": own}) for own in rows]
    evaluation = tools.COCOeval_faster(*sets, iouType="bbox", print_function=_silent)
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[..., -1], np.asarray(evaluation.eval["recall"])[..., -1]


def _silent(*text: object) -> None:
    """Takes what the tools print."""


def best_score(found: Matches) -> float:
    """The score at which the F1 of all detections at 0.5 is largest; 0 where nothing is right."""
    counts = found.detections["ignored"][:, 0] & 1 == 0
    scores, right = found.detections["score"][counts], found.detections["matched"][counts, 0] & 1
    order = np.argsort(-scores, kind="stable")
    hits = right[order].astype(float).cumsum()
    if not len(hits) or hits[-1] == 0:
        return 0.0
    wanted = found.boxes["counted"][:, 0].sum()
    return float(scores[order][(2 * hits / (np.arange(1, len(hits) + 1) + wanted)).argmax()])


def pairs_of(
    detections: Found, boxes: Found, ious: NDArray[np.float64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the detections with this score or more the box that each takes at an overlap of 0.5, whatever the classes: −1
    none, −2 a crowd; and their places by falling score.

    A box of the detection's own class comes before a better one of another.
    """
    places = np.flatnonzero(detections.scores >= threshold)
    places = places[np.argsort(-detections.scores[places], kind="stable")]
    taken = np.full(len(places), -1)
    free = set(range(len(boxes.labels)))
    close = np.flatnonzero((ious[places] >= 0.5).any(1)).tolist()
    for same in (True, False):
        for row in close:
            own = ious[places[row]]
            possible = [
                box
                for box in np.flatnonzero(own >= 0.5).tolist()
                if box in free and (boxes.labels[box] == detections.labels[places[row]]) == same
            ]
            if taken[row] == -1 and possible:
                best = max(possible, key=lambda box: own[box])
                taken[row] = -2 if boxes.crowd[best] else best
                free -= set() if boxes.crowd[best] else {best}
    return taken, places


def confusion_of(
    detections: Sequence[Found],
    boxes: Sequence[Found],
    ious: Sequence[NDArray[np.float64]],
    classes: int,
    threshold: float,
) -> NDArray[np.int64]:
    """(K + 1, K + 1) boxes of each class by the class that they are found as; the last row: detections of nothing, the
    last column: boxes that are not found."""
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    for given, wanted, overlap in zip(detections, boxes, ious, strict=True):
        taken, places = pairs_of(given, wanted, overlap, threshold)
        for box, place in zip(taken.tolist(), places.tolist(), strict=True):
            if box != -2 and 0 <= given.labels[place] < classes:
                counts[wanted.labels[box] if box >= 0 else classes, given.labels[place]] += 1
        missed = np.setdiff1d(np.flatnonzero(~wanted.crowd), taken)
        counts[:classes, classes] += np.bincount(wanted.labels[missed], minlength=classes)
    return counts
