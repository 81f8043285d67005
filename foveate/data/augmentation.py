"""Random changes of a sample: a pure function of (seed, epoch, item), for a whole batch at once."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_STEP = np.uint64(0x9E3779B97F4A7C15)
Edge = Literal["reflect", "constant"]


def mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 well-mixed bits from each 64 bits.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014, doi:10.1145/2660193.2660195.
    """
    state = state + _STEP
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def uniforms(augment: tuple[int, int], items: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """(B, count) numbers in [0, 1) for B items; row b depends on the (seed, epoch) and on items[b] alone."""
    seed, epoch = (np.full(1, value, np.uint64) for value in augment)
    state = mix(mix(mix(seed) + epoch) + items.astype(np.uint64))
    draws = mix(state[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _STEP)
    return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Movement:
    """A shift of each sample of a batch by whole pixels, then a mirror image of some.

    Attributes:
        shifts: (B, d) pixels along each axis of the samples, from -reach to reach.
        mirrored: (B,) is the last axis turned round?
        reach: the largest shift.
    """

    shifts: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    reach: int

    @classmethod
    def drawn(
        cls, augment: tuple[int, int], items: NDArray[np.int64], rank: int, *, reach: int, flip: bool
    ) -> "Movement":
        """The movements of these items of `rank` axes; with `flip`, half of them are mirrored."""
        draws = uniforms(augment, items, rank + 1)
        starts = (draws[:, :rank] * (2 * reach + 1)).astype(np.int64)
        return cls(reach - starts, (draws[:, rank] < 0.5) & flip, reach)

    def of_arrays(self, arrays: NDArray[Any], edge: Edge, fill: float = 0) -> NDArray[Any]:
        """Arrays (B, C, *S) moved. What moves in is the mirrored neighbourhood ("reflect") or `fill` ("constant")."""
        reach, sides = self.reach, arrays.shape[2:]
        pads = ((0, 0), (0, 0), *((reach, reach) for _ in sides))
        if edge == "constant":
            padded = np.pad(arrays, pads, constant_values=fill)
        else:
            padded = np.pad(arrays, pads, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, sides, axis=tuple(range(2, arrays.ndim)))
        moved = windows[(np.arange(len(arrays)), slice(None), *(reach - self.shifts).T)]
        moved[self.mirrored] = moved[self.mirrored, ..., ::-1]
        return np.ascontiguousarray(moved)

    def of_points(self, points: NDArray[np.float32], sides: tuple[int, ...]) -> NDArray[np.float32]:
        """Points (B, P, d), x before y, moved with arrays of these sides (…, height, width)."""
        moved = points + self.shifts[:, None, ::-1].astype(points.dtype)
        moved[self.mirrored, :, 0] = sides[-1] - moved[self.mirrored, :, 0]
        return moved

    def of_boxes(self, boxes: NDArray[np.float32], sides: tuple[int, ...]) -> NDArray[np.float32]:
        """Boxes (B, P, 2, d), opposite corners, moved; what leaves the array is cut off. The lower corner is first."""
        count, boxes_each, corners, rank = boxes.shape
        moved = self.of_points(boxes.reshape(count, -1, rank), sides).reshape(count, boxes_each, corners, rank)
        return np.sort(moved, axis=2).clip(0, np.array(sides[::-1], boxes.dtype))
