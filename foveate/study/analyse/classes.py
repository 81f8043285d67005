"""Scores of items → the intersection over union of each class, in each arm and against plain."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from foveate.items import read_items
from foveate.spec import Metric
from foveate.study.analyse.intervals import estimate, paired
from foveate.study.analyse.items import Groups, Items, item_part
from foveate.study.analyse.remade import of_sums
from foveate.study.analyse.words import short_difference
from foveate.summary import ClassFound

IOU = Metric("IoU")
INTERSECTION, UNION = "mIoU.intersection", "mIoU.union"


def by_class(
    items: Mapping[str, Mapping[int, Path]], names: Sequence[str], plain: str, groups: Groups, overlap: float = 0.0
) -> tuple[ClassFound, ...]:
    """Each class that occurs in the held-out items; () where no run has kept intersections and unions of the classes.

    Args:
        items: arm → seed → the scores of the run's items.
        names: of the classes.
        plain: label of the arm that the others are compared with.
        groups, overlap: as of the study's analysis.
    """
    read = cache(read_items)
    found = []
    for number, name in enumerate(names):
        values: dict[str, dict[int, float]] = {}
        of_items: dict[str, dict[int, Items]] = {}
        for arm, of_arm in items.items():
            for seed, path in of_arm.items():
                kept = read(path)
                sums = None if kept is None else _sums(kept[1], number, len(names))
                if kept is None or sums is None or not sums["union"].sum():
                    continue
                values.setdefault(arm, {})[seed] = float(sums["intersection"].sum() / sums["union"].sum())
                of_items.setdefault(arm, {})[seed] = (kept[0], of_sums(sums).influence())
        if not values:
            continue
        differences = {}
        for arm in values:
            if arm == plain or plain not in values:
                continue
            seeds = sorted(set(values[arm]) & set(values[plain]))
            part = (0.0, 0) if overlap else item_part(of_items[arm], of_items[plain], seeds, groups)
            compared = paired(values[arm], values[plain], IOU, item_variance=part[0], items=part[1], overlap=overlap)
            if compared is not None:
                differences[arm] = replace(compared, text=short_difference(compared, IOU))
        estimates = {arm: one for arm, scores in values.items() if (one := estimate(scores)) is not None}
        found.append(ClassFound(name, IOU, estimates, differences))
    return tuple(found)


def _sums(arrays: Mapping[str, NDArray[Any]], number: int, classes: int) -> dict[str, NDArray[Any]] | None:
    """Intersections and unions of one class (n, 1); None where the run has kept none of this number of classes."""
    if not {INTERSECTION, UNION} <= arrays.keys() or arrays[UNION].shape[1:] != (classes,):
        return None
    column = slice(number, number + 1)
    return {"intersection": arrays[INTERSECTION][:, column], "union": arrays[UNION][:, column]}
