"""Windows of recordings → batches: moved, louder or softer, with noise, scaled."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from foveate.data.augmentation import uniforms
from foveate.data.dataset import Batch, Split
from foveate.data.listing import Part
from foveate.data.signals.division import Stretch
from foveate.data.signals.noise import Noise, with_noise

VERSION = 2  # of how noise is drawn
STREAMS: dict[Part, int] = {"train": 1, "validation": 2, "test": 3}  # of noise, so that no two parts share any
TRAINED = 4  # the stream of windows that are changed in each epoch
SCALES = ("window", "training")


@dataclass(frozen=True)
class Scaling:
    """What a network sees: each window less its mean, over its deviation (how "window"), or less the mean and over the
    deviation of the training windows without noise ("training"); both a channel."""

    how: str
    mean: NDArray[np.float32] | None = None
    deviation: NDArray[np.float32] | None = None

    def __call__(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.mean is not None and self.deviation is not None:
            return (window - self.mean) / self.deviation
        deviation = window.std(1, keepdims=True)
        return (window - window.mean(1, keepdims=True)) / np.where(deviation > 0, deviation, np.float32(1))

    def __str__(self) -> str:
        return "each window by its own mean and deviation" if self.mean is None else "by those of the training part"


@dataclass(frozen=True)
class Changes:
    """Of training: windows moved by up to `shift` samples inside their stretch, multiplied by 1 − gain to 1 + gain."""

    shift: int = 0
    gain: float = 0.0

    def __str__(self) -> str:
        words = [f"shift by up to {self.shift} samples"] if self.shift else []
        words += [f"louder or softer by up to {100 * self.gain:g} %"] if self.gain else []
        return ", ".join(words) or "none"


class SignalWindows(Split):
    """Windows (N, C, window) with targets "label", "recording" and "condition" (how much noise).

    In evaluation every window is an item at each level of noise, one level after another: item = level · windows +
    window, with noise that depends on the part and the item alone. In training a level and the noise are drawn anew in
    each epoch.

    Args:
        signals: n recordings (C, T).
        names: of the recordings.
        stretches: that the windows lie in.
        windows: (w, 2), number of the stretch, and first sample.
        window: samples.
        labels: (w,) class numbers.
        noise: that is added.
        ratios_db: of signal to noise in this part, None without noise.
        conditions: number of each of them among the names of the target.
        scaling, changes: of the samples.
        part: "train", "validation" or "test"; but in training every window is an item at each level.
    """

    def __init__(
        self,
        signals: Sequence[NDArray[np.float32]],
        names: Sequence[str],
        stretches: Sequence[Stretch],
        windows: NDArray[np.int64],
        window: int,
        labels: NDArray[np.int64],
        *,
        noise: Noise,
        ratios_db: Sequence[float | None],
        conditions: Sequence[int],
        scaling: Scaling,
        changes: Changes,
        part: Part,
    ) -> None:
        tested, self.stream = part != "train", STREAMS[part]
        self.signals, self.names, self.stretches, self.windows = signals, names, stretches, windows
        self.window, self.noise, self.ratios_db = window, noise, tuple(ratios_db)
        self.scaling, self.changes = scaling, changes
        self._of_level = np.array(conditions, np.int64)
        times = len(self.ratios_db) if tested else 1
        self.labels = self.strata = np.tile(labels, times)
        of_window = np.array([stretches[place].recording for place in windows[:, 0]], np.int64)
        self.recordings = np.tile(of_window, times)
        self.conditions = np.repeat(self._of_level, len(windows)) if tested else None

    def __len__(self) -> int:
        return len(self.labels)

    def name_of(self, item: int) -> str:
        level, place = divmod(item, len(self.windows))
        stretch, start = self.windows[place].tolist()
        at = f" #{level}" if level else ""
        return f"{self.names[self.stretches[stretch].recording]} at {start}{at}"

    def scaled_as(self, other: "SignalWindows") -> "SignalWindows":
        """The same windows with the other part's scaling."""
        scaled = copy.copy(self)
        scaled.scaling = other.scaling
        return scaled

    def of_recordings(self) -> NDArray[np.str_]:
        """(n,) the name of each item's recording."""
        return np.array([self.names[number] for number in self.recordings], np.str_)

    def of_windows(self) -> NDArray[np.str_]:
        """(n,) equal for a window at several levels of noise."""
        return np.array([self.name_of(item % len(self.windows)) for item in range(len(self))], np.str_)

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        wanted = self.checked(items)
        draws = None if augment is None else uniforms(augment, wanted, 3)
        channels = self.signals[0].shape[0]
        x = np.empty((len(wanted), channels, self.window), np.float32)
        levels = np.empty(len(wanted), np.int64)
        for row, item in enumerate(wanted.tolist()):
            level, place = divmod(item, len(self.windows))
            state = [VERSION, self.stream, item]
            stretch, start = self.windows[place].tolist()
            stretch = self.stretches[stretch]
            gain = np.float32(1)
            if draws is not None and augment is not None:
                state = [VERSION, TRAINED, item, *augment]
                moved = start + round((2 * draws[row, 0] - 1) * self.changes.shift)
                start = min(max(moved, stretch.begin), stretch.end - self.window)
                gain = np.float32(1 + (2 * draws[row, 1] - 1) * self.changes.gain)
                level = int(draws[row, 2] * len(self.ratios_db))
            elif self.conditions is None:  # a training part read without changes
                level = item % len(self.ratios_db)
            window = gain * self.signals[stretch.recording][:, start : start + self.window]
            rng = np.random.Generator(np.random.PCG64(state))
            x[row] = self.scaling(with_noise(window, self.noise.kind, self.ratios_db[level], rng))
            levels[row] = level
        targets = {
            "label": torch.from_numpy(self.labels[wanted]),
            "recording": torch.from_numpy(self.recordings[wanted]),
            "condition": torch.from_numpy(self._of_level[levels]),
        }
        return Batch(torch.from_numpy(x), targets, torch.from_numpy(wanted))
