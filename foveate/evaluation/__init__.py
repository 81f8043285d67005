"""How often a trained network is right: images as published to it, top-1 and top-5."""

from foveate.evaluation.images import Images, find_images
from foveate.evaluation.networks import Ready, make_ready
from foveate.evaluation.preprocessing import Preprocessing, published
from foveate.evaluation.score import Score, score

__all__ = ["Images", "Preprocessing", "Ready", "Score", "find_images", "make_ready", "published", "score"]
