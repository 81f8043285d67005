"""Photos: image files of any size and kind → normalised RGB batches, decoded when a batch needs them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from foveate.data.augmentation import uniforms
from foveate.data.dataset import Batch, Content, Levels, Split
from foveate.data.decode import read_image
from foveate.data.pixel_cache import PixelCache
from foveate.data.transforms import MEAN, STD, Preprocessing

LEAST_AREA, LEAST_RATIO = 0.25, 3 / 4  # of a random crop
KEPT_BYTES = 128_000_000
AUGMENTATION = "a random part of each photo, mirror images"
Box = tuple[float, float, float, float]


def random_part(size: tuple[int, int], draws: NDArray[np.float64]) -> Box:
    """A random part of an image (width, height): at least a quarter of it, its sides 3:4 to 4:3 where that fits.

    Source: Szegedy et al., "Going Deeper with Convolutions", 2015, arXiv:1409.4842; they take 8 % and more, which suits
    ImageNet's million photos better than small sets.
    """
    area = size[0] * size[1] * (LEAST_AREA + (1 - LEAST_AREA) * draws[0])
    ratio = LEAST_RATIO ** (1 - 2 * draws[1])
    width = min((area * ratio) ** 0.5, size[0])
    height = min((area / ratio) ** 0.5, size[1])
    left, top = draws[2] * (size[0] - width), draws[3] * (size[1] - height)
    return left, top, min(left + width, size[0]), min(top + height, size[1])


class Photos(Split):
    """Image files with their classes. Augmentation: a random part of the photo, and half of them mirrored.

    Args:
        contents: n: paths, contents of files, or pixels (H, W, 3).
        labels: (n,) class numbers: the target "label".
        preprocessing: of evaluation; its size, mean and deviation are those of training as well.
        names: n: what each is called.
        channels: 3, or 1 for grey.
        was_checked: are they of a study, whose files were all checked? Errors say so, and evaluation, which comes again
            after each epoch, keeps what it decoded, up to 128 MB.
        groups, contents_alike: as `Split` has them.
        fingerprint: of all names and contents of the set, by which decoded photos are kept on the disk (`PixelCache`);
            "": they are not. Of training it is the photo as it was decoded, before a part of it is drawn, so that the
            drawn part is the same with and without; of evaluation it is the square that is shown.
    """

    def __init__(
        self,
        contents: Sequence[Content],
        labels: NDArray[np.int64],
        preprocessing: Preprocessing,
        *,
        names: Sequence[str],
        channels: int = 3,
        was_checked: bool = False,
        groups: NDArray[np.str_] | None = None,
        contents_alike: NDArray[np.int64] | None = None,
        fingerprint: str = "",
    ) -> None:
        self.contents, self.names, self.preprocessing = contents, names, preprocessing
        self.channels, self.was_checked = channels, was_checked
        self.groups, self.contents_alike = groups, contents_alike
        self.labels = self.strata = np.asarray(labels, np.int64)
        side = preprocessing.image_size
        self._room = KEPT_BYTES // (side * side * channels) if was_checked else 0
        self._kept: dict[int, NDArray[np.uint8]] = {}  # what evaluation shows of an item
        decoder = f"{fingerprint} Pillow {PIL.__version__}"
        self._decoded = PixelCache(f"{decoder} decoded for {side}") if fingerprint else None
        shown = replace(preprocessing, mean=MEAN, std=STD)  # which pixels do not depend on
        self._squares = PixelCache(f"{decoder} {shown!r} {channels}") if fingerprint else None
        self._offset = torch.tensor(preprocessing.mean).view(1, -1, 1, 1) * 255
        self._scale = 1 / (torch.tensor(preprocessing.std).view(1, -1, 1, 1) * 255)
        self.levels = Levels(self._offset.flatten(), self._scale.flatten(), preprocessing.bgr)

    def __len__(self) -> int:
        return len(self.labels)

    def name_of(self, item: int) -> str:
        return self.names[item]

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        wanted = self.checked(items)
        draws = None if augment is None else uniforms(augment, wanted, 5)
        side = self.preprocessing.image_size
        pixels = np.empty((len(wanted), side, side, self.channels), np.uint8)
        for place, item in enumerate(wanted):
            pixels[place] = self._one(int(item), None if draws is None else draws[place])
        return Batch(
            self._normalised(pixels), {"label": torch.from_numpy(self.labels[wanted])}, torch.from_numpy(wanted)
        )

    def prepare(self, source: Any) -> Tensor:
        """A file or PIL image as a sample (C, H, W) of evaluation. Raises: ValueError: if it cannot be read."""
        pixels = self.preprocessing.pixels(self._coloured(read_image(source)))
        return self._normalised(np.stack([pixels]))[0]

    def prepare_whole(self, source: Any) -> Tensor:
        """The same at its own size, nothing cut off or resized."""
        pixels = self.preprocessing.in_order(self._coloured(read_image(source)))
        return self._normalised(np.stack([pixels]))[0]

    def _one(self, item: int, draws: NDArray[np.float64] | None) -> NDArray[np.uint8]:
        if draws is None:
            return self._square(item)
        side = self.preprocessing.image_size
        kept = None if self._decoded is None else self._decoded.get(self.names[item])
        if kept is None:
            image = self._read(item, 4 * side)  # pixels of a JPEG's short side: nothing that is shown is lost
            if self._decoded is not None:
                self._decoded.add(self.names[item], np.asarray(image))
        else:
            image = Image.fromarray(kept)
        image = self._coloured(image)
        box = random_part(image.size, draws)
        shown = self.preprocessing.in_order(image.resize((side, side), Image.Resampling.BILINEAR, box=box))
        return shown[:, ::-1] if draws[4] < 0.5 else shown

    def _square(self, item: int) -> NDArray[np.uint8]:
        """What evaluation shows of an item."""
        if item in self._kept:
            return self._kept[item]
        pixels = None if self._squares is None else self._squares.get(self.names[item])
        if pixels is None:
            pixels = np.array(self.preprocessing.pixels(self._coloured(self._read(item, None))))
            if self._squares is not None:
                self._squares.add(self.names[item], pixels)
        if len(self._kept) < self._room:
            self._kept[item] = pixels
        return pixels

    def _read(self, item: int, least: int | None) -> Image.Image:
        content = self.contents[item]
        try:
            return read_image(content, least, self.names[item] if isinstance(content, bytes) else "")
        except ValueError as error:
            if not self.was_checked:
                raise
            raise ValueError(f"{error}; it could be read when the data were checked") from None

    def _coloured(self, image: Image.Image) -> Image.Image:
        return image.convert("L") if self.channels == 1 else image

    def _normalised(self, pixels: NDArray[np.uint8]) -> Tensor:
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().contiguous()
        return x.sub_(self._offset).mul_(self._scale)
