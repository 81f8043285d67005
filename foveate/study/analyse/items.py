"""Scores of held-out items: on how many an arm is better than plain, worse or equal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.items import read_items
from foveate.spec import Metric
from foveate.study.analyse.intervals import ROUNDING
from foveate.summary import ItemComparison

Items = tuple[Sequence[str], NDArray[Any]]  # names and values of one run


def values_of(source: Path | Items, metric: Metric) -> Items | None:
    """Names and values of a run's items; None where the file is missing or has no such values.

    Metrics of the whole set, such as mIoU, have none.

    Raises: ValueError: the file is damaged.
    """
    if not isinstance(source, (str, Path)):
        return source
    found = read_items(Path(source))
    if found is None or metric.name not in found[1]:
        return None
    return found[0], found[1][metric.name]


def compare_items(ours: Mapping[int, Items], theirs: Mapping[int, Items], metric: Metric) -> ItemComparison | None:
    """Item by item over the seeds that both arms have and the items that all of these have; None where there are none.

    An item's value is its mean over seeds; values that are no finite number leave the item out.
    """
    seeds = tuple(sorted(set(ours) & set(theirs)))
    tables = [_by_name(source) for arm in (ours, theirs) for source in (arm[seed] for seed in seeds)]
    names = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    if not names:
        return None
    values = np.array([[table[name] for name in names] for table in tables], dtype=float)
    mine, other = values[: len(seeds)].mean(0), values[len(seeds) :].mean(0)
    known = np.isfinite(mine) & np.isfinite(other)
    gain = np.array([metric.gain(a, b) for a, b in zip(mine[known], other[known], strict=True)])
    near = np.abs(gain) <= ROUNDING * np.maximum(np.abs(mine[known]), np.abs(other[known]))
    better, worse = int((~near & (gain > 0)).sum()), int((~near & (gain < 0)).sum())
    return ItemComparison(int(known.sum()), seeds, better, worse, int(near.sum())) if known.any() else None


def _by_name(items: Items) -> dict[tuple[str, int], float]:
    """(name, how often it came before) → value, so that names which repeat stay apart."""
    seen: dict[str, int] = {}
    table = {}
    for name, value in zip(*items, strict=True):
        number = seen[name] = seen.get(name, -1) + 1
        table[name, number] = float(value)
    return table
