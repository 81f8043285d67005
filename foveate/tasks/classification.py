"""Image classification: cross-entropy, top-1 accuracy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.data.dataset import Batch, Dataset
from foveate.items import ANSWERS
from foveate.spec import Metric
from foveate.tasks.pictures import captioned, shown
from foveate.tasks.task import (
    LOSS_WEIGHTS,
    Meter,
    Scores,
    Task,
    all_outputs,
    class_figures,
    extra_losses,
    main_output,
    register_task,
    summed,
)

BEST = 5


@register_task("classification")
class Classification(Task):
    """Which class a sample belongs to.

    Args:
        data: with targets "label" (class).
        label_smoothing: of the training loss; the test loss has none.
        auxiliary_weight: of each output beside the first, where a network gives several and has no
            `auxiliary_weight` of its own.
        loss_weights: of losses that inserted modules have, by name.

    Shape: inputs (N, C, *S); logits (N, classes); labels (N,).
    """

    class_weights: Tensor | None = None  # (classes,) of the training loss, where a task has them

    def __init__(
        self,
        data: Dataset,
        *,
        label_smoothing: float = 0.0,
        auxiliary_weight: float = 0.4,
        loss_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(data)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: wanted 0 or more, below 1; got {label_smoothing}")
        self.classes = self.target("label", ("class",)).names
        self.outputs = len(self.classes)
        self.label_smoothing, self.auxiliary_weight = label_smoothing, auxiliary_weight
        self.loss_weights = LOSS_WEIGHTS | dict(loss_weights or {})
        self.metrics = (Metric("accuracy"), Metric("loss", "nats", "lower"))
        if self.outputs > BEST:
            self.metrics += (Metric("top5"),)

    def _weights_on(self, logits: Tensor) -> Tensor | None:
        return None if self.class_weights is None else self.class_weights.to(logits.device)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean cross-entropy, or the network's own `loss(outputs, labels)`; auxiliary outputs and modules' losses."""
        labels = batch.targets["label"]
        given = model(batch.inputs)
        own = getattr(model, "loss", None)
        if callable(own):
            if self.class_weights is not None or self.label_smoothing:
                raise ValueError("class_weights, label_smoothing: the network has a loss of its own, without either")
            return summed(own(given, labels), (), extra_losses(model), self.loss_weights)
        first, *others = (
            F.cross_entropy(logits.float(), labels, self._weights_on(logits), label_smoothing=self.label_smoothing)
            for logits in all_outputs(given)
        )
        weight = getattr(model, "auxiliary_weight", self.auxiliary_weight)
        return summed(first, [(weight, other) for other in others], extra_losses(model), self.loss_weights)

    def check(self, model: nn.Module, batch: Batch) -> None:
        logits = main_output(model(batch.inputs))
        if logits.shape != (len(batch), self.outputs):
            raise ValueError(f"wanted logits (N, {self.outputs}) for {self.outputs} classes; got {tuple(logits.shape)}")
        self.loss(model, batch)

    def meter(self) -> "ClassificationMeter":
        return ClassificationMeter(self.classes)

    def baseline(self) -> tuple[str, dict[str, float]]:
        strata = self.data.test.strata
        if strata is None:
            return "", {}
        most = float(np.bincount(strata).max() / len(strata))
        return "always giving the most frequent class", {self.metrics[0].name: most}

    def draw(self, batch: Batch, given: Any) -> list[NDArray[np.uint8]]:
        pictures = shown(batch.inputs)
        labels = batch.targets["label"].tolist()
        best = None if given is None else main_output(given).argmax(1).tolist()
        lines = [self.classes[label] for label in labels]
        if best is not None:
            lines = [
                f"{line}: right" if label == found else f"{line}, taken for {self.classes[found]}"
                for line, label, found in zip(lines, labels, best, strict=True)
            ]
        return [captioned(picture, line) for picture, line in zip(pictures, lines, strict=True)]

    def predict(self, given: Any) -> list[dict[str, Any]]:
        scores = torch.softmax(main_output(given).float(), 1)
        return [
            {"class": self.classes[int(one.argmax())], "score": float(one.max())}
            | {f"score {name}": float(value) for name, value in zip(self.classes, one, strict=True)}
            for one in scores
        ]


class ClassificationMeter(Meter):
    """accuracy and loss of each item; top5 with more than five classes; counts of true by predicted class."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.classes = names, len(names)
        self.right: list[Tensor] = []
        self.losses: list[Tensor] = []
        self.among5: list[Tensor] = []
        self.given: list[tuple[Tensor, Tensor]] = []  # true and predicted class
        self.confusion = torch.zeros(self.classes, self.classes, dtype=torch.int64)

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """(N, classes) of the items of a batch."""
        return main_output(model(batch.inputs)).float()

    def update(self, model: nn.Module, batch: Batch) -> None:
        labels = batch.targets["label"]
        logits = self.logits(model, batch)
        best = logits.argmax(1)
        self.right.append(best == labels)
        self.losses.append(F.cross_entropy(logits, labels, reduction="none"))
        if self.classes > BEST:
            self.among5.append((logits.topk(BEST, 1).indices == labels[:, None]).any(1))
        self.given.append((labels.cpu(), best.cpu()))
        pairs = (labels * self.classes + best).cpu()
        self.confusion += torch.bincount(pairs, minlength=self.classes**2).view(self.classes, self.classes)

    def scores(self) -> Scores:
        found = {"accuracy": torch.cat(self.right), "loss": torch.cat(self.losses)}
        if self.among5:
            found["top5"] = torch.cat(self.among5)
        values = {name: value.double().mean().item() for name, value in found.items()}
        items = {name: value.cpu().numpy().astype(np.float32) for name, value in found.items()}
        confusion = self.confusion.numpy()
        true, predicted = (torch.cat(column).numpy().astype(np.int32) for column in zip(*self.given, strict=True))
        answers: dict[str, NDArray[Any]] = {"item": np.arange(len(true)), "true": true, "predicted": predicted}
        return Scores(values, items, class_figures(self.names, confusion), confusion, tables={ANSWERS: answers})
