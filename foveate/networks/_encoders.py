"""Encoders by name: what gives a decoder its four maps, at 1/4, 1/8, 1/16 and 1/32 of the image.

An encoder is a module with `widths`, the channels of its maps, that takes an image (N, C, H, W) and gives a list of
four maps, shallow to deep. Ours round the sides of each map up, so they take images of any size (`multiple` is 1); of
others the sides must be a `multiple` of 32.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from foveate.networks._head import build_without_memory
from foveate.networks._transformer import ChannelNorm, start
from foveate.registry import Registry, check_options

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])
ENCODERS: Registry[Callable[..., nn.Module]] = Registry("encoder", "foveate.networks")
STRIDES = (4, 8, 16, 32)
PROBE = 256  # side of the image that shows a foreign network's levels; poolings to 7×7 are no level of it


def register_encoder(name: str) -> Callable[[Builder], Builder]:
    """Decorator: make a constructor of an encoder available by name; it takes `in_channels` and keyword options."""

    def decorate(builder: Builder) -> Builder:
        ENCODERS.add(name, builder)
        return builder

    return decorate


def create_encoder(name: str, *, in_channels: int = 3, options: Mapping[str, Any] | None = None) -> nn.Module:
    """An encoder with fresh weights.

    Args:
        name: one of ours, "timm:NAME" or "torchvision:NAME" of any network whose maps have strides 4, 8, 16 and 32.
        in_channels: of the image; torchvision's networks take 3 only.
        options: of its constructor.

    Raises: LookupError: no such encoder. TypeError: no such option. ValueError: a network without these four maps.
    """
    options = dict(options or {})
    source, _, rest = name.rpartition(":")
    if source == "timm":
        return TimmEncoder(rest, in_channels, options)
    if source == "torchvision":
        return TorchvisionEncoder(rest, in_channels, options)
    if source not in ("", "foveate"):
        raise LookupError(f"encoder {name!r}: wanted NAME, timm:NAME or torchvision:NAME; got source {source!r}")
    builder = ENCODERS.get(rest)
    check_options(rest, builder, options)
    return builder(in_channels=in_channels, **options)


class EncoderClassifier(nn.Module):
    """An encoder, a layer norm of its deepest map with `norm`, the mean over the positions, a linear layer.

    Shape: (N, in_channels, H, W) → (N, num_classes).
    """

    def __init__(self, encoder: Any, num_classes: int, *, norm: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.norm = ChannelNorm(encoder.widths[-1]) if norm else None
        self.fc = nn.Linear(encoder.widths[-1], num_classes)
        start(self.fc)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x)[-1]
        return self.fc((x if self.norm is None else self.norm(x)).mean((2, 3)))


class TimmEncoder(nn.Module):
    """A network of timm, cut to its levels at strides 4, 8, 16 and 32."""

    multiple = 32

    def __init__(self, name: str, in_channels: int, options: Mapping[str, Any]) -> None:
        import timm

        from foveate.networks._build import build_network

        super().__init__()
        # an unknown name or option is named by this
        build_without_memory(lambda: build_network(f"timm:{name}", num_classes=2, in_channels=in_channels, **options))
        try:
            levels: Any = build_without_memory(
                lambda: timm.create_model(name, features_only=True, in_chans=in_channels, **options)
            )
            reductions = list(levels.feature_info.reduction())
            chosen = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES]
        except (ValueError, RuntimeError, AttributeError, TypeError) as error:
            raise ValueError(f"timm:{name} gives no maps at strides 4, 8, 16 and 32 ({error})") from None
        if "swin" in name:
            options = {"strict_img_size": False} | dict(options)
        network: Any = timm.create_model(name, features_only=True, out_indices=chosen, in_chans=in_channels, **options)
        self.network: nn.Module = network
        self.widths = tuple(network.feature_info.channels())

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.network(x)
        return [m.movedim(-1, 1) if m.shape[1] != c else m for m, c in zip(maps, self.widths, strict=True)]


class TorchvisionEncoder(nn.Module):
    """A network of torchvision, traced and cut to the last map of each of the strides 4, 8, 16 and 32."""

    multiple = 32

    def __init__(self, name: str, in_channels: int, options: Mapping[str, Any]) -> None:
        from torchvision.models.feature_extraction import create_feature_extractor

        from foveate.networks._build import build_network

        super().__init__()
        network = build_network(f"torchvision:{name}", num_classes=2, in_channels=in_channels, **options)
        found = _levels(name, network)
        self.network = create_feature_extractor(network, {found[s][0]: str(s) for s in STRIDES})
        self.widths = tuple(found[stride][1] for stride in STRIDES)
        self.axes = tuple(found[stride][2] for stride in STRIDES)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.network(x).values()
        return [m.movedim(axis, 1) for m, axis in zip(maps, self.axes, strict=True)]


def _levels(name: str, network: nn.Module) -> dict[int, tuple[str, int, int]]:
    """Stride → the last of the outermost modules that give a map at this stride, its channels and their axis."""
    found: dict[int, tuple[str, int, int]] = {}

    def look(path: str) -> Callable[..., None]:
        def seen(module: nn.Module, inputs: Any, output: Any) -> None:
            for stride in STRIDES if isinstance(output, Tensor) and output.dim() == 4 else ():
                sides = (PROBE // stride,) * 2
                axis = 1 if tuple(output.shape[2:]) == sides else 3 if tuple(output.shape[1:3]) == sides else 0
                if axis and (stride not in found or path.count(".") <= found[stride][0].count(".")):
                    found[stride] = path, output.shape[axis], axis

        return seen

    empty = copy.deepcopy(network).to("meta").eval()
    for path, module in empty.named_modules():
        if path:
            module.register_forward_hook(look(path))
    try:
        empty(torch.empty(1, 3, PROBE, PROBE, device="meta"))
    except Exception as error:  # a network may raise anything at a size that it does not take
        raise ValueError(f"torchvision:{name} does not take an image of {PROBE}×{PROBE}: {error}") from error
    if missing := [stride for stride in STRIDES if stride not in found]:
        raise ValueError(f"torchvision:{name} gives no map at stride {missing[0]}; wanted 4, 8, 16 and 32")
    return found
