"""Velocity models with their shot gathers: generated with salt, OpenFWI's, FCNVMB's, SEG-Y files."""

from foveate.data.seismic.kind import open_seismic
from foveate.data.seismic.made import make_salt
from foveate.data.seismic.salt import SaltModels, salt_models

__all__ = ["SaltModels", "make_salt", "open_seismic", "salt_models"]
