"""Which items of a folder are for training, validation and test: by its own parts, or held out; and by group."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.data.listing import Part
from foveate.data.subset import choose, hold_out, together
from foveate.spec import DataSpec


def copies_as_numbers(count: int, copies: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """(count,) equal for copies of one item; copies: the places of each content that is there more than once."""
    alike = np.arange(count)
    for numbers in copies:
        alike[list(numbers)] = numbers[0]
    return alike


def divide(
    root: Path,
    parts: Sequence[Part],
    keys: NDArray[np.uint64],
    spec: DataSpec,
    *,
    alike: NDArray[np.int64],
    strata: NDArray[np.int64] | None = None,
    belonging: NDArray[np.str_] | None = None,
    names: Sequence[str] | None = None,
) -> dict[Part, NDArray[np.int64]]:
    """The places of the items of "train", "test" and, where the folder has it, "validation", limited as `spec` says.

    Args:
        root: for errors.
        parts: (n) of each item; all "": `spec.test_fraction` of each stratum is held out.
        keys: (n,) what decides inside a stratum.
        spec: of the data.
        alike: (n,) equal for copies of one item, which stay on one side.
        strata: (n,) what each part keeps in proportion; None: nothing.
        belonging: (n,) what each item belongs to; items of one group stay on one side.
        names: of the strata, for errors.

    Raises: ValueError: if nothing can be held out, or train_items or test_items do not fit.
    """
    divided: dict[Part, NDArray[np.int64]] = {}
    if any(parts):
        part_of = np.array(parts)
        order: tuple[Part, ...] = ("train", "validation", "test")
        divided = {part: np.flatnonzero(part_of == part) for part in order if part != "validation" or part in parts}
    else:
        try:
            whole = together(alike, belonging)
            what = "copies of one item" if belonging is None else "items of one group"
            shown = np.zeros(len(parts), np.int64) if strata is None else strata
            divided["train"], divided["test"] = hold_out(
                shown, keys, spec.test_fraction, whole, names=names, alike=what
            )
        except ValueError as error:
            raise ValueError(f"{root}: {error}") from None
    for part, places in divided.items():
        option = "train_items" if part == "train" else "test_items"
        most = getattr(spec, option)
        if part == "validation" and most is not None:
            most = min(most, len(places))
        among = None if strata is None else strata[places]
        divided[part] = places[choose(among, keys[places], most, wanted=option)]
    return divided


def groups_of(names: Sequence[str], pattern: str, called: Sequence[str] | None = None) -> list[str]:
    """What each item belongs to: the first group of a regular expression in its name.

    called: what each item is called in errors; None: its name.

    Raises: ValueError: if it is no regular expression with one group in brackets, or a name has none.
    """
    try:
        search = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"group: wanted a regular expression; got {pattern!r} ({error})") from None
    if search.groups != 1:
        raise ValueError(f"group: wanted a regular expression with one group in brackets; got {pattern!r}")
    found = []
    for number, name in enumerate(names):
        match = search.search(name)
        if match is None or not match[1]:
            raise ValueError(f"group: {pattern!r} finds no group in {repr(name) if called is None else called[number]}")
        found.append(match[1])
    return found
