"""Metrics of the whole set that are made again of the tables a run keeps, with its items weighted: average precision."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.detections import Matches
from foveate.registry import is_file_reference, read_from_file
from foveate.spec import Metric
from foveate.study.analyse.inference import RESAMPLES, Array

Tables = Mapping[str, Mapping[str, NDArray[Any]]]  # as `foveate.items.read_tables` gives them
Reader = Callable[[Tables, int], Callable[[str], Callable[[Array], Array]]]  # tables and number of items → figure → …
MOST_LEFT_OUT = 2000  # items that are left out one after another
READERS: dict[str, Reader] = {
    "detections": lambda tables, items: Matches(tables["detections"], tables["boxes"], items).figure,
}


@dataclass(frozen=True)
class Remade:
    """A metric of one run of n items.

    Attributes:
        value: weights (B, n) → (B,), the metric where each item is in the set that often.
        items: n.
    """

    value: Callable[[Array], Array]
    items: int

    def placed(self, weights: Array, rows: list[int]) -> Array:
        """The metric where the items of these places have the weights (B, places) and all others none."""
        whole = np.zeros((len(weights), self.items))
        whole[:, rows] = weights
        return np.asarray(self.value(whole), float)

    def pseudo_values(self) -> Array | None:
        """(n,) values whose mean is about the metric and that vary as it does with the items; None of too many items.

        Source: J. Tukey, Bias and Confidence in Not Quite Large Samples, Ann. Math. Stat. 29 (1958): the jackknife.
        """
        n = self.items
        if not 1 < n <= MOST_LEFT_OUT:
            return None
        whole, without = self.value(np.ones((1, n))), self.value(1 - np.eye(n))
        return np.asarray(n * whole - (n - 1) * without, float)


class Remakers:
    """The readers of the tables of each run, made once for all metrics."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, str], tuple[Tables, Any]] = {}

    def remade(self, metric: Metric, tables: Tables, items: int) -> Remade | None:
        """The metric of a run; None where it is not made of tables, or the run kept none.

        Raises: ValueError: if the metric names a reader or a figure that is not there.
        """
        if not metric.remade_by or not tables:
            return None
        if is_file_reference(metric.remade_by):
            return Remade(read_from_file(metric.remade_by, "a function")(tables, items), items)
        name, _, what = metric.remade_by.partition(":")
        if name not in READERS:
            raise ValueError(f"metric {metric.name!r}: nothing is called {name!r} that makes it again")
        key = id(tables), name
        if key not in self._made:
            self._made[key] = tables, READERS[name](tables, items)  # the tables are kept, and so is their id
        return Remade(self._made[key][1](what), items)


def sampled_difference(mine: Remade, other: Remade, rows: tuple[list[int], list[int]], codes: NDArray[np.int64]) -> float | None:
    """Variance of one seed's difference by the draw of its items, by a bootstrap of them (of groups, by their codes)."""
    units = int(codes.max()) + 1
    if units < 2:
        return None
    counts = np.random.default_rng(0).multinomial(units, np.full(units, 1 / units), size=RESAMPLES)
    weights = counts[:, codes].astype(float)
    found = mine.placed(weights, rows[0]) - other.placed(weights, rows[1])
    found = found[np.isfinite(found)]
    return float(found.var(ddof=1)) * units / (units - 1) if len(found) > 1 else None
