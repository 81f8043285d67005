"""A recording's file: npz, npy, csv, wav or mat → channels over time, and its rate where the file says it."""

import math
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.problems import one_line
from foveate.registry import nearest

ENDINGS = (".npz", ".npy", ".csv", ".wav", ".mat")


def read_signal(path: Path, key: str | None = None) -> tuple[NDArray[np.float32], float | None]:
    """Channels over time (C, T), and samples a second, None where the file does not say.

    Of a matrix the longer axis is time. Whole numbers of a wav file are divided by their largest.

    Args:
        path: of the file.
        key: name, or glob pattern, of the array in an npz or mat file, or of the columns of a csv file; None: the only
            array, all columns.

    Raises: ValueError: why it cannot be read, without the file's name.
    """
    rate = None
    try:
        if path.suffix.lower() == ".csv":
            values = _csv(path, key)
        elif path.suffix.lower() == ".wav":
            rate, values = _wav(path)
        elif path.suffix.lower() == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            values = _of_many(path, key)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or one_line(error)}") from None
    except (EOFError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(one_line(error)) from None
    if key is not None and path.suffix.lower() in (".wav", ".npy"):
        raise ValueError(f"a {path.suffix.lower()[1:]} file has no names; got key = {key!r}")
    return _channels(np.asarray(values)), rate


def _channels(values: NDArray[Any]) -> NDArray[np.float32]:
    if values.dtype.kind not in "iuf":
        raise ValueError(f"wanted real numbers; got {values.dtype}")
    values = values.squeeze() if values.ndim > 1 else values
    if values.ndim == 1 and values.size:
        return values[None].astype(np.float32)
    if values.ndim == 2 and values.size:
        return np.ascontiguousarray(values if values.shape[0] <= values.shape[1] else values.T, np.float32)
    raise ValueError(f"wanted samples (T), or channels and samples (C, T); got shape {values.shape}")


def _csv(path: Path, key: str | None) -> NDArray[Any]:
    with open(path, encoding="utf-8-sig") as file:
        first = file.readline().strip()
    delimiter = next((mark for mark in (",", ";", "\t") if mark in first), None)
    cells = [cell.strip().strip('"') for cell in first.split(delimiter)]
    named = not all(map(_is_number, cells))
    if key is not None and not named:
        raise ValueError(f"has no line of names; got key = {key!r}")
    values = np.loadtxt(path, delimiter=delimiter, skiprows=int(named), ndmin=2, encoding="utf-8-sig")
    if key is None:
        return values
    columns = [place for place, cell in enumerate(cells) if fnmatchcase(cell, key)]
    if not columns:
        raise ValueError(f"has no column {key!r}; {nearest(key, cells)}")
    return values[:, columns]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _wav(path: Path) -> tuple[float, NDArray[Any]]:
    from scipy.io import wavfile

    rate, values = wavfile.read(path)
    if values.dtype.kind == "u":  # 8 bits are stored from 0
        return float(rate), (values.astype(np.float32) - 128) / 128
    if values.dtype.kind == "i":
        return float(rate), values / np.float32(np.iinfo(values.dtype).max)
    return float(rate), values


def _of_many(path: Path, key: str | None) -> NDArray[Any]:
    if path.suffix.lower() == ".npz":
        with np.load(path, allow_pickle=False) as kept:
            return kept[_chosen(kept.files, key)]
    from scipy.io import loadmat, whosmat

    try:
        name = _chosen([name for name, shape, _ in whosmat(path) if math.prod(shape) > 1], key)
        return np.asarray(loadmat(path, variable_names=[name])[name])
    except NotImplementedError:
        raise ValueError("a MATLAB 7.3 file; save it with -v7") from None


def _chosen(names: list[str], key: str | None) -> str:
    found = names if key is None else [name for name in names if fnmatchcase(name, key)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(f"has no array {key!r}; {nearest(key or '', names)}" if names else "has no array")
    shown = ", ".join(found[:5]) + ", …" * (len(found) > 5)
    raise ValueError(f"has {len(found)} arrays ({shown}); wanted key = the name or pattern of one")
