"""Mechanisms of several passes as a whole, without gradients: one call of C, a sample at a time.

What they compute is written in foveate.attention, which takes these where `ready` says so. float32 and float64 on CPU.
"""

import ctypes
import struct
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from foveate.kernels._dispatch import can_fuse
from foveate.kernels._layout import PAST_THE_CACHE, dense, run_named, segments_of, sizes_of
from foveate.kernels._native import word
from foveate.kernels.pools.attention_pool import positions_at_once

Layer = tuple[Tensor, Tensor | None]  # weight, bias
Norm = tuple[Tensor, Tensor, Tensor | None, Tensor | None, float]  # running mean and variance, weight, bias, ε


def ready(x: Tensor, weights: Sequence[Tensor | None]) -> bool:
    """Whether the forms below can take the map and the weights: no gradients, one dtype, a CPU, C."""
    return (
        not torch.is_grad_enabled()
        and x.dtype in (torch.float32, torch.float64)
        and can_fuse("inference", None, x, *(t for t in weights if t is not None))
    )


def cbam(x: Tensor, reduce: Layer, expand: Layer, w: Tensor, norm: Norm | None, *, max_first: bool) -> Tensor:
    """Gate the channels by their means and maxima, then the positions by a convolution over maximum and mean.

    Args:
        x: (N, C, H, W).
        reduce, expand: weights (h, C) and (C, h) with their biases.
        w: (1, 2, k, k), k odd. norm: the batch norm behind it.
        max_first: whether the first of the two maps is the maximum.
    """
    x = dense(x)
    y = torch.empty_like(x)
    _cbam(x, reduce, expand, w, norm, max_first, y, None, None)
    return y


def cbam_gates(x: Tensor, reduce: Layer, expand: Layer, w: Tensor, *, max_first: bool) -> tuple[Tensor, Tensor]:
    """The channel gates (N, C) of `cbam`, and what its convolution gives (N, 1, H, W), for a norm over the batch."""
    x = dense(x)
    channel, logits = x.new_empty(x.shape[:2]), x.new_empty(x.shape[0], 1, *x.shape[2:])
    _cbam(x, reduce, expand, w, None, max_first, None, channel, logits)
    return channel, logits


def _cbam(
    x: Tensor, reduce: Layer, expand: Layer, w: Tensor, norm: Norm | None, max_first: bool, *answers: Tensor | None
) -> None:
    n, channels, positions, last = sizes_of(x)
    hidden = reduce[0].shape[0]
    scratch = x.new_empty(torch.get_num_threads(), 3 * channels + 2 * hidden + 3 * positions)
    table, eps = (None, 0) if norm is None else (_table(norm[:4]), _bits(norm[4]))
    given = (*_dense(*reduce, *expand, w), _at(table), *answers, scratch, eps, max_first, w.shape[2], hidden)
    run_named("cbam", x, x, *given, n, channels, *x.shape[2:], last, x.nbytes >= PAST_THE_CACHE)


def coordinate(x: Tensor, reduce: Layer, norm: Norm, rows: Layer, columns: Layer) -> Tensor:
    """Gate by one profile along each axis of a channels-first map (N, C, H, W).

    Args:
        reduce: weight (h, C, 1) and bias, followed by the batch norm and a hard swish.
        rows, columns: weights (C, h, 1) and biases, each followed by a sigmoid.
    """
    n, channels, height, width = x.shape
    hidden = reduce[0].shape[0]
    scratch = x.new_empty(torch.get_num_threads(), (2 * channels + hidden) * (height + width))
    y, table = torch.empty_like(x), _table(norm[:4])
    given = (*_dense(*reduce), _at(table), *_dense(*rows, *columns), y, scratch, _bits(norm[4]))
    run_named("coordinate", x, x, *given, hidden, n, channels, height, width, y.nbytes >= PAST_THE_CACHE)
    return y


def global_context(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    mul: Sequence[Tensor | None] | None,
    add: Sequence[Tensor | None] | None,
    eps: float,
) -> Tensor:
    """Multiply and add what two transforms make of one context, pooled by a softmax over the positions of w · x + b.

    Args:
        x: (N, C, *S). w: (C,). b: (1,).
        mul, add: W₁ (h, C), b₁, weight and bias of the layer norm, W₂ (C, h), b₂ of each transform; not both None.
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
    tables = [None if layers is None else _table(layers) for layers in (mul, add)]
    given = (*_dense(w, b), *map(_at, tables), y, scratch, _bits(eps), segments, positions_at_once(x), hidden)
    run_named("global_context", x, x, *given, n, channels, positions, last, y.nbytes >= PAST_THE_CACHE)
    return y


def _dense(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else t.contiguous() for t in tensors]


class Table(NamedTuple):
    """Addresses of tensors, for C, and the tensors, which must live as long."""

    addresses: "ctypes.Array[ctypes.c_int64]"
    held: list[Tensor | None]


def _table(tensors: Sequence[Tensor | None]) -> Table:
    held = _dense(*tensors)
    return Table((word * len(held))(*(0 if t is None else t.data_ptr() for t in held)), held)


def _at(table: Table | None) -> int:
    return 0 if table is None else ctypes.addressof(table.addresses)


def _bits(value: float) -> int:
    """A double's bits, for an argument as wide as a pointer."""
    (bits,) = struct.unpack("q", struct.pack("d", value))
    return int(bits)
