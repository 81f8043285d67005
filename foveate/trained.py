"""A network by name or from its own file, with trained weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from foveate import official, saving
from foveate.networks import (
    Weights,
    build_network,
    build_without_memory,
    find_release,
    head_of,
    is_release,
    load_weights,
    origin_of,
    read_release,
    read_weights,
    usual_classes,
    usual_shape,
)
from foveate.spec import PRETRAINED


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in evaluation mode.

    Attributes:
        model: the network.
        name: as `build_network` takes it.
        outputs: of its classifier.
        channels: of its images.
        source: whose weights they are, where that is known: as `foveate.official` calls them, or as the card of a saved
            network says.
        classes: names of its classes in the order of its outputs, where the card of a saved network has them.
        saved: was it saved by `foveate.save`? Such a network may have been trained on anything.
        note: what to know of the weights: where in their file the tensors stood, which release they are; or "".
        file: name of the file of weights; "" for a saved network.
    """

    model: nn.Module
    name: str
    outputs: int
    channels: int
    source: str | None = None
    classes: tuple[str, ...] = ()
    saved: bool = False
    note: str = ""
    file: str = ""


def load_trained(
    network: str,
    weights: str | Path | None,
    *,
    num_classes: int | None = None,
    options: Mapping[str, Any] | None = None,
    source: str | None = None,
    cls: str | None = None,
) -> TrainedNetwork:
    """The network with its weights.

    Args:
        network: "foveate:NAME", "timm:NAME", "torchvision:NAME", "path.py:function", or a file that
            `foveate.save` wrote.
        weights: a safetensors file or torch checkpoint, of this network or of an official one that has its name; or
            "pretrained", or a folder, for what timm or torchvision publish, as of `build_network`.
        num_classes: outputs of the classifier; None: as many as the weights have.
        options: of the network's constructor.
        source, cls: of official weights, as `foveate.official.load` takes them; options are then of that class.

    Raises: LookupError, ValueError, TypeError: in one line, if the network, its weights or its options do not fit.
    """
    options = dict(options or {})
    if Path(network).is_file():
        return _saved(Path(network), weights, options, source)
    if weights is None:
        raise ValueError(
            f"{network}: wanted --weights FILE or --pretrained; what a network with random weights gives says nothing"
        )
    if (source is None) != (cls is None):
        raise ValueError("--source and --cls go together: whose weights they are, and of which class there")
    channels = _channels(network, options)
    if source is not None and cls is not None:
        if is_release(weights):
            raise ValueError(f"{network}: --source and --cls take a file of weights; got {weights}")
        model, note = official.load_and_tell(source, cls, options, read_weights(weights))
        file = Path(weights).name
        found = TrainedNetwork(model, network, _outputs(model), channels, source, note=note, file=file)
        return _checked(found, num_classes, weights)
    return _by_name(network, weights, num_classes, options, channels)


def _saved(path: Path, weights: str | Path | None, options: dict[str, Any], source: str | None) -> TrainedNetwork:
    if weights is not None or options or source is not None:
        raise ValueError(f"{path}: is a network with its weights; it goes with no other weights, options or source")
    model = saving.load(path).eval()
    origin = origin_of(model)
    assert origin is not None
    about = saving.describe(path).about
    source = about.get("source", "").removeprefix("https://github.com/") or None
    classes = _classes(about.get("classes", "[]"), origin.num_classes)
    return TrainedNetwork(model, origin.name, origin.num_classes, origin.in_channels, source, classes, saved=True)


def _classes(text: str, outputs: int) -> tuple[str, ...]:
    """The names in a card's JSON list; () where it has none for every output."""
    try:
        names = json.loads(text)
    except ValueError:
        return ()
    return tuple(map(str, names)) if isinstance(names, list) and len(names) == outputs else ()


def _channels(network: str, options: dict[str, Any]) -> int:
    library, _, name = network.rpartition(":")
    if library not in ("", "foveate"):
        return 3
    shape = usual_shape(name)
    if len(shape) != 3:
        raise ValueError(f"{network}: takes signals of shape {shape}; images can be evaluated")
    return options.get("in_channels", shape[0])


def _by_name(
    network: str, weights: str | Path, num_classes: int | None, options: dict[str, Any], channels: int
) -> TrainedNetwork:
    rest = {"in_channels": channels} | options
    released = None
    if is_release(weights):
        released = find_release(network, None if str(weights) == PRETRAINED else weights)
        weights = released.path
    given = read_weights(weights) if released is None else read_release(released, **rest)
    outputs = num_classes or usual_classes(network)
    try:
        plain = build_without_memory(lambda: build_network(network, num_classes=outputs, **rest))
        state = given.of_network(plain.state_dict())
        if num_classes is None:
            outputs = _outputs_of_the_file(network, weights, outputs, state, rest)
        model = build_network(network, num_classes=outputs, **rest)
        fresh = load_weights(model, state, head=partial(head_of, network, num_classes=outputs, **rest))
    except ValueError as error:
        found = _recognised(network, given, options, Path(weights).name)
        if found is None:
            raise error
        return _checked(found, num_classes, weights)
    if fresh:
        there = f"has {len(state[fresh[0]])} classes; wanted {outputs}" if fresh[0] in state else "is not there"
        raise ValueError(f"weights {weights}: {fresh[0]} {there}")
    note = state.note if released is None else f"pretrained weights, {released}"
    return TrainedNetwork(model.eval(), network, outputs, channels, note=note, file=Path(weights).name)


def _outputs_of_the_file(network: str, weights: str | Path, usual: int, state: Weights, options: dict[str, Any]) -> int:
    try:
        return head_of(network, num_classes=usual, **options).outputs_of(state) or usual
    except ValueError as error:
        raise ValueError(f"weights {weights}: {error}") from None


def _recognised(network: str, state: Weights, options: dict[str, Any], file: str) -> TrainedNetwork | None:
    """The network from official weights whose class there is called as ours, if they fit one."""
    library, _, name = network.rpartition(":")
    if library not in ("", "foveate") or options:
        return None
    for source, cls in official.list_official():
        if cls.rpartition(".")[2] == name:
            try:
                model, note = official.load_and_tell(source, cls, {}, state)
            except (ValueError, TypeError):
                continue
            channels = usual_shape(name)[0]
            return TrainedNetwork(model, network, _outputs(model), channels, source, note=note, file=file)
    return None


def _outputs(model: nn.Module) -> int:
    """Of the classifier of a whole network."""
    origin = origin_of(model)
    if origin is None:
        raise ValueError(f"wanted a whole network; got a {type(model).__name__}, a part of one")
    return origin.num_classes


def _checked(trained: TrainedNetwork, num_classes: int | None, weights: str | Path) -> TrainedNetwork:
    if num_classes not in (None, trained.outputs):
        raise ValueError(f"weights {weights}: have {trained.outputs} classes; wanted {num_classes}")
    return trained
