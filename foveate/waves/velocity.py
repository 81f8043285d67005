"""Velocity models: range, the fixed scaling of networks, and which velocities are salt."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

LOWEST_M_S, HIGHEST_M_S = 1000.0, 6000.0
MIDDLE_M_S, HALF_RANGE_M_S = 3000.0, 1500.0  # a network gives (v − 3000) / 1500
SALT_M_S = 4200.0  # at least as fast is salt

Values = TypeVar("Values", Tensor, NDArray[Any])


def normalised(velocity: Values) -> Values:
    """m/s as a network gives them, by constants that depend on no model: (v − 3000) / 1500."""
    return (velocity - MIDDLE_M_S) / HALF_RANGE_M_S


def velocities(output: Values) -> Values:
    """m/s of what a network gives."""
    return output * HALF_RANGE_M_S + MIDDLE_M_S


def check_velocities(models: NDArray[Any], name: str, item: str = "model") -> None:
    """Raises: ValueError: values that are not finite or lie outside 1000 to 6000 m/s, by the first model's number.

    Args:
        models: (n, H, W), m/s.
        name: begins the message, such as the file's name.
        item: what one of them is called.
    """
    flat = models.reshape(len(models), -1)
    odd = np.flatnonzero(~np.isfinite(flat).all(1))
    if len(odd):
        raise ValueError(f"{name}: wanted finite velocities; got NaN or infinity in {item} {odd[0]}")
    low, high = flat.min(1), flat.max(1)
    odd = np.flatnonzero((low < LOWEST_M_S) | (high > HIGHEST_M_S))
    if not len(odd):
        return
    first = odd[0]
    got = f"{low[first]:g} to {high[first]:g} in {item} {first}"
    if low.min() >= LOWEST_M_S / 1000 and high.max() <= HIGHEST_M_S / 1000:
        raise ValueError(f"{name}: wanted velocities in m/s; got {got}; are they in km/s? Then say unit = 'km/s'")
    raise ValueError(f"{name}: wanted velocities of {LOWEST_M_S:g} to {HIGHEST_M_S:g} m/s; got {got}")


def size_text(size: Sequence[int]) -> str:
    """(70, 70) → "70×70"."""
    return "×".join(map(str, size))


def salt_iou(velocity: NDArray[Any], truth: NDArray[Any]) -> float | None:
    """Intersection over union of what is at least 4200 m/s in both models; None: the true one has no salt."""
    found, wanted = velocity >= SALT_M_S, truth >= SALT_M_S
    return float((found & wanted).sum() / (found | wanted).sum()) if wanted.any() else None
