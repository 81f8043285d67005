"""Outlines of objects as COCO's files have them (polygons, run lengths) → masks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.problems import one_line


def masks_of(outlines: Sequence[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Masks (n, H, W) of n objects in an image of size (H, W).

    Args:
        outlines: of each object: polygons [[x0, y0, x1, y1, …], …], run lengths {"size": [h, w], "counts": …}, a mask
            (H, W), or None: an empty mask.
        size: (H, W).

    Raises: ValueError: if an outline is of another size, or faster-coco-eval is not installed, which draws polygons as
        COCO's tools do.
    """
    masks = np.zeros((len(outlines), *size), bool)
    for mask, outline in zip(masks, outlines, strict=True):
        if outline is None or (isinstance(outline, list) and not outline):
            continue
        own = outline if isinstance(outline, np.ndarray) else _drawn(outline, size)
        if own.shape != size:
            raise ValueError(f"wanted the outline of an object in {size[1]}×{size[0]} pixels; got {own.shape[::-1]}")
        mask |= own.astype(bool)
    return masks


def _drawn(outline: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Polygons or run lengths as a mask (H, W)."""
    tools = coco_tools().mask
    try:
        if isinstance(outline, list):
            if not all(isinstance(one, list) and len(one) >= 6 and len(one) % 2 == 0 for one in outline):
                raise ValueError("a polygon has three points or more, x before y")
            return np.asarray(tools.decode(tools.merge(tools.frPyObjects(outline, *size))))
        return _decoded(outline)
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
        wanted = "wanted polygons or run lengths, as COCO's files have them"
        raise ValueError(f"outline of an object: {wanted}; got {one_line(outline, 60)} ({one_line(error)})") from None


def _decoded(runs: dict[str, Any]) -> NDArray[np.uint8]:
    """Run lengths, in columns, from zeros on; as numbers or compressed in text."""
    if isinstance(runs["counts"], list):
        height, width = runs["size"]
        lengths = np.array(runs["counts"], np.int64)
        values = (np.arange(len(lengths)) % 2).astype(np.uint8)
        return np.repeat(values, lengths).reshape(width, height).T
    return np.asarray(coco_tools().mask.decode(runs))


def coco_tools() -> Any:
    """The package faster_coco_eval. Raises: ValueError: if it is not installed."""
    try:
        import faster_coco_eval
    except ImportError:
        raise ValueError("COCO's masks and measures need faster-coco-eval: pip install foveate[detection]") from None
    return faster_coco_eval
