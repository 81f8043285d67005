"""How near the boundaries of two masks are: boundary precision and recall within a tolerance, and their F1.

Source: Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013. Its
tolerance is 0.75 % of the image's diagonal.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from foveate.data.dataset import IGNORED

SHARE = 0.0075  # of the diagonal: the paper's tolerance


def boundary_f1(found: NDArray[np.int64], target: NDArray[np.int64], share: float = SHARE) -> float:
    """2PR / (P + R), mean over the classes that are in either mask; nan where nothing is known.

    P is the share of a class's boundary positions in `found` that have one of the target's within the tolerance, R the
    share of those in the target that have one of `found`. A boundary position has a neighbour along an axis that is of
    another known class. A class without boundaries in both masks counts 1 if both have it, else 0.

    Args:
        found, target: class numbers (*S); positions that the target ignores count nowhere.
        share: the tolerance, of the diagonal of the image.
    """
    known = target != IGNORED
    found = np.where(known, found, IGNORED)
    radius = share * float(np.sqrt(np.sum(np.square(target.shape))))
    there, wanted = (set(np.unique(mask[known]).tolist()) for mask in (found, target))
    ours, theirs = _boundaries(found), _boundaries(target)
    scores = []
    for k in sorted(there | wanted):
        if k in ours and k in theirs:
            precision, recall = _near(ours[k], theirs[k], radius), _near(theirs[k], ours[k], radius)
            scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
        else:
            scores.append(float(k not in ours and k not in theirs and k in there and k in wanted))
    return float(np.mean(scores)) if scores else float("nan")


def _boundaries(mask: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Class → its boundary positions (n, dims)."""
    at = np.zeros(mask.shape, bool)
    for axis in range(mask.ndim):
        before, after = (np.moveaxis(mask, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        differ = (before != after) & (before != IGNORED) & (after != IGNORED)
        along = np.moveaxis(at, axis, 0)
        along[:-1] |= differ
        along[1:] |= differ
    places = np.argwhere(at)
    classes = mask[at]
    return {int(k): places[classes == k] for k in np.unique(classes)}


def _near(places: NDArray[np.int64], others: NDArray[np.int64], radius: float) -> float:
    """Share of the places that are at most the radius from one of the others."""
    distances, _ = cKDTree(others).query(places, distance_upper_bound=np.nextafter(radius, np.inf))
    return float(np.isfinite(distances).mean())
