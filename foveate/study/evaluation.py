"""Scores of a network that a study trained, on the study's test part or on other data: whole, by class, by item."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.data import open_data
from foveate.data.dataset import Dataset
from foveate.data.evaluation import evaluation_set, find_images
from foveate.data.photos import Photos
from foveate.data.reading import evaluation_parts
from foveate.spec import Run
from foveate.study.analyse.inference import RESAMPLES
from foveate.study.analyse.items import of_metric
from foveate.study.analyse.remade import Remade, TableReaders
from foveate.study.predict import with_evaluation
from foveate.study.trained import TrainedRun, find_run
from foveate.tasks import Scores, Task, create_task
from foveate.train.loop import batches_of, evaluate, evaluation_batch


@dataclass(frozen=True)
class Evaluation:
    """What was evaluated, on what, and the scores."""

    trained: TrainedRun
    data: Dataset
    task: Task
    scores: Scores

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Of the metrics of the whole set, the 95 % intervals over resampled items, groups of them whole: the 2.5th and
        97.5th percentile.

        Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.
        """
        test, readers = self.data.test, TableReaders()
        names = [test.name_of(item) for item in range(len(test))]
        codes = np.arange(len(test)) if test.groups is None else np.unique(test.groups, return_inverse=True)[1]
        units = int(codes.max(initial=-1)) + 1
        if units < 2:
            return {}
        counts = np.random.default_rng(0).multinomial(units, np.full(units, 1 / units), size=RESAMPLES)
        found = {}
        for metric in self.task.metrics:
            made = of_metric((names, self.scores.items), metric, self.scores.tables, readers)
            if made is not None and isinstance(made[1], Remade):
                values = made[1].value(counts[:, codes].astype(float))
                low, high = np.nanquantile(values, (0.025, 0.975)) if np.isfinite(values).any() else (np.nan, np.nan)
                found[metric.name] = float(low), float(high)
        return {name: ends for name, ends in found.items() if np.isfinite(ends).all()}


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
    parts = evaluation_parts(data.test, range(len(data.test)), evaluation_batch(task, data, batch_size))
    batches = batches_of(data.test, parts, None, run, torch.device(device))
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=run.train.amp):
        scores = evaluate(trained.model.to(device), task, batches)
    return Evaluation(trained, data, task, scores)


def _other(data: Dataset, source: str, run: Run) -> Dataset:
    """Other data of the same kind for a network that was trained on `data`."""
    if isinstance(data.test, Photos):
        names = data.targets["label"].names
        images = find_images(Path(source).expanduser())
        channels = data.inputs[0]
        return evaluation_set(images, len(names), data.test.preprocessing, names=names, channels=channels)
    spec = run.data.model_copy(
        update={"source": source, "test_items": None, "validation_fraction": None, "split": None}
    )
    other = open_data(spec)
    for name, target in data.targets.items():
        if other.targets.get(name) != target:
            raise ValueError(f"{source}: wanted the targets that the network was trained on ({name}: {target})")
    return other
