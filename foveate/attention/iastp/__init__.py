"""Interaction-aware spatio-temporal pyramid attention: the layer, its losses, and the PCA claims. arXiv:1808.01106."""

from foveate.attention.iastp.layer import InteractionAwarePyramid
from foveate.attention.iastp.losses import (
    Losses,
    RelaxedPCA,
    attention_loss,
    interactive_loss,
    pca_objective,
    relaxed_pca,
)

__all__ = [
    "InteractionAwarePyramid",
    "Losses",
    "RelaxedPCA",
    "attention_loss",
    "interactive_loss",
    "pca_objective",
    "relaxed_pca",
]
