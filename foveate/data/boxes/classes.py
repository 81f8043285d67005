"""Kind "boxed_classes": images with boxes as a set to classify, whose boxes say where the object is."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.data.dataset import Batch, Dataset, Levels, Progress, Split, Target, opener_of, register_data
from foveate.spec import DataSpec

KINDS = ("coco", "voc", "yolo", "digit_boxes")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@register_data("boxed_classes", tasks=("classification",))
def open_boxed_classes(
    spec: DataSpec, *, progress: Progress | None = None, form: str = "coco", box_scale: float = 1.0, **options: Any
) -> Dataset:
    """Images of one class each, by their boxes: the class whose boxes cover most of the image.

    Targets: "label", the class; "mask", 1 inside the boxes of that class. Images without boxes are left out. An image
    has its class from its annotations, whatever training cuts off.

    Args:
        form: the kind of data that the boxes are in: "coco", "voc", "yolo" or "digit_boxes".
        box_scale: pixels of the images a pixel of the boxes, where the images were resized after they were annotated.
        options: of that kind.

    Raises: LookupError, TypeError, ValueError: as of that kind. ValueError: another form, a scale that is not above 0.
    """
    if form not in KINDS:
        raise ValueError(f"form: wanted one of {', '.join(KINDS)}; got {form!r}")
    if not box_scale > 0:
        raise ValueError(f"box_scale: wanted a number above 0; got {box_scale}")
    inner = spec.model_copy(update={"kind": form, "options": options})
    found = opener_of(inner)(inner, progress=progress, **options)
    names = found.targets["boxes"].names
    left_out = sum(not len(one) for part in (found.train, found.test) for one in part.annotations or ())
    note = f"{left_out} images without boxes are left out"
    return dataclasses.replace(
        found,
        targets={"label": Target("class", names), "mask": Target("mask", ("background", "object"))},
        train=BoxedClasses(found.train, box_scale),
        test=BoxedClasses(found.test, box_scale),
        validation=None if found.validation is None else BoxedClasses(found.validation, box_scale),
        notes=(*found.notes, note) if left_out else found.notes,
        prepare=None if found.prepare is None else _Prepared(found.prepare),
        scale_of=None,
    )


class _Prepared:
    """The preparation of files of a set with boxes, normalised."""

    def __init__(self, prepare: Any) -> None:
        self.prepare = prepare

    def __call__(self, source: Any) -> Tensor:
        return _normalised(self.prepare(source)[None])[0]


class BoxedClasses(Split):
    """The images with boxes of a split, each with one class and a mask of its boxes."""

    def __init__(self, inner: Split, box_scale: float = 1.0) -> None:
        assert inner.annotations is not None
        self.inner = inner
        inner.annotations = [
            dataclasses.replace(one, boxes=one.boxes * np.float32(box_scale), area=one.area * np.float32(box_scale**2))
            for one in inner.annotations
        ]
        kept = [number for number, one in enumerate(inner.annotations) if len(one)]
        self.kept = np.array(kept, np.int64)
        self.labels = self.strata = np.array([main_class(inner.annotations[number]) for number in kept], np.int64)
        self.groups = None if inner.groups is None else inner.groups[self.kept]
        self.contents_alike = None if inner.contents_alike is None else inner.contents_alike[self.kept]
        self.levels = Levels(255 * torch.tensor(MEAN), 1 / (255 * torch.tensor(STD)))

    def __len__(self) -> int:
        return len(self.kept)

    def name_of(self, item: int) -> str:
        return self.inner.name_of(int(self.kept[item]))

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        wanted = self.checked(items)
        found = self.inner.batch(self.kept[wanted].tolist(), augment)
        labels = torch.from_numpy(self.labels[wanted])
        inputs = torch.stack(found.inputs)
        masks = [
            _inside(one["boxes"][one["labels"] == label], inputs.shape[2:])
            for one, label in zip(found.targets["boxes"], labels, strict=True)
        ]
        return Batch(_normalised(inputs), {"label": labels, "mask": torch.stack(masks)}, torch.from_numpy(wanted))


def main_class(annotation: Any) -> int:
    """The class whose boxes have the largest area together."""
    sides = annotation.boxes[:, 2:] - annotation.boxes[:, :2]
    areas = np.bincount(annotation.labels, sides.prod(1))
    return int(areas.argmax())


def _normalised(x: Tensor) -> Tensor:
    return (x - torch.tensor(MEAN).view(1, -1, 1, 1)) / torch.tensor(STD).view(1, -1, 1, 1)


def _inside(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """int64 (H, W), 1 for pixels whose middle lies in a box."""
    mask = torch.zeros(tuple(size), dtype=torch.int64)
    for x0, y0, x1, y1 in boxes.clamp_min(0).add(0.5).floor().long().tolist():
        mask[y0:y1, x0:x1] = 1
    return mask
