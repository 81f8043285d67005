"""Velocity models with salt: folded and faulted layers, or a smooth gradient with thin reflectors, and a salt body.

Layers after the composed functions of Ren et al., "Building large-scale seismic full-waveform inversion data sets",
IEEE Access 2021; styles, kinds of bodies and their shares are ours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1  # of the generator
STYLES = ("layered", "seg")
KINDS = ("none", "dome", "two-hump", "lens", "irregular")
SHARES = (0.1, 0.315, 0.225, 0.18, 0.18)  # of the kinds: no salt in 10 %, of the others 35, 25, 20 and 20 %
SALT_LOW, SALT_HIGH = 4450.0, 4550.0  # m/s
LAYERS = (5, 10)
SLOWEST, FASTEST = 1800.0, 3900.0  # m/s of layers
FAULTED = 0.3  # of the models
WATER_M_S = 1500.0
COVER = 8 / 70  # of the depth: nothing of the salt is above
SMALLEST, LARGEST = 24, 1000  # cells of a side

Field = NDArray[np.float64]


@dataclass(frozen=True)
class SaltModels:
    """Models, where their salt is, and of which kind it is.

    Attributes:
        velocity: (n, H, W) float32, m/s.
        mask: (n, H, W) bool.
        kind: (n,) uint8, numbers of `KINDS`.
    """

    velocity: NDArray[np.float32]
    mask: NDArray[np.bool_]
    kind: NDArray[np.uint8]


def salt_models(
    n: int, *, size: tuple[int, int] = (70, 70), style: str = "layered", seed: int = 0, part: str = "train"
) -> SaltModels:
    """n models; the same arguments give the same values, and model i does not depend on n.

    Args:
        n: number of models.
        size: cells along depth and x.
        style: "layered": 5 to 10 folded layers with growing velocities, a fault in 30 % of the models; "seg": water
            over a gradient with thin reflectors and faults, like slices of the SEG/EAGE salt model.
        seed: another seed is another set.
        part: "train" or "test", whose models differ.

    Raises: ValueError: an unknown style, a number out of its range.
    """
    if style not in STYLES:
        raise ValueError(f"style: wanted {' or '.join(map(repr, STYLES))}; got {style!r}")
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"salt models: wanted 1 model or more; got {n!r}")
    if len(size) != 2 or not all(SMALLEST <= side <= LARGEST for side in size):
        raise ValueError(f"salt models: wanted two sides of {SMALLEST} to {LARGEST} cells; got {list(size)}")
    velocity = np.empty((n, *size), np.float32)
    mask = np.empty((n, *size), bool)
    kind = np.empty(n, np.uint8)
    for number in range(n):
        rng = np.random.Generator(
            np.random.PCG64([VERSION, seed, int(part == "test"), STYLES.index(style), *size, number])
        )
        ground = _layered(rng, size) if style == "layered" else _gradient(rng, size)
        kind[number] = rng.choice(len(KINDS), p=SHARES)
        mask[number] = _salt(rng, size, KINDS[kind[number]])
        velocity[number] = np.where(mask[number], rng.uniform(SALT_LOW, SALT_HIGH), ground)
    return SaltModels(velocity, mask, kind)


def _grid(size: tuple[int, int]) -> tuple[Field, Field]:
    """Depth and x of each cell's centre, in shares of the depth (z: 0 to 1, x: 0 to W / H)."""
    rows, columns = size
    z, x = np.mgrid[:rows, :columns]
    return (z + 0.5) / rows, (x + 0.5) / rows


def _waves(rng: np.random.Generator, x: Field, wide: float) -> Field:
    """A fold: two or three long waves along x, of about 1 at most."""
    fold = np.zeros_like(x)
    for _ in range(int(rng.integers(2, 3, endpoint=True))):
        fold += rng.uniform(0.2, 0.6) * np.sin(2 * np.pi * (rng.uniform(0.5, 1.6) * x / wide + rng.uniform()))
    return fold


