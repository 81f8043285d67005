"""The maps of a network over labelled images with masks or boxes: where they lie, and whether the network uses that."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.data.dataset import Batch
from foveate.explain.cams import METHODS
from foveate.explain.faithfulness import area, deletion, insertion, road
from foveate.explain.layers import Layer, find_layers
from foveate.explain.localisation import by_chance, localise, mean_interval, object_masks
from foveate.explain.maps import explain_batch
from foveate.explain.passing import passing
from foveate.explain.sanity import randomised, rank_correlations
from foveate.explain.targets import NoBoxError
from foveate.explaining import (
    COVERAGE,
    DELETION,
    ENERGY,
    INSERTION,
    IOU,
    POINTING,
    PROBABILITY,
    ROAD,
    SIMILARITY,
    Explaining,
)
from foveate.networks import is_detector

CHANCE = 64  # batches whose objects say what chance reaches


@dataclass(frozen=True)
class Measured:
    """The maps of a network over images.

    Attributes:
        items: {metric: (n,)} of each image, nan where it has no object, or a detector finds no box; the similarity only
            of the first.
        numbers: (n,) of the images in their split.
        layers: that were explained.
        chance: what maps that know nothing reach.
    """

    items: dict[str, NDArray[np.float64]]
    numbers: NDArray[np.int64]
    layers: tuple[str, ...]
    chance: dict[str, float]

    def means(self) -> dict[str, tuple[float, float, float]]:
        """{metric: mean and its 95 % interval over images}."""
        return {name: mean_interval(values) for name, values in self.items.items() if np.isfinite(values).any()}


def measure(model: nn.Module, batches: Iterable[Batch], how: Explaining) -> Measured:
    """Maps of each image's true class, or of a detector's best box, against the image's object or objects.

    Args:
        model: a classifier, a network that gives a map of classes, or a detector.
        batches: with targets "label" or "mask" for the class, and "mask", "boxes" or "box" for the object; with
            "distractors" where `how.passing` is set.
        how: method, layer, threshold, …

    Raises: ValueError: targets without class or object, or as `foveate.explain`.
    """
    rows: list[dict[str, Tensor]] = []
    numbers: list[Tensor] = []
    objects: list[Tensor] = []
    layers: Any = None
    detector = is_detector(model)
    random = randomised(model) if how.sanity and how.method in METHODS and not detector else None
    compared = 0
    for batch in batches:
        if detector:
            layers = layers or find_layers(model, batch.inputs[:1], how.layer or None)
            rows.append(_of_boxes(model, batch, how, layers))
            numbers.append(batch.items.cpu())
            objects += objects_of(batch) if len(numbers) <= CHANCE else []
            continue
        inputs = batch.inputs
        targets = true_classes(batch)
        if layers is None and how.method in METHODS:
            layers = find_layers(model, inputs[:1], how.layer or None)
        found, about = explain_batch(model, inputs, targets, how.method, layers=layers)
        (there,) = objects_of(batch)
        row = localise(found.maps, there, threshold=how.threshold, tolerance=how.tolerance)
        probabilities = None if about is None else about.probabilities()
        if probabilities is not None:
            row[PROBABILITY] = probabilities.gather(1, targets[:, None])[:, 0]
        if how.curves:
            curves = (DELETION, deletion), (INSERTION, insertion), (ROAD, road)
            row |= {name: area(curve(model, inputs, targets, found.maps)) for name, curve in curves}
        if how.passing:
            row |= passing(model, batch)
        if random is not None:
            row[SIMILARITY] = torch.full((len(inputs),), torch.nan)
            count = min(len(inputs), how.sanity - compared)
            if count > 0:
                other, _ = explain_batch(random, inputs[:count], targets[:count], how.method, layers=layers)
                row[SIMILARITY][:count] = torch.from_numpy(rank_correlations(found.maps[:count], other.maps)).float()
                compared += count
        rows.append({name: value.detach().double().cpu() for name, value in row.items()})
        numbers.append(batch.items.cpu())
        if len(objects) < CHANCE:
            objects.append(there.cpu())
    if not rows:
        raise ValueError("wanted images to explain; got none")
    items = {name: torch.cat([row[name] for row in rows]).numpy() for name in rows[0]}
    names = tuple(layer.name for layer in layers) if detector else found.layers
    return Measured(items, torch.cat(numbers).numpy(), names, by_chance(objects))


def _of_boxes(model: nn.Module, batch: Batch, how: Explaining, layers: Sequence[Layer]) -> dict[str, Tensor]:
    """{metric: (N,)} of a detector's maps, image by image."""
    rows = []
    for image, there in zip(batch.inputs, objects_of(batch), strict=True):
        try:
            maps = explain_batch(model, [image], None, how.method, layers=layers)[0].maps
        except NoBoxError:
            rows.append({name: torch.tensor([torch.nan]) for name in (POINTING, ENERGY, COVERAGE, IOU)})
            continue
        rows.append(localise(maps.detach().cpu(), there.cpu(), threshold=how.threshold, tolerance=how.tolerance))
    return {name: torch.cat([row[name] for row in rows]).double() for name in rows[0]}


def objects_of(batch: Batch) -> list[Tensor]:
    """bool (N, H, W) of the images' objects; of a detector's images, whose sizes differ, (1, H, W) each.

    Raises: ValueError: as `object_masks`.
    """
    if not isinstance(batch.inputs, list):
        return [object_masks(batch.targets, batch.inputs.shape[2:]).to(batch.inputs.device)]
    pairs = zip(batch.inputs, batch.targets["boxes"], strict=True)
    return [object_masks({"boxes": [target]}, image.shape[1:]) for image, target in pairs]


def true_classes(batch: Batch) -> Tensor:
    """(N,): the label of each image, or the class of most positions of its mask beside the background, 0.

    Raises: ValueError: the targets have neither.
    """
    label, mask = batch.targets.get("label"), batch.targets.get("mask")
    if isinstance(label, Tensor) and label.dim() == 1:
        return label
    if not isinstance(mask, Tensor):
        raise ValueError(f"wanted a class or a mask of each image; got {', '.join(batch.targets) or 'no targets'}")
    found = []
    for one in mask:
        counts = torch.bincount(one[(one > 0) & (one != 255)].flatten(), minlength=2)
        found.append(counts.argmax() if counts.sum() else torch.tensor(0, device=one.device))
    return torch.stack(found)
