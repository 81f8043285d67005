"""A U-Net from shot gathers to a velocity model, with attention by name at any of five places. Ours.

Of the family of FCNVMB (Yang, Ma, "Deep-learning inversion: a next-generation seismic velocity model building method",
Geophysics 84, 2019, arXiv:1902.06267), whose decoder's map is cropped to the model. Departures: convolutions that halve
the time axis and a resizing to a square map stand before the U-Net, so that rows are depths from there on; skips can be
left out; c = 16 channels where the paper has 64.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks._registry import register_network
from foveate.networks._segmentation import resized
from foveate.networks.unet import DoubleConv

PLACES = ("stem", "encoder", "bottleneck", "skip", "decoder")
GATE = "attention_gate"


class SaltUNet(nn.Module):
    """A velocity model, scaled as (v − 3000 m/s) / 1500 m/s, from the gathers of its shots.

    Args:
        num_classes: maps of the output; 1 is the velocity.
        in_channels: shots.
        width: c, channels of the largest maps; they double at each of `depth` halvings.
        depth: halvings of the U-Net.
        out: (depth, x) cells of the model, such as (70, 70) or (201, 301).
        skip: do maps go across from the encoder to the decoder? Without, the decoder has what comes from below alone.
        attention: name of a mechanism; "attention_gate" gates skips by the map that comes from below.
        at: where it stands: "stem" (after it), "encoder" (after each of its blocks but the deepest), "bottleneck"
            (after that one), "skip" (on what goes across), "decoder" (after each of its blocks).
        attention_options: of the mechanism.

    Shape: (N, shots, samples, receivers) → (N, num_classes, *out); at least 8 samples.
    Raises: ValueError: a number below 1; an unknown place; a gate elsewhere than at skips; "skip" without skips.
        LookupError, TypeError: an unknown mechanism, an option that it does not have.
    """

    def __init__(
        self,
        num_classes: int = 1,
        *,
        in_channels: int = 5,
        width: int = 16,
        depth: int = 3,
        out: Sequence[int] = (70, 70),
        skip: bool = True,
        attention: str | None = None,
        at: Sequence[str] = ("decoder",),
        attention_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("depth", depth)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"salt_unet: {name} must be a positive whole number; got {value!r}")
        if len(out) != 2 or not all(isinstance(side, int) and side >= 1 for side in out):
            raise ValueError(f"salt_unet: out must be the cells along depth and x, such as [70, 70]; got {list(out)}")
        _check(attention, at, attention_options, skip)
        self.out = tuple(out)
        self.working = tuple(-(-side // 2**depth) * 2**depth for side in out)
        self.gated = attention == GATE

        def made(place: str, channels: int, **more: Any) -> list[nn.Module]:
            chosen = attention is not None and place in at
            return [create_attention(str(attention), channels, **more, **(attention_options or {}))] if chosen else []

        widths = [width * 2**level for level in range(depth + 1)]
        self.stem = nn.Sequential(
            *_halve_time(in_channels, width, 7), *_halve_time(width, width, 5), *made("stem", width)
        )
        places = ["encoder"] * depth + ["bottleneck"]
        self.encoder = nn.ModuleList(
            DoubleConv(a, b, *made(place, b)) for a, b, place in zip([width, *widths], widths, places, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.up, self.skip, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for shallow, deep in zip(widths[-2::-1], widths[:0:-1], strict=True):
            self.up.append(nn.ConvTranspose2d(deep, shallow, 2, stride=2))
            if skip:
                gate = made("skip", shallow, **({"gate_channels": deep} if self.gated else {}))
                self.skip.append(gate[0] if gate else nn.Identity())
            self.decoder.append(DoubleConv(2 * shallow if skip else shallow, shallow, *made("decoder", shallow)))
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Float[Tensor, "n s t r"]) -> Float[Tensor, "n k h w"]:
        x = resized(self.stem(x), self.working)
        across = []
        for number, block in enumerate(self.encoder):
            x = block(self.pool(x) if number else x)
            across.append(x)
        across.pop()
        for number, (up, block) in enumerate(zip(self.up, self.decoder, strict=True)):
            inputs = [up(x)]
            if len(self.skip):
                skip, shallow = self.skip[number], across.pop()
                inputs.insert(0, skip(shallow, x) if self.gated else skip(shallow))
            x = block(torch.cat(inputs, 1))
        x = self.head(x)
        return x if x.shape[2:] == self.out else resized(x, self.out)


def _halve_time(channels: int, width: int, samples: int) -> tuple[nn.Module, ...]:
    """A convolution over so many samples and three receivers that halves the time axis, batch norm and ReLU."""
    conv = nn.Conv2d(channels, width, (samples, 3), (2, 1), (samples // 2, 1), bias=False)
    return conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)


def _check(attention: str | None, at: Sequence[str], options: Mapping[str, Any] | None, skip: bool) -> None:
    if isinstance(at, str) or not at or (odd := [place for place in at if place not in PLACES]):
        got = at if isinstance(at, str) or not at else odd[0]
        raise ValueError(f"salt_unet: at must list some of {', '.join(map(repr, PLACES))}; got {got!r}")
    if attention is None and (options or tuple(at) != ("decoder",)):
        raise ValueError("salt_unet: at and attention_options need attention=; got none")
    if attention == GATE and tuple(at) != ("skip",):
        raise ValueError(f"salt_unet: {GATE} gates skips, at=['skip']; got at={list(at)}")
    if attention is not None and "skip" in at and not skip:
        raise ValueError("salt_unet: at=['skip'] needs skip=True; got skip=False")


register_network("salt_unet", shape=(5, 250, 70))(SaltUNet)
