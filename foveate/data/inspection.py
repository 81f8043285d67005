"""What a data source holds, and everything that is wrong with it: `foveate data check`."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.dataset import CHECKS, Dataset, Progress, Split, opener_of
from foveate.data.open import AUTO, kind_of, open_data
from foveate.data.problems import Problem
from foveate.spec import DataSpec


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        source, kind: the source, and the kind of data it was opened as.
        problems: everything that is wrong or odd, each by its file or folder.
        data: the data set; None where the problems make it unusable.
    """

    source: str
    kind: str
    problems: tuple[Problem, ...]
    data: Dataset | None

    @property
    def serious(self) -> int:
        """How many problems make the data unusable."""
        return sum(problem.kind != "note" for problem in self.problems)

    def row(self) -> dict[str, Any]:
        """All of it as plain values: classes, counts by split and class, the size of a sample, problems."""
        found: dict[str, Any] = {"source": self.source, "kind": self.kind, "usable": self.data is not None}
        if self.data is not None:
            found |= {"name": self.data.name, "description": self.data.description, "inputs": list(self.data.inputs)}
            found |= {"targets": {name: target.kind for name, target in self.data.targets.items()}}
            found |= {"fingerprint": self.data.fingerprint, "about": dict(self.data.about)}
            found |= {part: _counts(self.data, split) for part, split in _splits(self.data)}
        keys = ("path", "reason", "kind")
        found["problems"] = [{key: str(getattr(problem, key)) for key in keys} for problem in self.problems]
        return found


def inspect_data(
    source: str,
    *,
    kind: str = AUTO,
    task: str = "",
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Open a data source, check every file of it, and list all problems at once.

    Args:
        source: "embedded" or a folder.
        kind: of data; "auto": as the source looks.
        task: that the data are for, which decides where they could be of several kinds.
        options: of the kind.
        progress: called with (files checked, files in all).

    Raises: ValueError: if there is no such folder. LookupError: if there is no such kind. TypeError: if it has no such
        option.
    """
    options = dict(options or {})
    kind = kind_of(source, task) if kind == AUTO else kind
    spec = DataSpec(kind=kind, source=source, options=options)
    opener_of(spec)  # the kind and its options are known
    try:
        problems = _check(kind, source, options, progress) if kind in CHECKS else []
        data = None
        if all(problem.kind == "note" for problem in problems):
            data = open_data(spec, progress=progress)
    except ValueError as error:
        return Inspection(source, kind, (_problem(source, error),), None)
    return Inspection(source, kind, tuple(problems), data)


def _check(kind: str, source: str, options: Mapping[str, Any], progress: Progress | None) -> list[Problem]:
    """What the kind's check finds; options that it does not take are for opening alone."""
    takes = inspect.signature(CHECKS[kind]).parameters
    own = {name: value for name, value in options.items() if name in takes}
    return CHECKS[kind](Path(source).expanduser(), progress=progress, **own)


def _problem(source: str, error: ValueError) -> Problem:
    """The error of an opener, which names the file or folder first where there is one."""
    place, colon, reason = str(error).partition(": ")
    return Problem(Path(place), reason, "folder") if colon else Problem(Path(source), str(error), "folder")


def _splits(data: Dataset) -> list[tuple[str, Split]]:
    validation = [] if data.validation is None else [("validation", data.validation)]
    return [("train", data.train), *validation, ("test", data.test)]


def _counts(data: Dataset, split: Split) -> dict[str, Any]:
    """Items in all and, where a split has classes, of each class; of masks, the items that each class is in; of boxes,
    those of each class."""
    boxes = next((target.names for target in data.targets.values() if target.kind == "boxes"), ())
    if split.annotations is not None and boxes:
        labels = np.concatenate([np.zeros(0, np.int64), *(one.labels for one in split.annotations)])
        counted = np.bincount(labels, minlength=len(boxes)).tolist()
        return {"items": len(split), "boxes": len(labels), "classes": dict(zip(boxes, counted, strict=True))}
    masks = next((target.names for target in data.targets.values() if target.kind == "mask"), ())
    if split.pixels is not None and masks:
        return {"items": len(split), "classes": dict(zip(masks, (split.pixels > 0).sum(0).tolist(), strict=True))}
    names = next((target.names for target in data.targets.values() if target.kind == "class"), ())
    if split.strata is None or not names:
        return {"items": len(split)}
    counts = np.bincount(split.strata, minlength=len(names)).tolist()
    return {"items": len(split), "classes": dict(zip(names, counts, strict=True))}
