"""Outlines of objects as COCO's files have them (polygons, run lengths) → masks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.in_memory import nearest


def masks_of(outlines: Sequence[Any], scale: tuple[float, float], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Masks (n, H, W) of n objects, in an image whose file was resized by `scale` (x, y) onto a canvas (H, W).

    Args:
        outlines: of each object: polygons [[x0, y0, x1, y1, …], …], run lengths {"size": [h, w], "counts": …}, a mask
            (h, w), or None: an empty mask.
        scale: pixels of the mask a pixel of the file.
        size: (H, W).

    Raises: ValueError: if faster-coco-eval is not installed, which draws polygons as COCO's tools do.
    """
    masks = np.zeros((len(outlines), *size), bool)
    for mask, outline in zip(masks, outlines, strict=True):
        if outline is None or (isinstance(outline, list) and not outline):
            continue
        if isinstance(outline, list):
            scaled = [(np.reshape(one, (-1, 2)) * scale).reshape(-1).tolist() for one in outline]
            runs = _tools().merge(_tools().frPyObjects(scaled, *size))
            mask |= _tools().decode(runs).astype(bool)
            continue
        whole = np.asarray(outline) if isinstance(outline, np.ndarray) else _decoded(outline)
        high, wide = (max(round(side * by), 1) for side, by in zip(whole.shape, scale[::-1], strict=True))
        part = nearest(whole[None], (high, wide))[0][: size[0], : size[1]]
        mask[: part.shape[0], : part.shape[1]] = part
    return masks


def _decoded(runs: dict[str, Any]) -> NDArray[np.uint8]:
    """Run lengths, in columns, from zeros on; as numbers or compressed in text."""
    if isinstance(runs["counts"], list):
        height, width = runs["size"]
        lengths = np.array(runs["counts"], np.int64)
        values = (np.arange(len(lengths)) % 2).astype(np.uint8)
        return np.repeat(values, lengths).reshape(width, height).T
    return np.asarray(_tools().decode(runs))


def _tools() -> Any:
    try:
        from faster_coco_eval import mask
    except ImportError:
        raise ValueError("masks of objects need faster-coco-eval: pip install foveate[detection]") from None
    return mask
