"""Which stretch of which recording is for training, validation and test; no sample is in two of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from foveate.data.listing import Part
from foveate.data.signals.listing import SignalListing, as_values, values_of
from foveate.data.subset import hold_out, positions
from foveate.registry import nearest

ORDER: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Stretch:
    """Samples begin ≤ t < end of a recording, by its number."""

    recording: int
    begin: int
    end: int


Division = dict[Part, list[Stretch]]


def by_time(lengths: Sequence[int], test: float, validation: float, gap: int) -> Division:
    """Of each recording the last part for the test, before it that for validation, with a gap before either.

    test, validation: shares of the recording. gap: samples that no part has.
    """
    shares: list[tuple[Part, float]] = [("test", test)]
    if validation:
        shares.append(("validation", validation))
    divided: Division = {"train": [], **{part: [] for part, _ in shares}}
    for number, length in enumerate(lengths):
        end = length
        for part, share in shares:
            begin = max(end - round(share * length), 0)
            divided[part].append(Stretch(number, begin, end))
            end = max(begin - gap, 0)
        divided["train"].append(Stretch(number, 0, end))
    return divided


def by_recording(listing: SignalListing, lengths: Sequence[int], test: float, validation: float) -> Division:
    """Whole recordings: of each class a share for the test and for validation.

    Raises: ValueError: if a class has too few.
    """
    labels = [one.label for one in listing.recordings]
    return _whole(_divided(listing, labels, [one.name for one in listing.recordings], test, validation), lengths)


def by_column(
    listing: SignalListing,
    column: str,
    lengths: Sequence[int],
    test: float,
    validation: float,
    train_on: Any,
    test_on: Any,
) -> Division:
    """Whole recordings by what a column says: these values for training and those for the test.

    Without either, values "train", "test" and "validation" are the parts; else a share of the values of each class is
    for the test, and the others for training. Validation is a share of the values of training.

    Raises: ValueError: if there is no such column or value, one is on both sides, or a class has too few.
    """
    values = values_of(listing, column)
    there = sorted(set(values))
    if (train_on is None) != (test_on is None):
        raise ValueError("train_on and test_on go together: the values of the column for training and for the test")
    if train_on is not None:
        chosen = {"train": as_values("train_on", train_on), "test": as_values("test_on", test_on)}
        for option, wanted in chosen.items():
            for value in wanted:
                if value not in there:
                    raise ValueError(f"{option}_on: no recording has {column} = {value!r}; {nearest(value, there)}")
        if both := sorted(set(chosen["train"]) & set(chosen["test"])):
            raise ValueError(f"train_on, test_on: wanted different values of {column!r}; got {both[0]!r} in both")
        part_of = {value: part for part, wanted in chosen.items() for value in wanted}
        parts = [part_of.get(value, "") for value in values]
    elif {"train", "test"} <= set(there):
        if odd := sorted(set(there) - set(ORDER)):
            raise ValueError(f"{listing.root}: {column}: wanted train, validation or test; got {odd[0]!r}")
        parts = list(values)
    else:
        parts = _divided(listing, [one.label for one in listing.recordings], values, test, 0.0)
    if validation:
        inside = [place for place, part in enumerate(parts) if part == "train"]
        if "validation" in parts:
            raise ValueError(f"validation: {column!r} has a validation part of its own; got {validation}")
        some = _divided(
            listing,
            [listing.recordings[place].label for place in inside],
            [values[place] for place in inside],
            validation,
            0.0,
        )
        for place, part in zip(inside, some, strict=True):
            parts[place] = "validation" if part == "test" else "train"
    return _whole(parts, lengths)


def _divided(
    listing: SignalListing, labels: Sequence[str], groups: Sequence[str], test: float, validation: float
) -> list[str]:
    """The part of each recording; those of one group stay together."""
    names, strata = np.unique(np.array(labels), return_inverse=True)
    _, numbers = np.unique(np.array(groups), return_inverse=True)
    parts = np.full(len(labels), "train", dtype="<U10")
    try:
        inside, taken = hold_out(
            strata, positions(len(labels)), test, numbers, names=names.tolist(), alike="recordings that stay together"
        )
        parts[taken] = "test"
        if validation:
            _, taken = hold_out(
                strata[inside],
                positions(len(inside)),
                validation,
                numbers[inside],
                names=names.tolist(),
                purpose="validation",
                alike="recordings that stay together",
            )
            parts[inside[taken]] = "validation"
    except ValueError as error:
        raise ValueError(f"{listing.root}: {error}; split = 'time' divides each recording") from None
    return [str(part) for part in parts]


def _whole(parts: Sequence[str], lengths: Sequence[int]) -> Division:
    divided: Division = {part: [] for part in ORDER if part != "validation" or part in parts}
    for number, part in enumerate(parts):
        if part:
            divided[part].append(Stretch(number, 0, lengths[number]))  # type: ignore[index]
    return divided


def least_distance(divided: Division) -> int | None:
    """Samples between stretches of one recording in different parts, the fewest; below 0 where they overlap. None: no
    recording is in two parts."""
    stretches = [(one.recording, one.begin, one.end, part) for part, those in divided.items() for one in those]
    stretches.sort()
    return min(
        (
            after[1] - before[2]
            for before, after in pairwise(stretches)
            if before[0] == after[0] and before[3] != after[3]
        ),
        default=None,
    )


def check_labels(listing: SignalListing, divided: Division) -> None:
    """Raise ValueError unless every class has recordings in every part."""
    found = {part: {listing.recordings[one.recording].label for one in those} for part, those in divided.items()}
    for part in divided:
        for other in divided:
            if missing := sorted(found[other] - found[part]):
                words = {"train": "training", "test": "test", "validation": "validation"}
                raise ValueError(
                    f"{listing.root}: class {missing[0]!r} has recordings in the {words[other]} part and none in the "
                    f"{words[part]} part"
                )
