"""Smaller networks from trained ones: structured pruning, and distillation from a larger network."""

from foveate.compress.distill import distilled
from foveate.compress.pruning import prune

__all__ = ["distilled", "prune"]
