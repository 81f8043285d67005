"""Detectors of torchvision, with their own backbone or any other, at any image size.

A detector takes a list of images (3, H, W) in 0 to 1, of any sizes, and in training a list of targets as torchvision
has them; it gives a dictionary of losses in training, else for each image its "boxes", "labels" and "scores". Its
classes are numbered from 1, 0 is the background, and its `num_classes` counts both.
"""

import inspect
import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from foveate.networks._encoders import STRIDES, create_encoder
from foveate.registry import nearest

PYRAMID = (256, (8, 16, 32))  # channels and strides of a pyramid, where nothing else is said
GROUPS = 32  # of the norms in FCOS's heads
INSIDE = ("encoder", "body", "network", "backbone", "model", "_backbone")  # what a backbone has its stages in
STAGES = ("layer", "layers_", "stage", "stages", "stages_", "blocks_")  # names of stages, before their numbers
EXTRA = (512, 256, 256, 128)  # channels of the layers that an SSD adds below an encoder
EXACT = {"fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn", "retinanet_resnet50_fpn"}
"""Detectors whose frozen norms were released without an epsilon."""


def is_detector(network: nn.Module) -> bool:
    """Whether a network takes targets beside its input, as a detector does."""
    return "targets" in inspect.signature(network.forward).parameters


def build_detector(
    name: str,
    num_classes: int,
    *,
    size: int | None = None,
    backbone: str | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    channels: int | None = None,
    strides: Sequence[int] | None = None,
    anchor_sizes: Sequence[float] | None = None,
    top_down: int | None = None,
    frozen_norms: bool = False,
    frozen_stages: int = 0,
    **options: Any,
) -> nn.Module:
    """A detector of torchvision with fresh weights.

    Args:
        name: of torchvision: "fasterrcnn_resnet50_fpn", "ssdlite320_mobilenet_v3_large", …
        num_classes: with the background.
        size: images are resized to fit size × size pixels, of an SSD to exactly that; None: as published.
        backbone: another one in place of that in the name: "timm:resnet18", "torchvision:resnet18", "mit_b0", …, any
            encoder with maps at strides 4, 8, 16 and 32.
        backbone_options: of its constructor.
        channels: of the pyramid over it; None: 256.
        strides: of the backbone's maps that the pyramid takes; None: 8, 16 and 32, and 4 for the two-stage detectors.
        anchor_sizes: sides of the anchors, in pixels, one for each level; None: as published.
        top_down: of an SSD: channels of a top-down pyramid over its maps, which heads then take; None: none.
        frozen_norms: batch norms of the backbone keep their statistics and weights.
        frozen_stages: the stem and this many stages of the backbone are not trained.
        options: of torchvision's own constructor.

    Raises: TypeError: no such option. ValueError: options that do not go together, or that torchvision refuses.
    """
    check_options(name, options, ssd="ssd" in name, other=backbone is not None)
    own = {"backbone_options": backbone_options, "channels": channels, "strides": strides}
    if backbone is None and (alone := [key for key, value in own.items() if value is not None]):
        raise ValueError(f"torchvision:{name}: {alone[0]} goes with backbone = a name")
    if top_down is not None and "ssd" not in name:
        raise ValueError(f"torchvision:{name}: top_down is of SSD's maps; a pyramid is there already")
    if anchor_sizes is not None and ("ssd" in name or "fcos" in name):
        raise ValueError(f"torchvision:{name}: its anchors follow the image size or the strides; anchor_sizes do not")
    if backbone is None:
        network: Any = _published(name, num_classes, size, anchor_sizes, options)
    else:
        body = create_encoder(backbone, options=backbone_options)
        build = _ssd if "ssd" in name else _pyramid_detector
        sized = {"size": size, "anchor_sizes": anchor_sizes, "channels": channels, "strides": strides}
        network = build(name, num_classes, body, sized, options)
    if top_down is not None:
        _add_top_down(network, num_classes, top_down)
    return freeze_backbone(
        network, network.backbone, norms=frozen_norms, stages=frozen_stages, eps=0.0 if name in EXACT else None
    )


