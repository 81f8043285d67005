"""Parquet shards in the Hugging Face layout of small image sets: train-*.parquet and test-*.parquet, each row an image
file's bytes (`img` or `image`: {bytes, path}) and a `label`."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.cache import Arrays, map_arrays, save_mapped
from foveate.data.cifar import contents
from foveate.data.photos import decode
from foveate.data.pixels import Labelled, in_memory
from foveate.data.splits import ImageData
from foveate.spec import Data

TEST_NAMES = ("test", "validation", "val")
VERSION = 1  # of what is cached
PORTION = 1000  # rows decoded at a time


def find_shards(folder: Path) -> tuple[list[Path], list[Path]] | None:
    """Train and test shards of this folder or its child `data`; either may be empty. None: no parquet at all."""
    for place in (folder, folder / "data"):
        if any(place.glob("*.parquet")):
            test = next((found for name in TEST_NAMES if (found := sorted(place.glob(f"{name}-*.parquet")))), [])
            return sorted(place.glob("train-*.parquet")), test
    return None


def open_parquet(folder: Path, shards: tuple[list[Path], list[Path]], data: Data) -> ImageData:
    """The set in these shards, decoded once and then cached. Augmentation: a shift by up to an eighth, mirror images.

    Raises: ValueError: no pyarrow, no shards of a split, other columns, a damaged image (shard and row).
    """
    train, test = shards
    if not train or not test:
        raise ValueError(
            f"{folder}: wanted train-*.parquet and test-*.parquet, got {len(train)} and {len(test)} of them"
        )
    fingerprint = contents([*train, *test])
    name = f"parquet-v{VERSION}-{fingerprint}"
    kept = map_arrays(name)
    if kept is None:
        made = _decoded(train, test)
        save_mapped(name, made)
        kept = map_arrays(name) or made
    classes = tuple(str(label) for label in kept["classes"])
    shift = max(kept["train_images"].shape[2] // 8, 1)
    missing = [part for part in (_missing(train, "train"), _missing(test, "test")) if part]
    return in_memory(
        data,
        (kept["train_images"], kept["train_labels"]),
        (kept["test_images"], kept["test_labels"]),
        name=folder.resolve().name,
        classes=classes,
        fingerprint=fingerprint,
        about=", ".join(["parquet shards", *missing]),
        shift=shift,
        flip=True,
    )


def _decoded(train: Sequence[Path], test: Sequence[Path]) -> Arrays:
    x, y = read_shards(train)
    x_test, y_test = read_shards(test)
    if x.shape[1:] != x_test.shape[1:]:
        raise ValueError(f"{test[0]}: wanted images of {_size(x)} like the train images, got {_size(x_test)}")
    highest = int(max(y.max(), y_test.max()))
    classes = class_names(train[0]) or tuple(str(label) for label in range(highest + 1))
    if highest >= len(classes) or len(classes) < 2:
        raise ValueError(
            f"{train[0]}: wanted labels of {len(classes)} classes, at least two; got labels up to {highest}"
        )
    return Arrays(
        train_images=x, train_labels=y, test_images=x_test, test_labels=y_test, classes=np.array(classes, np.str_)
    )


def _arrow(shard: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"{shard}: reading parquet needs pyarrow: pip install foveate[parquet]") from None
    return pyarrow.parquet


def class_names(shard: Path) -> tuple[str, ...]:
    """The label names that the shard's Hugging Face note gives, or none."""
    note = (_arrow(shard).read_schema(shard).metadata or {}).get(b"huggingface", b"{}")
    try:
        return tuple(json.loads(note)["info"]["features"]["label"]["names"])
    except (ValueError, KeyError, TypeError):
        return ()


def read_shards(shards: Sequence[Path]) -> Labelled:
    """Images (n, 3, H, W) and labels of all rows, in order.

    Raises: ValueError: as `open_parquet`.
    """
    arrow = _arrow(shards[0])
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64]] = []
    for shard in shards:
        try:
            with arrow.ParquetFile(shard) as table:
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
        except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
            raise ValueError(f"{shard}: {error}") from None
    if not images:
        raise ValueError(f"{shards[0]}: wanted images, got no rows")
    return np.concatenate(images), np.concatenate(labels)


def open_rows(shard: Path) -> tuple[int, Callable[[], Iterator[tuple[bytes, int]]]]:
    """How many rows a shard has, and what walks through them: the bytes of an image file, and the label.

    Raises: ValueError: no pyarrow, other columns, no parquet; while walking, a row without an image or a label.
    """
    arrow = _arrow(shard)
    try:
        with arrow.ParquetFile(shard) as table:
            column, count = _column(table), table.metadata.num_rows
    except (OSError, ValueError) as error:
        raise ValueError(f"{shard}: {error}") from None

    def walk() -> Iterator[tuple[bytes, int]]:
        row = 0
        try:
            with arrow.ParquetFile(shard) as table:
                for portion in table.iter_batches(100, columns=[column, "label"]):
                    labels = _labels(portion["label"].to_pylist(), range(row, row + portion.num_rows))
                    for cell, label in zip(portion[column].to_pylist(), labels, strict=True):
                        yield _content(cell, row), int(label)
                        row += 1
        except (OSError, ValueError) as error:
            raise ValueError(f"{shard}: {error}") from None

    return count, walk


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
    try:
        return np.asarray(decode(content)).transpose(2, 0, 1)
    except Exception as error:  # a decoder meets damage in many ways
        raise ValueError(f"row {row}: not a whole image: {error}") from None


def _labels(values: list[Any], rows: range) -> NDArray[np.int64]:
    for value, row in zip(values, rows, strict=True):
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"row {row}: wanted a label from 0 upwards, got {value!r}")
    return np.array(values, np.int64)


def _size(images: NDArray[np.uint8]) -> str:
    return f"{images.shape[2]}×{images.shape[3]} pixels"


def _missing(shards: Sequence[Path], name: str) -> str:
    """Says so where the names tell of more shards (train-00000-of-00002) than there are."""
    told = re.search(r"-of-0*(\d+)\.parquet$", shards[0].name)
    return f"{len(shards)} of {told[1]} {name} shards" if told and int(told[1]) != len(shards) else ""
