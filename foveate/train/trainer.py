"""A person's own trainer in place of the library's loop: what it gets, and what it must give back."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveate.data.dataset import Batch, Dataset, Split
from foveate.items import ITEMS, write_items
from foveate.machine import machine_name, versions
from foveate.registry import error_in, nearest
from foveate.spec import Metric, Run
from foveate.tasks import Scores, Task
from foveate.train.attention_state import AttentionWatch
from foveate.train.checkpoint import TrainingFailed
from foveate.train.evaluation import batches_of, checked_metrics, evaluate, parts_for_evaluation
from foveate.train.loop import OnProgress, run_facts, save_model, torch_settings, write_attention
from foveate.train.schedule import batches_an_epoch, epoch_order, evenly


@dataclass(frozen=True)
class Context:
    """What a trainer gets beside the network: the run's settings, its data and task, and where to report progress.

    Attributes:
        seed: of the run; every variant has the same, and torch's generator is seeded with it.
        folder: of the run, for whatever the trainer writes.
        checkpoint: a path in it, for a checkpoint: a run that is killed is started again.
        device: such as "cpu".
        epochs, batch_size, lr: as the study's [train] says; `run.train` has the rest.
        steps_an_epoch: batches that `batches` gives in an epoch; 0 where the study has no data.
        options: the study's [trainer_options].
        data, task: opened from the study.
        run: the whole specification.
    """

    seed: int
    folder: Path
    checkpoint: Path
    device: str
    epochs: int
    batch_size: int
    lr: float
    steps_an_epoch: int
    options: Mapping[str, Any]
    data: Dataset
    task: Task
    run: Run
    _on_progress: OnProgress = field(repr=False, default=lambda step, steps, loss: None)
    _history: list[dict[str, float]] = field(repr=False, default_factory=list)

    def tell(
        self,
        step: int,
        steps: int | None = None,
        *,
        epoch: int | None = None,
        loss: float = math.nan,
        **values: float,
    ) -> None:
        """Report progress: steps done of all (None: epochs · steps_an_epoch). With an epoch, loss and values are a
        point of the learning curves."""
        whole = self.epochs * max(self.steps_an_epoch, 1) if steps is None else steps
        self._on_progress(int(step), int(whole) if math.isfinite(whole) else 0, float(loss))
        if epoch is not None:
            named = {name: float(value) for name, value in values.items()}
            self._history.append({"epoch": epoch, **({} if math.isnan(loss) else {"train_loss": float(loss)}), **named})

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The training batches of an epoch (from 0) on the device, in the library's order and augmentation: the same
        for every variant of a seed."""
        items = list(range(len(self.data.train)))
        augment = (self.seed, epoch) if self.run.data.augment else None
        parts = evenly(epoch_order(items, self.seed, epoch), self.steps_an_epoch)
        return batches_of(self.data.train, parts, augment, self.run, torch.device(self.device))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The task's training loss of a batch."""
        return self.task.loss(model, batch)["loss"]

    def evaluate(self, model: nn.Module) -> dict[str, float | list[float]]:
        """The task's metrics on the test split, as a trainer may return them: a value an item where the task has one
        for each, else one value."""
        scores = self._scores(model, self.data.test)
        sums = {name.partition(".")[0] for name in scores.items if "." in name}  # such a metric is no mean over items
        whole = {name for name, values in scores.items.items() if name not in sums and np.isfinite(values).all()}
        return {
            name: scores.items[name].astype(float).tolist() if name in whole else value
            for name, value in scores.values.items()
        }

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The task's metrics on the validation part, for stopping early and choosing among checkpoints.

        Raises: ValueError: if the data have no validation part; a study takes one out of the training part where
            `early_stop`, a list of values or `data.validation_fraction` says so.
        """
        if self.data.validation is None:
            raise ValueError("validate: wanted data with a validation part (data.validation_fraction); got none")
        return dict(self._scores(model, self.data.validation).values)

    def _scores(self, model: nn.Module, split: Split) -> Scores:
        parts = parts_for_evaluation(self.task, self.data, split, range(len(split)), self.batch_size)
        return evaluate(model, self.task, batches_of(split, parts, None, self.run, torch.device(self.device)))


def train_with(
    trainer: Callable[[nn.Module, Context], Any],
    run: Run,
    model: nn.Module,
    task: Task,
    data: Dataset,
    folder: Path,
    *,
    on_progress: OnProgress = lambda step, steps, loss: None,
) -> dict[str, Any]:
    """Call a person's function to train the network, check what it returns, and write what `train` writes.

    Args: as of `train`; trainer: (model, context) → {metric: value, or a value for each test item}.

    Raises: TrainingFailed: if it raises, or returns something else than finite metrics, or leaves the network as it
        was.
    """
    device = torch.device(run.train.device)
    model = model.to(device)
    watch = AttentionWatch(model)
    before = {name: value.detach().clone() for name, value in model.state_dict().items()}
    train_spec = run.train
    context = Context(
        seed=run.seed,
        folder=folder,
        checkpoint=folder / "trainer.ckpt",
        device=run.train.device,
        epochs=train_spec.epochs,
        batch_size=train_spec.batch_size,
        lr=train_spec.lr,
        steps_an_epoch=batches_an_epoch(len(data.train), train_spec.batch_size) if len(data.train) else 0,
        options=dict(run.trainer_options),
        data=data,
        task=task,
        run=run,
        _on_progress=on_progress,
    )
    name, started = str(run.trainer), time.monotonic()
    with torch_settings(train_spec):
        torch.manual_seed(run.seed)
        try:
            returned = trainer(model, context)
        except (Exception, SystemExit) as error:
            raise TrainingFailed(f"{name} raised {error_in(error, Path(name.rpartition(':')[0]))}") from error
    values, items = checked_return(returned, name, run, task, len(data.test))
    after = model.state_dict()
    if all(torch.equal(value, after[key]) for key, value in before.items() if key in after):
        raise TrainingFailed(f"{name} left the network it was given as it was; did it train another, such as a copy?")
    save_model(model, folder)
    if items:
        names = [data.test.name_of(item) for item in range(len(data.test))]
        write_items(folder / ITEMS, names, items, data.test.groups)
    write_attention(watch, model, task, data, run, folder)
    known = {metric.name: metric for metric in declared_metrics(run, task)}
    metrics = [
        {**known.get(key, Metric(key, "", "neither")).model_dump(exclude={"shown"}), "value": value}
        for key, value in values.items()
    ]
    if run.data.validation_fraction is not None and run.metric in (None, *task.metrics):
        metrics += checked_metrics(task, Scores(context.validate(model), {}), on_validation=True)
    return {
        "metrics": metrics + run_facts(train_spec.epochs, time.monotonic() - started),
        "history": context._history,
        "machine": machine_name(),
        "versions": versions(),
    }


def declared_metrics(run: Run, task: Task) -> tuple[Metric, ...]:
    """Metrics whose unit and direction are known: the study's own first, then the task's."""
    own = () if run.metric is None else (run.metric,)
    return own + tuple(metric for metric in task.metrics if metric.name not in {one.name for one in own})


def checked_return(
    returned: Any, name: str, run: Run, task: Task, test_items: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Values of the metrics, and those of each item. Raises: TrainingFailed: if it is anything else."""
    wanted = declared_metrics(run, task)[0].name
    if returned is None:
        raise TrainingFailed(f"{name} returned nothing; wanted {{{wanted!r}: value}}")
    if isinstance(returned, nn.Module):
        raise TrainingFailed(
            f"{name} returned a network; wanted {{{wanted!r}: value}}, the network is trained in place"
        )
    if not isinstance(returned, Mapping) or not returned:
        raise TrainingFailed(f"{name} returned {type(returned).__name__}; wanted {{{wanted!r}: value}}")
    if wanted not in returned:
        raise TrainingFailed(f"{name} returned no {wanted!r}; {nearest(wanted, map(str, returned))}")
    values: dict[str, float] = {}
    items: dict[str, np.ndarray] = {}
    for key, value in returned.items():
        array = _numbers(value)
        if array is None or array.ndim > 1 or not array.size:
            raise TrainingFailed(f"{name}: {key!r}: wanted a number, or one for each test item; got {value!r:.80}")
        if not np.isfinite(array).all():
            raise TrainingFailed(f"{name}: {key!r} is {array[~np.isfinite(array)][0] if array.ndim else array}")
        if array.ndim:
            if len(array) != test_items:
                raise TrainingFailed(f"{name}: {key!r}: wanted {test_items} values, one a test item; got {len(array)}")
            items[str(key)] = array
        values[str(key)] = float(array.mean())
    for metric in declared_metrics(run, task):
        value = values.get(metric.name, 0.0)
        if metric.unit == "fraction" and not 0 <= value <= 1:
            raise TrainingFailed(
                f"{name}: {metric.name!r} is {value:g}; wanted a fraction, 0 to 1, or another unit: "
                f'metric = {{ name = "{metric.name}", better = "{metric.better}", unit = "…" }}'
            )
    return values, items


def _numbers(value: Any) -> np.ndarray | None:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, (str, bytes)) or (isinstance(value, Sequence) and any(isinstance(v, str) for v in value)):
        return None
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError):
        return None
