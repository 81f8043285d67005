"""What a network's own attention computes: gates, masks, branch weights, thresholds, sampling grids, affinities."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.attention import capture
from foveate.explain.rollout import attention_rows
from foveate.explain.watch import evaluating

OwnMaps = dict[str, NDArray[np.float32]]
POINT = "affinity"  # kind of the maps of a point
WITHOUT_FRAME = "affinity of all frames"  # the same of a clip, where the queries are positions of no frame

Point = tuple[float, float] | tuple[float, float, float]


def own_maps(
    model: nn.Module, inputs: Any, *, point: Point | None = None, transformers: bool = True
) -> dict[str, OwnMaps]:
    """{site: {kind: array}} of the first sample of a batch; {} for a network without attention of its own.

    Kinds are those of `foveate.capture`: "channel" (C,), "spatial" (H, W), "branch" (branches, C), "threshold" (C,),
    "grid" (H, W, 2), "theta" (2, 3), "height" and "width" of coordinate attention (C, H) and (C, W), "temporal",
    "group", "gate", "added"; "affinity" (h, w), the row of the point on the grid of the keys, of a clip (T, h, w);
    where a clip's queries belong to no frame it is called "affinity of all frames".

    Args:
        model: in any mode; it is run once, in evaluation mode.
        inputs: a batch, as the network takes it.
        point: (y, x) in shares of the image, 0 to 1, or of a clip (frame, y, x), else in its middle frame; None: no
            affinity.
        transformers: with a point, add the rows of attention in layers of other libraries (timm, torchvision,
            transformers), averaged over heads.

    Raises: ValueError: a point outside the image.
    """
    if point is not None and not all(0 <= side <= 1 for side in point):
        raise ValueError(f"point: wanted (y, x) in shares of the image, 0 to 1, or (frame, y, x); got {point}")
    axes = 2 if isinstance(inputs, list) else inputs.dim() - 2
    with evaluating(model), torch.inference_mode(), capture(model, lambda sizes: _query(sizes, point)) as seen:
        model(inputs)
    found: dict[str, OwnMaps] = {}
    for site, maps in seen.maps.items():
        kept = {kind: value[0].float().cpu() for kind, value in maps.items() if isinstance(value, Tensor)}
        if POINT in kept:
            grid = seen.grids[site]
            kept[POINT if axes < 3 or len(grid) == axes else WITHOUT_FRAME] = as_grid(kept.pop(POINT)[0], grid)
        if kept:
            found[site] = {kind: value.numpy() for kind, value in kept.items()}
    if point is not None and transformers:
        for name, row in attention_rows(model, inputs, (point[-2], point[-1])).items():
            found.setdefault(name, {}).setdefault(POINT, row)
    return found


def affinity_row(model: nn.Module, inputs: Any, point: Point) -> dict[str, NDArray[np.float32]]:
    """{site: (h, w)}: how much each position counts for this point, by the network's own affinities; a row sums to 1
    where the affinity is a softmax. Arguments and errors as of `own_maps`."""
    return {site: maps[POINT] for site, maps in own_maps(model, inputs, point=point).items() if POINT in maps}


def _query(sizes: Sequence[int], point: Point | None) -> list[int | tuple[int, ...]] | None:
    """The point on a grid; of a clip without a frame, in its middle; None on a grid of one axis."""
    if point is None or len(sizes) < 2:
        return None
    shares = (0.5,) * (len(sizes) - len(point)) + tuple(point[-len(sizes) :])
    return [tuple(min(int(share * side), side - 1) for share, side in zip(shares, sizes, strict=True))]


def as_grid(row: Tensor, sizes: Sequence[int]) -> Tensor:
    """A row (K,) as the map of its keys: on the grid of the queries, a coarser one of pooled keys, or several of it.

    The keys of clips (T, h, w) are pooled within their frames, or over time too. Keys of several grids together stay a
    row.
    """
    count, positions = row.numel(), math.prod(sizes)
    if count % positions == 0:
        return row.reshape(sizes) if count == positions else row.reshape(-1, *sizes)
    for kept in (1, 0) if len(sizes) == 3 else ():
        for window in range(2, max(sizes) + 1):
            pooled = [*sizes[:kept], *(max(1, side // window) for side in sizes[kept:])]
            if math.prod(pooled) == count:
                return row.reshape(pooled)
    scale = (count / positions) ** (1 / len(sizes))
    pooled = [max(1, round(side * scale)) for side in sizes]
    return row.reshape(pooled) if math.prod(pooled) == count else row
