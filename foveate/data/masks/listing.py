"""Which mask belongs to which image in a folder of images and masks: by folder and name, nothing decoded yet."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from foveate.data.decode import ENDINGS
from foveate.data.listing import VALIDATION_NAMES, Listing, Part, Photo, visible, walk
from foveate.data.masks.classes import ClassTable, preset
from foveate.data.masks.files import FileMask, MaskSource
from foveate.data.problems import Problem, one_line

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit")
MASK_FOLDERS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot", "segmentationclass", "gtfine",
    "gt", "groundtruth", "ground_truth", "segmentation", "segmentations",
)  # fmt: skip
PARTS: dict[Part, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": VALIDATION_NAMES,
    "test": ("test", "testing"),
}
BESIDE = ("annot", "_annot", "_labels", "_label", "labels", "_masks", "_mask", "masks", "_gt", "gt")  # trainannot
IMAGE_ENDINGS = ("_leftImg8bit", "_image", "_img", "_training", "_test")
TRAIN_IDS, RAW_IDS = "_labelTrainIds", "_labelIds"
MASK_ENDINGS = (
    f"_gtFine{TRAIN_IDS}", f"_gtFine{RAW_IDS}", f"_gtCoarse{TRAIN_IDS}", f"_gtCoarse{RAW_IDS}", "_mask", "_masks",
    "-mask", ".mask", "_label", "_labels", "_seg", "_segmentation", "_gt", "_annotation", "_L", "_manual1",
)  # fmt: skip
OTHER_ENDINGS = ("_color", "_instanceIds", "_instanceTrainIds")  # of pictures of the same masks
LISTS = "ImageSets/Segmentation"
INDEX = "index.csv"
_NAME_COLUMNS, _PART_COLUMNS = ("id", "name", "file", "filename", "image"), ("split", "part", "subset", "set")
Mask = TypeVar("Mask")
EXAMPLE = "images/1.jpg and masks/1.png (or train/images/…, train/masks/…, or train/… and trainannot/…)"


@dataclass(frozen=True)
class Pairs:
    """Images and the mask of each.

    Attributes:
        listing: the images; their part is in `Photo.split`.
        masks: of each image.
        table: of the classes, where the masks' names or their annotations say it.
    """

    listing: Listing
    masks: tuple[MaskSource, ...]
    table: ClassTable | None = None

    def chosen(self, places: Sequence[int]) -> "Pairs":
        """The pairs at these places alone."""
        listing = replace(self.listing, photos=tuple(self.listing.photos[place] for place in places))
        return replace(self, listing=listing, masks=tuple(self.masks[place] for place in places))

    def in_parts(self, problems: list[Problem]) -> "Pairs":
        """With the parts as `as_parts` has them of those that are left."""
        listing = self.listing
        left = {photo.split for photo in listing.photos}
        parts = {part: folder for part, folder in listing.parts.items() if part in left}
        used, parts = as_parts(listing.root, list(zip(listing.photos, self.masks, strict=True)), parts, problems)
        listing = replace(listing, photos=tuple(image for image, _ in used), parts=parts)
        return replace(self, listing=listing, masks=tuple(mask for _, mask in used))


def has_masks(folder: Path) -> bool:
    """Does the folder have images and masks, in folders of names that are known?"""
    places = mask_folders(folder, None, None) if folder.is_dir() else {}
    return any(all(_has_image(place, 0) for place in both) for both in places.values())


def _has_image(folder: Path, depth: int) -> bool:
    folders, files = visible(folder, [])
    return any(file.suffix.lower() in ENDINGS for file in files) or (
        depth < 2 and any(_has_image(inner, depth + 1) for inner in folders)
    )


def list_pairs(
    root: Path,
    *,
    images: str | None = None,
    masks: str | None = None,
    field_of_view: str | None = None,
    lists: str | None = None,
) -> Pairs:
    """The images of a folder that have a mask, and what is wrong with the others.

    Args:
        root: of the data.
        images, masks, field_of_view: names of folders in it or in its folders train, val and test; None: known names,
            and no field of view.
        lists: a folder of train.txt, val.txt and test.txt, or a CSV file with the columns id and split; None: as VOC
            has them, or index.csv with these columns.
    """
    problems: list[Problem] = []
    places = mask_folders(root, images, masks)
    if not places:
        problems.append(Problem(root, _wanted(root, images, masks), "folder"))
        return Pairs(Listing(root, (), (), tuple(problems), {"": root}), ())
    found = {part: _pairs(*folders, part, problems) for part, folders in places.items()}
    pairs = [pair for part in found.values() for pair in part]
    parts: dict[Part, Path] = {part: place[0] for part, place in places.items()}
    by_list = _lists(root, lists)
    if by_list is not None:
        pairs, parts = _listed(root, pairs, by_list, problems)
    else:
        with_masks = [part for part in found.values() if any(mask is not None for _, mask, _ in part)]
        problems += [problem for part in with_masks for _, _, problem in part if problem is not None]
        problems += _unmasked(root, images, places)
    used = [(image, mask) for image, mask, _ in pairs if mask is not None]
    used, parts = as_parts(root, used, parts, problems)
    if not used and all(problem.kind != "folder" for problem in problems):
        reason = f"no image has a mask of its name; wanted pairs such as {EXAMPLE}"
        problems.insert(0, Problem(root, reason, "folder"))
    found_masks = [FileMask(mask) for _, mask in used]
    images_used = [image for image, _ in used]
    if field_of_view is not None:
        views = _views(root, field_of_view, images_used, problems)
        found_masks = [replace(mask, view=view) for mask, view in zip(found_masks, views, strict=True)]
        seen = [place for place, view in enumerate(views) if view is not None]
        found_masks, images_used = [found_masks[place] for place in seen], [images_used[place] for place in seen]
    listing = Listing(root, (), tuple(images_used), tuple(problems), parts)
    endings = {RAW_IDS: "cityscapes_raw", TRAIN_IDS: "cityscapes"}
    named = {next((ending for ending in endings if mask.path.stem.endswith(ending)), "") for mask in found_masks}
    table = preset(endings[named.pop()]) if len(named) == 1 and "" not in named else None
    return Pairs(listing, tuple(found_masks), table)


def mask_folders(root: Path, images: str | None, masks: str | None) -> dict[Part, tuple[Path, Path]]:
    """The folder of images and that of masks of each part; {} where there are none."""
    inside = _folder(root, images, IMAGE_FOLDERS), _folder(root, masks, MASK_FOLDERS)
    if inside[0] and inside[1]:
        by_part = {part: (_part(inside[0], part), _part(inside[1], part)) for part in PARTS}
        both: dict[Part, tuple[Path, Path]] = {
            part: (one, other) for part, (one, other) in by_part.items() if one and other
        }
        return both or {"": (inside[0], inside[1])}
    found: dict[Part, tuple[Path, Path]] = {}
    for part in PARTS:
        place = _part(root, part)
        if place is None:
            continue
        one, other = _folder(place, images, IMAGE_FOLDERS), _folder(place, masks, MASK_FOLDERS)
        if one is None and images is None and other is None:
            one, other = place, _folder(root, masks, tuple(f"{place.name.lower()}{end}" for end in BESIDE))
        if one and other:
            found[part] = (one, other)
    return found


def _unmasked(root: Path, images: str | None, places: Mapping[Part, tuple[Path, Path]]) -> list[Problem]:
    """Notes on folders of parts that have images and no folder of masks."""
    inside = [place for place in (root, _folder(root, images, IMAGE_FOLDERS)) if place is not None]
    missing = [] if "" in places else [part for part in PARTS if part not in places]
    found = [_part(place, part) for part in missing for place in inside]
    return [Problem(folder, "left out: it has no folder of masks", "note") for folder in found if folder is not None]


def _folder(root: Path, given: str | None, names: Sequence[str]) -> Path | None:
    if given is not None:
        return root / given if (root / given).is_dir() else None
    there = {folder.name.lower(): folder for folder in visible(root, [])[0]}
    return next((there[name] for name in names if name in there), None)


def _part(root: Path, part: Part) -> Path | None:
    return _folder(root, None, PARTS[part])


def _wanted(root: Path, images: str | None, masks: str | None) -> str:
    """What was looked for and not found, with the folder inside that has it."""
    wanted = f"wanted images and masks, such as {EXAMPLE}"
    if images is not None or masks is not None:
        named = " and ".join(f"{option} = {name!r}" for option, name in (("images", images), ("masks", masks)) if name)
        wanted = f"{named}: wanted folders of images and of masks here or in train, val and test"
    folders, files = visible(root, [])
    inside = next((folder for folder in folders if mask_folders(folder, images, masks)), None)
    if inside is not None:
        return f"{wanted}; did you mean {str(inside)!r}, which has them?"
    names = [entry.name for entry in (*folders, *files)]
    return f"{wanted}; got {', '.join(map(repr, names[:4])) or 'an empty folder'}{', …' * (len(names) > 4)}"


Pair = tuple[Photo, Photo | None, Problem | None]  # an image, its mask, and why it has none


def _pairs(images: Path, masks: Path, part: Part, problems: list[Problem]) -> list[Pair]:
    """Every image of a folder with its mask; a mask without an image, or a second one of an image, is a problem."""
    photos, skipped = files_in(images, part, problems)
    found, _ = files_in(masks, part, problems)
    names = {stem(photo.name): photo for photo in photos}
    names |= {_without(name, IMAGE_ENDINGS): photo for name, photo in names.items()}
    of_cityscapes = any(stem(mask.name).endswith((TRAIN_IDS, RAW_IDS)) for mask in found)
    by_image: dict[Path, list[tuple[int, Photo]]] = {}
    for mask in found:
        image, rank = _image_of(mask, names)
        if image is not None:
            by_image.setdefault(image.path, []).append((rank, mask))
        elif stem(mask.name) not in skipped and not (of_cityscapes and stem(mask.name).endswith(OTHER_ENDINGS)):
            problems.append(Problem(mask.path, "a mask without an image"))
    pairs: list[Pair] = []
    for photo in photos:
        candidates = sorted(by_image.get(photo.path, []), key=lambda one: (one[0], one[1].name))
        if not candidates:
            wanted = masks / Path(photo.name).with_suffix(".png")
            pairs.append((photo, None, Problem(photo.path, f"an image without a mask; wanted one such as {wanted}")))
            continue
        (_, mask), *others = candidates
        pairs.append((photo, mask, None))
        for _, other in others:
            if not of_cityscapes:
                problems.append(Problem(other.path, f"a second mask of {photo.name}, beside {mask.name}"))
    return pairs


def _image_of(mask: Photo, names: Mapping[str, Photo]) -> tuple[Photo | None, int]:
    """The image that a mask is named after, and how near the names are."""
    name = stem(mask.name)
    if name in names:
        return names[name], 0
    for rank, ending in enumerate(MASK_ENDINGS, 1):
        if name.endswith(ending) and name.removesuffix(ending) in names:
            return names[name.removesuffix(ending)], rank
    return None, 0


def _without(name: str, endings: Sequence[str]) -> str:
    return next((name.removesuffix(ending) for ending in endings if name.endswith(ending)), name)


def stem(name: str) -> str:
    """A path below a folder without the file's ending."""
    return name[: -len(Path(name).suffix)] if Path(name).suffix else name


