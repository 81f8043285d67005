"""Opens a data source of any kind; finds the kind by looking at the source where the specification does not name it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.dataset import (
    CHECKS,
    EVALUATION,
    KINDS,
    RECOGNISERS,
    TASKS_OF,
    Dataset,
    LabelledImages,
    Progress,
    opener_of,
    register_data,
)
from foveate.data.resplit import resplit
from foveate.data.source import folder_of
from foveate.data.validation import with_validation
from foveate.registry import error_in, is_file_reference
from foveate.spec import DataSpec

AUTO, USUAL = "auto", "folders"  # what is looked at; what a folder is that no kind recognises


def open_data(spec: DataSpec, *, progress: Progress | None = None) -> Dataset:
    """The data set of the specification, opened and checked.

    Whether samples are augmented is up to the training loop: it gives `Split.batch` augment=None for `spec.augment`
    False.

    Args:
        spec: what to open, how large, how many.
        progress: called with (files checked, files in all) by kinds that check many files.

    Raises: LookupError: if there is no such kind. TypeError: if the kind has no such option. ValueError: if the data
        cannot be used, in one line (a list of files where several cannot).
    """
    data = _opened(spec.model_copy(update={"split": None, "validation_fraction": None}), progress)
    data = _with_a_note_on_groups(data) if spec.split is None else resplit(data, spec.split)
    data = with_validation(data, spec.validation_fraction)
    return data if spec.tested_on == "test" else _tested_on_validation(data)


def _tested_on_validation(data: Dataset) -> Dataset:
    """The set with its validation part in place of the test part, which nothing reads."""
    if data.validation is None:
        raise ValueError(
            f'{data.name}: tested_on = "validation" wanted a validation part (validation_fraction); got none'
        )
    note = f"tested on the {len(data.validation):,} validation items; the test part is not read"
    return replace(data, test=data.validation, validation=None, notes=(*data.notes, note))


def _with_a_note_on_groups(data: Dataset) -> Dataset:
    """Groups that are in both parts let a network know test items from training."""
    if data.train.groups is None or data.test.groups is None:
        return data
    both = np.intersect1d(data.train.groups, data.test.groups)
    if not len(both):
        return data
    named = ", ".join(map(repr, both[:3].tolist())) + ", …" * (len(both) > 3)
    note = f"{len(both):,} group{'s' * (len(both) > 1)} of items both in the training and in the test part: {named}"
    return replace(data, notes=(*data.notes, note))


def _opened(spec: DataSpec, progress: Progress | None) -> Dataset:
    opener = opener_of(spec)
    if not is_file_reference(spec.kind):
        return opener(spec, progress=progress, **spec.options)
    try:
        data = opener(spec, progress=progress, **spec.options)
    except Exception as error:
        path = Path(spec.kind.rpartition(":")[0])
        raise ValueError(f"{spec.kind} raised {error_in(error, path)}") from error
    if not isinstance(data, Dataset):
        raise ValueError(f"{spec.kind}: wanted a foveate.data.Dataset; got {type(data).__name__}")
    return data


@register_data(AUTO)
def open_auto(spec: DataSpec, *, progress: Progress | None = None, **options: Any) -> Dataset:
    """The data set of the kind that recognises the source. Raises: as `open_data`."""
    return _opened(spec.model_copy(update={"kind": kind_of(spec.source), "options": options}), progress)


def kind_of(source: str, task: str = "") -> str:
    """The kind that recognises the source; for a folder that none does, the only kind of folders that is for the task,
    else "folders".

    Args:
        source: of data.
        task: that they are for; of several kinds, those that are for it come before those that are for any, and these
            before those that are for others. "": not known.

    Raises: ValueError: if there is no such folder, several kinds recognise it, or none of those for the task does.
    """
    KINDS.names()  # every kind of the library has registered itself afterwards
    found = sorted(kind for kind, recognises in RECOGNISERS.items() if recognises(source))
    suited = [kind for kind in found if task in TASKS_OF.get(kind, ())]
    if len(found) > 1:
        found = suited or [kind for kind in found if kind not in TASKS_OF] or found
    for_task = [kind for kind in CHECKS if task in TASKS_OF.get(kind, ())]
    if not suited and len(for_task) == 1 and all(kind in TASKS_OF for kind in found):
        folder_of(source)
        return for_task[0]
    if len(found) > 1:
        raise ValueError(f"{source}: could be {' or '.join(found)}; say which with kind = …")
    if found:
        return found[0]
    folder = folder_of(source)
    if own := sorted(kind for kind in RECOGNISERS if task in TASKS_OF.get(kind, ())):
        raise ValueError(f"{folder}: looks like no data for {task}, which are of the kinds {', '.join(own)}")
    return USUAL


def open_images(folder: Path, *, kind: str = AUTO, **options: Any) -> LabelledImages:
    """The images in a folder that a classifier is tested on, nothing decoded yet.

    Raises: LookupError: if there is no such kind. ValueError: if there is no such folder, or nothing to test on.
    """
    place = folder_of(str(folder))
    kind = kind_of(str(place)) if kind == AUTO else kind
    KINDS.get(kind)
    if kind not in EVALUATION:
        raise ValueError(f"{folder}: data of kind {kind!r} are no images to test a classifier on")
    return EVALUATION[kind](place, **options)
