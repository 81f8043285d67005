"""Changes of an image together with its mask, boxes and instance masks: one geometry for all, colour for the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foveate.data.dataset import IGNORED

TRIES = 10  # places of a crop that are looked at before the last is taken
DRAWS = 8 + 2 * TRIES  # numbers from [0, 1) that one sample's changes are made of
LEAST_VISIBLE = 0.2  # share of a box that must be in the crop, or its object is left out
MOVED = {"image", "mask", "boxes", "masks"}  # entries of a sample that have a geometry
Sample = dict[str, Any]


def joint_sample(
    image: NDArray[np.uint8],
    *,
    mask: NDArray[Any] | None = None,
    boxes: NDArray[Any] | None = None,
    labels: NDArray[np.int64] | None = None,
    masks: NDArray[Any] | None = None,
) -> Sample:
    """What a `JointTransform` takes: tv_tensors by name.

    Args:
        image: (H, W, C).
        mask: (H, W) class numbers, `IGNORED` where nothing is known.
        boxes: (n, 4), x0 y0 x1 y1 in pixels; x1 and y1 just outside.
        labels: (n,) of the objects.
        masks: (n, H, W), 1 on each object.
    """
    from torchvision import tv_tensors

    size = (image.shape[0], image.shape[1])
    sample: Sample = {"image": tv_tensors.Image(torch.tensor(image).permute(2, 0, 1))}
    if mask is not None:
        sample["mask"] = tv_tensors.Mask(torch.tensor(mask))
    if boxes is not None:
        corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        sample["boxes"] = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=size)
    if labels is not None:
        sample["labels"] = torch.tensor(labels)
    if masks is not None:
        sample["masks"] = tv_tensors.Mask(torch.tensor(masks).reshape(-1, *size))
    return sample


@dataclass(frozen=True)
class JointTransform:
    """A random scale, crop, mirror image and colour of a sample of any size, by numbers that the caller draws.

    Attributes:
        size: (height, width) of what comes out of training, and of evaluation if `whole`.
        whole: a scale of 1 shows the whole image, as large as it fits into `size`, its shape unchanged; else the image
            at its own size, and evaluation shows it so.
        scales: the smallest and the largest scale; those between are drawn so that halving is as likely as doubling.
        flip: half of the samples are mirrored.
        colour: brightness, contrast and saturation change by up to this share each.
        largest_share: of one class among the known pixels of a crop; another crop is looked for, `TRIES` times in all.
            None: any crop will do that has a known pixel.
        fill: value of each channel, 0 to 255, where there is no image; masks are `IGNORED` there.

    Source: random scale, crop with a bound on one class, mirror image and colour as in MMSegmentation's training of
    SegFormer (Xie et al., "SegFormer", 2021, arXiv:2105.15203); there the scale is drawn evenly from 0.5 to 2.
    """

    size: tuple[int, int]
    whole: bool = True
    scales: tuple[float, float] = (0.5, 2.0)
    flip: bool = True
    colour: float = 0.3
    largest_share: float | None = None
    fill: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        low, high = self.scales
        if not 0 < low <= high:
            raise ValueError(f"scales: wanted the smallest and the largest, above 0; got {list(self.scales)}")
        if not 0 <= self.colour < 1:
            raise ValueError(f"colour: wanted a share from 0 to below 1; got {self.colour}")
        if self.largest_share is not None and not 0 < self.largest_share <= 1:
            raise ValueError(f"largest_share: wanted a share above 0 and up to 1; got {self.largest_share}")

    def __str__(self) -> str:
        low, high = self.scales
        words = [f"scale {low:g} to {high:g}" * (low != 1 or high != 1), "crops", "mirror images" * self.flip]
        words.append(f"brightness, contrast and saturation by up to {self.colour:.0%}" * (self.colour > 0))
        if self.largest_share is not None:
            words.append(f"at most {self.largest_share:.0%} of one class in a crop where one is found")
        return ", ".join(word for word in words if word)

    def train(self, sample: Mapping[str, Any], draws: NDArray[np.float64]) -> Sample:
        """The sample changed at random, in `size`; objects of which too little is left are left out.

        Args:
            sample: of `joint_sample`.
            draws: (DRAWS,) numbers from [0, 1): the same give the same sample.
        """
        height, width = sample["image"].shape[-2:]
        low, high = self.scales
        factor = self.factor(height, width) * low * (high / low) ** draws[0]
        part = tuple(
            min(own, max(1, round(side / factor))) for own, side in zip((height, width), self.size, strict=True)
        )
        top, left = self._corner(sample.get("mask"), (height, width), (part[0], part[1]), draws)
        shown = [
            side if cut < own else min(side, max(1, round(own * factor)))
            for own, cut, side in zip((height, width), part, self.size, strict=True)
        ]
        margins = [side - inner for side, inner in zip(self.size, shown, strict=True)]
        above, before = (int(draw * (margin + 1)) for draw, margin in zip(draws[5:7], margins, strict=True))
        pads = [before, above, margins[1] - before, margins[0] - above]
        changed = _moved(sample, (top, left, *part), shown, self.flip and draws[1] < 0.5)
        if self.colour:
            changed["image"] = _recoloured(changed["image"], 1 + self.colour * (2 * draws[2:5] - 1))
        return _visible(sample, _padded(changed, pads, self.fill), shown[0] / part[0] * shown[1] / part[1])

    def evaluate(self, sample: Mapping[str, Any]) -> Sample:
        """The whole sample: in `size`, what is left over below and on the right; or at its own size."""
        height, width = sample["image"].shape[-2:]
        if not self.whole:
            return dict(sample)
        shown = self.fitted(height, width)
        pads = [0, 0, self.size[1] - shown[1], self.size[0] - shown[0]]
        return _padded(_moved(sample, (0, 0, height, width), shown, False), pads, self.fill)

    def factor(self, height: int, width: int) -> float:
        """What an image of this size is enlarged by at a scale of 1."""
        return min(self.size[0] / height, self.size[1] / width) if self.whole else 1.0

    def fitted(self, height: int, width: int) -> list[int]:
        """(height, width) of an image of this size at a scale of 1."""
        factor = self.factor(height, width)
        return [max(1, round(height * factor)), max(1, round(width * factor))]

    def _corner(
        self, mask: Any, own: tuple[int, int], part: tuple[int, int], draws: NDArray[np.float64]
    ) -> tuple[int, int]:
        """Top and left of the crop."""
        places = [
            (int(y * (own[0] - part[0] + 1)), int(x * (own[1] - part[1] + 1)))
            for y, x in draws[8 : 8 + 2 * TRIES].reshape(-1, 2)
        ]
        if mask is None or part == own:
            return places[0]
        values = np.asarray(mask)
        for top, left in places:
            if self._good(values[top : top + part[0], left : left + part[1]]):
                return top, left
        top, left = places[-1]
        if (values[top : top + part[0], left : left + part[1]] != IGNORED).any():
            return top, left
        known = np.flatnonzero(values != IGNORED)
        if not len(known):
            return top, left
        y, x = divmod(int(known[int(draws[7] * len(known))]), own[1])
        return min(max(0, y - part[0] // 2), own[0] - part[0]), min(max(0, x - part[1] // 2), own[1] - part[1])

    def _good(self, values: NDArray[Any]) -> bool:
        known = values[values != IGNORED]
        if self.largest_share is None:
            return bool(known.size)
        return bool(known.size) and np.bincount(known).max() <= self.largest_share * known.size


def _moved(sample: Mapping[str, Any], crop: tuple[int, ...], size: Sequence[int], mirrored: bool) -> Sample:
    """Cropped (top, left, height, width), resized, mirrored: every entry alike."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as F
    from torchvision.tv_tensors import Mask, wrap

    found = dict(sample)
    for name in MOVED & sample.keys():
        value = F.crop(sample[name], *crop)
        if list(crop[2:]) != list(size) and isinstance(value, Mask):
            # torchvision's own resize of masks takes the pixel before the one at the centre
            planes = value.reshape(-1, 1, *value.shape[-2:])
            planes = F.resize_image(planes, list(size), interpolation=InterpolationMode.NEAREST_EXACT)
            value = wrap(planes.reshape(*value.shape[:-2], *size), like=value)
        elif list(crop[2:]) != list(size):
            value = F.resize(value, list(size), antialias=True)
        found[name] = F.horizontal_flip(value) if mirrored else value
    return found


