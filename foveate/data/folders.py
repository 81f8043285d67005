"""Kind "folders": photos of any size and kind in class folders, with train, val and test folders or without."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.data.checks import Checked, check_photos, note_copies
from foveate.data.dataset import Dataset, LabelledImages, Progress, Target, register_data
from foveate.data.division import copies_as_numbers, divide, groups_of
from foveate.data.listing import Listing, list_photos, list_test_photos
from foveate.data.photos import AUGMENTATION, Photos
from foveate.data.problems import Problem, complain
from foveate.data.source import folder_of
from foveate.data.transforms import CROP, MEAN, STD, Preprocessing
from foveate.spec import DataSpec


def find_problems(folder: Path, *, progress: Progress | None = None, skip_bad: bool = False) -> list[Problem]:
    """Everything that is wrong with a folder, and notes on what is merely odd; [] is a folder that will train.

    Every file is decoded, unless that was done before and nothing has changed since. With `skip_bad`, files that cannot
    be used are notes.
    """
    return problems_of(list_photos(folder), progress, skip_bad)


def evaluation_images(folder: Path) -> LabelledImages:
    """The photos that a network is tested on, for evaluation: of the test folder where there is one, else all.

    Raises: ValueError: if a folder or file of the listing cannot be used, each by its path.
    """
    listing = list_test_photos(folder)
    complain(folder, listing.problems, len(listing.photos))
    notes = tuple(str(problem) for problem in listing.problems)
    files = [photo.path for photo in listing.photos]
    labels = [photo.label for photo in listing.photos]
    return LabelledImages(folder.resolve().name, files, [str(file) for file in files], labels, notes=notes)


@register_data("folders", check=find_problems, evaluation_images=evaluation_images)
def open_folders(
    spec: DataSpec,
    *,
    progress: Progress | None = None,
    skip_bad: bool = False,
    crop_pct: float = CROP,
    interpolation: str = "bilinear",
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    bgr: bool = False,
    group: str | None = None,
) -> Dataset:
    """Photos as root/<class>/… or root/train/<class>/…, root/val/<class>/… (or valid, validation), root/test/<class>/….

    train, val and test are the three parts; of train and val alone, val is the test part. Of class folders alone,
    test_fraction of each class is held out; copies of a photo stay on one side. Augmentation: a random part of each
    photo, mirror images. The target is "label".

    Args:
        spec: its size is the side of square images; None: 224.
        progress: called with (files checked, files in all) while the photos are checked for the first time.
        skip_bad: leave files out that cannot be used, instead of refusing the folder.
        crop_pct, interpolation, mean, std, bgr: of `Preprocessing`.
        group: a regular expression whose first group, in a photo's path below its class folder, says what it belongs
            to, such as "^([^/]+)/" for a folder of each subject; photos of one group stay on one side.

    Raises: ValueError: if files or folders cannot be used, each by its path, or size, train_items or test_items do not
        fit.
    """
    folder = folder_of(spec.source)
    preprocessing = Preprocessing.square(folder, spec.size, crop_pct, interpolation, mean, std, bgr)
    listing = list_photos(folder)
    groups = None if group is None else _groups(listing, group)
    return open_listing(listing, spec, preprocessing, progress=progress, skip_bad=skip_bad, groups=groups)


def _groups(listing: Listing, pattern: str) -> dict[Path, str]:
    called = [f"{photo.name!r}, of class {photo.label!r}" for photo in listing.photos]
    found = groups_of([photo.name for photo in listing.photos], pattern, called)
    return {photo.path: group for photo, group in zip(listing.photos, found, strict=True)}


def problems_of(listing: Listing, progress: Progress | None, skip_bad: bool) -> list[Problem]:
    """Everything that is wrong with the photos of a listing, every one decoded, and notes."""
    listing, checked, problems = _usable(listing, progress, skip_bad)
    return [*problems, *note_copies(listing, checked.copies)]


def open_listing(
    listing: Listing,
    spec: DataSpec,
    preprocessing: Preprocessing,
    *,
    progress: Progress | None,
    skip_bad: bool,
    groups: Mapping[Path, str] | None = None,
) -> Dataset:
    """The photos of a listing as a data set: checked, divided where they are not yet, limited as `spec` says.

    groups: what each photo belongs to.

    Raises: ValueError: as `open_folders`.
    """
    folder, name, side = listing.root, listing.root.resolve().name, preprocessing.image_size
    if any(problem.kind == "folder" for problem in listing.problems):
        complain(folder, listing.problems, len(listing.photos))  # before hours of decoding
    listing, checked, problems = _usable(listing, progress, skip_bad)
    complain(folder, problems, len(listing.photos))
    notes = [problem.reason if problem.path == folder else str(problem) for problem in problems]
    notes += [problem.reason for problem in note_copies(listing, checked.copies)]
    train, validation, test = _divided(listing, checked, spec, preprocessing, groups)
    counts = f"{len(train):,} train and {len(test):,} test photos at {side}×{side} pixels"
    if validation is not None:
        counts = f"{len(train):,} train, {len(validation):,} validation and {len(test):,} test photos"
        counts += f" at {side}×{side} pixels"
    about = {"augmentation": AUGMENTATION, "preprocessing": str(preprocessing)}
    if checked.smallest and checked.largest:
        smallest, largest = ("×".join(map(str, size)) for size in (checked.smallest, checked.largest))
        about["photo sizes"] = f"{smallest} to {largest} pixels (width × height)"
    return Dataset(
        name=name,
        inputs=(3, side, side),
        targets={"label": Target("class", listing.classes)},
        train=train,
        test=test,
        fingerprint=checked.fingerprint if groups is None else _with_groups(checked.fingerprint, listing, groups),
        description=f"{name}: {counts}, {len(listing.classes)} classes",
        about=about,
        notes=tuple(notes),
        prepare=test.prepare,
        validation=validation,
    )


def _usable(listing: Listing, progress: Progress | None, skip_bad: bool) -> tuple[Listing, Checked, list[Problem]]:
    """The photos to use, what decoding them showed, and all problems; with `skip_bad`, bad files are left out."""
    checked = check_photos(listing, progress)
    problems = [*listing.problems, *checked.problems]
    if not skip_bad or not any(problem.kind == "file" for problem in problems):
        return listing, checked, problems
    bad = {problem.path for problem in checked.problems}
    problems = [
        replace(problem, reason=f"left out: {problem.reason}", kind="note") if problem.kind == "file" else problem
        for problem in problems
    ]
    if bad:
        listing = replace(listing, photos=tuple(photo for photo in listing.photos if photo.path not in bad))
        checked = check_photos(listing, progress)
        counts = Counter((photo.split, photo.label) for photo in listing.photos)
        for part, label in product(listing.parts, listing.classes):
            count = counts[part, label]
            if count < (1 if part else 2):
                where = listing.parts[part] / label
                left = f"class {label!r} has {count} image{'s' * (count != 1)} that can be used; wanted at least"
                problems.append(Problem(where, f"{left} {1 if part else 2}", "folder"))
    return listing, checked, problems


def _with_groups(fingerprint: str, listing: Listing, groups: Mapping[Path, str]) -> str:
    text = "\n".join([fingerprint, *(groups[photo.path] for photo in listing.photos)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _divided(
    listing: Listing,
    checked: Checked,
    spec: DataSpec,
    preprocessing: Preprocessing,
    groups: Mapping[Path, str] | None,
) -> tuple[Photos, Photos | None, Photos]:
    """The training part, the validation part that the folder has of its own, and the test part."""
    number = {name: place for place, name in enumerate(listing.classes)}
    labels = np.array([number[photo.label] for photo in listing.photos], np.int64)
    keys = np.array([photo.key for photo in listing.photos], np.uint64)
    alike = copies_as_numbers(len(labels), checked.copies)
    belonging = None if groups is None else np.array([groups[photo.path] for photo in listing.photos], np.str_)
    parts = [photo.split for photo in listing.photos]
    divided = divide(
        listing.root, parts, keys, spec, alike=alike, strata=labels, belonging=belonging, names=listing.classes
    )

    def split(places: NDArray[np.int64]) -> Photos:
        photos = [listing.photos[place] for place in places]
        names = [photo.path.relative_to(listing.root).as_posix() for photo in photos]
        return Photos(
            [photo.path for photo in photos],
            labels[places],
            preprocessing,
            names=names,
            was_checked=True,
            groups=None if belonging is None else belonging[places],
            contents_alike=alike[places],
            fingerprint=checked.fingerprint,
        )

    validation = split(divided["validation"]) if "validation" in divided else None
    return split(divided["train"]), validation, split(divided["test"])
