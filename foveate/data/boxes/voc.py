"""Kind "voc": images with boxes, as PASCAL VOC's XML files have them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

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

ANNOTATIONS, IMAGES = ("Annotations", "annotations"), ("JPEGImages", "images", "Images")
_LISTS: dict[str, Part] = {"train": "train", "val": "validation", "test": "test"}
Difficult = Literal["ignore", "keep"]


def _home(folder: Path) -> Path | None:
    """The folder that has the XML files' folder: this one, or the only one inside that does (VOCdevkit/VOC2007)."""
    if not folder.is_dir():
        return None
    inside = [folder, *sorted(entry for entry in folder.iterdir() if entry.is_dir())]
    found = [place for place in inside if (own := _xml_folder(place)) and next(own.glob("*.xml"), None)]
    return found[0] if found and (found[0] == folder or len(found) == 1) else None


def _xml_folder(folder: Path) -> Path | None:
    return next((folder / name for name in ANNOTATIONS if (folder / name).is_dir()), None)


def _is_voc(source: str) -> bool:
    return _home(Path(source).expanduser()) is not None


def find_problems(
    folder: Path,
    *,
    progress: Progress | None = None,
    skip_bad: bool = False,
    classes: Sequence[str] | None = None,
    difficult: Difficult = "ignore",
    first_pixel: int = 1,
) -> list[Problem]:
    """Everything that is wrong with the annotations and the images, every one decoded, and notes."""
    return find_box_problems(read_voc(folder, classes, difficult, first_pixel), progress, skip_bad)


@register_data("voc", recognises=_is_voc, check=find_problems, tasks=("detection",))
def open_voc(
    spec: DataSpec,
    *,
    progress: Progress | None = None,
    classes: Sequence[str] | None = None,
    difficult: Difficult = "ignore",
    first_pixel: int = 1,
    skip_bad: bool = False,
    resize: Resize = "letterbox",
    masks: bool = False,
    group: str | None = None,
    scales: tuple[float, float] = Changes.scales,
    flip: bool = Changes.flip,
    colour: float = Changes.colour,
    multi_scale: tuple[float, float] | None = Changes.multi_scale,
) -> Dataset:
    """Images in JPEGImages/, a file of boxes for each in Annotations/, and the parts in ImageSets/Main/train.txt,
    val.txt and test.txt (trainval.txt where there is no train.txt); without these, test_fraction is held out.

    The target is "boxes".

    Args:
        classes: names, in the order of their numbers; None: those that occur, sorted.
        difficult: objects that are marked so: "ignore", neither trained on nor counted, as VOC does; or "keep".
        first_pixel: number of the first pixel in the files: 1 in VOC's own, 0 in those of some tools.
        skip_bad: leave out what cannot be used, instead of refusing it.
        resize, masks, group: as `open_boxed` takes them.
        scales, flip, colour, multi_scale: of training, as `foveate.data.boxes.batches.Changes` has them.

    Raises: ValueError: if a file cannot be used, each by its path, or an option does not fit.
    """
    found = read_voc(folder_of(spec.source), classes, difficult, first_pixel)
    changes = Changes(scales, flip, colour, multi_scale)
    return open_boxed(
        found, spec, progress=progress, skip_bad=skip_bad, resize=resize, masks=masks, group=group, changes=changes
    )


