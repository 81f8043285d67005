"""Images with masks → batches: read when a batch needs them, image and mask changed alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from foveate.data.augmentation import uniforms
from foveate.data.dataset import Batch, Levels, Split
from foveate.data.decode import read_image
from foveate.data.in_memory import nearest
from foveate.data.joint import DRAWS, JointTransform, Sample, joint_sample
from foveate.data.masks.classes import ClassTable
from foveate.data.masks.files import MaskSource

KEPT_BYTES = 128_000_000  # of the decoded training items of a split, and as many of its evaluation items
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class MaskedItem:
    """An image file and where its mask comes from.

    Attributes:
        image: its file.
        mask: its mask.
        name: in scores: its path below the folder.
        size: (height, width), upright.
    """

    image: Path
    mask: MaskSource
    name: str
    size: tuple[int, int]


class MaskedImages(Split):
    """Images with a class for each pixel: the target "mask", 255 where nothing is known.

    Args:
        items: n.
        table: what each value of a mask stands for.
        transform: of training and of evaluation.
        mean, std: of each channel, of pixels from 0 to 1.
        pixels: (n, K) of each class in each item, ignored ones left out.
        groups, contents_alike: as `Split` has them.
    """

    def __init__(
        self,
        items: Sequence[MaskedItem],
        table: ClassTable,
        transform: JointTransform,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        pixels: NDArray[np.int64],
        groups: NDArray[np.str_] | None = None,
        contents_alike: NDArray[np.int64] | None = None,
    ) -> None:
        self.items, self.table = items, table
        self.pixels = pixels
        self.transform = replace(transform, fill=tuple(float(round(255 * value)) for value in mean))
        self.groups, self.contents_alike = groups, contents_alike
        if not transform.whole:
            sides = np.array([item.size for item in items], np.int64).reshape(-1, 2)
            self.shapes = np.unique(sides, axis=0, return_inverse=True)[1].reshape(-1)
            self.positions = sides.prod(1)
        self._offset = torch.tensor(mean).view(-1, 1, 1) * 255
        self._scale = 1 / (torch.tensor(std).view(-1, 1, 1) * 255)
        self.levels = Levels(self._offset.flatten(), self._scale.flatten())
        self._decoded: dict[int, tuple[Pixels, Pixels]] = {}  # for training
        self._shown: dict[int, tuple[Tensor, Tensor]] = {}  # in evaluation, uint8
        self._room = {"train": KEPT_BYTES, "test": KEPT_BYTES}

    def __len__(self) -> int:
        return len(self.items)

    def name_of(self, item: int) -> str:
        return self.items[item].name

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        wanted = self.checked(items)
        if augment is None:
            found = [self._evaluated(item) for item in wanted.tolist()]
            if len({image.shape for image, _ in found}) > 1:
                raise ValueError("wanted items of one size in a batch, as `shapes` says; got several")
        else:
            draws = uniforms(augment, wanted, DRAWS)
            found = [self._trained(item, row) for item, row in zip(wanted.tolist(), draws, strict=True)]
        images = torch.stack([self._normalised(image) for image, _ in found])
        masks = torch.stack([mask for _, mask in found]).long()
        return Batch(images, {"mask": masks}, torch.from_numpy(wanted))

    def prepare(self, source: Any) -> Tensor:
        """A file or PIL image of any size as a sample (3, H, W): whole, at a scale of 1, nothing beside it.

        Raises: ValueError: if it cannot be read.
        """
        pixels = np.array(read_image(source))
        height, width = self.transform.fitted(*pixels.shape[:2])
        alone = replace(self.transform, size=(height, width))
        return self._normalised(alone.evaluate(joint_sample(pixels))["image"])

    def _normalised(self, image: Tensor) -> Tensor:
        return image.as_subclass(Tensor).float().sub_(self._offset).mul_(self._scale)

    def _evaluated(self, item: int) -> tuple[Tensor, Tensor]:
        if item in self._shown:
            return self._shown[item]
        sample = self.transform.evaluate(self._sample(*self._read(item, None)))
        found = _plain(sample)
        if self._fits("test", found):
            self._shown[item] = found
        return found

    def _trained(self, item: int, draws: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        pair = self._decoded.get(item)
        if pair is None:
            pair = self._read(item, self.transform.factor(*self.items[item].size) * self.transform.scales[1])
            if self._fits("train", pair):
                self._decoded[item] = pair
        return _plain(self.transform.train(self._sample(*pair), draws))

    def _sample(self, image: Pixels, mask: Pixels) -> Sample:
        return joint_sample(image, mask=mask)

    def _fits(self, part: str, arrays: Sequence[Any]) -> bool:
        """Is there room for them? Takes it."""
        size = sum(int(array.nbytes) for array in arrays)
        if size > self._room[part]:
            return False
        self._room[part] -= size
        return True

    def _read(self, item: int, most: float | None) -> tuple[Pixels, Pixels]:
        """Image (H, W, 3) and mask (H, W); where the image is never shown larger than `most` times its size and that is
        less than half of it, both at that size."""
        one = self.items[item]
        smaller = most is not None and most < 0.5
        height, width = (max(1, round(side * most)) if smaller and most else side for side in one.size)
        try:
            image = read_image(one.image, min(height, width) if smaller else None)
            codes, _ = one.mask.read(colours=self.table.of_colours)
            mask = self.table.translated(codes)
        except ValueError as error:
            shown = str(error) if str(error).startswith(str(one.image)) else f"{one.mask.path}: {error}"
            raise ValueError(f"{shown}; it could be read when the data were checked") from None
        if smaller:
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            mask = nearest(mask[None], (height, width))[0]
        return np.array(image), mask


def _plain(sample: Sample) -> tuple[Tensor, Tensor]:
    return sample["image"].as_subclass(Tensor), sample["mask"].as_subclass(Tensor)
