"""LVT, the lite vision transformer: attention within windows that overlap, then attention with several dilations.

Yang et al., "Lite Vision Transformer with Enhanced Self-Attention", CVPR 2022, arXiv:2112.10809.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.attention import LazyAffinity, record
from foveate.kernels import attend, attention_weights
from foveate.networks._encoders import EncoderClassifier, register_encoder
from foveate.networks._registry import register_network
from foveate.networks._transformer import (
    Map,
    MapFeedForward,
    OverlapEmbedding,
    PreNormBlock,
    check_four,
    check_heads,
    check_stages,
    drop_rates,
    start,
)

KINDS = ("csa", "rasa")
DILATIONS = (1, 3, 5)
TAPS = 9  # of a 3×3 window


class ConvolutionalSelfAttention(nn.Module):
    """Mix the nine positions of each window by weights that its mean gives, and add up windows where they overlap.

        V_t = W_t x_t for each tap t of a 3×3 window at every second position
        A = softmax(W_a mean₂ₓ₂(x) / √d), 9×9 for each head;  y = W_o fold(A V)

    Shape: (N, C, H, W) → (N, C, H, W).
    Cost: 9·C² + C·(81·heads) + C² weights and the biases of the last two layers.
    Raises: ValueError: heads that do not divide C.
    """

    def __init__(self, channels: int, *, heads: int) -> None:
        super().__init__()
        check_heads("lvt", channels, heads)
        self.heads = heads
        self.weigh = nn.Linear(channels, heads * TAPS**2)
        self.value = nn.Conv2d(TAPS * channels, TAPS * channels, 1, groups=TAPS, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Map) -> Map:
        channels, size, h = x.shape[1], x.shape[2:], self.heads
        means = F.avg_pool2d(x, 2, 2, ceil_mode=True)
        grid = means.shape[2:]
        logits = self.weigh(means.flatten(2).mT).unflatten(2, (h, TAPS, TAPS)) * (channels // h) ** -0.5
        weights = torch.softmax(logits, -1, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype)
        windows = F.unfold(x, 3, padding=1, stride=2).unflatten(1, (channels, TAPS)).transpose(1, 2)
        values = self.value(windows.flatten(1, 2).unflatten(2, grid)).flatten(2)
        values = values.unflatten(1, (TAPS, h, channels // h)).permute(0, 4, 2, 1, 3)
        mixed = (weights @ values).permute(0, 2, 4, 3, 1).flatten(1, 3)  # N, head × channel × tap, window
        folded = F.fold(mixed, tuple(size), 3, padding=1, stride=2)
        return self.out(folded.movedim(1, -1)).movedim(-1, 1)


class RecursiveAtrousSelfAttention(nn.Module):
    """Attention over a reduced map, with queries that see several dilations, run again on its own result.

        q = Σ_r SiLU(conv_r(W_q x)), r = 1, 3, 5, one depthwise 3×3 for all;  A(x) = W_o softmax(q kᵀ / √d) v
        o = SiLU(A(x));  then steps − 1 times: x ← o + x, o = SiLU(A(x));  one step alone is A(x)

    Shape: (N, C, H, W) → (N, C, H, W). Affinity rows on demand, of the last step.
    Raises: ValueError: heads that do not divide C.
    """

    def __init__(
        self, channels: int, *, heads: int, reduction: int, steps: int = 2, dilations: Sequence[int] = DILATIONS
    ) -> None:
        super().__init__()
        check_heads("lvt", channels, heads)
        self.heads, self.reduction, self.steps, self.dilations = heads, reduction, steps, tuple(dilations)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(channels, 2 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.atrous = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.reduce = nn.Conv2d(channels, channels, reduction, reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(channels) if reduction > 1 else None

    def _once(self, x: Map) -> Map:
        size = x.shape[2:]
        tokens = x.flatten(2).mT
        q = self.query(tokens).unflatten(1, size).movedim(-1, 1)
        weight, groups = self.atrous.weight, self.atrous.groups
        seen = [F.silu(F.conv2d(q, weight, padding=r, dilation=r, groups=groups)) for r in self.dilations]
        queries = torch.stack(seen).sum(0).flatten(2).mT
        if self.reduce is not None and self.norm is not None:
            short = [max(self.reduction - side, 0) for side in size]
            reduced = self.reduce(F.pad(x, (0, short[1], 0, short[0])))
            tokens = self.norm(reduced.flatten(2).mT)
        keys, values = self.key_value(tokens).chunk(2, -1)
        record(self, affinity=LazyAffinity(size, lambda at: attention_weights(queries[:, at], keys, heads=self.heads)))
        return self.out(attend(queries, keys, values, heads=self.heads)).unflatten(1, size).movedim(-1, 1)

    def forward(self, x: Map) -> Map:
        if self.steps == 1:
            return self._once(x)
        found = F.silu(self._once(x))
        for _ in range(self.steps - 1):
            x = found + x
            found = F.silu(self._once(x))
        return found


class FeedForward(nn.Module):
    """Linear, GELU, linear. Shape: (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand, self.reduce = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Map) -> Map:
        return self.reduce(F.gelu(self.expand(x.movedim(1, -1)))).movedim(-1, 1)


