"""What each channel of a map holds, in one read: its mean, its maximum, the mean of its magnitude, its variance.

A maximum that several positions share belongs to the first of them, which takes the whole gradient; a NaN is the
maximum of its channel.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels._dispatch import Pass
from foveate.kernels._layout import computed, layout_of, run
from foveate.kernels.shared import Shared, share

KINDS = ("mean", "max", "magnitude", "variance")


# ---- reference ------------------------------------------------------------------------------------------------------
def reference(x: Tensor, kinds: Sequence[str]) -> list[Tensor]:
    flat = x.flatten(2)
    pools = {
        "mean": lambda: flat.mean(2),
        "max": lambda: flat.max(2).values,
        "magnitude": lambda: flat.abs().mean(2),
        "variance": lambda: (flat - flat.mean(2, keepdim=True)).square().mean(2),
    }
    return [pools[kind]() for kind in kinds]


# ---- cpu ------------------------------------------------------------------------------------------------------------
def _pooled_like(x: Tensor, kinds: list[str]) -> list[Tensor]:
    pooled = [x.new_empty(x.shape[:2], dtype=computed(x.dtype)) for _ in KINDS]
    return [*pooled, x.new_empty(x.shape[:2], dtype=torch.int32)]


# One tensor a kind, whether asked for or not (then it holds nothing of use), and the maximum's place in its plane.
_pool = Pass("plane_pools(Tensor x, str[] kinds) -> Tensor[]", _pooled_like)


@_pool.form("cpu")
def _pool_cpu(x: Tensor, kinds: list[str]) -> list[Tensor]:
    n, rows, columns, last = layout_of(x)
    mean, _, _, variance, at = pooled = _pooled_like(x, kinds)
    positions = x[0, 0].numel()
    want = {kind: tensor if kind in kinds else None for kind, tensor in zip(KINDS, pooled, strict=False)}
    place = at if "max" in kinds else None
    if last:
        run("column_sums", x, x, None, mean, want["max"], place, want["magnitude"], n, rows, columns)
    else:
        run("row_sums", x, x, None, mean, want["max"], place, want["magnitude"], want["variance"], n, rows, columns)
    mean.div_(positions)
    if last and "variance" in kinds:
        run("column_spread", x, x, mean, variance, n, rows, columns)
    for kind in ("magnitude", "variance"):
        if (sum_ := want[kind]) is not None:
            sum_.div_(positions)
    return pooled


# ---- gradient -------------------------------------------------------------------------------------------------------
class _Pool(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, shared: Shared, kinds: Sequence[str]) -> tuple[Tensor, ...]:
        *pooled, at = _pool(shared.impl, x, list(kinds))
        ctx.ledger, ctx.kinds = shared.ledger, kinds
        ctx.save_for_backward(x, pooled[0], at)
        return tuple(pooled[KINDS.index(kind)].to(x.dtype) for kind in kinds)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        x, mean, at = ctx.saved_tensors
        positions = x[0, 0].numel()
        terms = ctx.ledger.terms()
        for kind, d in zip(ctx.kinds, given, strict=True):
            d = d.to(computed(x.dtype))
            match kind:
                case "mean":
                    terms.even.append(d / positions)
                case "max":
                    terms.peak.append((at, d))
                case "magnitude":
                    terms.sign.append(d / positions)
                case "variance":
                    if torch.is_grad_enabled():
                        mean = x.flatten(2).mean(2)
                    terms.times_x.append(2 * d / positions)
                    terms.even.append(-2 * d / positions * mean)
        return None, given[0].new_zeros(()), None, None


# ---- dispatch -------------------------------------------------------------------------------------------------------
def pool_planes(x: Tensor | Shared, kinds: Sequence[str], *, impl: str | None = None) -> list[Tensor]:
    """Pool every channel of the map over its positions.

    Args:
        x: (N, C, *S), floating, or a shared map.
        kinds: any of "mean", "max", "magnitude" (mean of |x|), "variance" (biased).
        impl: see `share`.

    Returns: one (N, C) a kind, in x's dtype.
    Raises: ValueError: an unknown kind; what `share` raises.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"pool_planes: each kind must be one of {', '.join(map(repr, KINDS))}; got {kind!r}")
    shared = share(x, primitive="pool_planes", impl=impl)
    if shared.impl == "reference" or not _pool.has(shared.impl):
        return reference(shared.tensor, kinds)
    if shared.token is None:
        pooled = _pool(shared.impl, shared.tensor, list(kinds))
        return [pooled[KINDS.index(kind)].to(shared.tensor.dtype) for kind in kinds]
    return list(_Pool.apply(shared.tensor, shared.token, shared, tuple(kinds)))
