"""The images to evaluate on: class folders, ImageNet's layout, a list of labels, CIFAR-10's files, parquet."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.cifar import CLASSES, find_cifar, read_binary, read_pickle
from foveate.data.listing import ENDINGS, TEST_NAMES
from foveate.data.parquet import class_names, find_shards, open_rows
from foveate.evaluation.classes import imagenet_names, number_classes

LABELS = "labels.json"
Item = tuple[bytes | Path | np.ndarray, int, str]  # a file's contents, or pixels (H, W, 3); label; what to call it


@dataclass(frozen=True)
class Images:
    """Labelled images in a fixed order.

    name: of the set. count: how many. items: walks through them. small: they are all of one small size, `size`.
    """

    name: str
    count: int
    items: Callable[[], Iterator[Item]]
    size: int | None = None


def find_images(folder: Path, outputs: int, *, labels: Path | None = None) -> Images:
    """What lies in the folder, for a network of so many outputs.

    Args:
        folder: holds class folders; or val/, validation/, valid/ or test/ with class folders; or images and
            labels.json; or CIFAR-10's own files; or parquet shards.
        outputs: of the network.
        labels: a file that says the class of each image: a JSON list of {"file", "index"}, a JSON object {file: index},
            or lines "file class".

    Raises: ValueError: in one line, what was wanted and what came.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing"
        raise ValueError(f"{folder}: wanted a folder of images; there is {got}")
    name = folder.resolve().name
    if labels is not None or (folder / LABELS).is_file():
        return _listed(folder, labels or folder / LABELS, outputs)
    if batches := find_cifar(folder):
        return _cifar(batches, outputs)
    if shards := find_shards(folder):
        return _parquet(folder, shards[1], outputs)
    inside = {entry.name.lower(): entry for entry in _folders(folder)}
    place = next((inside[name] for name in TEST_NAMES if name in inside and _folders(inside[name])), folder)
    classes = _folders(place)
    if not classes:
        images = [entry.name for entry in _files(place)]
        got = f"{len(images):,} images without classes (--labels FILE says them)" if images else "none"
        raise ValueError(f"{place}: wanted class folders of images, such as {place}/cat/1.jpg; got {got}")
    found = {entry.name: _walk(entry) for entry in classes}
    if empty := next((label for label, files in found.items() if not files), None):
        raise ValueError(f"{place / empty}: wanted images ({' '.join(ENDINGS[:6])} …), got none")
    numbers = number_classes(sorted(found), outputs, str(place))
    files = [(file, numbers[label], str(file)) for label in sorted(found) for file in found[label]]
    return Images(name, len(files), lambda: iter(files))


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _visible(folder) if entry.is_dir() and entry.name != "__MACOSX"]


def _files(folder: Path) -> list[Path]:
    return [entry for entry in _visible(folder) if entry.suffix.lower() in ENDINGS and entry.is_file()]


def _walk(folder: Path) -> list[Path]:
    files = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(path, name) for name in sorted(names) if name[0] != "." and name.lower().endswith(ENDINGS)]
    return files


def _listed(folder: Path, file: Path, outputs: int) -> Images:
    rows = [(folder / name, _number(file, name, said, outputs)) for name, said in _said(file)]
    if not rows:
        raise ValueError(f"{file}: wanted an image and its class a row, got no rows")
    gone = next((path for path, _ in rows if not path.is_file()), None)
    if gone is not None:
        raise ValueError(f"{file}: names {gone}; there is no such file")
    items = [(path, number, str(path)) for path, number in rows]
    return Images(folder.resolve().name, len(items), lambda: iter(items))


def _said(file: Path) -> list[tuple[str, Any]]:
    """Pairs of a file's name and what is said of its class."""
    try:
        text = file.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if file.suffix.lower() != ".json":
        rows = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
        short = next((number for number, row in enumerate(rows, 1) if len(row) != 2), None)
        if short is not None:
            raise ValueError(f"{file}: line {short}: wanted 'file class', got {' '.join(rows[short - 1])[:60]!r}")
        return [(row[0], row[1]) for row in rows]
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file}: is no JSON ({error})") from None
    if isinstance(content, dict):
        return list(content.items())
    pairs = []
    for place, row in enumerate(content if isinstance(content, list) else [None]):
        said = (
            next((row[key] for key in ("index", "label", "class", "wnid") if key in row), None)
            if isinstance(row, dict)
            else None
        )
        if said is None or not isinstance(row.get("file"), str):
            raise ValueError(f'{file}: row {place}: wanted {{"file": …, "index": …}}, got {json.dumps(row)[:60]}')
        pairs.append((row["file"], said))
    return pairs


def _number(file: Path, name: str, said: Any, outputs: int) -> int:
    number = int(said) if isinstance(said, int) or (isinstance(said, str) and said.isdecimal()) else None
    if number is None and outputs == 1000 and isinstance(said, str):
        number = imagenet_names().get(" ".join(said.lower().replace("_", " ").split()))
    if number is None or not 0 <= number < outputs:
        raise ValueError(f"{file}: {name}: wanted a class from 0 to {outputs - 1}, got {said!r}")
    return number


def _same(outputs: int, classes: int, where: Path | str) -> None:
    if outputs != classes:
        raise ValueError(f"{where}: has {classes} classes; the network has {outputs} outputs")


def _cifar(batches: Path, outputs: int) -> Images:
    _same(outputs, len(CLASSES), batches)
    file = next((batches / name for name in ("test_batch", "test_batch.bin") if (batches / name).is_file()), None)
    if file is None:
        raise ValueError(f"{batches}: wanted test_batch or test_batch.bin, got neither")
    x, y = (read_binary if file.suffix == ".bin" else read_pickle)(file)

    def items() -> Iterator[Item]:
        for place, (pixels, label) in enumerate(zip(x, y, strict=True)):
            yield pixels.transpose(1, 2, 0), int(label), f"{file}, image {place}"

    return Images("CIFAR-10", len(y), items, size=x.shape[-1])


def _parquet(folder: Path, shards: list[Path], outputs: int) -> Images:
    if not shards:
        raise ValueError(f"{folder}: wanted test-*.parquet, validation-*.parquet or val-*.parquet, got none")
    if named := class_names(shards[0]):
        _same(outputs, len(named), folder)
    rows = [open_rows(shard) for shard in shards]

    def items() -> Iterator[Item]:
        for shard, (_, walk) in zip(shards, rows, strict=True):
            for row, (content, label) in enumerate(walk()):
                if not 0 <= label < outputs:
                    raise ValueError(f"{shard}: row {row}: wanted a class from 0 to {outputs - 1}, got {label}")
                yield content, label, f"{shard}, row {row}"

    count = sum(number for number, _ in rows)
    if not count:
        raise ValueError(f"{shards[0]}: wanted images, got no rows")
    return Images(folder.resolve().name, count, items, size=_small(next(items())[0]))


def _small(content: Any) -> int | None:
    """The side of a set of small square images, by its first."""
    from foveate.data.photos import decode
    from foveate.evaluation.preprocessing import SMALL

    try:
        width, height = decode(content).size
    except Exception:  # told when its turn comes, with its row
        return None
    return width if width == height <= SMALL else None
