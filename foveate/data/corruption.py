"""Test images corrupted at the level of their pixels, by imagecorruptions: noise, blur, weather, digital.

The package draws from numpy's global generator. Here every draw depends on (seed, item, corruption, severity) alone,
and that generator is as it was afterwards.
"""

import hashlib
import importlib
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveate.data.dataset import Batch, Split
from foveate.robustness import SEISMIC

SMALLEST = 32  # pixels of a side, as the package takes them
SEEDED = ("impulse_noise", "glass_blur")  # take a seed of their own and ignore the generator's
_LOCK = threading.Lock()  # the generator is one for all threads


def require_corruptions() -> Any:
    """The package. Raises: ValueError: if it is missing."""
    try:
        return importlib.import_module("imagecorruptions")
    except ImportError as error:
        raise ValueError(
            f"corruptions need the package imagecorruptions-imaug ({error}): pip install 'foveate[corruptions]'"
        ) from None


def corrupted(image: NDArray[np.uint8], corruption: str, severity: int, seed: int) -> NDArray[np.uint8]:
    """The image with a corruption; the same arguments give the same pixels, in any thread.

    Args:
        image: (H, W, 3) RGB, or (H, W, 1) grey, of at least 32 × 32.
        corruption: one of `foveate.robustness.OF_IMAGES`.
        severity: 1 to 5.
        seed: of what is drawn.

    Raises: ValueError: if the package is missing, or the image is smaller.
    """
    library = require_corruptions()
    if min(image.shape[:2]) < SMALLEST:
        got = "×".join(map(str, image.shape[:2]))
        raise ValueError(f"{corruption}: wanted images of at least {SMALLEST}×{SMALLEST} pixels; got {got}")
    grey = image.shape[2] == 1
    whole = np.ascontiguousarray(np.repeat(image, 3, axis=2) if grey else image)
    own = {"seed": seed} if corruption in SEEDED else {}
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = np.random.get_state()
        np.random.seed(seed)
        try:
            found = library.corrupt(whole, severity=severity, corruption_name=corruption, **own)
        finally:
            np.random.set_state(state)
    if grey:
        return np.asarray(Image.fromarray(found).convert("L"))[:, :, None]
    return np.asarray(found)


def draw_of(seed: int, item: str, corruption: str, severity: int) -> int:
    """The seed of one item's corruption, below 2³¹."""
    text = f"{seed}\n{item}\n{corruption}\n{severity}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 2**31


class Corrupted(Split):
    """A split whose images are corrupted before they are normalised; its targets are those of the split.

    Args:
        split: of images of 1 or 3 channels whose `levels` are known.

    Raises: ValueError: if its samples are no such images.
    """

    def __init__(self, split: Split, corruption: str, severity: int, seed: int) -> None:
        require_corruptions()
        if split.levels is None:
            raise ValueError(f"{corruption}: wanted images of pixels from 0 to 255; the test data are none")
        self.split, self.known = split, split.levels
        self.corruption, self.severity, self.seed = corruption, severity, seed
        self.strata, self.groups, self.contents_alike = split.strata, split.groups, split.contents_alike
        self.shapes, self.positions, self.pixels = split.shapes, split.positions, split.pixels

    def __len__(self) -> int:
        return len(self.split)

    def name_of(self, item: int) -> str:
        return self.split.name_of(item)

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        batch = self.split.batch(items, None)
        x = batch.inputs
        if x.dim() != 4 or x.shape[1] not in (1, 3):
            raise ValueError(
                f"{self.corruption}: wanted images (N, 1, H, W) or (N, 3, H, W); got samples {tuple(x.shape)}"
            )
        pixels = self.known.pixels(x)
        for place, item in enumerate(batch.items.tolist()):
            draw = draw_of(self.seed, self.name_of(item), self.corruption, self.severity)
            pixels[place] = corrupted(pixels[place], self.corruption, self.severity, draw)
        return Batch(self.known.normalised(pixels), batch.targets, batch.items)


def corrupted_split(split: Split, corruption: str, severity: int, seed: int) -> Split:
    """The split with a corruption: of shot gathers, or of images as `Corrupted`.

    Raises: ValueError: as `Corrupted`; the split has no shot gathers.
    """
    if corruption not in SEISMIC:
        return Corrupted(split, corruption, severity, seed)
    of_gathers = getattr(split, "corrupted", None)
    if of_gathers is None:
        raise ValueError(f"{corruption}: wanted the shot gathers of a seismic data set's own test part; got other data")
    found: Split = of_gathers(corruption, severity, seed)
    return found


def evenly_chosen(count: int, most: int | None) -> list[int]:
    """Numbers below `count`, at most so many, evenly among them."""
    if most is None or most >= count:
        return list(range(count))
    return [number * count // most for number in range(most)]
