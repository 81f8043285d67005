"""Clips explained: where a position of one frame looks in the others, weights of frames, gates and maps over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn

from foveate.attention import capture
from foveate.explain.own import POINT, WITHOUT_FRAME, OwnMaps, as_grid
from foveate.explain.pictures import overlay, stretched
from foveate.explain.watch import evaluating
from foveate.tasks.pictures import Picture, captioned, shown

ARROW, RING = (230, 159, 0), (213, 94, 0)  # of Okabe and Ito
ROOM = 40  # pixels of a strip's bars


@dataclass(frozen=True)
class Link:
    """The position that a query weighs most in one frame: its frame and (y, x) in shares of the image, its weight."""

    frame: float
    y: float
    x: float
    weight: float


def clip_frames(clip: Float[Tensor, "c t h w"]) -> list[Picture]:
    """A picture of each frame, all stretched by the range of the whole clip."""
    low, high = clip.min(), clip.max()
    return shown(list(((clip - low) / (high - low).clamp_min(1e-12)).transpose(0, 1)))


def strongest_links(row: NDArray[np.floating], frame: float | None = None) -> list[Link]:
    """The strongest position in each frame of a row of an affinity.

    Args:
        row: (T, h, w), the weights of one query.
        frame: of the query, as a share of the clip; its own frame has no link. None: a query of no frame.
    """
    count = len(row)
    own = None if frame is None else min(int(frame * count), count - 1)
    links = []
    for number, weights in enumerate(row):
        if number != own:
            y, x = np.unravel_index(int(weights.argmax()), weights.shape)
            place = (y + 0.5) / weights.shape[0], (x + 0.5) / weights.shape[1]
            links.append(Link((number + 0.5) / count, float(place[0]), float(place[1]), float(weights[y, x])))
    return links


def arrows(
    frames: Sequence[Picture], row: NDArray[np.floating], query: tuple[float, float, float] | None = None
) -> Picture:
    """The frames side by side with an arrow from the query to the strongest position of every other frame.

    An arrow is the wider the larger its weight among those of the picture. Source: the figures of Wang et al.,
    arXiv:1711.07971, which have the 20 strongest of all frames.

    Args:
        frames: of the clip, T or a multiple of it, as frames may be pooled.
        row: (T, h, w), the weights of the query.
        query: frame, y and x in shares of the clip and the image; None: of no place, the positions are ringed alone.
    """
    image = Image.fromarray(np.concatenate(list(frames), 1))
    draw = ImageDraw.Draw(image)
    high, wide = frames[0].shape[:2]

    def place(frame: float, y: float, x: float) -> tuple[float, float]:
        return min(int(frame * len(frames)), len(frames) - 1) * wide + x * wide, y * high

    links = strongest_links(row, None if query is None else query[0])
    most = max((link.weight for link in links), default=0.0)
    for link in links:
        end, width = place(link.frame, link.y, link.x), 1 + round(3 * link.weight / max(most, 1e-12))
        if query is not None:
            draw.line((*place(*query), *end), fill=ARROW, width=width)
            _head(draw, place(*query), end)
        draw.ellipse(_around(end, 5), outline=ARROW, width=2)
    if query is not None:
        draw.ellipse(_around(place(*query), 7), outline=RING, width=3)
    return np.asarray(image)


def _around(centre: tuple[float, float], radius: float) -> tuple[float, float, float, float]:
    return centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius


def _head(draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float]) -> None:
    away = np.array(start) - np.array(end)
    length = float(np.hypot(*away))
    if length:
        along = away / length * 10
        side = np.array([-along[1], along[0]]) / 2
        tip = np.array(end)
        draw.polygon([tuple(tip), tuple(tip + along + side), tuple(tip + along - side)], fill=ARROW)


def frame_weights(frames: Sequence[Picture], weights: NDArray[np.floating]) -> Picture:
    """The frames side by side above bars of their weights (T,), from 0 to 1 or the greatest."""
    strip = np.concatenate(list(frames), 1)
    image = Image.new("RGB", (strip.shape[1], strip.shape[0] + ROOM), "white")
    image.paste(Image.fromarray(strip), (0, 0))
    draw = ImageDraw.Draw(image)
    each, top = strip.shape[1] / len(weights), max(1.0, float(np.abs(weights).max()))
    for number, weight in enumerate(weights):
        tall = round(min(abs(float(weight)) / top, 1.0) * (ROOM - 4))
        box = (number * each + 2, image.height - 1 - tall, (number + 1) * each - 3, image.height - 1)
        draw.rectangle(box, fill=(0, 114, 178))
    return np.asarray(image)


def over_frames(frames: Sequence[Picture], maps: NDArray[np.floating]) -> list[Picture]:
    """Maps (t, h, w) over the frames, all stretched by the range of the whole clip; a map for several frames stays."""
    values = stretched(maps)
    places = (np.arange(len(frames)) * len(values)) // len(frames)
    return [overlay(frame, values[place]) for frame, place in zip(frames, places, strict=True)]


def clip_pictures(
    frames: Sequence[Picture], gates: Mapping[str, OwnMaps], query: tuple[float, float, float] | None = None
) -> dict[str, Picture]:
    """{"site: kind": picture} of what `own_maps` found for a clip: weights of frames as a strip, maps of each frame
    over it, affinities as arrows from the query; kinds that belong to no frame have no picture."""
    found: dict[str, Picture] = {}
    for site, maps in gates.items():
        for kind, values in maps.items():
            if kind == "temporal":
                drawn = frame_weights(frames, values)
            elif kind in (POINT, WITHOUT_FRAME) and values.ndim == 3:
                drawn = arrows(frames, values, query if kind == POINT else None)
            elif kind == "spatial" and values.ndim == 3 and len(values) <= len(frames):
                drawn = np.concatenate(over_frames(frames, values), 1)
            else:
                continue
            spread = f"{float(values.min()):.2g} to {float(values.max()):.2g}"
            found[f"{site}: {kind}"] = captioned(drawn, f"{site} {kind}: {spread}")
    return found


def frames_over_time(frames: Sequence[Picture], rows: Mapping[str, NDArray[np.floating]]) -> list[Picture]:
    """For each frame a picture of it and, beside it, of each map (t, h, w) over it, with its name: a film's images."""
    columns = [[captioned(frame, "clip") for frame in frames]]
    columns += [[captioned(one, name) for one in over_frames(frames, values)] for name, values in rows.items()]
    return [np.concatenate(one, 1) for one in zip(*columns, strict=True)]


