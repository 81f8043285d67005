"""Kind "yolo": images with boxes, as YOLO's text files have them, and a data.yaml."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.annotation import annotation
from foveate.data.boxes.batches import Changes, Resize
from foveate.data.boxes.folder import BoxedFolder, BoxedImage
from foveate.data.boxes.whole import find_box_problems, open_boxed
from foveate.data.dataset import Dataset, Progress, register_data
from foveate.data.decode import ENDINGS
from foveate.data.listing import Part
from foveate.data.problems import Problem, one_line
from foveate.data.source import folder_of
from foveate.spec import DataSpec

_PARTS: dict[str, Part] = {"train": "train", "val": "validation", "valid": "validation", "test": "test"}
SLACK = 0.02  # of the sides, beyond which a number is no share of them


def find_yaml(folder: Path) -> Path | None:
    """data.yaml, or the only other yaml file that names classes and a part."""
    files = [folder / "data.yaml", *sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])]
    for file in files:
        content = _content(file) if file.is_file() else None
        if isinstance(content, dict) and "names" in content and {"train", "val"} & content.keys():
            return file
    return None


def _content(file: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _is_yolo(source: str) -> bool:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return False
    return find_yaml(folder) is not None or next((folder / "labels").glob("**/*.txt"), None) is not None


def find_problems(folder: Path, *, progress: Progress | None = None, skip_bad: bool = False) -> list[Problem]:
    """Everything that is wrong with the labels and the images, every one decoded, and notes."""
    return find_box_problems(read_yolo(folder), progress, skip_bad)


@register_data("yolo", recognises=_is_yolo, check=find_problems, tasks=("detection",))
def open_yolo(
    spec: DataSpec,
    *,
    progress: Progress | None = None,
    skip_bad: bool = False,
    resize: Resize = "letterbox",
    masks: bool = False,
    group: str | None = None,
    scales: tuple[float, float] = Changes.scales,
    flip: bool = Changes.flip,
    colour: float = Changes.colour,
    multi_scale: tuple[float, float] | None = Changes.multi_scale,
) -> Dataset:
    """Images below images/ with a text file for each below labels/, and data.yaml with names, train, val and test; or
    images/train, images/val and images/test without one; or no parts, and test_fraction is held out.

    A line of a text file is "class x y width height", the middle and the sides of a box as shares of the image's sides,
    or "class x y x y …", an outline. An image without a file or with an empty one is a negative. The target is "boxes".

    Args:
        skip_bad: leave out what cannot be used, instead of refusing it.
        resize, masks, group: as `open_boxed` takes them.
        scales, flip, colour, multi_scale: of training, as `foveate.data.boxes.batches.Changes` has them.

    Raises: ValueError: if a file cannot be used, each by its path, or an option does not fit.
    """
    changes = Changes(scales, flip, colour, multi_scale)
    return open_boxed(
        read_yolo(folder_of(spec.source)),
        spec,
        progress=progress,
        skip_bad=skip_bad,
        resize=resize,
        masks=masks,
        group=group,
        changes=changes,
    )


def read_yolo(folder: Path) -> BoxedFolder:
    """What the text files say; nothing is decoded.

    Raises: ValueError: if data.yaml is there and cannot be read, or names neither classes nor images.
    """
    layout = _layout(folder)
    problems = list(layout.problems)
    images, highest = [], -1
    for part, paths in layout.images.items():
        for path in paths:
            rows = _rows(_label_file(path), len(layout.classes) or None, problems)
            highest = max([highest, *(label for label, *_ in rows)])
            boxes = [box for _, box, _ in rows]
            outlines = [outline for *_, outline in rows]
            found = annotation(boxes, [label for label, *_ in rows], outlines=outlines if any(outlines) else None)
            name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
            images.append(BoxedImage(path, name, part, found, fractions=True))
    classes = layout.classes or tuple(map(str, range(highest + 1)))
    if images and not any(_label_file(image.path).is_file() for image in images):
        wanted = _label_file(images[0].path)
        problems.append(
            Problem(folder, f"none of the {len(images):,} images has a text file, such as {wanted}", "folder")
        )
    return BoxedFolder(folder, classes, tuple(images), tuple(problems))


@dataclass(frozen=True)
class _Layout:
    classes: tuple[str, ...]
    images: dict[Part, list[Path]]
    problems: tuple[Problem, ...] = ()


def _layout(folder: Path) -> _Layout:
    file = find_yaml(folder)
    if file is None:
        if (broken := folder / "data.yaml").is_file():
            raise ValueError(f"{broken}: {_broken(broken)}")
        parts = {part: folder / "images" / name for name, part in _PARTS.items() if (folder / "images" / name).is_dir()}
        parts = parts if "train" in parts else {"": folder / "images"}
        listed = folder / "labels" / "classes.txt"
        listed = listed if listed.is_file() else folder / "classes.txt"
        names = tuple(listed.read_text(encoding="utf-8").split("\n")) if listed.is_file() else ()
        classes = tuple(name.strip() for name in names if name.strip())
        note = Problem(folder, "no data.yaml and no classes.txt: classes are called by their numbers", "note")
        return _Layout(classes, {part: _below(place) for part, place in parts.items()}, () if classes else (note,))
    content = _content(file)
    classes = _names(file, content)
    problems: list[Problem] = []
    images: dict[Part, list[Path]] = {}
    for name, part in _PARTS.items():
        for entry in _listed(content.get(name)):
            place = _place(file, content, entry)
            if place is None:
                problems.append(Problem(file, f"{name}: there is no {entry!r} beside it", "folder"))
            elif place.is_file():
                images.setdefault(part, []).extend(_from_list(place, problems))
            else:
                images.setdefault(part, []).extend(_below(place))
    if not any(images.values()):
        problems.append(Problem(file, "wanted images in train and val; got none", "folder"))
    return _Layout(classes, images, tuple(problems))


def _broken(file: Path) -> str:
    """Why a data.yaml is of no use."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return f"broken YAML{where}: {one_line(getattr(error, 'problem', None) or error)}"
    got = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
    return f"wanted names, train and val; got {got}"


