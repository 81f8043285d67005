"""A whole network that starts from the weights of its encoder alone, by our names or by those of released code."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from foveate.insertion import mark_fresh
from foveate.networks import Weights, read_weights
from foveate.networks._checkpoint import COUNTER
from foveate.official._conversions import Decode, fits, translated

State = Mapping[str, Tensor]
_PREFIXES = ("", "encoder.", "backbone.", "encoder.network.", "features.")  # of its tensors, in files of whole networks
_PLACES = (  # of the encoder in a whole network: ours, and detectors of torchvision and of transformers
    *("encoder", "backbone.encoder", "backbone.body", "backbone.backbone.encoder"),
    *("network.model.backbone.model._backbone", "network.model.backbone.model", "network.model.backbone.backbone"),
)
_NAMED = 4  # names that a message lists


@dataclass(frozen=True)
class StartedEncoder:
    """What was taken of a file: number of tensors, whose names they had; names of what was not; of what stays fresh."""

    taken: int
    whose: str
    left: tuple[str, ...]
    fresh: tuple[str, ...]

    def __str__(self) -> str:
        left = f"not taken: {_listed(self.left)}" if self.left else "nothing of the file is left"
        return f"the encoder takes {self.taken} tensors ({self.whose}); {left}; {len(self.fresh)} others stay fresh"


def start_encoder(model: nn.Module, weights: str | Path | Weights) -> StartedEncoder:
    """Put a file's weights into the encoder of a whole network, every tensor of it; the others stay fresh.

    They are marked, so that `insert(..., freeze="base")` leaves them trainable. On the meta device nothing is copied,
    only checked.

    Args:
        model: with an `encoder`, or a detector with a backbone.
        weights: a safetensors file or torch checkpoint of the encoder, of a classifier on it, or of another whole
            network with it, or what `networks.read_weights` gave of one; its names are ours, timm's or
            torchvision's, or those of NVlabs/SegFormer, mmseg, Chenglin-Yang/LVT or SegNeXt.

    Raises: ValueError: it has no such file, no encoder, or the file has not every tensor of it; the model is as it was.
    """
    given = weights if isinstance(weights, Weights) else read_weights(weights)
    place = encoder_place(model)
    if place is None:
        raise ValueError(f"{given.file}: this {type(model).__name__} has no encoder that could start from them")
    encoder = model.get_submodule(place)
    wanted = {name: value for name, value in encoder.state_dict().items() if not name.endswith(COUNTER)}
    best, lacking = 0, ""
    for whose, names, state in _readings(given, wanted):
        known = [key for key in state if names.get(key) in wanted]
        found = {names[key]: key for key in known if fits(state[key], wanted[names[key]])}
        if len(found) < len(wanted):
            if len(found) > best:
                best, lacking = len(found), _lacking(wanted, found, {names[key]: state[key] for key in known})
            continue
        inside = encoder.state_dict()
        with torch.no_grad():
            for name, key in found.items():
                if not inside[name].is_meta:
                    inside[name].copy_(state[key].reshape(inside[name].shape))
        taken = {f"{place}.{name}" for name in wanted}
        fresh = [name for name in model.state_dict() if name not in taken and not name.endswith(COUNTER)]
        mark_fresh(model, fresh)
        left = [key for key in state if key not in found.values() and not key.endswith(COUNTER)]
        return StartedEncoder(len(found), whose, tuple(left), tuple(fresh))
    raise ValueError(
        f"{given.file}: wanted the {len(wanted)} tensors of the encoder, by our names or released ones; at most "
        f"{best} of them are there in its shapes{lacking}"
    )


def encoder_place(model: nn.Module) -> str | None:
    """The dotted name of a whole network's encoder; None where it has none."""
    names = {name for name, _ in model.named_modules()}
    return next((place for place in _PLACES if place in names), None)


def _lacking(wanted: State, found: Mapping[str, str], there: State) -> str:
    """The first tensor that is not there or has another shape, by our name."""
    name = next(name for name in wanted if name not in found)
    shapes = f"wanted the shape {tuple(wanted[name].shape)}, " if name in there else ""
    return f"; {name}: {shapes}got {tuple(there[name].shape) if name in there else 'none'}"


def _readings(given: State, wanted: State) -> Iterator[tuple[str, dict[str, str], State]]:
    """Whose names a file may have: whose, name there → our name in the encoder, the tensors by their names there."""
    for prefix in _PREFIXES:
        within = {key: key.removeprefix(prefix) for key in given if key.startswith(prefix)}
        yield "by our names", within, given
        flat = {name.removeprefix("network.").replace(".", "_"): name for name in wanted}
        alike = {key: flat[rest.replace(".", "_")] for key, rest in within.items() if rest.replace(".", "_") in flat}
        yield "by the names of its library", alike, given
        for whose, decode, keys in _released():
            inner = decode({rest: given[key] for key, rest in within.items()})
            yield f"by the names of {whose}", translated(inner, keys), inner


def _released() -> list[tuple[str, Decode, dict[str, str]]]:
    from foveate.official import lvt, segformer, segnext, umixformer

    return [
        (segformer.SOURCE, dict, segformer.MIT_KEYS),
        ("mmseg", umixformer.unpacked, umixformer.MIT_KEYS),
        (lvt.SOURCE, dict, lvt.KEYS),
        (segnext.SOURCE, segnext.named_as_released, segnext.KEYS),
    ]


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
