"""Names beside points, none over another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from foveate.report.drawing import width_of


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Shared area in square pixels."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide * high if wide > 0 and high > 0 else 0.0

    def distance(self, x: float, y: float) -> float:
        """From a point to the nearest edge; 0 inside."""
        return math.hypot(max(self.left - x, 0.0, x - self.right), max(self.top - y, 0.0, y - self.bottom))

    def outside(self, frame: "Box") -> float:
        """How far it sticks out of a frame, in pixels, summed over the sides."""
        return (
            max(0.0, frame.left - self.left)
            + max(0.0, self.right - frame.right)
            + max(0.0, frame.top - self.top)
            + max(0.0, self.bottom - frame.bottom)
        )


@dataclass(frozen=True)
class Placed:
    """Where a name is anchored (`start`, `middle` or `end` of its baseline), and whether it needs a leader line."""

    x: float
    y: float
    anchor: str
    box: Box
    leader: bool


def place(
    points: Sequence[tuple[float, float]], names: Sequence[str], obstacles: Sequence[Box], frame: Box, size: float
) -> list[Placed]:
    """A place for each name: the nearest free one around its point, trying ever wider rings."""
    marks = [Box(x - 7, y - 7, x + 7, y + 7) for x, y in points]
    placed: dict[int, Placed] = {}
    crowded = sorted(range(len(points)), key=lambda i: -sum(_near(points[i], other) for other in points))
    for index in crowded:
        (x, y), wide = points[index], width_of(names[index], size)
        best, best_cost = None, float("inf")
        taken = (20.0, [other.box for other in placed.values()]), (6.0, marks), (0.8, obstacles)
        for ring in range(12):
            for dx, dy, anchor in _around(ring):
                left, middle = x + dx - wide * SHARE[anchor], y + dy
                box = Box(left, middle - size * 0.62, left + wide, middle + size * 0.62)
                cost = 12.0 * ring + 400 * box.outside(frame)
                for weight, boxes in taken:
                    if cost < best_cost:
                        cost += weight * sum(map(box.overlap, boxes))
                if cost >= best_cost:
                    continue
                own = box.distance(x, y)
                cost += sum(30 for i, (px, py) in enumerate(points) if i != index and box.distance(px, py) < own)
                if cost < best_cost:
                    best, best_cost = Placed(x + dx, middle + size * 0.35, anchor, box, ring > 1), cost
        assert best is not None
        placed[index] = best
    return [placed[index] for index in range(len(points))]


def _near(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return abs(a[0] - b[0]) < 90 and abs(a[1] - b[1]) < 30


SHARE = {"start": 0.0, "middle": 0.5, "end": 1.0}


def _around(ring: int) -> list[tuple[float, float, str]]:
    """Offsets of a name's anchor from its point, at a distance that grows with the ring."""
    side, up = 10.0 + 7 * ring, 15.0 + 9 * ring
    rows = [0.0] if ring == 0 else [-up * 0.6, up * 0.6, 0.0]
    beside = [(sign * side, row, anchor) for row in rows for sign, anchor in ((1, "start"), (-1, "end"))]
    above = [
        (shift, level, anchor)
        for level in (-up, up)
        for shift, anchor in ((6.0, "start"), (-6.0, "end"), (0.0, "middle"))
    ]
    return beside + above
