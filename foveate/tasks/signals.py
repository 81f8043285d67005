"""Classification of signals: cross-entropy; accuracy by window, by recording and by level of noise."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.data.dataset import Batch, Dataset
from foveate.spec import Metric
from foveate.tasks.classification import Classification, ClassificationMeter
from foveate.tasks.losses import BALANCED, read_class_weights
from foveate.tasks.signal_baselines import NO_WAVELETS, has_wavelets, signal_baselines
from foveate.tasks.task import Scores, register_task

WAYS = ("mean", "majority")
OF_RECORDINGS = "accuracy of recordings"


@register_task("signals")
class Signals(Classification):
    """Which class a window of a signal belongs to, and which its recording.

    Data of kind "signals" say which recording each window is of, and at which level of noise it is tested: each level
    has an accuracy of its own.

    Args:
        data: with signals (C, T) and targets "label" (class).
        class_weights: of the loss: None, "balanced" (inverse to how often each class is trained on), {class: weight},
            or numbers in the order of the classes.
        recordings: how a recording's windows of one level decide together: "mean" of their log-probabilities, or
            "majority" of their answers.
        label_smoothing, auxiliary_weight, loss_weights: as `Classification` takes them.

    Shape: inputs (N, C, T); logits (N, classes); labels (N,).
    Raises: ValueError: if the samples are no signals; as `Classification`.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        class_weights: Any = None,
        recordings: str = "mean",
        label_smoothing: float = 0.0,
        auxiliary_weight: float = 0.4,
        loss_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            data, label_smoothing=label_smoothing, auxiliary_weight=auxiliary_weight, loss_weights=loss_weights
        )
        if len(data.inputs) != 2:
            raise ValueError(f"{data.name}: wanted signals (C, T) for the task 'signals'; got {data.inputs}")
        if recordings not in WAYS:
            raise ValueError(f"recordings: wanted {' or '.join(map(repr, WAYS))}; got {recordings!r}")
        self.recordings = recordings
        self.class_weights = self._weights(read_class_weights(class_weights, self.classes))
        tested = getattr(data.test, "conditions", None)
        self.conditions: dict[int, str] = {}  # number of a level → its metric's name
        if tested is not None and len(np.unique(tested)) > 1:
            names = data.targets["condition"].names
            self.conditions = {int(one): f"accuracy at {names[one]}" for one in dict.fromkeys(tested.tolist())}
        self.metrics += tuple(Metric(name) for name in self.conditions.values())
        if "recording" in data.targets:
            self.metrics += (Metric(OF_RECORDINGS),)
        self.notes = () if has_wavelets() else (NO_WAVELETS,)

    def _weights(self, given: tuple[float, ...] | str | None) -> Tensor | None:
        if given != BALANCED:
            return None if given is None else torch.tensor(given)
        counts = None if self.data.train.strata is None else np.bincount(self.data.train.strata, minlength=self.outputs)
        if counts is None or not counts.all():
            raise ValueError("class_weights: 'balanced' wanted the number of training items of every class")
        return torch.from_numpy(counts.sum() / (self.outputs * counts)).float()

    def meter(self) -> "SignalsMeter":
        return SignalsMeter(self)

    def further_baselines(self) -> dict[str, dict[str, float]]:
        names = dict(self.conditions) if self.conditions else {0: "accuracy"}
        return signal_baselines(self.data.train, self.data.test, names)


class SignalsMeter(ClassificationMeter):
    """As for images, and the accuracy at each level of noise and of whole recordings."""

    def __init__(self, task: Signals) -> None:
        super().__init__(task.classes)
        self.task = task
        self.whose: list[tuple[Tensor, Tensor]] = []  # recording and condition
        self.answers: list[Tensor] = []

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        logits = super().logits(model, batch)
        targets = batch.targets
        if "recording" in targets:
            self.whose.append((targets["recording"].cpu(), targets["condition"].cpu()))
            self.answers.append(torch.log_softmax(logits, 1).cpu())
        return logits

    def scores(self) -> Scores:
        found = super().scores()
        if not self.whose:
            return found
        recordings, conditions = (torch.cat(column).numpy() for column in zip(*self.whose, strict=True))
        values, items = dict(found.values), dict(found.items)
        right = items["accuracy"]
        for number, name in self.task.conditions.items():
            items[name] = np.where(conditions == number, right, np.float32(np.nan))
            values[name] = float(np.nanmean(items[name], dtype=np.float64))
        true = torch.cat([column for column, _ in self.given]).numpy()
        answers = torch.cat(self.answers).double().numpy()
        if self.task.recordings == "majority":
            answers = np.eye(self.classes)[answers.argmax(1)]
        values[OF_RECORDINGS] = _of_recordings(recordings, conditions, true, answers)
        return Scores(values, items, found.by_class, found.confusion, tables=found.tables)


def _of_recordings(
    recordings: NDArray[Any],
    conditions: NDArray[Any],
    true: NDArray[Any],
    answers: NDArray[Any],
) -> float:
    """Share of the recordings, each at each condition, whose summed answers (n, classes) are largest at its class."""
    pairs, places = np.unique(np.stack([recordings, conditions]), axis=1, return_inverse=True)
    summed = np.zeros((pairs.shape[1], answers.shape[1]))
    np.add.at(summed, places.reshape(-1), answers)
    labels = np.zeros(pairs.shape[1], np.int64)
    labels[places.reshape(-1)] = true
    return float((summed.argmax(1) == labels).mean())
