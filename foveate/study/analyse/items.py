"""Scores of held-out items: on how many an arm differs from another, and the items' part of the variance."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.spec import Metric
from foveate.study.analyse.inference import RESAMPLES, ROUNDING, Array, item_variance, resampled_item_variance
from foveate.study.analyse.remade import SET_LEVEL, Remade, TableReaders, Tables, of_sums
from foveate.summary import ALPHA, ItemComparison

Items = tuple[Sequence[str], NDArray[Any]]  # names and values of one run
Whole = tuple[Sequence[str], Remade]  # names and a metric of the whole set
Groups = Mapping[str, str]  # name of an item → its group (subject, recording); an item without one is its own


def of_metric(
    kept: tuple[Sequence[str], Mapping[str, NDArray[Any]]],
    metric: Metric,
    tables: Tables | None = None,
    readers: TableReaders | None = None,
) -> Items | Whole | None:
    """A metric of the whole set, made of the run's tables or sums, else its values of items; None where it has neither.

    Args:
        kept: as `foveate.items.read_items` gives it.
        tables: as `foveate.items.read_tables` gives them.
        readers: shared between metrics of the same tables.

    Raises: ValueError: if the metric names what is not there.
    """
    names, arrays = kept
    if metric.remade_by and tables:
        return names, (readers or TableReaders()).remade(metric, tables, len(names))
    start = f"{metric.name}."
    sums = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
    return (names, of_sums(sums)) if frozenset(sums) in SET_LEVEL else values_of(kept, metric)


def values_of(kept: tuple[Sequence[str], Mapping[str, NDArray[Any]]], metric: Metric) -> Items | None:
    """The metric's value of each item of a run, also where that of the whole set is no mean of them."""
    names, arrays = kept
    return (names, arrays[metric.name]) if metric.name in arrays else None


def item_part(
    ours: Mapping[int, Items | Whole], theirs: Mapping[int, Items | Whole], seeds: Sequence[int], groups: Groups
) -> tuple[float, int]:
    """The items' part of the variance of the mean difference over these seeds, and the number of items (of groups).

    (0, 0) where a seed has no scores of items, or the runs have fewer than two items in common.
    """
    if len(seeds) < 2 or any(seed not in ours or seed not in theirs for seed in seeds):
        return 0.0, 0
    runs = [arm[seed] for arm in (ours, theirs) for seed in seeds]
    if len({type(values) for _, values in runs}) > 1:
        return 0.0, 0
    common, rows = _common([names for names, _ in runs])
    n = len(seeds)
    wholes = [values for _, values in runs if isinstance(values, Remade)]
    if wholes:
        if len(common) < 2:
            return 0.0, 0
        codes = _codes(common, groups)

        def differences(weights: Array) -> Array:
            each = [whole.placed(weights, row) for whole, row in zip(wholes, rows, strict=True)]
            return np.stack([mine - other for mine, other in zip(each[:n], each[n:], strict=True)], 1)

        return resampled_item_variance(differences, len(common), codes), int(codes.max()) + 1
    table = np.array([np.asarray(values, float)[row] for (_, values), row in zip(runs, rows, strict=True)])
    table = table.reshape(2, n, len(common))
    known = np.isfinite(table).all((0, 1))
    if known.sum() < 2:
        return 0.0, 0
    codes = _codes([name for name, there in zip(common, known, strict=True) if there], groups)
    own = item_variance((table[0] - table[1])[:, known], codes if groups else None)
    return float(own), int(codes.max()) + 1


def interval_over_items(items: Items | Whole, groups: Groups) -> tuple[float, float] | None:
    """95 % interval of one run's metric over new items, from items drawn anew (percentiles, fixed random
    numbers); None for fewer than two items or groups.

    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    names, values = items
    codes = _codes(list(_places(names)), groups)
    units = int(codes.max(initial=-1)) + 1
    if units < 2:
        return None
    counts = np.random.default_rng(0).multinomial(units, np.full(units, 1 / units), size=RESAMPLES)
    weights = counts[:, codes].astype(float)
    if isinstance(values, Remade):
        found = values.value(weights)
    else:
        known = np.isfinite(values)
        total = weights[:, known].sum(1)
        found = (weights[:, known] @ values[known])[total > 0] / total[total > 0]
    found = found[np.isfinite(found)]
    if not len(found):
        return None
    low, high = np.quantile(found, [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def sampled_variance(
    ours: Mapping[int, Items | Whole], theirs: Mapping[int, Items | Whole], seeds: Sequence[int], groups: Groups
) -> float | None:
    """Variance of one seed's difference by the draw of its test items, mean over seeds; None where it is not known."""
    found = []
    for seed in seeds:
        mine, other = (_by_name(arm[seed]) if seed in arm else {} for arm in (ours, theirs))
        names = [name for name in mine if name in other]
        gains = np.array([mine[name] - other[name] for name in names])
        known = np.isfinite(gains)
        if known.sum() < 2:
            return None
        codes = _codes([name for name, there in zip(names, known, strict=True) if there], groups)
        sums = np.bincount(codes, gains[known] - gains[known].mean())
        if len(sums) < 2:
            return None
        found.append(len(sums) / (len(sums) - 1) * float((sums**2).sum()) / int(known.sum()) ** 2)
    return float(np.mean(found)) if found else None


