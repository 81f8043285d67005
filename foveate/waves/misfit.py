"""How well the gathers of a model fit those observed, whole and without the direct wave; noise on gathers."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.waves.propagate import simulate
from foveate.waves.survey import Survey


@dataclass(frozen=True)
class Misfit:
    """‖d − d_observed‖ / ‖d_observed‖, of whole gathers and of what comes after the direct wave.

    Most of the energy of a gather is the direct wave, which says little about the model: the first number is small for
    nearly any model.
    """

    full: float
    muted: float

    def __str__(self) -> str:
        return f"{self.full:.3f} (direct wave muted: {self.muted:.3f})"


def misfit_of(gathers: Tensor, observed: Tensor, survey: Survey, columns: int) -> Misfit:
    """The misfit of gathers (shots, samples, receivers) of a model with this number of columns."""
    later = torch.from_numpy(survey.after_direct_wave(columns)).to(gathers.device)
    differences, observed = (gathers - observed).detach(), observed.detach()

    def ratio(chosen: Tensor) -> float:
        return (differences[chosen].norm() / observed[chosen].norm().clamp_min(1e-12)).item()

    return Misfit(ratio(torch.ones_like(later)), ratio(later))


def data_misfit(velocity: Tensor | NDArray[np.float32], observed: Tensor, survey: Survey) -> Misfit:
    """The misfit of a model's gathers, simulated as the survey says, to those observed.

    Observed gathers of a synthetic model are best simulated at a higher accuracy than the survey's (`accuracy=8`): data
    that were made by the very scheme that explains them are explained too well.

    Args:
        velocity: (H, W), m/s.
        observed: (shots, samples, receivers).

    Raises: ValueError: as `simulate`; gathers of another shape.
    """
    model = torch.as_tensor(velocity, dtype=torch.float32)
    check_observed(observed, survey)
    with torch.inference_mode():
        return misfit_of(simulate(model, survey), observed, survey, model.shape[1])


def check_observed(observed: Tensor, survey: Survey) -> None:
    """Raises: ValueError: gathers of another shape than the survey's, or with values that are not finite."""
    check_shape(tuple(observed.shape), survey, "observed gathers")
    if not observed.isfinite().all():
        raise ValueError("observed gathers: wanted finite values; got NaN or infinity")


def check_shape(shape: tuple[int, ...], survey: Survey, name: str) -> None:
    """Raises: ValueError: (…, shots, samples, receivers) of another survey; the axis is named."""
    if len(shape) < 3:
        raise ValueError(f"{name}: wanted (…, shots, samples, receivers); got {shape}")
    for axis, wanted, got in zip(("shots", "samples", "receivers"), survey.shape, shape[-3:], strict=True):
        if wanted != got:
            raise ValueError(f"{name}: wanted {wanted} {axis}; got {got}")


def reflections(gathers: NDArray[np.float32], survey: Survey, columns: int) -> NDArray[np.float64]:
    """(N,) root mean square of gathers (N, shots, samples, receivers) after the direct wave."""
    later = survey.after_direct_wave(columns)
    squares = np.square(gathers, dtype=np.float64) * later
    return np.sqrt(squares.sum((1, 2, 3)) / max(int(later.sum()), 1))


def with_noise(
    gathers: NDArray[np.float32], snr_db: NDArray[np.float64], strength: NDArray[np.float64], noise: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Gathers (N, …) with white noise.

    Args:
        snr_db: (N,) of the reflections to the noise, in decibels.
        strength: (N,) of `reflections`.
        noise: standard normal, as the gathers.
    """
    deviation = (strength / 10 ** (snr_db / 20)).astype(np.float32)
    return gathers + noise * deviation[:, None, None, None]
