"""Kind "parquet": shards in the Hugging Face layout of small image sets, train-*.parquet, validation-*.parquet and
test-*.parquet, each row an image file's bytes (`img` or `image`: {bytes, path}) and a `label`."""

import bisect
import dataclasses
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.cache import Arrays, map_arrays, save_mapped
from foveate.data.cifar import Labelled, contents
from foveate.data.dataset import Dataset, LabelledImages, Progress, Target, register_data
from foveate.data.decode import read_image
from foveate.data.in_memory import in_memory
from foveate.data.problems import one_line
from foveate.data.source import folder_of
from foveate.data.transforms import SMALL
from foveate.registry import nearest
from foveate.spec import DataSpec

PARTS = ("train", "validation", "test")
VERSION = 1  # of what is cached
PORTION = 1000  # rows decoded at a time


def find_shards(folder: Path) -> dict[str, list[Path]] | None:
    """Part → shards, of this folder or its child `data`; a part without shards is left out. None: no parquet at all.

    The validation shards, also called val-*.parquet, are the test part where there are no test shards.
    """
    for place in (folder, folder / "data"):
        if any(place.glob("*.parquet")):
            found = {part: sorted(place.glob(f"{part}-*.parquet")) for part in PARTS}
            found["validation"] = found["validation"] or sorted(place.glob("val-*.parquet"))
            if not found["test"]:
                found |= {"test": found["validation"], "validation": []}
            return {part: shards for part, shards in found.items() if shards}
    return None


def _is_parquet(source: str) -> bool:
    folder = Path(source).expanduser()
    return folder.is_dir() and find_shards(folder) is not None


def evaluation_images(folder: Path) -> LabelledImages:
    """The rows of the test shards, for evaluation: images of any size, read when they are needed.

    Raises: ValueError: if there is no pyarrow, no test shard, no row, or a shard has other columns.
    """
    shards = (find_shards(folder) or {}).get("test")
    if not shards:
        raise ValueError(f"{folder}: wanted test-*.parquet, validation-*.parquet or val-*.parquet, got none")
    rows = Rows(shards)
    if not len(rows):
        raise ValueError(f"{shards[0]}: wanted images, got no rows")
    try:
        width, height = read_image(rows[0]).size
    except ValueError:  # its row is named when a batch needs it
        width, height = 0, 1
    side = width if width == height <= SMALL else None
    return LabelledImages(folder.resolve().name, rows, RowNames(rows), rows.labels(), class_names(shards[0]), side)


