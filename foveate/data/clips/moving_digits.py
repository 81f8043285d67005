"""Kind "moving_digits": clips of a digit that moves among still pieces of others. Embedded.

The class is the axis that the digit moves along. It moves to either side, comes back in where it leaves the image, and
begins anywhere, so that one frame alone is as likely of every class: only a network that relates frames can tell.
"""

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from foveate.data.cache import Arrays, load_arrays, save_arrays
from foveate.data.dataset import Dataset, Progress, Target, register_data
from foveate.data.digits import CLASSES as DIGITS
from foveate.data.digits import SIDE, SMALLEST, Part, layer, scenes
from foveate.data.in_memory import Samples, in_memory
from foveate.spec import EMBEDDED, DataSpec

VERSION = 2  # of the generator: part of the cache's file names
TRAIN, TEST = 800, 400  # clips, where the specification does not say
FRAMES = 8
SEED = 0
MOST_PIXELS = 2**32  # of a split, which stands in memory
AXES = {"horizontal": (0, 1), "vertical": (1, 0), "falling": (1, 1), "rising": (-1, 1)}  # pixels down, right
CLASSES = tuple(AXES)


@register_data("moving_digits", recognises=lambda source: source == EMBEDDED, tasks=("video", "reidentification"))
def open_moving_digits(
    spec: DataSpec, *, progress: Progress | None = None, frames: int = FRAMES, clutter: int = 4
) -> Dataset:
    """A digit that moves along one of four axes; train_items and test_items: how many clips.

    The targets are "label", the axis, and "identity", which digit moves. No original digit is in both parts.

    Args:
        spec: its size is that of the frames, 32×32 where it does not say.
        frames: of a clip, 2 to 64.
        clutter: pieces of other digits, which do not move, 0 to 8.

    Raises: ValueError: if the source is another, the size is no square of 16 pixels or more, there are fewer clips than
        classes, or an option is out of its range.
    """
    if spec.source != EMBEDDED:
        raise ValueError(f"kind of data 'moving_digits': wanted source = {EMBEDDED!r}; got {spec.source!r}")
    size = spec.size or (SIDE, SIDE)
    if len(size) != 2 or size[0] != size[1] or size[0] < SMALLEST:
        raise ValueError(f"moving digits: wanted a square size of at least {SMALLEST} pixels; got {list(size)}")
    for option, value, low, high in (("frames", frames, 2, 64), ("clutter", clutter, 0, 8)):
        if not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"moving digits: {option}: wanted {low} to {high}; got {value!r}")
    counts = {"train_items": spec.train_items or TRAIN, "test_items": spec.test_items or TEST}
    for option, count in counts.items():
        if count < len(CLASSES):
            raise ValueError(f"wanted {option} of at least {len(CLASSES)}, one a class; got {count}")
        if count * frames * size[0] ** 2 > MOST_PIXELS:
            most = MOST_PIXELS // (frames * size[0] ** 2)
            raise ValueError(f"{option}: wanted at most {most:,} clips of {frames} frames of this size; got {count:,}")
    train = _samples(counts["train_items"], size[0], "train", frames, clutter)
    test = _samples(counts["test_items"], size[0], "test", frames, clutter)
    digest = hashlib.sha256()
    for clips, targets in (train, test):
        digest.update(clips.tobytes() + targets["label"].tobytes() + targets["identity"].tobytes())
    return in_memory(
        spec.model_copy(update={"train_items": None, "test_items": None, "size": None}),
        train,
        test,
        {"label": Target("class", CLASSES), "identity": Target("class", DIGITS)},
        name="moving digits",
        fingerprint=digest.hexdigest()[:16],
        content="a handwritten digit that moves along one of four axes among still pieces of others, with noise",
        fixed_parts="its test digits are of other writers than its training digits",
    )


def _samples(count: int, side: int, part: Part, frames: int, clutter: int) -> Samples:
    made = moving_digits(count, SEED, side, part, frames=frames, clutter=clutter)
    return made["clips"][:, None], {"label": made["labels"], "identity": made["digits"]}


def moving_digits(
    n: int, seed: int = SEED, image_size: int = SIDE, split: Part = "train", *, frames: int = FRAMES, clutter: int = 4
) -> Arrays:
    """n clips; the same arguments give the same bytes, made once and cached. Clip i does not depend on n.

    Returns: clips, uint8 (n, frames, H, W); labels, int64 (n,), numbers of `CLASSES`; digits, int64 (n,), 0 to 9, the
        one that moves; steps, int64 (n, 2), pixels down and right that it moves by from one frame to the next.
    """
    name = f"moving-digits-v{VERSION}-{split}-{n}-{image_size}-{frames}-{clutter}-{seed}"
    if kept := load_arrays(name):
        return kept
    index = np.arange(n, dtype=np.int64)
    made = Arrays(
        clips=np.empty((n, frames, image_size, image_size), np.uint8),
        labels=(index + index // 20)
        % len(CLASSES),  # each digit, which is that of index mod 10, equally often with each
        digits=np.empty(n, np.int64),
        steps=np.empty((n, 2), np.int64),
    )
    axes = np.array(list(AXES.values()))
    for place, scene in enumerate(scenes(n, seed, image_size, split)):
        rng = np.random.Generator(np.random.PCG64([VERSION, seed, int(split == "test"), place, 3]))
        side = int(rng.integers(image_size // 4, image_size * 3 // 8, endpoint=True))
        speed = int(rng.integers(image_size // 10, image_size // 6, endpoint=True))
        step = axes[made["labels"][place]] * speed * int(rng.choice([-1, 1]))
        start = rng.integers(0, image_size, 2)
        digit = layer(replace(scene.target, height=side, width=side), image_size)
        still: NDArray[np.int64] = np.zeros_like(digit)
        for piece in scene.clutter[:clutter]:
            still = np.maximum(still, layer(piece, image_size) // 2)
        for frame in range(frames):
            down, right = start + frame * step
            canvas = np.maximum(still, np.roll(digit, (int(down), int(right)), (0, 1)))
            noise = rng.integers(-12, 13, (3, image_size, image_size)).sum(0)
            made["clips"][place, frame] = np.clip(canvas + 20 + noise, 0, 255)
        made["digits"][place], made["steps"][place] = scene.label, step
    save_arrays(name, made)
    return made
