"""Image files of any kind → upright RGB images of 8 bits a channel."""

import importlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from foveate.data.dataset import Content
from foveate.data.problems import one_line

_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
_HEIC = (".heic", ".heif")
ENDINGS = (*_JPEG, ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif", *_HEIC)
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class NoReaderError(ValueError):
    """An image of a kind that a package reads which is not installed."""


def decode(content: bytes, least: int | None = None) -> Image.Image:
    """The image in a file's bytes, upright, RGB. What is transparent becomes white; 16-bit grey keeps its upper 8 bits.

    Args:
        content: of any format that Pillow reads (HEIC where pillow-heif is installed); of several frames, the first.
        least: a JPEG's short side may be decoded smaller, but not below this many pixels.
    Raises: ValueError: if the pixels have no fixed range; Pillow's own errors for what it cannot read.
    """
    if content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS:
        _read_heic()
    opened = Image.open(BytesIO(content))
    if least is not None and opened.format == "JPEG":
        factor = least / min(opened.size)
        opened.draft(None, (int(opened.width * factor) + 1, int(opened.height * factor) + 1))
    opened.load()
    image = _rgb(opened)
    turn = _UPRIGHT.get(_orientation(opened))
    return image if turn is None else image.transpose(turn)


def read_image(source: Content | str | Image.Image, least: int | None = None, name: str = "") -> Image.Image:
    """The image, upright, RGB.

    Args:
        source: a file, a file's contents, pixels (H, W, 3) uint8, or an opened PIL image.
        least: as `decode` takes it.
        name: what to call it in errors; default: its path.

    Raises: ValueError: if it cannot be read, in one line.
    """
    if isinstance(source, np.ndarray):
        return Image.fromarray(source)
    if isinstance(source, Image.Image):
        turn = _UPRIGHT.get(_orientation(source))
        return _rgb(source) if turn is None else _rgb(source).transpose(turn)
    try:
        return decode(source if isinstance(source, bytes) else Path(source).read_bytes(), least)
    except Exception as error:  # a decoder meets damage in many ways
        named = name or ("an image" if isinstance(source, bytes) else str(source))
        raise ValueError(f"{named}: {why_unreadable(error)}") from None


def why_unreadable(error: Exception) -> str:
    """What an error of `decode`, or of reading its file, says about the image."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image, whatever its name says"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than Pillow opens for safety's sake"
    if isinstance(error, NoReaderError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"corrupt or cut short: {one_line(error)}" if str(error) else "corrupt or cut short"


def _read_heic() -> None:
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        advice = "a HEIC photo; reading it needs pillow-heif (pip install pillow-heif); or save it as JPEG"
        raise NoReaderError(advice) from None
    heif.register_heif_opener()


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a damaged note about the photo does not damage the photo
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers without a fixed range; wanted 8 or 16 bits a channel")
    if image.mode == "I" or image.mode.startswith("I;16"):
        pixels: Any = (np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)
        return Image.fromarray(pixels).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")