@register_data("parquet", recognises=_is_parquet, evaluation_images=evaluation_images)
def open_parquet(spec: DataSpec, *, progress: Progress | None = None, group: str | None = None) -> Dataset:
    """The set in these shards, decoded once and then cached. Augmentation: a shift by up to an eighth, mirror images.

    group: a column, such as "subject", that says what a row belongs to.

    Raises: ValueError: if there is no pyarrow or no shard of a split, or a shard has other columns or a damaged image
        (shard and row).
    """
    folder = folder_of(spec.source)
    shards = find_shards(folder) or {}
    if not {"train", "test"} <= set(shards):
        got = [len(shards.get(part, ())) for part in ("train", "test")]
        raise ValueError(f"{folder}: wanted train-*.parquet and test-*.parquet, got {got[0]} and {got[1]} of them")
    fingerprint = contents([file for part in shards.values() for file in part])
    name = f"parquet-v{VERSION}-{fingerprint}"
    kept = map_arrays(name)
    if kept is None:
        made = _decoded(shards)
        save_mapped(name, made)
        kept = map_arrays(name) or made
    missing = [text for part, files in shards.items() if (text := _missing(files, part))]
    parts = {part: (kept[f"{part}_images"], {"label": kept[f"{part}_labels"]}) for part in shards}
    data = in_memory(
        spec,
        parts["train"],
        parts["test"],
        {"label": Target("class", tuple(str(label) for label in kept["classes"]))},
        name=folder.resolve().name,
        fingerprint=fingerprint,
        content=", ".join(["parquet shards", *missing]),
        shift=max(kept["train_images"].shape[2] // 8, 1),
        flip=True,
        groups=None if group is None else (_belonging(shards["train"], group), _belonging(shards["test"], group)),
        validation=parts.get("validation"),
    )
    if not shards["test"][0].name.startswith("test-"):
        note = f"{shards['test'][0].name.partition('-')[0]} is the test part, as there are no test shards"
        data = dataclasses.replace(data, notes=(*data.notes, note))
    return data


def _belonging(shards: Sequence[Path], column: str) -> NDArray[np.str_]:
    """What each row belongs to."""
    found: list[str] = []
    for shard in shards:
        with _reading(shard) as table:
            if column not in table.schema_arrow.names:
                raise ValueError(f"group: has no column {column!r}; {nearest(column, table.schema_arrow.names)}")
            values = table.read(columns=[column])[column].to_pylist()
            for row, value in enumerate(values):
                if value is None or value == "":
                    raise ValueError(f"row {row}: column {column!r}: wanted what the row belongs to; got nothing")
            found += map(str, values)
    return np.array(found, np.str_)


def _decoded(shards: Mapping[str, Sequence[Path]]) -> Arrays:
    read = {part: read_shards(files) for part, files in shards.items()}
    x = read["train"][0]
    for part, (images, _) in read.items():
        if images.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"{shards[part][0]}: wanted images of {_size(x)} like the train images, got {_size(images)}"
            )
    highest = max(int(labels.max()) for _, labels in read.values())
    first = shards["train"][0]
    classes = class_names(first) or tuple(str(label) for label in range(highest + 1))
    if highest >= len(classes) or len(classes) < 2:
        raise ValueError(f"{first}: wanted labels of {len(classes)} classes, at least two; got labels up to {highest}")
    arrays: Arrays = {
        f"{part}_{what}": one for part, both in read.items() for what, one in (("images", both[0]), ("labels", both[1]))
    }
    return arrays | {"classes": np.array(classes, np.str_)}


def _arrow(shard: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"{shard}: reading parquet needs pyarrow: pip install foveate[parquet]") from None
    return pyarrow.parquet


@contextmanager
def _reading(shard: Path) -> Iterator[Any]:
    """The opened shard; whatever Arrow or a row of it raises becomes one line with the shard's name."""
    arrow = _arrow(shard)
    try:
        with arrow.ParquetFile(shard) as table:
            yield table
    except (OSError, ValueError, NotImplementedError, KeyError, TypeError, MemoryError) as error:  # as Arrow raises
        raise ValueError(f"{shard}: {one_line(error)}") from None


def class_names(shard: Path) -> tuple[str, ...]:
    """The label names that the shard's Hugging Face note gives, or none."""
    with _reading(shard) as table:
        note = (table.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        return tuple(str(name) for name in json.loads(note)["info"]["features"]["label"]["names"])
    except (ValueError, KeyError, TypeError):
        return ()


def read_shards(shards: Sequence[Path]) -> Labelled:
    """Images (n, 3, H, W) and labels of all rows, in order.

    Raises: ValueError: as `open_parquet`.
    """
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64]] = []
    for shard in shards:
        with _reading(shard) as table:
            column = _column(table)
            row = 0
            for portion in table.iter_batches(PORTION, columns=[column, "label"]):
                cells, rows = portion[column].to_pylist(), range(row, row + portion.num_rows)
                # one after another: for images this small, threads take twice as long
                images.append(np.stack([_pixels(cell, row) for cell, row in zip(cells, rows, strict=True)]))
                labels.append(_labels(portion["label"].to_pylist(), rows))
                if images[-1].shape[1:] != images[0].shape[1:]:
                    raise ValueError(f"from row {row}: wanted {_size(images[0])}, got {_size(images[-1])}")
                row += portion.num_rows
    if not images:
        raise ValueError(f"{shards[0]}: wanted images, got no rows")
    return np.concatenate(images), np.concatenate(labels)


