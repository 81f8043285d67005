"""Metrics of the whole set that are no mean over items, made again with the items weighted: of sums, as mIoU, or of
tables that a run keeps, as average precision."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.detections import Matches
from foveate.registry import is_file_reference, nearest, read_from_file
from foveate.spec import Metric
from foveate.study.analyse.inference import Array

Tables = Mapping[str, Mapping[str, NDArray[Any]]]  # as `foveate.items.read_tables` gives them
Figure = Callable[[Array], Array]  # weights (B, items) → (B,)
STEP = 1e-6  # of an item's part of the weight, for its influence
BLOCK = 256  # items that are left out in one go, each in turn


def mean_iou(sums: Mapping[str, Array]) -> Array:
    """Mean over the classes (last axis) with a union of the intersection over the union."""
    return _mean_ratio(sums["intersection"], sums["union"])


def mean_dice(sums: Mapping[str, Array]) -> Array:
    """Mean over the classes (last axis) that are in either mask of twice the intersection over the sum of both."""
    return _mean_ratio(2 * sums["intersection"], sums["sizes"])


def share(sums: Mapping[str, Array]) -> Array:
    """Positions that are right over those that are known."""
    return _mean_ratio(sums["right"][..., None], sums["known"][..., None])


def mean(sums: Mapping[str, Array]) -> Array:
    """A total over the number of what it is a total of."""
    return _mean_ratio(sums["total"][..., None], sums["count"][..., None])


def root_mean_square(sums: Mapping[str, Array]) -> Array:
    """The root of a sum of squares over their number."""
    return np.sqrt(_mean_ratio(sums["squares"][..., None], sums["count"][..., None]))


def _mean_ratio(above: Array, below: Array) -> Array:
    there = below > 0
    ratio = np.where(there, above / np.where(there, below, 1), 0.0)
    with np.errstate(invalid="ignore"):
        return np.asarray(ratio.sum(-1) / there.sum(-1))


SET_LEVEL: dict[frozenset[str], Callable[[Mapping[str, Array]], Array]] = {
    frozenset({"intersection", "union"}): mean_iou,
    frozenset({"intersection", "sizes"}): mean_dice,
    frozenset({"right", "known"}): share,
    frozenset({"total", "count"}): mean,
    frozenset({"squares", "count"}): root_mean_square,
}  # what a metric is made of → how


READERS: dict[str, Callable[[Tables, int], Callable[[str], Figure]]] = {
    "detections": lambda tables, items: Matches(tables["detections"], tables["boxes"], items).figure,
}  # what begins a metric's `remade_by` → tables and number of items → what follows it → how


@dataclass(frozen=True)
class Remade:
    """A metric of one run of n items.

    Attributes:
        value: weights (B, n) → (B,), the metric where each item is in the set that often.
        items: n.
        sums: (n, …) each, of a metric that is made of sums.
    """

    value: Figure
    items: int
    sums: Mapping[str, NDArray[Any]] | None = None

    def placed(self, weights: Array, rows: NDArray[np.int64]) -> Array:
        """The metric where the items of these places have the weights (B, places) and all others none."""
        whole = np.zeros((len(weights), self.items))
        whole[:, rows] = weights
        return np.asarray(self.value(whole), float)

    def influence(self) -> Array:
        """Values of the items (n,) whose mean is about the metric, and that vary as it does with the items.

        The metric plus each item's influence on it: how much it moves for each part of the set's weight given to the
        item; of a metric that is no smooth function of sums, how much it moves without the item.

        Source: B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982 (the infinitesimal jackknife,
        the jackknife).
        """
        n = self.items
        if self.sums is None:
            whole = self.value(np.ones((1, n)))
            left_out = [1 - np.eye(min(BLOCK, n - start), n, start) for start in range(0, n, BLOCK)]
            return np.asarray(whole + (n - 1) * (whole - np.concatenate([self.value(one) for one in left_out])))
        value = SET_LEVEL[frozenset(self.sums)]
        totals = {kind: array.sum(0, dtype=float) for kind, array in self.sums.items()}
        moved = value({kind: (1 - STEP) * totals[kind] + STEP * n * array for kind, array in self.sums.items()})
        whole = value(totals)
        return np.asarray(whole + (moved - whole) / STEP)


def of_sums(sums: Mapping[str, NDArray[Any]]) -> Remade:
    """The metric that is made of these sums, (n, …) each. Raises: KeyError: if none is."""
    value = SET_LEVEL[frozenset(sums)]
    items = len(next(iter(sums.values())))
    return Remade(lambda weights: value({kind: weights @ array for kind, array in sums.items()}), items, sums)


class TableReaders:
    """Metrics of the tables of each run; what reads them is made once for all metrics."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, str], tuple[Tables, Callable[[str], Figure]]] = {}

    def remade(self, metric: Metric, tables: Tables, items: int) -> Remade:
        """The metric of a run. Raises: ValueError: if it names what is not there."""
        if is_file_reference(metric.remade_by):
            return Remade(read_from_file(metric.remade_by, "a function")(tables, items), items)
        name, _, what = metric.remade_by.partition(":")
        if name not in READERS:
            raise ValueError(
                f"metric {metric.name!r}: nothing called {name!r} makes it again; {nearest(name, READERS)}"
            )
        key = id(tables), name
        if key not in self._made:
            self._made[key] = tables, READERS[name](tables, items)  # the tables are kept, so that their id is theirs
        return Remade(self._made[key][1](what), items)