def check_options(name: str, options: Mapping[str, Any], *, ssd: bool, other: bool) -> None:
    """Raises: TypeError: an option that neither torchvision's builder nor its class has; they take any in silence."""
    from torchvision.models import detection, get_model_builder

    takes = [] if other else [get_model_builder(name)]
    takes += [class_of(name), detection.transform.GeneralizedRCNNTransform]
    given = {
        "self",
        "weights",
        "weights_backbone",
        "progress",
        "kwargs",
        "num_classes",
        "backbone",
        "size",
        "fixed_size",
    }
    known = [key for one in takes for key in inspect.signature(one).parameters if key not in given]
    ours = [
        key for key in inspect.signature(build_detector).parameters if key not in ("name", "num_classes", "options")
    ]
    if unknown := [key for key in options if key not in known]:
        names = list(dict.fromkeys([*ours, *known]))
        raise TypeError(f"torchvision:{name} has no option {unknown[0]!r}; {nearest(unknown[0], names)}")


def class_of(name: str) -> Callable[..., nn.Module]:
    """torchvision's class of the detector by this name."""
    from torchvision.models import detection

    classes = {
        "fasterrcnn": detection.FasterRCNN,
        "maskrcnn": detection.MaskRCNN,
        "keypointrcnn": detection.KeypointRCNN,
        "retinanet": detection.RetinaNet,
        "fcos": detection.FCOS,
        "ssd300": detection.ssd.SSD,
        "ssdlite320": detection.ssd.SSD,
    }
    return classes[name.partition("_")[0]]


def _published(
    name: str, num_classes: int, size: int | None, anchor_sizes: Sequence[float] | None, options: dict[str, Any]
) -> nn.Module:
    """The detector as torchvision builds it, resized."""
    import torchvision

    if size is not None and "ssd" not in name:
        options = {"min_size": size, "max_size": size} | options
    if anchor_sizes is not None:
        options |= _anchors(name, anchor_sizes)
    network = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=num_classes, **options
    )
    if size is not None and "ssd" in name:
        network.transform.min_size, network.transform.max_size = (size,), size
        network.transform.fixed_size = (size, size)
        _check_side(name, network.backbone, size)
    return network


def _check_side(name: str, backbone: nn.Module, side: int) -> None:
    """Raises: ValueError: the layers of an SSD do not fit into an image of this side."""
    from torchvision.models.detection import _utils

    try:
        _utils.retrieve_out_channels(backbone, (side, side))
    except RuntimeError as error:
        raise ValueError(
            f"torchvision:{name}: size: an image of {side}×{side} is too small for its layers ({error})"
        ) from None


class Pyramid(nn.Module):
    """A feature pyramid over some maps of an encoder (T.-Y. Lin et al., 2017, arXiv:1612.03144).

    Args:
        encoder: gives four maps at strides 4, 8, 16 and 32.
        strides: of those that are taken.
        channels: of every map that it gives.
        extra: torchvision's block that makes coarser maps of them.

    Shape: (N, 3, H, W) → {"0": (N, channels, H / strides[0], W / strides[0]), …}.
    """

    def __init__(self, encoder: Any, strides: Sequence[int], channels: int, extra: nn.Module) -> None:
        from torchvision.ops import FeaturePyramidNetwork

        super().__init__()
        self.encoder = encoder
        self.taken = [STRIDES.index(stride) for stride in strides]
        widths = [encoder.widths[number] for number in self.taken]
        self.fpn = FeaturePyramidNetwork(widths, channels, extra_blocks=extra)
        self.out_channels = channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.encoder(x)
        found = OrderedDict((str(i), maps[number]) for i, number in enumerate(self.taken))
        pyramid: dict[str, Tensor] = self.fpn(found)
        return pyramid


