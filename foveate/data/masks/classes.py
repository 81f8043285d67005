"""Which class each value or colour of a mask stands for."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.dataset import IGNORED
from foveate.data.masks.files import COLOUR, UNKNOWN, Codes, colour_code, shown_code, shown_codes
from foveate.data.problems import one_line
from foveate.registry import nearest

CLASS_FILES = ("classes.txt", "classes.csv", "class_dict.csv", "labelmap.txt", "objectInfo150.txt")
MOST_CLASSES = IGNORED  # 0 to 254
CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # of labelIds.png files
VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "cyclist",
)  # fmt: skip


_COLOURS = (("r", "g", "b"), ("red", "green", "blue"))


@dataclass(frozen=True)
class ClassTable:
    """The classes, and what each code of a mask stands for.

    Attributes:
        names: of the classes, in the order of their numbers.
        numbers: code → number of a class, or `IGNORED`.
        source: what the table was made of, in words.
        hint: what else the user may have meant, for the error about a code that is not in it.
    """

    names: tuple[str, ...]
    numbers: Mapping[int, int]
    source: str
    hint: str = ""

    @property
    def of_colours(self) -> bool:
        """Are all codes but 255 colours?"""
        return all(code >= COLOUR for code in self.numbers if code != IGNORED)

    def unknown(self, codes: Iterable[int]) -> list[int]:
        """Those that stand for nothing."""
        return [code for code in codes if code != UNKNOWN and code not in self.numbers]

    def translated(self, codes: Codes) -> NDArray[np.uint8]:
        """(H, W) class numbers, `IGNORED` where nothing is known. Raises: ValueError: if a code is not in the table."""
        if codes.max(initial=0) < len(self._by_value) - 1:
            found = self._by_value[codes + 1]
            if found.min(initial=0) >= 0:
                return found.astype(np.uint8)
        keys = np.array(sorted({UNKNOWN, *self.numbers}), np.int32)
        values = np.array([self.numbers.get(key, IGNORED) for key in keys.tolist()], np.uint8)
        places = np.searchsorted(keys, codes).clip(max=len(keys) - 1)
        if not np.array_equal(keys[places], codes):
            unknown = self.unknown(np.unique(codes).tolist())
            raise ValueError(f"values {shown_codes(unknown)} stand for no class")
        return values[places]

    @cached_property
    def _by_value(self) -> NDArray[np.int16]:
        """The class of code k - 1 at place k, for the values of small index masks; -1: none."""
        found = np.full(257, -1, np.int16)
        found[0] = IGNORED
        for code, number in self.numbers.items():
            if 0 <= code < 256:
                found[code + 1] = number
        return found


def preset(name: str) -> ClassTable:
    """The classes of a published set: "cityscapes" (19, masks of train ids), "cityscapes_raw" (the same, masks of the
    34 raw ids, the others ignored), "voc" (values or colours) or "camvid" (11, and 11 ignored).

    Raises: ValueError: if there is none of this name.
    """
    if name == "cityscapes":
        table = _by_index(CITYSCAPES, "Cityscapes' 19 classes, by train id")
        return replace(table, hint="; masks of raw ids, 0 to 33? classes = 'cityscapes_raw' translates them")
    if name == "cityscapes_raw":
        numbers = dict.fromkeys((IGNORED, *range(34)), IGNORED)
        numbers |= {raw: number for number, raw in enumerate(CITYSCAPES_IDS)}
        return ClassTable(CITYSCAPES, numbers, "Cityscapes' 19 classes, by raw id")
    if name == "voc":
        table = _by_index(VOC, "VOC's 21 classes")
        colours = {_voc_colour(number): number for number in range(len(VOC))}
        grey = {128: colours[colour_code(128, 128, 128)]}  # a mask without other colours is read as one of values
        return replace(table, numbers={**table.numbers, **colours, **grey, colour_code(224, 224, 192): IGNORED})
    if name == "camvid":
        table = _by_index(CAMVID, "CamVid's 11 classes")
        return replace(table, numbers={**table.numbers, len(CAMVID): IGNORED})
    raise ValueError(f"classes: wanted names, a file or {', '.join(PRESETS)}; got {name!r}; {nearest(name, PRESETS)}")


PRESETS = ("cityscapes", "cityscapes_raw", "voc", "camvid")


def _voc_colour(number: int) -> int:
    """The colour of a class: its bits, three at a time, are the upper bits of red, green and blue."""
    channels = [sum((number >> (3 * bit + shift) & 1) << (7 - bit) for bit in range(3)) for shift in range(3)]
    return colour_code(*channels)


def _by_index(names: Sequence[str], source: str, first: int = 0) -> ClassTable:
    numbers = {number + first: number for number in range(len(names))}
    return ClassTable(tuple(names), {IGNORED: IGNORED} | numbers, source)


def given_table(classes: Any, folder: Path, first: int = 0) -> ClassTable:
    """The table of the option `classes`.

    Args:
        classes: a list of names in the order of the values; {name: value} or {name: [r, g, b]}; how many there are; a
            file of classes; or a published set, as `preset` has them.
        folder: that a file's name is relative to.
        first: value of the first class, where only names are given.

    Raises: ValueError: if it is none of these, or names or values are there twice.
    """
    if isinstance(classes, Mapping):
        return _mapped({str(name): value for name, value in classes.items()}, "the option classes")
    if isinstance(classes, bool) or not isinstance(classes, (str, int, Sequence)):
        raise ValueError(f"classes: wanted a list of names, {{name: value}}, a file or a number; got {classes!r}")
    if isinstance(classes, int):
        if not 1 <= classes <= MOST_CLASSES:
            raise ValueError(f"classes: wanted 1 to {MOST_CLASSES} classes; got {classes}")
        return _by_index([str(number) for number in range(classes)], f"{classes} classes", first)
    if not isinstance(classes, str):
        return checked_table(_by_index([str(name) for name in classes], "the option classes", first))
    file = folder / classes
    if file.is_file() or file.suffix:
        return read_table(file, first)
    return preset(classes)


def found_table(folder: Path, first: int = 0) -> ClassTable | None:
    """The table of a file of classes that lies in the folder, if one does."""
    file = next((folder / name for name in CLASS_FILES if (folder / name).is_file()), None)
    return None if file is None else read_table(file, first)


def read_table(file: Path, first: int = 0) -> ClassTable:
    """The table of a file: a name a line; a CSV with a header (name and value, or name and r, g, b); labelmap.txt as
    CVAT writes it; ADE20K's objectInfo150.txt.

    first: value of the first class, where only names are there.

    Raises: ValueError: if it cannot be read or is of another form.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ValueError(f"{file}: wanted a class a line; got none")
    if all(line.count(":") == 3 for line in lines):  # CVAT: name:r,g,b:parts:actions
        rows = [line.split(":") for line in lines]
        return _mapped({row[0]: _numbers(file, row[1].split(",")) for row in rows}, file.name, file)
    delimiter = "\t" if "\t" in lines[0] else ","
    if delimiter not in lines[0]:
        return checked_table(_by_index(lines, file.name, first), file)
    table = csv.DictReader(io.StringIO("\n".join(lines)), delimiter=delimiter, skipinitialspace=True)
    return _mapped(
        _columns(file, [{str(k).strip().lower(): v for k, v in row.items()} for row in table]), file.name, file
    )


