"""Spatial-reduction attention, the self-attention of MiT (SegFormer). arXiv:2105.15203; the reduction: 2102.12122."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._budget import blocks_mib, check_budget, keep_within, tokens_mib, trains
from foveate.attention._capture import LazyAffinity, record
from foveate.attention._maps import check_dims, check_map, conv, one_of
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.kernels import attend, attention_weights

FACTS = Facts(
    title="SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers",
    authors="Xie, Wang, Yu, Anandkumar, Alvarez, Luo",
    year=2021,
    source="NeurIPS 2021, arXiv:2105.15203; the reduction is PVT's, ICCV 2021, arXiv:2102.12122",
    domain="self",
    equation="A(x) = W_o softmax(q kᵀ / √d) v;  q = W_q x,  [k, v] = W_kv LN(conv_r(x));  y = x + A(LN(x))",
    parameters="4*C*C + bias*3*C + out_bias*C + (reduction > 1)*(reduction**d*C*C + 3*C) + (form == 'block')*2*C",
    macs="2*P*C*C + K*2*C*C + 2*P*K*C + (reduction > 1)*K*reduction**d*C*C",
    where={"K": "prod(map(int.__floordiv__, S, [reduction]*d))"},
    deviations=(
        Deviation(
            "what the module is",
            "a sub-layer of a block: x + A(LN(x))",
            "A alone (NVlabs); the sum without the first norm (mmseg)",
            "form='block' (default) or 'bare'",
        ),
        Deviation(
            "reduction",
            "r² positions side by side, then a linear layer",
            "a convolution with kernel and stride r (the same), then a layer norm",
            "as released",
        ),
        Deviation(
            "ε of the layer norms",
            "not given",
            "1e-6; of the reduced map 1e-5 (NVlabs), 1e-6 (mmseg)",
            "1e-6; eps= of the reduced map, 1e-5",
        ),
        Deviation("positions beyond whole windows", "—", "give no keys", "as released"),
        Deviation("a map smaller than a window", "—", "an error", "padded with zeros to one window"),
        Deviation("heads", "a width of 32 (B0) or 64 each", "an argument", "None: the most with a width of 32 or more"),
    ),
)


@register_attention("sra", FACTS)
class SpatialReductionAttention(nn.Module):
    """Let each position attend to the map at a lower resolution, in several heads.

        A(x) = W_o softmax(q kᵀ / √d) v;  q = W_q x;  [k, v] = W_kv LN(conv_r(x))
        y = x + A(LN(x))

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        heads: a divisor of C; each is d = C / heads wide. None: the most with a width of 32 or more each.
        reduction: r, side of the window of each key; 1: every position is a key, without convolution and norm. MiT has
            8, 4, 2, 1 in its four stages.
        bias: biases of W_q and W_kv.
        out_bias: bias of W_o.
        eps: ε of the norm of the reduced map.
        form: "block": x + A(LN(x)), as a transformer's block has it; "bare": A(x).
        attention_budget_mib: refuse a map for which queries, keys, values, response and the pairs in memory, in
            training with their gradients, take more MiB than this. None: no bound.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Affinity rows on demand, means of the heads: (N, queries, K).
    Cost: 4·C² weights, and r^dims·C² of the reduction; P·K pairs of 2·C multiply-adds, P positions, K = P / r^dims
        keys. No P×K map is stored, forward or backward. Softmax in float32 or better.
    Init: linear layers truncated normal 0.02, convolution normal √(2 / fan out), biases 0, norms 1 and 0.
    Raises: ValueError: heads that do not divide C, a reduction below 1, an unknown form, a map of another rank or
        width, one over the budget.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        heads: int | None = None,
        reduction: int = 2,
        bias: bool = True,
        out_bias: bool = True,
        eps: float = 1e-5,
        form: str = "block",
        attention_budget_mib: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("sra", spatial_dims)
        one_of("sra", "form", form, ("block", "bare"))
        check_budget("sra", attention_budget_mib)
        if heads is None:
            heads = max((h for h in range(1, channels // 32 + 1) if channels % h == 0), default=1)
        if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1 or channels % heads:
            fit = [h for h in range(1, channels + 1) if channels % h == 0]
            raise ValueError(f"sra: heads must divide channels = {channels} ({_listed(fit)}); got {heads!r}")
        if isinstance(reduction, bool) or not isinstance(reduction, int) or reduction < 1:
            raise ValueError(f"sra: reduction must be a positive whole number; got {reduction!r}")
        self.spatial_dims, self.heads, self.reduction = spatial_dims, heads, reduction
        self.attention_budget_mib = attention_budget_mib
        self.before = nn.LayerNorm(channels, eps=1e-6) if form == "block" else None
        self.query = nn.Linear(channels, channels, bias=bias)
        self.key_value = nn.Linear(channels, 2 * channels, bias=bias)
        self.out = nn.Linear(channels, channels, bias=out_bias)
        self.reduce = conv(spatial_dims)(channels, channels, reduction, stride=reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(channels, eps=eps) if reduction > 1 else None
        for layer in (self.query, self.key_value, self.out):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if self.reduce is not None:
            nn.init.normal_(self.reduce.weight, std=math.sqrt(2 / (reduction**spatial_dims * channels)))
            nn.init.zeros_(self.reduce.bias)

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.query.in_features

    def _source(self, tokens: Tensor, sides: Sequence[int]) -> Tensor:
        """The tokens of keys and values: (N, P, C) → (N, K, C)."""
        if self.reduce is None or self.norm is None:
            return tokens
        x = tokens.unflatten(1, sides).movedim(-1, 1)
        if min(sides) < self.reduction:
            x = F.pad(x, [size for side in reversed(sides) for size in (0, max(self.reduction - side, 0))])
        return self.norm(self.reduce(x).flatten(2).mT)

    def _keep_within_budget(self, x: Tensor) -> None:
        training = trains(self, x)

        def need(sides: Sequence[int], reduction: int | None = None) -> float:
            r = self.reduction if reduction is None else reduction
            queries, keys = math.prod(sides), math.prod(max(side // r, 1) for side in sides)
            tokens = 2 * (queries + keys) * self.channels
            pairs = blocks_mib(len(x) * self.heads, queries, keys, x, training)
            return tokens_mib(len(x), tokens, x, training) + pairs

        twice = 2 * self.reduction
        changes = {f"reduction={twice}": {"reduction": twice}}
        keep_within("sra", self.attention_budget_mib, x.shape[2:], need, changes)

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("sra", x, self.channels, self.spatial_dims, self.query.weight)
        if self.attention_budget_mib is not None:
            self._keep_within_budget(x)
        sides = x.shape[2:]
        tokens = x.flatten(2).mT
        if self.before is not None:
            tokens = self.before(tokens)
        queries = self.query(tokens)
        keys, values = self.key_value(self._source(tokens, sides)).chunk(2, -1)
        record(self, affinity=LazyAffinity(sides, lambda at: attention_weights(queries[:, at], keys, heads=self.heads)))
        mixed = self.out(attend(queries, keys, values, heads=self.heads)).unflatten(1, sides).movedim(-1, 1).to(x.dtype)
        return mixed if self.before is None else x + mixed

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}, heads={self.heads}, reduction={self.reduction}"


def _listed(numbers: Sequence[int]) -> str:
    """The numbers, or for many the first and last."""
    return ", ".join(map(str, numbers if len(numbers) < 9 else [*numbers[:4], "…", *numbers[-3:]]))
