"""Data sets that fit in memory (or in a mapped file) as whole arrays of one image size."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.data.chance import uniforms
from foveate.data.splits import ImageData, Split
from foveate.data.subset import choose, positions
from foveate.spec import Data

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]
Edge = Literal["reflect", "constant"]


class Pixels(Split):
    """Images in one array. Augmentation: a shift by whole pixels and, where the content allows, a mirror image.

    Args:
        images: (n, C, H, W) uint8; may be a mapped file.
        labels: (n,).
        size: (height, width) of a batch; other than the images' own, they are interpolated.
        mean, std: of each channel, pixels from 0 to 1.
        shift: the most pixels an image is moved by, up, down and sideways.
        edge: what moves in: its mirrored neighbourhood, or black.
        flip: half of the images are mirrored.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        *,
        size: tuple[int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        shift: int,
        edge: Edge,
        flip: bool,
    ) -> None:
        self.images, self.size, self.shift, self.edge, self.flip = images, size, shift, edge, flip
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self._offset = torch.tensor(mean).view(1, -1, 1, 1) * 255
        self._scale = 1 / (torch.tensor(std).view(1, -1, 1, 1) * 255)

    def batch(self, indices: Sequence[int], augment: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        wanted = self._checked(indices)
        chosen = self.images[wanted]
        if augment is not None:
            chosen = self._moved(chosen, uniforms(augment, wanted, 3))
        x = torch.from_numpy(chosen).float()
        if x.shape[2:] != self.size:
            x = torch.nn.functional.interpolate(x, self.size, mode="bilinear", antialias=True)
        return x.sub_(self._offset).mul_(self._scale), self.labels[torch.from_numpy(wanted)]

    def _moved(self, images: NDArray[np.uint8], draws: NDArray[np.float64]) -> NDArray[np.uint8]:
        reach, shape = self.shift, images.shape
        padded = np.pad(images, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode=self.edge)
        windows = np.lib.stride_tricks.sliding_window_view(padded, shape[2:], axis=(2, 3))
        down, right = (draws[:, :2] * (2 * reach + 1)).astype(np.int64).T
        moved = windows[np.arange(len(images)), :, down, right]
        if self.flip:
            mirrored = draws[:, 2] < 0.5
            moved[mirrored] = moved[mirrored, ..., ::-1]
        return np.ascontiguousarray(moved)


def statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of (n, C, H, W), pixels from 0 to 1."""
    levels = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(torch.tensor(images[:, channel]).flatten(), minlength=256).numpy()
        mean = float(counts @ levels / counts.sum())
        means.append(mean)
        deviations.append(max(float(counts @ (levels - mean) ** 2 / counts.sum()) ** 0.5, 1 / 255))
    return tuple(means), tuple(deviations)


def in_memory(
    data: Data,
    train: Labelled,
    test: Labelled,
    *,
    name: str,
    classes: tuple[str, ...],
    fingerprint: str,
    about: str,
    shift: int,
    edge: Edge = "constant",
    flip: bool = False,
) -> ImageData:
    """The set made of whole arrays, limited and sized as `data` asks; mean and deviation are those of its train images.

    Raises: ValueError: train_images or test_images that cannot be had.
    """
    (x, y), (x_test, y_test) = train, test
    if data.train_images is not None:
        kept = choose(y, positions(len(y)), data.train_images, wanted="train_images")
        x, y = x[kept], y[kept]
    if data.test_images is not None:
        kept = choose(y_test, positions(len(y_test)), data.test_images, wanted="test_images")
        x_test, y_test = x_test[kept], y_test[kept]
    size = (data.image_size, data.image_size) if data.image_size else (x.shape[2], x.shape[3])
    mean, std = statistics(x)
    own = "" if size == x.shape[2:] else f", resized from {x.shape[2]}×{x.shape[3]}"
    return ImageData(
        name=name,
        classes=classes,
        channels=x.shape[1],
        image_size=size,
        train=Pixels(x, y, size=size, mean=mean, std=std, shift=shift, edge=edge, flip=flip),
        test=Pixels(x_test, y_test, size=size, mean=mean, std=std, shift=shift, edge=edge, flip=flip),
        fingerprint=fingerprint,
        description=f"{name}: {len(y):,} train and {len(y_test):,} test images of {size[0]}×{size[1]} pixels{own}, "
        f"{len(classes)} classes; {about}",
        mean=mean,
        std=std,
    )
