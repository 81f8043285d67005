"""Scores of a network that a study trained, on the study's test part or on other data: whole, by class, by item."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from foveate.data import open_data
from foveate.data.dataset import Dataset, Split
from foveate.data.evaluation import evaluation_set, find_images
from foveate.data.photos import Photos
from foveate.data.seismic.batches import ShotGathers
from foveate.data.seismic.kind import OF_GENERATED
from foveate.data.signals.batches import SignalWindows
from foveate.spec import EMBEDDED, Run
from foveate.study.analyse.items import interval_over_items, of_metric
from foveate.study.analyse.remade import TableReaders
from foveate.study.predict import with_evaluation
from foveate.study.trained import TrainedRun, find_run
from foveate.tasks import Scores, Task, create_task
from foveate.train.evaluation import batches_of, evaluate, parts_for_evaluation


@dataclass(frozen=True)
class Evaluation:
    """What was evaluated, on what, and the scores; intervals: of metrics over new items, where they are known."""

    trained: TrainedRun
    data: Dataset
    task: Task
    scores: Scores
    intervals: Mapping[str, tuple[float, float]]


def evaluate_run(
    text: str,
    source: str | None = None,
    *,
    device: str = "cpu",
    batch_size: int = 64,
    evaluation: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Evaluate the network of DIR[:ARM[:SEED]].

    Args:
        source: other data, read as the study's; of a photo set every image of the folder, or its test or val part, with
            the study's classes and preprocessing. None: the study's own test part.
        evaluation: how masks are predicted, as of `foveate.study.predict.of_run`.

    Raises: ValueError, LookupError: if there is no such run, or the data do not fit it. TypeError: the task has no
        such evaluation.
    """
    trained = find_run(text)
    run = trained.run
    data = open_data(run.data)
    if source is not None:
        data = _other(data, source, run)
    task = create_task(run.task, data, **with_evaluation(run.task_options, evaluation))
    parts = parts_for_evaluation(task, data, data.test, range(len(data.test)), batch_size)
    batches = batches_of(data.test, parts, None, run, torch.device(device))
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=run.train.amp):
        scores = evaluate(trained.model.to(device), task, batches)
    return Evaluation(trained, data, task, scores, _intervals(data.test, task, scores))


def _intervals(split: Split, task: Task, scores: Scores) -> dict[str, tuple[float, float]]:
    names = [split.name_of(item) for item in range(len(split))]
    groups = {} if split.groups is None else dict(zip(names, split.groups.tolist(), strict=True))
    found, readers = {}, TableReaders()
    for metric in task.metrics:
        of_items = of_metric((names, scores.items), metric, scores.tables, readers)
        interval = None if of_items is None else interval_over_items(of_items, groups)
        if interval is not None:
            found[metric.name] = interval
    return found


def _other(data: Dataset, source: str, run: Run) -> Dataset:
    """Other data of the same kind for a network that was trained on `data`."""
    if isinstance(data.test, Photos):
        names = data.targets["label"].names
        images = find_images(Path(source).expanduser())
        channels = data.inputs[0]
        return evaluation_set(images, len(names), data.test.preprocessing, names=names, channels=channels)
    changes: dict[str, Any] = {"source": source, "test_items": None, "validation_fraction": None, "split": None}
    if isinstance(data.test, ShotGathers) and run.data.source == EMBEDDED:
        options = {name: value for name, value in run.data.options.items() if name not in OF_GENERATED}
        changes |= {"size": None, "options": options, "train_items": None}
    spec = run.data.model_copy(update=changes)
    other = open_data(spec)
    for name, target in data.targets.items():
        if (
            target.kind != "other" and other.targets.get(name, target) != target
        ):  # what is missing, the task says itself
            raise ValueError(f"{source}: wanted the targets that the network was trained on ({name}: {target})")
    if isinstance(data.test, ShotGathers) and isinstance(other.test, ShotGathers):
        if data.inputs != other.inputs:
            raise ValueError(
                f"{source}: wanted gathers of {data.inputs} (shots, samples, receivers); got {other.inputs}"
            )
        return replace(other, test=other.test.scaled_as(data.test))
    if isinstance(data.test, SignalWindows) and isinstance(other.test, SignalWindows):
        if data.inputs != other.inputs:
            raise ValueError(f"{source}: wanted windows of {data.inputs} (channels, samples); got {other.inputs}")
        return replace(other, test=other.test.scaled_as(data.test))
    return other
