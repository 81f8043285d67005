"""Does a map lie on the object? Numbers for maps of images whose objects have masks or boxes."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from foveate.explaining import COVERAGE, ENERGY, IOU, POINTING

DRAWS = 2000  # of the items, for an interval
NOTHING = 1e-6  # a map that stays below it covers nothing


def localise(maps: Tensor, objects: Tensor, *, threshold: float = 0.5, tolerance: int = 0) -> dict[str, Tensor]:
    """{metric: (N,)}; nan where an image has no object.

    pointing game: is the map's maximum on the object (Zhang et al., "Top-down Neural Attention by Excitation Backprop",
    ECCV 2016, arXiv:1608.00507)? energy inside: the share of the map's sum that lies on the object (Wang et al.,
    "Score-CAM", 2020, arXiv:1910.01279). coverage: the share of the object where the map reaches the threshold. map
    IoU: intersection over union of that part of the map and the object.

    Coverage rises with the part of the image that a map fills; the other three do not rise with it alone.

    Args:
        maps: (N, H, W), 0 to 1.
        objects: bool (N, H, W).
        threshold: share of a map's maximum.
        tolerance: pixels by which the maximum may lie beside the object.

    Raises: ValueError: shapes that differ, or a threshold outside 0 to 1.
    """
    if maps.shape != objects.shape or maps.dim() != 3:
        raise ValueError(f"wanted maps and objects (N, H, W); got {tuple(maps.shape)} and {tuple(objects.shape)}")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: wanted above 0, at most 1; got {threshold}")
    inside = objects.flatten(1).bool()
    flat = maps.flatten(1).float()
    near = inside
    if tolerance:
        side = 2 * tolerance + 1
        near = F.max_pool2d(objects[:, None].float(), side, 1, tolerance)[:, 0].flatten(1) > 0
    top = flat.amax(1, keepdim=True)
    above = (flat >= threshold * top) & (top > NOTHING)
    area = inside.sum(1)
    nothing = torch.where(area > 0, 0.0, torch.nan)
    both = (above & inside).sum(1)
    return {
        POINTING: near.gather(1, flat.argmax(1, keepdim=True))[:, 0].float() + nothing,
        ENERGY: (flat * inside).sum(1) / flat.sum(1).clamp_min(1e-12) + nothing,
        COVERAGE: both / area.clamp_min(1) + nothing,
        IOU: both / (above | inside).sum(1).clamp_min(1) + nothing,
    }


def by_chance(objects: Sequence[Tensor]) -> dict[str, float]:
    """What maps that know nothing reach: the pointing game of a random position, and of the middle of the image; the
    energy of a map that is the same everywhere.

    Args:
        objects: bool (N, H, W) each; images without an object are left out.
    """
    there = [one[one.flatten(1).any(1)] for one in objects]
    area = torch.cat([one.flatten(1).float().mean(1) for one in there])
    middle = torch.cat([one[:, one.shape[1] // 2, one.shape[2] // 2].float() for one in there])
    return {
        f"{POINTING}, a random position": area.mean().item(),
        f"{POINTING}, the middle of the image": middle.mean().item(),
        f"{ENERGY}, a map without structure": area.mean().item(),
    }


def object_masks(targets: Mapping[str, object], size: Sequence[int]) -> Tensor:
    """bool (N, H, W) of a batch's targets: where its "mask" is neither 0 nor unknown, or inside its "boxes" or "box".

    Raises: ValueError: the targets have none of them.
    """
    mask, boxes = targets.get("mask"), targets.get("boxes", targets.get("box"))
    if isinstance(mask, Tensor):
        return (mask > 0) & (mask != 255)
    if isinstance(boxes, Tensor):  # (N, 4), or (N, 4 · k) of several
        return torch.stack([_filled(one.reshape(-1, 4), size) for one in boxes])
    if isinstance(boxes, Sequence):
        return torch.stack([_filled(one["boxes"], size) for one in boxes])
    raise ValueError(f"wanted targets with masks or boxes of the objects; got {', '.join(targets) or 'none'}")


def _filled(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """A pixel belongs to a box that covers its middle."""
    rows = torch.arange(size[0], device=boxes.device)[None, :, None] + 0.5
    columns = torch.arange(size[1], device=boxes.device)[None, None, :] + 0.5
    x0, y0, x1, y1 = (side[:, None, None] for side in boxes.float().unbind(1))
    return ((columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1)).any(0)


def mean_interval(values: NDArray[np.floating] | Tensor, level: float = 0.95) -> tuple[float, float, float]:
    """Mean, and its interval over images: percentiles of means of images drawn anew, with fixed random numbers.

    Images without a value (nan) are left out. Raises: ValueError: there is no value.
    """
    kept = np.asarray(values, np.float64).reshape(-1)
    kept = kept[np.isfinite(kept)]
    if not len(kept):
        raise ValueError("wanted values of images; got none")
    drawn = np.random.Generator(np.random.PCG64(0)).integers(0, len(kept), (DRAWS, len(kept)))
    low, high = np.quantile(kept[drawn].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(kept.mean()), float(low), float(high)
