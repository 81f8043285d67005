"""Detectors of transformers, which give a set of boxes without anchors or suppression, in the form of torchvision's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from foveate.networks._detectors import freeze_backbone
from foveate.registry import nearest

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MOST = 100  # boxes of an image
LEVELS = (8, 16, 32)  # strides of the maps that RT-DETR and its relatives take of a backbone
PARTS = ("loss_ce", "loss_vfl", "loss_mal", "loss_bbox", "loss_giou")  # of the last layer, without their weights


@dataclass(frozen=True)
class Form:
    """What differs between the detectors of transformers.

    Attributes:
        cls: there.
        size: side of the images, in pixels, as published.
        normalised: are images normalised by ImageNet's mean and deviation?
        levels: strides of the backbone's maps that it takes; () for a backbone of its own.
        head_inputs: the modules whose maps its decoder reads.
        background: is "no object" a class of the softmax?
    """

    cls: str
    size: int
    normalised: bool
    levels: tuple[int, ...]
    head_inputs: tuple[str, ...]
    background: bool = False


_PROJECTED = tuple(f"network.model.decoder_input_proj.{level}" for level in range(len(LEVELS)))
DETECTORS = {
    "detr": Form("DetrForObjectDetection", 800, True, (4, 8, 16, 32), ("network.model.encoder",), background=True),
    "rt_detr_v2": Form("RTDetrV2ForObjectDetection", 640, False, LEVELS, _PROJECTED),
    "d_fine": Form("DFineForObjectDetection", 640, False, LEVELS, _PROJECTED),
    "deimv2": Form("Deimv2ForObjectDetection", 640, False, LEVELS, _PROJECTED),
    "rf_detr": Form("RfDetrForObjectDetection", 560, True, (), ("network.model.backbone.projector",)),
}


class SetDetector(nn.Module):
    """A detector of transformers that takes and gives what torchvision's do.

    Args:
        network: of transformers.
        form: of it.
        size: every image is resized to size × size pixels.
        mean, std: of the normalisation of the images' channels.

    Shape: n images (3, H, W) in 0 to 1; in training n targets {"boxes": (k, 4), "labels": (k,), from 1} as well. In
        training {"loss": the network's own weighted sum, and its unweighted parts}, else n times {"boxes": (b, 4) in
        pixels, "labels", "scores"}, the best 100 at most.
    """

    def __init__(self, network: nn.Module, form: Form, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        from torchvision.models.detection.transform import GeneralizedRCNNTransform

        super().__init__()
        self.network, self.form = network, form
        self.head_inputs = form.head_inputs
        self.transform = GeneralizedRCNNTransform(
            size, size, list(mean), list(std), size_divisible=1, fixed_size=(size, size)
        )

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        if self.training and targets is None:
            raise ValueError("wanted targets in training; got none")
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        batch, resized = self.transform(images, targets)
        high, wide = batch.tensors.shape[-2:]
        labels = None if targets is None else [_as_shares(one, high, wide) for one in resized]
        found = self.network(pixel_values=batch.tensors, labels=labels)
        if self.training:
            return {"loss": found.loss} | {key: found.loss_dict[key] for key in PARTS if key in found.loss_dict}
        boxes = [self._best(*one, high, wide) for one in zip(found.logits, found.pred_boxes, strict=True)]
        return self.transform.postprocess(boxes, batch.image_sizes, sizes)

    def _best(self, logits: Tensor, boxes: Tensor, high: int, wide: int) -> dict[str, Tensor]:
        from torchvision.ops import box_convert, clip_boxes_to_image

        shares = logits.float().softmax(-1)[:, :-1] if self.form.background else logits.float().sigmoid()
        scores, places = shares.flatten().topk(min(MOST, shares.numel()))
        corners = box_convert(boxes.float()[places // shares.shape[1]], "cxcywh", "xyxy")
        corners = corners * torch.tensor([wide, high, wide, high], device=boxes.device)
        return {
            "boxes": clip_boxes_to_image(corners, (high, wide)),
            "labels": places % shares.shape[1] + 1,
            "scores": scores,
        }


def _as_shares(target: Mapping[str, Tensor], high: int, wide: int) -> dict[str, Tensor]:
    """Boxes as centre and size in shares of the image, labels from 0."""
    from torchvision.ops import box_convert

    boxes = box_convert(target["boxes"], "xyxy", "cxcywh")
    return {
        "class_labels": target["labels"] - 1,
        "boxes": boxes / torch.tensor([wide, high, wide, high], device=boxes.device),
    }


def build_set_detector(
    transformers: ModuleType,
    name: str,
    num_classes: int,
    *,
    size: int | None = None,
    backbone: str | None = None,
    image_mean: Sequence[float] | None = None,
    image_std: Sequence[float] | None = None,
    frozen_norms: bool = False,
    frozen_stages: int = 0,
    **options: Any,
) -> nn.Module:
    """A detector of transformers with fresh weights, built from its configuration.

    Args:
        transformers: the package.
        name: one of `DETECTORS`.
        num_classes: with the background, as of torchvision's detectors.
        size: side that images are resized to, in pixels; None: as published.
        backbone: "timm:NAME" in place of its own.
        image_mean, image_std: of the images' channels; None: as published.
        frozen_norms, frozen_stages: as of torchvision's detectors.
        options: of the configuration there.

    Raises: LookupError: timm has no such network. TypeError: no such option. ValueError: a size or a backbone that the
        detector does not take.
    """
    form = DETECTORS[name]
    cls = getattr(transformers, form.cls, None)
    if cls is None:
        raise ValueError(f"hf:{name} needs a transformers with {form.cls}; this is {transformers.__version__}")
    given: dict[str, Any] = (
        {"freeze_backbone_batch_norms": False} if "freeze_backbone_batch_norms" in _fields(cls) else {}
    )
    if backbone is not None:
        given |= _timm_backbone(name, form, backbone)
    if unknown := [option for option in options if option not in _fields(cls)]:
        own = ["size", "backbone", "image_mean", "image_std", "frozen_norms", "frozen_stages"]
        raise TypeError(f"hf:{name} has no option {unknown[0]!r}; {nearest(unknown[0], [*own, *_fields(cls)])}")
    if num_classes < 2:
        raise ValueError(f"hf:{name}: wanted num_classes of 2 or more, the background and a class; got {num_classes}")
    config = cls.config_class(num_labels=num_classes - 1, **(given | options))
    side = form.size if size is None else size
    _check_size(name, config, side)
    mean = image_mean or (MEAN if form.normalised else (0.0, 0.0, 0.0))
    std = image_std or (STD if form.normalised else (1.0, 1.0, 1.0))
    made = cls(config)
    body = next(getattr(made.model, name) for name in ("backbone", "conv_encoder") if hasattr(made.model, name))
    freeze_backbone(made, body, norms=frozen_norms, stages=frozen_stages)
    return SetDetector(made, form, side, mean, std)


def released_tensors(transformers: ModuleType, name: str, folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder that transformers wrote, by the names that the detector has here.

    Raises: ValueError: the folder has no such detector.
    """
    cls = getattr(transformers, DETECTORS[name].cls)
    words = transformers.logging
    level, bars = words.get_verbosity(), words.is_progress_bar_enabled()
    try:
        words.set_verbosity_error()
        words.disable_progress_bar()
        network, found = cls.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"{folder}: is no folder of hf:{name} ({str(error).splitlines()[0]})") from None
    finally:
        words.set_verbosity(level)
        if bars:
            words.enable_progress_bar()
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{folder}: has not every tensor of hf:{name}: {missing[0]!r} is missing")
    return {f"network.{key}": value for key, value in network.state_dict().items()}


