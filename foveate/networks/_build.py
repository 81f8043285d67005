"""Any network a person can name: ours, timm's, torchvision's, or a function in a file."""

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveate.insertion import insert
from foveate.networks._registry import check_options, create_network, nearest
from foveate.networks._widen import widened
from foveate.spec import PLAIN, Run

SOURCES = ("foveate", "timm", "torchvision")


def build_network(name: str, *, num_classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """A network with fresh weights.

    Args:
        name: "foveate:resnet8", "timm:resnet50", "torchvision:resnet18", or "path/to/file.py:function"; a bare name is
            one of ours.
        num_classes: outputs of the classifier.
        in_channels: of the image. torchvision's networks take 3 only.
        options: of the constructor there.

    Raises: LookupError: no such network; the nearest is named. TypeError: no such option. ValueError: cannot be built.
    """
    source, _, rest = name.rpartition(":")
    if source.endswith(".py"):
        return _from_file(Path(source), rest, num_classes, in_channels, options)
    if not source:
        source = "foveate"
    if source not in SOURCES:
        kinds = ", ".join(f"{known}:NAME" for known in SOURCES)
        raise LookupError(f"network {name!r}: wanted {kinds} or path.py:function; got source {source!r}")
    if source == "foveate":
        return create_network(rest, num_classes=num_classes, in_channels=in_channels, **options)
    if source == "timm":
        return _from_timm(rest, num_classes, in_channels, options)
    return _from_torchvision(rest, num_classes, in_channels, options)


def input_channels(name: str, of_the_data: int) -> int:
    """Channels that the network is built for: those of the data where it can choose, else 3."""
    source = name.rpartition(":")[0]
    return of_the_data if source in {"", "foveate", "timm"} else 3


def build_variant(run: Run, *, num_classes: int, example: Tensor) -> nn.Module:
    """The network of a run: the plain weights of its seed, widened if it is a control, the attention inserted.

    The same seed gives every variant the same plain weights: the attention's are drawn by themselves. torch's global
    generator is left as it was.

    Args:
        example: a batch (N, C, H, W) on the device to build on; "meta" builds without memory or arithmetic.

    Raises: as `build_network` and `foveate.insert`.
    """
    in_channels = example.shape[1]
    with torch.random.fork_rng(devices=[]), example.device:
        torch.manual_seed(run.seed)
        with widened(run.width, in_channels=in_channels, num_classes=num_classes):
            model = build_network(run.network, num_classes=num_classes, in_channels=in_channels, **run.network_options)
        variant = run.variant
        if variant.attention != PLAIN:
            place: Any = variant.at
            insert(
                model,
                variant.attention,
                at=place,
                example=example,
                init=variant.init,
                seed=run.seed,
                **variant.options,
            )
    return model


def _from_timm(name: str, num_classes: int, in_channels: int, options: dict[str, Any]) -> nn.Module:
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise LookupError(f"timm has no model {name!r}; {nearest(name, timm.list_models())}")
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
    try:
        return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    except TypeError as error:
        raise TypeError(f"torchvision:{name}: {error}") from None


def _from_file(path: Path, function: str, num_classes: int, in_channels: int, options: dict[str, Any]) -> nn.Module:
    if not path.is_file():
        raise LookupError(f"{path}: no such file; wanted path.py:function")
    module_name = f"foveate_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # so that its classes can be pickled
    spec.loader.exec_module(module)
    builder = getattr(module, function, None)
    if not callable(builder):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise LookupError(f"{path} has no function {function!r}; {nearest(function, own)}")
    takes = inspect.signature(builder).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    given = {"num_classes": num_classes, "in_channels": in_channels, "in_chans": in_channels}
    given = {key: value for key, value in given.items() if key in takes or (free and key == "num_classes")}
    check_options(f"{path}:{function}", builder, options)
    network = builder(**given, **options)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{path}:{function} must return a torch.nn.Module; got {type(network).__name__}")
    return network