def shared_values(runs: Sequence[Items | Whole | None], groups: Groups) -> tuple[Array, int] | None:
    """What is left of the items' values beside each run's mean, summed over groups, (runs, groups), and the number of
    items; None where a run has no values of its own items, or they have fewer than two items in common."""
    tables = [_by_name(items) if items is not None else {} for items in runs]
    names = sorted(set.intersection(*map(set, tables))) if tables else []
    values = np.array([[table[name] for name in names] for table in tables], dtype=float)
    known = np.isfinite(values).all(0)
    if known.sum() < 2:
        return None
    codes = _codes([name for name, there in zip(names, known, strict=True) if there], groups)
    values = values[:, known] - values[:, known].mean(1, keepdims=True)
    summed = np.zeros((len(values), int(codes.max()) + 1))
    np.add.at(summed.T, codes, values.T)
    return summed, int(known.sum())


def _codes(names: Sequence[tuple[str, int]], groups: Groups) -> NDArray[np.int64]:
    labels = [("group", groups[name], 0) if name in groups else ("item", name, number) for name, number in names]
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return np.array([numbers[label] for label in labels])


def compare_items(ours: Mapping[int, Items], theirs: Mapping[int, Items], metric: Metric) -> ItemComparison | None:
    """Item by item over the seeds that both arms have and the items that all of these have; None where there are none.

    An item's value is its mean over seeds; values that are no finite number leave the item out.
    """
    seeds = tuple(sorted(set(ours) & set(theirs)))
    runs = [arm[seed] for arm in (ours, theirs) for seed in seeds]
    names, rows = _common([of_run for of_run, _ in runs])
    if not names:
        return None
    values = np.array([np.asarray(_each(one), float)[row] for (_, one), row in zip(runs, rows, strict=True)])
    mine, other = values[: len(seeds)].mean(0), values[len(seeds) :].mean(0)
    known = np.isfinite(mine) & np.isfinite(other)
    gain = np.array([metric.gain(a, b) for a, b in zip(mine[known], other[known], strict=True)])
    near = np.abs(gain) <= ROUNDING * np.maximum(np.abs(mine[known]), np.abs(other[known]))
    better, worse = int((~near & (gain > 0)).sum()), int((~near & (gain < 0)).sum())
    return ItemComparison(int(known.sum()), seeds, better, worse, int(near.sum())) if known.any() else None


def _each(values: Any) -> Any:
    """A value for each item, of the metrics of the whole set its influence."""
    return values.influence() if isinstance(values, Remade) else values


def _by_name(items: Items | Whole) -> dict[tuple[str, int], float]:
    names, values = items
    found = _each(values)
    return {name: float(found[place]) for name, place in _places(names).items()}


def _common(runs: Sequence[Sequence[str]]) -> tuple[list[tuple[str, int]], list[NDArray[np.int64]]]:
    """The items that all runs have, and for each run their places; most runs have the same names."""
    distinct = {id(names): names for names in runs}  # files of equal names give one tuple
    places = {number: _places(names) for number, names in distinct.items()}
    common = sorted(set.intersection(*map(set, places.values()))) if places else []
    rows = {number: np.array([of_run[name] for name in common], np.int64) for number, of_run in places.items()}
    return common, [rows[id(names)] for names in runs]


def _places(names: Sequence[str]) -> dict[tuple[str, int], int]:
    """(name, how often it came before) → its place, so that names which repeat stay apart."""
    seen: dict[str, int] = {}
    places = {}
    for place, name in enumerate(names):
        number = seen[name] = seen.get(name, -1) + 1
        places[name, number] = place
    return places
