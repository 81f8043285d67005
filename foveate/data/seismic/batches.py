"""Models and their gathers → batches: scaled, mirrored, with noise, and corrupted for tests of robustness."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.data.augmentation import uniforms
from foveate.data.corruption import draw_of
from foveate.data.dataset import Batch, Split
from foveate.data.problems import one_line
from foveate.waves import Survey, reflections, with_noise
from foveate.waves.misfit import check_shape

SCALES = ("log", "linear")
MEASURED = 64  # models whose gathers the deviation is taken from

# what each severity of a corruption is
NOISE_DB = (30.0, 20.0, 10.0)  # of the reflections to the noise
DEAD = (0.05, 0.1, 0.2)  # share of the receivers
SHIFT_S = (0.004, 0.008, 0.016)
GAIN = (1.1, 1.2, 1.5)  # or its inverse


class ReadGathers(Protocol):
    """Gives gathers (B, shots, samples, receivers), float32, of the models of these numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, items: NDArray[np.int64]) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Scaling:
    """What a network sees of gathers: sign(d) · log(1 + |d|), or d, over its deviation in the training part."""

    scale: str
    deviation: float = 1.0

    def __call__(self, gathers: NDArray[np.float32]) -> NDArray[np.float32]:
        return (self._curve(gathers) / np.float32(self.deviation)).astype(np.float32)

    def _curve(self, gathers: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.sign(gathers) * np.log1p(np.abs(gathers)) if self.scale == "log" else gathers

    def fitted(self, gathers: ReadGathers) -> "Scaling":
        """With the deviation of these gathers, of at most 64 models spread over them."""
        count = len(gathers)
        items = np.unique(np.linspace(0, count - 1, min(count, MEASURED)).astype(np.int64))
        deviation = float(self._curve(gathers[items]).std(dtype=np.float64))
        if not deviation:
            raise ValueError("gathers: wanted traces that are not all alike; got constant ones")
        return replace(self, deviation=deviation)

    def __str__(self) -> str:
        curve = "sign(d) · log(1 + |d|)" if self.scale == "log" else "d"
        return f"{curve} / {self.deviation:.3g}, the training part's deviation"


@dataclass(frozen=True)
class Changes:
    """Of training: half of the models with their gathers mirrored; noise of a random strength.

    Attributes:
        mirror: are they mirrored?
        noise_db: lowest and highest ratio of the reflections to the noise, in decibels; None: no noise.
    """

    mirror: bool = True
    noise_db: tuple[float, float] | None = (5.0, 40.0)

    def __str__(self) -> str:
        words = ["mirror images"] * self.mirror
        words += [] if self.noise_db is None else ["noise at {:g} to {:g} dB".format(*self.noise_db)]
        return ", ".join(words) or "none"


class ShotGathers(Split):
    """Gathers (N, shots, samples, receivers) as inputs; the target "velocity" (N, 1, H, W) in m/s.

    Args:
        models: (n, H, W) float32, m/s.
        gathers: of each.
        survey: that they were shot with.
        scaling: of the inputs.
        changes: of training.
        kinds: (n,) numbers of the kinds of salt, the target "kind"; None: not known.
        names: of the items; None: their numbers.
    """

    def __init__(
        self,
        models: NDArray[np.float32],
        gathers: ReadGathers,
        survey: Survey,
        scaling: Scaling,
        changes: Changes,
        *,
        kinds: NDArray[np.int64] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.models, self.gathers, self.survey, self.scaling = models, gathers, survey, scaling
        self.changes, self.kinds, self.names = changes, kinds, names
        self.strata = kinds
        self.corruption: tuple[str, int, int] | None = None

    def __len__(self) -> int:
        return len(self.models)

    def name_of(self, item: int) -> str:
        return str(item) if self.names is None else self.names[item]

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        wanted = self.checked(items)
        gathers, models = self.gathers[wanted], self.models[wanted].copy()
        if augment is not None:
            gathers, models = self._changed(gathers, models, wanted, augment)
        elif self.corruption is not None:
            rows = [self._corrupted(one, item) for one, item in zip(gathers, wanted.tolist(), strict=True)]
            gathers = np.stack(rows)
        targets: dict[str, Any] = {"velocity": torch.from_numpy(np.ascontiguousarray(models[:, None]))}
        if self.kinds is not None:
            targets["kind"] = torch.from_numpy(self.kinds[wanted].astype(np.int64))
        return Batch(torch.from_numpy(self.scaling(gathers)), targets, torch.from_numpy(wanted))

    def _changed(
        self, gathers: NDArray[np.float32], models: NDArray[np.float32], items: NDArray[np.int64], draw: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        draws = uniforms(draw, items, 2)
        if self.changes.mirror:  # shots, receivers and the model together
            turned = draws[:, 0] < 0.5
            gathers[turned] = gathers[turned, ::-1, :, ::-1]
            models[turned] = models[turned, :, ::-1]
        if self.changes.noise_db is not None:
            low, high = self.changes.noise_db
            ratios = low + (high - low) * draws[:, 1]
            noise = np.stack([_normal((*draw, item), self.survey.shape) for item in items.tolist()])
            strength = reflections(gathers, self.survey, models.shape[2])
            gathers = with_noise(gathers, ratios, strength, noise)
        return gathers, models

    def corrupted(self, corruption: str, severity: int, seed: int) -> "ShotGathers":
        """The split whose gathers are corrupted in evaluation; targets stay. Names as in `foveate.robustness.SEISMIC`.

        Every draw depends on (seed, item, corruption, severity) alone.
        """
        other = copy.copy(self)
        other.corruption = (corruption, severity, seed)
        return other

    def scaled_as(self, split: "ShotGathers") -> "ShotGathers":
        """The split with the scaling of another, whose training part a network has seen."""
        other = copy.copy(self)
        other.scaling = split.scaling
        return other

    def prepare(self, source: str | Path) -> Tensor:
        """The gathers of one model in a .npy file (shots, samples, receivers) as a sample.

        Raises: ValueError: gathers of another survey, with values that are not finite, or no such file.
        """
        path = Path(source)
        try:
            gathers = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path}: wanted gathers as a .npy file; {one_line(error)}") from None
        if gathers.ndim == 3 and gathers.shape[1] == self.survey.steps:
            gathers = gathers[:, :: self.survey.keep]
        check_shape(gathers.shape, self.survey, str(path))
        if not np.isfinite(gathers).all():
            raise ValueError(f"{path}: wanted finite traces; got NaN or infinity")
        return torch.from_numpy(self.scaling(gathers.astype(np.float32)))

    def _corrupted(self, gathers: NDArray[np.float32], item: int) -> NDArray[np.float32]:
        assert self.corruption is not None
        name, severity, seed = self.corruption
        rng = np.random.Generator(np.random.PCG64(draw_of(seed, self.name_of(item), name, severity)))
        level = severity - 1
        if name == "seismic_noise":
            strength = reflections(gathers[None], self.survey, self.models.shape[2])
            noise = rng.standard_normal(gathers.shape, np.float32)[None]
            return with_noise(gathers[None], np.array([NOISE_DB[level]]), strength, noise)[0]
        if name == "dead_receivers":
            count = max(1, round(DEAD[level] * self.survey.receivers))
            gathers[:, :, rng.choice(self.survey.receivers, count, replace=False)] = 0
        elif name == "missing_shot":
            gathers[rng.choice(self.survey.shots, min(severity, self.survey.shots), replace=False)] = 0
        elif name == "time_shift":
            samples = max(1, round(SHIFT_S[level] / self.survey.sample_s))
            earlier = rng.random() < 0.5
            gathers = np.roll(gathers, -samples if earlier else samples, 1)
            gathers[:, slice(-samples, None) if earlier else slice(samples)] = 0
        else:
            assert name == "gain"
            gathers *= GAIN[level] if rng.random() < 0.5 else 1 / GAIN[level]
        return gathers


def _normal(seed: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, np.float32)
