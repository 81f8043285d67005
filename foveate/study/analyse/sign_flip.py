"""The exact test of paired differences: what would their sum be, had chance drawn their signs?"""

import functools
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveate.study.analyse.inference import ROUNDING


def sign_flip_p(differences: Sequence[float], scale: float = 0.0) -> float:
    """Two-sided p of the exact sign-flip test on paired differences; never below 2/2^n.

    Above 16 seeds the sign patterns are drawn (99 999, from a fixed seed) instead of listed.

    Source: R. Fisher, The Design of Experiments, 1935, ch. 3.
    """
    values = np.asarray(differences, dtype=float)
    seen = abs(values.sum()) * (1 - ROUNDING) - ROUNDING * max(scale, float(np.abs(values).max()))
    if not values.any():
        return 1.0
    if len(values) <= 16:
        # the first sign may stay: turning all signs gives the same |sum|
        signs = np.array([(1, *rest) for rest in itertools.product((1, -1), repeat=len(values) - 1)])
        return float((abs(signs @ values) >= seen).mean())
    packed = _drawn_signs(len(values))
    eights = np.zeros((len(packed), 8))
    eights.flat[: len(values)] = values
    sums = eights @ _SIGNS_OF_BYTE.T  # of each eight values, with each pattern of signs
    total, drawn = np.zeros((2, packed.shape[1]))
    for table, patterns in zip(sums, packed, strict=True):
        total += np.take(table, patterns, out=drawn, mode="clip")  # twice as fast as table[patterns]
    return float(((abs(total) >= seen).sum() + 1) / 100_000)


_SIGNS_OF_BYTE = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)


@functools.lru_cache(maxsize=8)
def _drawn_signs(count: int) -> NDArray[np.uint8]:
    """99 999 patterns of signs, from a fixed seed: (values / 8, patterns) bytes, a bit a value, set for minus."""
    drawn = np.random.default_rng(0)
    rows = (drawn.integers(0, 2, size=(min(9_999, 99_999 - first), count)) for first in range(0, 99_999, 9_999))
    return np.ascontiguousarray(np.concatenate([np.packbits(block == 1, axis=1) for block in rows]).T)
