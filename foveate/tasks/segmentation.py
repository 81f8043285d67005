"""Segmentation: a class for every position. Cross-entropy, mean intersection over union."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.data.dataset import IGNORED, Batch, Dataset
from foveate.spec import Metric
from foveate.tasks.pictures import captioned, overlaid, shown
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

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resized(logits: Tensor, size: torch.Size) -> Tensor:
    """Logits (N, K, *s) interpolated to positions *S, where they differ."""
    if logits.shape[2:] == size:
        return logits
    return F.interpolate(logits, size, mode=_LINEAR[len(size)], align_corners=False)


@register_task("segmentation")
class Segmentation(Task):
    """Which class each position belongs to.

    Args:
        data: with targets "mask".
        auxiliary_weight: of each output beside the first, where a network gives several and has no
            `auxiliary_weight` of its own.
        loss_weights: of losses that inserted modules have, by name.

    Shape: inputs (N, C, *S); logits (N, classes, *s), interpolated to *S; mask (N, *S), 255 where nothing is known.
    """

    dense: ClassVar[bool] = True

    def __init__(
        self, data: Dataset, *, auxiliary_weight: float = 0.4, loss_weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(data)
        self.classes = self.target("mask", ("mask",)).names
        self.outputs = len(self.classes)
        self.auxiliary_weight = auxiliary_weight
        self.loss_weights = LOSS_WEIGHTS | dict(loss_weights or {})
        self.metrics = (Metric("mIoU"), Metric("pixel accuracy"), Metric("loss", "nats", "lower"))

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean cross-entropy over known positions, of every output; modules' losses."""
        mask = batch.targets["mask"]
        given = model(batch.inputs)
        own = getattr(model, "loss", None)
        if callable(own):
            return summed(own(given, mask), (), extra_losses(model), self.loss_weights)
        first, *others = (
            F.cross_entropy(resized(logits, mask.shape[1:]).float(), mask, ignore_index=IGNORED)
            for logits in all_outputs(given)
        )
        weight = getattr(model, "auxiliary_weight", self.auxiliary_weight)
        return summed(first, [(weight, other) for other in others], extra_losses(model), self.loss_weights)

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

    def meter(self) -> "SegmentationMeter":
        return SegmentationMeter(self.classes)

    def draw(self, batch: Batch, given: Any) -> list[NDArray[np.uint8]]:
        pictures, masks = shown(batch.inputs), batch.targets["mask"].cpu().numpy()
        if masks.ndim != 3:
            return []
        drawn = [overlaid(picture, mask, self.outputs) for picture, mask in zip(pictures, masks, strict=True)]
        if given is None:
            return [captioned(picture, "target") for picture in drawn]
        found = resized(main_output(given).float(), batch.targets["mask"].shape[1:]).argmax(1).cpu().numpy()
        ours = [overlaid(picture, mask, self.outputs) for picture, mask in zip(pictures, found, strict=True)]
        both = [np.concatenate([left, right], 1) for left, right in zip(drawn, ours, strict=True)]
        return [captioned(picture, "target | network") for picture in both]

    def masks(self, given: Any, size: tuple[int, ...]) -> list[NDArray[Any]]:
        best = resized(main_output(given).float(), torch.Size(size)).argmax(1).cpu().numpy()
        return list(best.astype(np.uint8 if self.outputs <= 256 else np.uint16))

    def predict(self, given: Any) -> list[dict[str, Any]]:
        found = main_output(given).argmax(1)
        return [
            {f"share of {name}": float((one == number).double().mean()) for number, name in enumerate(self.classes)}
            for one in found
        ]


class SegmentationMeter(Meter):
    """mIoU from the sums of intersections and unions over the set, by class; classes that occur nowhere are left out.

    An item's own mIoU is over the classes in its mask or in its prediction.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.classes = names, len(names)
        self.confusion = torch.zeros(self.classes, self.classes, dtype=torch.int64)
        self.intersections: list[Tensor] = []
        self.unions: list[Tensor] = []
        self.right: list[Tensor] = []
        self.losses: list[Tensor] = []

    def update(self, model: nn.Module, batch: Batch) -> None:
        mask = batch.targets["mask"]
        logits = resized(main_output(model(batch.inputs)), mask.shape[1:]).float()
        losses = F.cross_entropy(logits, mask, ignore_index=IGNORED, reduction="none").flatten(1)
        best, target, known = (one.flatten(1) for one in (logits.argmax(1), mask, mask != IGNORED))
        pixels = known.sum(1).clamp_min(1)
        self.losses.append(losses.sum(1) / pixels)
        self.right.append(((best == target) & known).sum(1).double() / pixels)
        both = torch.stack([((best == k) & (target == k)).sum(1) for k in range(self.classes)], 1)
        either = torch.stack([(((best == k) | (target == k)) & known).sum(1) for k in range(self.classes)], 1)
        self.intersections.append(both.cpu())
        self.unions.append(either.cpu())
        pairs = (target * self.classes + best)[known].cpu()
        self.confusion += torch.bincount(pairs, minlength=self.classes**2).view(self.classes, self.classes)

    def scores(self) -> Scores:
        both, either = torch.cat(self.intersections), torch.cat(self.unions)
        items = {
            "mIoU": mean_iou(both, either),
            "pixel accuracy": torch.cat(self.right),
            "loss": torch.cat(self.losses),
        }
        values = {name: value.double().mean().item() for name, value in items.items()}
        values["mIoU"] = mean_iou(both.sum(0), either.sum(0)).item()
        arrays = {name: value.cpu().numpy().astype(np.float32) for name, value in items.items()}
        sums = {"mIoU.intersection": both.numpy(), "mIoU.union": either.numpy()}
        by_class = class_figures(self.names, self.confusion.numpy())
        for k, name in enumerate(self.names):
            by_class[name]["IoU"] = float(both[:, k].sum() / max(int(either[:, k].sum()), 1))
        return Scores(values, arrays | sums, by_class, self.confusion.numpy())


def mean_iou(intersection: Tensor, union: Tensor) -> Tensor:
    """Mean over the classes (last axis) with a union of the intersection over the union; (…, K) counts → (…)."""
    there = union > 0
    ratio = intersection.double() / union.clamp_min(1)
    return (ratio * there).sum(-1) / there.sum(-1).clamp_min(1)
