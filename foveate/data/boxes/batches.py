"""Images with boxes in batches, and what training changes in them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from foveate.data.annotation import Annotation
from foveate.data.augmentation import uniforms
from foveate.data.boxes.outlines import masks_of
from foveate.data.dataset import Batch, Content, Split
from foveate.data.decode import read_image
from foveate.data.joint import DRAWS, JointTransform, joint_sample

KEPT_BYTES = 128_000_000
GREY = 114  # of the rim beside an image that is narrower than a batch's square
STEP = 32  # pixels between the sizes of multi-scale training
Resize = Literal["letterbox", "shorter"]


@dataclass(frozen=True)
class Changes:
    """What training does to an image with its boxes, by numbers that depend on (seed, epoch, item) alone.

    Attributes:
        scales: the smallest and the largest scale of an image on its canvas; (0.1, 2) is large-scale jitter.
        flip: half of the images are mirrored.
        colour: brightness, contrast and saturation change by up to this share each.
        multi_scale: the smallest and the largest side of the canvas itself, as a share of its own, in steps of 32
            pixels; images of one batch then differ in size. None: the size of evaluation.

    Source: large-scale jitter: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance
    Segmentation", 2021, arXiv:2012.07177.
    """

    scales: tuple[float, float] = (0.8, 1.25)
    flip: bool = True
    colour: float = 0.2
    multi_scale: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", _pair("scales", self.scales))
        if self.multi_scale is not None:
            object.__setattr__(self, "multi_scale", _pair("multi_scale", self.multi_scale))
        if not isinstance(self.flip, bool):
            raise ValueError(f"flip: wanted true or false; got {self.flip!r}")
        if isinstance(self.colour, bool) or not isinstance(self.colour, (int, float)):
            raise ValueError(f"colour: wanted a share from 0 to below 1; got {self.colour!r}")
        self.transform((1, 1))

    def __str__(self) -> str:
        words = str(self.transform((1, 1)))
        if self.multi_scale is None:
            return words
        low, high = self.multi_scale
        return f"{words}, canvases of {low:g} to {high:g} of the size"

    def transform(self, canvas: tuple[int, int]) -> JointTransform:
        """The change of one image, onto a canvas (height, width)."""
        return JointTransform(canvas, scales=self.scales, flip=self.flip, colour=self.colour, fill=(GREY,) * 3)

    def canvas(self, own: tuple[int, int], draw: float) -> tuple[int, int]:
        """The canvas of one image, (height, width)."""
        if self.multi_scale is None:
            return own
        low, high = self.multi_scale
        factor = low * (high / low) ** draw
        height, width = (max(round(side * factor / STEP), 1) * STEP for side in own)
        return height, width


def _pair(name: str, value: Any) -> tuple[float, float]:
    """Two numbers above 0, the smaller first."""
    numbers = value if isinstance(value, (list, tuple)) else ()
    known = [one for one in numbers if isinstance(one, (int, float)) and not isinstance(one, bool)]
    if len(numbers) != 2 or len(known) != 2 or not 0 < known[0] <= known[1]:
        raise ValueError(f"{name}: wanted the smallest and the largest, above 0; got {value!r}")
    return known[0], known[1]


def canvas_of(image: tuple[int, int], size: tuple[int, int], resize: Resize) -> tuple[int, int]:
    """(height, width) of what a batch has of an image (width, height).

    "letterbox": the size (H, W) itself, grey where an image of another shape leaves it empty, on the right or below;
    "shorter": the shorter side is H, and nothing is left empty.
    """
    if resize == "letterbox":
        return size
    factor = size[0] / min(image)
    return max(round(image[1] * factor), 1), max(round(image[0] * factor), 1)


class BoxedImages(Split):
    """Images with their boxes; inputs are a list of float tensors (3, H, W) from 0 to 1.

    Args:
        contents: n: paths, contents of files, or pixels (H, W, 3).
        annotations: n: of each image: the target "boxes".
        names: n: what each is called.
        size, resize: as `canvas_of` takes them.
        changes: of training.
        masks: are the objects' masks among the targets?
        groups, contents_alike: as `Split` has them.
    """

    annotations: Sequence[Annotation]

    def __init__(
        self,
        contents: Sequence[Content],
        annotations: Sequence[Annotation],
        names: Sequence[str],
        size: tuple[int, int],
        *,
        resize: Resize = "letterbox",
        changes: Changes,
        masks: bool = False,
        groups: NDArray[np.str_] | None = None,
        contents_alike: NDArray[np.int64] | None = None,
    ) -> None:
        self.contents, self.annotations, self.names = contents, annotations, names
        self.size, self.resize, self.changes, self.masks = size, resize, changes, masks
        self.groups, self.contents_alike = groups, contents_alike
        self._room = KEPT_BYTES // (size[0] * size[1] * 3)
        self._kept: dict[int, tuple[Tensor, dict[str, Tensor]]] = {}  # what evaluation shows of an image

    def __len__(self) -> int:
        return len(self.contents)

    def name_of(self, item: int) -> str:
        return self.names[item]

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        wanted = self.checked(items)
        draws = None if augment is None else uniforms(augment, wanted, DRAWS + 1)
        inputs, targets = [], []
        for place, item in enumerate(wanted.tolist()):
            image, target = self._shown(item) if draws is None else self._changed(item, draws[place])
            inputs.append(image.float().div_(255))
            targets.append({key: value.clone() for key, value in target.items()})
        return Batch(inputs, {"boxes": targets}, torch.from_numpy(wanted))

    def prepare(self, source: Any) -> Tensor:
        """A file or PIL image as a sample (3, H, W) of evaluation. Raises: ValueError: if it cannot be read."""
        image = read_image(source)
        transform = self.changes.transform(canvas_of(image.size, self.size, self.resize))
        shown = transform.evaluate(joint_sample(np.asarray(image)))["image"]
        return torch.as_tensor(shown.as_subclass(Tensor)).float().div_(255)

    def scale_of(self, image: tuple[int, int]) -> tuple[float, float]:
        """Pixels of a batch a pixel of an image (width, height), along x and y, in evaluation: boxes that a network
        gives are divided by it."""
        high, wide = self.changes.transform(canvas_of(image, self.size, self.resize)).fitted(image[1], image[0])
        return wide / image[0], high / image[1]

    def _shown(self, item: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The pixels uint8 (3, H, W) and the target of evaluation."""
        if item in self._kept:
            return self._kept[item]
        image = self._image(item)
        transform = self.changes.transform(canvas_of(image.size, self.size, self.resize))
        found = self._target(item, image, transform.evaluate(self._sample(item, image)))
        found[1]["scale"] = torch.tensor(self.scale_of(image.size))
        if len(self._kept) < self._room:
            self._kept[item] = found
        return found

    def _changed(self, item: int, draws: NDArray[np.float64]) -> tuple[Tensor, dict[str, Tensor]]:
        """The pixels uint8 (3, H, W) and the target of training."""
        own = self.annotations[item].image
        image = self._image(item, self._least(own) if min(own) and not self.masks else None)
        canvas = self.changes.canvas(canvas_of(own if min(own) else image.size, self.size, self.resize), draws[DRAWS])
        return self._target(item, image, self.changes.transform(canvas).train(self._sample(item, image), draws))

    def _least(self, own: tuple[int, int]) -> int:
        """Pixels that the short side of an image (width, height) is shown with at the largest scale."""
        canvas = canvas_of(own, self.size, self.resize)
        factor = self.changes.transform(canvas).factor(own[1], own[0]) * max(self.changes.scales[1], 1.0)
        return math.ceil(min(own) * factor * max((self.changes.multi_scale or (1.0,))[-1], 1.0))

    def _image(self, item: int, least: int | None = None) -> Image.Image:
        content = self.contents[item]
        return read_image(content, least, self.names[item] if isinstance(content, bytes) else "")

    def _sample(self, item: int, image: Image.Image) -> dict[str, Any]:
        found = self.annotations[item]
        masks = None
        if self.masks:
            masks = masks_of(found.outlines or (None,) * len(found), (image.height, image.width))
        boxes = found.boxes
        if min(found.image) and image.size != found.image:  # a JPEG that was decoded smaller
            boxes = boxes * np.tile(np.divide(image.size, found.image), 2).astype(np.float32)
        return joint_sample(np.asarray(image), boxes=boxes, labels=np.arange(len(found)), masks=masks)

    def _target(self, item: int, image: Image.Image, sample: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        found = self.annotations[item]
        places = sample["labels"].numpy()
        target = {
            "boxes": sample["boxes"].as_subclass(Tensor),
            "labels": torch.from_numpy(found.labels[places]),
            "crowd": torch.from_numpy(found.crowd[places]),
            "area": torch.from_numpy(found.area[places]),
        }
        if self.masks:
            target["masks"] = sample["masks"].as_subclass(Tensor).bool()
        return sample["image"].as_subclass(Tensor), target
