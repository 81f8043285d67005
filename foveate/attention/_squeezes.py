"""Squeezes of a map that say more than its means: cosine frequencies, covariance, a pyramid of cells.

Frequencies: Qin, Zhang, Wu, Li, "FcaNet: Frequency Channel Attention Networks", ICCV 2021, arXiv:2012.11879.
Covariance: Dai, Cai, Zhang, Xia, Zhang, "Second-order Attention Network for Single Image Super-Resolution", CVPR 2019,
with the matrix root of Li, Xie, Wang, Gao, "Towards Faster Training of Global Covariance Pooling Networks by Iterative
Matrix Square Root Normalization", CVPR 2018, arXiv:1712.01034. Pyramid: Guo, Ma, Guo, Chen, "SPANet: Spatial Pyramid
Attention Network for Enhanced Image Recognition", ICME 2020.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import count, islice, product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveate.kernels.pairs._blocks import autocasts

ROOT_STEPS = 5
_EPSILON = 1e-5
_AVERAGE: dict[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}


def lowest_frequencies(number: int, spatial_dims: int) -> list[tuple[int, ...]]:
    """The first `number` frequencies, one index an axis, by the sum of their indices: (0, 0), (0, 1), (1, 0), …"""

    def by_sum() -> Iterator[tuple[int, ...]]:
        for total in count():
            yield from (one for one in product(range(total + 1), repeat=spatial_dims) if sum(one) == total)

    return list(islice(by_sum(), number))


def cosine_pool(x: Float[Tensor, "n c *s"], frequencies: Sequence[Sequence[int]]) -> Float[Tensor, "n c"]:
    """One component of the cosine transform of each channel, over the number of positions.

        z_c = mean over p of x_c(p) · Π_a cos(π f_a (p_a + ½) / S_a)

    The channels fall into as many equal parts, one after the other, as there are frequencies f; frequency 0 gives the
    mean. A frequency of at least the side of the map repeats a lower one or is 0 everywhere.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    basis = torch.ones((len(frequencies), *(1,) * (x.dim() - 2)), dtype=dtype, device=x.device)
    for axis, side in enumerate(x.shape[2:]):
        along = torch.tensor([float(one[axis]) for one in frequencies], dtype=dtype, device=x.device)
        steps = (torch.arange(side, dtype=dtype, device=x.device) + 0.5) * (math.pi / side)
        shape = [1] * (x.dim() - 2)
        shape[axis] = side
        basis = basis * torch.cos(along[:, None] * steps).reshape(-1, *shape)
    parts = x.flatten(2).unflatten(1, (len(frequencies), -1))
    positions = parts.shape[-1]
    return torch.einsum("nkcp,kp->nkc", parts, basis.flatten(1).to(x.dtype) / positions).flatten(1)


def covariance_pool(x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c"]:
    """The mean of each row of the square root of the channels' covariance.

        Σ = mean over p of (x(p) − x̄)(x(p) − x̄)ᵀ;   z = Σ^½ 1 / C

    The root is found by `ROOT_STEPS` coupled Newton-Schulz steps from Σ over its trace, at least in float32.
    """
    flat = x.flatten(2)
    with torch.autocast(x.device.type, enabled=False) if autocasts(x) else nullcontext():
        flat = flat.to(torch.promote_types(x.dtype, torch.float32))
        flat = flat - flat.mean(2, keepdim=True)
        covariance = flat @ flat.transpose(1, 2) / flat.shape[2]
        trace = covariance.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] + _EPSILON
        channels = flat.shape[1]
        identity = torch.eye(channels, dtype=flat.dtype, device=x.device)
        root = covariance / trace
        step = (3 * identity - root) / 2
        root, inverse = root @ step, step
        for _ in range(ROOT_STEPS - 2):
            step = (3 * identity - inverse @ root) / 2
            root, inverse = root @ step, step @ inverse
        means = flat.new_full((flat.shape[0], channels, 1), 1 / channels)
        rows = root @ ((3 * means - inverse @ (root @ means)) / 2)  # the last step, of whose root the rows' means count
        return (rows * trace.sqrt()).squeeze(2).to(x.dtype)


def pyramid_pool(x: Float[Tensor, "n c *s"], levels: Sequence[int]) -> Float[Tensor, "n k"]:
    """The means of the cells of grids with `levels` cells an axis, all channels of a cell side by side."""
    dims = x.dim() - 2
    cells = [_AVERAGE[dims](x, (level,) * dims).flatten(2) for level in levels]
    return torch.cat(cells, 2).transpose(1, 2).flatten(1)
