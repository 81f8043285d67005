"""Segmentation: a class for every position. Cross-entropy and other losses, mean intersection over union."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.data.dataset import Batch, Dataset
from foveate.tasks.losses import MaskLoss, balanced_weights, read_class_weights, read_loss
from foveate.tasks.mask_pictures import error_map, legend, overlay, shrunk
from foveate.tasks.mask_scores import MaskMeter, mask_metrics, names_alone
from foveate.tasks.pictures import captioned, shown
from foveate.tasks.prediction import read_prediction, resized
from foveate.tasks.task import (
    LOSS_WEIGHTS,
    Task,
    all_outputs,
    extra_losses,
    main_output,
    register_task,
    summed,
)


@register_task("segmentation")
class Segmentation(Task):
    """Which class each position belongs to.

    Args:
        data: with targets "mask".
        loss: "ce" (cross-entropy), "dice", "lovasz" or "focal", or a sum with weights: {"ce": 1, "dice": 1}; all but
            "ce" are those of segmentation_models_pytorch, as `foveate.tasks.losses` says.
        class_weights: of the training loss, for "ce", "dice" and "focal": numbers in the order of the classes,
            {class: weight} (others 1), or "balanced" by how often each occurs in the training masks.
        auxiliary_weight: of each output beside the first, where a network gives several and has no
            `auxiliary_weight` of its own; or a weight for each of them.
        loss_weights: of losses that inserted modules have, by name.
        of, empty: a class whose Dice and IoU in each image come first among the metrics, and what images without it
            count there: "skip" or "one"; boundary: measure the boundary F1 with this tolerance, in shares of the
            diagonal (0.0075 is usual). All as `MaskMeter` says.
        evaluation: how held-out images are predicted: window, stride, memory, flip and scales, as `Prediction` has
            them.

    Shape: inputs (N, C, *S); logits (N, classes, *s), interpolated to *S; mask (N, *S), 255 where nothing is known.
    """

    dense: ClassVar[bool] = True

    def __init__(
        self,
        data: Dataset,
        *,
        loss: str | Mapping[str, float] = "ce",
        class_weights: str | Sequence[float] | Mapping[str, float] | None = None,
        auxiliary_weight: float | Sequence[float] = 0.4,
        loss_weights: Mapping[str, float] | None = None,
        of: str | None = None,
        empty: Literal["skip", "one"] = "one",
        boundary: float | None = None,
        evaluation: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data)
        self.classes = self.target("mask", ("mask",)).names
        self.outputs = len(self.classes)
        if self.outputs < 2:
            raise ValueError(f"segmentation: wanted two or more classes; got {', '.join(self.classes) or 'none'}")
        weights = auxiliary_weight if isinstance(auxiliary_weight, Sequence) else [auxiliary_weight]
        if not all(isinstance(one, (int, float)) for one in weights):
            raise ValueError(f"auxiliary_weight: wanted a number, or a list of numbers; got {auxiliary_weight!r}")
        self.auxiliary_weight = auxiliary_weight
        self.loss_weights = LOSS_WEIGHTS | dict(loss_weights or {})
        self.class_weights = read_class_weights(class_weights, self.classes)
        self.has_default_loss = read_loss(loss) == read_loss("ce") and self.class_weights is None
        self.loss_terms = loss
        MaskLoss(loss, None if self.class_weights is None else torch.ones(self.outputs))  # wrong options fail here
        self.of, self.empty, self.boundary = of, empty, boundary
        self.evaluation = read_prediction(evaluation)
        self.metrics = mask_metrics(self.classes, of, empty, boundary)
        if of is not None:
            counted = "are left out" if empty == "skip" else "count 1 where nothing is found, else 0"
            self.notes = (f"{' and '.join(names_alone(of))} are means over images; those without {of} {counted}",)

    @cached_property
    def criterion(self) -> MaskLoss:
        """The training loss of one output; balanced weights are counted when it is first needed."""
        given = self.class_weights
        if isinstance(given, str):
            return MaskLoss(self.loss_terms, balanced_weights(self.data.train, self.outputs))
        return MaskLoss(self.loss_terms, None if given is None else torch.tensor(given))

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The training loss over known positions, of every output; modules' losses."""
        mask = batch.targets["mask"]
        given = model(batch.inputs)
        own = getattr(model, "loss", None)
        if callable(own):
            if not self.has_default_loss:
                raise ValueError("loss, class_weights: the network has a loss of its own; got task options for another")
            return summed(own(given, mask), (), extra_losses(model), self.loss_weights)
        parts = [self.criterion(self._logits(one, mask), mask) for one in all_outputs(given)]
        first, *others = (self.criterion.total(each) for each in parts)
        weights = self._auxiliary_weights(model, len(others))
        found = summed(first, list(zip(weights, others, strict=True)), extra_losses(model), self.loss_weights)
        return found | (parts[0] if len(parts[0]) > 1 else {})

    def _logits(self, output: Tensor, mask: Tensor) -> Tensor:
        if output.dim() != mask.dim() + 1 or output.shape[1] != self.outputs:
            raise ValueError(
                f"wanted logits (N, {self.outputs}, *S) of every output for masks {tuple(mask.shape)}; got "
                f"{tuple(output.shape)}"
            )
        return resized(output, mask.shape[1:]).float()

    def _auxiliary_weights(self, model: nn.Module, count: int) -> list[float]:
        weights = getattr(model, "auxiliary_weight", self.auxiliary_weight)
        if not isinstance(weights, Sequence):
            return [weights] * count
        if len(weights) != count:
            raise ValueError(f"auxiliary_weight: wanted {count} numbers, one an auxiliary output; got {list(weights)}")
        return list(weights)

    def check(self, model: nn.Module, batch: Batch) -> None:
        logits, mask = main_output(model(batch.inputs)), batch.targets["mask"]
        if logits.dim() == 2:
            raise ValueError(
                f"wanted a map of logits (N, {self.outputs}, …) for segmentation; got {tuple(logits.shape)}: one "
                "answer for the whole sample"
            )
        if logits.dim() != mask.dim() + 1 or logits.shape[1] != self.outputs:
            raise ValueError(
                f"wanted logits (N, {self.outputs}, *S) for masks {tuple(mask.shape)}; got {tuple(logits.shape)}"
            )
        self.loss(model, batch)

    def meter(self) -> MaskMeter:
        return MaskMeter(self.classes, self.evaluation.scores, of=self.of, empty=self.empty, boundary=self.boundary)

    def answers(self, model: nn.Module, inputs: Any) -> Tensor:
        """Class numbers (N, *S), predicted as `evaluation` says."""
        return self.evaluation.classes(model, inputs)

    def draw(self, batch: Batch, given: Any) -> list[NDArray[np.uint8]]:
        pictures, masks = shown(batch.inputs), batch.targets["mask"].cpu().numpy()
        if masks.ndim != 3:
            return []
        answers = [None] * len(pictures) if given is None else self.masks(given)
        drawn = []
        for picture, mask, answer in zip(map(shrunk, pictures), masks, answers, strict=True):
            row, title = [overlay(picture, mask, self.classes)], "target"
            if answer is not None:
                row += [overlay(picture, answer, self.classes), error_map(picture, answer, mask, self.classes)]
                title = "target | network | errors"
            drawn.append(captioned(np.concatenate(row, 1), title))
        return drawn

    def legend(self, wide: int) -> NDArray[np.uint8]:
        return legend(self.classes, wide, errors=True)

    def masks(self, given: Any) -> list[NDArray[Any]]:
        return list(given.cpu().numpy().astype(np.uint8 if self.outputs <= 256 else np.uint16))

    def predict(self, given: Any) -> list[dict[str, Any]]:
        return [
            {f"share of {name}": float((one == number).double().mean()) for number, name in enumerate(self.classes)}
            for one in given
        ]