def files_in(folder: Path, part: Part, problems: list[Problem]) -> tuple[list[Photo], set[str]]:
    """The image files below a folder, and the names of those that cannot be used."""
    found, skipped = [], set()
    for file in walk(folder, problems, set()):
        name = file.relative_to(folder).as_posix()
        if file.suffix.lower() not in ENDINGS:
            continue
        try:
            stat = file.stat()
        except OSError:
            problems.append(Problem(file, "a link to nothing" if file.is_symlink() else "cannot be read"))
            skipped.add(stem(name))
            continue
        if stat.st_size:
            found.append(Photo(file, part, "", name, stat.st_size, stat.st_mtime_ns))
        else:
            problems.append(Problem(file, "empty file (0 bytes)"))
            skipped.add(stem(name))
    return found, skipped


def as_parts(
    root: Path, used: list[tuple[Photo, Mask]], parts: dict[Part, Path], problems: list[Problem]
) -> tuple[list[tuple[Photo, Mask]], dict[Part, Path]]:
    """Pairs and the folder of each part, without parts that have no pair; the validation part is the test part where
    there is no other; a training part alone is the whole set. Sorted by part and name."""
    there = {image.split for image, _ in used}
    names: dict[Part, Part] = {}
    if set(parts) != {""} and there:
        for part, folder in parts.items():
            if part not in there:
                problems.append(Problem(folder, "left out: none of its images has a mask", "note"))
        parts = {part: folder for part, folder in parts.items() if part in there}
        if there == {"train"}:
            names = {"train": ""}
        elif "train" not in there:
            problems.append(Problem(root, f"wanted a training part; got {' and '.join(sorted(there))} alone", "folder"))
        elif "test" not in there:
            named = parts["validation"].name if parts["validation"] != root else "validation"
            problems.append(Problem(root, f"{named} is the test part, as there is no other", "note"))
            names = {"validation": "test"}
    parts = {names.get(part, part): folder for part, folder in parts.items()}
    used = [(replace(image, split=names.get(image.split, image.split)), mask) for image, mask in used]
    order: dict[str, int] = {part: number for number, part in enumerate(parts)}
    return sorted(used, key=lambda pair: (order[pair[0].split], pair[0].name)), parts


