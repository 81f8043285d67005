"""Fused inference: whole mechanisms without gradients, in one C call that works through the samples one by one.

The mechanisms themselves are defined in foveate.attention; these are faster forms for a CPU, in float32 and float64.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from foveate.kernels._calls import call_named
from foveate.kernels._dispatch import can_fuse
from foveate.kernels._layout import PAST_THE_CACHE, dense, segments_of, sizes_of
from foveate.kernels.pools.attention_pool import positions_at_once

Layer = tuple[Tensor, Tensor | None]  # weight, bias
Norm = tuple[Tensor, Tensor, Tensor | None, Tensor | None, float]  # running mean and variance, weight, bias, ε


def can_fuse_inference(x: Tensor, weights: Sequence[Tensor | None]) -> bool:
    """Can the functions below take the map and the weights: gradients off, one dtype, on a CPU with native code?"""
    return (
        not torch.is_grad_enabled()
        and x.dtype in (torch.float32, torch.float64)
        and can_fuse("inference", None, x, *(t for t in weights if t is not None))
    )


def cbam(x: Tensor, reduce: Layer, expand: Layer, w: Tensor, norm: Norm | None, *, max_first: bool) -> Tensor:
    """CBAM: gate the channels by their means and maxima, then the positions by a convolution over maximum and mean.

    Args:
        x: (N, C, H, W).
        reduce, expand: weights (h, C) and (C, h) with their biases.
        w: (1, 2, k, k), k odd and at most 65.
        norm: the batch norm after the convolution, or None.
        max_first: is the maximum the first of the two maps?
    """
    x = dense(x)
    y = torch.empty_like(x)
    _cbam(x, reduce, expand, w, norm, max_first, y, None, None)
    return y


def cbam_gates(x: Tensor, reduce: Layer, expand: Layer, w: Tensor, *, max_first: bool) -> tuple[Tensor, Tensor]:
    """The channel gates (N, C) of `cbam` and its convolution's result (N, 1, H, W), for a batch norm in training."""
    x = dense(x)
    channel, logits = x.new_empty(x.shape[:2]), x.new_empty(x.shape[0], 1, *x.shape[2:])
    _cbam(x, reduce, expand, w, None, max_first, None, channel, logits)
    return channel, logits


def _cbam(
    x: Tensor, reduce: Layer, expand: Layer, w: Tensor, norm: Norm | None, max_first: bool, *results: Tensor | None
) -> None:
    n, channels, positions, last = sizes_of(x)
    hidden = reduce[0].shape[0]
    scratch = x.new_empty(torch.get_num_threads(), 3 * channels + 2 * hidden + 3 * positions)
    statistics, eps = (None, 0.0) if norm is None else (_contiguous(*norm[:4]), norm[4])
    weights = _contiguous(*reduce, *expand, w)
    given = (*weights, statistics, *results, scratch, eps, max_first, w.shape[2], hidden)
    call_named("cbam", x.dtype, x, *given, n, channels, *x.shape[2:], last, x.nbytes >= PAST_THE_CACHE)


def coordinate(x: Tensor, reduce: Layer, norm: Norm, rows: Layer, columns: Layer) -> Tensor:
    """Coordinate attention: gate by one profile along each axis of a contiguous map (N, C, H, W).

    Args:
        reduce: weight (h, C, 1) and bias, followed by the batch norm and a hard swish.
        rows, columns: weights (C, h, 1) and biases, each followed by a sigmoid.
    """
    n, channels, height, width = x.shape
    hidden = reduce[0].shape[0]
    scratch = x.new_empty(torch.get_num_threads(), (2 * channels + hidden) * (height + width))
    y = torch.empty_like(x)
    given = (*_contiguous(*reduce), _contiguous(*norm[:4]), *_contiguous(*rows, *columns), y, scratch, norm[4])
    call_named("coordinate", x.dtype, x, *given, hidden, n, channels, height, width, y.nbytes >= PAST_THE_CACHE)
    return y


def global_context(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    mul: Sequence[Tensor | None] | None,
    add: Sequence[Tensor | None] | None,
    eps: float,
) -> Tensor:
    """Global context: x · σ(mul(c)) + add(c), c the mean of the positions weighted by the softmax of w · x + b.

    Args:
        x: (N, C, *S). w: (C,). b: (1,).
        mul, add: W₁ (h, C), b₁, weight and bias of the layer norm, W₂ (C, h), b₂ of each transform, or None.
        eps: of the layer norms.
    """
    x = dense(x)
    n, channels, positions, last = sizes_of(x)
    some = mul if mul is not None else add
    assert some is not None
    assert some[0] is not None
    hidden, segments = some[0].shape[0], segments_of(1, positions)
    size = (segments + 3) * channels + 2 * segments + hidden + positions
    scratch, y = x.new_empty(torch.get_num_threads(), size), torch.empty_like(x)
    layers = [None if transform is None else _contiguous(*transform) for transform in (mul, add)]
    given = (*_contiguous(w, b), *layers, y, scratch, eps, segments, positions_at_once(x), hidden)
    call_named("global_context", x.dtype, x, *given, n, channels, positions, last, y.nbytes >= PAST_THE_CACHE)
    return y


def _contiguous(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    return tuple(None if t is None else t.contiguous() for t in tensors)
