"""Losses of velocity models: L1, L2, structural similarity, L1 with more weight at edges or in salt; sums of them.

SSIM: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE
Transactions on Image Processing 13, 2004; a Gaussian window of 11×11 cells (σ 1.5), over a range of 1500 to 4500 m/s.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.waves import SALT_M_S, normalised, velocities
from foveate.waves.velocity import HALF_RANGE_M_S

LOSSES = ("l1", "l2", "ssim", "edge", "salt")
WINDOW, SIGMA = 11, 1.5
SLOWEST_M_S, RANGE_M_S = 1500.0, 3000.0  # what is 0 to 1 for SSIM
EDGE_M_S = 50.0  # between neighbouring cells
WEIGHT = 2.0  # of cells at edges, and of cells in salt


def velocity_losses(found: Tensor, wanted: Tensor, names: Mapping[str, float]) -> dict[str, Tensor]:
    """Each loss by its name, without its weight.

    Args:
        found, wanted: (N, 1, H, W), scaled as a network gives velocities.
        names: of `LOSSES`.
    """
    differences = (found - wanted).abs()
    losses: dict[str, Tensor] = {}
    for name in names:
        if name == "l1":
            losses[name] = differences.mean()
        elif name == "l2":
            losses[name] = differences.square().mean()
        elif name == "ssim":
            losses[name] = 1 - ssim(velocities(found), velocities(wanted)).mean()
        else:
            weighted = _at_edges(wanted) if name == "edge" else wanted >= normalised(torch.tensor(SALT_M_S))
            losses[name] = (differences * torch.where(weighted, WEIGHT, 1.0)).mean()
    return losses


def ssim(found: Tensor, wanted: Tensor) -> Tensor:
    """(N,) structural similarity of models (N, 1, H, W), m/s, the mean over the places where the window fits in."""
    a, b = ((one - SLOWEST_M_S) / RANGE_M_S for one in (found, wanted))
    size = min(WINDOW, *a.shape[2:])
    places = torch.arange(size, dtype=a.dtype, device=a.device) - (size - 1) / 2
    kernel = torch.exp(-places.square() / (2 * SIGMA**2))
    kernel = kernel / kernel.sum()

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))

    ma, mb = mean(a), mean(b)
    va, vb, both = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    alike = ((2 * ma * mb + c1) * (2 * both + c2)) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    return alike.flatten(1).mean(1)


def _at_edges(wanted: Tensor) -> Tensor:
    """Cells within one of a jump of at least 50 m/s between neighbours, (N, 1, H, W) bool."""
    least = EDGE_M_S / HALF_RANGE_M_S
    down = F.pad((wanted.diff(dim=2).abs() > least).float(), (0, 0, 0, 1))
    across = F.pad((wanted.diff(dim=3).abs() > least).float(), (0, 1, 0, 0))
    return F.max_pool2d(torch.maximum(down, across), 3, 1, 1) > 0
