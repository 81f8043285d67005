"""A folder of models and gathers, read: its parts, its survey, and what its gathers are."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.cache import load_record, save_record
from foveate.data.seismic.batches import ReadGathers
from foveate.data.seismic.files import Stored, list_stored, pairs_of
from foveate.data.seismic.made import MARK
from foveate.waves import Survey, check_velocities
from foveate.waves.survey import SIGNS

SIMULATED = "simulated here (acoustic, deepwave)"
OF_FCNVMB = {"step_s": 0.001, "steps": 2000, "keep": 5, "frequency_hz": 25.0}
SALT_HEADROOM_M_S = 4600.0


@dataclass(frozen=True)
class Read:
    """Models in parts, and what is known of them.

    Attributes:
        name: of the set.
        models: part → (n, H, W) float32, m/s; "" is the only part of a set that is not divided.
        gathers: the same; {} where they are to be simulated.
        survey: of all of them.
        kinds: part → (n,) numbers of kinds of salt; {}: not known.
        names: part → what each model is called; {}: their numbers.
        origin: of the gathers, in words.
        notes: for the reader.
    """

    name: str
    models: Mapping[str, NDArray[np.float32]]
    gathers: Mapping[str, ReadGathers]
    survey: Survey
    kinds: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    origin: str = SIMULATED
    notes: Sequence[str] = ()

    def chosen(self, places: Mapping[str, tuple[str, NDArray[np.int64]]]) -> "Read":
        """With other parts: name → (part that it is taken from, places there)."""
        return replace(
            self,
            models={new: self.models[old][at] for new, (old, at) in places.items()},
            gathers={new: Chosen(self.gathers[old], at) for new, (old, at) in places.items() if old in self.gathers},
            kinds={new: self.kinds[old][at] for new, (old, at) in places.items() if old in self.kinds},
            names={new: [self.names[old][n] for n in at] for new, (old, at) in places.items() if old in self.names},
        )


class Chosen:
    """Some of other gathers."""

    def __init__(self, whole: ReadGathers, places: NDArray[np.int64]) -> None:
        self.whole, self.places = whole, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.whole[self.places[items]]


class Stacked:
    """Gathers of several files, one after another, as a network sees them: every `keep`-th sample, OpenFWI's sign.

    Args:
        arrays: (n, shots, steps or samples, receivers) of each file; may be mapped.
        survey: of all.
        sign: +1 or −1.
    """

    def __init__(self, arrays: Sequence[NDArray[Any]], survey: Survey, sign: float) -> None:
        self.arrays, self.sign = arrays, np.float32(sign)
        self.every = survey.keep if arrays[0].shape[2] == survey.steps else 1
        self.starts = np.cumsum([0, *map(len, arrays)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        found = []
        for item in np.asarray(items).tolist():
            which = int(np.searchsorted(self.starts, item, "right")) - 1
            found.append(self.arrays[which][item - self.starts[which]][:, :: self.every])
        return np.stack(found).astype(np.float32) * self.sign


def is_seismic(folder: Path) -> bool:
    """Has the folder the mark of `foveate data make salt`, or files of velocity models by name?"""
    if not folder.is_dir():
        return False
    if (folder / MARK).is_file():
        return True
    names = ("model*.npy", "vmodel*.npy", "vel*.npy", "vmodel*.mat", "svmodel*.mat", "models/*.sgy", "models/*.segy")
    return any(next(folder.glob(f"{deep}{name}"), None) for deep in ("", "*/", "*/*/") for name in names)


def read_made(folder: Path) -> Read:
    """A folder of `foveate data make salt`. Raises: ValueError: a file that is missing or damaged."""
    try:
        facts = json.loads((folder / MARK).read_text(encoding="utf-8"))
        survey = Survey(**facts["survey"])
        models, gathers, kinds = {}, {}, {}
        for part in ("train", "test"):
            models[part] = np.load(folder / part / "models.npy", allow_pickle=False)
            kinds[part] = np.load(folder / part / "kinds.npy", allow_pickle=False).astype(np.int64)
            arrays = [np.load(folder / part / "gathers.npy", mmap_mode="r", allow_pickle=False)]
            check_gathers(arrays[0], survey, f"{part}/gathers.npy", len(models[part]))
            check_velocities(models[part], f"{part}/models.npy")
            gathers[part] = Stacked(arrays, survey, 1.0)
    except (OSError, KeyError, TypeError, EOFError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder}: wanted a folder of foveate data make salt; {error}") from None
    return Read(folder.resolve().name, models, gathers, survey, kinds)


def read_folder(folder: Path, pattern: str, unit: str, axes: str, sign: str, survey_of: Callable[..., Survey]) -> Read:
    """A folder of models with or without gathers.

    survey_of: from what the files say (shots, receivers and, of FCNVMB, the time axis) to the survey.

    Raises: ValueError: by the file's name.
    """
    pairs = pairs_of(list_stored(folder, pattern), folder)
    parts = {one.part for one, _ in pairs}
    if "" in parts and len(parts) > 1:
        named = next(one.name for one, _ in pairs if not one.part)
        raise ValueError(f"{named}: wanted train, validation or test in its path, as in other files' of {folder}")
    loaded = [(one, _models(one, unit, axes), own, None if own is None else own.read()) for one, own in pairs]
    sizes = {models.shape[1:] for _, models, _, _ in loaded}
    if len(sizes) > 1:
        shown = " and ".join("×".join(map(str, size)) for size in sorted(sizes)[:2])
        raise ValueError(f"{folder}: wanted models of one size; got {shown}")
    models: dict[str, NDArray[np.float32]] = {}
    names: dict[str, list[str]] = {}
    for part in dict.fromkeys(one.part for one, _ in pairs):
        own_part = [(one, found) for one, found, _, _ in loaded if one.part == part]
        models[part] = np.concatenate([found for _, found in own_part])
        names[part] = [
            one.name if len(found) == 1 else f"{one.name}:{number}"
            for one, found in own_part
            for number in range(len(found))
        ]
    _check_depth_first(models, folder)
    fastest = max(float(one.max()) for one in models.values())
    usual: dict[str, Any] = {"receivers": next(iter(sizes))[1]}
    usual["fastest_m_s"] = max(SALT_HEADROOM_M_S, float(np.ceil(fastest / 100) * 100))
    if any(own is not None and own.name.endswith(".mat") for _, own in pairs):
        usual |= {**OF_FCNVMB, "shots": 29}
    survey = survey_of(**usual)
    read = Read(folder.resolve().name, models, {}, survey, names=names)
    arrays: dict[str, list[NDArray[Any]]] = {}
    for one, found, own, array in loaded:
        if own is None or array is None:
            return read
        _check_once(array, survey, own, len(found))
        arrays.setdefault(one.part, []).append(array)
    turn = SIGNS["openfwi"] * SIGNS[sign]
    gathers = {part: Stacked(of_part, survey, turn) for part, of_part in arrays.items()}
    return replace(read, gathers=gathers, origin="as stored")


def _check_once(array: NDArray[Any], survey: Survey, stored: Stored, models: int) -> None:
    """`check_gathers`; a file that passed is not read again until it changes."""
    shape = (survey.shots, survey.steps, survey.receivers, models)
    name = f"traces-{hashlib.sha256(repr((stored.state, shape)).encode()).hexdigest()[:32]}"
    if load_record(name) is None:
        check_gathers(array, survey, stored.name, models)
        save_record(name, {"finite": True})


def _models(one: Stored, unit: str, axes: str) -> NDArray[np.float32]:
    """(n, H, W), m/s, depth first."""
    found = one.read()
    if found.ndim == 4 and found.shape[1] == 1:  # OpenFWI's
        found = found[:, 0]
    if found.ndim == 2:
        found = found[None]
    if found.ndim != 3:
        raise ValueError(f"{one.name}: wanted models (n, 1, depth, x) or (n, depth, x); got {found.shape}")
    models = np.array(found, np.float32)
    if axes == "xz":
        models = models.transpose(0, 2, 1)
    if unit == "km/s":
        models = models * np.float32(1000)
    check_velocities(models, one.name)
    return np.ascontiguousarray(models)


def _check_depth_first(models: Mapping[str, NDArray[np.float32]], folder: Path) -> None:
    """Velocities grow with depth: a mean model that grows along x and not along depth is lying on its side."""
    mean = np.mean([one.mean(0, dtype=np.float64) for one in models.values()], 0)
    down, across = mean.mean(1), mean.mean(0)
    if np.ptp(across) > 4 * np.ptp(down) and np.ptp(across) > 300:
        raise ValueError(
            f"{folder}: wanted models (depth, x); velocities grow by {np.ptp(across):.0f} m/s along the second axis "
            f"and by {np.ptp(down):.0f} along the first, as if depth and x were swapped; say axes = 'xz' if they are"
        )


def check_gathers(array: NDArray[Any], survey: Survey, name: str, models: int) -> None:
    """Raises: ValueError: another geometry (which axis, wanted, got), or traces that are not finite."""
    if array.ndim != 4:
        raise ValueError(f"{name}: wanted gathers (models, shots, samples, receivers); got {array.shape}")
    wanted = (models, survey.shots, survey.steps, survey.receivers)
    for axis, want, got in zip(("models", "shots", "samples", "receivers"), wanted, array.shape, strict=True):
        if got != want and not (axis == "samples" and got == survey.samples):
            also = f" (or every {survey.keep}th, {survey.samples})" if axis == "samples" and survey.keep > 1 else ""
            raise ValueError(f"{name}: axis {axis}: wanted {want}{also}; got {got}")
    for item, gathers in enumerate(array):
        odd = np.argwhere(~np.isfinite(np.asarray(gathers, np.float32)))
        if len(odd):
            shot, _, receiver = odd[0]
            raise ValueError(
                f"{name}: wanted finite traces; got NaN or infinity in item {item}, shot {shot}, receiver {receiver}"
            )
