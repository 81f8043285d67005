"""The boxes of one image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Annotation:
    """The boxes of one image, in its own pixels.

    A batch has of each image {"boxes": float32 (n, 4) in pixels of the batch, "labels": int64 (n,), "crowd": bool (n,),
    "area": float32 (n,) in pixels of the file}; where masks are wanted, "masks": bool (n, H, W); in evaluation "scale":
    float32 (2,), pixels of the batch a pixel of the file along x and y.

    Attributes:
        boxes: (n, 4) x0, y0, x1, y1; a pixel i spans [i, i + 1).
        labels: (n,) class numbers from 0.
        crowd: (n,) does the box stand for many objects that are not told apart? It is neither trained on nor counted.
        area: (n,) of the objects, in pixels, by which they are small, medium or large.
        image: (width, height) of the image; (0, 0): not known yet.
        outlines: n: of each object, as COCO's files have them, or a mask (H, W); None: not known.
    """

    boxes: Floats
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: Floats
    image: tuple[int, int] = (0, 0)
    outlines: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, kept: NDArray[Any]) -> "Annotation":
        """The boxes of these places, or where this is true."""
        places = np.flatnonzero(kept) if kept.dtype == bool else kept
        outlines = None if self.outlines is None else tuple(self.outlines[place] for place in places)
        return Annotation(
            self.boxes[places], self.labels[places], self.crowd[places], self.area[places], self.image, outlines
        )


def annotation(
    boxes: Any,
    labels: Any,
    crowd: Any = None,
    area: Any = None,
    outlines: Sequence[Any] | None = None,
    image: tuple[int, int] = (0, 0),
) -> Annotation:
    """Arrays of lists; crowd=None: no crowds; area=None: that of the boxes."""
    corners = np.asarray(boxes, np.float32).reshape(-1, 4)
    own = (corners[:, 2:] - corners[:, :2]).prod(1)
    return Annotation(
        corners,
        np.asarray(labels, np.int64).reshape(-1),
        np.zeros(len(corners), bool) if crowd is None else np.asarray(crowd, bool).reshape(-1),
        own if area is None else np.asarray(area, np.float32).reshape(-1),
        image,
        None if outlines is None else tuple(outlines),
    )
