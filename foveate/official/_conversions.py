"""How the classes of official code map to ours: constructor arguments there → our module and the names of its keys."""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from foveate.insertion import mark_fresh
from foveate.networks import Head, Weights, find_head, tensors_by_name

Build = Callable[..., tuple[nn.Module, dict[str, str]]]
Decode = Callable[[Mapping[str, Any]], dict[str, Tensor]]


@dataclass(frozen=True)
class Conversion:
    """One official class.

    `build` has the official constructor's arguments as its own, defaults included, and returns our module and
    {official key prefix: our key prefix}; keys under no prefix are called the same in both. A prefix may hold a `*`
    for one numbered part. `infer`, if any, reads from the state dict arguments that the constructor call did not give
    (classes of one name in several files). `decode`, if any, makes a state dict of weights that are kept otherwise
    (quantised, of another order of channels).
    """

    source: str
    cls: str
    build: Build
    infer: Callable[[Mapping[str, Tensor]], dict[str, Any]] | None = None
    decode: Decode | None = None


_CONVERSIONS: dict[tuple[str, str], Conversion] = {}


def official(
    source: str,
    *classes: str,
    infer: Callable[[Mapping[str, Tensor]], dict[str, Any]] | None = None,
    decode: Decode | None = None,
) -> Callable[[Build], Build]:
    """Decorator: this function builds these classes of that source (a GitHub owner/name)."""

    def decorate(build: Build) -> Build:
        for cls in classes:
            assert (source, cls) not in _CONVERSIONS, f"{source} {cls} has two conversions"
            _CONVERSIONS[source, cls] = Conversion(source, cls, build, infer, decode)
        return build

    return decorate


def list_official() -> list[tuple[str, str]]:
    """Every (source, class) whose checkpoints `load` takes."""
    package = importlib.import_module("foveate.official")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"foveate.official.{module.name}")
    return sorted(_CONVERSIONS)


