"""Photos on disk: any size and kind of image file → normalised RGB batches, decoded when they are asked for."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from foveate.data.chance import uniforms
from foveate.data.splits import Split

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which pretrained networks expect
SIDE = 224  # pixels
RIM = 256 / 224  # evaluation shows the middle of an image this much larger
LEAST_AREA, LEAST_RATIO = 0.25, 3 / 4  # of a random crop
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Box = tuple[float, float, float, float]


def decode(content: bytes, least: int | None = None) -> Image.Image:
    """The image in a file's bytes, upright, RGB. What is transparent becomes white; 16-bit grey keeps its upper 8 bits.

    Args:
        content: of any format that Pillow reads; of several frames, the first.
        least: a JPEG's short side may be decoded smaller, but not below this many pixels.
    Raises: ValueError: pixels of a kind without a fixed range; Pillow's own errors for what it cannot read.
    """
    opened = Image.open(BytesIO(content))
    if least is not None and opened.format == "JPEG":
        factor = least / min(opened.size)
        opened.draft(None, (int(opened.width * factor) + 1, int(opened.height * factor) + 1))
    opened.load()
    image = _rgb(opened)
    turn = _UPRIGHT.get(_orientation(opened))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a damaged note about the photo does not damage the photo
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers without a fixed range; wanted 8 or 16 bits a channel")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")


def middle(size: tuple[int, int], side: int) -> Box:
    """The part of an image (width, height) that evaluation shows: the short side resized to side · 256 / 224, of that
    the central side × side. Rounded as torchvision's Resize and CenterCrop do."""
    rim = round(side * RIM)
    short = min(size)
    width, height = (rim if length == short else int(rim * length / short) for length in size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    wide, tall = size[0] / width, size[1] / height
    return left * wide, top * tall, (left + side) * wide, (top + side) * tall


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
    """Image files. Augmentation: a random part of the photo, and half of them mirrored.

    Args:
        files: n paths.
        labels: (n,).
        side: of a batch's square images, in pixels.
    """

    def __init__(self, files: Sequence[Path], labels: NDArray[np.int64], side: int) -> None:
        self.files, self.side = tuple(files), side
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self._offset = torch.tensor(MEAN).view(1, 3, 1, 1) * 255
        self._scale = 1 / (torch.tensor(STD).view(1, 3, 1, 1) * 255)

    def batch(self, indices: Sequence[int], augment: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        wanted = self._checked(indices)
        draws = None if augment is None else uniforms(augment, wanted, 5)
        pixels = np.empty((len(wanted), self.side, self.side, 3), np.uint8)
        for place, index in enumerate(wanted):
            pixels[place] = self._one(self.files[index], None if draws is None else draws[place])
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().contiguous()
        return x.sub_(self._offset).mul_(self._scale), self.labels[torch.from_numpy(wanted)]

    def _one(self, file: Path, draws: NDArray[np.float64] | None) -> NDArray[np.uint8]:
        least = (
            2 * round(self.side * RIM) if draws is None else 4 * self.side
        )  # twice what is shown, so nothing is lost
        try:
            image = decode(file.read_bytes(), least)
        except Exception as error:
            raise ValueError(f"{file}: was whole when it was checked and cannot be read now: {error}") from None
        box = middle(image.size, self.side) if draws is None else random_part(image.size, draws)
        shown = np.asarray(image.resize((self.side, self.side), Image.Resampling.BILINEAR, box=box))
        return shown[:, ::-1] if draws is not None and draws[4] < 0.5 else shown
