"""Masks as pictures: a colour for each class, overlays, where an answer is wrong and how, and a legend."""

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from foveate.data.dataset import IGNORED
from foveate.tasks.pictures import Colour, Picture

CLEAR = {"background", "ground", "other", "others", "none"}  # names of a first class that is shown without colour
NOT_KNOWN: Colour = (128, 128, 128)
MISSED, ADDED, CONFUSED = "missed", "found where there is none", "taken for another class"
KINDS: dict[str, Colour] = {MISSED: (200, 0, 40), ADDED: (0, 230, 230), CONFUSED: (120, 0, 140)}  # of no class
LONGEST = 240  # pixels of a side of an example
_FIRST: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (86, 180, 233),
    (240, 228, 66),
)  # Okabe and Ito, distinguishable with every common colour blindness
_GOLDEN = 0.6180339887  # of the circle of hues, from one further class to the next


def has_background(names: Sequence[str]) -> bool:
    """Is the first class what lies around the others? So its name says, and so it is with two classes."""
    return len(names) == 2 or names[0].lower() in CLEAR


def palette(names: Sequence[str]) -> NDArray[np.uint8]:
    """A colour for each class (K, 3), black for a background; after seven others hues a golden section apart."""
    colours: list[Colour] = [(0, 0, 0)] if has_background(names) else []
    for number in range(len(names) - len(colours)):
        if number < len(_FIRST):
            colours.append(_FIRST[number])
            continue
        further = number - len(_FIRST)
        value = (0.95, 0.7, 0.45)[further % 3]
        red, green, blue = colorsys.hsv_to_rgb(0.03 + further * _GOLDEN % 1, (0.85, 0.55)[further // 3 % 2], value)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return np.array(colours, np.uint8).reshape(-1, 3)


def mask_image(mask: NDArray[Any], names: Sequence[str]) -> Image.Image:
    """Class numbers as an image with the palette of the classes; of more than 256 classes without."""
    image = Image.fromarray(mask)
    if mask.dtype == np.uint8:
        colours = np.full((256, 3), NOT_KNOWN, np.uint8)
        colours[: len(names)] = palette(names)
        image.putpalette(colours.tobytes())
    return image


def overlay(picture: Picture, mask: NDArray[Any], names: Sequence[str]) -> Picture:
    """Class numbers (h, w) as colours over the picture (H, W, 3); a background is clear, what is no class grey."""
    large = _as_large(mask, picture)
    known = large < len(names)
    colour = palette(names)[np.where(known, large, 0)].astype(np.float32)
    colour[~known] = NOT_KNOWN
    clear = known & (large == 0) if has_background(names) else np.zeros_like(known)
    strength = np.where(clear, 0.0, 0.55)[..., None]
    return np.asarray((1 - strength) * picture + strength * colour, np.uint8)


def error_map(picture: Picture, answer: NDArray[Any], target: NDArray[Any], names: Sequence[str]) -> Picture:
    """Where the answer is wrong, in the colours of `KINDS`; what is right is the picture in grey."""
    answer, target = (_as_large(mask, picture).astype(np.int64) for mask in (answer, target))
    grey = np.repeat(picture.mean(2, keepdims=True) * 0.5 + 90, 3, 2)
    wrong = (answer != target) & (target != IGNORED)
    kinds = {CONFUSED: wrong}
    if has_background(names):
        kinds = {MISSED: wrong & (answer == 0), ADDED: wrong & (target == 0), CONFUSED: wrong & (answer * target > 0)}
    for kind, there in kinds.items():
        grey[there] = KINDS[kind]
    grey[target == IGNORED] = 255
    return np.asarray(grey, np.uint8)


def legend(names: Sequence[str], wide: int, *, errors: bool = False, only: Sequence[int] | None = None) -> Picture:
    """Rows of coloured squares with the classes' names, and the kinds of errors.

    only: numbers of the classes to name; None: all.
    """
    colours = palette(names).tolist()
    chosen = range(len(names)) if only is None else only
    clear = has_background(names)
    entries = [
        (names[number] + (" (no colour)" if clear and number == 0 else ""), tuple(colours[number])) for number in chosen
    ]
    kinds = KINDS if clear else {CONFUSED: KINDS[CONFUSED]}
    if errors:
        entries += [(f"error: {kind}", colour) for kind, colour in kinds.items() if kind != CONFUSED or len(names) > 2]
        entries += [("not known", (255, 255, 255))]
    font = ImageFont.load_default(13)
    places, x, y = [], 4, 4
    for name, _ in entries:
        width = 22 + int(font.getlength(name)) + 14
        if x > 4 and x + width > wide:
            x, y = 4, y + 20
        places.append((x, y))
        x += width
    image = Image.new("RGB", (wide, y + 22), "white")
    draw = ImageDraw.Draw(image)
    for (name, colour), (left, top) in zip(entries, places, strict=True):
        draw.rectangle((left, top + 1, left + 14, top + 15), fill=colour, outline="black")
        draw.text((left + 20, top), name, fill="black", font=font)
    return np.asarray(image)


def shrunk(picture: Picture) -> Picture:
    """The picture with sides of at most 240 pixels."""
    factor = LONGEST / max(picture.shape[:2])
    if factor >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def _as_large(mask: NDArray[Any], picture: Picture) -> NDArray[Any]:
    """The mask at the picture's size, by the nearest position."""
    rows, columns = (
        (np.arange(large) * small // large) for large, small in zip(picture.shape[:2], mask.shape, strict=True)
    )
    return mask[rows[:, None], columns]
