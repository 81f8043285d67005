"""What the inserted attention looks at, as a picture: a sample, and beside it each module's weight of each position."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.attention import capture, made_by
from foveate.insertion import inserted
from foveate.tasks.pictures import Over, Picture, captioned, shown

EXAMPLES, MISTAKES, ATTENTION = "examples.png", "mistakes.png", "attention.png"  # in the folder of a run
MODULES = 6  # columns at most
MORE, LESS = (230, 159, 0), (0, 114, 178)  # orange and blue of Okabe and Ito
FULL = 2.0  # a weight this many times the mean of its image has the full colour, as has one that is this much smaller


def attention_maps(model: nn.Module, inputs: Any) -> dict[str, Tensor | list[Tensor]]:
    """Site → (N, H, W), or of a list of images (H, W) each: each position's weight, 1 being the mean of the image.

    Of the inserted modules; of a network without any, of those that it is built with.

    Where a mechanism computes a spatial mask, that is it. For others it is by how much the module makes the position's
    vector longer, so that a gate of channels shows where the channels lie that it lets through. Modules that give a
    map of another size than they take, or no map of two axes, are left out.

    A detector puts its images into one batch, smaller ones at the upper left: of a list of images each map is cut to
    its image, and maps of single regions are left out.

    Args:
        inputs: of a batch, as the model takes them. The model is run once, in the mode it is in, without gradients.
    """
    through: dict[str, tuple[Tensor, Tensor]] = {}
    shares = [(1.0, 1.0)] * len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)
    modules = inserted(model) or [(name, module) for name, module in model.named_modules() if made_by(module)]
    with contextlib.ExitStack() as stack, torch.inference_mode():
        for name, module in modules:
            hook = module.register_forward_hook(lambda _, x, y, name=name: through.update({name: (x[0], y)}))
            stack.callback(hook.remove)
        if isinstance(inputs, list) and isinstance(transform := getattr(model, "transform", None), nn.Module):
            note = transform.register_forward_hook(lambda _, x, y: shares.__setitem__(slice(None), _shares(y)))
            stack.callback(note.remove)
        with capture(model) as seen:
            model(inputs)
        found = {}
        for name, _ in modules:
            mask = seen.maps.get(name, {}).get("spatial")
            if isinstance(mask, Tensor) and mask.dim() == 3:
                weights = mask.float()
            elif name in through and _are_maps(*through[name]):
                x, y = (one.float().square().sum(1).sqrt() for one in through[name])
                weights = torch.where(x > 0, y / x.clamp_min(1e-12), 0)
            else:
                continue
            if len(weights) == len(shares):
                maps = [_relative(one, share) for one, share in zip(weights.cpu(), shares, strict=True)]
                found[name] = torch.stack(maps) if isinstance(inputs, Tensor) else maps
        return found


def _shares(transformed: Any) -> list[tuple[float, float]]:
    """Of a batch that torchvision's transform of detectors makes: how much of its height and width each image has."""
    images = transformed[0]
    high, wide = images.tensors.shape[-2:]
    return [(h / high, w / wide) for h, w in images.image_sizes]


def _relative(weights: Tensor, share: tuple[float, float]) -> Tensor:
    """The part of the map that is the image's, relative to its mean."""
    high, wide = (max(round(side * part), 1) for side, part in zip(weights.shape, share, strict=True))
    own = weights[:high, :wide]
    return own / own.mean().clamp_min(1e-12)


def _are_maps(x: object, y: object) -> bool:
    return isinstance(x, Tensor) and isinstance(y, Tensor) and x.dim() == y.dim() == 4 and x.shape[2:] == y.shape[2:]


def attention_pictures(
    model: nn.Module,
    inputs: Any,
    over: Over | None = None,
    background: Callable[[str], Sequence[Picture]] | None = None,
    most: int = MODULES,
) -> list[Picture]:
    """A picture a sample: the input, then each inserted module's map over it, at most `most` of them, evenly.

    Orange: more weight than the mean of the image, blue: less; the full colour is twice, or half. The caption has the
    module's site and its smallest and largest weight. Empty: no module has a map of an image.

    Args:
        over: draws over each of the pictures of a sample, by its number, such as the boxes that were found.
        background: from a module's site to a picture of each sample that its map is drawn over, from "" to the one that
            stands alone before them; None: the input.
    """
    maps = attention_maps(model, inputs)
    if not maps:
        return []
    names = list(maps)
    if len(names) > most:
        names = [names[number * (len(names) - 1) // max(most - 1, 1)] for number in range(most)]
    under = {name: shown(inputs) if background is None else background(name) for name in ("", *names)}
    rows = []
    for number, picture in enumerate(under[""]):
        row = [captioned(picture if over is None else over(number, picture), "image")]
        for name in names:
            weights = maps[name][number]
            low, high = weights.min().item(), weights.max().item()
            drawn = coloured(under[name][number], weights)
            row.append(captioned(drawn if over is None else over(number, drawn), f"{name}: {low:.2g} to {high:.2g}"))
        rows.append(beside(row))
    return rows


def coloured(picture: Picture, weights: Tensor) -> Picture:
    """Weights (h, w) as colours over the picture in grey."""
    large = F.interpolate(weights[None, None], picture.shape[:2], mode="nearest")[0, 0].numpy()
    strength = np.log2(np.clip(large, 1 / FULL, FULL)) / np.log2(FULL)  # −1 to 1
    grey = np.repeat(picture.mean(2, keepdims=True), 3, 2)
    colour = np.where(strength[..., None] > 0, np.array(MORE), np.array(LESS))
    share = 0.75 * np.abs(strength)[..., None]
    return np.asarray((1 - share) * grey + share * colour, np.uint8)


def beside(pictures: Sequence[NDArray[np.uint8]]) -> Picture:
    """The pictures in one row with a little white between them."""
    high = max(picture.shape[0] for picture in pictures)
    padded = [np.pad(p, ((0, high - p.shape[0]), (0, 4), (0, 0)), constant_values=255) for p in pictures]
    return np.concatenate(padded, 1)
