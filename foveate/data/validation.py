"""The validation part: what training is stopped by and values are chosen on, so that the test part decides nothing."""

import dataclasses
import hashlib

import numpy as np
from numpy.typing import NDArray

from foveate.data.dataset import Dataset, Split
from foveate.data.resplit import Part, copies_in
from foveate.data.subset import hold_out, together


def with_validation(data: Dataset, fraction: float | None) -> Dataset:
    """The data set with a validation part: its own, else this fraction of each class of the training part (None: none).

    Which items are taken depends on their names alone, so every run of a study has the same ones. Copies of one
    item, and items of one group, stay on one side.

    Raises: ValueError: if a validation part has no item at all or none of a class, or the training part has too few
        items of a class to take some out.
    """
    if data.validation is None and fraction is not None:
        data = _divided(data, fraction)
    if data.validation is not None:
        _check(data, data.validation)
    return data


def _divided(data: Dataset, fraction: float) -> Dataset:
    whole, count = data.train, len(data.train)
    if count < 2:
        raise ValueError(f"{data.name}: wanted 2 or more training items to take a validation part from; got {count}")
    strata = np.zeros(count, np.int64) if whole.strata is None else whole.strata
    copies = copies_in((whole,))
    belonging = together(np.arange(count) if copies is None else copies, whole.groups)
    alike = "copies of one item" if whole.groups is None else "items of one group"
    names = _class_names(data) if whole.strata is not None else None
    try:
        train, held = hold_out(
            strata, _keys(whole), fraction, belonging, names=names, alike=alike, purpose="validation"
        )
    except ValueError as error:
        raise ValueError(f"{data.name}: {error}") from None
    note = f"{len(held):,} of the {count:,} training items are the validation part and are not trained on"
    taken = [Part((whole,), places, ("",), copies) for places in (train, held)]
    return dataclasses.replace(data, train=taken[0], validation=taken[1], notes=(*data.notes, note))


def _check(data: Dataset, part: Split) -> None:
    if not len(part):
        raise ValueError(f"{data.name}: wanted items in the validation part; got none")
    if part.strata is None or data.train.strata is None:
        return
    missing = sorted(set(np.unique(data.train.strata).tolist()) - set(np.unique(part.strata).tolist()))
    if missing:
        names = _class_names(data)
        named = ", ".join(repr(names[one]) if names else str(one) for one in missing[:5])
        raise ValueError(
            f"{data.name}: the validation part has no item of the class{'es' * (len(missing) > 1)} {named}"
            f"{', …' * (len(missing) > 5)} that the training part has"
        )


def _class_names(data: Dataset) -> tuple[str, ...] | None:
    """Of the classes that the strata are; None where the data have several targets of classes, or none."""
    found = [target.names for target in data.targets.values() if target.kind == "class"]
    return found[0] if len(found) == 1 and found[0] else None


def _keys(split: Split) -> NDArray[np.uint64]:
    """64 bits of each item's name: the same on any machine."""
    names = (split.name_of(item).encode(errors="replace") for item in range(len(split)))
    return np.array([int.from_bytes(hashlib.sha256(name).digest()[:8]) for name in names], np.uint64)