def _pyramid_detector(
    name: str, num_classes: int, encoder: nn.Module, sized: Mapping[str, Any], options: dict[str, Any]
) -> nn.Module:
    """Faster or Mask R-CNN, RetinaNet or FCOS on any encoder."""
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

    channels, strides = sized["channels"] or PYRAMID[0], sized["strides"]
    two_stage = "rcnn" in name
    strides = tuple(strides or (STRIDES if two_stage else PYRAMID[1]))
    if not set(strides) <= set(STRIDES) or list(strides) != sorted(set(strides)):
        raise ValueError(f"torchvision:{name}: strides: wanted some of 4, 8, 16 and 32, rising; got {list(strides)}")
    if "fcos" in name and channels % GROUPS:
        raise ValueError(
            f"torchvision:{name}: channels: wanted a multiple of {GROUPS}, the groups of its norms; got {channels}"
        )
    extra = LastLevelMaxPool() if two_stage else LastLevelP6P7(channels, channels)
    levels = [*strides, *(strides[-1] * 2**n for n in range(1, 2 if two_stage else 3))]
    body = Pyramid(encoder, strides, channels, extra)
    if two_stage:
        names = [str(i) for i in range(len(strides))]
        options = {"box_roi_pool": MultiScaleRoIAlign(names, 7, 2)} | options
        if "maskrcnn" in name:
            options = {"mask_roi_pool": MultiScaleRoIAlign(names, 14, 2)} | options
    if "fcos" in name:
        sizes = tuple((level,) for level in levels)
        options = {"anchor_generator": AnchorGenerator(sizes, ((1.0,),) * len(levels))} | options
    else:
        factor = 8 if two_stage else 4
        options = _anchors(name, sized["anchor_sizes"] or [factor * level for level in levels]) | options
    if sized["size"] is not None:
        options = {"min_size": sized["size"], "max_size": sized["size"]} | options
    return class_of(name)(body, num_classes, **options)


def _anchors(name: str, sides: Sequence[float]) -> dict[str, Any]:
    """torchvision's option for anchors of these sides, one for each level."""
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    if "rcnn" in name:
        sizes = tuple((side,) for side in sides)
        return {"rpn_anchor_generator": AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))}
    octave = tuple((side, int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3))) for side in sides)
    return {"anchor_generator": AnchorGenerator(octave, ((0.5, 1.0, 2.0),) * len(octave))}


