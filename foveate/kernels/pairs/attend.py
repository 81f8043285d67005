"""Attention, softmax(scale · q kᵀ) v, of every query over every key, without a map of the pairs.

In plain torch the weights of the pairs take memory twice in the forward and twice in the backward pass: four times
600 MiB at 112×112 positions. The fused form is torch's own kernel, which requires a certain layout and, on a CPU, equal
widths. The blocked form takes any device and width: it computes the pairs in blocks that fit a processor's cache and
stores the logarithm of each query's normaliser, from which the backward pass recomputes the weights. With
S = scale · q kᵀ, W = softmax(S), dW = dout vᵀ and D = Σ_j W dW (which is dout · out):

    dv = Wᵀ dout;  dS = W (dW − D);  dq = scale · dS k;  dk = scale · dSᵀ q

The derivative of these along a direction (tq, tk, tv), written with a dot, gives the second derivatives:

    Ṡ = scale · (tq kᵀ + q tkᵀ);  ȧ = Σ_j W Ṡ;  Ẇ = W (Ṡ − ȧ);  ȯ = Ẇ v + W tv
    d̈S = W ((Ṡ − ȧ)(dW − D) + dout tvᵀ − dout · ȯ)
    of dout: ȯ;  of q: scale · (d̈S k + dS tk);  of k: scale · (d̈Sᵀ q + dSᵀ tq);  of v: Ẇᵀ dout
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.utils.flop_counter import register_flop_formula

from foveate.kernels.pairs._blocks import (
    KEYS,
    QUERIES,
    autocasted,
    autocasts,
    empty_like,
    exponential_,
    folded,
    is_batched,
    parts,
    reference_twice,
    samples,
    uncast,
    wide,
)
from foveate.kernels.pairs._blocks import why_not as blocks_why_not

IMPLS = ("reference", "fused", "blocked")


# ---- reference ------------------------------------------------------------------------------------------------------
def reference(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """(*B, P, d), (*B, K, d), (*B, K, e) → (*B, P, e); the softmax in float32 or better."""
    return _weights(queries, keys, scale).to(values.dtype) @ values


def _weights(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """The weights of all pairs, (*B, P, K)."""
    logits = queries @ keys.mT
    logits = logits if scale == 1 else logits * scale
    return torch.softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32))


# ---- blocked: pairs in blocks, with their first and second derivatives, as operators --------------------------------
@torch.library.custom_op("foveate::attend_blocks", mutates_args=())
def _blocks_forward(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
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
def _blocks_backward(
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
def _blocks_twice(
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
    """Gradients of dout, queries, keys and values, from those of the backward pass's three results."""
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


