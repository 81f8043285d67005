"""A network's scores over a split: batches of evaluation, and the metrics they give."""

import functools
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from foveate.data.dataset import Batch, Dataset, Split
from foveate.data.reading import evaluation_parts, read_ahead, reader_threads
from foveate.machine import cores
from foveate.networks import input_channels
from foveate.spec import Run
from foveate.tasks import Scores, Task
from foveate.train.checkpoint import TrainingFailed
from foveate.training import validation_name

EVALUATED = 128  # items at a time, fewer where they are large
MOST_VALUES = 2**25  # of the inputs or dense outputs of one batch in evaluation
PYRAMID = 48  # values of a detector's maps for each pixel


def evaluate(model: nn.Module, task: Task, batches: Iterator[Batch]) -> Scores:
    """The task's scores over the batches, in evaluation mode and without gradients."""
    meter = task.meter()
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            meter.update(model, batch)
        return meter.scores()


def evaluation_batch(task: Task, data: Dataset, batch_size: int) -> int:
    """Items at a time in evaluation: at least the batch size, up to 128 where that many inputs and outputs fit."""
    positions = math.prod(data.inputs[1:])
    inside = PYRAMID if task.detects else 0
    values = positions * max(data.inputs[0], task.outputs if task.dense else inside)
    return max(batch_size, min(EVALUATED, MOST_VALUES // max(values, 1)))


def parts_for_evaluation(
    task: Task, data: Dataset, split: Split, items: Sequence[int], batch_size: int
) -> list[list[int]]:
    """The items in batches of evaluation, each of items of one size; of items larger than `data.inputs` fewer."""
    return evaluation_parts(split, items, evaluation_batch(task, data, batch_size), math.prod(data.inputs[1:]))


def batches_of(
    split: Split, parts: list[list[int]], augment: tuple[int, int] | None, run: Run, device: torch.device
) -> Iterator[Batch]:
    """Each part's batch on the device, as the run's network takes it; the next is read while this one is used."""
    return read_ahead(
        split,
        parts,
        augment,
        device=device,
        channels=functools.cache(partial(input_channels, run.network)),  # a user's file is looked up for it
        channels_last=run.train.channels_last,
        threads=reader_threads(device, run.train.threads, cores()),
    )


def checked_metrics(task: Task, scores: Scores, *, on_validation: bool = False) -> list[dict[str, Any]]:
    """The task's metrics as rows; those of the validation part are named as such.

    Raises: TrainingFailed: if one is missing or not finite.
    """
    rows = []
    for metric in task.metrics:
        value = scores.values.get(metric.name)
        name = validation_name(metric.name) if on_validation else metric.name
        if value is None:
            raise TrainingFailed(f"the task gives no {metric.name!r}; it gives {', '.join(scores.values) or 'nothing'}")
        if not math.isfinite(value):
            raise TrainingFailed(f"{name} is {value} at the end")
        rows.append({**metric.model_dump(exclude={"shown"}), "name": name, "value": float(value)})
    return rows
