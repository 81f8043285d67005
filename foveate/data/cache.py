"""Where made, decoded and checked data are remembered between runs: never half-written, and never needed."""

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray]


def cache_folder() -> Path:
    """$FOVEATE_CACHE, or $XDG_CACHE_HOME/foveate, or ~/.cache/foveate. It need not exist."""
    if own := os.environ.get("FOVEATE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foveate"


def load_arrays(name: str) -> Arrays | None:
    """The arrays kept as `name`; None where there are none that read whole (the file holds checksums)."""
    try:
        with (cache_folder() / f"{name}.npz").open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return {key: kept[key] for key in kept.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def save_arrays(name: str, arrays: Mapping[str, NDArray]) -> None:
    """Keep small arrays as `name`, for `load_arrays`. Where that cannot be written: nothing."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **dict(arrays))

    _replace(f"{name}.npz", write)


def map_arrays(name: str) -> Arrays | None:
    """The large arrays kept as `name`, read-only and mapped: processes share one copy. None where there are none."""
    try:
        files = sorted((cache_folder() / name).glob("*.npy"))
        return {file.stem: np.asarray(np.load(file, mmap_mode="r", allow_pickle=False)) for file in files} or None
    except (OSError, ValueError, EOFError):
        return None


def save_mapped(name: str, arrays: Mapping[str, NDArray]) -> None:
    """Keep large arrays as `name`, for `map_arrays`. Where that cannot be written: nothing."""

    def write(temporary: Path) -> None:
        temporary.mkdir()
        for key, array in arrays.items():
            np.save(temporary / f"{key}.npy", array, allow_pickle=False)

    _replace(name, write)


def load_record(name: str) -> dict[str, Any] | None:
    """The plain values kept as `name`, or None."""
    try:
        record = json.loads((cache_folder() / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def save_record(name: str, record: Mapping[str, Any]) -> None:
    """Keep plain values as `name`, for `load_record`. Where that cannot be written: nothing."""
    _replace(f"{name}.json", lambda temporary: _write_text(temporary, json.dumps(dict(record))))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _replace(name: str, write: Callable[[Path], None]) -> None:
    """Write beside the place and move there in one step, so that no other process ever reads half of it."""
    place = cache_folder() / name
    with suppress(OSError):  # read-only, full, no home: the cache only saves time
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=place.parent, ignore_cleanup_errors=True) as folder:
            temporary = Path(folder) / place.name
            write(temporary)
            if place.is_dir():  # unreadable, or another process was faster
                shutil.rmtree(place, ignore_errors=True)
            os.replace(temporary, place)
