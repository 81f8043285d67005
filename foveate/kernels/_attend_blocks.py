"""Attention in blocks of pairs that fit a processor's cache, with its first and second derivatives, as operators.

The forward pass keeps the logarithm of each query's normaliser, from which the others compute the weights again. With
S = scale · q kᵀ, the weights W = softmax(S), dW = dout vᵀ and D = Σ_j W dW (which is dout · out):

    dv = Wᵀ dout;  dS = W (dW − D);  dq = scale · dS k;  dk = scale · dSᵀ q

The gradient of these in a direction (tq, tk, tv) has the form of their own derivative along it. With a dot for that:

    Ṡ = scale · (tq kᵀ + q tkᵀ);  ȧ = Σ_j W Ṡ;  Ẇ = W (Ṡ − ȧ);  ȯ = Ẇ v + W tv
    d̈S = W ((Ṡ − ȧ)(dW − D) + dout tvᵀ − dout · ȯ)
    of dout: ȯ;  of q: scale · (d̈S k + dS tk);  of k: scale · (d̈Sᵀ q + dSᵀ tq);  of v: Ẇᵀ dout
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from foveate.kernels._blocks import (
    KEYS,
    QUERIES,
    empty_like,
    exponential_,
    folded,
    parts,
    plainly_twice,
    samples,
    uncast,
    wide,
)


def reference(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Of (*B, P, d), (*B, K, d), (*B, K, e) → (*B, P, e); the softmax in float32 or better."""
    return weights(queries, keys, scale).to(values.dtype) @ values


def weights(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """The map of the pairs itself, (*B, P, K)."""
    logits = queries @ keys.mT
    logits = logits if scale == 1 else logits * scale
    return torch.softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32))


