"""How much of the maps attention lets through on the object, and on distractors beside it."""

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.attention import capture, made_by
from foveate.data.dataset import Batch
from foveate.explain.localisation import object_masks
from foveate.explain.watch import evaluating
from foveate.explaining import ON_DISTRACTORS, ON_OBJECTS, SELECTIVITY

DISTRACTORS = "distractors"  # the target with their boxes
NO_GATES = {"added", "branch", "theta"}  # maps recorded by mechanisms that add to the map or make another of it


def passing(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """{metric: (N,)} of the images of a batch: what share of its map attention lets through on the object and on the
    distractors where the object is not.

    The share is Σ|y| / Σ|x| over these positions and all channels, of y = attention(x), the mean over the gates and
    soft thresholds of the network; without any, everything is let through, 1. Mechanisms that add to the map, replace a
    convolution or move positions have no such share (non-local, GC's sum, SK, STN). NaN where an image has no such
    position. Of a gate it is the mean of the gate there, weighted by the map; of a soft threshold what is left above
    it. The object is its box where the batch has one.

    Args:
        model: run once in evaluation mode, without gradients.
        batch: of images (N, C, H, W), with an object and the target "distractors" (N, 4K), K boxes each.

    Raises: ValueError: if the batch has no object or no distractors.
    """
    x = batch.inputs
    boxes = batch.targets.get("box")
    there = object_masks(batch.targets if boxes is None else {"box": boxes}, x.shape[2:]).to(x.device).float()
    others = distractor_masks(batch).to(x.device).float() * (1 - there)
    places = torch.stack([there, others], 1)  # (N, 2, H, W)
    found: dict[nn.Module, Tensor] = {}
    with ExitStack() as stack:
        seen = {module: stack.enter_context(capture(module)) for module in model.modules() if made_by(module)}
        for module in seen:
            stack.enter_context(module.register_forward_hook(partial(_watch, places=places, found=found)))
        with evaluating(model), torch.inference_mode():
            model(x)
    recorded = {module: {name for maps in one.maps.values() for name in maps} for module, one in seen.items()}
    gates = [share for module, share in found.items() if recorded[module] and not recorded[module] & NO_GATES]
    known = places.flatten(2).any(2)
    shares = torch.stack(gates).mean(0) if gates else torch.ones_like(known, dtype=torch.float32)
    shares = torch.where(known, shares, torch.nan)
    return {ON_OBJECTS: shares[:, 0], ON_DISTRACTORS: shares[:, 1], SELECTIVITY: shares[:, 0] - shares[:, 1]}


def distractor_masks(batch: Batch) -> Tensor:
    """bool (N, H, W): inside the boxes of the distractors. Raises: ValueError: if there are none."""
    boxes = batch.targets.get(DISTRACTORS) if isinstance(batch.targets, dict) else None
    if not isinstance(boxes, Tensor):
        raise ValueError(
            f"passing wanted data with the target {DISTRACTORS!r}, such as the embedded digits with the option "
            "distractors = 4"
        )
    return object_masks({"boxes": boxes}, batch.inputs.shape[2:])


def _watch(
    module: nn.Module, given: tuple[Any, ...], result: Any, *, places: Tensor, found: dict[nn.Module, Tensor]
) -> None:
    x = given[0] if given else None
    if not (isinstance(x, Tensor) and isinstance(result, Tensor) and x.dim() == 4 and x.shape == result.shape):
        return
    weights = F.interpolate(places, x.shape[2:], mode="bilinear", antialias=True)
    before, after = (torch.einsum("nchw,nphw->np", one.detach().float().abs(), weights) for one in (x, result))
    found[module] = after / before.clamp_min(1e-12)