def read_voc(
    folder: Path, classes: Sequence[str] | None = None, difficult: Difficult = "ignore", first_pixel: int = 1
) -> BoxedFolder:
    """What the XML files say; nothing is decoded. Arguments as `open_voc`'s."""
    if difficult not in ("ignore", "keep"):
        raise ValueError(f"difficult: wanted 'ignore' or 'keep'; got {difficult!r}")
    home = _home(folder)
    if home is None:
        raise ValueError(f"{folder}: wanted Annotations/*.xml beside JPEGImages/; got none")
    problems: list[Problem] = []
    own = _xml_folder(home) or home
    files = {file.stem: file for file in sorted(own.glob("*.xml"))}
    parts = _parts(home, files, problems)
    read = [(part, files[stem], _read(files[stem], first_pixel, problems)) for stem, part in parts.items()]
    kept = [(part, file, one) for part, file, one in read if one is not None]
    names = (
        tuple(classes) if classes is not None else tuple(sorted({row[0] for *_, one in kept for row in one.objects}))
    )
    places = [home / name for name in IMAGES] + [home, own]
    wanted = [one.file or f"{file.stem}.jpg" for _, file, one in kept]
    files_there = ImageFiles(home, places)
    there = files_there.find(wanted, own, problems, stems=[file.stem for _, file, _ in kept])
    images = []
    for (part, file, one), path in zip(kept, there, strict=True):
        if path is None:
            continue
        known = [row for row in one.objects if row[0] in names]
        for row in one.objects:
            if row[0] not in names:
                problems.append(Problem(file, f"unknown class {row[0]!r}; {nearest(row[0], names)}"))
        found = annotation(
            [row[1] for row in known],
            [names.index(row[0]) for row in known],
            [row[2] and difficult == "ignore" for row in known],
        )
        name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
        images.append(BoxedImage(path, name, part, found, one.size))
    if set(parts.values()) == {""}:
        problems += files_there.unused({image.path for image in images})
    return BoxedFolder(folder, names, tuple(images), tuple(problems))


def _parts(home: Path, files: dict[str, Path], problems: list[Problem]) -> dict[str, Part]:
    """Stem of an image → its part."""
    lists = home / "ImageSets" / "Main"
    names = dict(_LISTS)
    if not (lists / "train.txt").is_file():
        names = {"trainval": "train", "val": "validation", "test": "test"}
        if (lists / "trainval.txt").is_file():
            del names["val"]
    there = {name: lists / f"{name}.txt" for name in names if (lists / f"{name}.txt").is_file()}
    if not there:
        return dict.fromkeys(files, "")
    found: dict[str, Part] = {}
    for name, file in there.items():
        stems = [
            line.split()[0] for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.split()
        ]
        missing = [stem for stem in stems if stem not in files]
        if len(missing) == len(stems):
            problems.append(Problem(file, "left out: no image of it has an annotation", "note"))
            continue
        for stem in missing:
            problems.append(
                Problem(file, f"names {stem!r}; there is no Annotations/{stem}.xml; {nearest(stem, files, 1)}")
            )
        for stem in stems:
            if stem in found and found[stem] != names[name]:
                problems.append(Problem(file, f"names {stem!r}, which is in the {found[stem]} part as well"))
            elif stem in files:
                found[stem] = names[name]
    if rest := len(files.keys() - found.keys()):
        problems.append(Problem(lists, f"{rest:,} annotated images are in no list and left out", "note"))
    return found


class _Content:
    """Of one XML file: name of the image, (width, height), objects as (class, box, difficult)."""

    def __init__(self, file: str, size: tuple[int, int] | None) -> None:
        self.file, self.size = file, size
        self.objects: list[tuple[str, tuple[float, float, float, float], bool]] = []


def _read(file: Path, first_pixel: int, problems: list[Problem]) -> _Content | None:
    try:
        root = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        line, column = error.position
        problems.append(Problem(file, f"broken XML in line {line}, column {column + 1}: {one_line(error)}"))
        return None
    except OSError as error:
        problems.append(Problem(file, f"cannot be read: {error.strerror or error}"))
        return None
    size = tuple(_number(root.findtext(f"size/{side}")) for side in ("width", "height"))
    found = _Content(
        Path((root.findtext("filename") or "").replace("\\", "/")).name,
        (int(size[0]), int(size[1])) if size[0] and size[1] else None,
    )
    for number, entry in enumerate(root.iter("object"), 1):
        name = (entry.findtext("name") or "").strip()
        sides = [_number(entry.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
        x0, y0, x1, y1 = sides
        if not name:
            problems.append(Problem(file, f"object {number}: has no name"))
        elif x0 is None or y0 is None or x1 is None or y1 is None:
            problems.append(Problem(file, f"object {number} ({name!r}): wanted bndbox with xmin, ymin, xmax and ymax"))
        else:
            start = first_pixel
            box = (x0 - start, y0 - start, x1 - start + 1, y1 - start + 1)  # the last pixel belongs to it
            found.objects.append((name, box, (entry.findtext("difficult") or "0").strip() == "1"))
    return found


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