def _faulted(rng: np.random.Generator, z: Field, x: Field, wide: float) -> Field:
    """Depths before a normal fault: the side above its plane has slid down along it."""
    dip = np.deg2rad(rng.uniform(50, 75)) * rng.choice([-1, 1])
    foot = rng.uniform(0.2, 0.8) * wide
    hanging = (x - foot) * np.sign(dip) > (z - 0.5) / abs(np.tan(dip))
    return np.where(hanging, z - rng.uniform(0.03, 0.1), z)


def _layered(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    z, x = _grid(size)
    wide = size[1] / size[0]
    fold = _waves(rng, x, wide) * rng.uniform(0.02, 0.12)
    depth = _faulted(rng, z, x, wide) if rng.uniform() < FAULTED else z
    depth = depth + fold * (0.2 + 0.8 * z)  # folds grow with depth
    count = int(rng.integers(*LAYERS, endpoint=True))
    thick = rng.uniform(0.5, 1.5, count)
    tops = np.cumsum(thick)[:-1] / thick.sum()
    speeds = np.sort(rng.uniform(SLOWEST, FASTEST, count))
    return np.asarray(speeds[np.searchsorted(tops, depth)])


def _gradient(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    z, x = _grid(size)
    wide = size[1] / size[0]
    depth = z
    for _ in range(int(rng.integers(0, 2, endpoint=True))):
        depth = _faulted(rng, depth, x, wide)
    depth = depth + _waves(rng, x, wide) * rng.uniform(0.01, 0.05) * z
    speed = rng.uniform(1600, 1900) + rng.uniform(1200, 1800) * depth.clip(0)
    for at in rng.uniform(0.1, 0.95, int(rng.integers(4, 9, endpoint=True))):
        speed *= 1 + rng.uniform(-0.1, 0.1) * (np.abs(depth - at) < rng.uniform(0.008, 0.02))
    floor = rng.uniform(0.05, 0.15) + 0.02 * _waves(rng, x, wide)
    return np.asarray(np.where(z < floor.clip(0.03, 0.2), WATER_M_S, speed.clip(1550, FASTEST)))


def _salt(rng: np.random.Generator, size: tuple[int, int], kind: str) -> NDArray[np.bool_]:
    z, x = _grid(size)
    wide = size[1] / size[0]
    centre = rng.uniform(0.2, 0.8) * wide
    if kind == "none":
        inside: Any = np.zeros(size, bool)
    elif kind in ("dome", "two-hump"):
        base = rng.uniform(0.8, 1.1)
        top = base - rng.uniform(0.25, 0.65) * np.exp(-(((x - centre) / rng.uniform(0.1, 0.26)) ** 2))
        if kind == "two-hump":
            other = centre + rng.choice([-1, 1]) * rng.uniform(0.25, 0.45)
            second = base - rng.uniform(0.2, 0.5) * np.exp(-(((x - other) / rng.uniform(0.08, 0.16)) ** 2))
            top = np.minimum(top, second)
        foot = base - rng.uniform(0.01, 0.06)  # where the flanks end
        inside = (z > top) & (top < foot) & (z < base + rng.uniform(0.0, 0.3))
    elif kind == "lens":
        tilt, middle = np.deg2rad(rng.uniform(-25, 25)), rng.uniform(0.35, 0.7)
        along = (x - centre) * np.cos(tilt) + (z - middle) * np.sin(tilt)
        across = (z - middle) * np.cos(tilt) - (x - centre) * np.sin(tilt)
        inside = (along / rng.uniform(0.16, 0.38)) ** 2 + (across / rng.uniform(0.06, 0.16)) ** 2 < 1
    else:
        middle = rng.uniform(0.35, 0.7)
        angle = np.arctan2(z - middle, x - centre)
        radius = np.ones(size)
        for order in range(2, 6):
            radius += rng.normal(0, 0.3 / order) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
        radius *= rng.uniform(0.12, 0.25)
        inside = np.hypot(z - middle, x - centre) < radius.clip(0.04)
    return np.asarray(inside & (z > COVER + rng.uniform(0, 0.06)))
