"""Maps as pictures: over an image, and what a network's own attention computes beside it."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from foveate.explain.own import OwnMaps
from foveate.tasks.pictures import Picture, captioned

INFERNO = (
    (0, 0, 4), (22, 11, 57), (66, 10, 104), (106, 23, 110), (147, 38, 103), (188, 55, 84), (221, 81, 58),
    (243, 120, 25), (252, 165, 10), (246, 215, 70), (252, 255, 164),
)  # fmt: skip
"""From dark to bright in equal steps of lightness, for every kind of colour vision (S. van der Walt, N. Smith)."""
BARS = 160  # pixels, height and least width of a drawn row of gates
MOST_BARS = 64  # channels of a picture of gates; more are drawn as means of neighbours in their order


def heat(values: NDArray[np.floating]) -> Picture:
    """(H, W) of 0 to 1 → colours (H, W, 3), dark to bright."""
    steps = np.linspace(0, 1, len(INFERNO))
    shares = np.clip(np.nan_to_num(np.asarray(values, np.float64)), 0, 1)
    return np.stack([np.interp(shares, steps, [c[i] for c in INFERNO]) for i in range(3)], -1).round().astype(np.uint8)


def overlay(picture: Picture, values: NDArray[np.floating], strength: float = 0.6) -> Picture:
    """A map (h, w) of 0 to 1 over a picture (H, W, 3), whose own colours are grey below it.

    strength: share of the map's colours where it is 1; where it is 0 it is a third of that.
    """
    large = resized(values, picture.shape[:2])
    share = strength * (1 + 2 * large[..., None]) / 3
    grey = np.repeat(picture.mean(2, keepdims=True), 3, 2)
    return ((1 - share) * grey + share * heat(large)).round().astype(np.uint8)


def resized(values: NDArray[np.floating], size: Sequence[int], *, smooth: bool = True) -> NDArray[np.float32]:
    """(h, w) at another size, linearly interpolated or as squares."""
    given = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
    mode = {"mode": "bilinear", "align_corners": False} if smooth else {"mode": "nearest"}
    found: NDArray[np.float32] = F.interpolate(given, tuple(size), **mode)[0, 0].numpy()
    return found


def stretched(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Values between their least, 0, and their greatest, 1."""
    low, high = float(np.min(values)), float(np.max(values))
    return np.asarray((values - low) / max(high - low, 1e-12), np.float32)


def bars(rows: NDArray[np.floating], high: int = BARS) -> Picture:
    """Values (C,) or (rows, C) as bars from 0 up to 1 or their greatest, one row of bars above the other."""
    rows = np.atleast_2d(np.asarray(rows, np.float64))
    if rows.shape[1] > MOST_BARS:
        rows = np.stack([one.mean(1) for one in np.array_split(rows, MOST_BARS, 1)], 1)
    each = max(2, -(-BARS // rows.shape[1]))
    image = Image.new("RGB", (each * rows.shape[1], high), "white")
    draw = ImageDraw.Draw(image)
    room = high // len(rows)
    top = max(1.0, float(np.abs(rows).max()))
    for number, row in enumerate(rows):
        base = (number + 1) * room - 1
        for place, value in enumerate(row):
            tall = round(min(abs(value) / top, 1.0) * (room - 4))
            draw.rectangle((place * each, base - tall, place * each + each - 2, base), fill=(0, 114, 178))
    return np.asarray(image)


def point_marked(picture: Picture, point: tuple[float, float]) -> Picture:
    """A ring at (y, x), in shares of the picture."""
    image = Image.fromarray(picture)
    y, x = point[0] * picture.shape[0], point[1] * picture.shape[1]
    draw = ImageDraw.Draw(image)
    draw.ellipse((x - 6, y - 6, x + 6, y + 6), outline="white", width=4)
    draw.ellipse((x - 6, y - 6, x + 6, y + 6), outline=(213, 94, 0), width=2)
    return np.asarray(image)


def own_pictures(
    picture: Picture, gates: Mapping[str, OwnMaps], point: tuple[float, float] | None = None
) -> dict[str, Picture]:
    """{"site: kind": picture} of what `own_maps` found: maps over the image, gates of channels as bars.

    A caption has the least and the greatest value. "theta" has no picture of its own; the grid has.
    """
    found: dict[str, Picture] = {}
    for site, maps in gates.items():
        for kind, values in maps.items():
            drawn = _drawn(picture, kind, np.asarray(values), point)
            if drawn is not None:
                spread = f"{kind}, {float(np.min(values)):.2g} to {float(np.max(values)):.2g}"
                found[f"{site}: {kind}"] = captioned(captioned(drawn, site), spread)
    return found


def _drawn(
    picture: Picture, kind: str, values: NDArray[np.floating], point: tuple[float, float] | None
) -> Picture | None:
    if kind == "theta":
        return None
    if kind == "grid" and values.ndim == 3:
        return _grid(picture, values)
    if kind == "affinity":
        drawn = overlay(picture, stretched(values.reshape(-1, *values.shape[-2:]).mean(0)))
        return drawn if point is None else point_marked(drawn, point)
    if kind in ("height", "width") and values.ndim == 2:
        strip = values.mean(0)[:, None] if kind == "height" else values.mean(0)[None]
        return overlay(picture, stretched(strip))
    if (kind == "branch" and values.ndim == 2) or values.ndim == 1:
        return bars(values)
    if values.ndim in (2, 3):
        return overlay(picture, stretched(values if values.ndim == 2 else values.mean(0)))
    return None


def _grid(picture: Picture, points: NDArray[np.floating]) -> Picture:
    """Where a sampling grid (h, w, 2), x before y in −1 to 1, reads the image: its outline and every other line."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    xy = (np.asarray(points) + 1) / 2 * np.array([picture.shape[1] - 1, picture.shape[0] - 1])
    high, wide = xy.shape[:2]
    step = max(1, max(high, wide) // 8)
    lines = [xy[y] for y in [*range(0, high, step), high - 1]] + [xy[:, x] for x in [*range(0, wide, step), wide - 1]]
    for line in lines:
        draw.line([(float(x), float(y)) for x, y in line], fill=(230, 159, 0), width=1)
    return np.asarray(image)
