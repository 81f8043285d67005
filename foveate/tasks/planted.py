"""Classification of images moved by a known transform, and how much of it a spatial transformer finds."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from foveate.attention import capture
from foveate.data.dataset import Batch, Dataset
from foveate.spec import Metric
from foveate.tasks.classification import Classification, ClassificationMeter
from foveate.tasks.task import Scores, register_task

LOOKED_AT = 200  # test items in which a part that is planted must vary


@register_task("planted")
class PlantedTransform(Classification):
    """Classification whose images were moved by a planted transform, which a spatial transformer may find.

    Beside the metrics of classification it measures, for each part of the transform that varies over the test items
    ("rotation found", "shift found", "zoom found"), the correlation over these items between what is planted and what
    the network's first spatial transformer predicts. A frame that is the same for all images, such as digits that lie
    on their side, changes nothing in it. 0 where nothing is predicted or the same for all.

    Args:
        data: with targets "label" and "transform" (θ of the transform, row by row), as the kind "planted" has.
        options: of classification.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        label_smoothing: float = 0.0,
        auxiliary_weight: float = 0.4,
        loss_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            data, label_smoothing=label_smoothing, auxiliary_weight=auxiliary_weight, loss_weights=loss_weights
        )
        self.target("transform", ("values",))
        some = data.test.batch(list(range(min(LOOKED_AT, len(data.test)))), None).targets["transform"]
        self.parts = tuple(name for name, values in parts_of(some).items() if values.std(0).max() > 1e-4)
        self.metrics += tuple(Metric(f"{name} found", "") for name in self.parts)

    def meter(self) -> "PlantedMeter":
        return PlantedMeter(self.classes, self.parts)


class PlantedMeter(ClassificationMeter):
    """The metrics of classification and what is found of each part of the planted transforms."""

    def __init__(self, names: Any, parts: tuple[str, ...]) -> None:
        super().__init__(names)
        self.parts = parts
        self.planted: list[Tensor] = []
        self.predicted: list[Tensor] = []

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        with capture(model) as seen:
            logits = super().logits(model, batch)
        self.planted.append(batch.targets["transform"].cpu())
        theta = next((maps["theta"] for maps in seen.maps.values() if "theta" in maps), None)
        if theta is not None:
            self.predicted.append(theta.flatten(1).float().cpu())
        return logits

    def transforms(self) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """The parts of what was planted and of what was predicted; None: the network predicts no transform."""
        predicted = parts_of(torch.cat(self.predicted)) if self.predicted else None
        return parts_of(torch.cat(self.planted)), predicted

    def scores(self) -> Scores:
        scores = super().scores()
        planted, predicted = self.transforms()
        found = {
            f"{name} found": 0.0 if predicted is None else correlation(planted[name], predicted[name], name)
            for name in self.parts
        }
        return Scores({**scores.values, **found}, scores.items, scores.by_class, scores.confusion, tables=scores.tables)


def parts_of(transforms: Tensor) -> dict[str, Tensor]:
    """Of θ row by row (N, 6): rotation in degrees (N, 1), shift (N, 2), zoom as a logarithm (N, 1)."""
    a, b, x, c, d, y = transforms.double().unbind(1)
    angle = torch.rad2deg(torch.atan2(c - b, a + d))
    zoom = (a * d - b * c).abs().clamp_min(1e-12).log() / 2
    return {"rotation": angle[:, None], "shift": torch.stack((x, y), 1), "zoom": zoom[:, None]}


def _unwrapped(planted: Tensor, predicted: Tensor) -> Tensor:
    """Predicted angles less the one by which they differ from the planted ones, within half a turn of these."""
    apart = predicted - planted
    turn = torch.deg2rad(apart)
    middle = torch.rad2deg(torch.atan2(turn.sin().mean(0), turn.cos().mean(0)))
    return planted + (apart - middle + 180) % 360 - 180


def correlation(planted: Tensor, predicted: Tensor, name: str) -> float:
    """Over all items and axes, each axis about its own mean; 0 where one side does not vary."""
    found = _unwrapped(planted, predicted) if name == "rotation" else predicted
    a, b = planted - planted.mean(0), found - found.mean(0)
    spread = math.sqrt(float(a.square().sum() * b.square().sum()))
    return float((a * b).sum()) / spread if spread > 1e-9 else 0.0
