"""Which items are used, where not all are: every class keeps its share, and the order of a listing changes nothing."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveate.data.augmentation import mix

Indices = NDArray[np.int64]


def positions(count: int) -> NDArray[np.uint64]:
    """Keys for items whose order is fixed: 64 mixed bits of each place."""
    return mix(np.arange(count, dtype=np.uint64))


def choose(strata: Indices | None, keys: NDArray[np.uint64], count: int | None, *, wanted: str) -> Indices:
    """The places, ascending, of `count` items with every class in its share; a larger choice holds every smaller one.

    Args:
        strata: (n,) class of each item; None: there are none.
        keys: (n,) what decides inside a class, such as a hash of each file's name.
        count: how many; None is all.
        wanted: name of the option, for the error.
    Raises: ValueError: if there are fewer, or more classes than that.
    """
    if count is None:
        return np.arange(len(keys))
    if strata is None:
        strata = np.zeros(len(keys), np.int64)
    classes = np.unique(strata)
    if not len(classes) <= count <= len(strata):
        least = f"{len(classes):,}" + " (one a class)" * (len(classes) > 1)
        raise ValueError(f"wanted {wanted}={count:,}; the data allow {least} to {len(strata):,}")
    share = np.empty(len(strata))
    for label in classes:
        members = np.flatnonzero(strata == label)
        ranked = members[np.argsort(keys[members], kind="stable")]
        share[ranked] = (np.arange(len(ranked)) + 0.5) / len(ranked)
        share[ranked[0]] = 0  # the first of every class goes before all seconds
    return np.sort(np.lexsort((keys, strata, share))[:count])


def hold_out(
    strata: Indices,
    keys: NDArray[np.uint64],
    fraction: float,
    groups: Indices | None = None,
    *,
    names: Sequence[str] | None = None,
    purpose: str = "testing",
    alike: str = "copies of one item",
) -> tuple[Indices, Indices]:
    """Places for training and those held out, ascending: of each class the fraction, at least one and not all.

    Args:
        strata: (n,) class of each item.
        keys: (n,) what decides inside a class.
        fraction: of the items, held out.
        groups: (n,) items of one number stay on one side, as copies of one photo must, also where they are of several
            classes; None: each alone.
        names: of the classes, alike: what items of one group are, and purpose: what for, for the error.

    Raises: ValueError: if all items of a class are one group.
    """
    groups = np.arange(len(strata)) if groups is None else groups
    members_of: dict[int, list[int]] = {}
    for item, group in enumerate(groups.tolist()):
        members_of.setdefault(group, []).append(item)
    tested = np.zeros(len(strata), bool)
    sizes = {label: int(count) for label, count in zip(*np.unique(strata, return_counts=True), strict=True)}
    room = {label: min(max(round(fraction * size), 1), size - 1) for label, size in sizes.items()}
    decided: set[int] = set()

    def take(group: int) -> None:
        tested[members_of[group]] = True
        for item in members_of[group]:
            room[strata[item]] -= 1

    for label in sizes:
        members = np.flatnonzero(strata == label)
        ranked = members[np.argsort(keys[members], kind="stable")]
        together = list(dict.fromkeys(groups[ranked].tolist()))
        if len(together) < 2:
            one = f"class {label if names is None else repr(names[label])}" if len(sizes) > 1 or names else "the set"
            got = "1 item, too few" if len(members) == 1 else f"{len(members)} {alike}, nothing"
            raise ValueError(f"{one} has {got} to hold out for {purpose}; wanted at least 2 that differ")
        for group in together:
            if group not in decided:
                decided.add(group)
                counts = Counter(strata[members_of[group]].tolist())
                if all(count <= room[other] for other, count in counts.items()):
                    take(group)
        if not tested[members].any():  # every group is larger than the share
            take(min(together, key=lambda group: len(members_of[group])))
    return np.flatnonzero(~tested), np.flatnonzero(tested)


def together(copies: Indices, groups: NDArray[np.str_] | None) -> Indices:
    """One number for all items that stay on one side: copies of one another, items of one group, and both in turn.

    copies: (n,) equal for copies. groups: (n,) what each item belongs to; None: each stands alone.
    """
    _, numbers = np.unique(copies, return_inverse=True)
    if groups is None:
        return numbers
    _, codes = np.unique(groups, return_inverse=True)
    while True:  # the least number is passed on until none changes
        passed = _least(_least(numbers, codes), numbers)
        if np.array_equal(passed, numbers):
            return numbers
        numbers = passed


def _least(numbers: Indices, codes: Indices) -> Indices:
    """For each item the least number among those of its code."""
    least = np.full(int(codes.max()) + 1, len(numbers))
    np.minimum.at(least, codes, numbers)
    return least[codes]
