"""Images with boxes: what is annotated, and the split that gives them in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from foveate.data.augmentation import uniforms
from foveate.data.dataset import Batch, Content, Split
from foveate.data.decode import read_image
from foveate.data.outlines import masks_of

KEPT_BYTES = 128_000_000
GREY = 114  # of the rim beside an image that is narrower than a batch's square
Resize = Literal["letterbox", "stretch", "shorter"]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Annotation:
    """The boxes of one image, in its own pixels.

    A batch has of each image {"boxes": float32 (n, 4) in pixels of the batch, "labels": int64 (n,), "crowd": bool (n,),
    "area": float32 (n,) in pixels of the file, "scale": float32 (2,), pixels of the batch a pixel of the file along x
    and y, and, where they are asked for, "masks": bool (n, H, W)}.

    Attributes:
        boxes: (n, 4) x0, y0, x1, y1; a pixel i spans [i, i + 1).
        labels: (n,) class numbers from 0.
        crowd: (n,) does the box stand for many objects that are not told apart? It is neither trained on nor counted.
        area: (n,) of the objects, in pixels, by which they are small, medium or large.
        outlines: n: of each object, as COCO's files have them, or a mask (H, W); None: not known.
    """

    boxes: Floats
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: Floats
    outlines: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, kept: NDArray[Any]) -> "Annotation":
        """The boxes of these places, or where this is true."""
        places = np.flatnonzero(kept) if kept.dtype == bool else kept
        outlines = None if self.outlines is None else tuple(self.outlines[place] for place in places)
        return Annotation(self.boxes[places], self.labels[places], self.crowd[places], self.area[places], outlines)


def annotation(
    boxes: Any,
    labels: Any,
    crowd: Any = None,
    area: Any = None,
    outlines: Sequence[Any] | None = None,
) -> Annotation:
    """Arrays of lists; crowd=None: no crowds; area=None: that of the boxes."""
    corners = np.asarray(boxes, np.float32).reshape(-1, 4)
    own = (corners[:, 2:] - corners[:, :2]).prod(1)
    return Annotation(
        corners,
        np.asarray(labels, np.int64).reshape(-1),
        np.zeros(len(corners), bool) if crowd is None else np.asarray(crowd, bool).reshape(-1),
        own if area is None else np.asarray(area, np.float32).reshape(-1),
        None if outlines is None else tuple(outlines),
    )


@dataclass(frozen=True)
class Fit:
    """How an image comes to the size of a batch: resized to `shown`, then put at the top left of `canvas`, in grey.

    Both are (height, width). `scale` is pixels of the batch a pixel of the image, along x and y.
    """

    shown: tuple[int, int]
    canvas: tuple[int, int]
    scale: tuple[float, float]

    def back(self, boxes: Floats) -> Floats:
        """Boxes (n, 4) of the batch in pixels of the image."""
        return boxes / np.array(self.scale * 2, np.float32)


def fit(image: tuple[int, int], size: tuple[int, int], how: Resize) -> Fit:
    """The fit of an image (width, height) to a size (H, W).

    "letterbox": as large as goes into it, its shape kept; "stretch": both sides as the size says; "shorter": the
    shorter side is H, its shape kept, without a rim.
    """
    width, height = image
    if how == "stretch":
        shown = size
    else:
        factor = size[0] / min(image) if how == "shorter" else min(size[0] / height, size[1] / width)
        shown = max(round(height * factor), 1), max(round(width * factor), 1)
    return Fit(shown, shown if how == "shorter" else size, (shown[1] / width, shown[0] / height))


class BoxedImages(Split):
    """Images with their boxes; inputs are a list of float tensors (3, H, W) from 0 to 1.

    Args:
        contents: n: paths, contents of files, or pixels (H, W, 3).
        annotations: n: of each image: the target "boxes".
        names: n: what each is called.
        size, resize: as `fit` takes them.
        masks: are the objects' masks among the targets?
        groups, contents_alike: as `Split` has them.
    """

    def __init__(
        self,
        contents: Sequence[Content],
        annotations: Sequence[Annotation],
        names: Sequence[str],
        size: tuple[int, int],
        *,
        resize: Resize = "letterbox",
        masks: bool = False,
        groups: NDArray[np.str_] | None = None,
        contents_alike: NDArray[np.int64] | None = None,
    ) -> None:
        self.contents, self.annotations, self.names = contents, annotations, names
        self.size, self.resize, self.masks = size, resize, masks
        self.groups, self.contents_alike = groups, contents_alike
        self._room = KEPT_BYTES // (size[0] * size[1] * 3)
        self._kept: dict[int, tuple[NDArray[np.uint8], Fit]] = {}  # what evaluation shows of an image

    def __len__(self) -> int:
        return len(self.contents)

    def name_of(self, item: int) -> str:
        return self.names[item]

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        wanted = self.checked(items)
        draws = None if augment is None else uniforms(augment, wanted, 1)
        inputs, targets = [], []
        for place, item in enumerate(wanted.tolist()):
            image, target = self._one(item, None if draws is None else draws[place])
            inputs.append(image)
            targets.append(target)
        return Batch(inputs, {"boxes": targets}, torch.from_numpy(wanted))

    def prepare(self, source: Any) -> Tensor:
        """A file or PIL image as a sample (3, H, W) of evaluation. Raises: ValueError: if it cannot be read."""
        image = read_image(source)
        return _tensor(fitted(image, fit(image.size, self.size, self.resize)))

    def _one(self, item: int, draws: NDArray[np.float64] | None) -> tuple[Tensor, dict[str, Tensor]]:
        pixels, placed = self._pixels(item)
        found = self.annotations[item]
        target = {
            "boxes": torch.from_numpy(found.boxes * np.array(placed.scale * 2, np.float32)),
            "labels": torch.tensor(found.labels),
            "crowd": torch.tensor(found.crowd),
            "area": torch.tensor(found.area),
            "scale": torch.tensor(placed.scale),
        }
        if self.masks:
            target["masks"] = torch.from_numpy(masks_of(found.outlines or (), placed.scale, placed.canvas))
        image = _tensor(pixels)
        if draws is not None and draws[0] < 0.5:
            image, target = mirrored(image, target)
        return image, target

    def _pixels(self, item: int) -> tuple[NDArray[np.uint8], Fit]:
        if item in self._kept:
            return self._kept[item]
        content = self.contents[item]
        image = read_image(content, name=self.names[item] if isinstance(content, bytes) else "")
        placed = fit(image.size, self.size, self.resize)
        pixels = fitted(image, placed)
        if len(self._kept) < self._room:
            self._kept[item] = pixels, placed
        return pixels, placed


def fitted(image: Image.Image, placed: Fit) -> NDArray[np.uint8]:
    """The image's pixels (H, W, 3) on the canvas."""
    height, width = placed.shown
    pixels = np.array(image.resize((width, height), Image.Resampling.BILINEAR))
    if placed.shown == placed.canvas:
        return pixels
    canvas = np.full((*placed.canvas, 3), GREY, np.uint8)
    canvas[:height, :width] = pixels
    return canvas


def mirrored(image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Left and right turned round."""
    x0, y0, x1, y1 = target["boxes"].unbind(1)
    wide = image.shape[2]
    changed = {"boxes": torch.stack([wide - x1, y0, wide - x0, y1], 1)}
    if "masks" in target:
        changed["masks"] = target["masks"].flip(2)
    return image.flip(2), target | changed


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)
