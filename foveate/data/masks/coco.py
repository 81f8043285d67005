"""Masks out of COCO's JSON files: outlines of objects drawn over a background, or panoptic PNG files."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.boxes.coco import annotation_files, read_coco
from foveate.data.boxes.image_files import ImageFiles
from foveate.data.boxes.outlines import masks_of
from foveate.data.dataset import IGNORED
from foveate.data.listing import Listing, Part, Photo
from foveate.data.masks.classes import ClassTable, checked_table
from foveate.data.masks.files import COLOUR, UNKNOWN, Codes, MaskSource, read_codes
from foveate.data.masks.listing import PARTS, Pairs, as_parts
from foveate.data.problems import Problem, one_line

PANOPTIC = "panoptic_*.json"


@dataclass(frozen=True)
class OutlineMask:
    """A mask drawn of the outlines of objects: 0 where there is none, 1 + its class elsewhere; smaller objects lie over
    larger ones, and crowds are unknown.

    Attributes:
        path: of the image file, for errors.
        state: as `MaskSource` has it.
        size: (height, width) that the annotations say.
        outlines: of each object, as `masks_of` takes them, the largest first.
        codes: of each object.
    """

    path: Path
    state: str
    size: tuple[int, int]
    outlines: tuple[Any, ...]
    codes: tuple[int, ...]

    def read(self, *, colours: bool) -> tuple[Codes, bool]:
        codes = np.zeros(self.size, np.int32)
        for outline, code in zip(self.outlines, self.codes, strict=True):
            try:
                codes[masks_of([outline], self.size)[0]] = code
            except ValueError:
                raise
            except Exception as error:  # COCO's tools meet broken outlines in many ways
                raise ValueError(f"{self.path}: an outline that cannot be drawn: {one_line(error)}") from None
        return codes, False


@dataclass(frozen=True)
class PanopticMask:
    """A PNG file whose colours are numbers of segments; 0 is none.

    Attributes:
        photo: the file.
        segments: (number, code) of each.
    """

    photo: Photo
    segments: tuple[tuple[int, int], ...]

    @property
    def path(self) -> Path:
        return self.photo.path

    @property
    def state(self) -> str:
        return f"{self.photo.path}\0{self.photo.size}\0{self.photo.mtime_ns}\0{self.segments}"

    def read(self, *, colours: bool) -> tuple[Codes, bool]:
        found = read_codes(self.path, colours=True)[0] - COLOUR
        numbers = (found >> 16) + (found & 0xFF00) + ((found & 255) << 16)  # red is the lowest byte
        codes = {0: UNKNOWN} | dict(self.segments)
        values, places = np.unique(numbers, return_inverse=True)
        missing = [value for value in values.tolist() if value not in codes]
        if missing:
            raise ValueError(f"{self.path}: segments {missing[:3]} are not in the JSON file")
        return np.array([codes[value] for value in values.tolist()], np.int32)[places].reshape(numbers.shape), False


def has_outlines(root: Path) -> bool:
    """Does the folder have JSON files of COCO's form?"""
    return bool(annotation_files(root) or list(root.glob(f"annotations/{PANOPTIC}")))


def list_outlined(
    root: Path, *, annotations: str | Mapping[str, str] | None, images: str | None, background: str
) -> Pairs:
    """The images that COCO's JSON files name, and their masks.

    Args:
        root: of the data.
        annotations: a file, or {part: file}; None: panoptic files in annotations/ where there are any, else as the kind
            "coco" finds them.
        images: folder of the images; None: as COCO and Roboflow have them.
        background: name of the class where no object is; "": nothing is known there.
    """
    given = {"": annotations} if isinstance(annotations, str) else dict(annotations or {})
    files: list[tuple[Part, Path]] = [(part or _part(Path(name)), root / name) for part, name in given.items()]  # type: ignore[misc]
    if not files:
        files = [(_part(file), file) for file in sorted(root.glob(f"annotations/{PANOPTIC}"))]
    if files and all(_is_panoptic(file) for _, file in files):
        return _panoptic(root, files, images)
    return _outlined(root, annotations, images, background)


