"""Classical full-waveform inversion of one model, from low to high frequencies, and whether it helped the model.

Gradient descent (Adam) on the squared difference of simulated and observed gathers. A Ricker wavelet of frequency f₀
becomes one of f by the filter exp(−ν² (1 / f² − 1 / f₀²)), ν the frequency: both gathers go through it, so that the
inversion begins with long waves. Bunks et al., "Multiscale seismic waveform inversion", Geophysics 60, 1995.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from foveate.waves.misfit import Misfit, check_observed, misfit_of
from foveate.waves.propagate import simulate
from foveate.waves.survey import Survey
from foveate.waves.velocity import salt_iou

SLOWEST_M_S, FASTEST_M_S = 1500.0, 4600.0
BETTER = 0.98  # of the error at the start, from which on it counts as smaller


@dataclass(frozen=True)
class State:
    """A model's misfit and, where the truth is known, its mean absolute error (m/s) and the overlap of its salt."""

    misfit: Misfit
    error_m_s: float | None
    salt_iou: float | None


@dataclass(frozen=True)
class Refinement:
    """What an inversion did.

    Attributes:
        start, model: (H, W), m/s, before and after.
        before, after: their states.
        losses: of each iteration: squared misfit of the filtered gathers.
    """

    start: NDArray[np.float32]
    model: NDArray[np.float32]
    before: State
    after: State
    losses: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """Did the model improve, or only the fit to the data?"""
        old, new = self.before, self.after
        text = f"data misfit {old.misfit.full:.3f} to {new.misfit.full:.3f}, with the direct wave muted "
        text += f"{old.misfit.muted:.3f} to {new.misfit.muted:.3f}"
        fits = new.misfit.muted < BETTER * old.misfit.muted
        if old.error_m_s is None or new.error_m_s is None:
            return f"{text}: the data fit {'improved' if fits else 'did not improve'}; the true model is not known"
        text += f"; error {old.error_m_s:.0f} to {new.error_m_s:.0f} m/s"
        if old.salt_iou is not None and new.salt_iou is not None:
            text += f", salt IoU {old.salt_iou:.2f} to {new.salt_iou:.2f}"
        better = new.error_m_s < BETTER * old.error_m_s
        if better and fits:
            return f"{text}: both the data fit and the model improved"
        if fits:
            return f"{text}: only the data fit improved, not the model"
        return f"{text}: {'the model improved, the data fit did not' if better else 'neither improved'}"


def refine(
    start: NDArray[np.float32],
    observed: Tensor,
    survey: Survey,
    *,
    iterations: int = 10,
    frequencies_hz: Sequence[float] = (5.0, 10.0, 15.0),
    step_m_s: float = 15.0,
    fixed_rows: int = 3,
    truth: NDArray[np.float32] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Refinement:
    """Invert the observed gathers, beginning with a model.

    Args:
        start: (H, W), m/s.
        observed: (shots, samples, receivers).
        survey: of the simulation.
        iterations: for each of the frequencies.
        frequencies_hz: of the wavelet, one after the other; at most that of the survey.
        step_m_s: Adam's rate. Gradients are smoothed over a cell, velocities stay within 1500 to 4600 m/s.
        fixed_rows: at the top stay as they are.
        truth: (H, W), m/s, only to say whether the model improved.
        progress: called with (iterations done, in all).

    Raises: ValueError: as `simulate`; gathers of another shape; a frequency above the survey's; a number below 1.
    """
    check_observed(observed, survey)
    if iterations < 1 or step_m_s <= 0:
        raise ValueError(f"refine: wanted iterations and step_m_s above 0; got {iterations} and {step_m_s:g}")
    if not frequencies_hz or not all(0 < one <= survey.frequency_hz for one in frequencies_hz):
        raise ValueError(
            f"refine: wanted frequencies_hz above 0 and up to the survey's {survey.frequency_hz:g}; got "
            f"{list(frequencies_hz)}"
        )
    model = torch.tensor(np.array(start, np.float32)).requires_grad_()
    before = _state(model, observed, survey, truth)
    losses = []
    total = iterations * len(frequencies_hz)
    for frequency in frequencies_hz:
        optimizer = torch.optim.Adam([model], lr=step_m_s)
        wanted = _filtered(observed, frequency, survey)
        energy = wanted.square().sum().clamp_min(1e-12)
        for _ in range(iterations):
            optimizer.zero_grad()
            loss = (_filtered(simulate(model, survey), frequency, survey) - wanted).square().sum() / energy
            loss.backward()
            assert model.grad is not None
            model.grad.copy_(torch.from_numpy(smoothed(model.grad.numpy(), 1.0)))
            model.grad[:fixed_rows] = 0
            optimizer.step()
            with torch.no_grad():
                model.clamp_(SLOWEST_M_S, min(FASTEST_M_S, survey.fastest_m_s))
            losses.append(loss.item())
            if progress is not None:
                progress(len(losses), total)
    after = _state(model, observed, survey, truth)
    return Refinement(np.array(start, np.float32), model.detach().numpy(), before, after, tuple(losses))


def smoothed(model: NDArray[np.float32], cells: float) -> NDArray[np.float32]:
    """The model (H, W) blurred by a Gaussian of this standard deviation, its edges continued: a smooth start."""
    reach = max(1, math.ceil(3 * cells))
    places = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (places / cells) ** 2)
    kernel /= kernel.sum()
    x = torch.from_numpy(np.ascontiguousarray(model, np.float32))[None, None]
    x = F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), kernel[None, None, :, None])
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel[None, None, None])
    return x[0, 0].numpy()


def _state(model: Tensor, observed: Tensor, survey: Survey, truth: NDArray[np.float32] | None) -> State:
    with torch.no_grad():
        misfit = misfit_of(simulate(model, survey), observed, survey, model.shape[1])
    values = model.detach().numpy()
    if truth is None:
        return State(misfit, None, None)
    return State(misfit, float(np.abs(values - truth).mean()), salt_iou(values, truth))


def _filtered(gathers: Tensor, frequency: float, survey: Survey) -> Tensor:
    if frequency == survey.frequency_hz:
        return gathers
    samples = gathers.shape[1]
    spectrum = torch.fft.rfft(gathers, 2 * samples, dim=1)  # zeros behind, so that the end does not meet the beginning
    place = torch.fft.rfftfreq(2 * samples, survey.sample_s)
    gain = torch.exp(-place.square() * (1 / frequency**2 - 1 / survey.frequency_hz**2))
    return torch.fft.irfft(spectrum * gain[None, :, None], 2 * samples, dim=1)[:, :samples]
