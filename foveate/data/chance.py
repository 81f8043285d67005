"""Random numbers of an image: a pure function of (seed, epoch, index), for a whole batch at once."""

import numpy as np
from numpy.typing import NDArray

_STEP = np.uint64(0x9E3779B97F4A7C15)


def mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 well-mixed bits from each 64 bits.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014, doi:10.1145/2660193.2660195.
    """
    state = state + _STEP
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def uniforms(augment: tuple[int, int], indices: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """(B, count) numbers in [0, 1) for B images; row b depends on the (seed, epoch) and on indices[b] alone."""
    seed, epoch = (np.full(1, value, np.uint64) for value in augment)
    state = mix(mix(mix(seed) + epoch) + indices.astype(np.uint64))
    draws = mix(state[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _STEP)
    return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53
