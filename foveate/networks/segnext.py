"""SegNeXt: the three deep maps side by side, explained by a few patterns (Hamburger), and classified.

Guo et al., NeurIPS 2022, arXiv:2209.08575; Hamburger: Geng et al., "Is Attention Better Than Matrix Decomposition?",
ICLR 2021, arXiv:2109.04553.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.networks._registry import register_network
from foveate.networks._segmentation import ADE20K, PHOTO, build, register_pairs, resized
from foveate.networks._transformer import Map

WIDTHS = {"mscan_t": 256, "mscan_s": 256, "mscan_b": 512, "mscan_l": 1024}  # encoder: of the decoder
TINY = 1e-6  # added to divisors
GROUPS = 32  # of the group norms
GOLDEN = (5**0.5 - 1) / 2  # its multiples, modulo 1, are spread evenly from 0 to 1


class NonNegativeFactors(nn.Module):
    """A map explained by a few non-negative patterns: X ≈ B Cᵀ, both found anew for each image by multiplicative steps.

        C ← C · (Xᵀ B) / (C Bᵀ B),  B ← B · (X C) / (B Cᵀ C),  from random B and C = softmax(Xᵀ B)

    The steps are not differentiated; one more step of C after them is.

    Args:
        rank: number of patterns.
        train_steps, eval_steps: in training and evaluation mode.

    B starts with columns of length 1: in training of uniform random numbers, in evaluation of numbers spread as evenly
    and the same for every image, so that an image has one answer (the released code draws here too).

    Shape: x (N, C, H, W), not negative → (N, C, H, W).
    """

    def __init__(self, rank: int = 16, *, train_steps: int = 6, eval_steps: int = 7) -> None:
        super().__init__()
        self.rank, self.train_steps, self.eval_steps = rank, train_steps, eval_steps

    def _bases(self, x: Tensor) -> Tensor:
        if self.training:
            drawn = torch.rand(len(x), x.shape[1], self.rank, device=x.device, dtype=x.dtype)
        else:
            count = torch.arange(1, 1 + x.shape[1] * self.rank, device=x.device, dtype=torch.float64)
            drawn = torch.frac(count * GOLDEN).reshape(1, x.shape[1], self.rank).to(x.dtype)
        return F.normalize(drawn, dim=1).expand(len(x), -1, -1)

    def forward(self, x: Map) -> Map:
        flat = x.flatten(2)
        steps = self.train_steps if self.training else self.eval_steps
        with torch.no_grad():
            bases = self._bases(flat)
            codes = torch.softmax(flat.mT @ bases, -1)
            for _ in range(steps):
                codes = self._codes(flat, bases, codes)
                bases = bases * (flat @ codes) / (bases @ (codes.mT @ codes) + TINY)
        codes = self._codes(flat, bases, codes)
        return (bases @ codes.mT).unflatten(2, x.shape[2:])

    @staticmethod
    def _codes(flat: Tensor, bases: Tensor, codes: Tensor) -> Tensor:
        return codes * (flat.mT @ bases) / (codes @ (bases.mT @ bases) + TINY)

    def extra_repr(self) -> str:
        return f"{self.rank}, train_steps={self.train_steps}, eval_steps={self.eval_steps}"


class Hamburger(nn.Module):
    """y = ReLU(x + GN(W₂ NMF(ReLU(W₁ x)))). Shape: (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, channels: int, *, rank: int = 16) -> None:
        super().__init__()
        self.before = nn.Conv2d(channels, channels, 1)
        self.factors = NonNegativeFactors(rank)
        self.after = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, channels)

    def forward(self, x: Map) -> Map:
        return F.relu(x + self.norm(self.after(self.factors(F.relu(self.before(x))))))


class SegNeXtDecoder(nn.Module):
    """The maps at 1/8, 1/16 and 1/32 side by side at 1/8; 1×1, Hamburger, 1×1, each with a group norm; 1×1.

    Args:
        widths: channels of the encoder's maps, shallow to deep; the first is not used.
        num_classes: channels of the output.
        embed: channels inside, a multiple of 32.
        rank: number of patterns.
        dropout: of whole channels, in training.

    Shape: four maps → (N, num_classes, H, W) of the second.
    Init: torch's default.
    Raises: ValueError: a width that is no multiple of 32.
    """

    def __init__(
        self, widths: Sequence[int], num_classes: int, *, embed: int = 256, rank: int = 16, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if embed < GROUPS or embed % GROUPS:
            raise ValueError(f"segnext: embed must be a multiple of {GROUPS}; got {embed!r}")
        self.squeeze = _convolve(sum(widths[1:]), embed)
        self.hamburger = Hamburger(embed, rank=rank)
        self.align = _convolve(embed, embed)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(embed, num_classes, 1)

    def forward(self, maps: Sequence[Map]) -> Float[Tensor, "n k h w"]:
        first, *others = maps[1:]
        together = torch.cat([first, *(resized(x, first.shape[2:]) for x in others)], 1)
        x = self.align(self.hamburger(self.squeeze(together)))
        return self.classify(self.dropout(x))


def _convolve(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.GroupNorm(GROUPS, width), nn.ReLU())


def segnext(
    num_classes: int = ADE20K,
    *,
    in_channels: int = 3,
    encoder: str = "mscan_t",
    encoder_options: Mapping[str, Any] | None = None,
    embed: int | None = None,
    rank: int = 16,
    dropout: float = 0.1,
    full_size: bool = True,
) -> nn.Module:
    """The decoder over an encoder by name. embed: None: as released for this encoder, else 256."""
    return build(
        SegNeXtDecoder,
        num_classes=num_classes,
        in_channels=in_channels,
        encoder=encoder,
        encoder_options=encoder_options,
        full_size=full_size,
        embed=WIDTHS.get(encoder, 256) if embed is None else embed,
        rank=rank,
        dropout=dropout,
    )


register_network("segnext", shape=PHOTO)(segnext)
register_pairs("segnext", segnext, WIDTHS)
