"""A network of clips started from the weights of a network of images. arXiv:1705.07750."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from foveate.insertion import mark_fresh
from foveate.networks._checkpoint import COUNTER, Weights, read_weights
from foveate.networks._head import Head


def inflate(
    model: nn.Module,
    weights: str | Path | Mapping[str, Tensor],
    *,
    keys: Callable[[str], str | None] | None = None,
    head: Head | None = None,
) -> list[str]:
    """Put the weights of a network of images into a network of clips: on T equal frames it gives what that one gives.

    A kernel that spans k frames becomes k copies of the image's kernel, each divided by k. At the ends of a clip, where
    it reaches over zeros, the sum is smaller.

    Args:
        model: such as `create_network("nl_i3d_resnet50")`.
        weights: a file, what `read_weights` gave of one, or a state dict.
        keys: name of a tensor of ours → its name in the file; None: it has none there and stays fresh. Default:
            `image_key`, the names of our ResNets, which are timm's and torchvision's too.
        head: the classifier, as `find_head` gives it; where it is for another number of classes it stays fresh.

    Returns: names of the tensors that stay fresh; they are marked, so that `insert(..., freeze="base")` leaves them
        trainable.
    Raises: ValueError: a tensor that the file has not, one of another shape, one that the model has no use for; the
        model is as it was.
    """
    keys = image_key if keys is None else keys
    given = weights if isinstance(weights, Weights) else None
    if given is None:
        given = Weights(weights, "state dict") if isinstance(weights, Mapping) else read_weights(weights)
    own: dict[str, Tensor] = model.state_dict()
    names = {name: there for name in own if (there := keys(name)) is not None}
    given = given.of_network([there for name, there in names.items() if head is None or name not in head.tensors])
    found: dict[str, Tensor] = {}
    fresh = [name for name in own if name not in names]
    for name, there in names.items():
        wanted = tuple(own[name].shape)
        if there not in given:
            if name.endswith(COUNTER):
                continue
            if head is not None and name in head.tensors:
                fresh.append(name)
                continue
            raise ValueError(f"{given.file}: {there!r} is missing")
        value = given[there]
        if value.dim() + 1 == own[name].dim():
            value = (value / wanted[2]).unsqueeze(2).expand(*value.shape[:2], wanted[2], *value.shape[2:])
        if tuple(value.shape) == wanted:
            found[name] = value
        elif head is not None and head.allows(name, tuple(value.shape), wanted):
            fresh.append(name)
        else:
            raise ValueError(f"{given.file}: {there!r}: wanted the shape {wanted}, got {tuple(value.shape)}")
    used = set(names.values())
    if surplus := next((key for key in given if key not in used and not key.endswith(COUNTER)), None):
        raise ValueError(f"{given.file}: {surplus!r} is surplus: the network has no such tensor")
    with torch.no_grad():
        for name, value in found.items():
            if not own[name].is_meta:
                own[name].copy_(value)
    mark_fresh(model, fresh)
    return fresh


def is_of_images(model: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Are these weights of a network of images, for a network of clips whose tensors are called alike?"""
    return any(
        value.dim() == 5 and name in weights and weights[name].dim() == 4 for name, value in model.state_dict().items()
    )


def image_key(name: str) -> str | None:
    """The name in a ResNet of images of a tensor of `VideoResNet`; None for those of its non-local blocks."""
    return None if ".attention." in name else name
