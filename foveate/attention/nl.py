"""Non-local neural networks. arXiv:1711.07971."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._budget import blocks_mib, check_budget, keep_within, tokens_mib, trains
from foveate.attention._capture import LazyAffinity, record
from foveate.attention._maps import batch_norm, check_dims, check_map, conv, one_of
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.kernels import attend, attention_weights, sum_relu

FORMS = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")
_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}

FACTS = Facts(
    title="Non-local Neural Networks",
    authors="Wang, Girshick, Gupta, He",
    year=2018,
    source="CVPR 2018, arXiv:1711.07971",
    domain="self",
    equation="y = x + BN(W_z [Σ_j f(x_i, x_j) g(x_j) / 𝒞]_i)",
    parameters="C*w + w + embedded*2*(C*w + w) + (form == 'concatenation')*2*w + w*C + out_bias*C + norm*2*C",
    macs="embedded*C*w*(P + projected) + C*w*projected + w*C*P + pairs",
    where={
        "w": "width or max(C // 2, 1)",
        "embedded": "form != 'gaussian'",
        "window": "1 if not sub_sample else 2**min(d, 2) if sub_sample is True else prod(sub_sample)",
        "pooled": "P // window",
        "K": "pooled // max(S[0] // group_frames, 1) if group_frames else pooled",
        "first": "variant == 'official' if pool_first is None else pool_first",
        "projected": "pooled if first else P",
        "pairs": "{'embedded_gaussian': 2*P*K*w, 'gaussian': P*K*(C + w), 'dot_product': (P + pooled)*w*w,"
        " 'concatenation': P*K*w + (P + pooled)*w}[form]",
    },
    deviations=(
        Deviation(
            "scale of the softmax logits",
            "none",
            "inner width ^ -1/2 (Caffe2, SlowFast; mmcv for embedded only); none in AlexHex7's",
            "variant decides; scale= overrides",
        ),
        Deviation(
            "order of pooling and 1×1 convolutions",
            "max pooling after φ and g in the text, before them in the formula",
            "max-pool x, then convolve (Caffe2, SlowFast); the other way round (AlexHex7, mmcv)",
            "variant decides (paper: its text); pool_first= overrides",
        ),
        Deviation("sub-sampling", "a trick, off unless said", "on (AlexHex7, configurations), off (mmcv)", "off"),
        Deviation("first weights", "He", "N(0, 0.01), biases 0 (Caffe2, mmcv)", "variant decides"),
        Deviation("smallest inner width", "C/2", "C // 2, at least 1", "as released; width= overrides"),
        Deviation("pool window larger than the map", "—", "an error", "the window is cut to the map"),
        Deviation(
            "dot product", "every pair", "every pair: N×N", "θ(φᵀg): the same sum in another order, no pair stored"
        ),
        Deviation(
            "concatenation",
            "ReLU(w_f [θ, φ])",
            "every pair of vectors stored; cannot be trained in mmcv with torch 2.15",
            "w_f in two: ReLU(a_i + b_j), pairs in blocks",
        ),
    ),
)


@register_attention("nl", FACTS)
class NonLocal(nn.Module):
    """Add to each position a weighted mean over all positions.

        y = x + BN(W_z z),  z_i = Σ_j f(x_i, x_j) g(x_j) / 𝒞

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3; in a clip (D, H, W) the first is time.
        form: f and its normaliser. "embedded_gaussian" softmax over j of θ(x_i)·φ(x_j); "gaussian" softmax of x_i·x_j;
            "dot_product" θ(x_i)·φ(x_j) / N'; "concatenation" ReLU(w_f·[θ(x_i), φ(x_j)]) / N' (N' keys).
        width: inner channels of θ, φ and g, above which the rank of θᵀφ cannot be. None: C // 2, at least 1.
        sub_sample: max-pool the keys and values: True by 2 along each axis but time, or a window such as (1, 2, 2).
        group_frames: of clips: a position looks at its run of this many frames alone, as in the release for long clips
            (4). A longer clip must have a multiple of it. None: at the whole clip.
        pool_first: pool x and then convolve, or convolve and then pool: not the same function. None: as `variant`.
        scale: divide the softmax's logits by the root of the vectors' length. None: as `variant`, embedded form only.
        norm: batch norm after the last convolution.
        out_bias: bias of the last convolution (mmcv leaves it out beside a norm).
        attention_budget_mib: refuse a map for which queries, keys, values, response and the pairs in memory, in
            training with their gradients, take more MiB than this. None: no bound.
        variant: "official" (default: scaled, pool first, weights N(0, 0.01)) or "paper" (unscaled, convolve first, He).

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Affinity rows on demand: (N, queries, N').
    Cost: 4·C·w weights (w the width) and as many multiply-adds a position; N·N' pairs of 2·w multiply-adds, which the
        dot product saves. Softmax in float32 or better; no form stores the N×N' map, forward or backward.
    Init: the last norm's weight and bias 0, or without norm the last convolution's: the identity.
    Raises: ValueError: an unknown form or variant, a width below 1, a window of another length, a scale or an order of
        pooling where there is nothing to scale or pool, a map of another rank or width, one over the budget.
    """

    starts_as_identity = True

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        form: str = "embedded_gaussian",
        width: int | None = None,
        sub_sample: bool | Sequence[int] = False,
        group_frames: int | None = None,
        pool_first: bool | None = None,
        scale: bool | None = None,
        norm: bool = True,
        out_bias: bool = True,
        attention_budget_mib: float | None = None,
        variant: str = "official",
    ) -> None:
        super().__init__()
        check_dims("nl", spatial_dims)
        one_of("nl", "form", form, FORMS)
        one_of("nl", "variant", variant, ("official", "paper"))
        width = max(channels // 2, 1) if width is None else width
        if not isinstance(width, int) or width < 1:
            raise ValueError(f"nl: width must be a positive whole number; got {width!r}")
        if scale and form not in FORMS[:2]:
            raise ValueError(f"nl: scale=True needs a softmax form (gaussian, embedded_gaussian); got form={form!r}")
        if pool_first is not None and not sub_sample:
            raise ValueError(f"nl: pool_first={pool_first} orders nothing without sub_sample=True")
        if group_frames is not None and (spatial_dims != 3 or not isinstance(group_frames, int) or group_frames < 1):
            raise ValueError(f"nl: group_frames goes with spatial_dims=3 and is 1 or more; got {group_frames!r}")
        check_budget("nl", attention_budget_mib)
        self.attention_budget_mib = attention_budget_mib
        official = variant == "official"
        self.spatial_dims, self.form, self.group_frames = spatial_dims, form, group_frames
        self.window = _window(sub_sample, spatial_dims)
        self.pool_first = official if pool_first is None else pool_first
        self.scaled = (official and form == "embedded_gaussian") if scale is None else scale
        layer = conv(spatial_dims)
        self.g = layer(channels, width, 1)
        self.theta = None if form == "gaussian" else layer(channels, width, 1)
        self.phi = None if form == "gaussian" else layer(channels, width, 1)
        self.join = nn.Parameter(torch.empty(2 * width)) if form == "concatenation" else None
        self.out = layer(width, channels, 1, bias=out_bias)
        self.norm = batch_norm(spatial_dims)(channels) if norm else None
        self._start(official)

    def _start(self, official: bool) -> None:
        for layer in (self.g, self.theta, self.phi, self.out):
            if layer is not None:
                if official:
                    nn.init.normal_(layer.weight, std=0.01)
                else:
                    nn.init.kaiming_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        if self.join is not None:
            nn.init.normal_(self.join, std=0.01 if official else math.sqrt(2 / len(self.join)))
        last = self.out if self.norm is None else self.norm
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.g.in_channels

    @property
    def scale(self) -> float:
        """Of the products of queries and keys: 1/√(their width), read from the weights, or 1."""
        width = self.channels if self.theta is None else self.theta.out_channels
        return width**-0.5 if self.scaled else 1.0

    def _pool(self, x: Tensor) -> Tensor:
        if self.window is None:
            return x
        return _POOL[self.spatial_dims](x, tuple(min(w, s) for w, s in zip(self.window, x.shape[2:], strict=True)))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, P, w), keys and values (N, N', w); the gaussian form's queries and keys keep all C channels."""
        source = self._pool(x) if self.pool_first else x
        queries = x if self.theta is None else self.theta(x)
        keys = source if self.phi is None else self.phi(source)
        values = self.g(source)
        if not self.pool_first:
            keys, values = self._pool(keys), self._pool(values)
        return queries.flatten(2).mT, keys.flatten(2).mT, values.flatten(2).mT

    def _terms(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """a (N, P, 1) and b (N, 1, N') of the concatenation form."""
        assert self.join is not None
        for_queries, for_keys = self.join.to(queries.dtype).chunk(2)
        return queries @ for_queries[:, None], (keys @ for_keys[:, None]).mT

    def _rows(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The normalised pairwise map f / 𝒞 of these queries, (N, Q, N')."""
        if self.form == "concatenation":
            a, b = self._terms(queries, keys)
            return torch.relu(a + b) / keys.shape[1]
        if self.form == "dot_product":
            return queries @ keys.mT / keys.shape[1]
        return attention_weights(queries, keys, scale=self.scale)

    def _respond(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Σ_j f g / 𝒞, (N, P, w), without the whole pairwise map."""
        if self.form == "dot_product":
            return queries @ (keys.mT @ (values / keys.shape[1]))
        if self.form == "concatenation":
            a, b = self._terms(queries, keys)
            return sum_relu(a, b, values / keys.shape[1])
        return attend(queries, keys, values, scale=self.scale)

    def _keep_within_budget(self, x: Tensor) -> None:
        training = trains(self, x)

        def need(sides: Sequence[int], form: str = self.form, sub_sample: bool | None = None) -> float:
            window = self.window if sub_sample is None else _window(sub_sample, self.spatial_dims)
            queries = math.prod(sides)
            keys = math.prod(side // min(w, side) for side, w in zip(sides, window or (1,) * len(sides), strict=True))
            affine = self.channels if form == "gaussian" else self.g.out_channels
            tokens = (queries + keys) * (affine + self.g.out_channels)
            pairs = 0.0 if form == "dot_product" else blocks_mib(len(x), queries, keys, x, training)
            return tokens_mib(len(x), tokens, x, training) + pairs

        changes: dict[str, dict[str, Any]] = {}
        if self.window is None:
            changes["sub_sample=True"] = {"sub_sample": True}
        if self.form != "dot_product":
            changes["form='dot_product'"] = {"form": "dot_product"}
        keep_within("nl", self.attention_budget_mib, x.shape[2:], need, changes)

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("nl", x, self.channels, self.spatial_dims, self.g.weight)
        if self.group_frames is None or x.shape[2] <= self.group_frames:
            return self._attended(x)
        if x.shape[2] % self.group_frames:
            raise ValueError(f"nl: wanted a multiple of {self.group_frames} frames (group_frames); got {x.shape[2]}")
        groups = x.unflatten(2, (-1, self.group_frames)).transpose(1, 2)
        return self._attended(groups.flatten(0, 1)).unflatten(0, groups.shape[:2]).transpose(1, 2).flatten(2, 3)

    def _attended(self, x: Tensor) -> Tensor:
        if self.attention_budget_mib is not None:
            self._keep_within_budget(x)
        queries, keys, values = self._project(x)
        record(self, affinity=LazyAffinity(x.shape[2:], lambda at: self._rows(queries[:, at], keys)))
        response = self.out(self._respond(queries, keys, values).mT.unflatten(2, x.shape[2:]))
        return x + (response if self.norm is None else self.norm(response))

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}, form={self.form!r}, window={self.window}"


def _window(sub_sample: bool | Sequence[int], spatial_dims: int) -> tuple[int, ...] | None:
    """The pooling window, never along time unless it is given; None for no pooling."""
    if isinstance(sub_sample, bool):
        return ((1, 2, 2) if spatial_dims == 3 else (2,) * spatial_dims) if sub_sample else None
    window = tuple(sub_sample)
    if len(window) != spatial_dims or any(not isinstance(w, int) or w < 1 for w in window):
        raise ValueError(f"nl: sub_sample must be True, False or {spatial_dims} whole numbers; got {sub_sample!r}")
    return window if max(window) > 1 else None
