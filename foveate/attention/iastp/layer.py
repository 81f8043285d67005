"""The layer of interaction-aware spatio-temporal pyramid attention. arXiv:1808.01106.

No code was released and the paper leaves choices open; the deviations list ours.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import combinations
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from foveate.attention._budget import check_budget, keep_within, pairs_mib, tokens_mib, trains
from foveate.attention._capture import LazyAffinity, record
from foveate.attention._maps import check_dims, check_map, one_of
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.attention.iastp.losses import Losses, interactive_loss, squared_attention_loss
from foveate.kernels.pairs._blocks import parts

_AVERAGE: dict[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}
FUSIONS = ("sum", "mean", "max")
AT_ONCE = 2**24  # entries; a larger map of pairs is computed in parts of its rows

FACTS = Facts(
    title="Interaction-aware Spatio-temporal Pyramid Attention Networks for Action Classification",
    authors="Du, Yuan, Li, Zhao, Li, Hu",
    year=2018,
    source="ECCV 2018, arXiv:1808.01106",
    domain="self",
    equation="Y_j = W_j X_jᵀ + b_j;  a = softmax(F(Y₁, …, Y_N));  A = a / ‖a‖₂ by rows;  M = A X_N",
    parameters="n*(C + sum(shallower) + 1 + len(shallower))",
    macs="n*n*K*(C + sum(shallower)) + n*n*K*C",
    where={"n": "prod(size or [7]*d)", "K": "frames or 1"},
    deviations=(
        Deviation("axis of the softmax", "not given", "none released", "positions: each row of a is a distribution"),
        Deviation("fusion F", "not given", "none released", "fusion='sum' (default), 'mean' or 'max'"),
        Deviation("down-sampling R", "named, not defined", "none released", "adaptive average pooling"),
        Deviation(
            "other resolutions",
            "none: d = H·W fixes the weights to one",
            "none released",
            "pooled to size and the result back (adaptive average); resize=False refuses them",
        ),
        Deviation(
            "frames", "K frames to one map; K not given", "none released", "frames=K: (N, C, K, *S) → (N, C, *S)"
        ),
        Deviation(
            "bias b",
            "the mean of PCA's centring",
            "none released",
            "kept; under sum and mean fusion the softmax cancels it, so its gradient is zero",
        ),
        Deviation(
            "size of X in l_interactive",
            "−tr(A X Xᵀ Aᵀ)",
            "none released",
            "as the paper has it; normalize=True divides by tr(X Xᵀ), without which trained features grow",
        ),
        Deviation("initialisation", "not given", "none released", "W uniform in ±1/√C_j, b zero"),
        Deviation("losses over a batch", "one sample", "none released", "a value for each sample; their mean is meant"),
    ),
)


class _Attended(NamedTuple):
    x: Tensor  # (N, K·n, C)
    y: list[Tensor]  # each (N, n, K·n)
    softmax: Tensor  # (N, n, K·n)
    normed: Tensor  # (N, n, K·n)
    m: Tensor  # (N, n, C)


@register_attention("iastp", FACTS)
class InteractionAwarePyramid(nn.Module):
    """Rebuild each position of the map from all positions of all frames, with weights from all scales.

        X_j: scale j, down-sampled, its K·n positions as rows;  Y_j = W_j X_jᵀ + b_j
        a = softmax over positions of F(Y₁, …, Y_N);  A = a with rows of unit L2 norm;  M = A X_N

    After a forward pass in training, `losses()` gives the two loss terms.

    Args:
        channels: C of the current (deepest) map, which is attended to.
        spatial_dims: number of spatial axes of one frame, 1, 2 or 3.
        shallower: widths of the earlier maps of the pyramid, shallow to deep; none: one scale.
        size: positions along each axis that the attention works at, n in all; None: 7 along each. It fixes the
            weights; give the map's own size for the paper's layer.
        resize: whether a current map of another size is pooled to `size` and the result back; False refuses it.
        fusion: F, "sum", "mean" or "max" over the scales.
        frames: K of a clip (N, C, K, *S), whose frames become one map; "any": a clip of any K, as no weight
            depends on it; None: a map (N, C, *S).
        normalize: take X with a Frobenius norm of 1 in l_interactive, which lies between −n and n·(n − 1) then. The
            paper's has no least value: features that are trained with it grow without end.
        loss_factors: of l_interactive and l_attn in `losses()`; 0 leaves one out.
        attention_budget_mib: refuse maps for which X of each scale, M and the pairs in memory, in training those of
            `losses()`, would take more MiB than this. None: no bound.

    Shape: x, or [shallow, …, x], each (N, C_j, *S_j) or (N, C_j, K, *S_j) → (N, C, *S), dtype of x. Captured, for
        queries: affinity, rows of A (N, Q, K·n).
    Cost: n·(ΣC_j + N) parameters and n·n·K·(ΣC_j + C) multiply-adds a sample (N scales). More than 2²⁴
        pairs are computed in parts, and again in the backward pass, also by `losses()`: n·n·n·K/2 multiply-adds more.
    Init: W uniform in ±1/√C_j, b zero; the paper gives none.
    Raises: ValueError: unknown fusion, maps of other rank, width or number, another size with resize=False, maps
        over the budget.
        RuntimeError: losses() before a forward pass in training.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        shallower: Sequence[int] = (),
        size: Sequence[int] | None = None,
        resize: bool = True,
        fusion: str = "sum",
        frames: int | Literal["any"] | None = None,
        normalize: bool = False,
        loss_factors: Sequence[float] = (1.0, 1.0),
        attention_budget_mib: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("iastp", spatial_dims)
        one_of("iastp", "fusion", fusion, FUSIONS)
        self.size = torch.Size(size or (7,) * spatial_dims)
        if len(self.size) != spatial_dims or min(self.size) < 1:
            raise ValueError(f"iastp: size must have {spatial_dims} positive numbers; got {size!r}")
        if frames not in (None, "any") and (not isinstance(frames, int) or frames < 1):
            raise ValueError(f"iastp: frames must be a positive number, 'any' or None; got {frames!r}")
        check_budget("iastp", attention_budget_mib)
        if len(loss_factors) != 2 or min(loss_factors) < 0:
            raise ValueError(f"iastp: loss_factors must be two numbers of 0 or more; got {loss_factors!r}")
        self.attention_budget_mib, self.loss_factors = attention_budget_mib, tuple(loss_factors)
        self.spatial_dims = spatial_dims
        self.resize, self.fusion, self.frames, self.normalize = resize, fusion, frames, normalize
        n, widths = self.size.numel(), (*shallower, channels)
        self.W = nn.ParameterList(torch.empty(n, width).uniform_(-1, 1) / width**0.5 for width in widths)
        self.b = nn.ParameterList(torch.zeros(n) for _ in widths)
        self._last: Callable[[], Losses] | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the maps, shallow to deep, read from the weights."""
        return tuple(weight.shape[1] for weight in self.W)

    def _check(self, maps: Sequence[Tensor]) -> None:
        if len(maps) != len(self.widths):
            raise ValueError(
                f"iastp: wanted {len(self.widths)} maps, shallow to deep, of {self.widths} channels; got {len(maps)}"
            )
        for x, width in zip(maps, self.widths, strict=True):
            check_map("iastp", x, width, self.spatial_dims + (self.frames is not None), self.W[0])
            if isinstance(self.frames, int) and x.shape[2] != self.frames:
                raise ValueError(f"iastp: wanted {self.frames} frames (frames=); got a clip {tuple(x.shape)}")
            if x.shape[0] != maps[-1].shape[0]:
                raise ValueError(f"iastp: wanted maps of one batch; got {[m.shape[0] for m in maps]} samples")
        if not self.resize and maps[-1].shape[-self.spatial_dims :] != self.size:
            raise ValueError(
                f"iastp: wanted a map of size {tuple(self.size)} (resize=False); got {tuple(maps[-1].shape)}"
            )

    def _pool(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """R: adaptive average pooling of (N, C, *S); nothing where the size is the same."""
        if x.shape[2:] == torch.Size(size):
            return x
        return _AVERAGE[self.spatial_dims](x, tuple(size))

    def _positions(self, x: Tensor) -> Float[Tensor, "n p c"]:
        """X: (N, K·n, C), frame after frame."""
        if self.frames is None:
            return self._pool(x, self.size).flatten(2).mT
        frames = self._pool(x.transpose(1, 2).flatten(0, 1), self.size).unflatten(0, (-1, x.shape[2]))
        return frames.flatten(3).transpose(2, 3).flatten(1, 2)

    @staticmethod
    def _rows_at_once(samples: int, keys: int, rows: int) -> int:
        """Rows of the map of pairs in memory: parts of about equal size, of at most AT_ONCE entries."""
        most = max(AT_ONCE // (samples * keys or 1), 1)
        return math.ceil(rows / math.ceil(rows / most))

    def _keep_within_budget(self, maps: Sequence[Tensor]) -> None:
        x, training, scales = maps[-1], trains(self, maps[-1]), len(maps)
        maps_in_memory = 5 * scales + 10 if training else 2 * scales + 2  # maps of pairs, as measured

        def need(size: Sequence[int]) -> float:
            n, keys = math.prod(size), math.prod(size) * (x.shape[2] if self.frames is not None else 1)
            tokens = keys * sum(self.widths) + n * self.widths[-1]
            rows = self._rows_at_once(len(x), keys, n)
            return tokens_mib(len(x), tokens, x, training) + pairs_mib(len(x), rows, keys, x, maps_in_memory)

        keep_within("iastp", self.attention_budget_mib, self.size, need, {}, "size")

    def _weights(self, positions: list[Tensor], rows: slice | Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """For these rows: Y of each scale, a (softmax) and A (normed)."""
        y = [w[rows] @ p.mT + b[rows, None] for w, b, p in zip(self.W, self.b, positions, strict=True)]
        fused = reduce(torch.maximum if self.fusion == "max" else torch.add, y)
        softmax = torch.softmax(fused / len(y) if self.fusion == "mean" else fused, -1)
        return y, softmax, F.normalize(softmax, dim=-1)

    def _whole(self, positions: list[Tensor]) -> _Attended:
        y, softmax, normed = self._weights(positions, slice(None))
        return _Attended(positions[-1], y, softmax, normed, normed @ positions[-1])

    def _part(self, rows: slice, *positions: Tensor) -> Tensor:
        """These rows of M."""
        return self._weights(list(positions), rows)[2] @ positions[-1]

    def _all_positions(self, x: Tensor | Sequence[Tensor]) -> list[Tensor]:
        maps = [x] if isinstance(x, Tensor) else list(x)
        self._check(maps)
        if self.attention_budget_mib is not None:
            self._keep_within_budget(maps)
        return [self._positions(one) for one in maps]

    def attend(self, x: Tensor | Sequence[Tensor]) -> _Attended:
        """All intermediate results: X of the current map, Y of each scale, a (softmax), A (normed) and M."""
        return self._whole(self._all_positions(x))

    def _losses_of(self, x: Tensor, y: list[Tensor], softmax: Tensor, normed: Tensor) -> tuple[Tensor, Tensor]:
        """l_interactive, and the square of l_attn."""
        if self.normalize:
            x = F.normalize(x.flatten(1), dim=1).view_as(x)
        return interactive_loss(normed, x), squared_attention_loss(softmax, (torch.softmax(one, -1) for one in y))

    def _whole_losses(self, seen: _Attended) -> Losses:
        interactive, alike = self._losses_of(*seen[:4])
        return Losses(interactive, alike.sqrt())

    def _rows_losses(self, rows: slice, *positions: Tensor) -> tuple[Tensor, Tensor]:
        """The terms of these rows alone in l_interactive, and in the square of l_attn."""
        return self._losses_of(positions[-1], *self._weights(list(positions), rows))

    def _between(self, rows: slice, others: slice, *positions: Tensor) -> Tensor:
        """The terms of the products of these rows with the others in l_interactive; each pair is in A Aᵀ twice."""
        a, b = (self._weights(list(positions), part)[2] for part in (rows, others))
        return 2 * (a @ b.mT).square().sum((-2, -1))

    def _losses_in_parts(self, parts: list[slice], positions: list[Tensor]) -> Losses:
        """The losses, with the weights of two parts in memory at a time."""
        again = partial(checkpoint, use_reentrant=False)
        alone = [again(self._rows_losses, rows, *positions) for rows in parts]
        between = [again(self._between, a, b, *positions) for a, b in combinations(parts, 2)]
        interactive, alike = zip(*alone, strict=True)
        return Losses(reduce(torch.add, (*interactive, *between)), reduce(torch.add, alike).sqrt())

    def forward(self, x: Float[Tensor, "n c *s"] | Sequence[Tensor]) -> Float[Tensor, "n c *t"]:
        positions = self._all_positions(x)
        record(self, affinity=LazyAffinity(self.size, lambda index: self._weights(positions, index)[2]))
        rows = self._rows_at_once(len(positions[-1]), positions[-1].shape[1], self.size.numel())
        if torch.compiler.is_compiling() or rows == self.size.numel():
            seen = self._whole(positions)
            m, later = seen.m, partial(self._whole_losses, seen)
        else:
            cut = parts(self.size.numel(), rows)
            m = torch.cat([checkpoint(self._part, some, *positions, use_reentrant=False) for some in cut], 1)
            later = partial(self._losses_in_parts, cut, positions)
        if self.training and not torch.compiler.is_exporting():
            self._last = later
        current = x if isinstance(x, Tensor) else x[-1]
        return self._pool(m.mT.unflatten(2, self.size), current.shape[-self.spatial_dims :])

    def losses(self) -> Losses:
        """l_interactive and l_attn of the last forward pass in training, a value for each sample."""
        if self._last is None:
            raise RuntimeError("iastp: no losses yet; they are kept from a forward pass in training mode")
        return Losses(*(factor * loss for factor, loss in zip(self.loss_factors, self._last(), strict=True)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}  # the last pass belongs to its graph, which is not copied

    def extra_repr(self) -> str:
        return f"{self.widths}, size={tuple(self.size)}, fusion={self.fusion!r}, frames={self.frames}"
