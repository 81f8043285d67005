"""Where made, decoded and checked data are remembered between runs: never half-written, and never needed."""

import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.files import cache_folder, read_json, write_whole

Arrays = dict[str, NDArray]


def load_arrays(name: str) -> Arrays | None:
    """The arrays kept as `name`; None where there are none that read whole (the file holds checksums)."""
    try:
        with (cache_folder() / f"{name}.npz").open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return {key: kept[key] for key in kept.files}
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile):
        return None


def save_arrays(name: str, arrays: Mapping[str, NDArray]) -> None:
    """Keep small arrays as `name`, for `load_arrays`. Where that cannot be written: nothing."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    _save(f"{name}.npz", buffer.getvalue())


def map_arrays(name: str) -> Arrays | None:
    """The large arrays kept as `name`, read-only and mapped: processes share one copy. None where there are none."""
    try:
        files = sorted((cache_folder() / name).glob("*.npy"))
        return {file.stem: np.asarray(np.load(file, mmap_mode="r", allow_pickle=False)) for file in files} or None
    except (OSError, ValueError, EOFError):
        return None


def save_mapped(name: str, arrays: Mapping[str, NDArray]) -> None:
    """Keep large arrays as `name`, for `map_arrays`. Where that cannot be written: nothing."""
    place = cache_folder() / name
    with suppress(OSError):  # read-only, full, no home: the cache only saves time
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=place.parent, ignore_cleanup_errors=True) as folder:
            whole = Path(folder) / place.name
            whole.mkdir()
            for key, array in arrays.items():
                np.save(whole / f"{key}.npy", array, allow_pickle=False)
            if place.is_dir():  # unreadable, or another process was faster
                shutil.rmtree(place, ignore_errors=True)
            os.replace(whole, place)


def load_record(name: str) -> dict[str, Any] | None:
    """The plain values kept as `name`, or None."""
    try:
        record = read_json(cache_folder() / f"{name}.json")
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def save_record(name: str, record: Mapping[str, Any]) -> None:
    """Keep plain values as `name`, for `load_record`. Where that cannot be written: nothing."""
    _save(f"{name}.json", json.dumps(dict(record)).encode())


def _save(name: str, content: bytes) -> None:
    place = cache_folder() / name
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, content)
