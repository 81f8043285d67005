"""Finds what a source is by looking at it, and opens it."""

from difflib import get_close_matches
from pathlib import Path

import numpy as np

from foveate.data.checks import Progress, check_photos, complain
from foveate.data.cifar import find_cifar, open_cifar
from foveate.data.embedded import open_embedded
from foveate.data.listing import Listing, Problem, list_photos
from foveate.data.parquet import find_shards, open_parquet
from foveate.data.photos import MEAN, SIDE, STD, Photos
from foveate.data.splits import ImageData
from foveate.data.subset import choose, hold_out
from foveate.spec import Data

EMBEDDED = "embedded"


def open_data(data: Data, *, progress: Progress | None = None) -> ImageData:
    """The data set that `data` names, checked: "embedded", CIFAR-10's own files, parquet shards, or class folders.

    `data.augment` is for the training loop, which hands `augment=None` to `Split.batch` where it is off.

    Args:
        data: what to open, how large, how many.
        progress: called with (files checked, files in all) while photos are checked for the first time.
    Raises: ValueError: what was wanted, what came and what is nearest; every unusable file by its path.
    """
    if data.source == EMBEDDED:
        return open_embedded(data)
    folder = _folder(data.source)
    if batches := find_cifar(folder):
        return open_cifar(batches, data)
    if shards := find_shards(folder):
        return open_parquet(folder, shards, data)
    return _open_classes(folder, data, progress)


def check_folder(path: str | Path, *, progress: Progress | None = None) -> list[Problem]:
    """Everything that is wrong with a user's folder, and notes on what is merely odd; [] is a folder that will train.

    Every file is decoded, unless that was done before and nothing has changed since.
    """
    try:
        folder = _folder(str(path))
        if find_cifar(folder) or find_shards(folder):
            open_data(Data(source=str(folder)))
            return []
    except ValueError as error:
        place, _, reason = str(error).partition(": ")
        return [Problem(Path(place), reason, "folder")]
    listing = list_photos(folder)
    return [*listing.problems, *check_photos(listing, progress)[1]]


def _folder(source: str) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ValueError(f"{source}: wanted a folder (or {EMBEDDED!r}), got a file; an archive must be unpacked first")
    try:
        beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
    except OSError:
        beside = []
    near = get_close_matches(path.name, [EMBEDDED, *beside], 1)
    nearest = near[0] if near and near[0] == EMBEDDED else str(path.parent / near[0]) if near else ""
    hint = f"; did you mean {nearest!r}?" if nearest else ""
    raise ValueError(f"{source}: wanted {EMBEDDED!r} or a folder, got neither: there is no such folder{hint}")


def _open_classes(folder: Path, data: Data, progress: Progress | None) -> ImageData:
    listing = list_photos(folder)
    if any(problem.kind == "folder" for problem in listing.problems):
        complain(folder, listing.problems, len(listing.photos))  # before hours of decoding
    fingerprint, found = check_photos(listing, progress)
    problems = [*listing.problems, *found]
    complain(folder, problems, len(listing.photos))
    train, test = _divided(listing, data)
    side = data.image_size or SIDE
    counts = f"{len(train):,} train and {len(test):,} test photos at {side}×{side} pixels"
    return ImageData(
        name=folder.resolve().name,
        classes=listing.classes,
        channels=3,
        image_size=(side, side),
        train=train,
        test=test,
        fingerprint=fingerprint,
        description="; ".join(
            [f"{folder.resolve().name}: {counts}, {len(listing.classes)} classes"]
            + [problem.reason for problem in problems]
        ),
        mean=MEAN,
        std=STD,
    )


def _divided(listing: Listing, data: Data) -> tuple[Photos, Photos]:
    number = {name: place for place, name in enumerate(listing.classes)}
    labels = np.array([number[photo.label] for photo in listing.photos], np.int64)
    keys = np.array([photo.key for photo in listing.photos], np.uint64)
    if listing.has_split:
        held = np.array([photo.split == "test" for photo in listing.photos])
        train, test = np.flatnonzero(~held), np.flatnonzero(held)
    else:
        train, test = hold_out(labels, keys, data.test_fraction)
    train = train[choose(labels[train], keys[train], data.train_images, wanted="train_images")]
    test = test[choose(labels[test], keys[test], data.test_images, wanted="test_images")]
    side = data.image_size or SIDE
    files = [photo.path for photo in listing.photos]
    return (
        Photos([files[place] for place in train], labels[train], side),
        Photos([files[place] for place in test], labels[test], side),
    )
