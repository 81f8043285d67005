"""Class activation maps: from the features of a layer and the gradient of a score to a weight for each position.

Every function takes features (N, C, *S) and gradients of the same shape and gives (N, *S), not yet cut at 0 or scaled.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}  # interpolation by the number of spatial axes


def grad_cam(features: Tensor, gradients: Tensor) -> Tensor:
    """Features weighted by the mean gradient of each channel.

    Source: Selvaraju et al., "Grad-CAM", ICCV 2017, arXiv:1610.02391.
    """
    return (_mean(gradients) * features).sum(1)


def grad_cam_plus_plus(features: Tensor, gradients: Tensor) -> Tensor:
    """Features weighted by positive gradients, each position of a channel by its own share (equation 19).

    Source: Chattopadhay et al., "Grad-CAM++", WACV 2018, arXiv:1710.11063.
    """
    squared = gradients.square()
    total = features.sum(_positions(features), keepdim=True)
    shares = squared / (2 * squared + total * squared * gradients + 1e-6)
    shares = torch.where(gradients != 0, shares, 0)
    return ((gradients.clamp_min(0) * shares).sum(_positions(features), keepdim=True) * features).sum(1)


def hires_cam(features: Tensor, gradients: Tensor) -> Tensor:
    """Features times gradients, position by position.

    Source: Draelos, Carin, "Use HiResCAM instead of Grad-CAM", 2020, arXiv:2011.08891.
    """
    return (gradients * features).sum(1)


def layer_cam(features: Tensor, gradients: Tensor) -> Tensor:
    """Features times positive gradients, position by position.

    Source: Jiang et al., "LayerCAM", IEEE Transactions on Image Processing 30, 2021.
    """
    return (gradients.clamp_min(0) * features).sum(1)


def eigen_cam(features: Tensor, gradients: Tensor | None = None) -> Tensor:
    """The features' projection on their first principal component; no class, no gradient.

    Sources: Muhammad, Yeasin, "Eigen-CAM", IJCNN 2020, arXiv:2008.00299. The sign of a component is arbitrary; it is
    taken so that the largest value is positive, as Chung, Ying, "Seg-Eigen-CAM", Applied Sciences 15, 2025, do.
    """
    rows = features.flatten(2).mT.nan_to_num(0.0)  # (N, positions, C)
    rows = rows - rows.mean(1, keepdim=True)
    axis = torch.linalg.svd(rows, full_matrices=False).Vh[:, 0]
    found = torch.einsum("npc,nc->np", rows, axis)
    flipped = found.amin(1).abs() > found.amax(1).abs()
    return torch.where(flipped[:, None], -found, found).unflatten(1, features.shape[2:])


@dataclass(frozen=True)
class Method:
    """How a map is made. gradients: does it take those of a score?"""

    function: Callable[[Tensor, Tensor], Tensor]
    gradients: bool = True


METHODS = {
    "gradcam": Method(grad_cam),
    "gradcam++": Method(grad_cam_plus_plus),
    "hirescam": Method(hires_cam),
    "layercam": Method(layer_cam),
    "eigencam": Method(eigen_cam, gradients=False),
}


def scaled(maps: Tensor) -> Tensor:
    """(N, *S), each between 0 and 1; a constant map is 0."""
    low = maps.amin(_positions(maps, 1), keepdim=True)
    maps = maps - low
    return maps / (maps.amax(_positions(maps, 1), keepdim=True) + 1e-7)


def enlarged(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """(N, *s) → (N, *size), linearly interpolated."""
    return F.interpolate(maps[:, None], size, mode=LINEAR[len(size)], align_corners=False)[:, 0]


def _positions(x: Tensor, first: int = 2) -> tuple[int, ...]:
    return tuple(range(first, x.dim()))


def _mean(gradients: Tensor) -> Tensor:
    return gradients.mean(_positions(gradients), keepdim=True)
