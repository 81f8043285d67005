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
from torch.utils.flop_counter import register_flop_formula

from foveate.kernels import _blocks
from foveate.kernels._blocks import KEYS, QUERIES, autocasted, empty_like, parts, samples, uncast, wide

IMPLS = ("reference", "fused", "blocked")


# ---- reference: the meaning of the operation ------------------------------------------------------------------------
def reference(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Of (*B, P, d), (*B, K, d), (*B, K, e) → (*B, P, e); the softmax in float32 or better."""
    logits = queries @ keys.mT
    weights = torch.softmax(logits * scale, -1, dtype=torch.promote_types(logits.dtype, torch.float32))
    return weights.to(values.dtype) @ values


# ---- fused: torch's kernel ------------------------------------------------------------------------------------------
def fused(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """As the reference. On a CPU the kernel wants values of a row side by side, on CUDA rows of 16 bytes."""
    width, lost = values.shape[-1], _lost(queries.detach(), keys.detach())
    if queries.is_cuda:
        queries, keys, values = (F.pad(t, (0, -t.shape[-1] % 8)) for t in (queries, keys, values))
    queries, keys, values = (_side_by_side(t) for t in (queries, keys, values))
    mixed = F.scaled_dot_product_attention(queries, keys, values, scale=scale)[..., :width]
    return mixed + torch.where(lost, torch.nan, 0.0).to(mixed.dtype)


def _side_by_side(t: Tensor) -> Tensor:
    return t if t.stride(-1) == 1 else t.clone(memory_format=torch.contiguous_format)


def _lost(queries: Tensor, keys: Tensor) -> Tensor:
    """The queries (*B, P, 1) whose weights are NaN, where the kernel for CPUs can give 0 instead."""
    finite = keys.isfinite().all(-1, keepdim=True)
    spoilt = keys.isnan().any(-1, keepdim=True).any(-2, keepdim=True) | ~finite.any(-2, keepdim=True)
    return spoilt | ~queries.isfinite().all(-1, keepdim=True)


# ---- blocked: the same in parts, on any device ----------------------------------------------------------------------
def blocked(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """As the reference. Deterministic; first derivatives only."""
    out, _ = _attend_blocks(*(t.reshape(-1, *t.shape[-2:]) for t in autocasted(queries, keys, values)), scale)
    return out.reshape(*queries.shape[:-1], -1)


@torch.library.custom_op("foveate::attend_blocks", mutates_args=())
def _attend_blocks(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """(B, P, d), (B, K, d), (B, K, e) → the response (B, P, e) and the logarithms of the normalisers (B, P, 1)."""
    dtype = wide(queries)
    out = values.new_empty(*queries.shape[:2], values.shape[2])
    norms = queries.new_empty(*queries.shape[:2], 1, dtype=dtype)
    least = torch.finfo(dtype).min
    with uncast(queries):
        for n in samples(len(queries), queries.shape[1], keys.shape[1]):
            all_keys, all_values = keys[n].to(dtype).mT, values[n].to(dtype)
            for i in parts(queries.shape[1], QUERIES):
                some = queries[n, i].to(dtype) * scale
                top = norms.new_full((*some.shape[:2], 1), least)
                total, mean = torch.zeros_like(top), all_values.new_zeros(*some.shape[:2], values.shape[2])
                for j in parts(keys.shape[1], KEYS):
                    pairs = torch.bmm(some, all_keys[:, :, j])
                    above = torch.maximum(top, pairs.amax(-1, keepdim=True))
                    pairs.sub_(above).exp_()
                    shrink = top.sub_(above).exp_()
                    total.mul_(shrink).add_(pairs.sum(-1, keepdim=True))
                    mean.mul_(shrink).baddbmm_(pairs, all_values[:, j])
                    top = above
                out[n, i] = mean.div_(total).to(out.dtype)
                norms[n, i] = total.log_().add_(top)
    return out, norms


@torch.library.custom_op("foveate::attend_blocks_backward", mutates_args=())
def _attend_blocks_backward(
    dout: Tensor, queries: Tensor, keys: Tensor, values: Tensor, out: Tensor, norms: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = norms.dtype
    gradients = empty_like(queries), empty_like(keys), empty_like(values)
    with uncast(queries):
        for n in samples(len(queries), queries.shape[1], keys.shape[1]):
            q, k, v, dy = (t[n].to(dtype) for t in (queries, keys, values, dout))
            dq, dk, dv = (torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (q, k, v))
            q = q * scale
            mean = (dy * out[n].to(dtype)).sum(-1, keepdim=True)
            for j in parts(keys.shape[1], KEYS):
                for i in parts(queries.shape[1], QUERIES):
                    weights = torch.bmm(q[:, i], k[:, j].mT).sub_(norms[n, i]).exp_()
                    dv[:, j].baddbmm_(weights.mT, dy[:, i])
                    pairs = torch.bmm(dy[:, i], v[:, j].mT).sub_(mean[:, i]).mul_(weights)
                    dq[:, i].baddbmm_(pairs, k[:, j])
                    dk[:, j].baddbmm_(pairs.mT, q[:, i])
            for gradient, part in zip(gradients, (dq.mul_(scale), dk, dv), strict=True):
                gradient[n] = part.to(gradient.dtype)
    return gradients


@_attend_blocks.register_fake
def _(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    norms = queries.new_empty((*queries.shape[:2], 1), dtype=wide(queries))
    return values.new_empty((*queries.shape[:2], values.shape[2])), norms


@_attend_blocks_backward.register_fake
def _(dout: Tensor, queries: Tensor, keys: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return empty_like(queries), empty_like(keys), empty_like(values)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *given, ctx.scale = inputs
    ctx.save_for_backward(*given, *output)


def _backward(ctx: Any, dout: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    return *_attend_blocks_backward(dout, *ctx.saved_tensors, ctx.scale), None


_attend_blocks.register_autograd(_backward, setup_context=_keep)


@register_flop_formula(torch.ops.foveate.attend_blocks)
def _forward_flops(queries: Any, keys: Any, values: Any, *_: Any, **__: Any) -> int:
    return 2 * queries[0] * queries[1] * keys[1] * (queries[2] + values[2])


@register_flop_formula(torch.ops.foveate.attend_blocks_backward)
def _backward_flops(dout: Any, queries: Any, keys: Any, values: Any, *_: Any, **__: Any) -> int:
    return 2 * queries[0] * queries[1] * keys[1] * (3 * queries[2] + 2 * values[2])


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
