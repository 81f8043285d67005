"""Mask files → the number that stands for each pixel: the value of an index mask, or its colour."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveate.data.decode import why_unreadable
from foveate.data.listing import Photo

Codes = NDArray[np.int32]  # (H, W): values of pixels, or COLOUR + 65536 r + 256 g + b
COLOUR = 1 << 24  # codes from here on are colours
UNKNOWN = -1  # code of pixels of which nothing is known, whatever the classes are
EIGHT_BITS = ("1", "L", "P", "LA", "PA")
INDEX_MODES = (*EIGHT_BITS, "I", "I;16", "I;16L", "I;16B")
COLOUR_MODES = ("RGB", "RGBA", "RGBX")


class MaskSource(Protocol):
    """Where the mask of one image comes from.

    Attributes:
        path: of the file, for errors.
        state: what the mask rests on: names, sizes and times of change of files.
    """

    @property
    def path(self) -> Path: ...

    @property
    def state(self) -> str: ...

    def read(self, *, colours: bool) -> tuple[Codes, bool]:
        """As `read_codes`. Raises: ValueError: if it cannot be read; names the file."""


@dataclass(frozen=True)
class FileMask:
    """A mask file; where there is a file of a field of view, the mask is unknown where that is 0."""

    photo: Photo
    view: Photo | None = None

    @property
    def path(self) -> Path:
        return self.photo.path

    @property
    def state(self) -> str:
        files = (self.photo, *([] if self.view is None else [self.view]))
        return "\0".join(f"{file.path}\0{file.size}\0{file.mtime_ns}" for file in files)

    def read(self, *, colours: bool) -> tuple[Codes, bool]:
        codes, alpha = read_codes(self.path, colours=colours)
        if self.view is None:
            return codes, alpha
        seen, _ = read_codes(self.view.path)
        if seen.shape != codes.shape:
            sides = [f"{shape[1]}×{shape[0]}" for shape in (seen.shape, codes.shape)]
            raise ValueError(f"{self.view.path}: a field of view of {sides[0]} pixels; wanted {sides[1]} as its mask")
        return np.where((seen == 0) | (seen == COLOUR), np.int32(UNKNOWN), codes), alpha


def colour_code(red: int, green: int, blue: int) -> int:
    """The code of a colour."""
    return COLOUR + (red << 16) + (green << 8) + blue


def shown_code(code: int) -> str:
    """A code as the user's file has it: 7, or (128, 64, 0)."""
    if code < COLOUR:
        return str(code)
    return f"({code >> 16 & 255}, {code >> 8 & 255}, {code & 255})"


def shown_codes(codes: Iterable[int], most: int = 6) -> str:
    """Several, the smallest first: "3, 7, 255", with … after the most."""
    ordered = sorted(codes)
    return ", ".join(map(shown_code, ordered[:most])) + ", …" * (len(ordered) > most)


def read_codes(path: Path, *, colours: bool = False) -> tuple[Codes, bool]:
    """The codes of a mask file, and whether it has an alpha channel (which says nothing about classes).

    Args:
        path: of one or 8 or 16 bits a pixel, with a palette or without, RGB or RGBA. RGB that is grey throughout is an
            index mask.
        colours: classes are colours: a palette's colours are taken in place of its numbers, and grey is a colour.

    Raises: ValueError: if it cannot be read, or is of no such kind; names the file.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return _codes(image, colours), "A" in image.mode
    except Exception as error:  # a decoder meets damage in many ways
        raise ValueError(f"{path}: {why_unreadable(error)}") from None


def read_colours(image: Image.Image) -> Codes:
    """Colours of an opened image as codes."""
    pixels = np.asarray(image.convert("RGB")).astype(np.int32)
    return COLOUR + (pixels[:, :, 0] << 16) + (pixels[:, :, 1] << 8) + pixels[:, :, 2]


def _codes(image: Image.Image, colours: bool) -> Codes:
    if image.mode in COLOUR_MODES or (colours and image.mode in EIGHT_BITS):
        pixels = np.asarray(image.convert("RGB"))
        if not colours and (pixels == pixels[:, :, :1]).all():
            return pixels[:, :, 0].astype(np.int32)
        return read_colours(image)
    if image.mode not in INDEX_MODES:
        raise ValueError(f"a mask of Pillow's mode {image.mode!r}; wanted an index mask of 1 to 16 bits, or RGB")
    values = np.asarray(image)
    values = values[:, :, 0] if values.ndim == 3 else values
    if values.min(initial=0) < 0 or values.max(initial=0) >= COLOUR:
        raise ValueError(f"values from {values.min()} to {values.max()}; wanted class numbers")
    return values.astype(np.int32)