class Rows(Sequence[bytes]):
    """The image files in the rows of shards, in order; a row group is read when one of its rows is needed.

    Raises: ValueError: if there is no pyarrow, or a shard has other columns or is no parquet.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self.shards = tuple(shards)
        self._groups: list[tuple[int, int, int]] = []  # shard, row group, its first row in the shard
        self._starts: list[int] = []  # number of the first row of each group
        self._firsts: list[int] = []  # number of the first row of each shard
        self._lock = threading.Lock()  # threads read in turn
        self._cached: tuple[int, Any] = (-1, None)  # the row group that was read last
        self._count = 0
        for shard, file in enumerate(self.shards):
            self._firsts.append(self._count)
            with _reading(file) as table:
                _column(table)
                for group in range(table.metadata.num_row_groups):
                    self._groups.append((shard, group, self._count - self._firsts[-1]))
                    self._starts.append(self._count)
                    self._count += table.metadata.row_group(group).num_rows

    def __len__(self) -> int:
        return self._count

    def place(self, item: int) -> tuple[Path, int]:
        """The shard that holds the item, and its row there. Raises: IndexError: if there is no such item."""
        if not 0 <= item < self._count:
            raise IndexError(f"wanted a row from 0 to {self._count - 1}, got {item}")
        shard = bisect.bisect_right(self._firsts, item) - 1
        return self.shards[shard], item - self._firsts[shard]

    def __getitem__(self, item: Any) -> Any:
        self.place(item)  # raises IndexError
        place = bisect.bisect_right(self._starts, item) - 1
        shard, group, first = self._groups[place]
        with self._lock:
            if self._cached[0] != place:
                with _reading(self.shards[shard]) as table:
                    column = _column(table)
                    self._cached = (place, table.read_row_group(group, columns=[column])[column])
            within = item - self._starts[place]
            cell = self._cached[1][within].as_py()
        try:
            return _content(cell, first + within)
        except ValueError as error:
            raise ValueError(f"{self.shards[shard]}: {error}") from None

    def labels(self) -> list[int]:
        """The label of each row. Raises: ValueError: if one is no whole number from 0 upwards."""
        found: list[int] = []
        for shard in self.shards:
            with _reading(shard) as table:
                values = table.read(columns=["label"])["label"].to_pylist()
                found += _labels(values, range(len(values))).tolist()
        return found


class RowNames(Sequence[str]):
    """What the rows are called: "test-0.parquet, row 3", with the shard's path."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, item: Any) -> Any:
        shard, row = self._rows.place(item)
        return f"{shard}, row {row}"


def _column(table: Any) -> str:
    """The column that holds the images."""
    names = table.schema_arrow.names
    column = next((name for name in ("img", "image") if name in names), None)
    if column is None or "label" not in names:
        raise ValueError(f"wanted the columns 'img' (or 'image') and 'label', got {', '.join(names)}")
    return column


def _content(cell: Any, row: int) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise ValueError(f"row {row}: wanted the bytes of an image file, got {type(content).__name__}")
    return content


def _pixels(cell: Any, row: int) -> NDArray[np.uint8]:
    content = _content(cell, row)
    return np.asarray(read_image(content, name=f"row {row}")).transpose(2, 0, 1)


def _labels(values: list[Any], rows: range) -> NDArray[np.int64]:
    for value, row in zip(values, rows, strict=True):
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"row {row}: wanted a label from 0 upwards, got {value!r}")
    return np.array(values, np.int64)


def _size(images: NDArray[np.uint8]) -> str:
    return f"{images.shape[2]}×{images.shape[3]} pixels"


def _missing(shards: Sequence[Path], name: str) -> str:
    """A note where the names promise more shards (train-00000-of-00002) than there are; else ""."""
    promised = re.search(r"-of-0*(\d+)\.parquet$", shards[0].name)
    return f"{len(shards)} of {promised[1]} {name} shards" if promised and int(promised[1]) != len(shards) else ""