def _find(source: str, cls: str) -> Conversion:
    known = list_official()
    if (source, cls) in _CONVERSIONS:
        return _CONVERSIONS[source, cls]
    sources = sorted({s for s, _ in known})
    if source not in sources:
        near = get_close_matches(source, sources, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise LookupError(f"no official source is called {source!r}{hint}; known: {', '.join(sources)}")
    classes = [c for s, c in known if s == source]
    if longest := max((c for c in classes if cls.endswith(f".{c}")), key=len, default=None):
        return _CONVERSIONS[source, longest]
    tail = [c for c in classes if c.split(".")[-1] == cls.split(".")[-1]]
    if len(tail) == 1:
        return _CONVERSIONS[source, tail[0]]
    near = get_close_matches(cls, classes, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    if len(classes) > 20:
        classes = [*classes[:20], f"and {len(classes) - 20} more (foveate.official.list_official)"]
    raise LookupError(f"{source} has no class {cls!r} known here{hint}; known: {', '.join(classes)}")


def load(
    source: str,
    cls: str,
    ctor: Mapping[str, Any] | None,
    state_dict: Mapping[str, Any],
    *,
    num_classes: int | None = None,
) -> nn.Module:
    """Our module with the weights of an official one, in their dtype, in evaluation mode.

    Args:
        source: GitHub owner/name of the official code.
        cls: the class (or graph) there.
        ctor: its constructor arguments there.
        state_dict: its state dict, alone or in the state of a training script (`networks.tensors_by_name`); its keys
            may all stand below "module.", "model.", "net.", "network." or "backbone.". Values are copied.
        num_classes: for a whole network: a classifier for this number of classes, with fresh weights if the checkpoint
            has none or one for another number, which `insert(..., freeze="base")` then leaves trainable; everything
            else is the checkpoint's.

    Raises: LookupError: unknown source or class, with the known ones. TypeError: a constructor argument that the
        official class does not have, or one that it needs and is not given. ValueError: a missing, surplus or
        misshapen key, by its official name, such as a checkpoint of another depth, width or number of classes has.
    """
    return load_and_tell(source, cls, ctor, state_dict, num_classes=num_classes)[0]


def load_and_tell(
    source: str,
    cls: str,
    ctor: Mapping[str, Any] | None,
    state_dict: Mapping[str, Any],
    *,
    num_classes: int | None = None,
) -> tuple[nn.Module, str]:
    """What `load` gives, and where among the state dict's tensors the network's stand, as `Weights.note` says."""
    conversion = _find(source, cls)
    if not state_dict:
        return _loaded(conversion, cls, ctor, Weights({}), num_classes), ""
    weights = state_dict if isinstance(state_dict, Weights) else tensors_by_name(state_dict, cls)
    reason: ValueError | None = None
    for reading in weights.readings():
        try:
            return _loaded(conversion, cls, ctor, reading, num_classes), reading.note
        except ValueError as error:
            reason = reason or error
    assert reason is not None
    raise reason


def _loaded(
    conversion: Conversion, cls: str, ctor: Mapping[str, Any] | None, weights: Weights, num_classes: int | None
) -> nn.Module:
    source, state = conversion.source, dict(weights)
    given = dict(ctor or {})
    known = inspect.signature(conversion.build).parameters
    classes = next((name for name in ("num_classes", "n_class") if name in known), None)
    if unknown := [name for name in given if name not in known]:
        raise TypeError(f"{cls} of {source} has no argument {unknown[0]!r}; it has {', '.join(known)}")
    if num_classes is not None:
        if classes is None:
            raise TypeError(f"{cls} of {source} has no classifier, so num_classes= says nothing of it")
        given[classes] = num_classes
    if missing := [p.name for p in known.values() if p.default is p.empty and p.name not in given]:
        raise TypeError(f"{cls} of {source} needs the argument {missing[0]!r}; given: {', '.join(given) or 'none'}")
    if conversion.decode is not None:
        state = conversion.decode(state)
    if conversion.infer is not None:
        given = {**conversion.infer(state), **given}
    module, prefixes = conversion.build(**given)
    ours, exact = module.state_dict(), _exact(module)
    head = functools.cache(lambda: _head(conversion, given, classes, module))
    back: dict[str, Tensor] = {}
    fresh: list[str] = []
    names = translated(state, prefixes)
    for key, value in state.items():
        name = names[key]
        if name not in ours:
            if key.endswith("num_batches_tracked"):
                continue
            raise ValueError(f"{cls}: surplus key {key!r} {tuple(value.shape)}: the class has no such tensor")
        if not fits(value, ours[name], exact=name in exact):
            wanted, got = tuple(ours[name].shape), tuple(value.shape)
            of_classes = head().allows(name, wanted, got)
            if of_classes and num_classes is not None:
                back[name] = ours[name]
                fresh.append(name)
                continue
            hint = ""
            if of_classes:
                hint = f" ({classes}={got[0]} there; or load with num_classes={wanted[0]} for fresh ones)"
            raise ValueError(f"{cls}: misshapen key {key!r}: wanted {wanted}, got {got}{hint}")
        back[name] = value.detach().clone().reshape(ours[name].shape)
    official_name = {name: key for key, name in names.items()}
    for name, value in ours.items():
        if name not in back:
            if name.endswith("num_batches_tracked"):
                back[name] = value
                continue
            if num_classes is not None and name in head().tensors:
                back[name] = value
                fresh.append(name)
                continue
            theirs = official_name.get(name, to_official(name, prefixes))
            raise ValueError(f"{cls}: missing key {theirs!r} {tuple(value.shape)}")
    floating = [value.dtype for value in back.values() if value.is_floating_point()]
    if floating:
        module = module.to(floating[0])
    module.load_state_dict(back, strict=True)
    return mark_fresh(module.eval(), fresh)


def _head(conversion: Conversion, given: Mapping[str, Any], classes: str | None, module: nn.Module) -> Head:
    """The classifier of the class's network; none where it takes no number of classes."""
    if classes is None:
        return Head({}, {})
    usual = inspect.signature(conversion.build).parameters[classes].default
    return find_head(lambda n: conversion.build(**{**given, classes: n})[0], given.get(classes, usual), built=module)


def _exact(module: nn.Module) -> set[str]:
    """The names of our tensors whose official twins have the very same shape: batch norms and biases."""
    names = set()
    for path, part in module.named_modules():
        norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
        if norm or isinstance(part, nn.Linear | nn.modules.conv._ConvNd):
            own = part.state_dict().keys() if norm else {"bias"}
            names |= {f"{path}.{name}".removeprefix(".") for name in own}
    return names


def fits(value: Tensor, ours: Tensor, *, exact: bool = False) -> bool:
    """Are the shapes the same, with exact=False but for axes of one? A 1×1 convolution may be a linear layer here."""
    if exact or value.dim() == ours.dim():
        return value.shape == ours.shape
    return [size for size in value.shape if size != 1] == [size for size in ours.shape if size != 1]


def _swap(key: str, pairs: list[tuple[str, str]]) -> str:
    """The key with its longest matching prefix exchanged; `*` in a prefix stands for one part, kept in the result."""
    parts = key.split(".")
    for old, new in sorted(pairs, key=lambda pair: -len(pair[0].split("."))):
        pattern = old.split(".")
        if len(pattern) > len(parts) or any(p not in {"*", q} for p, q in zip(pattern, parts, strict=False)):
            continue
        stars = iter(q for p, q in zip(pattern, parts, strict=False) if p == "*")
        head = [next(stars) if p == "*" else p for p in new.split(".")] if new else []
        return ".".join([*head, *parts[len(pattern) :]])
    return key


def translated(keys: Iterable[str], prefixes: Mapping[str, str]) -> dict[str, str]:
    """Our names by the official ones: as `to_ours`, for many keys at once."""
    by_first: dict[str, list[tuple[str, str]]] = {}
    for old, new in prefixes.items():
        by_first.setdefault(old.split(".")[0], []).append((old, new))
    free = by_first.pop("*", [])
    return {key: _swap(key, [*by_first.get(key.split(".")[0], []), *free]) for key in keys}


def to_ours(key: str, prefixes: dict[str, str]) -> str:
    """Our name of an official key."""
    return _swap(key, list(prefixes.items()))


def to_official(key: str, prefixes: dict[str, str]) -> str:
    """The official name of one of our keys."""
    return _swap(key, [(new, old) for old, new in prefixes.items()])
