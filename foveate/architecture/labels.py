"""What modules and operations are called in a figure."""

from itertools import pairwise
from typing import Any

from torch import nn

NORMS = {
    "BatchNorm1d": "batch norm", "BatchNorm2d": "batch norm", "BatchNorm3d": "batch norm", "LayerNorm": "layer norm",
    "GroupNorm": "group norm", "InstanceNorm2d": "instance norm", "LayerNorm2d": "layer norm", "RMSNorm": "RMS norm",
    "BatchNormAct2d": "batch norm, ReLU",
}  # fmt: skip
OPERATIONS = {
    "add": "+", "add_": "+", "__add__": "+", "__iadd__": "+", "__radd__": "+", "sub": "−", "__sub__": "−",
    "__rsub__": "−", "mul": "×", "mul_": "×", "__mul__": "×", "__imul__": "×", "__rmul__": "×", "div": "÷",
    "__truediv__": "÷", "matmul": "matrix product", "__matmul__": "matrix product", "bmm": "matrix product",
    "einsum": "matrix product", "cat": "concatenate", "concat": "concatenate", "stack": "concatenate",
    "relu": "ReLU", "relu_": "ReLU", "sigmoid": "sigmoid", "softmax": "softmax", "mean": "mean", "amax": "maximum",
    "max": "maximum", "sum": "sum", "max_pool2d": "max pool", "avg_pool2d": "average pool", "interpolate": "resize",
    "adaptive_avg_pool2d": "average pool", "adaptive_max_pool2d": "max pool", "linear": "linear", "abs": "|·|",
    "conv1d": "convolution", "conv2d": "convolution", "conv3d": "convolution", "batch_norm": "batch norm",
    "layer_norm": "layer norm", "group_norm": "group norm", "scaled_dot_product_attention": "attention of the products",
    "attend_blocks.default": "softmax(θ·φ)·g, block by block", "sum_relu_blocks.default": "ReLU of sums · g",
    "grid_sample": "grid sample", "affine_grid": "affine grid", "sqrt": "√", "exp": "exp", "opaque": "operation",
    "gelu": "GELU", "silu": "SiLU", "hardswish": "hard swish", "hardsigmoid": "hard sigmoid", "tanh": "tanh",
    "__getitem__": "select", "chunk": "split", "split": "split", "unbind": "split", "tensor_split": "split",
    "select": "select", "narrow": "select", "upsample": "resize", "input": "input",
}  # fmt: skip
FOLDED = frozenset(
    (
        *("batch_norm", "layer_norm", "group_norm", "instance_norm", "relu", "relu_", "sigmoid", "softmax", "gelu"),
        *("silu", "hardswish", "hardsigmoid", "tanh", "dropout", "exp", "sqrt", "abs", "clone", "elu", "leaky_relu"),
    )
)
"""Operations of one tensor that are a line below the step before them."""
ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid, nn.Softmax, nn.Tanh, nn.LeakyReLU,
    nn.ELU, nn.PReLU, nn.Dropout, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
ATTENTION_WORDS = (
    "attention", "attn", "squeezeexcit", "semodule", "ecamodule", "cbam", "nonlocal", "globalcontext", "gatherexcite",
)  # fmt: skip

HOLDERS = ("Block", "Net", "Decoder", "Encoder", "Layer")  # in names of modules that contain attention


def folds(module: nn.Module) -> bool:
    """Is it a norm or an activation, a line below the step before it?"""
    return isinstance(module, ACTIVATIONS) or type(module).__name__ in NORMS


def module_label(module: nn.Module) -> str:
    """ "3×3 convolution, 3 groups, stride 2": what it is, without its numbers of channels."""
    name = type(module).__name__
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        return _convolution(module)
    if name in NORMS:
        return NORMS[name]
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d)):
        kind = "max pool" if "Max" in name else "average pool"
        return f"{_sides(module.kernel_size)} {kind}{_stride(module.stride)}"
    if name.startswith("Adaptive"):
        return "average pool" if "Avg" in name else "max pool"
    return {"Sigmoid": "sigmoid", "Softmax": "softmax", "Hardswish": "hard swish", "Upsample": "resize"}.get(name, name)


def _convolution(module: Any) -> str:
    words = f"{_sides(module.kernel_size)} convolution"
    if module.transposed:
        words = f"{_sides(module.kernel_size)} transposed convolution"
    elif 1 < module.groups == module.in_channels:
        words = f"{_sides(module.kernel_size)} depthwise convolution"
    elif module.groups > 1:
        words += f", {module.groups} groups"
    dilation = max(module.dilation)
    return words + _stride(module.stride) + (f", dilation {dilation}" if dilation > 1 else "")


def _sides(size: Any) -> str:
    sides = size if isinstance(size, tuple) else (size, size)
    return "×".join(map(str, sides))


def _stride(stride: Any) -> str:
    sides = stride if isinstance(stride, tuple) else (stride,)
    if max(sides) == 1:
        return ""
    return f", stride {sides[0]}" if len(set(sides)) == 1 else f", stride {'×'.join(map(str, sides))}"


def operation_label(op: str) -> str:
    """What an operation that is no module is called."""
    known = OPERATIONS.get(op)
    return known if known is not None else op.removesuffix(".default").strip("_").replace("_", " ")


def selection_label(channels: tuple[int, ...], of: int) -> str:
    """Of channels that a selection takes: "channels 0–57 of 116", "every 2nd channel from 1"; "" where it takes all."""
    if len(channels) == of:
        return ""
    steps = {b - a for a, b in pairwise(channels)}
    if steps <= {1}:
        return f"channels {channels[0]}–{channels[-1]} of {of}" if len(channels) > 1 else f"channel {channels[0]}"
    if len(steps) == 1:
        step = steps.pop()
        return f"every {step}{'nd' if step == 2 else 'rd' if step == 3 else 'th'} channel from {channels[0]}"
    return f"{len(channels)} of {of} channels"


def permutation_label(channels: tuple[int, ...]) -> str:
    """ "channel shuffle, 3 groups of 20" of a transposition of groups; else "channels reordered"."""
    count = len(channels)
    size = channels[1] - channels[0] if count > 1 else 0
    if size > 0 and count % size == 0:
        groups = count // size
        if channels == tuple(g * size + i for i in range(size) for g in range(groups)):
            return f"channel shuffle, {groups} groups of {size}"
    return "channels reordered"