def _names(file: Path, content: dict[str, Any]) -> tuple[str, ...]:
    names = content["names"]
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise ValueError(
                f"{file}: names: wanted the numbers 0 to {len(names) - 1}; got {one_line(list(names), 60)}"
            )
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ValueError(f"{file}: names: wanted a list of classes, or {{0: name, …}}; got {one_line(names, 60)}")
    count = content.get("nc", len(names))
    if count != len(names):
        raise ValueError(f"{file}: nc is {count}, and there are {len(names)} names")
    return tuple(map(str, names))


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)] if value else []


def _place(file: Path, content: dict[str, Any], entry: str) -> Path | None:
    """Where a part lies: as the file says it, below its `path`, or beside it where the set was moved."""
    root = file.parent
    own = Path(str(content.get("path") or "."))
    rest = Path(*[part for part in Path(entry).parts if part not in ("..", ".", "/")])
    places = [root / own / entry, root / entry, root / rest, root / Path(*rest.parts[-2:])]
    return next((place for place in places if place.exists()), None)


def _from_list(file: Path, problems: list[Problem]) -> list[Path]:
    """The images that a text file names, a line each."""
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if line.strip():
            place = file.parent / line.strip()
            if place.is_file():
                found.append(place)
            else:
                problems.append(Problem(file, f"line {number}: names {one_line(line, 80)}; there is no such file"))
    return found


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())


def _label_file(image: Path) -> Path:
    """labels/a/1.txt of images/a/1.jpg; 1.txt beside an image that is below no folder images."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _rows(
    file: Path, classes: int | None, problems: list[Problem]
) -> list[tuple[int, Sequence[float], list[list[float]] | None]]:
    """(class, box as corners, outline) of each line, in shares of the sides."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(file, f"cannot be read: {getattr(error, 'strerror', None) or one_line(error)}"))
        return []
    rows: list[tuple[int, Sequence[float], list[list[float]] | None]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.split():
            continue
        values = [_number(one) for one in line.split()]
        label, *sides = values
        known = [side for side in sides if side is not None]
        if (
            label is None
            or len(known) < len(sides)
            or not (len(sides) == 4 or (len(sides) >= 6 and len(sides) % 2 == 0))
        ):
            wanted = "'class x y width height' or 'class x y x y …'"
            problems.append(Problem(file, f"line {number}: wanted {wanted}; got {one_line(line, 60)!r}"))
        elif label != int(label) or label < 0 or (classes is not None and label >= classes):
            some = f"0 to {classes - 1}" if classes else "whole numbers from 0"
            problems.append(Problem(file, f"line {number}: unknown class {line.split()[0]}; known: {some}"))
        elif min(known) < -SLACK or max(known) > 1 + SLACK:
            reason = f"wanted shares of the image's sides, 0 to 1; got {one_line(line, 60)!r}"
            problems.append(Problem(file, f"line {number}: {reason}" + "; pixels?" * (max(known) > 2)))
        elif len(known) == 4:
            x, y, w, h = known
            rows.append((int(label), (x - w / 2, y - h / 2, x + w / 2, y + h / 2), None))
        else:
            points = np.array(known).reshape(-1, 2)
            rows.append((int(label), (*points.min(0).tolist(), *points.max(0).tolist()), [known]))
    return rows


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
