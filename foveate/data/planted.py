"""Kind "planted": the embedded digits, each turned, shifted and zoomed by a transform that is drawn and known."""

import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foveate.attention.stn import affine_sample
from foveate.data.dataset import Dataset, Progress, Target, register_data
from foveate.data.digits import CLASSES, SIDE, SMALLEST, Part, Piece, layer, originals, pool
from foveate.data.in_memory import Samples, in_memory
from foveate.spec import EMBEDDED, DataSpec

TRAIN, TEST = 2000, 1000  # images, where the specification does not say
SHARE, FINER = 0.6, 4  # of the image's side that a digit takes before its transform; times finer it is drawn
BRIGHTNESS, DARKEST, GRAIN = 230, 20, 24
ENTRIES = ("xx", "xy", "x", "yx", "yy", "y")
TARGETS = {"label": Target("class", CLASSES), "transform": Target("values", ENTRIES)}


@register_data("planted")
def open_planted(
    spec: DataSpec,
    *,
    degrees: float = 45.0,
    shift: float = 0.3,
    zoom: float = 1.3,
    progress: Progress | None = None,
) -> Dataset:
    """Digits alone on noise, upright in the middle, then moved by a transform drawn for each image.

    Targets: "label", the digit; "transform", θ = [zoom · rotation | shift] row by row, which maps coordinates of the
    upright image to those of the image shown, both from −1 to 1 (the outer edges): a spatial transformer that predicts
    it shows the digit upright again.

    Args:
        degrees: the largest angle either way.
        shift: the largest shift along each axis, 1 is half of the side.
        zoom: the largest factor; the least is 1 / zoom.

    Raises: ValueError: if the source is another than the embedded set, the size is no square of 16 pixels or more,
        there are fewer images than classes, or an option is out of its range.
    """
    if spec.source != EMBEDDED:
        raise ValueError(f"kind of data 'planted': wanted source = {EMBEDDED!r}; got {spec.source!r}")
    size = spec.size or (SIDE, SIDE)
    if len(size) != 2 or size[0] != size[1] or size[0] < SMALLEST:
        raise ValueError(f"planted digits: wanted a square size of at least {SMALLEST} pixels; got {list(size)}")
    for option, value, least, most in (("degrees", degrees, 0, 180), ("shift", shift, 0, 0.5), ("zoom", zoom, 1, 1.6)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"planted digits: wanted {option} from {least} to {most}; got {value!r}")
    counts = spec.train_items or TRAIN, spec.test_items or TEST
    if min(counts) < len(CLASSES):
        raise ValueError(f"planted digits: wanted at least {len(CLASSES)} images, one a class; got {min(counts)}")
    train = _planted(counts[0], size[0], "train", degrees, shift, zoom)
    test = _planted(counts[1], size[0], "test", degrees, shift, zoom)
    digest = hashlib.sha256()
    for images, targets in (train, test):
        digest.update(images.tobytes() + targets["label"].tobytes())
    return in_memory(
        spec.model_copy(update={"train_items": None, "test_items": None}),
        train,
        test,
        TARGETS,
        name="planted digits",
        fingerprint=digest.hexdigest()[:16],
        content=f"a digit turned by up to {degrees:g}°, shifted by up to {shift:g} and zoomed by up to {zoom:g}",
        fixed_parts="its test digits are of other writers than its training digits",
    )


def _planted(count: int, side: int, split: Part, degrees: float, shift: float, zoom: float) -> Samples:
    ink, labels = originals()
    part = pool(split)
    members = [part.start + np.flatnonzero(labels[part.start : part.stop] == label) for label in range(10)]
    images = np.empty((count, 1, side, side), np.uint8)
    transforms = np.empty((count, 6), np.float32)
    fine = side * FINER
    drawn = round(fine * SHARE)
    upright = Piece(ink[0], (fine - drawn) // 2, (fine - drawn) // 2, drawn, drawn, BRIGHTNESS)
    for index in range(count):
        rng = np.random.Generator(np.random.PCG64([int(split == "test"), index, side]))
        chosen = replace(upright, ink=np.pad(ink[rng.choice(members[index % 10])], 1))
        transform = _drawn_transform(rng, degrees, shift, zoom)
        transforms[index] = transform.flatten()
        back = np.linalg.inv(np.vstack([transform, [0.0, 0.0, 1.0]]))[:2]  # where a pixel shown lies in the upright one
        canvas = torch.from_numpy(layer(chosen, fine))[None, None].float()
        moved: Any = affine_sample(canvas, torch.from_numpy(back)[None].float(), (side, side))[0, 0].numpy()
        grain = rng.integers(-GRAIN, GRAIN + 1, (3, side, side)).sum(0)
        images[index, 0] = np.clip(np.rint(moved) + DARKEST + grain, 0, 255)
    return images, {"label": np.arange(count) % 10, "transform": transforms}


def _drawn_transform(rng: np.random.Generator, degrees: float, shift: float, zoom: float) -> NDArray[np.float64]:
    """[zoom · rotation | shift], (2, 3)."""
    angle = math.radians(rng.uniform(-degrees, degrees))
    factor = math.exp(rng.uniform(-1, 1) * math.log(zoom))
    x, y = rng.uniform(-shift, shift, 2)
    cosine, sine = factor * math.cos(angle), factor * math.sin(angle)
    return np.array([[cosine, -sine, x], [sine, cosine, y]])
