"""Scattered digits: the embedded set. Real handwriting at random size and place, among cut pieces of other digits.

Source: the 1,797 handwritten 8×8 digits that scikit-learn carries (E. Alpaydin, C. Kaynak, "Optical Recognition of
Handwritten Digits", UCI 1998, doi:10.24432/C50P49). The clutter follows the cluttered MNIST of Mnih, Heess, Graves,
Kavukcuoglu, "Recurrent Models of Visual Attention", 2014, arXiv:1406.6247. Departures: 8×8 originals, a random size,
clutter that never comes from the digit's class and mostly lies beside it.

Everything is whole-number arithmetic, so that the same seed gives the same bytes on every machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foveate.data.cache import Arrays, load_arrays, save_arrays

VERSION = 1  # of the generator: part of the fingerprint and of the cache's file names
SIDE, SMALLEST = 32, 16  # pixels: the set's own image side, and the least that still shows a digit
CLASSES = tuple("0123456789")
TRAIN_ORIGINALS = 1200  # the originals are in order of their writers: the last third is held out, mostly other hands
Part = Literal["train", "test"]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Piece:
    """Something to draw: ink (h, w) of levels 0–16; its place and size in pixels; its brightness, 0–255."""

    ink: Ints
    top: int
    left: int
    height: int
    width: int
    brightness: int


@dataclass(frozen=True)
class Scene:
    """What one image shows: clutter, and the whole digit; `digit` and `pieces` number the originals they came from."""

    label: int
    digit: int
    pieces: tuple[int, ...]
    clutter: tuple[Piece, ...]
    target: Piece


@lru_cache(maxsize=1)
def originals() -> tuple[Ints, Ints]:
    """The bundled digits: ink (1797, 8, 8) of levels 0–16, and labels (1797,)."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    return bundle.images.astype(np.int64), bundle.target.astype(np.int64)


def pool(split: Part) -> range:
    """The originals that a split may use, for its digits and for its clutter; the two pools share none."""
    if split not in ("train", "test"):
        raise ValueError(f"wanted split 'train' or 'test', got {split!r}")
    return range(TRAIN_ORIGINALS) if split == "train" else range(TRAIN_ORIGINALS, len(originals()[1]))


def scenes(n: int, seed: int, image_size: int, split: Part) -> Iterator[Scene]:
    """The first n scenes of a split. Scene i depends on (seed, image_size, split, i) alone; its label is i mod 10."""
    if image_size < SMALLEST:
        raise ValueError(f"wanted image_size of at least {SMALLEST} pixels for scattered digits, got {image_size}")
    ink, labels = originals()
    first, last = pool(split).start, pool(split).stop
    members = [first + np.flatnonzero(labels[first:last] == label) for label in range(10)]
    others = [first + np.flatnonzero(labels[first:last] != label) for label in range(10)]
    for index in range(n):
        rng = np.random.Generator(np.random.PCG64([VERSION, seed, int(split == "test"), index]))
        label = index % 10
        digit = int(rng.choice(members[label]))
        side = _side(rng, image_size)
        top, left = (int(v) for v in rng.integers(0, image_size - side, 2, endpoint=True))
        target = Piece(np.pad(ink[digit], 1), top, left, side, side, int(rng.integers(140, 255)))
        sources = [int(v) for v in rng.choice(others[label], int(rng.integers(8, 12, endpoint=True)))]
        clutter = tuple(cut(rng, ink[source], target, image_size) for source in sources)
        yield Scene(label, digit, tuple(sources), clutter, target)


