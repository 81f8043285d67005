"""Samples as pictures: inputs in grey or colour, captions, points over them."""

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Picture = NDArray[np.uint8]
Over = Callable[[int, Picture], Picture]  # draws over a picture of a batch's sample, by its number
Colour = tuple[int, int, int]
LEAST = 160  # pixels; smaller samples are enlarged
WIDEST = 2000  # pixels of a sheet


def shown(inputs: Any) -> list[Picture]:
    """A picture (H, W, 3) of each sample of a batch: its own range stretched to 0–255, one channel as grey.

    Images of a list lie in 0 to 1 and are shown as they are. Signals (N, C, L) are drawn as curves; of clips and
    volumes (N, C, D, H, W) the middle slice is shown.
    """
    samples = list(inputs) if isinstance(inputs, (Tensor, list, tuple)) else list(next(iter(inputs.values())))
    return [_one(sample.detach().float().cpu(), stretched=not isinstance(inputs, list)) for sample in samples]


def _one(sample: Tensor, *, stretched: bool) -> Picture:
    if sample.dim() == 4:
        sample = sample[:, sample.shape[1] // 2]
    if sample.dim() == 2:
        return _curve(sample[0])
    sample = sample[:3] if sample.shape[0] >= 3 else sample[:1].expand(3, -1, -1)
    low, high = (sample.min(), sample.max()) if stretched else (torch.tensor(0.0), torch.tensor(1.0))
    pixels = ((sample - low) / (high - low).clamp_min(1e-12) * 255).round().clamp(0, 255).to(torch.uint8)
    return enlarged(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))


def _curve(signal: Tensor) -> Picture:
    wide, high = 2 * LEAST, LEAST
    image = Image.new("RGB", (wide, high), "white")
    values = signal.numpy()
    spread = float(np.ptp(values)) or 1.0
    x = np.linspace(0, wide - 1, len(values))
    y = (high - 1) * (1 - (values - values.min()) / spread)
    ImageDraw.Draw(image).line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=(0, 104, 168))
    return np.asarray(image)


def factor_of(height: int, width: int) -> int:
    """By how much a sample is enlarged."""
    return max(1, -(-LEAST // max(min(height, width), 1)))


def enlarged(picture: Picture) -> Picture:
    """Small pictures with each pixel as a square."""
    factor = factor_of(*picture.shape[:2])
    return picture.repeat(factor, 0).repeat(factor, 1)


def captioned(picture: Picture, line: str) -> Picture:
    """The picture above one line of text."""
    font = ImageFont.load_default(13)
    high, wide = picture.shape[0] + 20, max(picture.shape[1], 60)
    image = Image.new("RGB", (wide, high), "white")
    image.paste(Image.fromarray(picture), (0, 0))
    while len(line) > 4 and font.getlength(line) > wide - 4:
        line = line[:-2] + "…"
    ImageDraw.Draw(image).text((2, picture.shape[0] + 2), line, fill="black", font=font)
    return np.asarray(image)


def marked(
    picture: Picture, points: Sequence[tuple[float, float, tuple[int, int, int]]], size: tuple[int, int]
) -> Picture:
    """Crosses at (x, y, colour), in pixels of the sample of this (height, width)."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    sides = picture.shape[1] / size[1], picture.shape[0] / size[0]
    for x, y, colour in points:
        at_x, at_y = (x + 0.5) * sides[0], (y + 0.5) * sides[1]
        draw.line((at_x - 6, at_y, at_x + 6, at_y), fill=colour, width=2)
        draw.line((at_x, at_y - 6, at_x, at_y + 6), fill=colour, width=2)
    return np.asarray(image)


def sheet(pictures: Sequence[Picture], columns: int | None = None) -> Picture:
    """The pictures in rows on white; columns: None: as many as about 2000 pixels have room for, at most six."""
    high = max(picture.shape[0] for picture in pictures) + 6
    wide = max(picture.shape[1] for picture in pictures) + 6
    columns = min(6, max(1, WIDEST // wide)) if columns is None else columns
    rows = -(-len(pictures) // columns)
    whole = np.full((rows * high, columns * wide, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * high, number % columns * wide
        whole[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return whole


def above(first: Picture, second: Picture) -> Picture:
    """One picture above the other on white."""
    wide = max(first.shape[1], second.shape[1])
    both = [np.pad(one, ((0, 0), (0, wide - one.shape[1]), (0, 0)), constant_values=255) for one in (first, second)]
    return np.concatenate(both, 0)


def png(picture: Picture) -> bytes:
    """The picture as a PNG file's bytes."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