def _outlined(root: Path, annotations: str | Mapping[str, str] | None, images: str | None, background: str) -> Pairs:
    found = read_coco(root, annotations=annotations, images=images)
    problems = list(found.problems)
    pairs: list[tuple[Photo, MaskSource]] = []
    bare = 0
    for one in found.images:
        own = one.annotation
        if len(own) and own.outlines is None:
            bare += 1
            continue
        size = one.written or own.image
        if size == (0, 0):
            problems.append(Problem(one.path, "wanted its width and height in the annotations; got none"))
            continue
        order = np.argsort(-own.area, kind="stable").tolist()
        outlines = tuple((own.outlines or ())[place] for place in order)
        codes = tuple(UNKNOWN if own.crowd[place] else int(own.labels[place]) + 1 for place in order)
        state = f"{one.path}\0{size}\0{codes}\0{_hash(outlines)}"
        pairs.append(
            (_photo(one.path, one.part, one.name), OutlineMask(one.path, state, (size[1], size[0]), outlines, codes))
        )
    if bare:
        reason = f"{bare:,} image{'s' * (bare > 1)} with boxes alone; wanted outlines of objects (segmentation)"
        problems.append(Problem(root, reason, "folder"))
    if background in found.classes:
        raise ValueError(f"background: the annotations have a class {background!r}; wanted another name, or ''")
    names = ((background,) if background else ()) + found.classes
    numbers = {0: 0 if background else IGNORED}
    numbers |= {code + 1: code + bool(background) for code in range(len(found.classes))}
    return _pairs(root, pairs, problems, ClassTable(names, numbers, "categories of the annotations"))


def _panoptic(root: Path, files: Sequence[tuple[Part, Path]], images: str | None) -> Pairs:
    problems: list[Problem] = []
    pairs: list[tuple[Photo, MaskSource]] = []
    names: dict[int, str] = {}
    contents = []
    for part, file in files:
        try:
            content = json.loads(file.read_bytes())
            names |= {int(row["id"]): str(row["name"]) for row in content["categories"]}
            listed = {row["id"]: str(row["file_name"]) for row in content["images"]}
            rows = [
                (listed[row["image_id"]], str(row["file_name"]), [_segment(one) for one in row["segments_info"]])
                for row in content["annotations"]
            ]
            contents.append((part, file, rows))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"not of COCO's panoptic form: {type(error).__name__} {one_line(error)}"
            problems.append(Problem(file, reason, "folder"))
    codes = {number: place for place, number in enumerate(sorted(names))}
    for part, file, rows in contents:
        where = [root / images] if images else _image_folders(root, file, part)
        found = ImageFiles(root, where).find([image for image, _, _ in rows], file, problems)
        for (_, named, segments), path in zip(rows, found, strict=True):
            mask = file.with_suffix("") / named
            unknown = [category for _, category, _ in segments if category not in codes]
            if path is None:
                continue
            if not mask.is_file():
                problems.append(Problem(mask, f"{file.name} names it; there is no such file"))
            elif unknown:
                problems.append(Problem(mask, f"its segments have the category {unknown[0]}, which {file.name} lacks"))
            else:
                coded = tuple((number, UNKNOWN if crowd else codes[one]) for number, one, crowd in segments)
                name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
                pairs.append((_photo(path, part, name), PanopticMask(_photo(mask, part, mask.name), coded)))
    table = ClassTable(
        tuple(names[number] for number in sorted(names)),
        {place: place for place in range(len(names))},
        "categories of the annotations",
    )
    return _pairs(root, pairs, problems, table)


def _segment(row: Any) -> tuple[int, int, bool]:
    """Number, category, crowd."""
    return int(row["id"]), int(row["category_id"]), bool(row.get("iscrowd", 0))


def _image_folders(root: Path, file: Path, part: Part) -> list[Path]:
    names = [file.stem.rpartition("_")[2], *PARTS.get(part, ())]
    return [*(place / name for place in (root / "images", root) for name in names), root / "images", root]


def _part(file: Path) -> Part:
    """The part that a file's name says."""
    return next((part for part, names in PARTS.items() if any(name in file.stem.lower() for name in names)), "")


def _is_panoptic(file: Path) -> bool:
    try:
        return b"segments_info" in file.read_bytes()
    except OSError:
        return False


def _hash(outlines: Sequence[Any]) -> str:
    return hashlib.blake2b(json.dumps(outlines, default=str).encode(), digest_size=8).hexdigest()


def _pairs(root: Path, pairs: list[tuple[Photo, MaskSource]], problems: list[Problem], table: ClassTable) -> Pairs:
    parts: dict[Part, Path] = {part: root for part in ("", *PARTS) if any(photo.split == part for photo, _ in pairs)}
    table = checked_table(table)
    pairs, parts = as_parts(root, pairs, parts or {"": root}, problems)
    if not pairs and all(problem.kind != "folder" for problem in problems):
        problems.append(Problem(root, "the annotations name no image that can be used", "folder"))
    listing = Listing(root, (), tuple(photo for photo, _ in pairs), tuple(problems), parts)
    return Pairs(listing, tuple(mask for _, mask in pairs), table)


def _photo(path: Path, part: Part, name: str) -> Photo:
    stat = path.stat()
    return Photo(path, part, "", name, stat.st_size, stat.st_mtime_ns)
