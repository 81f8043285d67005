"""The maps of a trained network on its test images, as metrics of a run: do they lie on the object?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from foveate.data.corruption import evenly_chosen
from foveate.data.dataset import Batch, Dataset
from foveate.explain import by_chance
from foveate.explain.cams import METHODS
from foveate.explain.measure import measure, objects_of, true_classes
from foveate.explain.passing import distractor_masks
from foveate.explaining import Explaining
from foveate.items import ITEMS, read_groups, read_items, read_tables, write_items
from foveate.networks import is_detector
from foveate.spec import Run, Study
from foveate.tasks import Task
from foveate.train import TrainingFailed
from foveate.train.evaluation import batches_of
from foveate.train.loop import torch_settings

BATCH = 32  # images at a time
MOST_LOOKED_AT = 2048  # whose objects say what chance reaches


def check_explain(how: Explaining, task: Task, data: Dataset) -> None:
    """Raise ValueError, in one line, unless the test images have an object, and the task gives classes or boxes."""
    if len(data.inputs) != 3:
        raise ValueError(
            "explain: wanted a task on images that gives classes or boxes, such as classification, segmentation or "
            "detection"
        )
    if task.detects and how.curves:
        raise ValueError("explain.curves: they follow the probability of a class; wanted false for detection")
    if task.detects and how.method not in METHODS:
        raise ValueError(f"explain.method: wanted one of {', '.join(METHODS)} for detection; got {how.method!r}")
    if task.detects and how.passing:
        raise ValueError("explain.passing: it follows one object of an image; wanted false for detection")
    if not len(data.test):
        raise ValueError("explain: wanted data with test images; got none")
    batch = data.test.batch([0], None)
    try:
        if not task.detects and int(true_classes(batch).max()) >= task.outputs:
            raise ValueError(f"the task has {task.outputs} outputs, fewer than the classes")
        objects_of(batch)
        if how.passing:
            distractor_masks(batch)
    except ValueError as error:
        raise ValueError(f"explain: {error}") from None


def explain_notes(study: Study, data: Dataset) -> list[str]:
    """What maps that know nothing reach on the test images; [] where no maps are measured."""
    if study.explain is None:
        return []
    items = evenly_chosen(len(data.test), study.explain.items)
    objects = [
        one
        for at in range(0, min(len(items), MOST_LOOKED_AT), BATCH)
        for one in objects_of(data.test.batch(items[at : at + BATCH], None))
    ]
    found = [f"{name} {100 * value:.1f} %" for name, value in by_chance(objects).items()]
    return [f"maps that know nothing reach: {'; '.join(found)}"]


def explained_rows(run: Run, model: nn.Module, data: Dataset, folder: Path) -> list[dict[str, Any]]:
    """Rows as `train` gives metrics; values of each image are added to the run's items where all have one.

    Raises: TrainingFailed: if a score is not finite, or the network cannot be explained.
    """
    assert run.explain is not None
    items = evenly_chosen(len(data.test), run.explain.items)
    parts = [items[at : at + BATCH] for at in range(0, len(items), BATCH)]
    with torch_settings(run.train):
        model.to(run.train.device)
        try:
            found = measure(model, _batches(data, parts, run), run.explain)
        except (ValueError, LookupError) as error:
            raise TrainingFailed(f"explain: {error.args[0]}") from None
    rows = []
    detects = is_detector(model)
    for metric in run.explain.metrics(detects=detects):
        values = found.items.get(metric.name, np.array([]))
        if detects and not np.isfinite(values).any():
            continue  # it finds no box anywhere
        if not np.isfinite(values).any():
            raise TrainingFailed(f"explain: no test image has a value of {metric.name!r}")
        value = float(np.nanmean(values))
        rows.append({**metric.model_dump(exclude={"shown"}), "value": value})
    if len(items) == len(data.test):
        _add_items(folder / ITEMS, {name: values for name, values in found.items.items() if np.isfinite(values).all()})
    return rows


def _batches(data: Dataset, parts: list[list[int]], run: Run) -> Iterator[Batch]:
    return batches_of(data.test, parts, None, run, torch.device(run.train.device))


def _add_items(path: Path, values: dict[str, np.ndarray[Any, Any]]) -> None:
    """Write the values of each item beside those that the run's file has."""
    kept = read_items(path)
    if kept is None:
        return
    names, arrays = kept
    groups = read_groups(path)
    added = {name: one.astype(np.float32) for name, one in values.items()}
    belonging = np.array([groups[name] for name in names], np.str_) if groups else None
    write_items(path, names, {**arrays, **added}, belonging, read_tables(path))
