"""What every data set is to the rest: two splits that hand out normalised batches, and the facts about them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Split(ABC):
    """Labelled images, handed out in batches. Nothing changes after it is made: any number of threads may ask at once.

    Attributes:
        labels: (n,) int64.
    """

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def batch(self, indices: Sequence[int], augment: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """The images at `indices`, normalised, float32 (B, C, H, W), and their labels, int64 (B,).

        A pure function of its arguments. augment=(seed, epoch) changes each image at random, by numbers that depend on
        (seed, epoch, index) alone; None is the transform of evaluation.

        Raises: IndexError: an index that the split does not have.
        """

    def _checked(self, indices: Sequence[int]) -> NDArray[np.int64]:
        wanted = np.asarray(indices, np.int64).reshape(-1)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"wanted indices from 0 to {len(self) - 1}, got {wanted.min()} to {wanted.max()}")
        return wanted


@dataclass(frozen=True)
class ImageData:
    """A data set, opened and checked.

    Attributes:
        name: for titles.
        classes: the names; label k is classes[k].
        channels, image_size: of a batch; the size is (height, width) in pixels.
        train, test: the splits.
        fingerprint: 16 hexadecimal digits of a hash of the contents: changed data are other data.
        description: one line: what, how many, of what size.
        mean, std: of each channel, pixels from 0 to 1; a batch is (pixel − mean) / std.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    train: Split
    test: Split
    fingerprint: str
    description: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
