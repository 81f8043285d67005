"""Images as a test set for a trained classifier: which output each class is, and the network's preprocessing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foveate.data.classes import number_classes
from foveate.data.dataset import Dataset, LabelledImages, Target
from foveate.data.open import open_images
from foveate.data.photos import Photos
from foveate.data.transforms import Preprocessing


def find_images(folder: Path, *, labels: Path | None = None) -> LabelledImages:
    """The images in a folder, seen from what lies there.

    Args:
        folder: class folders; or test/, val/, valid/ or validation/ with class folders; or images and labels.json; or
            CIFAR-10's own files; or parquet shards.
        labels: a list of the images and their classes, in place of all that.

    Raises: ValueError: if there is no such folder, nothing to test on, or a file that cannot be used.
    """
    return open_images(folder) if labels is None else open_images(folder, kind="listed", labels=labels)


def evaluation_set(
    images: LabelledImages,
    outputs: int,
    preprocessing: Preprocessing,
    *,
    names: Sequence[str] = (),
    channels: int = 3,
    most: int | None = None,
) -> Dataset:
    """The data set whose test split are these images; its train split is empty.

    Args:
        images: of `find_images`.
        outputs: of the network.
        preprocessing: of each image.
        names: of the network's classes, in the order of its outputs; () where they are not known.
        channels: of the network's images, 3 or 1.
        most: use this many, spread evenly over the set; None: all.

    Raises: ValueError: if the classes do not fit the network's outputs.
    """
    numbers, how = _numbers(images, outputs, names)
    count = len(numbers) if most is None else min(most, len(numbers))
    chosen = np.unique(np.linspace(0, len(numbers) - 1, count).astype(np.int64))
    contents = _Chosen(images.contents, chosen)
    called = _Chosen(images.names, chosen)
    test = Photos(contents, numbers[chosen], preprocessing, names=called, channels=channels)
    side = preprocessing.image_size
    return Dataset(
        name=images.name,
        inputs=(channels, side, side),
        targets={"label": Target("class", tuple(names) or tuple(map(str, range(outputs))))},
        train=Photos([], numbers[:0], preprocessing, names=[], channels=channels),
        test=test,
        fingerprint="",
        description=f"{images.name}: {len(test):,} of {len(numbers):,} images at {side}×{side} pixels",
        about={"preprocessing": str(preprocessing), "classes": how},
        notes=images.notes,
        prepare=test.prepare,
    )


class _Chosen(Sequence):
    """Some elements of a sequence, read when they are needed."""

    def __init__(self, whole: Sequence, places: np.ndarray) -> None:
        self._whole, self._places = whole, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place):  # type: ignore[no-untyped-def]
        return self._whole[int(self._places[place])]


def _numbers(images: LabelledImages, outputs: int, names: Sequence[str]) -> tuple[np.ndarray, str]:
    """The number of each image's class (n,), and how the classes were numbered."""
    labels = images.labels
    if all(isinstance(label, (int, np.integer)) for label in labels):
        if names and images.classes:
            numbers, how = number_classes(images.classes, outputs, images.name, names=names)
            return np.array([numbers[images.classes[int(label)]] for label in labels], np.int64), how
        if images.classes and len(images.classes) != outputs:
            raise ValueError(f"{images.name}: has {len(images.classes)} classes; the network has {outputs} outputs")
        for label, name in zip(labels, images.names, strict=True):
            if not 0 <= int(label) < outputs:
                raise ValueError(f"{name}: wanted a class from 0 to {outputs - 1}, got {label}")
        return np.array(labels, np.int64), "as the data number them"
    called = [str(label) for label in labels]
    numbers, how = number_classes(sorted(set(called)), outputs, images.name, names=names)
    return np.array([numbers[label] for label in called], np.int64), how
