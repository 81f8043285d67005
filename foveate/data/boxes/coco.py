"""Kind "coco": images with boxes, as COCO's JSON files have them."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from foveate.data.annotation import annotation
from foveate.data.boxes.batches import Changes, Resize
from foveate.data.boxes.folder import BoxedFolder, BoxedImage
from foveate.data.boxes.image_files import ImageFiles
from foveate.data.boxes.whole import find_box_problems, open_boxed
from foveate.data.dataset import Dataset, Progress, register_data
from foveate.data.listing import Part
from foveate.data.problems import Problem, one_line
from foveate.data.source import folder_of
from foveate.registry import nearest
from foveate.spec import DataSpec

_PARTS: dict[str, Part] = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation"}
_PARTS["test"] = "test"
_ROBOFLOW = "_annotations.coco.json"
_BEGINNING = 4096  # bytes in which a file of COCO's form names its first list
_KEYS = ('"images"', '"annotations"', '"categories"')


def annotation_files(folder: Path) -> dict[Part, list[Path]]:
    """The folder's annotation files by the part that their names say; "" for a name that says none.

    They are annotations/instances_*.json or else annotations/*.json, <part>/_annotations.coco.json, or JSON files in
    the folder itself that begin as COCO's do.
    """
    inside = folder / "annotations"
    files = sorted(inside.glob("instances_*.json")) or sorted(folder.glob(f"*/{_ROBOFLOW}"))
    others = sorted(inside.glob("*.json")) or sorted(folder.glob("*.json"))
    found: dict[Part, list[Path]] = {}
    for file in files or filter(_begins_as_coco, others):
        found.setdefault(_part_of(file, folder), []).append(file)
    return found


def _part_of(file: Path, folder: Path) -> Part:
    name = (file.parent.name if file.name == _ROBOFLOW and file.parent != folder else file.stem).lower()
    return next((part for key, part in _PARTS.items() if key in name), "")


