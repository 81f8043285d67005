"""Global Context block. arXiv:1904.11492."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import _fused
from foveate.attention._capture import record
from foveate.attention._hard import Switch
from foveate.attention._maps import axes, check_dims, check_map, conv, one_of
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.kernels import AccumulatedMap, accumulate_gradient, attention_pool, gate_map, global_pool

FACTS = Facts(
    title="GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond",
    authors="Cao, Xu, Lin, Wei, Hu",
    year=2019,
    source="ICCV workshops 2019, arXiv:1904.11492",
    domain="mixed",
    equation="c = Σ_p softmax(w·x)_p x_p;  y = x · σ(T_mul(c)) + T_add(c);  T = W₂ ReLU(LayerNorm(W₁ c))",
    parameters="att*(C + 1) + transforms*(2*C*width + 3*width + C)",
    macs="att*2*C*P + transforms*2*C*width",
    where={
        "width": "int(C*ratio)",
        "att": "pooling == 'att'",
        "transforms": "2 if fusion == 'both' else 1",
    },
    deviations=(
        Deviation("pooling and fusion", "att and add; the others in ablations", "arguments", "options"),
        Deviation(
            "last layer of each transform",
            "—",
            "0; mmdet's ResNet.init_weights(None) undoes it and starts the last norm of a block at 0",
            "0: the block starts as the identity (add) or as a factor of ½ (mul)",
        ),
        Deviation("C·ratio < 1", "—", "fails on an empty layer", "an error with a value that fits"),
        Deviation("int(C·ratio) = 1", "—", "the layer norm of one value ignores the context", "as released"),
    ),
)


class Transform(nn.Sequential):
    """(N, C) → (N, C): to `width`, layer norm, ReLU, back; the last layer starts at zero."""

    def __init__(self, channels: int, width: int) -> None:
        last = nn.Linear(width, channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(nn.Linear(channels, width), nn.LayerNorm(width), nn.ReLU(inplace=True), last)


@register_attention("gc", FACTS)
class GlobalContext(nn.Module):
    """One context vector for the whole map, from a learned weighting of its positions; added, multiplied, or both.

        c = Σ_p softmax_p(w · x_p + b) x_p          ("att"; "avg": the mean)
        y = x · σ(T_mul(c)) + T_add(c)              (both; each alone with "mul" or "add")
        T(c) = W₂ ReLU(LayerNorm(W₁ c + b₁)) + b₂,  W₁: C → int(C · ratio)

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        ratio: of the transforms' inner width to C; 1/16 and 1/4 are the paper's.
        pooling: "att" or "avg".
        fusion: "add", "mul" or "both" (first multiply, then add; both with the context of x).
        hard: of "mul" and "both", gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in
            training with noise); the gradients of the last two are estimates. None: soft gates.
        keep: of "topk": how many channels stay on, a whole number or a share between 0 and 1. None: half.
        temperature: of "gumbel", positive. None: 1.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Captured: spatial (N, *S), the weights of the positions ("att");
        channel (N, C), the factors ("mul", "both"); added (N, C), what is added ("add", "both").
    Cost: 2·C·width weights a transform, C + 1 for the weighting; 2·C·P multiply-adds for "att". Two or three reads of
        the map and one write.
    Init: w He normal (fan in), b = 0; last layer of each transform 0, so "add" starts as the identity and "mul" as a
        factor of ½. The gradient of b is always 0: a softmax is independent of it.
    Raises: ValueError: int(C · ratio) = 0, unknown values, a map of another rank or width.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        ratio: float = 1 / 16,
        pooling: str = "att",
        fusion: str = "add",
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("gc", spatial_dims)
        one_of("gc", "pooling", pooling, ("att", "avg"))
        one_of("gc", "fusion", fusion, ("add", "mul", "both"))
        self.switch = Switch("gc", hard, keep, temperature, among=channels)
        if hard is not None and fusion == "add":
            raise ValueError(f"gc: hard goes with fusion='mul' or 'both', which have gates; got fusion={fusion!r}")
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not ratio > 0:
            raise ValueError(f"gc: ratio must be a positive number; got {ratio!r}")
        width = int(channels * ratio)
        if width < 1:
            raise ValueError(
                f"gc: int(channels · ratio) must be at least 1; got int({channels} · {ratio:g}) = {width}"
                f" (ratio={1 / channels:g} or more would do)"
            )
        self.spatial_dims, self.pooling, self.fusion = spatial_dims, pooling, fusion
        self.starts_as_identity = fusion == "add"
        if pooling == "att":
            self.mask = conv(spatial_dims)(channels, 1, 1)
            nn.init.kaiming_normal_(self.mask.weight, mode="fan_in", nonlinearity="relu")
            nn.init.zeros_(self.mask.bias)
        self.add = None if fusion == "mul" else Transform(channels, width)
        self.mul = None if fusion == "add" else Transform(channels, width)

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        transform = self.mul if self.add is None else self.add
        assert transform is not None
        return next(transform.parameters()).shape[1]

    def _context(self, x: AccumulatedMap) -> Tensor:
        if self.pooling == "avg":
            return global_pool(x, ("mean",))[0]
        if not _fused.is_plain_layer(self.mask):  # a fused pass would not run its hooks
            over, logits = axes(x.tensor), self.mask(x.tensor)
            weights = torch.exp(logits - logits.amax(over, keepdim=True))
            weights = weights / weights.sum(over, keepdim=True)
            context = (x.tensor * weights).sum(over)
            weights = weights.flatten(1)
        else:
            context, weights = attention_pool(x, self.mask.weight.flatten(), self.mask.bias)
        record(self, spatial=weights)
        return context

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("gc", x, self.channels, self.spatial_dims, next(self.parameters()))
        if self.switch.hard is None and (y := _fused.global_context(self, x)) is not None:
            return y
        accumulated = accumulate_gradient(x)
        context = self._context(accumulated)
        gate = added = None
        if self.mul is not None:
            gate = self.switch.gate(self.mul(context))
            record(self, channel=gate)
        if self.add is not None:
            added = self.add(context)
            record(self, added=added)
        return gate_map(accumulated, channel=gate, added=added)

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}, pooling={self.pooling!r}, fusion={self.fusion!r}"
