"""Reads velocity models and gathers as published sets have them: NumPy files and their zips, MATLAB files, SEG-Y."""

import importlib
import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.problems import one_line
from foveate.registry import nearest

MODELS = re.compile(r"^(s?vmodel|model|vel|velocity|models?)[_-]?", re.IGNORECASE)
GATHERS = re.compile(r"^(georec|data|seis|gathers?)[_-]?", re.IGNORECASE)
ENDINGS = (".npy", ".mat", ".sgy", ".segy")
MAT_KEYS = {"models": ("vmodel", "svmodel"), "gathers": ("Rec",)}


@dataclass(frozen=True)
class Stored:
    """One file of models or of gathers, not read yet.

    Attributes:
        name: for messages: its path below the folder, with the zip that it is in.
        number: what is left of its name, which its counterpart has too.
        part: "train", "validation", "test", or "" where neither file nor folder says so.
        what: "models" or "gathers".
        state: of the file: changed ones have another.
        read: gives the array as it is stored, mapped where it can be.
    """

    name: str
    number: str
    part: str
    what: str
    state: str
    read: Callable[[], NDArray[Any]]


def list_stored(folder: Path, pattern: str) -> list[Stored]:
    """The files of models and gathers in a folder and in its zips, in natural order.

    pattern: only files and zips whose path below the folder matches, such as "CurveVelA*".
    """
    found = []
    for path in sorted(folder.rglob("*"), key=lambda one: _natural(one.as_posix())):
        shown = path.relative_to(folder).as_posix()
        if not path.is_file() or not (fnmatchcase(shown, pattern) or fnmatchcase(path.name, pattern)):
            continue
        if path.suffix == ".zip":
            found += _in_zip(path, shown)
        elif path.suffix.lower() in ENDINGS:
            one = _stored(shown, _state(path), lambda path=path, shown=shown: _read(path, shown))  # type: ignore[misc]
            found += [one] if one else []
    return found


def _in_zip(path: Path, shown: str) -> list[Stored]:
    def read(member: str) -> NDArray[Any]:
        with zipfile.ZipFile(path) as archive:
            return np.load(io.BytesIO(archive.read(member)), allow_pickle=False)

    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted((one for one in archive.namelist() if one.endswith(".npy")), key=_natural)
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{path}: wanted a zip of .npy files; {one_line(error)}") from None
    found = [_stored(f"{shown}/{one}", _state(path), lambda one=one: read(one)) for one in members]  # type: ignore[misc]
    return [one for one in found if one]


def _state(path: Path) -> str:
    facts = path.stat()
    return f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"


def _stored(shown: str, state: str, read: Callable[[], NDArray[Any]]) -> Stored | None:
    *folders, name = shown.split("/")
    stem = Path(name).stem
    what = "models" if MODELS.match(stem) else "gathers" if GATHERS.match(stem) else ""
    if not what:  # models/A.sgy and gathers/A.sgy
        inside = [one.lower() for one in folders]
        what = "models" if "models" in inside else "gathers" if "gathers" in inside else ""
        number = stem
    else:
        number = (MODELS if what == "models" else GATHERS).sub("", stem)
    if not what:
        return None
    words = re.split(r"[^a-z]+", shown.lower())
    part = next((one for one in ("train", "validation", "test") if one in words), "validation" * ("val" in words))
    return Stored(shown, number, part, what, f"{state} {shown}", read)


def _read(path: Path, shown: str) -> NDArray[Any]:
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix == ".mat":
            return _read_mat(path, shown)
        return _read_segy(path, shown)
    except (OSError, EOFError) as error:
        raise ValueError(f"{shown}: cannot be read: {one_line(error)}") from None
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(shown) else f"{shown}: cannot be read: {one_line(text)}") from None


def _read_mat(path: Path, shown: str) -> NDArray[Any]:
    """One model (H, W) → (1, H, W), or the gathers of one (steps, receivers, shots) → (1, shots, steps, receivers)."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path)
    except NotImplementedError:
        raise ValueError(
            f"{shown}: is a MATLAB file of version 7.3; wanted version 5 to 7: save(name, variable, '-v7') writes it"
        ) from None
    except (MatReadError, ValueError, TypeError, IndexError, KeyError) as error:
        raise ValueError(f"{shown}: wanted a MATLAB file of version 5 to 7; {one_line(error)}") from None
    there = [key for key in content if not key.startswith("__")]
    what = "models" if MODELS.match(path.stem) else "gathers"
    key = next((one for one in MAT_KEYS[what] if one in there), None)
    if key is None:
        wanted = " or ".join(map(repr, MAT_KEYS[what]))
        raise ValueError(f"{shown}: wanted the variable {wanted}; got {', '.join(there) or 'none'}")
    array = np.asarray(content[key])
    dims = 2 if what == "models" else 3
    if array.ndim != dims:
        axes = "(depth, x)" if dims == 2 else "(time, receivers, shots)"
        raise ValueError(f"{shown}: wanted {key} as {axes}; got {array.shape}")
    return (array if dims == 2 else array.transpose(2, 0, 1))[None]


def _read_segy(path: Path, shown: str) -> NDArray[Any]:
    """One model, a trace a column → (1, H, W); gathers, a field record a shot → (1, shots, samples, receivers)."""
    try:
        segyio = importlib.import_module("segyio")
    except ImportError:
        raise ValueError(f'{shown}: reading SEG-Y needs segyio: pip install "foveate[fwi]"') from None
    try:
        with segyio.open(str(path), strict=False) as file:
            traces = np.stack([np.array(trace) for trace in file.trace[:]])
            records = np.array(file.attributes(segyio.TraceField.FieldRecord)[:])
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(f"{shown}: wanted a SEG-Y file; {one_line(error)}") from None
    stored = _stored(shown, "", lambda: traces)
    if stored is not None and stored.what == "models":
        return traces.T[None]
    numbers, counts = np.unique(records, return_counts=True)
    if len(set(counts.tolist())) > 1:
        raise ValueError(f"{shown}: wanted as many traces in each field record; got {counts.min()} to {counts.max()}")
    shots = [traces[records == number].T for number in numbers]
    return np.stack(shots)[None]


def pairs_of(stored: list[Stored], folder: Path) -> list[tuple[Stored, Stored | None]]:
    """Each file of models with that of its gathers; None for all where there are no gathers.

    Raises: ValueError: no models, or a file without its counterpart; the nearest is named.
    """
    models = [one for one in stored if one.what == "models"]
    gathers = {(one.part, one.number): one for one in stored if one.what == "gathers"}
    if not models:
        raise ValueError(
            f"{folder}: wanted velocity models (model*.npy, vmodel*.npy, vel*.npy, their zips, vmodel*.mat, or "
            f"models/*.sgy); got {'gathers alone' if gathers else 'none'}"
        )
    if not gathers:
        return [(one, None) for one in models]
    found: list[tuple[Stored, Stored | None]] = []
    for one in models:
        own = gathers.pop((one.part, one.number), None)
        if own is None:
            left = [other.name for other in gathers.values()]
            raise ValueError(
                f"{one.name}: wanted gathers of the same number, {one.number!r}; {nearest(one.name, left)}"
            )
        found.append((one, own))
    if gathers:
        first = next(iter(gathers.values()))
        raise ValueError(f"{first.name}: wanted models of the same number, {first.number!r}; got none")
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", name)]
