"""Scattered digits among a chosen number of distractors: whole letters, or pieces of other digits.

An image's digit, its place and its noise are those of `scattered_digits`, whatever the number of distractors; the
distractors of a smaller number are the first of those of a larger one.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from foveate.data.cache import Arrays, load_arrays, save_arrays
from foveate.data.digits import VERSION as VERSION_OF_DIGITS
from foveate.data.digits import Ints, Part, Piece, Scene, cut, draw, layer, originals, pool, scattered_digits, scenes

VERSION = 1  # of the generator: part of the cache's file names
KINDS = ("pieces", "letters", "both")
MOST = 32  # of an image
TRIED = 12  # places, of which one mostly beside the digit is taken
# five bits a row, from the top: letters that look like no digit
_LETTERS = {
    "A": (14, 17, 17, 31, 17, 17, 17),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "K": (17, 18, 20, 24, 20, 18, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "P": (30, 17, 17, 30, 16, 16, 16),
    "R": (30, 17, 17, 30, 20, 18, 17),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14),
    "V": (17, 17, 17, 17, 17, 10, 4),
    "W": (17, 17, 17, 21, 21, 27, 17),
    "X": (17, 17, 10, 4, 10, 17, 17),
    "Y": (17, 17, 10, 4, 4, 4, 4),
}


def letters() -> list[Ints]:
    """The ink of each letter, (9, 7) of levels 0 or 16 with a rim of one."""
    bits = np.array([[[row >> place & 1 for place in range(4, -1, -1)] for row in rows] for rows in _LETTERS.values()])
    return [np.pad(16 * ink, 1) for ink in bits.astype(np.int64)]


def with_distractors(scene: Scene, count: int, kind: str, rng: np.random.Generator, size: int, split: Part) -> Scene:
    """The scene with this many distractors in place of its clutter."""
    ink, labels = originals()
    members = pool(split)
    others = members.start + np.flatnonzero(labels[members.start : members.stop] != scene.label)
    glyphs = letters()
    found = []
    for number in range(count):
        if kind == "letters" or (kind == "both" and number % 2):
            found.append(_letter(rng, glyphs[int(rng.integers(len(glyphs)))], scene.target, size))
        else:
            found.append(cut(rng, ink[int(rng.choice(others))], scene.target, size))
    return replace(scene, pieces=(), clutter=tuple(found))


def _letter(rng: np.random.Generator, glyph: Ints, target: Piece, size: int) -> Piece:
    """A letter of about a third of the image, mostly beside the digit."""
    tall = int(rng.integers(size * 9 // 32, size * 15 // 32, endpoint=True))
    wide = tall * 7 // 9
    tops = rng.integers(-2, size - tall + 2, TRIED, endpoint=True)
    lefts = rng.integers(-2, size - wide + 2, TRIED, endpoint=True)
    rows = np.minimum(tops + tall, target.top + target.height) - np.maximum(tops, target.top)
    columns = np.minimum(lefts + wide, target.left + target.width) - np.maximum(lefts, target.left)
    place = int((rows.clip(0) * columns.clip(0)).argmin())
    return Piece(glyph, int(tops[place]), int(lefts[place]), tall, wide, int(rng.integers(140, 255)))


def digits_among(n: int, seed: int, image_size: int, split: Part, *, distractors: int, kind: str) -> Arrays:
    """As `scattered_digits` with this many distractors for clutter, and their boxes, float32 (n, distractors, 4): x0 y0
    x1 y1 around the ink that is in the image; equal corners where none is.

    Raises: ValueError: if an argument is out of its range.
    """
    if isinstance(distractors, bool) or not isinstance(distractors, int) or not 0 <= distractors <= MOST:
        raise ValueError(f"distractors: wanted a number from 0 to {MOST}; got {distractors!r}")
    if kind not in KINDS:
        raise ValueError(f"distractors_are: wanted {', '.join(KINDS)}; got {kind!r}")
    name = f"digits-among-v{VERSION}.{VERSION_OF_DIGITS}-{split}-{n}-{image_size}-{distractors}-{kind}-{seed}"
    if kept := load_arrays(name):
        return kept
    made = dict(scattered_digits(n, seed, image_size, split))
    made["images"] = made["images"].copy()
    made["distractors"] = np.zeros((n, distractors, 4), np.float32)
    for index, scene in enumerate(scenes(n, seed, image_size, split)):
        state = [seed, int(split == "test"), index]
        chosen = np.random.Generator(np.random.PCG64([VERSION, *state, 4]))
        noise = np.random.Generator(np.random.PCG64([VERSION_OF_DIGITS, *state, 1]))
        changed = with_distractors(scene, distractors, kind, chosen, image_size, split)
        made["images"][index], _ = draw(changed, image_size, noise)
        for number, piece in enumerate(changed.clutter):
            made["distractors"][index, number] = _box(layer(piece, image_size))
    save_arrays(name, made)
    return made


def _box(ink: Ints) -> NDArray[np.float32]:
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not len(rows):
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
