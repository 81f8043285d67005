"""Scores of items → what is found of each class, in each arm and against plain: intersection over union, or recall."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.items import ANSWERS, read_items, read_tables
from foveate.spec import Metric
from foveate.study.analyse.intervals import estimate, paired
from foveate.study.analyse.items import Groups, Items, item_part
from foveate.study.analyse.remade import of_sums
from foveate.study.analyse.words import short_difference
from foveate.summary import ClassFound

IOU, RECALL = Metric("IoU"), Metric("recall")
INTERSECTION, UNION = "mIoU.intersection", "mIoU.union"


def by_class(
    items: Mapping[str, Mapping[int, Path | str]],
    names: Sequence[str],
    plain: str,
    groups: Groups,
    overlap: float = 0.0,
) -> tuple[ClassFound, ...]:
    """Each class that occurs in the held-out items; () where no run has kept intersections and unions of the classes,
    nor, of a classification, the answers.

    Args:
        items: arm → seed → the scores of the run's items.
        names: of the classes.
        plain: label of the arm that the others are compared with.
        groups, overlap: as of the study's analysis.
    """
    read = cache(partial(_of_run, classes=len(names)))
    found = []
    for number, name in enumerate(names):
        values: dict[str, dict[int, float]] = {}
        of_items: dict[str, dict[int, Items]] = {}
        metric = IOU
        for arm, of_arm in items.items():
            for seed, path in of_arm.items():
                kept = read(path)
                of_class = None if kept is None else kept.of(number)
                if kept is None or of_class is None:
                    continue
                metric = kept.metric
                values.setdefault(arm, {})[seed], of_items.setdefault(arm, {})[seed] = of_class
        if not values:
            continue
        differences = {}
        for arm in values:
            if arm == plain or plain not in values:
                continue
            seeds = sorted(set(values[arm]) & set(values[plain]))
            part = (0.0, 0) if overlap else item_part(of_items[arm], of_items[plain], seeds, groups)
            compared = paired(values[arm], values[plain], metric, item_variance=part[0], items=part[1], overlap=overlap)
            if compared is not None:
                differences[arm] = replace(compared, text=short_difference(compared, metric))
        estimates = {arm: one for arm, scores in values.items() if (one := estimate(scores)) is not None}
        found.append(ClassFound(name, metric, estimates, differences))
    return tuple(found)


@dataclass(frozen=True)
class _Kept:
    """What a run kept of the classes: sums of each item, or the true and the predicted class of each."""

    names: Sequence[str]
    intersection: NDArray[Any] | None = None
    union: NDArray[Any] | None = None
    true: NDArray[Any] | None = None
    predicted: NDArray[Any] | None = None

    @property
    def metric(self) -> Metric:
        return RECALL if self.union is None else IOU

    def of(self, number: int) -> tuple[float, Items] | None:
        """The value of one class, and each item's part in it; None where the class does not occur."""
        if self.intersection is not None and self.union is not None:
            column = slice(number, number + 1)
            sums = {"intersection": self.intersection[:, column], "union": self.union[:, column]}
            if not sums["union"].sum():
                return None
            return float(sums["intersection"].sum() / sums["union"].sum()), (self.names, of_sums(sums).influence())
        assert self.true is not None
        assert self.predicted is not None
        own = np.flatnonzero(self.true == number)
        if not len(own):
            return None
        right = (self.predicted[own] == number).astype(float)
        return float(right.mean()), ([self.names[int(place)] for place in own], right)


def _of_run(path: Path | str, classes: int) -> _Kept | None:
    """None where the run has kept nothing of this number of classes."""
    kept = read_items(path)
    if kept is None:
        return None
    names, arrays = kept
    if {INTERSECTION, UNION} <= arrays.keys():
        fits = arrays[UNION].shape[1:] == (classes,)
        return _Kept(names, arrays[INTERSECTION], arrays[UNION]) if fits else None
    answers = read_tables(path).get(ANSWERS)
    if answers is None:
        return None
    whose = [names[item] for item in answers["item"]]
    return _Kept(whose, true=answers["true"], predicted=answers["predicted"])
