"""`explain`: the map of what a network looked at in an image, with what the network itself weighs beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from foveate.data.photos import Photos
from foveate.data.transforms import published
from foveate.explain.cams import METHODS, enlarged, scaled
from foveate.explain.images import open_image
from foveate.explain.layers import Layer, find_layers
from foveate.explain.own import OwnMaps, Point, own_maps
from foveate.explain.rollout import ROLLOUTS
from foveate.explain.targets import Explained, explained
from foveate.explain.watch import watched
from foveate.networks import is_detector, origin_of
from foveate.registry import nearest

ALL_METHODS = (*METHODS, *ROLLOUTS)


@dataclass(frozen=True)
class About:
    """What a map is of.

    Attributes:
        method: "gradcam", …
        layers: names of the layers; of attention methods, of the modules whose attention was followed.
        target: number of the explained class or value; None where a method has none.
        probabilities: (K,) softmax scores of the image; None for a detector.
        box: x0, y0, x1, y1 of the explained box of a detector, in pixels; else None.
        gates: the maps that the network's own attention computes: {site: {kind: array}}, as `own_maps` gives them.
    """

    method: str
    layers: tuple[str, ...]
    target: int | None = None
    probabilities: NDArray[np.float32] | None = None
    box: tuple[float, ...] | None = None
    gates: Mapping[str, OwnMaps] = field(default_factory=dict)


class Map(np.ndarray):
    """A float32 array (H, W) of 0 to 1, as large as the image; `about` says what it is of, None in parts of a map."""

    about: About | None

    def __new__(cls, values: Any, about: About | None = None) -> "Map":
        found = np.ascontiguousarray(values, np.float32).view(cls)
        found.about = about
        return found

    def __array_finalize__(self, source: Any) -> None:
        self.about = None


def explain(
    model: nn.Module,
    image: Any,
    target: int | None = None,
    method: str = "gradcam",
    *,
    layers: str | Sequence[str] | Sequence[Layer] | None = None,
    point: Point | None = None,
    gates: bool = True,
) -> Map:
    """How much each position of an image counts for a score of the network.

        found = foveate.explain(model, image)   # (H, W), 0 to 1
        found.about.gates["layer3.0"]["channel"]  # (C,), what the inserted attention let through

    Args:
        model: any network for images (N, C, H, W), or for clips and volumes (N, C, D, H, W) or signals; or a detector.
            It runs in evaluation mode and is left as it was; frozen networks are explained like others.
        image: a tensor (C, H, W) or (1, C, H, W), prepared as the network takes it; or a file or PIL image, for a
            network by name, which is prepared as it was published.
        target: number of a class or value; None: the best class, the class of most positions, the best box.
        method: "gradcam", "gradcam++", "hirescam", "layercam", "eigencam" (no target); "rollout" and "classtoken" for
            transformers.
        layers: names, glob patterns or `Layer`s; None: found by `find_layers`. Maps of several are averaged.
        point: (y, x) in shares of the image, or (frame, y, x) of a clip, whose affinity rows `gates` has too; or None.
        gates: are the network's own gates wanted?

    Returns: float32 (H, W); of other inputs (*S). `about` has layer, target, scores and gates.
    Raises: ValueError: an image that the network does not take, a method or target that is not there, no gradient.
        LookupError: no such layer; the nearest are named.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("a TorchScript module cannot be explained; give the network that it was made from")
    inputs = as_inputs(model, image)
    found, about = explain_batch(model, inputs, target, method, layers=layers)
    if not bool(found.reached.all()):
        raise ValueError(
            f"{', '.join(found.layers)}: the score of output {int(about.targets[0]) if about else ''} has no gradient "
            "there; its last layer is quantised or 0; eigencam needs none"
        )
    own = own_maps(model, inputs, point=point) if gates else {}
    probabilities = None if about is None else about.probabilities()
    return Map(
        found.maps[0].cpu().numpy(),
        About(
            method,
            found.layers,
            None if about is None or method == "eigencam" else int(about.targets[0]),
            None if probabilities is None else probabilities[0].cpu().numpy(),
            None if about is None or about.boxes is None else tuple(about.boxes[0].tolist()),
            own,
        ),
    )


@dataclass(frozen=True)
class Maps:
    """Maps of a batch.

    Attributes:
        maps: (N, *S), 0 to 1.
        layers: names of the layers that they are of.
        reached: bool (N,): does the score of a sample have a gradient by any of them? True of methods without one.
    """

    maps: Tensor
    layers: tuple[str, ...]
    reached: Tensor


