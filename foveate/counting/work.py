"""What an operator computes: multiply-adds, elementwise operations, reductions; by its name and shapes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Work:
    """Arithmetic of one operator call. macs: multiply-adds of products; elementwise, reductions: single operations."""

    kind: str
    macs: int = 0
    elementwise: int = 0
    reductions: int = 0


Formula = Callable[..., Work]
_REGISTERED: dict[str, Formula] = {}


def register_operator(name: str) -> Callable[[Formula], Formula]:
    """Decorator: say what an operator of one's own computes; `name` as the dispatcher has it, "library::operator".

    The formula gets the call's result first, then its arguments, and gives a `Work`; the tensors may be without data.
    """
    if "::" not in name:
        raise ValueError(f"wanted the name of an operator as library::operator, got {name!r}")

    def keep(formula: Formula) -> Formula:
        _REGISTERED[name.replace("::", ".")] = formula
        return formula

    return keep


def work_of(operator: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Work:
    """What the call computed; of kind "unknown" where nothing is known of the operator."""
    if operator in _REGISTERED:
        return _REGISTERED[operator](result, *args, **kwargs)
    packet = getattr(func, "_overloadpacket", func)
    if packet in flop_registry:
        macs = int(flop_registry[packet](*args, **kwargs, out_val=result)) // 2
        return Work("product", macs, *_beside_the_product(operator, args, kwargs, result))
    name = plain_name(operator)
    if name in _FORMULAS:
        return _FORMULAS[name](result, *args, **kwargs)
    if name in _COPIES:
        return Work("copy")
    if name in _ELEMENTWISE or torch.Tag.pointwise in getattr(func, "tags", ()):
        return Work("elementwise", elementwise=_numel(result))
    return Work("unknown")


def plain_name(operator: str) -> str:
    """ "aten.relu_" → "relu"; another library's operator keeps its whole name."""
    name = operator.removeprefix("aten.")
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def _numel(*values: Any) -> int:
    return max((t.numel() for t in tree_leaves(values) if isinstance(t, Tensor)), default=0)


def _beside_the_product(operator: str, args: Any, kwargs: Any, result: Any) -> tuple[int, int]:
    """Elementwise operations and reductions: adding the bias, or the softmax of an attention."""
    if "scaled_dot_product" in operator and "backward" not in operator:
        query, key = args[0], args[1]
        scores = math.prod(query.shape[:-1]) * key.shape[-2]
        return 4 * scores, 2 * scores  # scale, subtract, exponentiate, divide; maximum, sum
    bias = args[2] if "convolution" in operator and "backward" not in operator and len(args) > 2 else None
    bias = kwargs.get("bias", bias)
    return (_numel(result) if isinstance(bias, Tensor) or operator in _ADD_A_TERM else 0), 0


def _names(text: str) -> set[str]:
    return set(text.split())


_ADD_A_TERM = {"aten.addmm", "aten.baddbmm"}

_COPIES = _names(
    """_local_scalar_dense _reshape_copy _to_copy _unsafe_index arange block_diag cat channel_shuffle
    clone col2im combinations complex constant_pad_nd copy diag_embed embedding expand_copy eye fill flip full full_like
    gather im2col index index_copy index_fill index_put index_select linspace masked_scatter masked_select meshgrid
    narrow_copy new_full new_ones new_zeros nonzero ones ones_like permute_copy pixel_shuffle pixel_unshuffle
    rand rand_like randint randn randn_like randperm reflection_pad1d reflection_pad2d reflection_pad3d repeat
    repeat_interleave replication_pad1d replication_pad2d replication_pad3d roll rot90 scalar_tensor scatter
    select_scatter slice_scatter stack take take_along_dim tile tril tril_indices triu triu_indices upsample_nearest1d
    upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    view_copy where_copy zero zeros zeros_like bernoulli normal uniform random exponential _index_put_impl
    """
)
_ELEMENTWISE = _names(  # those that torch does not mark as pointwise, or not in every version
    """_prelu_kernel celu clamp clamp_max clamp_min dropout elu fake_quantize_per_tensor_affine gelu glu hardsigmoid
    hardswish hardtanh leaky_relu log_sigmoid_forward masked_fill mish native_dropout prelu rrelu rrelu_with_noise selu
    silu softplus softshrink threshold scatter_add index_add bucketize searchsorted isin
    """
)


def _reduces(each: int = 1, elementwise: int = 0) -> Formula:
    def formula(result: Any, x: Any, *args: Any, **kwargs: Any) -> Work:
        n = _numel(x)
        return Work("reduction", elementwise=elementwise * n, reductions=each * n)

    return formula


def _normalises(per_element: int, statistics: Callable[..., bool]) -> Formula:
    def formula(result: Any, x: Tensor, *args: Any, **kwargs: Any) -> Work:
        n = x.numel()
        taken = statistics(x, *args, **kwargs)
        return Work("normalisation", elementwise=per_element * n, reductions=2 * n if taken else 0)

    return formula


def _softmax(result: Any, x: Tensor, *args: Any, **kwargs: Any) -> Work:
    n = x.numel()
    return Work("normalisation", elementwise=3 * n, reductions=2 * n)  # subtract, exponentiate, divide; maximum, sum


def _sorts(result: Any, x: Tensor, *args: Any, **kwargs: Any) -> Work:
    n = x.numel()
    return Work("reduction", reductions=n * max(1, math.ceil(math.log2(max(2, n)))))