def _lists(root: Path, given: str | None) -> tuple[Path, dict[str, Part]] | None:
    """The file or folder of lists, and the part of each name in them; None where there are none."""
    place = root / (LISTS if given is None else given)
    if place.is_dir():
        files: dict[Part, Path] = {
            part: place / f"{name}.txt"
            for part, names in PARTS.items()
            for name in names[::-1]
            if (place / f"{name}.txt").is_file()
        }
        if files:
            return place, _by_files(files)
    elif given is None and (root / INDEX).is_file():
        rows = _rows(root / INDEX)
        if rows and _column(rows[0], _PART_COLUMNS) and _column(rows[0], _NAME_COLUMNS):
            return root / INDEX, _by_rows(root / INDEX, rows)
    elif place.is_file() and place.suffix.lower() == ".csv":
        rows = _rows(place)
        keys = list(rows[0]) if rows else []
        if not rows or not _column(rows[0], _PART_COLUMNS) or not _column(rows[0], _NAME_COLUMNS):
            raise ValueError(f"{place}: wanted the columns id and split; got {', '.join(keys) or 'none'}")
        return place, _by_rows(place, rows)
    if given is not None:
        raise ValueError(f"lists: wanted a folder of train.txt and val.txt or a CSV file of id and split; got {place}")
    return None


