"""What official encoders and decoders share: the options and keys of a part, and whole networks made of two parts."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from foveate.networks import create_network
from foveate.networks._encoders import create_encoder
from foveate.official._conversions import Build, Decode
from foveate.official._shared import Built, only

State = Mapping[str, Any]


@dataclass(frozen=True)
class EncoderPart:
    """An encoder's name here, its options here, {official key prefix: ours}, the channels of its image."""

    name: str
    options: dict[str, Any]
    keys: dict[str, str]
    in_channels: int = 3

    def build(self) -> Built:
        return create_encoder(self.name, in_channels=self.in_channels, options=self.options), self.keys


@dataclass(frozen=True)
class DecoderPart:
    """A decoder's class here, the name of its networks, its options, {official key prefix: ours}."""

    cls: Callable[..., nn.Module]
    name: str
    widths: Sequence[int]
    num_classes: int
    options: dict[str, Any]
    keys: dict[str, str]

    def build(self) -> Built:
        return self.cls(self.widths, self.num_classes, **self.options), self.keys


def alone(part: Callable[..., EncoderPart | DecoderPart]) -> Build:
    """Builds what `part` describes, with its arguments."""

    @functools.wraps(part)
    def build(*args: Any, **given: Any) -> Built:
        return part(*args, **given).build()

    return build


def together(encoder: Callable[..., EncoderPart], decoder: Callable[..., DecoderPart]) -> Build:
    """Builds a network of mmseg's from the configurations of its two parts; the logits are as large as theirs."""

    def build(backbone: Mapping[str, Any], decode_head: Mapping[str, Any]) -> Built:
        first, second = encoder(**_without_type(backbone)), decoder(**_without_type(decode_head))
        network = create_network(
            second.name,
            num_classes=second.num_classes,
            in_channels=first.in_channels,
            encoder=first.name,
            encoder_options=first.options,
            full_size=False,
            **second.options,
        )
        return network, whole_keys(first.keys, second.keys)

    return build


def _without_type(configuration: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in configuration.items() if key not in ("type", "init_cfg", "pretrained")}


def below(prefix: str, keys: Mapping[str, str], ours: str) -> dict[str, str]:
    """The keys of a part that is called `prefix` there and `ours` here."""
    return {f"{prefix}.{a}" if a else prefix: f"{ours}.{b}" if b else ours for a, b in keys.items()}


def whole_keys(encoder: Mapping[str, str], decoder: Mapping[str, str]) -> dict[str, str]:
    """Of a network of mmseg's."""
    return below("backbone", encoder, "encoder") | below("decode_head", decoder, "decoder")


def only_batch_norm(cls: str, norm_cfg: Mapping[str, Any] | None) -> None:
    """Raises: ValueError: mmseg's configuration of norms names another than a batch norm, synchronised or not."""
    only(cls, norm_cfg=((norm_cfg or {}).get("type", "BN").removeprefix("Sync"), "BN"))


def without(*dead: str) -> Decode:
    """Drops the tensors whose names match a pattern, which the released class owns and never uses."""
    pattern = re.compile("|".join(dead))
    return lambda state: {key: value for key, value in state.items() if not pattern.search(key)}


Describe = Callable[..., tuple[dict[str, Any], dict[str, str]]]


def decode_head(
    official_name: str, cls: Callable[..., nn.Module], name: str, describe: Describe
) -> Callable[..., DecoderPart]:
    """The arguments of mmseg's decoders → the part; `describe(channels, decoder_params)` gives options and keys."""

    def part(
        in_channels: Sequence[int],
        num_classes: int,
        channels: int = 256,
        feature_strides: Sequence[int] = (4, 8, 16, 32),
        in_index: Sequence[int] = (0, 1, 2, 3),
        dropout_ratio: float = 0.1,
        norm_cfg: Mapping[str, Any] | None = None,
        align_corners: bool = False,
        input_transform: str | None = None,
        decoder_params: Mapping[str, Any] | None = None,
        loss_decode: Any = None,
        ignore_index: int = 255,
    ) -> DecoderPart:
        del feature_strides, loss_decode, ignore_index  # of no layer
        if len(in_channels) != 4 or tuple(in_index) != (0, 1, 2, 3):
            raise ValueError(
                f"{official_name}: wanted the maps 0, 1, 2, 3 of four widths; got in_index={list(in_index)} of "
                f"in_channels={list(in_channels)}"
            )
        only(official_name, align_corners=(align_corners, False))
        only(official_name, input_transform=(input_transform or "multiple_select", "multiple_select"))
        only_batch_norm(official_name, norm_cfg)
        options, keys = describe(channels, dict(decoder_params or {}))
        return DecoderPart(cls, name, in_channels, num_classes, options | {"dropout": dropout_ratio}, keys)

    return part
