"""What a network by name is shown and how many classes it has, where a person does not say: as it was published."""

import functools
import inspect
import math
from typing import Any

import torch
from torch import Tensor

from foveate.networks import _registry
from foveate.networks._detectors import is_detector
from foveate.networks._head import build_without_memory
from foveate.networks._registry import PHOTO
from foveate.networks._set_detectors import DETECTORS
from foveate.registry import is_file_reference

FRAMES = 16  # of a clip
MOST_NUMBERS = 2**31  # of a batch
KEYPOINTS = 17  # of a person, in COCO
COCO = 91  # classes as COCO numbers them, with the background
VIDEOMAE = "hf:videomae"


def usual_shape(name: str) -> tuple[int, ...]:
    """(C, *S) of one sample, as the network was published; (3, 224, 224) where that is not known.

    A clip is (3, frames, H, W), a signal (C, L). A detector takes images of any size; here it is that which it resizes
    them to.

    Args:
        name: as `build_network` takes it.

    Raises: LookupError: no such network of ours.
    """
    source, _, rest = name.rpartition(":")
    if source in ("", "foveate"):
        return _registry.usual_shape(rest)
    if source == "timm":
        return tuple(_timm_facts(rest).get("input_size", PHOTO))
    if source == "hf" and rest in DETECTORS:
        return (3, *(DETECTORS[rest].size,) * 2)
    if name == VIDEOMAE:
        return (3, FRAMES, 224, 224)
    return _of_torchvision(rest) if source == "torchvision" else PHOTO


def usual_classes(name: str) -> int:
    """Outputs of the classifier, as the network was published; 1000 where that is not known.

    Raises: LookupError: no such network of ours.
    """
    source, _, rest = name.rpartition(":")
    if source in ("", "foveate"):
        return _registry.usual_classes(rest)
    if source == "timm":
        return int(_timm_facts(rest).get("num_classes") or 1000)
    if source == "hf" and rest in DETECTORS:
        return COCO
    if name == VIDEOMAE:
        return 400  # of Kinetics
    weights = _weights_of(rest) if source == "torchvision" else None
    return 1000 if weights is None else len(weights.meta.get("categories", range(1000)))


def example_input(
    name: str,
    shape: tuple[int, ...] | None = None,
    *,
    batch_size: int = 1,
    targets: bool = False,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor | tuple[Any, ...]:
    """A random batch for a network by name, as `foveate.insert`, `foveate.cost` and `count` take it.

    Args:
        name: as `build_network` takes it.
        shape: (C, *S) of one sample; None: `usual_shape`.
        targets: give a detector, which is trained on them, a box in each image too.

    Returns: a tensor (batch_size, C, *S); for a detector a tuple of a list of images and, with `targets`, a list of
        targets.

    Raises: ValueError: a shape that no sample has, or more than 2³¹ numbers. LookupError: as `usual_shape`.
    """
    shape = usual_shape(name) if shape is None else tuple(shape)
    check_shape(shape, batch_size)
    if not _is_detector(name):
        return torch.randn(batch_size, *shape, device=device, dtype=dtype)
    images = [torch.rand(shape, device=device, dtype=dtype) for _ in range(batch_size)]
    if not targets:
        return (images,)
    return images, [_target(name, image) for image in images]


def check_shape(shape: tuple[int, ...], batch_size: int = 1) -> None:
    """Raises: ValueError: no (C, *S) of one to three sides, or more than 2³¹ numbers in the batch."""
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise ValueError(f"shape: wanted C and 1 to 3 sides, each at least 1; got {','.join(map(str, shape))}")
    if batch_size * math.prod(shape) > MOST_NUMBERS:
        size = "×".join(map(str, shape))
        raise ValueError(f"shape: wanted at most {MOST_NUMBERS:,} numbers in a batch; got {batch_size} of {size}")


def _target(name: str, image: Tensor) -> dict[str, Tensor]:
    """One box in the middle of the image, as torchvision's detectors take it."""
    high, wide = image.shape[-2:]
    box = torch.tensor([[wide / 4, high / 4, 3 * wide / 4, 3 * high / 4]], device=image.device, dtype=torch.float32)
    found = {"boxes": box, "labels": torch.ones(1, dtype=torch.int64, device=image.device)}
    if "maskrcnn" in name:
        found["masks"] = torch.ones(1, high, wide, dtype=torch.uint8, device=image.device)
    if "keypointrcnn" in name:
        point = torch.tensor([wide / 2, high / 2, 1.0], device=image.device)
        found["keypoints"] = point.expand(1, KEYPOINTS, 3).contiguous()
    return found


def _timm_facts(name: str) -> dict[str, Any]:
    import timm

    found = timm.get_pretrained_cfg(name, allow_unregistered=True) if timm.is_model(name.split(".")[0]) else None
    return {} if found is None else found.to_dict()


def _is_detector(name: str) -> bool:
    source, _, rest = name.rpartition(":")
    if is_file_reference(name):
        from foveate.networks._build import build_network

        return is_detector(build_without_memory(lambda: build_network(name, num_classes=COCO)))
    return rest in DETECTORS if source == "hf" else source == "torchvision" and _kind(rest) == "detection"


def _kind(name: str) -> str:
    """The part of torchvision.models that has the network: "detection", "video", "vision_transformer", "resnet", …"""
    import torchvision

    if name not in torchvision.models.list_models():
        return ""
    builder = inspect.unwrap(torchvision.models.get_model_builder(name))
    return builder.__module__.removeprefix("torchvision.models.").split(".")[0]


def _weights_of(name: str) -> Any:
    """torchvision's entry of the weights that the network was published with; None where there are none."""
    import torchvision

    if not _kind(name):
        return None
    known = list(torchvision.models.get_model_weights(name))
    return next((one for one in known if one.name == "IMAGENET1K_V1"), known[0] if known else None)


def _of_torchvision(name: str) -> tuple[int, ...]:
    kind, weights = _kind(name), _weights_of(name)
    if kind == "detection":
        return _of_detector(name)
    if weights is None or kind == "vision_transformer":  # whose weights of another size go with image_size=
        return PHOTO
    size = getattr(weights.transforms(), "crop_size", None) or getattr(weights.transforms(), "resize_size", None)
    if not size:
        return PHOTO
    sides = (size[0], size[-1])
    return (3, FRAMES, *sides) if kind == "video" else (3, *sides)


@functools.cache
def _of_detector(name: str) -> tuple[int, ...]:
    import torchvision

    transform = build_without_memory(
        lambda: torchvision.models.get_model(name, weights=None, weights_backbone=None)
    ).transform
    side = transform.min_size[-1]  # type: ignore[union-attr,index]
    return (3, *(transform.fixed_size or (side, side)))  # type: ignore[union-attr,misc]
