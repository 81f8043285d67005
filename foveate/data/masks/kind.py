"""Kind "masks": images with a mask each, in which every pixel has its class, in folders of images and of masks."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.checks import Checked, check_photos, note_copies
from foveate.data.dataset import Dataset, Progress, Target, register_data
from foveate.data.division import copies_as_numbers, divide, groups_of
from foveate.data.joint import JointTransform
from foveate.data.listing import Part
from foveate.data.masks.batches import MaskedImages, MaskedItem
from foveate.data.masks.checks import MaskFacts, check_masks, class_pixels, files_of_codes, mask_problems, set_problems
from foveate.data.masks.classes import ClassTable, as_binary, found_table, given_table, ignoring, preset, seen_table
from foveate.data.masks.coco import has_outlines, list_outlined
from foveate.data.masks.listing import Pairs, has_masks, list_pairs
from foveate.data.problems import Problem, complain
from foveate.data.source import folder_of
from foveate.data.transforms import MEAN, SIDE, STD
from foveate.spec import DataSpec

UNKNOWN_PART = "left out: its masks hold only ignored pixels"


def _has_masks(source: str) -> bool:
    return has_masks(Path(source).expanduser())


@dataclass(frozen=True)
class Usable:
    """What reading every image and mask of a folder showed.

    Attributes:
        pairs: those to use.
        checked: what decoding the images showed.
        facts: of each mask.
        table: the classes; None where the problems say why there is none.
        problems: all of them, and notes.
    """

    pairs: Pairs
    checked: Checked
    facts: list[MaskFacts]
    table: ClassTable | None
    problems: list[Problem]


def find_problems(
    folder: Path,
    *,
    progress: Progress | None = None,
    skip_bad: bool = False,
    images: str | None = None,
    masks: str | None = None,
    lists: str | None = None,
    field_of_view: str | None = None,
    annotations: str | Mapping[str, str] | None = None,
    background: str = "background",
    classes: Any = None,
    ignore: Any = (),
    reduce_zero: bool = False,
) -> list[Problem]:
    """Everything that is wrong with the images and masks of a folder, and notes on what is merely odd.

    Arguments as `open_masks` takes them. Every file is decoded, unless that was done before and nothing has changed
    since. With `skip_bad`, images and masks that cannot be used are notes.
    """
    pairs = _pairs(folder, images, masks, lists, field_of_view, annotations, background)
    found = usable(pairs, classes, ignore, reduce_zero, progress=progress, skip_bad=skip_bad)
    return [*found.problems, *note_copies(found.pairs.listing, found.checked.copies)]


@register_data("masks", recognises=_has_masks, check=find_problems, tasks=("segmentation",))
def open_masks(
    spec: DataSpec,
    *,
    progress: Progress | None = None,
    skip_bad: bool = False,
    images: str | None = None,
    masks: str | None = None,
    lists: str | None = None,
    field_of_view: str | None = None,
    annotations: str | Mapping[str, str] | None = None,
    background: str = "background",
    classes: Any = None,
    ignore: Any = (),
    reduce_zero: bool = False,
    own_size: bool = False,
    scales: Sequence[float] = (0.5, 2.0),
    flip: bool = True,
    colour: float = 0.3,
    largest_share: float | None = None,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    group: str | None = None,
) -> Dataset:
    """Images and masks as root/images/… and root/masks/… (each with train, val and test inside or not), as
    root/train/images/… and root/train/masks/…, or as root/train/… and root/trainannot/…; a mask has its image's name.

    train, val and test are the three parts; of train and val alone, val is the test part; without parts, test_fraction
    is held out. Augmentation: scale, crop, mirror images, colour. The target is "mask".

    Args:
        spec: its size is (H, W) of training samples; None: that of the images where all training images have one, else
            224×224.
        progress: called with (files checked, files in all) while the files are checked for the first time.
        skip_bad: leave out images and masks that cannot be used, instead of refusing the folder.
        images, masks: names of the folders, where they are not usual ones.
        lists: a folder with train.txt, val.txt and test.txt, or a CSV file with the columns id and split, that says
            which images are used in which part; None: ImageSets/Segmentation or index.csv, where they are there.
        field_of_view: name of a folder of masks that are 0 where nothing is scored.
        annotations: a JSON file of COCO's form, of outlines or panoptic, or {part: file}, in place of a folder of
            masks; None: those in the folder, where it has no masks.
        background: of outlines, the name of the class where no object is; "": nothing is scored there.
        classes: names in the order of the masks' values (of two, where these are 0 and 255, 255 is the second);
            {name = value} or {name = [r, g, b]}; a number of classes; a file with them; or "cityscapes",
            "cityscapes_raw", "voc", "camvid". None: a file classes.txt, class_dict.csv or labelmap.txt in the folder,
            else as the masks number them.
        ignore: values, colours or names of classes that count nowhere, as the value 255 does; a list, or one.
        reduce_zero: 0 counts nowhere, and the first of the class names is that of the value 1.
        own_size: images are tested whole at their own size, and training crops are `size` pixels of it; else a scale
            of 1 is the whole image, as large as it fits into `size`.
        scales: smallest and largest scale of training.
        flip, colour, largest_share: as `JointTransform` takes them.
        mean, std: of each channel, of pixels from 0 to 1.
        group: a regular expression whose first group, in an image's path below its folder, says what it belongs to;
            images of one group stay on one side.

    Raises: ValueError: if files or folders cannot be used, each by its path, or an option does not fit.
    """
    folder = folder_of(spec.source)
    for option, values, count in (("mean", mean, 3), ("std", std, 3), ("scales", scales, 2)):
        if isinstance(values, (str, int, float)) or [type(one) in (int, float) for one in values] != [True] * count:
            raise ValueError(f"{option}: wanted a list of {count} numbers; got {values!r}")
    if min(std) <= 0:
        raise ValueError(f"std: wanted deviations above 0; got {list(std)}")
    low, high = scales
    transform = JointTransform((1, 1), not own_size, (low, high), flip, colour, largest_share)
    pairs = _pairs(folder, images, masks, lists, field_of_view, annotations, background)
    if any(problem.kind == "folder" for problem in pairs.listing.problems):
        complain(folder, pairs.listing.problems, len(pairs.masks))  # before hours of decoding
    found = usable(pairs, classes, ignore, reduce_zero, progress=progress, skip_bad=skip_bad)
    complain(folder, found.problems, len(pairs.masks))
    if found.table is None:
        raise AssertionError("a folder without a table of classes has a problem")
    pairs, checked, table = found.pairs, found.checked, found.table
    photos = pairs.listing.photos
    belonging = None if group is None else np.array(groups_of([photo.name for photo in photos], group), np.str_)
    alike = copies_as_numbers(len(photos), checked.copies)
    keys = np.array([photo.key for photo in photos], np.uint64)
    parts = divide(folder, [photo.split for photo in photos], keys, spec, alike=alike, belonging=belonging)
    size = _size(folder, spec, [checked.sizes[place] for place in parts["train"]])
    transform = replace(transform, size=size)
    pixels = class_pixels(table, found.facts)

    def split(places: NDArray[np.int64]) -> MaskedImages:
        if own_size:  # images of one size one after another, so that batches are full
            areas = np.array([checked.sizes[place] for place in places]).reshape(-1, 2)
            places = places[np.lexsort((places, areas[:, 0], areas[:, 1]))]
        items = []
        for place in places.tolist():
            width, height = checked.sizes[place]
            name = photos[place].path
            shown = name.relative_to(folder).as_posix() if name.is_relative_to(folder) else name.as_posix()
            items.append(MaskedItem(name, pairs.masks[place], shown, (height, width)))
        return MaskedImages(
            items,
            table,
            transform,
            mean=mean,
            std=std,
            pixels=pixels[places, :-1],
            groups=None if belonging is None else belonging[places],
            contents_alike=alike[places],
        )

    splits = {part: split(places) for part, places in parts.items()}
    shapes = splits["train"].shapes
    if not spec.augment and shapes is not None and len(set(shapes.tolist())) > 1:
        raise ValueError(f"{folder}: own_size: images of several sizes are trained on in crops; got augment = false")
    *others, last = (f"{len(one):,} {part}" for part, one in splits.items())
    name = folder.resolve().name
    notes = [problem.reason if problem.path == folder else str(problem) for problem in found.problems]
    notes += [problem.reason for problem in note_copies(pairs.listing, checked.copies)]
    return Dataset(
        name=name,
        inputs=(3, *size),
        targets={"mask": Target("mask", table.names)},
        train=splits["train"],
        test=splits["test"],
        validation=splits.get("validation"),
        fingerprint=_fingerprint(found, belonging),
        description=f"{name}: {', '.join(others)} and {last} images with masks at {size[0]}×{size[1]} pixels, "
        f"{len(table.names)} classes",
        about=_about(found, table, transform, pixels),
        notes=(*notes, *_untrained(pixels[parts["train"]], pixels[parts["test"]], table)),
        prepare=splits["test"].prepare,
    )


def usable(
    pairs: Pairs,
    classes: Any,
    ignore: Any,
    reduce_zero: bool,
    *,
    progress: Progress | None,
    skip_bad: bool,
) -> Usable:
    """Read every image and mask; with `skip_bad`, pairs that cannot be used are left out.

    Raises: ValueError: if the option classes or ignore is of another form.
    """
    root = pairs.listing.root
    table = _given(root, classes, pairs.table, reduce_zero)
    colours = table is not None and table.of_colours
    checked = check_photos(pairs.listing, progress)
    facts = check_masks(root, pairs.masks, colours=colours, progress=progress)
    problems = [*pairs.listing.problems, *checked.problems]
    if not pairs.masks:
        return Usable(pairs, checked, facts, None, problems)
    try:
        codes = files_of_codes(pairs, facts)
        table = seen_table(codes) if table is None else as_binary(table, codes)
        if reduce_zero:
            table = ignoring(table, [0])
        table = ignoring(table, [ignore] if isinstance(ignore, (str, int)) else ignore)
    except ValueError as error:
        unread = [Problem(mask.path, one.reason) for mask, one in zip(pairs.masks, facts, strict=True) if one.reason]
        return Usable(pairs, checked, facts, None, [*problems, *unread, Problem(root, str(error), "folder")])
    of_masks = mask_problems(pairs, checked.sizes, facts, table)
    problems += of_masks
    if skip_bad and any(problem.kind == "file" for problem in problems):
        problems = [
            replace(one, reason=f"left out: {one.reason}", kind="note") if one.kind == "file" else one
            for one in problems
        ]
        bad = {problem.path for problem in (*checked.problems, *of_masks)}
        both = enumerate(zip(pairs.listing.photos, pairs.masks, strict=True))
        kept = [place for place, (image, mask) in both if image.path not in bad and mask.path not in bad]
        pairs, facts = pairs.chosen(kept).in_parts(problems), [facts[place] for place in kept]
        checked = check_photos(pairs.listing, progress)
        if not kept:
            problems.append(Problem(root, "no image and mask are left that can be used", "folder"))
            return Usable(pairs, checked, facts, table, problems)
    unknown = [] if of_masks else _unknown_parts(pairs, facts, table)
    if unknown:
        problems += [Problem(pairs.listing.parts[part], UNKNOWN_PART, "note") for part in unknown]
        kept = [place for place, photo in enumerate(pairs.listing.photos) if photo.split not in unknown]
        pairs, facts = pairs.chosen(kept).in_parts(problems), [facts[place] for place in kept]
        checked = check_photos(pairs.listing, progress)
    of_set = [one for one in set_problems(pairs, facts, table) if one.kind == "note" or not of_masks]
    return Usable(pairs, checked, facts, table, [*problems, *of_set])


def _unknown_parts(pairs: Pairs, facts: Sequence[MaskFacts], table: ClassTable) -> list[Part]:
    """The parts beside training of whose masks every pixel is ignored, as those of Cityscapes' test part are."""
    known = class_pixels(table, facts)[:, :-1].sum(1) > 0
    splits = np.array([photo.split for photo in pairs.listing.photos])
    parts: tuple[Part, ...] = ("validation", "test")
    return [part for part in parts if part in splits and not known[splits == part].any()]


