"""Shot gathers of velocity models: the scalar wave equation, solved by deepwave.

Richardson, "Deepwave", doi:10.5281/zenodo.3829886 (MIT); optional: pip install "foveate[fwi]".
"""

import importlib
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.waves.survey import LAG_PERIODS, SIGNS, Survey


def require_deepwave() -> Any:
    """The package. Raises: ValueError: it is missing, or of another interface than 0.1's."""
    try:
        library = importlib.import_module("deepwave")
    except ImportError as error:
        raise ValueError(f'simulating shot gathers needs deepwave ({error}): pip install "foveate[fwi]"') from None
    if not hasattr(library, "PropagatorOutput"):
        version = getattr(library, "__version__", "?")
        raise ValueError(f'simulating shot gathers needs deepwave 0.1; got {version}: pip install -U "foveate[fwi]"')
    return library


def simulate(velocity: Float[Tensor, "h w"], survey: Survey, *, every: int | None = None) -> Float[Tensor, "s t r"]:
    """The gathers of one model, in its device's memory; differentiable in the velocity.

    Args:
        velocity: m/s, depth down the rows.
        survey: of at most as many shots and receivers as the model has columns.
        every: every so many simulated samples are given; None: as `survey.keep` says.

    Shape: (H, W) → (shots, samples, receivers), float32.
    Raises: ValueError: deepwave is missing; velocities are above `survey.fastest_m_s`, not finite, or not above 0; the
        survey does not fit.
    """
    library = require_deepwave()
    if velocity.dim() != 2:
        raise ValueError(f"simulate: wanted one model (depth, x); got a tensor of shape {tuple(velocity.shape)}")
    low, high = velocity.detach().aminmax()
    if not 0 < low <= high <= survey.fastest_m_s:
        raise ValueError(
            f"simulate: wanted velocities above 0 and up to fastest_m_s = {survey.fastest_m_s:g} m/s; got {low:g} to "
            f"{high:g}"
        )
    rows, columns = velocity.shape
    if survey.depth >= rows:
        raise ValueError(f"survey: depth: wanted a row below {rows}, those of the model; got {survey.depth}")
    device = velocity.device
    shots, receivers = (torch.from_numpy(places).to(device) for places in survey.places(columns))
    peak = LAG_PERIODS / survey.frequency_hz
    wavelet = library.wavelets.ricker(survey.frequency_hz, survey.steps, survey.step_s, peak).to(device)
    row = torch.full((survey.shots, 1), survey.depth, device=device)
    out = library.scalar(
        velocity.float(),
        survey.spacing_m,
        survey.step_s,
        source_amplitudes=wavelet.expand(survey.shots, 1, -1).contiguous(),
        source_locations=torch.stack([row, shots[:, None]], 2),
        receiver_locations=torch.stack(
            [row.expand(-1, survey.receivers), receivers.expand(survey.shots, -1)], 2
        ).contiguous(),
        accuracy=survey.accuracy,
        pml_width=survey.absorbing,
        pml_freq=survey.frequency_hz,
        max_vel=survey.fastest_m_s,
        courant_number=survey.courant_number,
    )
    traces = out.receiver_amplitudes[..., :: survey.keep if every is None else every]
    return SIGNS[survey.sign] * traces.transpose(1, 2)
