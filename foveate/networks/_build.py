"""Any network a person can name: ours, timm's, torchvision's, smp's, transformers', or a function in a file."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from foveate.networks._deepen import append_block
from foveate.networks._detectors import build_detector
from foveate.networks._head import Head, find_head
from foveate.networks._origin import Origin, note_origin, origin_of
from foveate.networks._peers import from_hf, from_smp
from foveate.networks._pretrained import check_tag, read_start
from foveate.networks._registry import create_network
from foveate.networks._weights import load_weights
from foveate.networks._widen import fixed_widths, widened, widened_layers
from foveate.registry import check_options, error_in, is_file_reference, nearest, read_from_file, run_file

SOURCES = ("foveate", "timm", "torchvision", "smp", "hf")
_WEIGHTS_OF = {"timm": ("pretrained", "checkpoint_path"), "torchvision": ("pretrained", "weights")}
_CHANNELS = {"in_channels", "in_chans"}  # what a function of one's own may call the channels of the image


def build_network(
    name: str, *, num_classes: int, in_channels: int = 3, weights: str | Path | None = None, **options: Any
) -> nn.Module:
    """A network by name, with fresh weights or trained ones.

    Args:
        name: "foveate:resnet8", "timm:resnet50", "torchvision:resnet18", "smp:Unet" of segmentation_models_pytorch,
            "hf:mask2former" of transformers, or "path/to/file.py:function"; a bare name is one of ours. A tag in a name
            of timm's ("timm:resnet18.a1_in1k") loads nothing by itself.
        num_classes: outputs of the classifier.
        in_channels: of the image. torchvision's networks take 3 only; a function of a file gets them if it takes
            in_channels or in_chans.
        weights: "pretrained": those that timm or torchvision publish for the name, from their own caches; a folder that
            has them; or a file, safetensors or a torch checkpoint. A classifier for another number of classes stays
            fresh, and `insert(..., freeze="base")` leaves it trainable. None: fresh weights.
        options: of the constructor there.

    Raises: LookupError: no such network, or no published weights; the nearest is named. TypeError: no such option.
        ValueError: cannot be built; the weights are not on this machine (says which file to fetch) or do not fit.
    """
    network = _built(name, num_classes, in_channels, options)
    if weights is not None:
        given = read_start(weights, name, in_channels=in_channels, **options)
        head = partial(head_of, name, num_classes=num_classes, in_channels=in_channels, **options)
        load_weights(network, given, head=head)
    return network


def _built(name: str, num_classes: int, in_channels: int, options: dict[str, Any]) -> nn.Module:
    source, _, rest = name.rpartition(":")
    if not source:
        source = "foveate"
    if source not in SOURCES and not source.endswith(".py"):
        kinds = ", ".join(f"{known}:NAME" for known in SOURCES)
        raise LookupError(f"network {name!r}: wanted {kinds} or path.py:function; got source {source!r}")
    if source == "foveate":
        return create_network(rest, num_classes=num_classes, in_channels=in_channels, **options)
    if source in _WEIGHTS_OF and (key := next((key for key in _WEIGHTS_OF[source] if key in options), None)):
        raise TypeError(f'{name}: {key!r} is no option here; weights = "pretrained", a folder or a file loads weights')
    if source == "timm":
        network = _from_timm(rest, num_classes, in_channels, options)
    elif source == "torchvision":
        network = _from_torchvision(rest, num_classes, in_channels, options)
    elif source == "smp":
        network = from_smp(rest, num_classes, in_channels, options)
    elif source == "hf":
        network = from_hf(rest, num_classes, in_channels, options)
    else:
        network = _from_file(name, num_classes, in_channels, options)
    return note_origin(network, Origin(name, num_classes, in_channels, options))


def head_of(name: str, *, num_classes: int, in_channels: int = 3, **options: Any) -> Head:
    """Which tensors of the network of `build_network` are its classifier. Raises: as `build_network`, `find_head`."""
    return find_head(_by_classes(name, in_channels, options), num_classes)


def build_wider(name: str, factor: float, *, num_classes: int, in_channels: int, **options: Any) -> nn.Module:
    """The network of `build_network`, every width of it multiplied by the factor; those that follow the number of
    classes stay. Raises: as `build_network`, `find_head`."""
    build = _by_classes(name, in_channels, options)
    if factor == 1:
        return build(num_classes)
    with widened(factor, in_channels=in_channels, fixed=fixed_widths(build, num_classes)):
        return build(num_classes)


def build_larger(origin: Origin) -> nn.Module:
    """The network as its origin says: that of `build_network`, wider, with wider layers or with one block more.

    Raises: as `build_wider`. ValueError: no block can be put there.
    """
    options: dict[str, Any] = {"num_classes": origin.num_classes, "in_channels": origin.in_channels, **origin.options}

    def build() -> nn.Module:
        if not origin.layers:
            return build_wider(origin.name, origin.width, **options)
        with widened_layers({number: (taken, given) for number, taken, given in origin.layers}):
            return build_network(origin.name, **options)

    network = build()
    if origin.block:
        append_block(network, origin.block, build())
    noted = origin_of(network)
    assert noted is not None
    return note_origin(
        network, dataclasses.replace(noted, width=origin.width, layers=origin.layers, block=origin.block)
    )


def _by_classes(name: str, in_channels: int, options: dict[str, Any]) -> Callable[[int], nn.Module]:
    return lambda num_classes: _built(name, num_classes, in_channels, options)


def input_channels(name: str, of_the_data: int) -> int:
    """Channels that the network is built for: those of the data where it can choose, else 3.

    Raises: LookupError, ValueError: as `build_network`, of a function of a file.
    """
    if is_file_reference(name):
        takes = inspect.signature(read_from_file(name, "a function")).parameters
        return of_the_data if _CHANNELS & takes.keys() else 3
    return of_the_data if name.rpartition(":")[0] in {"", "foveate", "timm", "smp"} else 3


def _from_timm(name: str, num_classes: int, in_channels: int, options: dict[str, Any]) -> nn.Module:
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise LookupError(f"timm has no model {name!r}; {nearest(name, timm.list_models())}")
    check_tag(name)
    try:
        return timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=in_channels, **options)
    except TypeError as error:
        raise TypeError(f"timm:{name}: {error}") from None


def _from_torchvision(name: str, num_classes: int, in_channels: int, options: dict[str, Any]) -> nn.Module:
    import torchvision

    known = torchvision.models.list_models()
    if name not in known:
        raise LookupError(f"torchvision has no model {name!r}; {nearest(name, known)}")
    if in_channels != 3:
        raise ValueError(f"torchvision:{name} takes images of 3 channels; got in_channels={in_channels}")
    builder = torchvision.models.get_model_builder(name)
    if inspect.unwrap(builder).__module__.startswith("torchvision.models.detection."):
        return build_detector(name, num_classes, **options)
    if "weights_backbone" in inspect.signature(builder).parameters:
        options = {"weights_backbone": None} | options  # torchvision's own default is to download some
    try:
        return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    except TypeError as error:
        raise TypeError(f"torchvision:{name}: {error}") from None


def read_own_file(name: str) -> ModuleType | None:
    """Run the file of a "path.py:function", so that the mechanisms it registers are known; None for another network.

    Raises: LookupError: no such file. ValueError: it raises an error, which is named with its line.
    """
    return run_file(name.rpartition(":")[0]) if is_file_reference(name) else None


def _from_file(name: str, num_classes: int, in_channels: int, options: dict[str, Any]) -> nn.Module:
    builder = read_from_file(name, "a function")
    takes = inspect.signature(builder).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    given = {"num_classes": num_classes} | dict.fromkeys(_CHANNELS, in_channels)
    given = {key: value for key, value in given.items() if key in takes or (free and key == "num_classes")}
    check_options(name, builder, options)
    try:
        network = builder(**given, **options)
    except Exception as error:
        raise ValueError(f"{name} raised {error_in(error, Path(name.rpartition(':')[0]))}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} must return a torch.nn.Module; got {type(network).__name__}")
    return network