def object_shares(
    model: nn.Module, clip: Float[Tensor, "c t h w"], objects: Bool[Tensor, "t h w"], *, queries: int = 64
) -> dict[str, tuple[float, float]]:
    """{site: (share of the affinity that lands on the object in the other frames, share of their area that it has)}.

    The queries are positions of the object, evenly among those of all frames; the weights that a query gives to its own
    frame are left out, and the rest is scaled to a sum of 1. Sites whose grid is no clip's are left out.

    Args:
        model: in any mode; it is run once, in evaluation mode.
        clip: one sample.
        objects: where the object is, in the frames of the clip.
        queries: the most of them.

    Raises: ValueError: masks of another number of frames, or no frame with an object.
    """
    if len(objects) != clip.shape[1] or not bool(objects.any()):
        raise ValueError(
            f"wanted a mask of each of {clip.shape[1]} frames, and an object in one; got {tuple(objects.shape)}"
        )
    points: dict[tuple[int, ...], list[tuple[int, ...]]] = {}

    def of_object(sizes: Sequence[int]) -> list[int | tuple[int, ...]] | None:
        if len(sizes) != 3:
            return None
        places = _pooled(objects, sizes).ge(0.5).nonzero()
        chosen = places[torch.linspace(0, len(places) - 1, min(queries, len(places))).long()] if len(places) else places
        points[tuple(sizes)] = [tuple(one) for one in chosen.tolist()]
        return list(points[tuple(sizes)]) or None

    with evaluating(model), torch.inference_mode(), capture(model, of_object) as seen:
        model(clip[None])
    found = {}
    for site, maps in seen.maps.items():
        if POINT in maps and len(grid := seen.grids[site]) == 3:
            rows = [as_grid(row, grid) for row in maps[POINT][0].float().cpu()]
            frames = [(point[0] + 0.5) / grid[0] for point in points[tuple(grid)]]
            shares = [_share(row, frame, objects) for row, frame in zip(rows, frames, strict=True)]
            on_object, area = np.mean(shares, 0).tolist()
            found[site] = on_object, area
    return found


def _share(row: Float[Tensor, "t h w"], frame: float, objects: Tensor) -> tuple[float, float]:
    where = _pooled(objects, row.shape)
    others = torch.arange(len(row)) != int(frame * len(row))
    weights = row[others].clamp_min(0)
    return float((weights * where[others]).sum() / weights.sum().clamp_min(1e-12)), float(where[others].mean())


def _pooled(objects: Tensor, sizes: Sequence[int]) -> Tensor:
    """The object's share of each cell of a grid (T, h, w)."""
    frames, high, wide = sizes
    return F.adaptive_avg_pool3d(objects[None, None].float(), (frames, high, wide))[0, 0]
