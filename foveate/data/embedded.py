"""The embedded set as a data set, and written out as a folder of class folders."""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

from foveate.data.digits import CLASSES, SIDE, Part, scattered_digits
from foveate.data.pixels import Labelled, in_memory
from foveate.data.splits import ImageData
from foveate.spec import Data

TRAIN, TEST = 2000, 1000  # images, where the specification does not say
SEED = 0


def open_embedded(data: Data) -> ImageData:
    """Scattered digits, 32×32 unless `data.image_size` says otherwise; train_images and test_images say how many.

    Raises: ValueError: an image size below 16, or fewer images than classes.
    """
    size = data.image_size or SIDE
    counts = {"train_images": data.train_images or TRAIN, "test_images": data.test_images or TEST}
    for option, count in counts.items():
        if count < len(CLASSES):
            raise ValueError(f"wanted {option} of at least {len(CLASSES)}, one a class; got {count}")
    train = _drawn(counts["train_images"], size, "train")
    test = _drawn(counts["test_images"], size, "test")
    digest = hashlib.sha256()
    for images, labels in (train, test):
        digest.update(images.tobytes() + labels.tobytes())
    return in_memory(
        data,
        train,
        test,
        name="scattered digits",
        classes=CLASSES,
        fingerprint=digest.hexdigest()[:16],
        about="a handwritten digit among cut pieces of others, with noise",
        shift=size // 16,
        edge="reflect",
    )


def _drawn(count: int, size: int, split: Part) -> Labelled:
    made = scattered_digits(count, SEED, size, split)
    return made["images"][:, None], made["labels"]


def make_embedded(
    out: Path, n: int = TRAIN, *, test_images: int = TEST, image_size: int = SIDE, seed: int = SEED
) -> None:
    """Write scattered digits as out/train/<digit>/00000.png … and out/test/<digit>/…: all of it or nothing.

    Args:
        out: a folder that is empty or not there yet.
        n: train images.
        test_images: of digits that no train image shows.
        image_size: side in pixels.
        seed: another seed is another set.
    Raises: ValueError: `out` is a file or holds something, cannot be written, or a number is out of its range.
    """
    from PIL import Image

    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: wanted a folder to write to, got a file")
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(
            f"{out}: wanted an empty or a new folder, got one that holds {next(iter(out.iterdir())).name!r}"
        )
    parts: dict[Part, int] = {"train": n, "test": test_images}
    sets = {split: scattered_digits(count, seed, image_size, split) for split, count in parts.items()}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            whole = Path(folder) / "whole"
            for split, made in sets.items():
                for name in CLASSES:
                    (whole / split / name).mkdir(parents=True)
                for index, (image, label) in enumerate(zip(made["images"], made["labels"], strict=True)):
                    Image.fromarray(np.asarray(image)).save(whole / split / CLASSES[label] / f"{index:05d}.png")
            os.replace(whole, out)
    except OSError as error:
        raise ValueError(f"{out}: cannot be written: {error.strerror or error}") from None
