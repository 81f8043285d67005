"""Kind "seismic": velocity models with their shot gathers, given or simulated here."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.dataset import Dataset, Progress, Target, register_data
from foveate.data.division import divide
from foveate.data.listing import Part
from foveate.data.problems import Problem
from foveate.data.seismic.batches import SCALES, Changes, ReadGathers, Scaling, ShotGathers
from foveate.data.seismic.checks import check_pairs
from foveate.data.seismic.made import MARK
from foveate.data.seismic.salt import KINDS, salt_models
from foveate.data.seismic.sets import Read, is_seismic, read_folder, read_made
from foveate.data.source import folder_of
from foveate.data.subset import choose, positions
from foveate.registry import check_options
from foveate.spec import EMBEDDED, DataSpec
from foveate.waves import Survey, gathers_of

OF_GENERATED = ("style", "seed")  # options that go with generated models alone
TRAIN, TEST = 160, 40  # generated models, where the specification does not say
SIDE = 70


def find_problems(
    folder: Path,
    *,
    progress: Progress | None = None,
    files: str = "*",
    unit: str = "m/s",
    axes: str = "zx",
    sign: str = "openfwi",
    survey: Mapping[str, Any] | None = None,
) -> list[Problem]:
    """What is odd with the models and gathers of a folder. Raises: ValueError: what makes them unusable."""
    return [Problem(folder, note, "note") for note in _read(folder, files, unit, axes, sign, survey).notes]


def _recognises(source: str) -> bool:
    return source == EMBEDDED or is_seismic(Path(source).expanduser())


@register_data("seismic", recognises=_recognises, check=find_problems, tasks=("inversion",))
def open_seismic(
    spec: DataSpec,
    *,
    progress: Progress | None = None,
    style: str | None = None,
    seed: int = 0,
    files: str = "*",
    unit: str = "m/s",
    axes: str = "zx",
    sign: str = "openfwi",
    survey: Mapping[str, Any] | None = None,
    scale: str = "log",
    mirror: bool = True,
    noise_db: Sequence[float] | None = (5.0, 40.0),
) -> Dataset:
    """Generated models with salt (source "embedded"), a folder of `foveate data make salt`, or a folder with OpenFWI's
    model*.npy and data*.npy (or their zips), FCNVMB's vmodel*.mat and georec*.mat, or models/*.sgy and gathers/*.sgy.

    Where a folder has no gathers, they are simulated on all cores and kept in the cache. The target is "velocity" and,
    of generated models, "kind". Augmentation: mirror images of shots, receivers and model together; noise.

    Args:
        spec: train_items and test_items say how many models; of a folder without parts, test_fraction is held out. Its
            size is that of generated models.
        progress: called with (models whose gathers are there, models in all).
        style: of generated models, "layered" (where it is not said) or "seg", as `salt_models` has them.
        seed: of generated models.
        files: of a folder, only files whose names match, such as "CurveVelA*".
        unit: of the stored models, "m/s" or "km/s".
        axes: of the stored models, "zx" (depth first) or "xz".
        sign: of stored gathers, "openfwi" or "deepwave"; a network sees those of OpenFWI.
        survey: values of `foveate.waves.Survey` that differ from the defaults, such as {shots = 10}.
        scale: of the inputs: "log", sign(d) · log(1 + |d|), or "linear"; both over their deviation in training.
        mirror: mirror half of the training models.
        noise_db: lowest and highest ratio of reflections to noise in training, drawn for each model; None or an empty
            list: no noise.

    Raises: ValueError: files that cannot be used, each by its name, or an option out of its range; deepwave is missing
        and gathers are to be simulated.
    """
    changes, scaling = _changes(mirror, noise_db), Scaling(_one_of("scale", scale, SCALES))
    if spec.source == EMBEDDED:
        read = _generated(spec, style or "layered", seed, survey)
        for option, value, usual in (("files", files, "*"), ("unit", unit, "m/s"), ("axes", axes, "zx")):
            if value != usual:
                raise ValueError(f"{option}: goes with a folder of models; got {value!r} for generated ones")
    else:
        if style is not None or seed:
            raise ValueError("style and seed go with source = 'embedded', whose models are generated; got a folder")
        if spec.size is not None:
            raise ValueError(f"size: models of a folder have their own; got {list(spec.size)}")
        read = _limited(_read(folder_of(spec.source), files, unit, axes, sign, survey), spec)
    parts = _gathers(read, progress)
    scaling = scaling.fitted(parts["train"])
    splits = {
        part: ShotGathers(
            read.models[part],
            parts[part],
            read.survey,
            scaling,
            changes,
            kinds=read.kinds.get(part),
            names=read.names.get(part),
        )
        for part in read.models
    }
    height, width = read.models["train"].shape[1:]
    *others, last = (f"{len(split):,} {part}" for part, split in splits.items())
    shots, samples, receivers = read.survey.shape
    targets = {"velocity": Target("map", ("velocity",), "m/s")}
    if read.kinds:
        targets["kind"] = Target("class", KINDS)
    return Dataset(
        name=read.name,
        inputs=read.survey.shape,
        targets=targets,
        train=splits["train"],
        test=splits["test"],
        validation=splits.get("validation"),
        fingerprint=_fingerprint(read),
        description=f"{read.name}: {', '.join(others)} and {last} models of {height}×{width} cells, gathers of {shots} "
        f"shots, {samples} samples and {receivers} receivers",
        about={"augmentation": str(changes), "scaling": str(scaling), "gathers": read.origin},
        notes=tuple(read.notes),
        prepare=splits["test"].prepare,
    )


def _changes(mirror: bool, noise_db: Sequence[float] | None) -> Changes:
    if not noise_db:
        return Changes(mirror, None)
    if isinstance(noise_db, str) or len(noise_db) != 2 or not -20 <= noise_db[0] <= noise_db[1] <= 200:
        raise ValueError(f"noise_db: wanted the lowest and the highest ratio in dB, such as [5, 40]; got {noise_db!r}")
    return Changes(mirror, (float(noise_db[0]), float(noise_db[1])))


def _one_of(option: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ValueError(f"{option}: wanted {' or '.join(map(repr, known))}; got {value!r}")
    return value


def survey_of(given: Mapping[str, Any] | None, **usual: Any) -> Survey:
    """The survey with these values. Raises: TypeError: no such value. ValueError: as `Survey`."""
    check_options("survey", Survey, given or {})
    return Survey(**{**usual, **(given or {})})


def _generated(spec: DataSpec, style: str, seed: int, survey: Mapping[str, Any] | None) -> Read:
    size = spec.size or (SIDE, SIDE)
    if len(size) != 2:
        raise ValueError(f"size: wanted cells along depth and x, such as [70, 70]; got {list(size)}")
    counts = {"train": spec.train_items or TRAIN, "test": spec.test_items or TEST}
    made = {part: salt_models(count, size=size, style=style, seed=seed, part=part) for part, count in counts.items()}
    return Read(
        f"salt models ({style})",
        {part: one.velocity for part, one in made.items()},
        {},
        survey_of(survey, receivers=size[1]),
        {part: one.kind.astype(np.int64) for part, one in made.items()},
    )


def _read(folder: Path, files: str, unit: str, axes: str, sign: str, survey: Mapping[str, Any] | None) -> Read:
    _one_of("unit", unit, ("m/s", "km/s"))
    _one_of("axes", axes, ("zx", "xz"))
    _one_of("sign", sign, ("openfwi", "deepwave"))
    if (folder / MARK).is_file():
        for option, value, usual in (
            ("files", files, "*"), ("unit", unit, "m/s"), ("axes", axes, "zx"), ("sign", sign, "openfwi"),
        ):  # fmt: skip
            if value != usual:
                raise ValueError(f"{option}: {folder} says it itself in {MARK}; got {value!r}")
        read = read_made(folder)
        check_options("survey", Survey, survey or {})
        for name, value in (survey or {}).items():
            if value != (own := getattr(read.survey, name)):
                raise ValueError(f"survey: {name}: {folder} was made with {own!r}; got {value!r}")
        return read
    read = read_folder(folder, files, unit, axes, sign, lambda **usual: survey_of(survey, **usual))
    return replace(read, notes=[*read.notes, *check_pairs(read)])


def _limited(read: Read, spec: DataSpec) -> Read:
    """The parts as `spec` says; without parts of its own, some are held out."""
    whole = {part: np.arange(len(models)) for part, models in read.models.items()}
    if "" in whole:
        labels: list[Part] = [""] * len(whole[""])
        kinds = read.kinds.get("")
        alike = np.unique(read.models[""].reshape(len(labels), -1), axis=0, return_inverse=True)[1].reshape(-1)
        places: dict[Any, NDArray[np.int64]] = dict(
            divide(Path(read.name), labels, positions(len(labels)), spec, alike=alike, strata=kinds)
        )
        return read.chosen({part: ("", chosen) for part, chosen in places.items()})
    for part in ("train", "test"):
        if part not in whole:
            raise ValueError(f"{read.name}: wanted models of a training and of a test part; got no {part} part")
    chosen = {}
    for part, places_of in whole.items():
        most = spec.train_items if part == "train" else spec.test_items
        if part == "validation" and most is not None:
            most = min(most, len(places_of))
        option = "train_items" if part == "train" else "test_items"
        chosen[part] = (part, choose(read.kinds.get(part), positions(len(places_of)), most, wanted=option))
    return read.chosen(chosen)


def _gathers(read: Read, progress: Progress | None) -> dict[str, ReadGathers]:
    if read.gathers:
        return dict(read.gathers)
    total = sum(map(len, read.models.values()))
    found: dict[str, ReadGathers] = {}
    before = 0
    for part, models in read.models.items():

        def tell(done: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total)

        found[part] = gathers_of(models, read.survey, progress=tell)
        before += len(models)
    return found


def _fingerprint(read: Read) -> str:
    digest = hashlib.sha256(repr((sorted(read.survey.plain().items()), read.origin)).encode())
    for part in sorted(read.models):
        digest.update(part.encode())
        digest.update(np.ascontiguousarray(read.models[part]).tobytes())
        if part in read.gathers:
            some = np.unique(np.linspace(0, len(read.models[part]) - 1, 16).astype(np.int64))
            digest.update(read.gathers[part][some].tobytes())
    return digest.hexdigest()[:16]