def _columns(file: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    keys = list(rows[0]) if rows else []
    name = next((key for key in ("name", "class", "label") if key in keys), None)
    value = [key for key in ("value", "index", "idx", "id", "number") if key in keys][:1]
    colour = next((list(three) for three in _COLOURS if set(three) <= set(keys)), value)
    if name is None or not colour:
        raise ValueError(f"{file}: wanted the columns name, r, g, b or name, value; got {', '.join(keys) or 'none'}")
    found: dict[str, Any] = {}
    for row in rows:
        if row[name] in found:
            raise ValueError(f"{file}: the class {row[name]!r} is there twice")
        found[row[name]] = _numbers(file, [row[key] for key in colour])
    return found


def _numbers(file: Path, texts: Sequence[Any]) -> list[int]:
    try:
        return [int(text) for text in texts]
    except (TypeError, ValueError):
        raise ValueError(f"{file}: wanted whole numbers, got {one_line(', '.join(map(str, texts)), 60)!r}") from None


def _mapped(values: Mapping[str, Any], source: str, file: Path | None = None) -> ClassTable:
    """Of name → value or (r, g, b); in the order of the values where they are values, else as they are given."""
    codes: dict[str, int] = {}
    for name, value in values.items():
        whole = [value] if isinstance(value, int) else list(value) if isinstance(value, Sequence) else []
        if not (len(whole) in (1, 3) and all(isinstance(one, int) and 0 <= one < 65536 for one in whole)):
            raise ValueError(f"{file or 'classes'}: {name!r}: wanted a value or [r, g, b]; got {value!r}")
        if len(whole) == 3 and max(whole) > 255:
            raise ValueError(f"{file or 'classes'}: {name!r}: wanted [r, g, b] from 0 to 255; got {value!r}")
        codes[name] = whole[0] if len(whole) == 1 else colour_code(*whole)
    names = (
        sorted(codes, key=lambda name: codes[name]) if all(code < COLOUR for code in codes.values()) else list(codes)
    )
    twice = [name for name in names if list(codes.values()).count(codes[name]) > 1]
    if twice:
        raise ValueError(f"{file or 'classes'}: {' and '.join(map(repr, twice[:2]))} have one value")
    numbers = {codes[name]: number for number, name in enumerate(names)}
    return checked_table(ClassTable(tuple(names), {IGNORED: IGNORED} | numbers, source), file)


def checked_table(table: ClassTable, file: Path | None = None) -> ClassTable:
    """The table. Raises: ValueError: if it has no classes, too many, or two of one name; names the file."""
    if not 1 <= len(table.names) <= MOST_CLASSES or len(set(table.names)) != len(table.names):
        different = len(set(table.names))
        raise ValueError(f"{file or 'classes'}: wanted 1 to {MOST_CLASSES} different names; got {different}")
    return table


def as_binary(table: ClassTable, codes: Iterable[int]) -> ClassTable:
    """The table, with 255 as the second class where there are two, numbered 0 and 1, and the masks' values are 0 and
    255."""
    there = set(codes) - {UNKNOWN}
    if 255 not in there or not there <= {0, 255} or table.numbers != {0: 0, 1: 1, IGNORED: IGNORED}:
        return table
    return ClassTable(table.names, {0: 0, 255: 1}, "masks of 0 and 255")


def seen_table(masks: Mapping[int, Sequence[Path]]) -> ClassTable:
    """The table of masks about which nothing is given: 0 and 255 are two classes; else each value is one, 255 ignored.

    masks: the files that have each code.

    Raises: ValueError: if the codes are colours, or leave so many numbers out that they are none of classes.
    """
    there = set(masks) - {UNKNOWN}
    two = _by_index(("background", "foreground"), "")
    if (binary := as_binary(two, there)) is not two:
        return binary
    colours = {code for code in there if code >= COLOUR}
    if colours:
        raise ValueError(
            f"masks with {len(colours):,} colours, {_named(masks, colours)}; wanted what they stand for: "
            'classes = {road = [128, 64, 128], …}, or classes = "FILE.csv" with the columns name, r, g, b'
        )
    values = there - {IGNORED}
    count = max(values, default=-1) + 1
    if count > MOST_CLASSES or count > 2 * len(values) + 2:
        raise ValueError(
            f"masks with the values {_named(masks, there)}; wanted numbers of classes from 0 on, or what the values "
            "stand for: classes = {road = 7, …}"
        )
    source = "as the masks number them" + ", 255 ignored" * (IGNORED in there)
    return _by_index([str(number) for number in range(count)], source)


def _named(masks: Mapping[int, Sequence[Path]], codes: Iterable[int], most: int = 6) -> str:
    """Codes, those of one mask with its file: "0, 1, 200 (b.png alone)"."""
    ordered = sorted(codes, key=lambda code: (len(masks[code]) > 1, code))[:most]
    several = len({path for files in masks.values() for path in files}) > 1
    texts = [
        shown_code(code) + (f" ({masks[code][0]} alone)" if several and len(masks[code]) == 1 else "")
        for code in sorted(ordered)
    ]
    return ", ".join(texts) + ", …" * (len(masks) > most)


def ignoring(table: ClassTable, ignore: Sequence[Any]) -> ClassTable:
    """With these values, colours or classes ignored. A class of which no value is left is none any more: the others
    move up.

    Raises: ValueError: if a name is not in the table, or something is none of these.
    """
    numbers = dict(table.numbers)
    for one in ignore:
        if isinstance(one, str) and one not in table.names:
            raise ValueError(f"ignore: no class is called {one!r}; {nearest(one, table.names)}")
        if isinstance(one, str):
            numbers.update(
                dict.fromkeys([code for code in numbers if numbers[code] == table.names.index(one)], IGNORED)
            )
            continue
        code = colour_code(*one) if isinstance(one, Sequence) and len(one) == 3 else one
        if isinstance(code, bool) or not isinstance(code, int):
            raise ValueError(f"ignore: wanted values, colours [r, g, b] or names of classes; got {one!r}")
        numbers[code] = IGNORED
    left = sorted(set(numbers.values()) - {IGNORED})
    moved = {old: new for new, old in enumerate(left)}
    names = tuple(table.names[number] for number in left)
    return replace(table, names=names, numbers={code: moved.get(number, IGNORED) for code, number in numbers.items()})