def _pools(result: Any, x: Tensor, kernel: Any, *args: Any, **kwargs: Any) -> Work:
    out = result[0] if isinstance(result, tuple) else result
    window = math.prod(kernel) if len(kernel) > 1 else kernel[0] ** (x.dim() - 2)
    return Work("pooling", reductions=out.numel() * window)


def _pools_adaptively(result: Any, x: Tensor, size: Any, *args: Any, **kwargs: Any) -> Work:
    out = result[0] if isinstance(result, tuple) else result
    sides = zip(x.shape[-len(size) :], size, strict=True)
    planes = out.numel() // max(1, math.prod(size))
    return Work("pooling", reductions=planes * math.prod(_windows(side, n) for side, n in sides))


def _windows(side: int, n: int) -> int:
    """Entries that n adaptive windows over a side of `side` entries read together."""
    return sum(-(-(i + 1) * side // n) - i * side // n for i in range(n))


def _interpolates(taps: int) -> Formula:
    """Each output is a weighted sum of `taps` inputs: a product for each, and the additions between."""

    def formula(result: Tensor, *args: Any, **kwargs: Any) -> Work:
        return Work("resampling", elementwise=result.numel() * (2 * taps - 1))

    return formula


def _product(macs: Callable[..., int], *, adds: bool = False) -> Formula:
    def formula(result: Tensor, *args: Any, **kwargs: Any) -> Work:
        return Work("product", macs(*args), result.numel() if adds else 0)

    return formula


def _attention(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> int:
    """Of softmax(q kᵀ) v, with q (…, n, d), k (…, m, d), v (…, m, e)."""
    return int(math.prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1]))


def _attends(result: Any, *args: Any, **kwargs: Any) -> Work:
    return Work("product", _attention(*args), *_beside_the_product("scaled_dot_product", args, kwargs, result))


_FORMULAS: dict[str, Formula] = {
    # products that torch's own registry does not have, or not in every version
    "mv": _product(lambda a, x: a.numel()),
    "addmv": _product(lambda y, a, x: a.numel(), adds=True),
    "dot": _product(lambda a, b: a.numel()),
    "vdot": _product(lambda a, b: a.numel()),
    "addbmm": _product(lambda y, a, b: a.numel() * b.shape[-1], adds=True),
    "addr": _product(lambda y, a, b: a.numel() * b.numel(), adds=True),
    "linear": _product(lambda x, w, b=None: x.numel() * w.shape[0]),
    "_int_mm": _product(lambda a, b: a.numel() * b.shape[-1]),
    "_scaled_dot_product_flash_attention_for_cpu": _attends,
    "_scaled_dot_product_fused_attention_overrideable": _attends,
    "_scaled_dot_product_attention_math_for_mps": _attends,
    # reductions
    **dict.fromkeys(_names(
        "sum mean amax amin aminmax max min all any prod argmax argmin nansum count_nonzero cumsum cumprod cummax "
        "cummin unique_consecutive bincount histc mode equal trace"),
        _reduces(),
    ),
    **dict.fromkeys(_names("var std var_mean std_mean"), _reduces(2, elementwise=1)),
    **dict.fromkeys(_names("norm linalg_vector_norm"), _reduces(1, elementwise=1)),
    "logsumexp": _reduces(2, elementwise=2),
    "logcumsumexp": _reduces(2, elementwise=2),
    **dict.fromkeys(_names("topk sort argsort kthvalue median nanmedian _unique2 unique_dim"), _sorts),
    # normalisations; the third argument after x says of batch norm whether it takes the batch's statistics
    **dict.fromkeys(_names("native_batch_norm cudnn_batch_norm miopen_batch_norm _batch_norm_impl_index"),
                    _normalises(2, lambda x, w, b, mean, var, training, *_: bool(training))),
    "_native_batch_norm_legit": _normalises(2, lambda x, *a: bool(a[4] if len(a) >= 7 else a[2])),
    "_native_batch_norm_legit_no_training": _normalises(2, lambda x, *a: False),
    "_batch_norm_with_update": _normalises(2, lambda x, *a: True),
    "_batch_norm_no_update": _normalises(2, lambda x, *a: False),
    "native_layer_norm": _normalises(4, lambda x, *a: True),
    "native_group_norm": _normalises(4, lambda x, *a: True),
    "_fused_rms_norm": _normalises(3, lambda x, *a: True),
    **dict.fromkeys(_names("_softmax _log_softmax _safe_softmax"), _softmax),
    # pooling and resampling
    **dict.fromkeys(_names(
        "avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d max_pool2d_with_indices "
        "max_pool3d_with_indices max_pool1d_with_indices"),
        _pools,
    ),
    **dict.fromkeys(_names(
        "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_max_pool1d adaptive_max_pool2d "
        "adaptive_max_pool3d"),
        _pools_adaptively,
    ),
    **{f"upsample_{kind}": _interpolates(taps) for kind, taps in
       {"linear1d": 2, "bilinear2d": 4, "trilinear3d": 8, "bicubic2d": 16}.items()},
    **{f"_upsample_{kind}_aa": _interpolates(taps) for kind, taps in {"bilinear2d": 4, "bicubic2d": 16}.items()},
    "affine_grid_generator": lambda result, theta, *args: Work("product", result.numel() * theta.shape[-1]),
    "grid_sampler_2d": _interpolates(4),
    "cudnn_grid_sampler": _interpolates(4),
    "grid_sampler_3d": _interpolates(8),
}  # fmt: skip