def _fields(cls: Any) -> list[str]:
    return [key for key in vars(cls.config_class()) if not key.startswith("_")]


def _timm_backbone(name: str, form: Form, backbone: str) -> dict[str, Any]:
    """The configuration's entries for a backbone of timm."""
    import timm

    source, _, rest = backbone.rpartition(":")
    if not form.levels:
        raise ValueError(f"hf:{name} has a backbone of its own, which transformers cannot replace; got {backbone!r}")
    if source != "timm":
        raise ValueError(f"hf:{name}: backbone: wanted timm:NAME; got {backbone!r}")
    if not timm.is_model(rest.split(".")[0]):
        raise LookupError(f"timm has no model {rest!r}; {nearest(rest, timm.list_models())}")
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        info: Any = timm.create_model(rest, features_only=True).feature_info
    reductions = info.reduction()
    if missing := [stride for stride in form.levels if stride not in reductions]:
        raise ValueError(f"hf:{name}: {backbone} gives no map at stride {missing[0]}; wanted {form.levels}")
    chosen = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in form.levels]
    config = {
        "model_type": "timm_backbone",
        "backbone": rest,
        "use_pretrained_backbone": False,
        "features_only": True,
        "num_channels": 3,
        "out_indices": chosen,
    }
    given: dict[str, Any] = {"backbone_config": config}
    if form.levels == LEVELS:
        given["encoder_in_channels"] = [info.channels()[index] for index in chosen]
    return given


def _check_size(name: str, config: Any, side: int) -> None:
    """Raises: ValueError: a side of the image that the detector does not take."""
    if name == "detr":
        return
    if name == "rf_detr":
        multiple = config.backbone_config.patch_size * config.backbone_config.num_windows
        positions = (side // config.backbone_config.patch_size) ** 2
    else:
        multiple, positions = LEVELS[-1], sum((side // stride) ** 2 for stride in LEVELS)
    if side % multiple:
        raise ValueError(f"hf:{name}: size: wanted a multiple of {multiple}; got {side}")
    if positions < config.num_queries:
        raise ValueError(
            f"hf:{name}: an image of {side}×{side} has {positions} positions, fewer than its {config.num_queries} "
            "queries; wanted a larger size or fewer num_queries"
        )
