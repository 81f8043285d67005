"""Kind "embedded": scattered digits, with the digit's class, mask, box and centre; and the set written out as files."""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

from foveate.data.dataset import Dataset, Progress, Target, register_data
from foveate.data.digits import CLASSES, SIDE, SMALLEST, Part, scattered_digits
from foveate.data.distractors import digits_among
from foveate.data.in_memory import Samples, in_memory
from foveate.spec import EMBEDDED, DataSpec

TRAIN, TEST = 2000, 1000  # images, where the specification does not say
MOST_PIXELS = 2**32  # of a split, which stands in memory
SEED = 0
TARGETS = {
    "label": Target("class", CLASSES),
    "mask": Target("mask", ("background", "digit")),
    "box": Target("values", ("x0", "y0", "x1", "y1"), "px", "boxes"),
    "centre": Target("values", ("x", "y"), "px", "points"),
}


@register_data(EMBEDDED, recognises=lambda source: source == EMBEDDED)
def open_embedded(
    spec: DataSpec,
    *,
    progress: Progress | None = None,
    distractors: int | None = None,
    distractors_are: str = "pieces",
) -> Dataset:
    """Scattered digits, 32×32 unless `spec.size` says otherwise; train_items and test_items say how many.

    Targets: "label", the digit; "mask", its ink; "box", tight around the ink, x1 and y1 just outside it; "centre", the
    middle of that box. The images are drawn in their size, not resized.

    Args:
        spec: of the data.
        distractors: objects beside the digit in each image, 0 to 32, in place of its usual 8 to 12 pieces of other
            digits; the target "distractors" is then their boxes. Digits, places and noise do not depend on it.
        distractors_are: "pieces" of other digits, "letters", or "both" in turn.

    Raises: ValueError: if the source is another, the size is no square of 16 pixels or more, there are fewer images
        than classes, or an option is out of its range.
    """
    if spec.source != EMBEDDED:
        raise ValueError(f"kind of data {EMBEDDED!r}: wanted source = {EMBEDDED!r}; got {spec.source!r}")
    size = spec.size or (SIDE, SIDE)
    if len(size) != 2 or size[0] != size[1] or size[0] < SMALLEST:
        raise ValueError(f"scattered digits: wanted a square size of at least {SMALLEST} pixels; got {list(size)}")
    counts = {"train_items": spec.train_items or TRAIN, "test_items": spec.test_items or TEST}
    for option, count in counts.items():
        if count < len(CLASSES):
            raise ValueError(f"wanted {option} of at least {len(CLASSES)}, one a class; got {count}")
        if count * size[0] ** 2 > MOST_PIXELS:
            raise ValueError(
                f"{option}: wanted at most {MOST_PIXELS // size[0] ** 2:,} images of {size[0]}×{size[0]}; got {count:,}"
            )
    if distractors is None and distractors_are != "pieces":
        raise ValueError(f"distractors_are: goes with distractors = a number; got {distractors_are!r}")
    train = _drawn(counts["train_items"], size[0], "train", distractors, distractors_are)
    test = _drawn(counts["test_items"], size[0], "test", distractors, distractors_are)
    digest = hashlib.sha256()
    for images, targets in (train, test):
        digest.update(images.tobytes() + targets["label"].tobytes())
    return in_memory(
        spec.model_copy(update={"train_items": None, "test_items": None}),
        train,
        test,
        TARGETS if not distractors else TARGETS | {"distractors": _boxes_of(distractors)},
        name="scattered digits",
        fingerprint=digest.hexdigest()[:16],
        content=_content(distractors, distractors_are),
        shift=size[0] // 16,
        edge="reflect",
        fixed_parts="its test digits are of other writers than its training digits",
    )


def _content(distractors: int | None, kind: str) -> str:
    if distractors is None:
        return "a handwritten digit among cut pieces of others, with noise"
    among = {"pieces": "cut pieces of others", "letters": "letters", "both": "pieces of others and letters"}[kind]
    return f"a handwritten digit among {distractors} {among}, with noise" if distractors else "a digit, with noise"


def _boxes_of(count: int) -> Target:
    names = tuple(f"{side} of {number}" for number in range(count) for side in ("x0", "y0", "x1", "y1"))
    return Target("values", names, "px", "boxes")


def _drawn(count: int, side: int, split: Part, distractors: int | None, kind: str) -> Samples:
    if distractors is None:
        made = scattered_digits(count, SEED, side, split)
    else:
        made = digits_among(count, SEED, side, split, distractors=distractors, kind=kind)
    boxes = made["boxes"].astype(np.float32)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    targets = {"label": made["labels"], "mask": made["masks"], "box": boxes, "centre": centres}
    if distractors:
        targets["distractors"] = made["distractors"].reshape(count, -1)
    return made["images"][:, None], targets


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
    Raises: ValueError: if `out` is a file or holds something, cannot be written, or a number is out of its range.
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
