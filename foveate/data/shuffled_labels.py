"""Kind "shuffled_labels": a set whose training labels are mixed, so that a network can only learn them by heart."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from foveate.data.dataset import Batch, Dataset, Progress, Split, opener_of, register_data
from foveate.spec import EMBEDDED, DataSpec


@register_data("shuffled_labels", tasks=("classification",))
def open_shuffled_labels(
    spec: DataSpec, *, progress: Progress | None = None, form: str = EMBEDDED, seed: int = 0, **options: Any
) -> Dataset:
    """Another kind's set with the classes of its training items permuted; the test part is as it was.

    Source: Zhang, Bengio, Hardt, Recht, Vinyals, "Understanding Deep Learning Requires Rethinking Generalization", ICLR
    2017, arXiv:1611.03530.

    Args:
        form: the kind of data that is opened.
        seed: of the permutation.
        options: of that kind.

    Raises: LookupError, TypeError, ValueError: as of that kind. ValueError: it has no class of each item.
    """
    inner = spec.model_copy(update={"kind": form, "options": options})
    found = opener_of(inner)(inner, progress=progress, **options)
    label = found.targets.get("label")
    if label is None or label.kind != "class" or found.train.strata is None:
        raise ValueError(f"kind of data 'shuffled_labels': wanted a set with a class of each item; {form!r} has none")
    return dataclasses.replace(
        found,
        train=ShuffledLabels(found.train, seed),
        notes=(*found.notes, f"the labels of the training items are mixed (seed {seed})"),
    )


class ShuffledLabels(Split):
    """The items of a split with each other's labels."""

    def __init__(self, inner: Split, seed: int) -> None:
        assert inner.strata is not None
        self.inner = inner
        self.labels = self.strata = inner.strata[np.random.Generator(np.random.PCG64(seed)).permutation(len(inner))]
        self.groups, self.contents_alike, self.levels = inner.groups, inner.contents_alike, inner.levels

    def __len__(self) -> int:
        return len(self.inner)

    def name_of(self, item: int) -> str:
        return self.inner.name_of(item)

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        found = self.inner.batch(items, augment)
        labels = torch.from_numpy(self.labels[self.checked(items)])
        return Batch(found.inputs, {**found.targets, "label": labels}, found.items)
