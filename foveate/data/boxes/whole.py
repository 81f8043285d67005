"""Images with boxes as a reader found them in a folder → a data set: checked, divided, limited."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from foveate.data.annotation import Annotation
from foveate.data.boxes.batches import BoxedImages, Changes, Resize
from foveate.data.boxes.checks import BoxCheck, class_problems
from foveate.data.boxes.folder import BoxedFolder, BoxedImage
from foveate.data.checks import Checked, check_photos, note_copies
from foveate.data.dataset import Dataset, Progress, Target
from foveate.data.division import copies_as_numbers, groups_of
from foveate.data.listing import Listing, Part, Photo
from foveate.data.problems import Problem, complain
from foveate.data.subset import choose, hold_out, together
from foveate.spec import DataSpec

RESIZES: tuple[Resize, ...] = get_args(Resize)
SIDE = 320  # pixels of a square, where the study does not say


def open_boxed(
    found: BoxedFolder,
    spec: DataSpec,
    *,
    progress: Progress | None = None,
    skip_bad: bool = False,
    resize: Resize = "letterbox",
    masks: bool = False,
    group: str | None = None,
    changes: Changes,
) -> Dataset:
    """The images of a folder as a data set, every one decoded before (once, while nothing changes).

    Args:
        found: by a reader.
        spec: its size is that of a batch's images; None: 320×320.
        progress: called with (files checked, files in all).
        skip_bad: leave out images and boxes that cannot be used, instead of refusing the folder.
        resize: as `foveate.data.boxes.batches.canvas_of` takes it.
        masks: give the objects' masks as well.
        group: a regular expression whose first group, in an image's name, says what it belongs to; images of one group
            stay on one side of a division.
        changes: of training.

    Raises: ValueError: if the data cannot be used, each file by its path; or an option does not fit.
    """
    if resize not in RESIZES:
        raise ValueError(f"resize: wanted one of {', '.join(map(repr, RESIZES))}; got {resize!r}")
    size = (SIDE, SIDE) if spec.size is None else spec.size
    if len(size) != 2:
        raise ValueError(f"{found.root}: wanted a size of 2 numbers, (H, W); got {list(size)}")
    found, checked, problems = usable(found, progress, skip_bad)
    complain(found.root, problems, len(found.images))
    if masks and not any(image.annotation.outlines for image in found.images):
        raise ValueError(f"{found.root}: masks = true: wanted outlines of objects; the annotations have boxes alone")
    if not masks:
        found = dataclasses.replace(found, images=tuple(map(_without_outlines, found.images)))
    names = [image.name for image in found.images]
    belonging = None if group is None else np.array(groups_of(names, group), np.str_)
    alike = copies_as_numbers(len(found.images), checked.copies)

    def split(places: NDArray[np.int64]) -> BoxedImages:
        images = [found.images[place] for place in places]
        return BoxedImages(
            [image.path for image in images],
            [image.annotation for image in images],
            [image.name for image in images],
            (size[0], size[1]),
            resize=resize,
            changes=changes,
            masks=masks,
            groups=None if belonging is None else belonging[places],
            contents_alike=alike[places],
        )

    parts = {part: split(places) for part, places in _divided(found, alike, belonging, spec).items()}
    *others, last = (f"{len(one):,} {part}" for part, one in parts.items())
    sides = "×".join(map(str, size))
    counts = f"{', '.join(others)} and {last} images at {sides} pixels, {len(found.classes)} classes"
    boxes = sum(len(annotation) for one in parts.values() for annotation in one.annotations)
    name = found.root.resolve().name
    return Dataset(
        name=name,
        inputs=(3, *size),
        targets={"boxes": Target("boxes", found.classes)},
        train=parts["train"],
        test=parts["test"],
        validation=parts.get("validation"),
        fingerprint=_fingerprint(found, checked, belonging),
        description=f"{name}: {counts}, {boxes:,} boxes",
        about={"augmentation": str(changes), "resize": resize},
        notes=tuple(problem.reason if problem.path == found.root else str(problem) for problem in problems),
        prepare=parts["test"].prepare,
        scale_of=parts["test"].scale_of,
    )


def find_box_problems(found: BoxedFolder, progress: Progress | None, skip_bad: bool) -> list[Problem]:
    """Everything that is wrong with what a reader found, every image decoded, and notes."""
    return usable(found, progress, skip_bad)[2]


def usable(found: BoxedFolder, progress: Progress | None, skip_bad: bool) -> tuple[BoxedFolder, Checked, list[Problem]]:
    """The images and boxes that can be used, what decoding the images showed, and all problems; with `skip_bad`, those
    of files are notes on what is left out."""
    found = _with_a_test_part(found)
    if any(problem.kind == "folder" for problem in found.problems):
        return found, Checked("", (), (), (), None, None), list(found.problems)  # before hours of decoding
    checked = check_photos(_listing(found), progress)
    check, images = BoxCheck(found.classes), []
    for image, size in zip(found.images, checked.sizes, strict=True):
        kept = check.usable(_in_pixels(image, size), size) if size != (0, 0) else None
        images += [] if kept is None else [kept]
    other_format = check.other_format(found)
    problems = [*found.problems, *checked.problems, *(other_format or [*check.problems, *check.cut])]
    if len(images) < len(found.images) and skip_bad:
        checked = check_photos(_listing(dataclasses.replace(found, images=tuple(images))), progress)
    found = dataclasses.replace(found, images=tuple(images))
    if skip_bad:
        problems = [_skipped(one, "cut" if one in check.cut else "left out") for one in problems]
    if not any(problem.kind == "file" for problem in problems):
        problems += class_problems(found)
    problems += [*check.notes(found), *note_copies(_listing(found), checked.copies)]
    return found, checked, problems


def _with_a_test_part(found: BoxedFolder) -> BoxedFolder:
    """Without a test part the validation part is it; of a training part alone some images are held out."""
    there = set(found.parts)
    if there <= {""} or "test" in there:
        changed: dict[Part, Part] = {}
        missing = "" if there <= {""} or "train" in there else "wanted a training part; got none"
    elif there == {"train"}:
        changed, missing = {"train": ""}, ""
    else:
        changed = {"validation": "test"}
        missing = "" if "train" in there else "wanted a training part; got a validation part alone"
    images = tuple(dataclasses.replace(one, part=changed.get(one.part, one.part)) for one in found.images)
    problems = [*found.problems, *([Problem(found.root, missing, "folder")] if missing else [])]
    if "validation" in changed and not missing:
        problems.append(Problem(found.root, "the validation part is the test part, as there is no test part", "note"))
    return dataclasses.replace(found, images=images, problems=tuple(problems))


def _skipped(problem: Problem, how: str) -> Problem:
    if problem.kind != "file":
        return problem
    return dataclasses.replace(problem, reason=f"{how}: {problem.reason}", kind="note")


def _in_pixels(image: BoxedImage, size: tuple[int, int]) -> BoxedImage:
    own = dataclasses.replace(image.annotation, image=size)
    if not image.fractions:
        return dataclasses.replace(image, annotation=own)
    sides = np.array(size * 2, np.float32)
    boxes = own.boxes * sides
    outlines = own.outlines and tuple(
        outline and [(np.reshape(one, (-1, 2)) * size).reshape(-1).tolist() for one in outline]
        for outline in own.outlines
    )
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    own = dataclasses.replace(own, boxes=boxes, area=area, outlines=outlines)
    return dataclasses.replace(image, annotation=own, fractions=False)


def _without_outlines(image: BoxedImage) -> BoxedImage:
    """Outlines that nobody asks for only take memory."""
    return dataclasses.replace(image, annotation=dataclasses.replace(image.annotation, outlines=None))


def _listing(found: BoxedFolder) -> Listing:
    photos = []
    for image in found.images:
        stat = image.path.stat()
        photos.append(Photo(image.path, image.part, "", image.name, stat.st_size, stat.st_mtime_ns))
    return Listing(found.root, (), tuple(photos), (), dict.fromkeys(found.parts, found.root))


def _divided(
    found: BoxedFolder, alike: NDArray[np.int64], belonging: NDArray[np.str_] | None, spec: DataSpec
) -> dict[str, NDArray[np.int64]]:
    """The places of the images of each part, in the order train, validation, test."""
    strata = rarest_class([image.annotation for image in found.images], len(found.classes))
    names = (image.name.encode(errors="replace") for image in found.images)
    keys = np.array([int.from_bytes(hashlib.sha256(name).digest()[:8]) for name in names], np.uint64)
    parts = np.array([image.part for image in found.images])
    divided: dict[str, NDArray[np.int64]] = {}
    if found.parts == ("",):
        try:
            whole = together(alike, belonging)
            train, test = hold_out(_shared(strata), keys, spec.test_fraction, whole)
            divided["train"], divided["test"] = _learnable(found, train, test)
        except ValueError as error:
            raise ValueError(f"{found.root}: {error}") from None
    else:
        order: tuple[Part, ...] = ("train", "validation", "test")
        divided = {part: np.flatnonzero(parts == part) for part in order if part in found.parts}
    for part, places in divided.items():
        most = spec.train_items if part == "train" else spec.test_items
        if part == "validation" and most is not None:
            most = min(most, len(places))
        option = "train_items" if part == "train" else "test_items"
        divided[part] = places[choose(strata[places], keys[places], most, wanted=option)]
    return divided


def rarest_class(annotations: Sequence[Annotation], classes: int) -> NDArray[np.int64]:
    """(n,) of each image, the class with the fewest boxes in all among its own; `classes` where it has none."""
    counts = np.zeros(classes, np.int64)
    for one in annotations:
        np.add.at(counts, one.labels, 1)
    return np.array(
        [min(one.labels.tolist(), key=lambda label: (counts[label], label), default=classes) for one in annotations],
        np.int64,
    )


def _shared(strata: NDArray[np.int64]) -> NDArray[np.int64]:
    """Strata of one image are counted to the largest one, since nothing could be held out of them."""
    values, counts = np.unique(strata, return_counts=True)
    alone = values[counts < 2]
    return np.where(np.isin(strata, alone), values[counts.argmax()], strata)


def _learnable(
    found: BoxedFolder, train: NDArray[np.int64], test: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Images with a class that no training image has are for training."""
    has = {int(label) for place in train for label in found.images[place].annotation.labels}
    moved = [place for place in test if not has.issuperset(found.images[place].annotation.labels.tolist())]
    return np.sort(np.concatenate([train, moved]).astype(np.int64)), np.setdiff1d(test, moved)


def _fingerprint(found: BoxedFolder, checked: Checked, belonging: NDArray[np.str_] | None) -> str:
    digest = hashlib.sha256("\n".join([checked.fingerprint, *found.classes]).encode(errors="replace"))
    for image in found.images:
        own = image.annotation
        for array in (own.boxes, own.labels, own.crowd, own.area):
            digest.update(f"{len(array)}".encode() + array.tobytes())
        digest.update(repr(own.outlines).encode())
    if belonging is not None:
        digest.update("\n".join(belonging.tolist()).encode(errors="replace"))
    return digest.hexdigest()[:16]
