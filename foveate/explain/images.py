"""Image files of a person's own, opened with care: how large they are is read before they are decoded."""

import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from foveate.data.decode import read_image, why_unreadable

MOST_PIXELS = 64_000_000


@dataclass(frozen=True)
class Opened:
    """An upright RGB image and what a person should know of it, or ""."""

    image: Image.Image
    note: str = ""


def open_image(source: Any, name: str = "", most_pixels: int = MOST_PIXELS) -> Opened:
    """The image, turned upright, in RGB of 8 bits.

    Args:
        source: a file, its bytes, or a PIL image.
        name: what it is called in errors; default: its path.
        most_pixels: a larger image is refused before it is decoded.

    Raises: ValueError: if it is no image, is damaged, or has more pixels; in one line.
    """
    if isinstance(source, Image.Image):
        _check_size(source, name or "image", most_pixels)
        return Opened(read_image(source))
    named = name or ("image" if isinstance(source, bytes) else str(source))
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # its size is looked at below
            with Image.open(BytesIO(content)) as header:
                _check_size(header, named, most_pixels)
                frames = getattr(header, "n_frames", 1)
            image = read_image(content, name=named)
    except ValueError:
        raise
    except Exception as error:  # a decoder meets damage in many ways
        raise ValueError(f"{named}: {why_unreadable(error)}") from None
    return Opened(image, f"{named}: the first of {frames} frames is shown" if frames > 1 else "")


def _check_size(image: Image.Image, named: str, most: int) -> None:
    wide, high = image.size
    if wide * high > most:
        raise ValueError(f"{named}: wanted at most {most / 1e6:g} million pixels; got {wide}×{high}")
