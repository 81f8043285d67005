"""Acoustic waves: surveys, shot gathers of velocity models through deepwave, data misfit, classical inversion."""

from foveate.waves.gathers import Gathers, gathers_of
from foveate.waves.misfit import Misfit, data_misfit, reflections, with_noise
from foveate.waves.propagate import require_deepwave, simulate
from foveate.waves.refine import Refinement, refine, smoothed
from foveate.waves.survey import Survey
from foveate.waves.velocity import SALT_M_S, check_velocities, normalised, velocities

__all__ = [
    "SALT_M_S",
    "Gathers",
    "Misfit",
    "Refinement",
    "Survey",
    "check_velocities",
    "data_misfit",
    "gathers_of",
    "normalised",
    "refine",
    "reflections",
    "require_deepwave",
    "simulate",
    "smoothed",
    "velocities",
    "with_noise",
]