def explain_batch(
    model: nn.Module,
    inputs: Any,
    targets: Sequence[int] | Tensor | int | None = None,
    method: str = "gradcam",
    *,
    layers: str | Sequence[str] | Sequence[Layer] | None = None,
) -> tuple[Maps, Explained | None]:
    """`explain` for a batch: maps (N, *S) and what was explained, None of a method that runs no score.

    Args:
        inputs: (N, C, *S) as the network takes them, or a list with one image for a detector.
        targets: one for all, or one for each sample.

    Raises: as `explain`.
    """
    if method not in ALL_METHODS:
        raise ValueError(f"no method is called {method!r}; {nearest(method, ALL_METHODS)}")
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ValueError("the network was made under torch.inference_mode, so it has no gradients; build it outside")
    inputs = _plain(inputs)
    size = tuple(inputs[0].shape[1:])
    if method in ROLLOUTS:
        if layers is not None:
            raise ValueError(f"{method} follows the attention of all layers; wanted no layers")
        maps, names, given = ROLLOUTS[method](model, inputs, targets)
        return Maps(scaled(enlarged(maps, size)), names, torch.ones(len(maps), dtype=torch.bool)), given
    chosen = _layers(model, inputs, layers)
    how = METHODS[method]
    with watched(model, chosen, gradients=how.gradients) as seen:
        about = explained(model(inputs), targets)
        features = seen.features()
        gradients = seen.gradients(about.score.sum()) if how.gradients else features
    found: dict[str, Tensor] = {}
    reached = torch.zeros(len(inputs), dtype=torch.bool, device=inputs[0].device)
    for layer in chosen:
        x, by = _framed(features[layer.name], inputs), _framed(gradients[layer.name], inputs)
        here = by.flatten(1).any(1)
        reached |= here | (not how.gradients)
        if len(chosen) == 1 or not how.gradients or bool(here.any()):  # a detector's box comes from some of its maps
            made = scaled(how.function(x, by).clamp_min(0))
            made = made[:, None] if made.dim() == len(size) else made  # one map for all frames of a clip
            found[layer.name] = enlarged(made, size)
    if not found:
        raise ValueError(f"no gradient reaches {', '.join(layer.name for layer in chosen)}")
    return Maps(scaled(torch.stack(list(found.values())).mean(0)), tuple(found), reached), about


def _layers(model: nn.Module, inputs: Any, layers: Any) -> list[Layer]:
    if layers is not None and not isinstance(layers, str) and all(isinstance(one, Layer) for one in layers):
        return list(layers)
    return find_layers(model, inputs, layers)


def _framed(x: Tensor, inputs: Any) -> Tensor:
    """(N·T, C, *S) of a network that puts the frames of clips (N, C, T, H, W) into the batch → (N, C, T, *S)."""
    if len(x) == len(inputs) or isinstance(inputs, list):
        return x
    return x.unflatten(0, (len(inputs), -1)).transpose(1, 2)


def _plain(inputs: Any) -> Any:
    """Tensors that take part in gradients, also those made under inference mode."""
    with torch.inference_mode(False):
        if isinstance(inputs, list):
            return [one.clone() if one.is_inference() else one for one in inputs]
        return inputs.clone() if inputs.is_inference() else inputs


def as_inputs(model: nn.Module, image: Any) -> Any:
    """An image as the network's batch of one, on its device; arguments and errors as of `explain`."""
    if isinstance(image, (str, Path, Image.Image)):
        image = _prepared(model, image)
    if not isinstance(image, Tensor):
        raise ValueError(f"image: wanted a tensor (C, H, W), a file or a PIL image; got {type(image).__name__}")
    device = next((one.device for one in model.parameters()), torch.device("cpu"))
    image = image.to(device)
    if is_detector(model):
        return [image[0] if image.dim() == 4 else image]
    if image.dim() > 3 and len(image) == 1:
        return image
    if image.dim() not in (2, 3, 4):
        raise ValueError(f"image: wanted (C, H, W) or (1, C, H, W); got {tuple(image.shape)}")
    return image[None]


def _prepared(model: nn.Module, image: Any) -> Tensor:
    shown = open_image(image).image
    if is_detector(model):
        return torch.from_numpy(np.array(shown)).permute(2, 0, 1).float().div_(255)
    origin = origin_of(model)
    if origin is None:
        raise ValueError(
            "image: the preprocessing of a network that was not built by name is not known; wanted a tensor (C, H, W)"
        )
    return Photos([], np.empty(0, np.int64), published(origin.name), names=[], channels=origin.in_channels).prepare(
        shown
    )
