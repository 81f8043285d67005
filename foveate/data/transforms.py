"""From an image to what a network takes: resize, crop, order of the channels, mean, deviation; and what each released
network was published with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from foveate.networks import usual_shape

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which most pretrained networks expect
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
SMALL = 96  # pixels; sets of images no larger than this are shown as they are
SIDE = 224  # pixels of photos, where a study gives no size
CROP = 0.875
LINEAR = "linear"  # without averaging, as OpenCV's INTER_LINEAR


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before the network sees it.

    Attributes:
        image_size: side of the central square that is shown, in pixels.
        crop_pct: this side as a share of the short side that the image is resized to before.
        interpolation: nearest, bilinear, bicubic or lanczos, which average where an image becomes smaller (Pillow); or
            linear, between the four nearest pixels alone (OpenCV).
        mean, std: a value is (v / 255 − mean) / std, of each channel in the network's order.
        bgr: blue comes first.
        squash: both sides are resized to the same, whatever the shape was.
        nearest: the long side is rounded to the nearest pixel and an odd pixel of the margin is left on the right; else
            fractions of the side are cut off and halves go to the even pixel, as torchvision has it.
        known: False: nothing is known of the network's own preprocessing, and these are ImageNet's usual values.
    """

    image_size: int = SIDE
    crop_pct: float = CROP
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    bgr: bool = False
    squash: bool = False
    nearest: bool = False
    known: bool = field(default=True, compare=False)

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"image size: wanted at least 1 pixel; got {self.image_size}")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop: wanted a share of the resized image, above 0 and up to 1; got {self.crop_pct}")
        if self.interpolation not in (*FILTERS, LINEAR):
            raise ValueError(f"interpolation: wanted {', '.join(FILTERS)}, {LINEAR}; got {self.interpolation!r}")
        if len(self.mean) != len(self.std) or not self.mean or min(self.std) <= 0:
            raise ValueError(
                f"mean and std: wanted as many of each, deviations above 0; got {list(self.mean)} and {list(self.std)}"
            )

    @classmethod
    def square(
        cls,
        where: Path,
        size: tuple[int, ...] | None,
        crop_pct: float,
        interpolation: str,
        mean: Sequence[float],
        std: Sequence[float],
        bgr: bool,
    ) -> "Preprocessing":
        """That of photos in a study: RGB or BGR squares of `size`, 224 pixels where it is None.

        Raises: ValueError: if the size is no square, or a value is out of its range.
        """
        size = size or (SIDE, SIDE)
        if len(size) != 2 or size[0] != size[1]:
            raise ValueError(f"{where}: photos become square images; wanted one side such as 224; got {list(size)}")
        if len(mean) != 3 or len(std) != 3:
            raise ValueError(f"mean and std: wanted three numbers each; got {list(mean)} and {list(std)}")
        return cls(size[0], crop_pct, interpolation, tuple(mean), tuple(std), bgr)

    @property
    def rim(self) -> int:
        """What the short side is resized to; 227 / (227 / 256) is 256, whatever its last binary digit is."""
        return math.floor(self.image_size / self.crop_pct + 1e-6)

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """(H, W, C) of the central square, both sides `image_size`; grey images have one channel."""
        rim, side = self.rim, self.image_size
        short = min(image.size)
        if self.squash:
            size = (rim, rim)
        else:
            whole = round if self.nearest else int
            width, height = (rim if length == short else whole(rim * length / short) for length in image.size)
            size = (width, height)
        if size != image.size:
            image = _linear(image, size) if self.interpolation == LINEAR else image.resize(size, self._filter)
        halve = math.floor if self.nearest else round
        left, top = halve((size[0] - side) / 2), halve((size[1] - side) / 2)
        return self.in_order(image.crop((left, top, left + side, top + side)))

    def in_order(self, image: Image.Image) -> NDArray[np.uint8]:
        """The pixels (H, W, C) with the channels in the network's order."""
        pixels = np.asarray(image)
        return pixels[:, :, None] if pixels.ndim == 2 else pixels[:, :, ::-1] if self.bgr else pixels

    @property
    def _filter(self) -> Image.Resampling:
        return FILTERS[self.interpolation]

    def __str__(self) -> str:
        numbers = (", ".join(f"{v:.4g}" for v in values) for values in (self.mean, self.std))
        how = "squashed to" if self.squash else "short side to"
        resized = f"{how} {self.rim} ({self.interpolation})"
        order = ", blue first" if self.bgr else ""
        return f"{resized}, centre {self.image_size}, mean {next(numbers)}, std {next(numbers)}{order}"


