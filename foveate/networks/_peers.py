"""Networks of segmentation_models_pytorch and of transformers, built without weights: those that give logits for every
pixel, detectors, and VideoMAE for clips.

Both are optional: `pip install "foveate[peers]"`.
"""

import importlib
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.networks._set_detectors import DETECTORS, build_set_detector
from foveate.registry import nearest

TINY = 1e-6  # least share of a class that its logarithm is taken of
HF = {  # name here: class there, options that keep it from reading weights
    "segformer": ("SegformerForSemanticSegmentation", {}),
    "upernet": ("UperNetForSemanticSegmentation", {}),
    "maskformer": ("MaskFormerForInstanceSegmentation", {}),
    "mask2former": ("Mask2FormerForUniversalSegmentation", {}),
    "detr_segmentation": ("DetrForSegmentation", {"use_pretrained_backbone": False}),
    "videomae": ("VideoMAEForVideoClassification", {}),
}


def from_smp(name: str, num_classes: int, in_channels: int, options: Mapping[str, Any]) -> nn.Module:
    """A network of segmentation_models_pytorch: "Unet", "FPN", "DeepLabV3Plus", "UPerNet", …

    Raises: LookupError: no such network. TypeError: no such option. ValueError: the package is not installed; its MiT
        encoder is chosen, whose licence allows no use but research.
    """
    smp = _package("segmentation_models_pytorch", f"smp:{name}")
    known = {key: value for key, value in vars(smp).items() if isinstance(value, type)}
    if name not in known:
        raise LookupError(f"segmentation_models_pytorch has no network {name!r}; {nearest(name, list(known))}")
    if str(options.get("encoder_name", "")).startswith("mit_"):
        raise ValueError(
            f"smp:{name}: its MiT encoder is under a licence for research alone; ours are segformer_mit_b0, …"
        )
    own = list(inspect.signature(known[name]).parameters)  # the class itself takes any others without a word
    _refuse_weights(f"smp:{name}", {"encoder_weights"} & set(options))
    if unknown := [option for option in options if option not in own]:
        raise TypeError(f"smp:{name} has no option {unknown[0]!r}; {nearest(unknown[0], own)}")
    try:
        return known[name](**{"in_channels": in_channels, "classes": num_classes, **options, "encoder_weights": None})
    except (TypeError, KeyError) as error:
        raise TypeError(f"smp:{name}: {str(error)[:200]}") from None


def from_hf(name: str, num_classes: int, in_channels: int, options: Mapping[str, Any]) -> nn.Module:
    """A network of transformers; options are those of its configuration.

    Raises: LookupError: none of `HF` or `DETECTORS`. TypeError: no such option. ValueError: the package is not
        installed; images of other than three channels.
    """
    if name not in HF and name not in DETECTORS:
        raise LookupError(f"transformers has no network {name!r} known here; {nearest(name, [*HF, *DETECTORS])}")
    transformers = _package("transformers", f"hf:{name}")
    if in_channels != 3:
        raise ValueError(f"hf:{name} takes images of 3 channels; got in_channels={in_channels}")
    if name in DETECTORS:
        return build_set_detector(transformers, name, num_classes, **options)
    cls_name, fixed = HF[name]
    cls = getattr(transformers, cls_name)
    _refuse_weights(f"hf:{name}", set(fixed) & set(options))
    config = cls.config_class(**fixed)
    if unknown := [option for option in options if not hasattr(config, option)]:
        raise TypeError(f"hf:{name} has no option {unknown[0]!r}; {nearest(unknown[0], list(config.to_dict()))}")
    network = cls(cls.config_class(**fixed, **{"num_labels": num_classes, **options}))
    return ClipLogits(network) if name == "videomae" else PixelLogits(network)


def _refuse_weights(name: str, options: set[str]) -> None:
    if options:
        raise TypeError(
            f"{name}: {min(options)!r} is no option here, as nothing is downloaded; --weights FILE loads weights"
        )


def _package(name: str, wanted: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if error.name != name or not isinstance(error, ModuleNotFoundError):
            raise ValueError(f"{wanted} needs {name}, which cannot be imported: {error}") from error
        raise ValueError(f'{wanted} needs {name}, which is not installed: pip install "foveate[peers]"') from None


class PixelLogits(nn.Module):
    """A network of transformers that gives logits for every pixel.

    Of a network of queries, each with a class and a mask, a pixel's share of a class is the sum over the queries
    of the class's probability times the mask's, as in MaskFormer's semantic inference, and the logits are its
    logarithms; so it is trained by pixels here, not by matching queries.

    Shape: (N, 3, H, W) → (N, num_classes, H, W).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        found = self.network(pixel_values=x)
        masks = getattr(found, "masks_queries_logits", None)
        if masks is None:
            masks = getattr(found, "pred_masks", None)
        if masks is None:
            return F.interpolate(found.logits, x.shape[2:], mode="bilinear", align_corners=False)
        classes = getattr(found, "class_queries_logits", None)
        classes = found.logits if classes is None else classes
        masks = F.interpolate(masks, x.shape[2:], mode="bilinear", align_corners=False).sigmoid()
        shares = torch.einsum("nqk,nqhw->nkhw", classes.softmax(-1)[..., :-1], masks)
        return shares.clamp_min(TINY).log()


class ClipLogits(nn.Module):
    """A network of transformers that classifies clips of the length and size that its configuration says.

    Shape: (N, 3, T, H, W) → (N, num_classes).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(pixel_values=x.transpose(1, 2)).logits
        return logits
