"""Scores of each held-out item of a run: one file, `runs/KEY/items.npz`, written by the run and read by the analysis.

A NumPy archive without pickles:

    names                  (n,) text: the items' files or numbers
    :groups                (n,) text, where items belong together: what each belongs to, such as a subject
    <metric>               (n,) the metric's value of each item, for metrics that are means over items
    <metric>.<sum>         (n, …) what a metric of the whole set is made of, a row an item, such as mIoU.intersection
    :<table>.<column>      (k, …) rows that are no items, such as detections; the column "item" says whose each row is
"""

import functools
import io
import math
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.files import write_whole

ITEMS = "items.npz"
SMALL = 2**14  # bytes of a file whose arrays are kept once they are read
TABLE = ":"  # begins what is no metric
GROUPS = ":groups"
ANSWERS = "answers"  # table of a classification: item, true, predicted


def write_items(
    path: Path,
    names: Sequence[str],
    arrays: Mapping[str, NDArray[Any]],
    groups: NDArray[np.str_] | None = None,
    tables: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
) -> None:
    """Write the scores of n items, what each belongs to, and tables whose rows belong to items.

    Raises: ValueError: if an array has no row for each item, a table's columns differ in length, or its column "item"
        is missing or names another item; OSError.
    """
    arrays = dict(arrays) if groups is None else {**arrays, GROUPS: groups}
    for name, array in arrays.items():
        if len(array) != len(names):
            raise ValueError(f"items: wanted {len(names)} rows of {name!r}, one an item; got {len(array)}")
    for table, columns in (tables or {}).items():
        owners = columns.get("item", np.array([-1]))
        if len(owners) and not (owners.min() >= 0 and owners.max() < len(names)):
            raise ValueError(f"items: table {table!r}: wanted a column 'item' with numbers from 0 to {len(names) - 1}")
        for name, column in columns.items():
            if len(column) != len(owners):
                raise ValueError(f"items: table {table!r}: wanted {len(owners)} rows of {name!r}; got {len(column)}")
            arrays[f"{TABLE}{table}.{name}"] = column
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, names=np.array(list(names), np.str_), **arrays)
    write_whole(path, buffer.getvalue())


def read_items(path: Path | str) -> tuple[tuple[str, ...], dict[str, NDArray[Any]]] | None:
    """Names and scores, to be read alone; None where there is no such file. Raises: ValueError: if it is damaged."""
    kept = _read(path)
    if kept is None:
        return None
    if "names" not in kept:
        raise ValueError(f"{path}: no scores of items (it holds no names)")
    arrays = {name: array for name, array in kept.items() if not name.startswith(TABLE) and name != "names"}
    names = kept["names"]
    return _texts(names.tobytes(), names.dtype), arrays


def read_groups(path: Path | str) -> dict[str, str]:
    """Item → what it belongs to; {} where no item belongs to anything, or there is no such file. Raises: as above."""
    kept = _read(path) or {}
    return dict(zip(kept["names"].tolist(), kept[GROUPS].tolist(), strict=True)) if GROUPS in kept else {}


def read_tables(path: Path | str) -> dict[str, dict[str, NDArray[Any]]]:
    """Table → column → values; {} where there is none, or no such file. Raises: as above."""
    tables: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in (_read(path) or {}).items():
        if name.startswith(TABLE) and name != GROUPS:
            table, _, column = name.removeprefix(TABLE).partition(".")
            tables.setdefault(table, {})[column] = array
    return tables


def _read(path: Path | str) -> dict[str, NDArray[Any]] | None:
    """Every array of a file; those of small ones are kept, as a report reads each several times."""
    try:
        about = os.stat(path)
        read = _small if about.st_size <= SMALL else _arrays
        return read(str(path), about.st_mtime_ns, about.st_size)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: no scores of items ({error})") from None


def _arrays(path: str, changed: int, size: int) -> dict[str, NDArray[Any]]:
    """As np.load, which parses the header of every array anew."""
    with open(path, "rb") as file, zipfile.ZipFile(io.BytesIO(file.read())) as kept:  # in one read
        return {name.removesuffix(".npy"): _array(kept.read(name)) for name in kept.namelist()}


def _array(content: bytes) -> NDArray[Any]:
    """Of a file in NumPy's format 1.0, which can be read alone."""
    begin = 10 + int.from_bytes(content[8:10], "little")
    shape, by_columns, dtype = _header(content[:begin])
    found = np.frombuffer(content, dtype, math.prod(shape), begin)
    return found.reshape(shape, order="F" if by_columns else "C")


@functools.lru_cache(maxsize=1024)
def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("wanted arrays in NumPy's format 1.0")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError("wanted arrays without Python objects")
    return shape, by_columns, dtype


@functools.lru_cache(maxsize=64)  # most runs have the same items
def _texts(content: bytes, dtype: np.dtype[Any]) -> tuple[str, ...]:
    return tuple(np.frombuffer(content, dtype).tolist())


_small = functools.lru_cache(maxsize=20_000)(_arrays)  # at most as many as 20,000 · SMALL bytes, compressed