def _padded(sample: Mapping[str, Any], pads: list[int], fill: Sequence[float]) -> Sample:
    """With a rim (left, top, right, bottom)."""
    from torchvision.transforms.v2 import functional as F

    found = dict(sample)
    for name in MOVED & sample.keys() if any(pads) else ():
        beside: Any = {"image": list(fill), "mask": IGNORED}.get(name, 0)
        found[name] = F.pad(sample[name], pads, fill=beside)
    return found


def _recoloured(image: Any, factors: NDArray[np.float64]) -> Any:
    """Brightness, contrast and saturation times these factors; a grey image has no saturation."""
    from torchvision.transforms.v2 import functional as F

    image = F.adjust_brightness(image, float(factors[0]))
    image = F.adjust_contrast(image, float(factors[1]))
    return F.adjust_saturation(image, float(factors[2])) if image.shape[0] == 3 else image


def _visible(before: Mapping[str, Any], after: Sample, growth: float) -> Sample:
    """Without the objects of whose box less than `LEAST_VISIBLE` is left; growth: of an area that is all there."""
    if "boxes" not in after:
        return after
    from torchvision.tv_tensors import wrap

    areas = [torch.as_tensor((box[:, 2:] - box[:, :2]).prod(1)) for box in (before["boxes"], after["boxes"])]
    stays = areas[1] > LEAST_VISIBLE * growth * areas[0]
    for name in ("boxes", "labels", "masks"):
        if name in after:
            kept = after[name][stays]
            after[name] = kept if name == "labels" else wrap(kept, like=after[name])
    return after