class Levels(nn.Module):
    """An encoder's maps at strides 16 and 32, and those of four blocks below it, each half as large, as an SSD has.

    Shape: (N, 3, H, W) → {"0": (N, C, H / 16, W / 16), …, "5": (N, 128, H / 512, W / 512)}, sides rounded up.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        widths = [*encoder.widths[2:], *EXTRA]
        self.extra = nn.ModuleList(_halving(a, b) for a, b in itertools.pairwise(widths[1:]))
        self.out_channels = widths

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.encoder(x)[2:]
        for block in self.extra:
            maps.append(block(maps[-1]))
        return OrderedDict((str(i), one) for i, one in enumerate(maps))


def _halving(channels: int, width: int) -> nn.Sequential:
    """1×1 to half the width, 3×3 with stride 2 to the width, each with batch norm and ReLU."""
    from torchvision.ops import Conv2dNormActivation

    return nn.Sequential(
        Conv2dNormActivation(channels, width // 2, 1), Conv2dNormActivation(width // 2, width, 3, stride=2)
    )


def _ssd(
    name: str, num_classes: int, encoder: nn.Module, sized: Mapping[str, Any], options: dict[str, Any]
) -> nn.Module:
    """SSD on any encoder."""
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

    if given := [key for key in ("channels", "strides") if sized[key] is not None]:
        raise ValueError(f"torchvision:{name}: {given[0]} is of detectors with a pyramid")
    side = sized["size"] or int(name.partition("_")[0].removeprefix("ssdlite").removeprefix("ssd"))
    multiple = getattr(encoder, "multiple", 1)
    if side % multiple:
        raise ValueError(f"torchvision:{name}: size: wanted a multiple of {multiple} for this backbone; got {side}")
    boxes = DefaultBoxGenerator([[2, 3]] * (2 + len(EXTRA)), min_ratio=0.2, max_ratio=0.95)
    return class_of(name)(Levels(encoder), boxes, (side, side), num_classes, **options)


class TopDown(nn.Module):
    """A top-down pyramid over an SSD's maps: each is added to what the coarser ones give, resized.

    Shape: (N, 3, H, W) → as many maps as the backbone gives, of `channels` channels.
    """

    def __init__(self, backbone: nn.Module, widths: list[int], channels: int) -> None:
        from torchvision.ops import FeaturePyramidNetwork

        super().__init__()
        self.backbone, self.fpn = backbone, FeaturePyramidNetwork(widths, channels)
        self.out_channels = [channels] * len(widths)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        pyramid: dict[str, Tensor] = self.fpn(self.backbone(x))
        return pyramid


def _add_top_down(network: Any, num_classes: int, channels: int) -> None:
    """Put a `TopDown` behind the backbone of an SSD, under heads for its channels."""
    from torchvision.models.detection import _utils
    from torchvision.models.detection.ssd import SSDHead

    if channels < 1:
        raise ValueError(f"top_down: wanted channels, at least 1; got {channels}")
    widths = _utils.retrieve_out_channels(network.backbone, network.transform.fixed_size)
    network.backbone = TopDown(network.backbone, widths, channels)
    anchors = network.anchor_generator.num_anchors_per_location()
    network.head = SSDHead(network.backbone.out_channels, anchors, num_classes)


def freeze_backbone(
    network: nn.Module, backbone: nn.Module, *, norms: bool, stages: int, eps: float | None = None
) -> nn.Module:
    """Freeze batch norms of a detector's backbone, or its stem and first stages, in place; returns the network.

    Args:
        norms: replace each batch norm by torchvision's FrozenBatchNorm2d, whose tensors have the same names.
        stages: how many stages of the backbone are not trained, with what is before them; 0: all are trained.
        eps: of the frozen norms; None: as they have it.

    Raises: ValueError: the backbone has fewer stages.
    """
    if norms:
        _freeze_norms(backbone, eps)
    if stages:
        parts = stages_of(backbone)
        if not 0 <= stages <= len(parts) - 1:
            raise ValueError(f"frozen_stages: wanted 0 to {len(parts) - 1} for this backbone; got {stages}")
        for parameter in (p for part in parts[: stages + 1] for module in part for p in module.parameters()):
            parameter.requires_grad_(False)
    return network


def _freeze_norms(module: nn.Module, eps: float | None) -> None:
    from torchvision.ops import FrozenBatchNorm2d

    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, child.eps if eps is None else eps))
        else:
            _freeze_norms(child, eps)


def stages_of(backbone: nn.Module) -> list[list[nn.Module]]:
    """The modules of a backbone's stem, and those of each of its stages.

    Raises: ValueError: it is not known where they begin.
    """
    inner, before = backbone, list[nn.Module]()
    while within := next((name for name, _ in inner.named_children() if name in INSIDE), ""):
        names = [name for name, _ in inner.named_children()]
        before += [inner.get_submodule(name) for name in names[: names.index(within)]]
        inner = inner.get_submodule(within)
    children = [
        (name, part)
        for name, child in inner.named_children()
        for part in (child if name == "stages" and isinstance(child, nn.ModuleList) else [child])
    ]
    begins = [number for number, (name, _) in enumerate(children) if name.rstrip("0123456789") in STAGES]
    if not begins:
        raise ValueError(f"frozen_stages: the stages of this {type(inner).__name__} are not modules of its own")
    stem = before + [part for _, part in children[: begins[0]]]
    return [stem, *([children[number][1]] for number in begins)]
