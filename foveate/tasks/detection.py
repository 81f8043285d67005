"""Detection: boxes around the objects of each class. The detector's own losses, average precision."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from foveate.data.dataset import Batch, Dataset
from foveate.networks import is_detector
from foveate.spec import Metric
from foveate.tasks.box_pictures import Shown, drawn_boxes
from foveate.tasks.detection_scores import DetectionScores, detection_metrics
from foveate.tasks.mean_boxes import mean_boxes
from foveate.tasks.mistakes import items_to_look_at, mistakes_sheet
from foveate.tasks.pictures import Over, Picture, captioned, shown
from foveate.tasks.task import LOSS_WEIGHTS, Meter, Scores, Task, extra_losses, register_task, summed

NEEDED = ("boxes", "labels", "scores")


@register_task("detection")
class Detection(Task):
    """Where the objects of each class are.

    The network is a detector as torchvision's are: in training it takes images and targets and gives its losses, else
    it gives each image's boxes, labels and scores. Its classes are numbered from 1 there, 0 is the background, and both
    are counted in what it is built for.

    Args:
        data: with targets "boxes".
        loss_weights: of the detector's losses where they count other than once, and of those of inserted modules.
        least_score: of the boxes in pictures.

    Shape: a list of images (3, H, W) in 0 to 1; {"boxes": (b, 4) x0, y0, x1, y1 in pixels, "labels": (b,), "scores":
        (b,)} for each; Mask R-CNN's "masks" too.
    """

    detects: ClassVar[bool] = True
    planned_on: ClassVar[str] = "cpu"

    def __init__(
        self, data: Dataset, *, loss_weights: Mapping[str, float] | None = None, least_score: float = 0.3
    ) -> None:
        super().__init__(data)
        if not 0 <= least_score < 1:
            raise ValueError(f"least_score: wanted 0 or more, below 1; got {least_score}")
        self.classes = self.target("boxes", ("boxes",)).names
        self.outputs = len(self.classes) + 1
        self.loss_weights, self.least_score = dict(loss_weights or {}), least_score
        parts = (part.annotations for part in (data.test, data.validation) if part is not None)
        self.metrics = detection_metrics(self.classes, *(one for one in parts if one is not None))

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The sum of the detector's own losses, each logged by its name, and those of inserted modules.

        A detector may give its sum itself, as "loss"; its other losses are then logged only. In evaluation mode norms
        and dropout stay in it, and what the detector draws at random is drawn again each time.
        """
        with contextlib.nullcontext() if model.training else losses_in_evaluation(model):
            parts = model(*self.arguments(batch))
        if not isinstance(parts, Mapping) or not all(isinstance(one, Tensor) for one in parts.values()):
            raise ValueError(f"wanted a detector that gives its losses by name in training; got {_kind(parts)}")
        if wrong := [key for key in self.loss_weights if key not in parts and key not in LOSS_WEIGHTS]:
            raise ValueError(f"loss_weights: the detector has no loss {wrong[0]!r}; it has {', '.join(parts)}")
        whole = parts.get("loss")
        if whole is None:
            whole = torch.stack([self.loss_weights.get(key, 1.0) * one for key, one in parts.items()]).sum()
        found = summed(whole, (), extra_losses(model), LOSS_WEIGHTS | self.loss_weights)
        return {**{key: one for key, one in parts.items() if key != "loss"}, **found}

    def arguments(self, batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """The images and targets as torchvision's detectors take them: labels from 1, no crowds."""
        return batch.inputs, [as_torchvision(target) for target in batch.targets["boxes"]]

    def check(self, model: nn.Module, batch: Batch) -> None:
        if not is_detector(model):
            raise ValueError(
                f"{type(model).__name__} takes no targets; detection wanted a detector, such as "
                "torchvision:ssdlite320_mobilenet_v3_large, hf:rt_detr_v2, or a module whose forward takes images and "
                "targets as torchvision's do"
            )
        with torch.no_grad():
            given = model.eval()(batch.inputs)
        if not isinstance(given, Sequence) or len(given) != len(batch):
            raise ValueError(f"wanted a list with the boxes of each of {len(batch)} images; got {_kind(given)}")
        for one in given:
            if not isinstance(one, Mapping) or (missing := [key for key in NEEDED if key not in one]):
                there = list(one) if isinstance(one, Mapping) else _kind(one)
                raise ValueError(f"wanted boxes, labels and scores of each image; got {there}, without {missing[0]!r}")
            if len(one["labels"]) and int(one["labels"].max()) >= self.outputs:
                raise ValueError(
                    f"wanted labels up to {self.outputs - 1}, those of the classes; got {int(one['labels'].max())}"
                )

    def meter(self) -> "DetectionMeter":
        return DetectionMeter(self.classes, self.metrics)

    def baseline(self) -> tuple[str, dict[str, float]]:
        train, test = self.data.train.annotations, self.data.test.annotations
        if not train or not test:
            return "", {}
        found = mean_boxes(train, len(self.classes)).values(self.classes, test)
        values = {metric.name: found[metric.name] for metric in self.metrics if metric.name in found and not metric.of}
        return "always giving the mean boxes of the training images", values

    def draw(self, batch: Batch, given: Any) -> list[NDArray[np.uint8]]:
        targets = batch.targets["boxes"]
        results: Sequence[Any] = [None] * len(batch) if given is None else given
        found = []
        for image, target, one in zip(batch.inputs, targets, results, strict=True):
            (picture,) = shown([image])
            factor = picture.shape[1] / image.shape[2]
            drawn, line = drawn_boxes(picture, factor, self.classes, Shown.of_target(target), self._found(one))
            found.append(captioned(drawn, line))
        return found

    def over(self, batch: Batch, given: Any) -> Over:
        def boxes(number: int, picture: Picture) -> Picture:
            target, image = batch.targets["boxes"][number], batch.inputs[number]
            factor = picture.shape[1] / image.shape[2]
            return drawn_boxes(picture, factor, self.classes, Shown.of_target(target), self._found(given[number]))[0]

        return boxes

    def mistakes(
        self, model: nn.Module, scores: Scores, read: Callable[[list[int]], Iterator[Batch]]
    ) -> Picture | None:
        """Right detections with the lowest scores, wrong ones with the highest, and missed objects."""
        if not scores.tables:
            return None
        images: list[Tensor] = []
        objects, found = [], []
        for batch in read(items_to_look_at(scores.tables)):
            images += batch.inputs
            objects += [Shown.of_target(target) for target in batch.targets["boxes"]]
            found += [one for given in model(batch.inputs) if (one := self._found(given)) is not None]
        return mistakes_sheet(images, objects, found, self.classes)

    def predict(self, given: Any) -> list[dict[str, Any]]:
        return [
            {"boxes": one["boxes"].tolist(), "labels": (one["labels"] - 1).tolist(), "scores": one["scores"].tolist()}
            | ({"masks": (one["masks"][:, 0] >= 0.5).cpu().numpy()} if "masks" in one else {})
            for one in map(found_objects, given)
        ]

    def _found(self, one: Mapping[str, Tensor] | None) -> Shown | None:
        if one is None:
            return None
        kept = one["scores"] >= self.least_score
        return Shown.of_result({key: value[kept] for key, value in one.items()})


class DetectionMeter(Meter):
    """Average precision by COCO's and VOC's rules, with the matches of each image."""

    def __init__(self, classes: Sequence[str], metrics: Sequence[Metric]) -> None:
        self.found = DetectionScores(classes, metrics)

    def update(self, model: nn.Module, batch: Batch) -> None:
        given = [found_objects(one) for one in model(batch.inputs)]
        self.found.add([{**one, "labels": one["labels"] - 1} for one in given], batch.targets["boxes"])

    def scores(self) -> Scores:
        scores = self.found.scores()
        known = {name: value for name, value in scores.values.items() if math.isfinite(value)}  # sizes without boxes
        return dataclasses.replace(scores, values=known)


def found_objects(one: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a detector gives for an image without boxes of the background, which some have a score for."""
    kept = one["labels"] > 0
    return {key: value[kept] for key, value in one.items()}


def as_torchvision(target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One image's target as torchvision's detectors take it: labels from 1, no crowds, masks uint8."""
    kept = ~target["crowd"]
    found = {"boxes": target["boxes"][kept], "labels": target["labels"][kept] + 1}
    if "masks" in target:
        found["masks"] = target["masks"][kept].to(torch.uint8)
    return found


@contextlib.contextmanager
def losses_in_evaluation(model: nn.Module) -> Iterator[None]:
    """A detector in evaluation mode gives its losses while this is open.

    It is in training mode but for its norms and dropout, and torch's generators are as before afterwards.
    """
    before = [(module, module.training) for module in model.modules()]
    devices = {parameter.device.index or 0 for parameter in model.parameters() if parameter.is_cuda}
    try:
        for module, _ in before:
            module.training = not isinstance(module, (_NormBase, _DropoutNd))
        with torch.random.fork_rng(list(devices)):
            yield
    finally:
        for module, mode in before:
            module.training = mode


def _kind(given: Any) -> str:
    if isinstance(given, Tensor):
        return f"a tensor {tuple(given.shape)}"
    return f"a {type(given).__name__}" + (f" of {len(given)}" if isinstance(given, (list, tuple, dict)) else "")