def _begins_as_coco(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            text = opened.read(_BEGINNING)
    except OSError:
        return False
    return text.lstrip().startswith("{") and any(key in text for key in _KEYS)


def _is_coco(source: str) -> bool:
    folder = Path(source).expanduser()
    return folder.is_dir() and bool(annotation_files(folder))


def find_problems(
    folder: Path,
    *,
    progress: Progress | None = None,
    skip_bad: bool = False,
    annotations: str | Mapping[str, str] | None = None,
    images: str | None = None,
) -> list[Problem]:
    """Everything that is wrong with the annotations and the images, every one decoded, and notes."""
    return find_box_problems(read_coco(folder, annotations=annotations, images=images), progress, skip_bad)


@register_data("coco", recognises=_is_coco, check=find_problems, tasks=("detection",))
def open_coco(
    spec: DataSpec,
    *,
    progress: Progress | None = None,
    annotations: str | Mapping[str, str] | None = None,
    images: str | None = None,
    skip_bad: bool = False,
    resize: Resize = "letterbox",
    masks: bool = False,
    group: str | None = None,
    scales: tuple[float, float] = Changes.scales,
    flip: bool = Changes.flip,
    colour: float = Changes.colour,
    multi_scale: tuple[float, float] | None = Changes.multi_scale,
) -> Dataset:
    """Images with boxes in COCO's JSON files, a file a part; without parts, test_fraction of the images is held out.

    Classes are the categories in the order of their ids, whatever ids are missing between. Images without annotations
    are negatives. The target is "boxes".

    Args:
        annotations: the file, or {"train": file, "validation": file, "test": file}, below the folder; None: those that
            `annotation_files` finds.
        images: the folder of the images, below the folder; None: images/, a folder with the part's name, or the
            annotations' own.
        skip_bad: leave out what cannot be used, instead of refusing it.
        resize, masks, group: as `open_boxed` takes them.
        scales, flip, colour, multi_scale: of training, as `foveate.data.boxes.batches.Changes` has them.

    Raises: ValueError: if a file cannot be used, each by its path, or an option does not fit.
    """
    found = read_coco(folder_of(spec.source), annotations=annotations, images=images)
    changes = Changes(scales, flip, colour, multi_scale)
    return open_boxed(
        found, spec, progress=progress, skip_bad=skip_bad, resize=resize, masks=masks, group=group, changes=changes
    )


def read_coco(
    folder: Path, *, annotations: str | Mapping[str, str] | None = None, images: str | None = None
) -> BoxedFolder:
    """What the annotation files say; nothing is decoded. Arguments as `open_coco`'s."""
    files = _files(folder, annotations)
    reader = _Reader(folder, None if images is None else folder / images)
    for part in ("", "train", "validation", "test"):
        for file in files.get(part, ()):
            reader.read(file, part)
    return BoxedFolder(folder, tuple(reader.classes), tuple(reader.images), tuple(reader.all_problems()))


def _files(folder: Path, annotations: str | Mapping[str, str] | None) -> dict[Part, list[Path]]:
    if isinstance(annotations, str):
        annotations = {"": annotations}
    if annotations is not None:
        wrong = next((part for part in annotations if part not in ("", "train", "validation", "test")), None)
        if wrong is not None:
            raise ValueError(f"annotations: {wrong!r}: {nearest(wrong, ('train', 'validation', 'test'))}")
        return {part: [folder / name] for part, name in annotations.items()}  # type: ignore[misc]
    found = annotation_files(folder)
    if not found:
        wanted = "wanted annotations/instances_train.json, train/_annotations.coco.json or a JSON file of COCO's form"
        raise ValueError(f"{folder}: {wanted}; got none")
    named = {part: files for part, files in found.items() if part}
    if named and "" in found:
        del found[""]
    return found


@dataclass
class _Reader:
    """Reads one annotation file after another; the first one's categories are the classes."""

    folder: Path
    image_folder: Path | None
    classes: list[str] = field(default_factory=list)
    images: list[BoxedImage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def all_problems(self) -> list[Problem]:
        """What was found, and a note on images that no file names."""
        return self.problems + ImageFiles(self.folder, ()).unused({image.path for image in self.images})

    def read(self, file: Path, part: Part) -> None:
        content = _content(file, self.problems)
        if content is None:
            return
        numbers = self._categories(file, content["categories"])
        listed = self._listed(file, content["images"])
        by_image = self._annotations(file, content["annotations"], listed, numbers)
        own = [self.image_folder] if self.image_folder else self._folders(file, part)
        names = [str(row["file_name"]) for row in listed.values()]
        there = ImageFiles(self.folder, own)
        paths = there.find(names, file, self.problems)
        for (number, row), path in zip(listed.items(), paths, strict=True):
            if path is None:
                continue
            rows = by_image.get(number, [])
            boxes = [(x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in rows)]
            area = [_area(one) for one in rows]
            outlines = [one.get("segmentation") for one in rows]
            found = annotation(
                boxes,
                [numbers[one["category_id"]] for one in rows],
                [bool(one.get("iscrowd", 0)) for one in rows],
                area,
                outlines if any(outlines) else None,
            )
            size = (row.get("width"), row.get("height"))
            written = (int(size[0]), int(size[1])) if all(isinstance(side, int) for side in size) else None  # type: ignore[arg-type]
            name = path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)
            self.images.append(BoxedImage(path, name, part, found, written))

    def _folders(self, file: Path, part: Part) -> list[Path]:
        """Where the images of an annotation file may lie."""
        last = file.stem.rpartition("_")[2]  # train2017 of instances_train2017
        names = [name for name in dict.fromkeys((last, part, *(key for key in _PARTS if _PARTS[key] == part))) if name]
        inside = [self.folder / "images" / name for name in names] + [self.folder / "images"]
        beside = [self.folder / name / "images" for name in names] + [self.folder / name for name in names]
        return [*inside, *beside, self.folder, file.parent]

    def _categories(self, file: Path, rows: Sequence[Any]) -> dict[Any, int]:
        """Category id → class number."""
        names: dict[Any, str] = {}
        for place, row in enumerate(rows):
            if not _has_id(row, "id") or not isinstance(row.get("name"), str) or not row["name"].strip():
                self._wrong(file, f'categories: entry {place}: wanted {{"id": …, "name": …}}; got {_shown(row)}')
            elif row["id"] in names:
                self._wrong(file, f"categories: id {row['id']} stands for {names[row['id']]!r} and {row['name']!r}")
            elif row["name"] in names.values():
                self._wrong(file, f"categories: two are called {row['name']!r}")
            else:
                names[row["id"]] = str(row["name"])
        if not self.classes:
            self.classes += [names[number] for number in sorted(names, key=lambda one: (not isinstance(one, int), one))]
        numbers = {}
        for number, name in names.items():
            if name in self.classes:
                numbers[number] = self.classes.index(name)
            else:
                reason = f"category {name!r} is none of the first file's; {nearest(name, self.classes)}"
                self.problems.append(Problem(file, reason, "folder"))
        return numbers

    def _listed(self, file: Path, rows: Sequence[Any]) -> dict[Any, dict[str, Any]]:
        """Image id → its entry."""
        found: dict[Any, dict[str, Any]] = {}
        for place, row in enumerate(rows):
            if not _has_id(row, "id") or not isinstance(row.get("file_name"), str):
                self._wrong(file, f'images: entry {place}: wanted {{"id": …, "file_name": …}}; got {_shown(row)}')
            elif row["id"] in found:
                first = found[row["id"]]["file_name"]
                self._wrong(file, f"images: id {row['id']} is there twice: {first!r} and {row['file_name']!r}")
            else:
                found[row["id"]] = row
        return found

    def _annotations(
        self, file: Path, rows: Sequence[Any], images: Mapping[Any, Any], numbers: Mapping[Any, int]
    ) -> dict[Any, list[dict[str, Any]]]:
        """Image id → its annotations that can be used."""
        found: dict[Any, list[dict[str, Any]]] = {}
        seen: set[Any] = set()
        for place, row in enumerate(rows):
            if not _has_id(row, "image_id") or not _has_id(row, "category_id"):
                self._wrong(
                    file, f'annotations: entry {place}: wanted {{"image_id": …, "category_id": …}}; got {_shown(row)}'
                )
                continue
            number = row["id"] if _has_id(row, "id") else f"entry {place}"
            image = images.get(row["image_id"])
            called = f"annotation {number}" + ("" if image is None else f" ({image['file_name']})")
            box = row.get("bbox")
            if image is None:
                self._wrong(file, f"{called}: no image has the id {row['image_id']!r}")
            elif number in seen:
                self._wrong(file, f"{called}: its id is there twice")
            elif row.get("category_id") not in numbers:
                known = ", ".join(map(str, list(numbers)[:10])) + ", …" * (len(numbers) > 10)
                self._wrong(file, f"{called}: unknown class: category id {row.get('category_id')!r}; known: {known}")
            elif not _is_box(box):
                self._wrong(file, f"{called}: wanted bbox [x, y, width, height] in pixels; got {_shown(box)}")
            else:
                found.setdefault(row["image_id"], []).append(row)
            seen.add(number)
        return found

    def _wrong(self, file: Path, reason: str) -> None:
        self.problems.append(Problem(file, reason))


def _content(file: Path, problems: list[Problem]) -> dict[str, list[Any]] | None:
    """The file's three lists; None, and a problem, where it has another form."""
    try:
        content = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        reason = f"broken JSON in line {error.lineno}, column {error.colno}: {one_line(error.msg)}"
        problems.append(Problem(file, reason, "folder"))
        return None
    except (OSError, UnicodeDecodeError) as error:
        problems.append(
            Problem(file, f"cannot be read: {getattr(error, 'strerror', None) or one_line(error)}", "folder")
        )
        return None
    lists = {}
    for key in ("images", "annotations", "categories"):
        value = content.get(key, [] if key == "annotations" else None) if isinstance(content, dict) else None
        if not isinstance(value, list):
            near = get_close_matches(key, list(content), 1) if isinstance(content, dict) else []
            hint = f"; did you mean {near[0]!r}?" if near else ""
            problems.append(
                Problem(file, f"wanted a list {key!r}, as COCO's files have; got {_shown(value)}{hint}", "folder")
            )
            return None
        lists[key] = value
    return lists


def _has_id(row: Any, key: str) -> bool:
    return isinstance(row, dict) and isinstance(row.get(key), (int, str)) and not isinstance(row[key], bool)


def _area(row: dict[str, Any]) -> float:
    """Of the object, where the file says it, else of its box."""
    area = row.get("area")
    known = isinstance(area, (int, float)) and math.isfinite(area) and area > 0
    return float(area) if known else float(row["bbox"][2] * row["bbox"][3])  # type: ignore[arg-type]


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(side, (int, float)) and not isinstance(side, bool) and math.isfinite(side) for side in box)
    )


def _shown(value: Any) -> str:
    return "nothing" if value is None else one_line(json.dumps(value), 60)
