"""A trained network on corrupted test images: scores by corruption and severity, and their means."""

import math
from typing import Any

import torch
from torch import nn

from foveate.data.corruption import corrupted_split, evenly_chosen
from foveate.data.dataset import Dataset, Split
from foveate.robustness import SEISMIC, Robustness
from foveate.spec import Metric, Run
from foveate.summary import corrupted_row
from foveate.tasks import Task
from foveate.train import TrainingFailed
from foveate.train.evaluation import batches_of, evaluate, parts_for_evaluation
from foveate.train.loop import torch_settings


def robustness_metrics(task: Task) -> tuple[Metric, Metric]:
    """The mean of the task's first metric over corruptions, and what is lost relative to clean images, which is below 0
    where corrupted ones score better and may be above 1 where lower is better."""
    first = task.metrics[0]
    mean = first.model_copy(update={"name": f"corrupted {first.name}"})
    return mean, Metric(f"{first.name} degradation", "", "lower", "percent")


def check_robustness(robustness: Robustness, task: Task, data: Dataset) -> None:
    """Raise ValueError, in one line, unless the test images can be corrupted and the scores compared."""
    if not len(data.test):
        raise ValueError("robustness: wanted data with test images; got none")
    if task.metrics[0].better == "neither":
        raise ValueError(f"robustness: wanted a metric with a direction; got {task.metrics[0].name!r}")
    try:
        for name in {robustness.corruptions[0], *(one for one in robustness.corruptions if one in SEISMIC)}:
            corrupted_split(data.test, name, robustness.severities_of(name)[0], robustness.seed).batch([0], None)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"robustness: {error}") from None


def corrupted_rows(run: Run, model: nn.Module, task: Task, data: Dataset) -> list[dict[str, Any]]:
    """Rows as `train` gives metrics: of each corruption and severity, their mean, and the relative degradation.

    The mean is over corruptions of the means over their severities. The degradation is what is lost of the score on the
    same clean items, relative to it: (clean − corrupted) / clean, with the other sign where lower is better.

    Raises: TrainingFailed: if a score is not finite.
    """
    robustness, metric = run.robustness, task.metrics[0]
    assert robustness is not None
    items = evenly_chosen(len(data.test), robustness.items)
    with torch_settings(run.train):
        _place(model, run)
        clean = _score(run, model, task, data, data.test, items)
        rows, means = [], []
        for corruption in robustness.corruptions:
            values = []
            for severity in robustness.severities_of(corruption):
                split = corrupted_split(data.test, corruption, severity, robustness.seed)
                values.append(_score(run, model, task, data, split, items))
                rows.append(
                    _row(metric, corrupted_row(metric.name, corruption, severity), values[-1], better="neither")
                )
            means.append(math.fsum(values) / len(values))
    mean = math.fsum(means) / len(means)
    overall, degradation = robustness_metrics(task)
    lost = metric.gain(clean, mean) / abs(clean) if clean else 0.0
    return [*rows, _row(overall, overall.name, mean), _row(degradation, degradation.name, lost)]


def _place(model: nn.Module, run: Run) -> None:
    """On the run's device, in its layout."""
    layout = torch.channels_last if run.train.channels_last else torch.contiguous_format
    model.to(run.train.device).to(memory_format=layout)


def _score(run: Run, model: nn.Module, task: Task, data: Dataset, split: Split, items: list[int]) -> float:
    device = torch.device(run.train.device)
    parts = parts_for_evaluation(task, data, split, items, run.train.batch_size)
    with torch.autocast(device.type, torch.bfloat16, enabled=run.train.amp):
        value = evaluate(model, task, batches_of(split, parts, None, run, device)).values[task.metrics[0].name]
    if not math.isfinite(value):
        raise TrainingFailed(f"{task.metrics[0].name} is {value} on corrupted test images")
    return value


def _row(metric: Metric, name: str, value: float, **changes: str) -> dict[str, Any]:
    return {**metric.model_dump(exclude={"shown"}), "name": name, "value": float(value), **changes}
