"""Kind "shuffled_labels": a set whose training labels, or a share of them, are mixed, to be learned by heart alone."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from foveate.data.dataset import Batch, Dataset, Progress, Split, opener_of, register_data
from foveate.spec import EMBEDDED, DataSpec


@register_data("shuffled_labels", tasks=("classification",))
def open_shuffled_labels(
    spec: DataSpec,
    *,
    progress: Progress | None = None,
    form: str = EMBEDDED,
    seed: int = 0,
    share: float = 1.0,
    **options: Any,
) -> Dataset:
    """Another kind's set with the classes of its training items permuted; the test part is as it was.

    Source: Zhang, Bengio, Hardt, Recht, Vinyals, "Understanding Deep Learning Requires Rethinking Generalization", ICLR
    2017, arXiv:1611.03530.

    Args:
        form: the kind of data that is opened.
        seed: of the permutation.
        share: of the training items whose classes are permuted among themselves; of 10 classes a tenth of those stay
            right by chance.
        options: of that kind.

    Raises: LookupError, TypeError, ValueError: as of that kind. ValueError: it has no class of each item, or the share
        is not above 0 and at most 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"kind of data 'shuffled_labels': wanted a seed of at least 0; got {seed!r}")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ValueError(f"kind of data 'shuffled_labels': wanted a share above 0 and at most 1; got {share!r}")
    inner = spec.model_copy(update={"kind": form, "options": options})
    found = opener_of(inner)(inner, progress=progress, **options)
    label = found.targets.get("label")
    if label is None or label.kind != "class" or found.train.strata is None:
        raise ValueError(f"kind of data 'shuffled_labels': wanted a set with a class of each item; {form!r} has none")
    many = "" if share == 1 else f"{100 * share:g} % of "
    return dataclasses.replace(
        found,
        train=ShuffledLabels(found.train, seed, share),
        notes=(*found.notes, f"the labels of {many}the training items are mixed (seed {seed})"),
    )


class ShuffledLabels(Split):
    """The items of a split, a share of them with each other's labels."""

    def __init__(self, inner: Split, seed: int, share: float) -> None:
        assert inner.strata is not None
        self.inner = inner
        generator = np.random.Generator(np.random.PCG64(seed))
        order = generator.permutation(len(inner))
        if share < 1:
            mixed = np.sort(order[: round(share * len(inner))])
            order = np.arange(len(inner))
            order[mixed] = generator.permutation(mixed)
        self.labels = self.strata = inner.strata[order]
        self.groups, self.contents_alike, self.levels = inner.groups, inner.contents_alike, inner.levels

    def __len__(self) -> int:
        return len(self.inner)

    def name_of(self, item: int) -> str:
        return self.inner.name_of(item)

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        found = self.inner.batch(items, augment)
        labels = torch.from_numpy(self.labels[self.checked(items)])
        return Batch(found.inputs, {**found.targets, "label": labels}, found.items)
