"""Another division of a data set into training and test items, drawn from both of its parts together."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.data.augmentation import mix
from foveate.data.dataset import Batch, Dataset, Split
from foveate.data.in_memory import InMemory
from foveate.data.subset import hold_out, positions, together


class Part(Split):
    """Some items of one or two splits: numbers below the first one's length are its items, then the other's."""

    def __init__(
        self,
        splits: Sequence[Split],
        places: NDArray[np.int64],
        prefixes: Sequence[str],
        copies: NDArray[np.int64] | None,
    ) -> None:
        self.splits, self.places, self.prefixes = splits, places, prefixes
        self.strata = _of_both(splits, "strata", places)
        self.groups = _of_both(splits, "groups", places)
        self.pixels, self.positions = (_of_both(splits, name, places) for name in ("pixels", "positions"))
        self.shapes = _shapes_of_both(splits, places)
        self.contents_alike = None if copies is None else copies[places]
        self.levels = splits[-1].levels  # all splits of a set have the same
        known = [split.annotations for split in splits if split.annotations is not None]
        if len(known) == len(splits):
            whole = [one for of_split in known for one in of_split]
            self.annotations = [whole[place] for place in places]

    def __len__(self) -> int:
        return len(self.places)

    def name_of(self, item: int) -> str:
        which, number = self._place(int(self.places[item]))
        return f"{self.prefixes[which]}{self.splits[which].name_of(number)}"

    def _place(self, place: int) -> tuple[int, int]:
        first = len(self.splits[0])
        return (0, place) if place < first else (1, place - first)

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        wanted = self.checked(items)
        found = [self._place(place) for place in self.places[wanted].tolist()]
        batches, order = [], []
        for which, split in enumerate(self.splits):
            rows = [row for row, (part, _) in enumerate(found) if part == which]
            if rows:
                batches.append(split.batch([found[row][1] for row in rows], augment))
                order += rows
        back = torch.from_numpy(np.argsort(order))
        inputs = _joined([batch.inputs for batch in batches], back)
        return Batch(inputs, _joined([batch.targets for batch in batches], back), torch.from_numpy(wanted))


def _joined(values: Sequence[Any], order: Tensor) -> Any:
    """The batches' tensors, or lists with an entry a sample, one after another, then in this order."""
    first = values[0]
    if isinstance(first, list):
        whole = [entry for value in values for entry in value]
        return [whole[place] for place in order.tolist()]
    if isinstance(first, Tensor):
        return torch.cat(list(values))[order]
    if isinstance(first, Mapping):
        return {key: _joined([value[key] for value in values], order) for key in first}
    return tuple(_joined(entries, order) for entries in zip(*values, strict=True))


def resplit(data: Dataset, draw: int) -> Dataset:
    """The set divided anew: of each class as large a share for testing as before; copies of one item, and items of one
    group, stay on one side.

    draw: which division; the same number is the same division.

    Raises: ValueError: if the set's parts cannot be pooled, or all items of a class belong together.
    """
    if data.fixed_parts or not (len(data.train) and len(data.test)):
        why = data.fixed_parts or "it has no items"
        raise ValueError(f"resplit: {data.name} cannot be divided anew: {why}")
    splits = (data.train, data.test)
    count = len(data.train) + len(data.test)
    everything = np.arange(count)
    strata = _of_both(splits, "strata", everything)
    keys = mix(positions(count) ^ mix(np.full(1, draw, np.uint64)))
    copies = copies_in(splits)
    groups = _of_both(splits, "groups", everything)
    belonging = together(everything if copies is None else copies, groups)
    alike = "copies of one item" if groups is None else "items of one group"
    labels = [target.names for target in data.targets.values() if target.kind == "class"]
    names = labels[0] if len(labels) == 1 and strata is not None else None
    if strata is None:
        strata = np.zeros(count, np.int64)
    try:
        train, test = hold_out(strata, keys, len(data.test) / count, belonging, names=names, alike=alike)
    except ValueError as error:
        raise ValueError(f"resplit: {data.name}: {error}") from None
    same = len({split.name_of(0) for split in splits}) == 1
    prefixes = ("train ", "test ") if same else ("", "")
    parts = (Part(splits, places, prefixes, copies) for places in (train, test))
    return replace(data, train=next(parts), test=next(parts))


def _of_both(splits: Sequence[Split], name: str, places: NDArray[np.int64]) -> Any:
    values = [getattr(split, name) for split in splits]
    return None if any(value is None for value in values) else np.concatenate(values)[places]


def _shapes_of_both(splits: Sequence[Split], places: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Those of the second split are other numbers than those of the first."""
    if all(split.shapes is None for split in splits):
        return None
    numbers: list[NDArray[np.int64]] = []
    for split in splits:
        own = np.zeros(len(split), np.int64) if split.shapes is None else split.shapes
        numbers.append(own + sum(int(before.max(initial=-1)) + 1 for before in numbers[-1:]))
    return np.concatenate(numbers)[places]


def copies_in(splits: Sequence[Split]) -> NDArray[np.int64] | None:
    """Numbers of the items' contents, split after split: equal for copies; None where they are not known."""
    numbers = [split.contents_alike for split in splits if split.contents_alike is not None]
    if len(numbers) == len(splits):
        return np.concatenate(numbers)
    arrays = [split.inputs for split in splits if isinstance(split, InMemory)]
    if len(arrays) < len(splits):
        return None
    digests = [hashlib.blake2b(sample.tobytes(), digest_size=8).digest() for array in arrays for sample in array]
    return np.unique(np.frombuffer(b"".join(digests), np.uint64), return_inverse=True)[1].astype(np.int64)
