"""Attention, softmax(scale · q kᵀ) v, of every query over every key, without a map of the pairs.

Written plainly, the pairs' weights are held twice in the forward pass and twice more in the backward pass: at 112×112
positions four times 600 MiB. The fused form is torch's own kernel, which wants a certain layout and equal widths on a
CPU. The blocked form takes any device and widths: it goes through the pairs in blocks that fit a processor's cache
and keeps the logarithm of each query's normaliser, from which the backward pass computes the weights again.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from foveate.kernels import _attend_blocks, _blocks
from foveate.kernels._attend_blocks import reference

IMPLS = ("reference", "fused", "blocked")


# ---- fused: torch's kernel ------------------------------------------------------------------------------------------
def fused(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """As the reference. On a CPU the kernel wants values of a row side by side, on CUDA rows of 16 bytes."""
    width, lost = values.shape[-1], _lost(queries.detach(), keys.detach())
    if queries.is_cuda:
        queries, keys, values = (F.pad(t, (0, -t.shape[-1] % 8)) for t in (queries, keys, values))
    queries, keys, values = (_side_by_side(t) for t in (queries, keys, values))
    mixed = F.scaled_dot_product_attention(queries, keys, values, scale=scale)
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        mixed = _Fused.apply(mixed, queries, keys, values, scale)
    mixed = mixed[..., :width]
    return mixed + torch.where(lost, torch.nan, 0.0).to(mixed.dtype)


def _side_by_side(t: Tensor) -> Tensor:
    return t if t.stride(-1) == 1 else t.clone(memory_format=torch.contiguous_format)


def _lost(queries: Tensor, keys: Tensor) -> Tensor:
    """The queries (*B, P, 1) whose weights are NaN, where the kernel for CPUs can give 0 instead."""
    finite = keys.isfinite().all(-1, keepdim=True)
    spoilt = keys.isnan().any(-1, keepdim=True).any(-2, keepdim=True) | ~finite.any(-2, keepdim=True)
    return spoilt | ~queries.isfinite().all(-1, keepdim=True)


class _Fused(Function):
    """What torch's kernel gave. It has one derivative, of one gradient at a time; others are those of the blocks."""

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        ctx.save_for_backward(queries, keys, values)
        return mixed.view_as(mixed)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        (dout,) = given
        if not (torch.is_grad_enabled() or _blocks.is_batched(dout)):
            return dout, None, None, None, None
        tokens = ctx.saved_tensors
        dout, q, k, v = (t.reshape(-1, *t.shape[-2:]) for t in (dout.to(tokens[2].dtype), *tokens))
        gradients = _attend_blocks.gradients(dout, q, k, v, ctx.scale)
        return None, *(g.view_as(t) for g, t in zip(gradients, tokens, strict=True)), None


def blocked(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """As the reference, in parts, on any device. Deterministic."""
    given = _blocks.autocasted(queries, keys, values)
    out, _ = _attend_blocks.forward(*(t.reshape(-1, *t.shape[-2:]) for t in given), scale)
    return out.reshape(*queries.shape[:-1], -1)


# ---- dispatch -------------------------------------------------------------------------------------------------------
def why_not(impl: str, queries: Tensor, keys: Tensor, values: Tensor) -> str | None:
    """The reason why this form cannot run without a map of the pairs, or None if it can."""
    if impl == "reference":
        return None
    reason = _blocks.why_not(queries, keys, values)
    if impl == "blocked" or reason:
        return reason
    kind, dtype = queries.device.type, queries.dtype
    if kind not in ("cpu", "cuda"):
        return f"torch has a fused kernel for cpu and cuda, not for {kind}"
    if kind == "cuda" and dtype == torch.float64:
        return "torch's fused kernels on CUDA do not take float64"
    if kind == "cpu" and queries.shape[-1] != values.shape[-1]:
        return f"on a CPU it wants equal widths; queries have {queries.shape[-1]}, values {values.shape[-1]}"
    return None


def chosen(queries: Tensor, keys: Tensor, values: Tensor) -> str:
    """The form that runs unless one is asked for: fused, blocked, or for what neither takes the reference."""
    return next(impl for impl in ("fused", "blocked", "reference") if not why_not(impl, queries, keys, values))


def attend(
    queries: Float[Tensor, "n p hd"],
    keys: Float[Tensor, "n k hd"],
    values: Float[Tensor, "n k he"],
    *,
    heads: int = 1,
    scale: float | None = None,
    impl: str | None = None,
) -> Float[Tensor, "n p he"]:
    """softmax(scale · q kᵀ) v in each head, over tokens whose width is that of the heads side by side.

    Args:
        queries: (N, P, heads·d), floating, of any strides.
        keys: (N, K, heads·d), of the same dtype (under autocast, of any) and device.
        values: (N, K, heads·e).
        heads: number of heads.
        scale: factor of the logits. None: d ^ -1/2.
        impl: "reference" (holds the pairs), "fused" or "blocked". None: the first of fused and blocked that can run;
            an exporter is always given torch's operator, which others know.

    Returns: (N, P, heads·e), dtype of the inputs; under autocast, autocast's.
    Raises: ValueError: shapes or dtypes that do not fit, another impl. RuntimeError: an impl asked for by name that
        cannot run, and why.
    """
    _check(queries, keys, values, heads)
    q, k, v = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (queries, keys, values))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if impl is None and torch.compiler.is_exporting():
        mixed = F.scaled_dot_product_attention(q, k, v, scale=scale)
    else:
        if impl is None:
            impl = chosen(q, k, v)
        elif impl not in IMPLS:
            raise ValueError(f"attend: impl must be one of {', '.join(map(repr, IMPLS))} or None; got {impl!r}")
        elif reason := why_not(impl, q, k, v):
            raise RuntimeError(f"attend(impl={impl!r}): {reason}")
        mixed = {"reference": reference, "fused": fused, "blocked": blocked}[impl](q, k, v, scale)
    return mixed.transpose(1, 2).flatten(2)


def attention_weights(
    queries: Float[Tensor, "n p hd"], keys: Float[Tensor, "n k hd"], *, heads: int = 1, scale: float | None = None
) -> Float[Tensor, "n p k"]:
    """The weights that `attend` gives to the keys, of a few queries: the mean of the heads, in float32 or better."""
    scale = (queries.shape[-1] // heads) ** -0.5 if scale is None else scale
    if heads == 1:
        return _attend_blocks.weights(queries, keys, scale)
    q, k = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (queries, keys))
    return _attend_blocks.weights(q, k, scale).mean(1)


def _check(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> None:
    shapes = [tuple(t.shape) for t in (queries, keys, values)]
    if any(len(shape) != 3 for shape in shapes):
        raise ValueError(f"attend: wanted queries, keys and values as (N, tokens, width); got {shapes}")
    (n, _, d), (m, k, c), (o, q, e) = shapes
    if n != m or n != o or d != c or k != q:
        raise ValueError(
            f"attend: wanted queries (N, P, D), keys (N, K, D) and values (N, K, E); got {', '.join(map(str, shapes))}"
        )
    if not isinstance(heads, int) or heads < 1 or d % heads or e % heads:
        raise ValueError(f"attend: heads must divide the widths {d} and {e}; got heads={heads!r}")
    kinds = {t.dtype for t in (queries, keys, values)}
    if len(kinds) > 1 and not _blocks.autocasts(queries):
        raise ValueError(
            f"attend: wanted one dtype; got {', '.join(str(t.dtype) for t in (queries, keys, values))};"
            " convert them or use autocast"
        )
