"""Kind "signals": recordings in class folders or in a table, cut into windows; noise at a ratio to the signal."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.dataset import Dataset, Progress, Target, register_data
from foveate.data.listing import Part
from foveate.data.problems import Problem, complain
from foveate.data.signals.batches import SCALES, Changes, Scaling, SignalWindows
from foveate.data.signals.division import (
    Division,
    by_column,
    by_recording,
    by_time,
    check_labels,
    least_distance,
)
from foveate.data.signals.listing import SignalListing, is_of_signals, list_signals
from foveate.data.signals.noise import Noise, name_of_level
from foveate.data.signals.recordings import Signals, usable
from foveate.data.source import folder_of
from foveate.data.subset import choose, positions
from foveate.spec import DataSpec

WINDOW = 1024


def find_problems(
    folder: Path,
    *,
    progress: Progress | None = None,
    window: int = WINDOW,
    rate: float | None = None,
    table: str | None = None,
    label: str = "label",
    key: str | None = None,
    factor: str | None = None,
    only: Mapping[str, Any] | None = None,
    skip_bad: bool = False,
) -> list[Problem]:
    """Everything that is wrong with the recordings of a folder; each is read."""
    listing = list_signals(folder, table=table, label=label, key=key, factor=factor, only=only)
    return usable(listing, _whole_number("window", window, 2), rate, skip_bad, progress)[2]


@register_data("signals", recognises=is_of_signals, check=find_problems)
def open_signals(
    spec: DataSpec,
    *,
    progress: Progress | None = None,
    window: int = WINDOW,
    hop: int | None = None,
    rate: float | None = None,
    split: str = "time",
    gap: int | None = None,
    train_on: Any = None,
    test_on: Any = None,
    validation: float = 0.0,
    table: str | None = None,
    label: str = "label",
    key: str | None = None,
    factor: str | None = None,
    only: Mapping[str, Any] | None = None,
    scale: str = "window",
    shift: int = 0,
    gain: float = 0.0,
    noise: str = "none",
    snr_db: Any = None,
    noise_in: str = "both",
    skip_bad: bool = False,
) -> Dataset:
    """Recordings (npz, npy, csv, wav, mat) as root/<class>/…, or a table index.csv or index.json that names them.

    A table has the columns file and label, and where wanted key (the array in a file of several), rate (samples a
    second) and any others, such as load. Windows lie whole inside the part of their recording, and no sample is in two
    parts. The targets are "label", "recording" and "condition", the level of noise.

    Args:
        spec: test_fraction is the share of each recording, of the recordings or of a column's values that is for the
            test; train_items and test_items say how many windows.
        progress: called with (recordings read, recordings in all).
        window: samples of a window.
        hop: samples from one training window to the next; None: window. Those of the test do not overlap.
        rate: samples a second that recordings are resampled to; None: as they are, which must be one rate.
        split: "time" (the last part of each recording is the test), "file" (whole recordings), or a column of the
            table, such as "load" (whole recordings by its values).
        gap: of split = "time", samples between the parts that belong to neither; None: window.
        train_on, test_on: of a column, its values for training and for the test.
        validation: share of each recording (of the recordings, of the values for training) for early stopping.
        table: another table than the folder's index.csv or index.json.
        label: the table's column of classes.
        key: of the array in each npz or mat file, or of the columns of csv files, as a name or glob pattern.
        factor: the table's column with what samples are multiplied by.
        only: the table's column → its values; other recordings are left out.
        scale: "window", each window by its own mean and deviation, or "training", by those of the training part.
        shift: samples that training windows are moved by, at most.
        gain: part that training windows are made louder or softer by, at most; with scale = "training".
        noise: "none", "white", "laplacian" or "pink".
        snr_db: decibels of signal to noise, "clean" for none, or a list: each test window is an item at each of them,
            and training draws one for each window.
        noise_in: "both", "training" or "test".
        skip_bad: leave recordings out that cannot be used, instead of refusing the folder.

    Raises: ValueError: recordings or rows that cannot be used, each by its place; a class without recordings in a part;
        an option out of its range, or one that goes with another.
    """
    folder = folder_of(spec.source)
    window = _whole_number("window", window, 2)
    hop = window if hop is None else _whole_number("hop", hop, 1)
    gap = _gap(gap, split, window)
    added = Noise.of(noise, snr_db, noise_in)
    if spec.validation_fraction and added.where == "test":
        raise ValueError(
            "validation_fraction: its windows are of the training part, which noise_in = 'test' leaves without noise; "
            "wanted the option validation, a share of each recording"
        )
    changes = Changes(_whole_number("shift", shift, 0), _share("gain", gain))
    if changes.gain and scale == "window":
        raise ValueError(
            "gain: goes with scale = 'training'; scale = 'window' divides each window by its own deviation"
        )
    _share("validation", validation)
    if scale not in SCALES:
        raise ValueError(f"scale: wanted {' or '.join(map(repr, SCALES))}; got {scale!r}")
    if split in ("time", "file") and not train_on is test_on is None:
        raise ValueError(f"train_on and test_on go with split = the name of a column; got split = {split!r}")
    if spec.size is not None:
        raise ValueError(f"size: the windows of signals have window = {window} samples; got {list(spec.size)}")
    listing = list_signals(folder, table=table, label=label, key=key, factor=factor, only=only)
    if any(problem.kind == "folder" for problem in listing.problems):
        complain(folder, listing.problems, 0)
    listing, signals, problems = usable(listing, window, rate, skip_bad, progress)
    complain(folder, problems, 0)
    lengths = [signal.shape[1] for signal in signals]
    if split == "time":
        divided = by_time(lengths, spec.test_fraction, validation, gap)
        _check_stretches(listing, divided, window)
    elif split == "file":
        divided = by_recording(listing, lengths, spec.test_fraction, validation)
    else:
        divided = by_column(listing, split, lengths, spec.test_fraction, validation, train_on, test_on)
    check_labels(listing, divided)
    used = sorted({one.recording for those in divided.values() for one in those})
    classes = tuple(sorted({listing.recordings[number].label for number in used}))
    if len(classes) < 2:
        raise ValueError(f"{folder}: wanted recordings of at least two classes; got {len(classes)}")
    names = [one.name for one in listing.recordings]
    levels = list(dict.fromkeys((*added.in_test, *added.in_training)))
    parts: dict[Part, SignalWindows] = {}
    scaling = Scaling("window")
    for part in divided:  # training is the first
        tested = part != "train"
        places = _windows(divided[part], window, window if tested else hop)
        labels = np.array(
            [classes.index(listing.recordings[divided[part][place].recording].label) for place in places[:, 0]]
        )
        option = "test_items" if tested else "train_items"
        most = spec.test_items if tested else spec.train_items
        most = min(most, len(places)) if part == "validation" and most is not None else most
        chosen = choose(labels, positions(len(places)), most, wanted=option)
        own = added.in_test if tested else added.in_training
        if part == "train" and scale == "training":
            scaling = _fitted(signals, divided[part], places[chosen], window)
        parts[part] = SignalWindows(
            signals,
            names,
            divided[part],
            places[chosen],
            window,
            labels[chosen],
            noise=added,
            ratios_db=own,
            conditions=[levels.index(one) for one in own],
            scaling=scaling,
            changes=changes if part == "train" else Changes(),
            part=part,
        )
    apart = least_distance(divided)
    assert apart is None or apart >= 0, "no sample is in two parts"
    for part, one in parts.items():  # a random tenth of the training windows would share samples with the others
        one.groups = one.of_recordings() if split != "time" or part == "train" else one.of_windows()
    counts = ", ".join(f"{len(one.windows):,} {part}" for part, one in parts.items())
    channels = signals[0].shape[0]
    rates = {one.rate for one in listing.recordings}
    return Dataset(
        name=folder.resolve().name,
        inputs=(channels, window),
        targets={
            "label": Target("class", classes),
            "recording": Target("other", tuple(names)),
            "condition": Target("other", tuple(map(name_of_level, levels))),
        },
        train=parts["train"],
        test=parts["test"],
        validation=parts.get("validation"),
        fingerprint=_fingerprint(listing, signals),
        description=f"{folder.resolve().name}: {len(used)} recordings of {len(classes)} classes, {counts} windows of "
        f"{channels}×{window} samples",
        about={
            "augmentation": str(changes),
            "noise": str(added),
            "scaling": str(scaling),
            "rate": f"{rates.pop():g} samples a second" if len(rates) == 1 and None not in rates else "not said",
            "split": _split_in_words(split, divided, apart, spec, train_on, test_on),
        },
        notes=(*map(str, problems), *_notes(split, apart)),
        fixed_parts="its windows are divided by " + ("time" if split == "time" else "recording"),
    )


def _notes(split: str, apart: int | None) -> list[str]:
    if split != "time" or apart is None:
        return []
    return [
        f"each recording is in every part, its parts {apart:,} samples apart or more and without a common sample: the "
        "scores are about later times of these recordings, not about other ones"
    ]


def _split_in_words(
    split: str, divided: Division, apart: int | None, spec: DataSpec, train_on: Any, test_on: Any
) -> str:
    if split == "time":
        return (
            f"the last {100 * spec.test_fraction:g} % of each recording is the test, {apart:,} samples after training"
        )
    counts = ", ".join(f"{len(those)} {part}" for part, those in divided.items())
    by = "whole recordings" if split == "file" else f"whole recordings by {split!r}"
    by += "" if train_on is None else f", trained on {train_on}, tested on {test_on}"
    return f"{by}: {counts}"


def _whole_number(option: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{option}: wanted a whole number of {least} or more; got {value!r}")
    return value


def _share(option: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{option}: wanted 0 or more, below 1; got {value!r}")
    return float(value)


def _gap(gap: int | None, split: str, window: int) -> int:
    if gap is not None and split != "time":
        raise ValueError(f"gap: goes with split = 'time'; got {gap!r} with split = {split!r}")
    return window if gap is None else _whole_number("gap", gap, 0)


def _windows(stretches: Sequence[Any], window: int, hop: int) -> NDArray[np.int64]:
    places = [
        (number, start) for number, one in enumerate(stretches) for start in range(one.begin, one.end - window + 1, hop)
    ]
    return np.array(places, np.int64).reshape(-1, 2)


def _check_stretches(listing: SignalListing, divided: Division, window: int) -> None:
    """Raise ValueError where a part of a recording is shorter than a window."""
    words = {"train": "training", "test": "test", "validation": "validation"}
    problems = [
        Problem(
            listing.recordings[one.recording].path,
            f"its {words[part]} part has {one.end - one.begin:,} samples; wanted at least window = {window:,}",
        )
        for part, those in divided.items()
        for one in those
        if one.end - one.begin < window
    ]
    complain(listing.root, problems, 0)


def _fitted(signals: Signals, stretches: Sequence[Any], places: NDArray[np.int64], window: int) -> Scaling:
    """Mean and deviation, a channel, of the windows."""
    total = np.zeros((3, signals[0].shape[0]))
    for place, start in places.tolist():
        values = signals[stretches[place].recording][:, start : start + window].astype(np.float64)
        total += np.stack([np.full(len(values), window), values.sum(1), (values**2).sum(1)])
    mean = total[1] / total[0]
    deviation = np.sqrt(np.maximum(total[2] / total[0] - mean**2, 0))
    if not (deviation > 0).all():
        raise ValueError(f"scale = 'training': channel {deviation.argmin()} does not vary in the training windows")
    return Scaling("training", mean[:, None].astype(np.float32), deviation[:, None].astype(np.float32))


def _fingerprint(listing: SignalListing, signals: Signals) -> str:
    digest = hashlib.sha256()
    for one, signal in zip(listing.recordings, signals, strict=True):
        digest.update(repr((one.name, one.label, one.rate, sorted(one.columns.items()))).encode(errors="replace"))
        digest.update(signal.tobytes())
    return digest.hexdigest()[:16]
