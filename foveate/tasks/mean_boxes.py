"""A baseline of detection that looks at no image: the boxes that training images have most often, where they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.data.annotation import Annotation
from foveate.tasks.detection_scores import DetectionScores

MOST_BOXES = 30  # of a class
MOST_IMAGES = 500  # that the baseline is measured on, evenly among them
ROUNDS = 20


@dataclass(frozen=True)
class MeanBoxes:
    """Boxes as shares of an image's sides, (n, 4), with labels and scores: the same for every image."""

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]

    def values(self, classes: Sequence[str], images: Sequence[Annotation]) -> dict[str, float]:
        """The metrics of giving these boxes for each image, as a detector's are measured."""
        chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).astype(int))
        scores = DetectionScores(classes)
        for place in chosen.tolist():
            one = images[place]
            given = {"boxes": self.boxes * np.array(one.image * 2), "labels": self.labels, "scores": self.scores}
            target = {"boxes": one.boxes, "labels": one.labels, "crowd": one.crowd, "area": one.area}
            scores.add([given], [target])
        return scores.values()


def mean_boxes(images: Sequence[Annotation], classes: int) -> MeanBoxes:
    """Of each class as many boxes as an image with the class usually has: the means of the groups that its boxes of all
    images fall into (k-means, from boxes evenly among those sorted by place), scored by their share of the images."""
    boxes, labels, scores = [], [], []
    for label in range(classes):
        own = [
            one.boxes[(one.labels == label) & ~one.crowd] / np.array(one.image * 2, float)
            for one in images
            if ((one.labels == label) & ~one.crowd).any()
        ]
        if not own:
            continue
        count = min(max(round(float(np.mean([len(one) for one in own]))), 1), MOST_BOXES)
        centres, sizes = _groups(np.concatenate(own), count)
        boxes.append(centres)
        labels.append(np.full(len(centres), label))
        scores.append(np.minimum(sizes / len(images), 1.0))
    if not boxes:
        return MeanBoxes(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
    return MeanBoxes(np.concatenate(boxes), np.concatenate(labels), np.concatenate(scores))


def _groups(boxes: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The means (k, 4) of at most `count` groups, and how many boxes each has."""
    middles = boxes[:, :2] + boxes[:, 2:]
    order = np.lexsort((middles[:, 1], middles[:, 0]))
    centres = boxes[order[np.linspace(0, len(boxes) - 1, count).astype(int)]]
    nearest = np.zeros(len(boxes), int)
    for _ in range(ROUNDS):
        nearest = ((boxes[:, None] - centres) ** 2).sum(2).argmin(1)
        used = np.unique(nearest)
        centres = np.stack([boxes[nearest == group].mean(0) for group in used])
    sizes = np.bincount(((boxes[:, None] - centres) ** 2).sum(2).argmin(1), minlength=len(centres))
    return centres, sizes