@torch.library.custom_op("foveate::attend_blocks", mutates_args=())
def forward(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
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
                    exponential_(pairs.sub_(above))
                    shrink = exponential_(top.sub_(above))
                    total.mul_(shrink).add_(pairs.sum(-1, keepdim=True))
                    mean.mul_(shrink).baddbmm_(pairs, all_values[:, j])
                    top = above
                out[n, i] = mean.div_(total).to(out.dtype)
                norms[n, i] = total.log_().add_(top)
    return out, norms


@torch.library.custom_op("foveate::attend_blocks_backward", mutates_args=())
def backward(
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
                    weights = exponential_(torch.bmm(q[:, i], k[:, j].mT).sub_(norms[n, i]))
                    dv[:, j].baddbmm_(weights.mT, dy[:, i])
                    pairs = torch.bmm(dy[:, i], v[:, j].mT).sub_(mean[:, i]).mul_(weights)
                    dq[:, i].baddbmm_(pairs, k[:, j])
                    dk[:, j].baddbmm_(pairs.mT, q[:, i])
            for gradient, part in zip(gradients, (dq.mul_(scale), dk, dv), strict=True):
                gradient[n] = part.to(gradient.dtype)
    return gradients


@torch.library.custom_op("foveate::attend_blocks_twice", mutates_args=())
def twice(
    tq: Tensor,
    tk: Tensor,
    tv: Tensor,
    dout: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    out: Tensor,
    norms: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of dout, queries, keys and values from those of the three that the backward pass gives."""
    dtype = norms.dtype
    found = empty_like(dout), empty_like(queries), empty_like(keys), empty_like(values)
    with uncast(queries):
        for n in samples(len(queries), queries.shape[1], keys.shape[1]):
            given = (t[n].to(dtype) for t in (tq, tk, tv, dout, queries, keys, values, out))
            tq_, tk_, tv_, dy, q, k, v, y = given
            q, tq_ = q * scale, tq_ * scale
            sums = [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (y, q, k, v)]
            dy_, q_, k_, v_ = sums
            turn = torch.zeros_like(norms[n])  # ȧ
            pairs = [(i, j) for j in parts(keys.shape[1], KEYS) for i in parts(queries.shape[1], QUERIES)]
            for i, j in pairs:
                weights = exponential_(torch.bmm(q[:, i], k[:, j].mT).sub_(norms[n, i]))
                dy_[:, i].baddbmm_(weights, tv_[:, j])
                moved = torch.bmm(tq_[:, i], k[:, j].mT).baddbmm_(q[:, i], tk_[:, j].mT).mul_(weights)
                turn[:, i] += moved.sum(-1, keepdim=True)
                dy_[:, i].baddbmm_(moved, v[:, j])
            dy_.sub_(turn * y)
            mean, shift = ((dy * t).sum(-1, keepdim=True) for t in (y, dy_))
            for i, j in pairs:
                weights = exponential_(torch.bmm(q[:, i], k[:, j].mT).sub_(norms[n, i]))
                moved = torch.bmm(tq_[:, i], k[:, j].mT).baddbmm_(q[:, i], tk_[:, j].mT).sub_(turn[:, i])
                slope = torch.bmm(dy[:, i], v[:, j].mT).sub_(mean[:, i])
                bend = torch.bmm(dy[:, i], tv_[:, j].mT).sub_(shift[:, i]).addcmul_(moved, slope).mul_(weights)
                slope.mul_(weights)
                q_[:, i].baddbmm_(bend, k[:, j]).baddbmm_(slope, tk_[:, j])
                k_[:, j].baddbmm_(bend.mT, q[:, i]).baddbmm_(slope.mT, tq_[:, i])
                v_[:, j].baddbmm_(moved.mul_(weights).mT, dy[:, i])
            q_.mul_(scale)
            for whole, part in zip(found, sums, strict=True):
                whole[n] = part.to(whole.dtype)
    return found


@forward.register_fake
def _(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    norms = queries.new_empty((*queries.shape[:2], 1), dtype=wide(queries))
    return values.new_empty((*queries.shape[:2], values.shape[2])), norms


@backward.register_fake
def _(dout: Tensor, queries: Tensor, keys: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return empty_like(queries), empty_like(keys), empty_like(values)


@twice.register_fake
def _(tq: Tensor, tk: Tensor, tv: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dout, queries, keys, values = (empty_like(t) for t in given[:4])
    return dout, queries, keys, values


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *given, ctx.scale = inputs
    ctx.save_for_backward(*given, *output)


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *given, ctx.scale = inputs
    ctx.save_for_backward(*given)


def _first(ctx: Any, dout: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    return *backward(dout, *ctx.saved_tensors, ctx.scale), None


def _second(ctx: Any, *along: Tensor) -> tuple[Tensor | None, ...]:
    """All of it is put down to dout, queries, keys and values; what depends on them, out and norms, is given none."""
    if torch.is_grad_enabled():
        found = plainly_twice(lambda q, k, v: reference(q, k, v, ctx.scale), along, *ctx.saved_tensors[:4])
    else:
        found = twice(*along, *ctx.saved_tensors, ctx.scale)
    return *found, None, None, None


forward.register_autograd(_first, setup_context=_keep)
backward.register_autograd(_second, setup_context=_keep_inputs)
for operator in (forward, backward, twice):
    operator.register_vmap(folded(operator))


def gradients(dout: Tensor, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, ...]:
    """Of queries, keys and values, where the forward pass was another form's."""
    with torch.no_grad():
        out, norms = forward(queries, keys, values, scale)
    return backward(dout, queries, keys, values, out, norms, scale)


@register_flop_formula(torch.ops.foveate.attend_blocks)
def _forward_flops(queries: Any, keys: Any, values: Any, *_: Any, **__: Any) -> int:
    return 2 * queries[0] * queries[1] * keys[1] * (queries[2] + values[2])


@register_flop_formula(torch.ops.foveate.attend_blocks_backward)
def _backward_flops(dout: Any, queries: Any, keys: Any, values: Any, *_: Any, **__: Any) -> int:
    return 2 * queries[0] * queries[1] * keys[1] * (3 * queries[2] + 2 * values[2])


@register_flop_formula(torch.ops.foveate.attend_blocks_twice)
def _twice_flops(tq: Any, tk: Any, tv: Any, dout: Any, queries: Any, keys: Any, values: Any, *_: Any, **__: Any) -> int:
    return 2 * queries[0] * queries[1] * keys[1] * (10 * queries[2] + 5 * values[2])
