"""Kind "affine_digits": handwritten digits, shifted for training, also turned, sheared and scaled for the test.

After affNIST (T. Tieleman), on which arXiv:1710.09829 tests capsules. Departures: scikit-learn's 8×8 originals, drawn
at 18 to 22 of 28 pixels; test digits are of other writers.
"""

import hashlib

import numpy as np
from scipy import ndimage

from foveate.data.dataset import Dataset, Progress, Target, register_data
from foveate.data.digits import CLASSES, originals, pool
from foveate.data.in_memory import Samples, in_memory
from foveate.spec import DataSpec

SIDE, SHIFT = 28, 4  # pixels
TURN, SHEAR, SCALE = 20.0, 0.2, 0.2  # degrees, tangent, share of the size: the most of each, to either side


@register_data("affine_digits")
def affine_digits(spec: DataSpec, *, progress: Progress | None = None) -> Dataset:
    """The set; train_items and test_items of `spec` say how many, 1,000 and 500 where it does not."""
    parts = {"train": spec.train_items or 1000, "test": spec.test_items or 500}
    train, test = (drawn(part, count) for part, count in parts.items())
    digest = hashlib.sha256(b"".join(images.tobytes() for images, _ in (train, test))).hexdigest()[:16]
    return in_memory(
        spec.model_copy(update={"train_items": None, "test_items": None}),
        train,
        test,
        {"label": Target("class", CLASSES)},
        name="affine digits",
        fingerprint=digest,
        content="shifted digits for training, turned, sheared and scaled ones for the test",
        fixed_parts="its test digits are moved otherwise than its training digits",
    )


def drawn(part: str, count: int) -> Samples:
    """Images (n, 1, 28, 28) uint8 and their labels."""
    ink, labels = originals()
    members = pool(part)
    images = np.empty((count, 1, SIDE, SIDE), np.uint8)
    chosen = np.empty(count, np.int64)
    for item in range(count):
        rng = np.random.Generator(np.random.PCG64([part == "test", item]))
        of_class = [one for one in members if labels[one] == item % len(CLASSES)]
        chosen[item] = rng.choice(of_class)
        images[item, 0] = moved(ink[chosen[item]], rng, affine=part == "test")
    return images, {"label": labels[chosen]}


def moved(ink: np.ndarray, rng: np.random.Generator, *, affine: bool) -> np.ndarray:
    """One digit of levels 0 to 16 on black, about its middle."""
    turn, shear, scale = rng.uniform(-1, 1, 3) * (np.radians(TURN), SHEAR, SCALE) if affine else (0.0, 0.0, 0.0)
    side = rng.uniform(18, 22) * (1 + scale)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = turned @ np.array([[1, shear], [0, 1]]) * (len(ink) / side)
    middle = (SIDE - 1) / 2 + rng.uniform(-SHIFT, SHIFT, 2)
    offset = (len(ink) - 1) / 2 - matrix @ middle
    levels = ndimage.affine_transform(ink.astype(float), matrix, offset, (SIDE, SIDE), order=1)
    return np.clip(levels * 255 / 16, 0, 255).astype(np.uint8)
