"""Regression: values of each sample in their own unit. Smooth L1, L1 or squared loss; mean distance to the target."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.data.dataset import Batch, Dataset
from foveate.spec import Metric
from foveate.tasks.pictures import captioned, marked, shown
from foveate.tasks.task import LOSS_WEIGHTS, Meter, Scores, Task, extra_losses, main_output, register_task, summed

SAMPLED = 512  # training items that mean and deviation of the targets are taken from

_LOSSES = {"smooth_l1": F.smooth_l1_loss, "l1": F.l1_loss, "mse": F.mse_loss}


@register_task("regression")
class Regression(Task):
    """Which values a sample has, such as where something is. The network gives them standardised by the training set.

    Args:
        data: with targets of values.
        target: which of them; "": the data set's only one, or "centre".
        loss: "smooth_l1", "l1" or "mse", of standardised values.
        loss_weights: of losses that inserted modules have, by name.

    Shape: inputs (N, C, *S); outputs and targets (N, K).
    """

    def __init__(
        self,
        data: Dataset,
        *,
        target: str = "",
        loss: Literal["smooth_l1", "l1", "mse"] = "smooth_l1",
        loss_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(data)
        there = [name for name, one in data.targets.items() if one.kind == "values"]
        self.name = target or ("centre" if "centre" in there else there[0] if len(there) == 1 else "values")
        found = self.target(self.name, ("values",))
        if loss not in _LOSSES:
            raise ValueError(f"loss: wanted one of {', '.join(_LOSSES)}; got {loss!r}")
        self.names, self.outputs, self.criterion = found.names, len(found.names), _LOSSES[loss]
        self.loss_weights = LOSS_WEIGHTS | dict(loss_weights or {})
        self.metrics = (
            Metric("error", found.unit, "lower", "plain"),
            Metric("mean absolute error", found.unit, "lower", "plain"),
            Metric("loss", "", "lower", "plain"),
        )

    @cached_property
    def scale(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (K,) of the targets, over at most 512 items spread over the training set."""
        count = len(self.data.train)
        items = np.unique(np.linspace(0, count - 1, min(count, SAMPLED)).astype(np.int64)).tolist()
        parts = [items[start : start + 64] for start in range(0, len(items), 64)]
        values = torch.cat([self.data.train.batch(part, None).targets[self.name] for part in parts]).double()
        return values.mean(0).float(), values.std(0).clamp_min(1e-6).float()

    def values(self, given: Any) -> Tensor:
        """What the network gives, in the targets' unit."""
        outputs = main_output(given).float()
        mean, deviation = (one.to(outputs.device) for one in self.scale)
        return outputs * deviation + mean

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Of standardised values."""
        target = batch.targets[self.name]
        mean, deviation = (one.to(target.device) for one in self.scale)
        main = self.criterion(main_output(model(batch.inputs)).float(), (target - mean) / deviation)
        return summed(main, (), extra_losses(model), self.loss_weights)

    def check(self, model: nn.Module, batch: Batch) -> None:
        outputs = main_output(model(batch.inputs))
        if outputs.shape != (len(batch), self.outputs):
            raise ValueError(
                f"regression: wanted {self.outputs} values a sample ({', '.join(self.names)}); got "
                f"{tuple(outputs.shape)}"
            )
        self.loss(model, batch)

    def meter(self) -> "RegressionMeter":
        return RegressionMeter(self)

    def draw(self, batch: Batch, given: Any) -> list[NDArray[np.uint8]]:
        pictures, targets = shown(batch.inputs), batch.targets[self.name].cpu()
        found = None if given is None else self.values(given).cpu()
        drawn = []
        for number, picture in enumerate(pictures):
            pairs = [(targets[number], (0, 158, 115))] + ([] if found is None else [(found[number], (213, 94, 0))])
            if self.outputs == 2 and len(self.data.inputs) == 3:
                points = [(float(value[0]), float(value[1]), colour) for value, colour in pairs]
                picture = marked(picture, points, self.data.inputs[1:])
            text = ", network ".join(", ".join(f"{v:.3g}" for v in value.tolist()) for value, _ in pairs)
            drawn.append(captioned(picture, text))
        return drawn

    def predict(self, given: Any) -> list[dict[str, Any]]:
        return [dict(zip(self.names, one, strict=True)) for one in self.values(given).tolist()]


class RegressionMeter(Meter):
    """error: the mean Euclidean distance between values and targets; beside it the mean absolute error and the loss."""

    def __init__(self, task: Regression) -> None:
        self.task = task
        self.found: list[Tensor] = []
        self.wanted: list[Tensor] = []

    def update(self, model: nn.Module, batch: Batch) -> None:
        self.found.append(self.task.values(model(batch.inputs)).cpu())
        self.wanted.append(batch.targets[self.task.name].cpu())

    def scores(self) -> Scores:
        found, wanted = torch.cat(self.found).double(), torch.cat(self.wanted).double()
        deviation = self.task.scale[1].double()
        items = {
            "error": (found - wanted).square().sum(1).sqrt(),
            "mean absolute error": (found - wanted).abs().mean(1),
            "loss": self.task.criterion(found / deviation, wanted / deviation, reduction="none").mean(1),
        }
        return Scores(
            {name: value.mean().item() for name, value in items.items()},
            {name: value.numpy().astype(np.float32) for name, value in items.items()},
        )
