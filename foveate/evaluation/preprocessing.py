"""From an image file to what a network was published with: resize, crop, mean, deviation."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveate.data.photos import MEAN, STD
from foveate.networks import usual_shape

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
SMALL = 96  # pixels; sets of images no larger than this are shown as they are
CROP = 0.875
_CAFFE = {"mean": tuple(v / 255 for v in (123.0, 117.0, 104.0)), "std": (1 / 255,) * 3}
_OF_SOURCE = {  # of weights that want another preprocessing than their network is known for
    "google-coral/test_data": {"mean": (0.5,) * 3, "std": (0.5,) * 3},
    "songhan/SqueezeNet-Deep-Compression": {"image_size": 227, "crop_pct": 227 / 256, "nearest": True, **_CAFFE},
}


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before the network sees it.

    image_size: of the central square that is shown, in pixels. crop_pct: its side as a share of the short side that the
    image is resized to before. interpolation: nearest, bilinear, bicubic or lanczos, over the pixels that are merged.
    mean, std: pixels are (v/255 − mean)/std a channel. bgr: blue comes first. squash: both sides are resized to the
    same, whatever the shape was. nearest: the long side is rounded to the nearest pixel, and an odd pixel of the margin
    is left on the right; else fractions of the side are cut off and halves go to the even, as torchvision has it.
    """

    image_size: int = 224
    crop_pct: float = CROP
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    bgr: bool = False
    squash: bool = False
    nearest: bool = False

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"image size: wanted at least 1 pixel; got {self.image_size}")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop: wanted a share of the resized image, above 0 and up to 1; got {self.crop_pct}")
        if self.interpolation not in FILTERS:
            raise ValueError(f"interpolation: wanted {', '.join(FILTERS)}; got {self.interpolation!r}")
        if len(self.mean) != len(self.std) or not self.mean or min(self.std) <= 0:
            raise ValueError(
                f"mean and std: wanted as many of each, deviations above 0; got {list(self.mean)} and {list(self.std)}"
            )

    @property
    def rim(self) -> int:
        """What the short side is resized to; 227 / (227 / 256) is 256, whatever its last binary digit is."""
        return math.floor(self.image_size / self.crop_pct + 1e-6)

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """(H, W, 3) of the central square, both sides `image_size`."""
        rim, side = self.rim, self.image_size
        short = min(image.size)
        if self.squash:
            size = (rim, rim)
        else:
            whole = round if self.nearest else int
            width, height = (rim if length == short else whole(rim * length / short) for length in image.size)
            size = (width, height)
        if size != image.size:
            image = image.resize(size, FILTERS[self.interpolation])
        halve = math.floor if self.nearest else round
        left, top = halve((size[0] - side) / 2), halve((size[1] - side) / 2)
        return np.asarray(image.crop((left, top, left + side, top + side)))

    def __str__(self) -> str:
        numbers = (", ".join(f"{v:.4g}" for v in values) for values in (self.mean, self.std))
        how = "squashed to" if self.squash else "short side to"
        resized = f"{how} {self.rim} ({self.interpolation})"
        order = ", blue first" if self.bgr else ""
        return f"{resized}, centre {self.image_size}, mean {next(numbers)}, std {next(numbers)}{order}"


def published(network: str, source: str | None = None, weights: str = "") -> Preprocessing:
    """What the network was published with, as far as its library knows; ImageNet's usual for all others.

    Args:
        network: as `build_network` takes it.
        source: of the weights, where `foveate.official` knows it.
        weights: name of their file, by which torchvision tells its releases.
    """
    if source in _OF_SOURCE:
        return Preprocessing(**_OF_SOURCE[source])  # type: ignore[arg-type]
    library, _, name = network.rpartition(":")
    if library == "timm":
        return _of_timm(name)
    if library == "torchvision":
        return _of_torchvision(name, weights)
    if library in ("", "foveate"):
        *_, side = usual_shape(name)
        return Preprocessing(image_size=side, crop_pct=CROP if side > SMALL else 1.0)
    return Preprocessing()


def _of_timm(name: str) -> Preprocessing:
    from timm.data import resolve_data_config
    from timm.models import get_pretrained_cfg

    found = get_pretrained_cfg(name)
    known = resolve_data_config(pretrained_cfg=found.to_dict() if found else {})
    return Preprocessing(
        image_size=known["input_size"][-1],
        crop_pct=known["crop_pct"],
        interpolation=known["interpolation"] if known["interpolation"] in FILTERS else "bicubic",
        mean=tuple(known["mean"]),
        std=tuple(known["std"]),
        squash=known["crop_mode"] == "squash",
    )


def _of_torchvision(name: str, weights: str) -> Preprocessing:
    import torchvision

    releases = list(torchvision.models.get_model_weights(name))
    if not releases:
        return Preprocessing()
    chosen = next((release for release in releases if weights and release.url.endswith(f"/{weights}")), releases[0])
    known = chosen.transforms()
    if not hasattr(known, "resize_size"):
        return Preprocessing()
    return Preprocessing(
        image_size=known.crop_size[0],
        crop_pct=known.crop_size[0] / known.resize_size[0],
        interpolation=known.interpolation.value,
        mean=tuple(known.mean),
        std=tuple(known.std),
    )
