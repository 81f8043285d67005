"""Kind "digit_boxes": several scattered digits an image, with a box, a class and a mask each. Embedded."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from foveate.data.annotation import annotation
from foveate.data.boxes.batches import BoxedImages, Changes
from foveate.data.cache import Arrays, load_arrays, save_arrays
from foveate.data.dataset import Dataset, Progress, Target, register_data
from foveate.data.digits import CLASSES, Part, Piece, layer, originals, pool
from foveate.spec import EMBEDDED, DataSpec

VERSION = 1  # of the generator: part of the cache's file names
SIDE, SMALLEST = 96, 48  # pixels of an image: the set's own side, and the least
TRAIN, TEST = 600, 200  # images, where the specification does not say
SEED = 0
MOST = 5  # digits of an image; one image in this many and one has none
TRIED = 30  # places for a digit that touches no other


@register_data("digit_boxes", recognises=lambda source: source == EMBEDDED, tasks=("detection",))
def open_digit_boxes(
    spec: DataSpec,
    *,
    progress: Progress | None = None,
    masks: bool = False,
    scales: tuple[float, float] = Changes.scales,
    colour: float = 0.0,
    multi_scale: tuple[float, float] | None = Changes.multi_scale,
) -> Dataset:
    """Up to five digits of a fifth to nearly half of the image, in noise; train_items and test_items: how many images.

    The target is "boxes". No original digit is in both parts.

    Args:
        spec: its size is that of the images, 96×96 where it does not say.
        masks: give the digits' masks as well.
        scales, colour, multi_scale: of training, as `foveate.data.boxes.batches.Changes` has them; nothing is mirrored.

    Raises: ValueError: if the source is another, or the size is no square of 48 pixels or more.
    """
    if spec.source != EMBEDDED:
        raise ValueError(f"kind of data 'digit_boxes': wanted source = {EMBEDDED!r}; got {spec.source!r}")
    size = spec.size or (SIDE, SIDE)
    if len(size) != 2 or size[0] != size[1] or size[0] < SMALLEST:
        raise ValueError(f"digits with boxes: wanted a square size of at least {SMALLEST} pixels; got {list(size)}")
    changes = Changes(scales, False, colour, multi_scale)
    train = _split(spec.train_items or TRAIN, size[0], "train", changes, masks)
    test = _split(spec.test_items or TEST, size[0], "test", changes, masks)
    digest = hashlib.sha256()
    for split in (train, test):
        for content, one in zip(split.contents, split.annotations, strict=True):
            digest.update(np.asarray(content).tobytes() + one.boxes.tobytes() + one.labels.tobytes())
    counts = f"{len(train):,} train and {len(test):,} test images of {size[0]}×{size[0]} pixels"
    return Dataset(
        name="scattered digits with boxes",
        inputs=(3, *size),
        targets={"boxes": Target("boxes", CLASSES)},
        train=train,
        test=test,
        fingerprint=digest.hexdigest()[:16],
        description=f"scattered digits with boxes: {counts}, {len(CLASSES)} classes; 0 to {MOST} digits an image",
        about={"augmentation": str(changes)},
        prepare=test.prepare,
        scale_of=test.scale_of,
        fixed_parts="its test digits are of other writers than its training digits",
    )


def _split(count: int, side: int, part: Part, changes: Changes, masks: bool) -> BoxedImages:
    made = digit_scenes(count, SEED, side, part)
    annotations = []
    for number in range(count):
        rows = np.flatnonzero(made["image"] == number)
        annotations.append(
            annotation(
                made["boxes"][rows],
                made["labels"][rows],
                area=made["area"][rows],
                outlines=[made["masks"][number] == place for place in made["place"][rows]],
                image=(side, side),
            )
        )
    pictures = [np.repeat(image[:, :, None], 3, 2) for image in made["images"]]
    names = [str(number) for number in range(count)]
    return BoxedImages(pictures, annotations, names, (side, side), changes=changes, masks=masks)


def digit_scenes(n: int, seed: int = SEED, image_size: int = SIDE, split: Part = "train") -> Arrays:
    """n images of up to five digits that do not touch; the same arguments give the same bytes, made once and cached.

    Image i does not depend on n.

    Returns: images, uint8 (n, H, W); masks, uint8 (n, H, W), 1 to 5 on the ink of each digit; of each of the k digits
        of all images: image (k,) and place (k,), whose ink it is, boxes int64 (k, 4), x0 y0 x1 y1 tight around the ink,
        x1 and y1 just outside it, labels (k,), area (k,) of the ink, all in pixels.
    """
    name = f"digit-boxes-v{VERSION}-{split}-{n}-{image_size}-{seed}"
    if kept := load_arrays(name):
        return kept
    images = np.empty((n, image_size, image_size), np.uint8)
    masks = np.zeros((n, image_size, image_size), np.uint8)
    rows: list[tuple[int, ...]] = []
    for number in range(n):
        images[number], masks[number], found = _scene(number, seed, image_size, split)
        rows += [(number, *row) for row in found]
    table = np.array(rows, np.int64).reshape(-1, 8)
    made = Arrays(
        images=images,
        masks=masks,
        image=table[:, 0],
        place=table[:, 1],
        labels=table[:, 2],
        boxes=table[:, 3:7],
        area=table[:, 7],
    )
    save_arrays(name, made)
    return made


def _scene(
    number: int, seed: int, side: int, split: Part
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[tuple[int, ...]]]:
    """The picture, whose ink each pixel is, and (place, label, x0, y0, x1, y1, area) of each digit."""
    ink, labels = originals()
    rng = np.random.Generator(np.random.PCG64([VERSION, seed, int(split == "test"), number, 2]))
    canvas = np.zeros((side, side), np.int64)
    mask = np.zeros((side, side), np.uint8)
    found: list[tuple[int, ...]] = []
    for _ in range(int(rng.integers(0, MOST, endpoint=True))):
        digit = int(rng.integers(pool(split).start, pool(split).stop))
        high = int(rng.integers(side // 5, side * 9 // 20, endpoint=True))
        brightness = int(rng.integers(140, 255))
        for _ in range(TRIED):
            top, left = (int(v) for v in rng.integers(0, side - high, 2, endpoint=True))
            if not mask[max(top - 1, 0) : top + high + 1, max(left - 1, 0) : left + high + 1].any():
                break
        else:
            continue
        drawn = layer(Piece(np.pad(ink[digit], 1), top, left, high, high, brightness), side)
        place = len(found) + 1
        mask[drawn > 0] = place
        canvas = np.maximum(canvas, drawn)
        rows, columns = np.flatnonzero((drawn > 0).any(1)), np.flatnonzero((drawn > 0).any(0))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        found.append((place, int(labels[digit]), *map(int, box), int((drawn > 0).sum())))
    noise = rng.integers(-24, 25, (3, side, side)).sum(0)
    return np.clip(canvas + 20 + noise, 0, 255).astype(np.uint8), mask, found