def _side(rng: np.random.Generator, image_size: int) -> int:
    """Pixels on a side of a digit drawn with a rim of one level: about half to three quarters of the image."""
    return int(rng.integers(image_size * 14 // 32, image_size * 25 // 32, endpoint=True))


def cut(rng: np.random.Generator, ink: Ints, target: Piece, image_size: int) -> Piece:
    """A part of a digit, 3 to 5 levels of its 8 on a side, at a scale that digits have; mostly beside the target."""
    height, width = (int(v) for v in rng.integers(3, 5, 2, endpoint=True))
    y, x = int(rng.integers(0, 8 - height, endpoint=True)), int(rng.integers(0, 8 - width, endpoint=True))
    side = _side(rng, image_size)
    tall, wide = (height + 2) * side // 10, (width + 2) * side // 10
    tops = rng.integers(-2, image_size - tall + 2, 12, endpoint=True)
    lefts = rng.integers(-2, image_size - wide + 2, 12, endpoint=True)
    rows = np.minimum(tops + tall, target.top + target.height) - np.maximum(tops, target.top)
    columns = np.minimum(lefts + wide, target.left + target.width) - np.maximum(lefts, target.left)
    covered = rows.clip(0) * columns.clip(0)
    place = int(np.argmax(covered <= tall * wide // 3)) if covered.min() <= tall * wide // 3 else int(covered.argmin())
    piece = np.pad(ink[y : y + height, x : x + width], 1)
    return Piece(piece, int(tops[place]), int(lefts[place]), tall, wide, int(rng.integers(140, 255)))


@lru_cache(maxsize=512)
def _stretch(source: int, target: int) -> Ints:
    """Linear interpolation as a matrix (target, source) of 256ths, centres aligned."""
    matrix = np.zeros((target, source), np.int64)
    for row in range(target):
        place = (2 * row + 1) * source - target  # in units of 1 / (2 · target)
        low, rest = divmod(place, 2 * target)
        share = (256 * rest + target) // (2 * target)
        matrix[row, min(max(low, 0), source - 1)] += 256 - share
        matrix[row, min(max(low + 1, 0), source - 1)] += share
    return matrix


def layer(piece: Piece, image_size: int) -> Ints:
    """The piece alone on black, (image_size, image_size), levels 0–255; what lies outside the image is cut off."""
    drawn = _stretch(len(piece.ink), piece.height) @ piece.ink @ _stretch(piece.ink.shape[1], piece.width).T
    level = drawn // 4096  # 256 · 256 · 16 levels → 0–256
    level = np.clip((level - 64) * 2, 0, 255) * piece.brightness // 255  # interpolated edges made crisp again
    canvas = np.zeros((image_size, image_size), np.int64)
    y0, x0 = max(piece.top, 0), max(piece.left, 0)
    y1, x1 = min(piece.top + piece.height, image_size), min(piece.left + piece.width, image_size)
    canvas[y0:y1, x0:x1] = level[y0 - piece.top : y1 - piece.top, x0 - piece.left : x1 - piece.left]
    return canvas


def draw(scene: Scene, image_size: int, noise: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The image, and the digit's mask (1 where the digit has ink), both uint8 (image_size, image_size)."""
    digit = layer(scene.target, image_size)
    canvas = np.maximum.reduce([digit, *(layer(piece, image_size) for piece in scene.clutter)])
    grain = noise.integers(-24, 25, (3, image_size, image_size)).sum(0)  # three dice: near normal, deviation 24
    return np.clip(canvas + 20 + grain, 0, 255).astype(np.uint8), (digit > 0).astype(np.uint8)


def scattered_digits(n: int, seed: int = 0, image_size: int = SIDE, split: Part = "train") -> Arrays:
    """n images with a digit to find in each; the same arguments give the same bytes, made once and then cached.

    Image i does not depend on n: a smaller set is the beginning of a larger one, and holds every class alike.

    Args:
        n: how many images.
        seed: not negative.
        image_size: side in pixels, at least 16.
        split: "train" or "test"; no original digit is used in both, not even as clutter.

    Returns: images, uint8 (n, H, W); labels, int64 (n,); boxes, int64 (n, 4), x0 y0 x1 y1 in pixels, tight around the
        digit's ink, x1 and y1 just outside it; masks, uint8 (n, H, W), 1 on the ink; originals, int64 (n,), the number
        of the digit in scikit-learn's set.
    Raises: ValueError: if an argument is out of its range.
    """
    if n < 1 or seed < 0:
        raise ValueError(f"wanted at least one image and a seed that is not negative, got n={n}, seed={seed}")
    name = f"scattered-digits-v{VERSION}-{split}-{n}-{image_size}-{seed}"
    if kept := load_arrays(name):
        return kept
    made = Arrays(
        images=np.empty((n, image_size, image_size), np.uint8),
        labels=np.empty(n, np.int64),
        boxes=np.empty((n, 4), np.int64),
        masks=np.empty((n, image_size, image_size), np.uint8),
        originals=np.empty(n, np.int64),
    )
    for index, scene in enumerate(scenes(n, seed, image_size, split)):
        noise = np.random.Generator(np.random.PCG64([VERSION, seed, int(split == "test"), index, 1]))
        made["images"][index], mask = draw(scene, image_size, noise)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        made["masks"][index] = mask
        made["boxes"][index] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        made["labels"][index], made["originals"][index] = scene.label, scene.digit
    save_arrays(name, made)
    return made
