"""Any network a person can name: ours, timm's, torchvision's, or a function in a file."""

import dataclasses
import importlib.util
import inspect
import sys
import traceback
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from foveate.insertion import insert, mark_fresh
from foveate.networks._origin import Origin, note_origin, origin_of
from foveate.networks._registry import check_options, create_network, nearest
from foveate.networks._weights import load_weights, weights_fingerprint
from foveate.networks._widen import grouped_widths, widened
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
    if not source:
        source = "foveate"
    if source not in SOURCES and not source.endswith(".py"):
        kinds = ", ".join(f"{known}:NAME" for known in SOURCES)
        raise LookupError(f"network {name!r}: wanted {kinds} or path.py:function; got source {source!r}")
    if source == "foveate":
        return create_network(rest, num_classes=num_classes, in_channels=in_channels, **options)
    if source == "timm":
        network = _from_timm(rest, num_classes, in_channels, options)
    elif source == "torchvision":
        network = _from_torchvision(rest, num_classes, in_channels, options)
    else:
        network = _from_file(Path(source), rest, num_classes, in_channels, options)
    return note_origin(network, Origin(name, num_classes, in_channels, options))


def build_wider(name: str, factor: float, *, num_classes: int, in_channels: int, **options: Any) -> nn.Module:
    """The network of `build_network`, every width of it multiplied by the factor. Raises: as `build_network`."""
    build = partial(build_network, name, num_classes=num_classes, in_channels=in_channels, **options)
    multiples = grouped_widths(build) if factor != 1 else None
    with widened(factor, in_channels=in_channels, num_classes=num_classes, multiples=multiples):
        return build()


def input_channels(name: str, of_the_data: int) -> int:
    """Channels that the network is built for: those of the data where it can choose, else 3."""
    source = name.rpartition(":")[0]
    return of_the_data if source in {"", "foveate", "timm"} else 3


def build_variant(run: Run, *, num_classes: int, example: Tensor) -> nn.Module:
    """The network of a run: the plain weights of its file or seed, widened if it is a control, the attention inserted.

    The same seed gives every variant the same plain weights: the attention's are drawn by themselves. torch's global
    generator is left as it was.

    Args:
        example: a batch (N, C, H, W) on the device to build on; "meta" builds without memory or arithmetic.

    Raises: as `build_network`, `load_weights` and `foveate.insert`.
    """
    in_channels = example.shape[1]
    with torch.random.fork_rng(devices=[]), example.device:
        torch.manual_seed(run.seed)
        model = build_wider(
            run.network, run.width, num_classes=num_classes, in_channels=in_channels, **run.network_options
        )
        origin = origin_of(model)
        assert origin is not None
        note_origin(model, dataclasses.replace(origin, width=run.width))
        if run.weights is not None:
            _start_from(run, model, num_classes)
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


def _start_from(run: Run, model: nn.Module, num_classes: int) -> None:
    assert run.weights is not None
    if run.width != 1:
        raise ValueError(f"weights {run.weights} are those of the plain network; they do not fit one widened")
    if run.weights_fingerprint not in (None, weights_fingerprint(run.weights)):
        raise ValueError(f"weights {run.weights} changed since the study was planned; run the study again")
    mark_fresh(model, load_weights(model, run.weights, num_classes=num_classes))


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
    builder = torchvision.models.get_model_builder(name)
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
    path = Path(name.rpartition(":")[0])
    if path.suffix != ".py":
        return None
    if not path.is_file():
        raise LookupError(f"{path}: no such file; wanted path.py:function")
    module_name = f"foveate_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # so that its classes can be pickled
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} cannot be read: {_raised(error, path)}") from error
    return module


def _raised(error: Exception, path: Path) -> str:
    """The error in one line, with the last line of the user's own file that it came through."""
    here = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.resolve()
    ]
    line = error.lineno if isinstance(error, SyntaxError) else here[-1] if here else None
    text = (error.msg if isinstance(error, SyntaxError) else str(error)).splitlines()
    return f"{type(error).__name__}{f' in line {line}' if line else ''}{f': {text[0]}' if text else ''}"


def _from_file(path: Path, function: str, num_classes: int, in_channels: int, options: dict[str, Any]) -> nn.Module:
    module = read_own_file(f"{path}:{function}")
    builder = getattr(module, function, None)
    if not callable(builder):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise LookupError(f"{path} has no function {function!r}; {nearest(function, own)}")
    takes = inspect.signature(builder).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    given = {"num_classes": num_classes, "in_channels": in_channels, "in_chans": in_channels}
    given = {key: value for key, value in given.items() if key in takes or (free and key == "num_classes")}
    check_options(f"{path}:{function}", builder, options)
    try:
        network = builder(**given, **options)
    except Exception as error:
        raise ValueError(f"{path}:{function} raised {_raised(error, path)}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{path}:{function} must return a torch.nn.Module; got {type(network).__name__}")
    return network