def _lines(file: Path) -> list[str]:
    return [line.split()[0] for line in _text(file).splitlines() if line.strip()]


def _rows(file: Path) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(_text(file)))
    return [{str(key).strip().lower(): value for key, value in row.items()} for row in rows]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _column(row: Mapping[str, str], names: Sequence[str]) -> str:
    return next((name for name in names if name in row), "")


def _by_files(files: Mapping[Part, Path]) -> dict[str, Part]:
    found: dict[str, Part] = {}
    for part, file in files.items():
        for name in _lines(file):
            if found.setdefault(name, part) != part:
                raise ValueError(f"{file}: {name!r} is in {files[found[name]].name} as well; wanted it in one part")
    return found


def _by_rows(file: Path, rows: Sequence[Mapping[str, str]]) -> dict[str, Part]:
    part_of = {name: part for part, names in PARTS.items() for name in names}
    name, column = _column(rows[0], _NAME_COLUMNS), _column(rows[0], _PART_COLUMNS)
    found: dict[str, Part] = {}
    for number, row in enumerate(rows, 2):
        part = str(row[column]).strip().lower()
        if part not in part_of:
            raise ValueError(f"{file}: line {number}: wanted train, val or test; got {one_line(row[column], 40)!r}")
        found[row[name]] = part_of[part]
    return found


def _listed(
    root: Path, pairs: Sequence[Pair], by_list: tuple[Path, Mapping[str, Part]], problems: list[Problem]
) -> tuple[list[Pair], dict[Part, Path]]:
    """The pairs that the lists name, each in its part."""
    place, part_of = by_list
    by_name = {key: pair for pair in pairs for key in (pair[0].name, stem(pair[0].name))}
    by_name |= {Path(key).name: pair for key, pair in by_name.items()}
    used: list[Pair] = []
    for name, part in part_of.items():
        pair = by_name.get(name) or by_name.get(stem(name)) or by_name.get(stem(Path(name).name))
        if pair is None:
            problems.append(Problem(place, f"names {one_line(name, 80)}; there is no such image"))
            continue
        image, mask, problem = pair
        if problem is not None:
            problems.append(problem)
        used.append((replace(image, split=part), mask, problem))
    left = len({pair[0].path for pair in pairs} - {pair[0].path for pair in used})
    if left:
        problems.append(Problem(place, f"{left:,} image{'s' * (left > 1)} in no list left out", "note"))
    there = set(part_of.values())
    return used, {part: root for part in PARTS if part in there}


def _views(root: Path, name: str, images: Sequence[Photo], problems: list[Problem]) -> list[Photo | None]:
    """The field of view of each image, by its name; None and a problem where there is none."""
    folders = [folder for folder in (root / name, *(root / part / name for part in _names())) if folder.is_dir()]
    if not folders:
        reason = f"field_of_view: wanted a folder {name!r} here or in train, val and test; got none"
        problems.append(Problem(root, reason, "folder"))
        return [None] * len(images)
    by_name: dict[str, list[Photo]] = {}
    for file in [file for folder in folders for file in files_in(folder, "", problems)[0]]:
        last = Path(stem(file.name)).name
        for key in {last, _without(last, MASK_ENDINGS)}:
            by_name.setdefault(key, []).append(file)
    found: list[Photo | None] = []
    for image in images:
        there = by_name.get(Path(stem(image.name)).name, [])
        folders_of = set(image.path.parts)  # of files of one name, the one in folders of the same names
        found.append(max(there, key=lambda file: len(folders_of & set(file.path.parts)), default=None))
        if not there:
            problems.append(Problem(image.path, f"an image without a field of view; wanted one in {name!r}"))
    return found


def _names() -> list[str]:
    return [name for names in PARTS.values() for name in names]
