"""Which images are used, where not all are: every class keeps its share, and the order of a listing changes nothing."""

import numpy as np
from numpy.typing import NDArray

from foveate.data.chance import mix

Indices = NDArray[np.int64]


def positions(count: int) -> NDArray[np.uint64]:
    """Keys for images whose order is fixed: 64 mixed bits of each place."""
    return mix(np.arange(count, dtype=np.uint64))


def choose(labels: Indices, keys: NDArray[np.uint64], count: int | None, *, wanted: str) -> Indices:
    """The places, ascending, of `count` images with every class in its share; a larger choice holds every smaller one.

    Args:
        labels: (n,).
        keys: (n,) what decides inside a class, such as a hash of each file's name.
        count: how many; None is all.
        wanted: name of the option, for the error.
    Raises: ValueError: more than there are, or fewer than one a class.
    """
    if count is None:
        return np.arange(len(labels))
    classes = np.unique(labels)
    if not len(classes) <= count <= len(labels):
        least = f"{len(classes):,} (one a class)"
        raise ValueError(f"wanted {wanted}={count:,}; the data allow {least} to {len(labels):,}")
    share = np.empty(len(labels))
    for label in classes:
        members = np.flatnonzero(labels == label)
        ranked = members[np.argsort(keys[members], kind="stable")]
        share[ranked] = (np.arange(len(ranked)) + 0.5) / len(ranked)
        share[ranked[0]] = 0  # the first of every class goes before all seconds
    return np.sort(np.lexsort((keys, labels, share))[:count])


def hold_out(labels: Indices, keys: NDArray[np.uint64], fraction: float) -> tuple[Indices, Indices]:
    """Places for training and for testing, ascending: of each class the fraction, at least one and not all."""
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        held[members[np.argsort(keys[members], kind="stable")][:count]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
