"""A convolution of a few maps into one of the same size, without bias, as in the spatial gate of CBAM.

A general convolution reuses its inputs for many output maps; with one output map it takes longer than the gate itself.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.utils.flop_counter import register_flop_formula

from foveate.kernels import _dispatch
from foveate.kernels._calls import call
from foveate.kernels._dispatch import Pass, choose
from foveate.kernels._layout import small
from foveate.kernels.gradient.accumulator import backward_form

LARGEST_KERNEL = 65  # rows and columns; the C form takes no larger one


# ---- reference ------------------------------------------------------------------------------------------------------
def reference(x: Tensor, w: Tensor) -> Tensor:
    return F.conv2d(x, w, padding=(w.shape[2] // 2, w.shape[3] // 2))


# ---- cpu ------------------------------------------------------------------------------------------------------------
_convolve = Pass("conv_to_one(Tensor x, Tensor w) -> Tensor", lambda x, w: x.new_empty(x.shape[0], 1, *x.shape[2:]))


@register_flop_formula(torch.ops.foveate.conv_to_one)
def _flops(x: Any, w: Any, *, out_shape: Any = None, **_: Any) -> int:
    return 2 * math.prod(out_shape) * math.prod(w)


@_convolve.form("cpu")
def _convolve_cpu(x: Tensor, w: Tensor) -> Tensor:
    y = x.new_empty(x.shape[0], 1, *x.shape[2:])
    call("convolve", x.dtype, x, w, y, *w.shape[2:], *x.shape)
    return y


# Gradients of x and w.
_back = Pass(
    "conv_to_one_gradients(Tensor x, Tensor dy, Tensor w) -> (Tensor, Tensor)",
    lambda x, dy, w: (torch.empty_like(x), torch.empty_like(w)),
)


@_back.form("cpu")
def _back_cpu(x: Tensor, dy: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    dx, parts = torch.empty_like(x), w.new_empty(x.shape[0], *w.shape)
    call("convolve_back", x.dtype, x, dy, w, dx, parts, *w.shape[2:], *x.shape)
    return dx, parts.sum(0)


# ---- gradient -------------------------------------------------------------------------------------------------------
class _Convolve(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, impl: str) -> Tensor:
        ctx.impl = impl
        ctx.save_for_backward(x, w)
        return _convolve(impl, x, w)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        x, w = ctx.saved_tensors
        if backward_form(ctx.impl, *given) != "reference":
            return *_back(ctx.impl, x, given[0].contiguous(), w), None
        padding = (w.shape[2] // 2, w.shape[3] // 2)
        dx, dw, _ = torch.ops.aten.convolution_backward(
            given[0], x, w.to(x.dtype), None, (1, 1), padding, (1, 1), False, (0, 0), 1, (True, True, False)
        )
        return dx, dw.to(w.dtype), None


# ---- dispatch -------------------------------------------------------------------------------------------------------
def why_not(impl: str, x: Tensor, w: Tensor) -> str | None:
    """Why this form cannot run on x; None if it can."""
    if impl == "cpu" and max(w.shape[2:]) > LARGEST_KERNEL:
        return f"its C form takes kernels of up to {LARGEST_KERNEL} rows and columns, got {tuple(w.shape[2:])}"
    if impl == "triton":
        return "it has no Triton form: on a GPU torch's own convolution runs"
    return _dispatch.why_not(impl, x)


def conv_to_one(x: Tensor, w: Tensor, *, impl: str | None = None) -> Tensor:
    """Convolve a few maps into one of the same size, with zeros around them.

    Args:
        x: (N, M, H, W), floating.
        w: (1, M, k, l), odd k and l.
        impl: "reference" or "cpu". None: the fastest that can run on x.

    Returns: (N, 1, H, W), in x's dtype.
    Raises: ValueError: sizes that do not match, an unknown impl. RuntimeError: the requested impl cannot run; gives the
        reason.
    """
    if x.dim() != 4 or w.shape[:2] != (1, x.shape[1]) or any(side % 2 == 0 for side in w.shape[2:]):
        raise ValueError(
            f"conv_to_one: wanted x (N, M, H, W) and w (1, M, k, l), k and l odd;"
            f" got {tuple(x.shape)} and {tuple(w.shape)}"
        )
    impl = choose("conv_to_one", impl, x, lambda wanted, x: why_not(wanted, x, w))
    if impl == "reference" or not _convolve.has(impl) or w.dtype != x.dtype:
        return reference(x, w)
    return _Convolve.apply(x.contiguous(), small(w, x), impl)