@_blocks_forward.register_fake
def _(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    norms = queries.new_empty((*queries.shape[:2], 1), dtype=wide(queries))
    return values.new_empty((*queries.shape[:2], values.shape[2])), norms


@_blocks_backward.register_fake
def _(dout: Tensor, queries: Tensor, keys: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return empty_like(queries), empty_like(keys), empty_like(values)


@_blocks_twice.register_fake
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
    return *_blocks_backward(dout, *ctx.saved_tensors, ctx.scale), None


def _second(ctx: Any, *along: Tensor) -> tuple[Tensor | None, ...]:
    """All gradient goes to dout, queries, keys and values; out and norms, which depend on these, receive None."""
    if torch.is_grad_enabled():
        found = reference_twice(lambda q, k, v: reference(q, k, v, ctx.scale), along, *ctx.saved_tensors[:4])
    else:
        found = _blocks_twice(*along, *ctx.saved_tensors, ctx.scale)
    return *found, None, None, None


_blocks_forward.register_autograd(_first, setup_context=_keep)
_blocks_backward.register_autograd(_second, setup_context=_keep_inputs)
for operator in (_blocks_forward, _blocks_backward, _blocks_twice):
    operator.register_vmap(folded(operator))


def _blocks_gradients(dout: Tensor, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, ...]:
    """Gradients of queries, keys and values after a forward pass of another form."""
    with torch.no_grad():
        out, norms = _blocks_forward(queries, keys, values, scale)
    return _blocks_backward(dout, queries, keys, values, out, norms, scale)


@register_flop_formula(torch.ops.foveate.attend_blocks)
def _forward_flops(queries: Any, keys: Any, values: Any, *_: Any, **__: Any) -> int:
    return 2 * queries[0] * queries[1] * keys[1] * (queries[2] + values[2])


@register_flop_formula(torch.ops.foveate.attend_blocks_backward)
def _backward_flops(dout: Any, queries: Any, keys: Any, values: Any, *_: Any, **__: Any) -> int:
    return 2 * queries[0] * queries[1] * keys[1] * (3 * queries[2] + 2 * values[2])


@register_flop_formula(torch.ops.foveate.attend_blocks_twice)
def _twice_flops(tq: Any, tk: Any, tv: Any, dout: Any, queries: Any, keys: Any, values: Any, *_: Any, **__: Any) -> int:
    return 2 * queries[0] * queries[1] * keys[1] * (10 * queries[2] + 5 * values[2])


# ---- fused: torch's kernel ------------------------------------------------------------------------------------------
def fused(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """As the reference. The kernel requires contiguous rows, on CUDA rows of a multiple of 16 bytes."""
    width, nan_queries = values.shape[-1], _nan_queries(queries.detach(), keys.detach())
    if queries.is_cuda:
        queries, keys, values = (F.pad(t, (0, -t.shape[-1] % 8)) for t in (queries, keys, values))
    queries, keys, values = (_contiguous_rows(t) for t in (queries, keys, values))
    mixed = F.scaled_dot_product_attention(queries, keys, values, scale=scale)
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        mixed = _Fused.apply(mixed, queries, keys, values, scale)
    mixed = mixed[..., :width]
    return mixed + torch.where(nan_queries, torch.nan, 0.0).to(mixed.dtype)


def _contiguous_rows(t: Tensor) -> Tensor:
    return t if t.stride(-1) == 1 else t.clone(memory_format=torch.contiguous_format)


def _nan_queries(queries: Tensor, keys: Tensor) -> Tensor:
    """The queries (*B, P, 1) whose weights are NaN; the CPU kernel can return 0 for these."""
    finite = _finite_rows(keys)
    spoilt = keys.isnan().any(-1, keepdim=True).any(-2, keepdim=True) | ~finite.any(-2, keepdim=True)
    return spoilt | ~_finite_rows(queries)


def _finite_rows(t: Tensor) -> Tensor:
    """Rows (*B, P, 1) of finite numbers: times 0 they sum to 0, others to NaN. Ten times as fast as `isfinite`."""
    return t.mul(0).sum(-1, keepdim=True) == 0


class _Fused(Function):
    """The result of torch's kernel, which has a first derivative for one gradient; all others come from the blocks."""

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        ctx.save_for_backward(queries, keys, values)
        return mixed.view_as(mixed)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        (dout,) = given
        if not (torch.is_grad_enabled() or is_batched(dout)):
            return dout, None, None, None, None
        tokens = ctx.saved_tensors
        dout, q, k, v = (t.reshape(-1, *t.shape[-2:]) for t in (dout.to(tokens[2].dtype), *tokens))
        gradients = _blocks_gradients(dout, q, k, v, ctx.scale)
        return None, *(g.view_as(t) for g, t in zip(gradients, tokens, strict=True)), None


def blocked(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """As the reference, in blocks, on any device. Deterministic."""
    given = autocasted(queries, keys, values)
    out, _ = _blocks_forward(*(t.reshape(-1, *t.shape[-2:]) for t in given), scale)
    return out.reshape(*queries.shape[:-1], -1)


# ---- dispatch -------------------------------------------------------------------------------------------------------
def why_not(impl: str, queries: Tensor, keys: Tensor, values: Tensor) -> str | None:
    """Why this form cannot run on these tensors; None if it can."""
    if impl == "reference":
        return None
    reason = blocks_why_not(queries, keys, values)
    if impl == "blocked" or reason:
        return reason
    kind, dtype = queries.device.type, queries.dtype
    if kind not in ("cpu", "cuda"):
        return f"torch has a fused kernel for cpu and cuda, not for {kind}"
    if kind == "cuda" and dtype == torch.float64:
        return "torch's fused kernels on CUDA do not take float64"
    if kind == "cpu" and queries.shape[-1] != values.shape[-1]:
        return f"on a CPU it needs equal widths; queries have {queries.shape[-1]}, values {values.shape[-1]}"
    return None


def chosen(queries: Tensor, keys: Tensor, values: Tensor) -> str:
    """The form for impl=None: fused, else blocked, else the reference."""
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
    """softmax(scale · q kᵀ) v in each head; the widths of the tokens are the concatenated heads.

    Args:
        queries: (N, P, heads·d), floating, of any strides.
        keys: (N, K, heads·d), of the same device and dtype (under autocast, any dtype).
        values: (N, K, heads·e).
        heads: number of heads.
        scale: factor of the logits. None: d ^ -1/2.
        impl: "reference" (stores all pairs), "fused" or "blocked". None: the first of fused and blocked that can run;
            under an exporter torch's own operator, which other formats know.

    Returns: (N, P, heads·e), dtype of the inputs; under autocast, autocast's.
    Raises: ValueError: shapes or dtypes that do not match, an unknown impl. RuntimeError: the requested impl cannot
        run; gives the reason.
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
    """The attention weights of a few queries, averaged over the heads, in float32 or better."""
    scale = (queries.shape[-1] // heads) ** -0.5 if scale is None else scale
    if heads == 1:
        return _weights(queries, keys, scale)
    q, k = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (queries, keys))
    return _weights(q, k, scale).mean(1)


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
    if len(kinds) > 1 and not autocasts(queries):
        raise ValueError(
            f"attend: wanted one dtype; got {', '.join(str(t.dtype) for t in (queries, keys, values))};"
            " convert them or use autocast"
        )