def _pairs(
    folder: Path,
    images: str | None,
    masks: str | None,
    lists: str | None,
    field_of_view: str | None,
    annotations: str | Mapping[str, str] | None,
    background: str,
) -> Pairs:
    """Images with the masks of files, or of COCO's annotations where those are named or there are no others.

    Raises: ValueError: if an option is for the other.
    """
    outlined = annotations is not None or (masks is None and not has_masks(folder) and has_outlines(folder))
    if not outlined:
        return list_pairs(folder, images=images, masks=masks, lists=lists, field_of_view=field_of_view)
    for option, value in (("masks", masks), ("lists", lists), ("field_of_view", field_of_view)):
        if value is not None:
            raise ValueError(f"{option}: wanted a folder of mask files; got masks out of annotations")
    return list_outlined(folder, annotations=annotations, images=images, background=background)


def _given(root: Path, classes: Any, named: ClassTable | None, reduce_zero: bool) -> ClassTable | None:
    """The table that the options, the masks' names or a file in the folder say; None: the masks alone."""
    first = int(reduce_zero)
    if classes is None:
        return named or found_table(root, first)
    if classes == "cityscapes" and named is not None and named.names == preset(classes).names:
        return named
    return given_table(classes, root, first)


def _size(folder: Path, spec: DataSpec, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(H, W) of training samples."""
    if spec.size is None:
        widths, heights = {width for width, _ in sizes}, {height for _, height in sizes}
        return (heights.pop(), widths.pop()) if len(widths) == len(heights) == 1 else (SIDE, SIDE)
    if len(spec.size) != 2:
        raise ValueError(f"{folder}: wanted a size of 2 numbers, such as [240, 320]; got {list(spec.size)}")
    return (spec.size[0], spec.size[1])


def _about(found: Usable, table: ClassTable, transform: JointTransform, pixels: NDArray[np.int64]) -> dict[str, str]:
    smallest, largest = found.checked.smallest, found.checked.largest
    size = "×".join(map(str, transform.size))
    shown = f"whole, as large as they fit into {size}" if transform.whole else "whole, at their own size"
    about = {"augmentation": str(transform), "evaluation": shown, "classes": table.source}
    about["ignored pixels"] = f"{pixels[:, -1].sum() / max(pixels.sum(), 1):.1%}"
    if smallest and largest:
        sides = " to ".join(dict.fromkeys("×".join(map(str, size)) for size in (smallest, largest)))
        about["image sizes"] = f"{sides} pixels (width × height)"
    return about


def _untrained(train: NDArray[np.int64], test: NDArray[np.int64], table: ClassTable) -> list[str]:
    """A note on classes of the test part that no training mask has, from pixels of each class (n, K + 1)."""
    missing = (test.sum(0) > 0) & (train.sum(0) == 0)
    names = ", ".join(repr(table.names[number]) for number in np.flatnonzero(missing[:-1]))
    return [f"classes of the test part that no training mask has: {names}"] if names else []


def _fingerprint(found: Usable, belonging: NDArray[np.str_] | None) -> str:
    table = () if found.table is None else (*found.table.names, *map(str, sorted(found.table.numbers.items())))
    lines = [found.checked.fingerprint, *(one.digest for one in found.facts), *table]
    lines += [] if belonging is None else belonging.tolist()
    return hashlib.sha256("\n".join(lines).encode(errors="replace")).hexdigest()[:16]
