"""Mix-attention of U-MixFormer: a map attends to one grid that all stages are pooled to. arXiv:2312.06272.

The pieces of its decoder, with the keys of the released code; the decoder itself is still to come.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import LazyAffinity, record
from foveate.kernels import attend, attention_weights

Tokens = Float[Tensor, "n p c"]


class PooledStages(nn.Module):
    """Maps of several stages averaged down to the grid of the deepest, and put side by side.

    Args:
        channels: widths of the maps, deep to shallow.
        ratios: what the sides of each map are divided by (rounded up). A map with ratio 1 is handed through as it is;
            the others pass a 1×1 convolution of their own after it.

    Shape: maps (N, C_j, H_j, W_j), deep to shallow → (N, ΣC_j, H, W).
    Init: torch's default.
    Raises: ValueError: maps of another number, or that do not end on one grid.
    """

    def __init__(self, channels: Sequence[int], *, ratios: Sequence[int] = (1, 2, 4, 8)) -> None:
        super().__init__()
        if len(channels) != len(ratios) or min(ratios, default=0) < 1:
            raise ValueError(
                f"PooledStages: wanted a positive ratio for each of {len(channels)} maps; got ratios={tuple(ratios)}"
            )
        self.ratios = tuple(ratios)
        pooled = (width for width, ratio in zip(channels, ratios, strict=True) if ratio > 1)
        self.align = nn.ModuleList(nn.Conv2d(width, width, 1) for width in pooled)

    def forward(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> Float[Tensor, "n t h w"]:
        if len(maps) != len(self.ratios):
            raise ValueError(f"PooledStages: wanted {len(self.ratios)} maps, deep to shallow; got {len(maps)}")
        layers = iter(self.align)
        pooled = [
            next(layers)(F.avg_pool2d(x, ratio, ratio, ceil_mode=True)) if ratio > 1 else x
            for x, ratio in zip(maps, self.ratios, strict=True)
        ]
        if len({x.shape[2:] for x in pooled}) > 1:
            got = ", ".join("×".join(map(str, x.shape[2:])) for x in pooled)
            raise ValueError(f"PooledStages: with ratios {self.ratios} the maps must end on one grid; got {got}")
        return torch.cat(pooled, 1)


class MixAttention(nn.Module):
    """Tokens of one map attend to tokens of all stages: W_o softmax(q kᵀ / √d) v, q = W_q x, [k, v] = W_kv GELU(y).

    Args:
        channels: C of the queries and of what comes out.
        mixed: T, width of the tokens that are attended to.
        heads: must divide C; each is d = C / heads wide.
        bias: biases of W_q and W_kv.

    Shape: x (N, P, C), y (N, K, T) → (N, P, C). Affinity rows on demand, means of the heads: (N, queries, K); `size`
        is the grid of x, if it has one, that queries are counted on.
    Cost: 2·C² + 2·C·T + C weights and P·K pairs of 2·C multiply-adds; no P×K map is stored, forward or backward.
    Init: truncated normal 0.02, biases 0.
    Raises: ValueError: heads that do not divide C.

    Source: Yeom, von Klitzing, "U-MixFormer: UNet-like Transformer with Mix-Attention for Efficient Semantic
        Segmentation", WACV 2025, arXiv:2312.06272. The released class also makes a layer norm of y that it then drops,
        and owns a convolution that it never runs; neither is here.
    """

    def __init__(self, channels: int, mixed: int, *, heads: int, bias: bool = False) -> None:
        super().__init__()
        if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1 or channels % heads:
            raise ValueError(f"MixAttention: heads must divide channels = {channels}; got {heads!r}")
        self.heads = heads
        self.query = nn.Linear(channels, channels, bias=bias)
        self.key_value = nn.Linear(mixed, 2 * channels, bias=bias)
        self.out = nn.Linear(channels, channels)
        for layer in (self.query, self.key_value, self.out):
            _start(layer)

    def forward(self, x: Tokens, y: Tokens, size: Sequence[int] | None = None) -> Tokens:
        queries = self.query(x)
        keys, values = self.key_value(F.gelu(y)).chunk(2, -1)
        grid = x.shape[1:2] if size is None else size
        record(self, affinity=LazyAffinity(grid, lambda at: attention_weights(queries[:, at], keys, heads=self.heads)))
        return self.out(attend(queries, keys, values, heads=self.heads))

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


class MixFeedForward(nn.Module):
    """Linear, depthwise 3×3 on the grid of the tokens, GELU, linear.

    Shape: x (N, H·W, C), size (H, W) → (N, H·W, C).
    Init: linear layers truncated normal 0.02, convolution normal √(2 / fan out), biases 0.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.reduce = nn.Linear(hidden, channels)
        _start(self.expand)
        _start(self.reduce)
        nn.init.normal_(self.depthwise.weight, std=math.sqrt(2 / 9))
        if self.depthwise.bias is not None:
            nn.init.zeros_(self.depthwise.bias)

    def forward(self, x: Tokens, size: Sequence[int]) -> Tokens:
        grid = self.expand(x).mT.unflatten(2, tuple(size))
        return self.reduce(F.gelu(self.depthwise(grid).flatten(2).mT))


class MixBlock(nn.Module):
    """Mix-attention and a feed-forward network, each beside the normalised tensor that it is made of.

        x₁ = LN(x);  a = x₁ + MixAttention(x₁, LN(y));  b = LN(a);  out = b + FeedForward(b)

    Args:
        channels, mixed, heads, bias: as `MixAttention` has them.
        ratio: of the feed-forward network's width to C.
        drop_path: how often, in training, a sample goes without a sum's second term.

    Shape: x (N, H·W, C), y (N, K, T), size (H, W) of x → (N, H·W, C).
    Source: as `MixAttention`. The paper normalises the attention's result, the released code the sum; here the sum.
    """

    def __init__(
        self, channels: int, mixed: int, *, heads: int, ratio: float = 4, bias: bool = False, drop_path: float = 0.1
    ) -> None:
        super().__init__()
        self.of_queries = nn.LayerNorm(channels)
        self.of_mixed = nn.LayerNorm(mixed)
        self.of_sum = nn.LayerNorm(channels)
        self.attention = MixAttention(channels, mixed, heads=heads, bias=bias)
        self.forward_network = MixFeedForward(channels, int(channels * ratio))
        self.drop_path = drop_path

    def forward(self, x: Tokens, y: Tokens, size: Sequence[int]) -> Tokens:
        x = self.of_queries(x)
        a = self.of_sum(x + self._sometimes(self.attention(x, self.of_mixed(y), size)))
        return a + self._sometimes(self.forward_network(a, size))

    def _sometimes(self, x: Tensor) -> Tensor:
        if not self.training or not self.drop_path:
            return x
        kept = x.new_empty(len(x), 1, 1).bernoulli_(1 - self.drop_path)
        return x * kept / (1 - self.drop_path)


def _start(layer: nn.Linear) -> None:
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
