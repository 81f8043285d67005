"""Which items are used, where not all are: every class keeps its share, and the order of a listing changes nothing."""

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
) -> tuple[Indices, Indices]:
    """Places for training and those held out, ascending: of each class the fraction, at least one and not all.

    Args:
        strata: (n,) class of each item.
        keys: (n,) what decides inside a class.
        fraction: of the items, held out.
        groups: (n,) items of one number stay on one side, as copies of one photo must; None: each alone.
        names: of the classes, for the error.
        purpose: what for, for the error.

    Raises: ValueError: if all items of a class are one group.
    """
    groups = np.arange(len(strata)) if groups is None else groups
    tested = np.zeros(len(strata), bool)
    for label in np.unique(strata):
        members = np.flatnonzero(strata == label)
        ranked = members[np.argsort(keys[members], kind="stable")]
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        together: dict[int, list[int]] = {}
        for item in ranked.tolist():
            together.setdefault(int(groups[item]), []).append(item)
        if len(together) < 2:
            named = label if names is None else repr(names[label])
            got = "1 item, too few" if len(members) == 1 else f"{len(members)} copies of one item, nothing"
            raise ValueError(f"class {named} has {got} to hold out for {purpose}; wanted at least 2 that differ")
        taken = 0
        for group in together.values():
            if taken + len(group) <= count:
                tested[group] = True
                taken += len(group)
        if not taken:  # every group is larger than the share
            tested[min(together.values(), key=len)] = True
    return np.flatnonzero(~tested), np.flatnonzero(tested)
