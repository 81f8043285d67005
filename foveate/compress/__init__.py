"""Smaller networks from trained ones: structured pruning, and distillation from a larger network."""

from foveate.compress.prune import prune

__all__ = ["prune"]
