"""Noise at a ratio of signal to noise, drawn for each window: white, Laplacian, pink."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLEAN = "clean"
NOISES = ("white", "laplacian", "pink")
PLACES = ("both", "training", "test")
LOWEST_DB, HIGHEST_DB = -60.0, 100.0


def drawn(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise (C, T) of mean 0 and expected power 1: normal, Laplace's, or normal with a power of 1/f."""
    if kind == "laplacian":
        return rng.laplace(0.0, 0.5**0.5, shape)
    noise = rng.standard_normal(shape)
    if kind == "white":
        return noise
    weights = np.arange(shape[1] // 2 + 1, dtype=np.float64)
    weights[1:] **= -0.5
    twice = np.full(len(weights), 2.0)  # in the real transform each frequency but these stands for two
    twice[0] = 1.0
    if shape[1] % 2 == 0:
        twice[-1] = 1.0
    power = float((twice * weights**2).sum()) / shape[1]
    return np.fft.irfft(np.fft.rfft(noise) * weights, shape[1]) / power**0.5


def with_noise(
    window: NDArray[np.float32], kind: str, level_db: float | None, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The window (C, T) with noise of its own channels' variances over 10^(level/10); None: as it is."""
    if level_db is None:
        return window
    deviation = window.std(1, keepdims=True, dtype=np.float64) * 10 ** (-level_db / 20)
    noisy: NDArray[np.float32] = (window + deviation * drawn(kind, window.shape, rng)).astype(np.float32)
    return noisy


@dataclass(frozen=True)
class Noise:
    """Which noise is added where.

    Attributes:
        kind: one of `NOISES`; "none".
        levels: ratios in decibels, None for clean windows: each is a condition of the test; in training one of them is
            drawn for each window.
        where: "both", "training" or "test"; the other part is clean.
    """

    kind: str = "none"
    levels: tuple[float | None, ...] = (None,)
    where: str = "both"

    @classmethod
    def of(cls, kind: str, snr_db: Any, where: str) -> "Noise":
        """From options. Raises: ValueError: one that cannot be, or goes without another."""
        if kind == "none":
            if snr_db is not None or where != "both":
                raise ValueError("snr_db and noise_in go with noise = 'white', 'laplacian' or 'pink'; got no noise")
            return cls()
        if kind not in NOISES:
            raise ValueError(f"noise: wanted none, {', '.join(NOISES)}; got {kind!r}")
        if where not in PLACES:
            raise ValueError(f"noise_in: wanted {', '.join(PLACES)}; got {where!r}")
        given: list[Any] = list(snr_db) if isinstance(snr_db, (list, tuple)) else [] if snr_db is None else [snr_db]
        levels = tuple(None if one == CLEAN else one for one in given)
        for one in levels:
            number = one is None or (isinstance(one, (int, float)) and not isinstance(one, bool))
            if not number or not (one is None or LOWEST_DB <= one <= HIGHEST_DB):
                raise ValueError(
                    f"snr_db: wanted decibels from {LOWEST_DB:g} to {HIGHEST_DB:g}, or 'clean'; got {one!r}"
                )
        if not levels or len(set(levels)) < len(levels):
            raise ValueError(f"snr_db: wanted one or more different levels, such as [5, 0, -5]; got {snr_db!r}")
        return cls(kind, tuple(None if one is None else float(one) for one in levels), where)

    @property
    def in_training(self) -> tuple[float | None, ...]:
        """Levels of which one is drawn for each window."""
        return self.levels if self.where != "test" else (None,)

    @property
    def in_test(self) -> tuple[float | None, ...]:
        """Levels that each window is tested at."""
        return self.levels if self.where != "training" else (None,)

    def __str__(self) -> str:
        if self.kind == "none":
            return "none"
        where = {"both": "in training and test", "training": "in training", "test": "in the test"}[self.where]
        return f"{self.kind} at {', '.join(map(name_of_level, self.levels))}, {where}"


def name_of_level(level_db: float | None) -> str:
    """ "+5 dB", "0 dB", "-10 dB", "clean"."""
    return CLEAN if level_db is None else f"{level_db:+g} dB" if level_db else "0 dB"