class LiteVisionTransformer(nn.Module):
    """The maps of four stages; the first has convolutional, the others recursive atrous self-attention.

    Args:
        in_channels: of the image.
        widths, depths, heads, ratios: of the stages: channels, number of blocks, heads, width of the feed-forward
            network over C.
        kinds: of the stages' attention, "csa" or "rasa".
        convolves: of the stages: does the feed-forward network have a depthwise 3×3?
        reductions: side of the window of each key, in stages of "rasa".
        steps: how often the recursive attention runs.
        drop_path: probability that a block's branch is dropped, from 0 at the first block to this at the last.

    Shape: (N, in_channels, H, W) → four maps (N, widths[i], ⌈H / s⌉, ⌈W / s⌉), s = 4, 8, 16, 32. No norm at a stage's
        end, as in the released code for segmentation.
    Init: linear layers truncated normal 0.02, convolutions normal √(2 / fan out), biases 0, norms 1 and 0.
    Raises: ValueError: lists of other than four entries; widths, depths, heads or reductions that are not positive
        whole numbers; heads that do not divide a width; another kind.
    """

    multiple = 1

    def __init__(
        self,
        in_channels: int = 3,
        *,
        widths: Sequence[int] = (64, 64, 160, 256),
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (2, 2, 5, 8),
        ratios: Sequence[float] = (4, 8, 4, 4),
        kinds: Sequence[str] = ("csa", "rasa", "rasa", "rasa"),
        convolves: Sequence[bool] = (False, True, True, True),
        reductions: Sequence[int] = (8, 4, 2, 1),
        steps: int = 2,
        dilations: Sequence[int] = DILATIONS,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        check_stages("lvt", widths=widths, depths=depths, heads=heads, reductions=reductions)
        check_four("lvt", ratios=ratios, convolves=convolves)
        if len(kinds) != 4 or any(kind not in KINDS for kind in kinds):
            raise ValueError(f"lvt: kinds must be four of 'csa', 'rasa'; got {kinds!r}")
        self.widths = tuple(widths)
        rates = drop_rates(drop_path, depths)
        self.embeds, self.stages = nn.ModuleList(), nn.ModuleList()
        for i, (before, width) in enumerate(zip((in_channels, *widths[:-1]), widths, strict=True)):
            size, stride = (3, 2) if i else (7, 4)
            self.embeds.append(OverlapEmbedding(before, width, size=size, stride=stride, eps=1e-5))
            feed = MapFeedForward if convolves[i] else FeedForward
            stage = []
            for rate in rates[i]:
                attention: nn.Module = (
                    ConvolutionalSelfAttention(width, heads=heads[i])
                    if kinds[i] == "csa"
                    else RecursiveAtrousSelfAttention(
                        width, heads=heads[i], reduction=reductions[i], steps=steps, dilations=dilations
                    )
                )
                hidden = int(width * ratios[i])
                stage.append(PreNormBlock(width, attention, feed(width, hidden), drop_path=rate, eps=1e-5))
            self.stages.append(nn.Sequential(*stage))
        start(self)

    def forward(self, x: Map) -> list[Tensor]:
        maps = []
        for embed, stage in zip(self.embeds, self.stages, strict=True):
            x = stage(embed(x))
            maps.append(x)
        return maps


def lvt(num_classes: int = 1000, *, in_channels: int = 3, drop_path: float = 0.1) -> nn.Module:
    """The encoder with a layer norm and a linear layer, as trained on ImageNet."""
    return EncoderClassifier(LiteVisionTransformer(in_channels, drop_path=drop_path), num_classes, norm=True)


register_encoder("lvt")(LiteVisionTransformer)
register_network("lvt")(lvt)