def _linear(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    pixels = torch.from_numpy(np.array(image)).float()
    x = pixels[None, None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)[None]
    x = torch.nn.functional.interpolate(x, (size[1], size[0]), mode="bilinear").round()[0]
    x = x[0] if pixels.dim() == 2 else x.permute(1, 2, 0)
    return Image.fromarray(x.to(torch.uint8).contiguous().numpy())


_CAFFE: dict[str, Any] = {"mean": tuple(v / 255 for v in (123.0, 117.0, 104.0)), "std": (1 / 255,) * 3}
_CAFFE_BGR: dict[str, Any] = {**_CAFFE, "mean": _CAFFE["mean"][::-1], "bgr": True}
_OF_SOURCE: dict[str, dict[str, Any]] = {
    "google-coral/test_data": {"mean": (0.5,) * 3, "std": (0.5,) * 3},
    # the first convolution is turned to RGB when these are read
    "songhan/SqueezeNet-Deep-Compression": {"image_size": 227, "crop_pct": 227 / 256, "nearest": True, **_CAFFE},
    # mean_value 104, 117, 123 in their prototxt files; 224 from a short side of 256 (README)
    "hujie-frank/SENet": _CAFFE_BGR,
    "implus/SKNet": _CAFFE_BGR,
    # OpencvResize(256), CenterCrop(224), ToBGRTensor: 0 to 255 (train.py)
    "megvii-model/ShuffleNet-Series": {
        "interpolation": LINEAR,
        "nearest": True,
        "mean": (0.0,) * 3,
        "std": (1 / 255,) * 3,
        "bgr": True,
    },
}
_AS_TORCHVISION = {  # sources whose own training code has torchvision's preprocessing and ImageNet's mean and deviation
    "akamaster/pytorch_resnet_cifar10",
    "BangguWu/ECANet",
    "Cadene/pretrained-models.pytorch",
    "houqb/CoordAttention",
    "implus/PytorchInsight",
    "Jongchan/attention-module",
    "moskomule/senet.pytorch",
    "pytorch/vision",
    "wofmanaf/SA-Net",
}


def published(network: str, source: str | None = None, weights: str = "") -> Preprocessing:
    """What the network was published with. Where that is not known: ImageNet's usual, with `known` False.

    Args:
        network: as `build_network` takes it.
        source: of the weights, as `foveate.official` calls it.
        weights: name of their file, which torchvision's releases differ by.
    """
    if source in _OF_SOURCE:
        return Preprocessing(**_OF_SOURCE[source])
    known = source is None or source in _AS_TORCHVISION
    library, _, name = network.rpartition(":")
    if library == "timm":
        found = _of_timm(name)
    elif library == "torchvision":
        found = _of_torchvision(name, weights)
    elif library in ("", "foveate"):
        *_, side = usual_shape(name)
        found = Preprocessing(image_size=side, crop_pct=CROP if side > SMALL else 1.0)
    else:
        found = Preprocessing(known=False)
    return replace(found, known=found.known and known)


def _of_timm(name: str) -> Preprocessing:
    from timm.data import resolve_data_config
    from timm.models import get_pretrained_cfg

    found = get_pretrained_cfg(name)
    if found is None:
        return Preprocessing(known=False)
    known = resolve_data_config(pretrained_cfg=found.to_dict())
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
        return Preprocessing(known=False)
    chosen = next((release for release in releases if weights and release.url.endswith(f"/{weights}")), releases[0])
    known = chosen.transforms()
    if not hasattr(known, "resize_size"):
        return Preprocessing(known=False)
    return Preprocessing(
        image_size=known.crop_size[0],
        crop_pct=known.crop_size[0] / known.resize_size[0],
        interpolation=known.interpolation.value,
        mean=tuple(known.mean),
        std=tuple(known.std),
    )
