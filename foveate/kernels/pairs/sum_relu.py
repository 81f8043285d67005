"""Σ_j ReLU(a_i + b_j) v_j of every query i over every key j, without a map of the pairs."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from foveate.kernels.pairs._blocks import (
    KEYS,
    QUERIES,
    autocasted,
    empty_like,
    folded,
    parts,
    reference_twice,
    samples,
    uncast,
    why_not,
    wide,
)

IMPLS = ("reference", "blocked")


# ---- reference ------------------------------------------------------------------------------------------------------
def reference(a: Tensor, b: Tensor, values: Tensor) -> Tensor:
    """(N, P, 1), (N, 1, K), (N, K, e) → (N, P, e)."""
    return torch.relu(a + b) @ values


# ---- blocked --------------------------------------------------------------------------------------------------------
@torch.library.custom_op("foveate::sum_relu", mutates_args=())
def blocked(a: Tensor, b: Tensor, values: Tensor) -> Tensor:
    """As the reference. Deterministic."""
    out = values.new_empty(*a.shape[:2], values.shape[2])
    dtype = wide(a)
    with uncast(a):
        for n in samples(len(a), a.shape[1], b.shape[2]):
            for i in parts(a.shape[1], QUERIES):
                total = values.new_zeros(*a[n, i].shape[:2], values.shape[2], dtype=dtype)
                for j in parts(b.shape[2], KEYS):
                    weights = (a[n, i].to(dtype) + b[n, :, j].to(dtype)).relu_()
                    total.baddbmm_(weights, values[n, j].to(dtype))
                out[n, i] = total.to(out.dtype)
    return out


@torch.library.custom_op("foveate::sum_relu_backward", mutates_args=())
def _backward(dout: Tensor, a: Tensor, b: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    gradients = empty_like(a), empty_like(b), empty_like(values)
    dtype = wide(a)
    with uncast(a):
        for n in samples(len(a), a.shape[1], b.shape[2]):
            some_a, some_b, v, dy = (t[n].to(dtype) for t in (a, b, values, dout))
            da, db, dv = (torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (some_a, some_b, v))
            for j in parts(b.shape[2], KEYS):
                for i in parts(a.shape[1], QUERIES):
                    weights = (some_a[:, i] + some_b[:, :, j]).relu_()
                    dv[:, j].baddbmm_(weights.mT, dy[:, i])
                    pairs = torch.bmm(dy[:, i], v[:, j].mT).masked_fill_(weights <= 0, 0)
                    da[:, i] += pairs.sum(-1, keepdim=True)
                    db[:, :, j] += pairs.sum(-2, keepdim=True)
            for gradient, part in zip(gradients, (da, db, dv), strict=True):
                gradient[n] = part.to(gradient.dtype)
    return gradients


@torch.library.custom_op("foveate::sum_relu_twice", mutates_args=())
def _twice(
    ta: Tensor, tb: Tensor, tv: Tensor, dout: Tensor, a: Tensor, b: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of dout, a, b and values, from those of the backward pass's three results."""
    found = empty_like(dout), empty_like(a), empty_like(b), empty_like(values)
    dtype = wide(a)
    with uncast(a):
        for n in samples(len(a), a.shape[1], b.shape[2]):
            ta_, tb_, tv_, dy, a_, b_, v = (t[n].to(dtype) for t in (ta, tb, tv, dout, a, b, values))
            sums = [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (dy, a_, b_, v)]
            for j in parts(b.shape[2], KEYS):
                for i in parts(a.shape[1], QUERIES):
                    weights = (a_[:, i] + b_[:, :, j]).relu_()
                    off = weights <= 0
                    sums[0][:, i].baddbmm_(weights, tv_[:, j])
                    moved = (ta_[:, i] + tb_[:, :, j]).masked_fill_(off, 0)
                    sums[0][:, i].baddbmm_(moved, v[:, j])
                    sums[3][:, j].baddbmm_(moved.mT, dy[:, i])
                    pairs = torch.bmm(dy[:, i], tv_[:, j].mT).masked_fill_(off, 0)
                    sums[1][:, i] += pairs.sum(-1, keepdim=True)
                    sums[2][:, :, j] += pairs.sum(-2, keepdim=True)
            for whole, part in zip(found, sums, strict=True):
                whole[n] = part.to(whole.dtype)
    return found


@blocked.register_fake
def _(a: Tensor, b: Tensor, values: Tensor) -> Tensor:
    return values.new_empty((*a.shape[:2], values.shape[2]))


@_backward.register_fake
def _(dout: Tensor, a: Tensor, b: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return empty_like(a), empty_like(b), empty_like(values)


@_twice.register_fake
def _(ta: Tensor, tb: Tensor, tv: Tensor, *given: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dout, a, b, values = (empty_like(t) for t in given)
    return dout, a, b, values


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _second(ctx: Any, *along: Tensor) -> tuple[Tensor, ...]:
    if torch.is_grad_enabled():
        return reference_twice(reference, along, *ctx.saved_tensors)
    return _twice(*along, *ctx.saved_tensors)


blocked.register_autograd(lambda ctx, dout: _backward(dout, *ctx.saved_tensors), setup_context=_keep)
_backward.register_autograd(_second, setup_context=_keep)
for _operator in (blocked, _backward, _twice):
    _operator.register_vmap(folded(_operator))


@register_flop_formula(torch.ops.foveate.sum_relu)
def _forward_flops(a: Any, b: Any, values: Any, **_: Any) -> int:
    return 2 * a[0] * a[1] * b[2] * values[2]


@register_flop_formula(torch.ops.foveate.sum_relu_backward)
def _backward_flops(dout: Any, a: Any, b: Any, values: Any, **_: Any) -> int:
    return 4 * a[0] * a[1] * b[2] * values[2]


@register_flop_formula(torch.ops.foveate.sum_relu_twice)
def _twice_flops(ta: Any, tb: Any, tv: Any, dout: Any, a: Any, b: Any, values: Any, **_: Any) -> int:
    return 8 * a[0] * a[1] * b[2] * values[2]


# ---- dispatch -------------------------------------------------------------------------------------------------------
def sum_relu(
    a: Float[Tensor, "n p 1"], b: Float[Tensor, "n 1 k"], values: Float[Tensor, "n k e"], *, impl: str | None = None
) -> Float[Tensor, "n p e"]:
    """Σ_j ReLU(a_i + b_j) v_j.

    Args:
        a, b, values: floating, on one device, of one dtype (under autocast, any dtype) and any strides.
        impl: "reference" (stores all pairs) or "blocked". None: blocked where it can run, except under an exporter.

    Raises: ValueError: shapes that do not match, an unknown impl. RuntimeError: "blocked" cannot run; gives the reason.
    """
    n, p, k = *a.shape[:2], b.shape[-1]
    if a.shape != (n, p, 1) or b.shape != (n, 1, k) or values.shape[:2] != (n, k) or values.dim() != 3:
        shapes = ", ".join(str(tuple(t.shape)) for t in (a, b, values))
        raise ValueError(f"sum_relu: wanted a (N, P, 1), b (N, 1, K) and values (N, K, E); got {shapes}")
    reason = why_not(a, b, values)
    if impl is None:
        impl = "reference" if reason or torch.compiler.is_exporting() else "blocked"
    elif impl not in IMPLS:
        raise ValueError(f"sum_relu: impl must be one of {', '.join(map(repr, IMPLS))} or None; got {impl!r}")
    elif impl == "blocked" and reason:
        raise RuntimeError(f"sum_relu(impl={impl!r}): {reason}")
    return blocked(*autocasted(a, b, values)) if impl == "blocked" else reference(a, b, values)
