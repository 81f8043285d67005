"""U-Net: an encoder and a decoder with a skip at each resolution. Ronneberger, Fischer, Brox, 2015, arXiv:1505.04597.

Departures: convolutions are padded, so that the output has the input's size; a batch norm follows each convolution, as
in the implementations in use; the widths are options, the paper's are (64, 128, 256, 512, 1024).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks._registry import register_network
from foveate.networks._segmentation import padded, resized

PAPER = (64, 128, 256, 512, 1024)
SMALL = (16, 32, 64, 128)
PLACES = ("encoder", "bottleneck", "skip", "decoder")

Logits = Float[Tensor, "n k h w"]


class DoubleConv(nn.Sequential):
    """Twice a 3×3 convolution, batch norm and ReLU, and what is given to follow them."""

    def __init__(self, channels: int, width: int, *after: nn.Module) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            *after,
        )


class UNet(nn.Module):
    """Logits for every pixel.

    An image whose sides cannot be halved often enough is continued below and to the right by its last pixels, and the
    logits are cut to its size. `foveate.insert` puts attention into a U-Net that stands already: at "encoder.0" and the
    like, of which the last is the bottleneck, "skip.0", "decoder.0".

    Args:
        num_classes: channels of the output.
        in_channels: of the image.
        widths: channels at each resolution, from the input's down; each is half as large as the one before.
        attention: name of a mechanism; "attention_gate" gates skips by the map that comes from below.
        at: where it stands: "encoder" (after each of its blocks but the deepest), "bottleneck" (after that one), "skip"
            (on what goes across, not on what goes down), "decoder" (after each of its blocks).
        attention_options: of the mechanism.
        deep_supervision: in training, classify the decoder's smaller maps too, each by a 1×1 convolution.

    Shape: (N, in_channels, H, W) → (N, num_classes, H, W); in training with deep supervision (main, …), from large to
        small maps, each resized to the image.
    Raises: ValueError: fewer than two widths; an unknown place; a gate elsewhere than at skips. LookupError, TypeError:
        an unknown mechanism, an option that it does not have.
    """

    def __init__(
        self,
        num_classes: int = 2,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = PAPER,
        attention: str | None = None,
        at: Sequence[str] = ("decoder",),
        attention_options: Mapping[str, Any] | None = None,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"unet: wanted two or more widths; got {list(widths)}")
        _check(attention, at, attention_options)
        self.multiple = 2 ** (len(widths) - 1)
        self.gated = attention == "attention_gate"
        self.pool = nn.MaxPool2d(2)

        def made(place: str, width: int, **more: Any) -> list[nn.Module]:
            chosen = attention is not None and place in at
            return [create_attention(str(attention), width, **more, **(attention_options or {}))] if chosen else []

        places = ["encoder"] * (len(widths) - 1) + ["bottleneck"]
        inputs = (in_channels, *widths[:-1])
        levels = zip(inputs, widths, places, strict=True)
        self.encoder = nn.ModuleList(DoubleConv(a, b, *made(place, b)) for a, b, place in levels)
        pairs = list(pairwise(widths[::-1]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, shallow, 2, stride=2) for deep, shallow in pairs)
        gate = [{"gate_channels": deep} if self.gated else {} for deep, _ in pairs]
        skips = [made("skip", shallow, **more) for (_, shallow), more in zip(pairs, gate, strict=True)]
        self.skip = nn.ModuleList(skip[0] if skip else nn.Identity() for skip in skips)
        self.decoder = nn.ModuleList(DoubleConv(2 * b, b, *made("decoder", b)) for _, b in pairs)
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        smaller = widths[1:-1] if deep_supervision else ()
        self.auxiliary = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in smaller)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Logits | tuple[Logits, ...]:
        height, width = x.shape[2:]
        x = padded(x, self.multiple)
        across, decoded = [], []
        supervised = self.training and len(self.auxiliary) > 0
        for number, block in enumerate(self.encoder):
            x = block(self.pool(x) if number else x)
            across.append(x)
        across.pop()
        for up, skip, block in zip(self.up, self.skip, self.decoder, strict=True):
            shallow = across.pop()
            shallow = skip(shallow, x) if self.gated else skip(shallow)
            x = block(torch.cat([shallow, up(x)], 1))
            if supervised:
                decoded.append(x)
        logits = [self.head(x)]
        if supervised:
            smaller = zip(self.auxiliary, reversed(decoded[:-1]), strict=True)
            logits += [resized(head(y), x.shape[2:]) for head, y in smaller]
        cut = [one[..., :height, :width] for one in logits]
        return cut[0] if len(cut) == 1 else tuple(cut)


def _check(attention: str | None, at: Sequence[str], options: Mapping[str, Any] | None) -> None:
    if isinstance(at, str) or not at or (odd := [place for place in at if place not in PLACES]):
        got = at if isinstance(at, str) or not at else odd[0]
        raise ValueError(f"unet: at must list some of {', '.join(map(repr, PLACES))}; got {got!r}")
    if attention is None and (options or tuple(at) != ("decoder",)):
        raise ValueError("unet: at and attention_options need attention=; got none")
    if attention == "attention_gate" and tuple(at) != ("skip",):
        raise ValueError(f"unet: attention_gate gates skips, at=['skip']; got at={list(at)}")


register_network("unet", shape=(3, 256, 256))(UNet)
register_network("unet_small", shape=(3, 32, 32))(partial(UNet, widths=SMALL))
register_network("scse_unet", shape=(3, 256, 256))(partial(UNet, attention="scse", at=("encoder", "decoder")))
