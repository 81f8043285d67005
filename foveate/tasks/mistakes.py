"""Pieces of images around boxes: what a detector finds with the least confidence, wrongly with the most, and misses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from foveate.tasks.box_pictures import MISSED, RIGHT, WRONG, Shown, matched
from foveate.tasks.pictures import Colour, Picture, captioned, sheet

IMAGES, PIECES = 16, 8  # that are looked at; of each sort that are drawn
SIDE, LEAST = 128, 24  # pixels of a piece; the least of the image that it shows
MARGIN = 0.4  # of a box, around it
GREY = 114


def items_to_look_at(tables: Mapping[str, Mapping[str, NDArray[Any]]]) -> list[int]:
    """The images with the surest wrong detections and those with the most missed boxes, by what a run keeps of
    matches at an overlap of 0.5; at most 16."""
    found, boxes = tables["detections"], tables["boxes"]
    right = found["matched"][:, 0] & 1 == 1
    wrong = np.flatnonzero(~right & (found["ignored"][:, 0] & 1 == 0))
    surest = found["item"][wrong[np.argsort(-found["score"][wrong], kind="stable")]].tolist()
    wanted = boxes["item"][boxes["counted"][:, 0]]
    count = 1 + max([*wanted.tolist(), *surest, 0])
    missed = np.bincount(wanted, minlength=count) - np.bincount(found["item"][right], minlength=count)
    poorest = np.argsort(-missed, kind="stable").tolist()
    first = list(dict.fromkeys(surest))[: IMAGES // 2]
    rest = [item for item in poorest if item not in first and item in set(wanted.tolist())]
    return [int(item) for item in (first + rest)[:IMAGES]]


@dataclass(frozen=True)
class _Piece:
    order: float
    picture: Picture
    line: str
    colour: Colour


def mistakes_sheet(
    images: Sequence[Tensor], objects: Sequence[Shown], found: Sequence[Shown], classes: Sequence[str]
) -> Picture | None:
    """Three rows of pieces of images: right detections with the lowest scores (green), wrong ones with the highest
    (orange), the largest objects that are missed (blue); None where there is nothing to show.

    Args:
        images: (3, H, W) in 0 to 1.
        objects, found: of each image, in its pixels; labels from 0.
        classes: names.
    """
    rows: dict[str, list[_Piece]] = {"right": [], "wrong": [], "missed": []}
    for image, there, given in zip(images, objects, found, strict=True):
        pixels = (image.permute(1, 2, 0).clamp(0, 1) * 255).round().byte().cpu().numpy()
        right, seen = matched(given, there)
        for place, is_right in enumerate(right.tolist()):
            score = float(given.scores[place])
            line = f"{'right' if is_right else 'wrong'} {score:.2f}: {_name(classes, given.labels[place])}"
            colour, order = (RIGHT, score) if is_right else (WRONG, -score)
            rows["right" if is_right else "wrong"].append(
                _Piece(order, _piece(pixels, given.boxes[place], colour), line, colour)
            )
        for place in np.flatnonzero(~seen).tolist():
            box = there.boxes[place]
            line = f"missed: {_name(classes, there.labels[place])}"
            rows["missed"].append(_Piece(-float((box[2:] - box[:2]).prod()), _piece(pixels, box, MISSED), line, MISSED))
    drawn = []
    for pieces in rows.values():
        chosen = sorted(pieces, key=lambda one: one.order)[:PIECES]
        blank = np.full((SIDE, SIDE, 3), 255, np.uint8)
        if chosen:
            drawn += [captioned(one.picture, one.line) for one in chosen]
            drawn += [captioned(blank, "")] * (PIECES - len(chosen))
    return sheet(drawn, columns=PIECES) if drawn else None


def _name(classes: Sequence[str], label: int) -> str:
    return classes[label] if 0 <= label < len(classes) else str(label)


def _piece(pixels: Picture, box: NDArray[np.float32], colour: Colour) -> Picture:
    """The surroundings of a box as a square, the box drawn in it."""
    middle = (box[:2] + box[2:]) / 2
    side = max(float((box[2:] - box[:2]).max()) * (1 + 2 * MARGIN), LEAST)
    left, top = (middle - side / 2).tolist()
    image = Image.fromarray(pixels)
    shown = image.transform(
        (SIDE, SIDE),
        Image.Transform.AFFINE,
        (side / SIDE, 0, left, 0, side / SIDE, top),
        Image.Resampling.BILINEAR,
        fillcolor=(GREY, GREY, GREY),
    )
    corners = ((box.reshape(2, 2) - (left, top)) * SIDE / side).reshape(-1).tolist()
    ImageDraw.Draw(shown).rectangle(corners, outline=colour, width=2)
    return np.asarray(shown)
