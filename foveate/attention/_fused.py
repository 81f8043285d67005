"""Fused inference and faster layer calls, with the results of the steps that stand in the mechanisms' files.

Each mechanism's file has the paper's steps. A function here returns the result of all steps from one C call, or None
where that is not possible: with gradients, inside a capture, with a hook on a layer, or with a layer of another class
in place of the standard one.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from foveate.attention._capture import capturing, record
from foveate.kernels import conv_to_one, gate_map
from foveate.kernels import squeeze_excite as fused_squeeze_excite
from foveate.kernels.conv_to_one import LARGEST_KERNEL
from foveate.kernels.fused import inference

if TYPE_CHECKING:
    from foveate.attention.ca import CoordinateAttention
    from foveate.attention.cbam import ConvolutionalBlockAttention
    from foveate.attention.gc import GlobalContext, Transform

PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.Identity)
Statistics = tuple[Tensor, Tensor, Tensor | None, Tensor | None, float]


# ---- can a layer's call be replaced? --------------------------------------------------------------------------------
def has_hooks(*modules: nn.Module) -> bool:
    """Does any of the modules have a hook, which a fused call would not run?"""
    return any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in modules)


def is_plain_layer(*layers: nn.Module) -> bool:
    """Is each of the layers of torch's own class, without hooks, so that its weights alone define what it computes?"""
    return all(type(layer) in PLAIN for layer in layers) and not has_hooks(*layers)


def weight_and_bias(layer: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a linear layer, a convolution or a norm."""
    return layer.weight, layer.bias


def batch_norm_statistics(norm: nn.Module) -> Statistics | None:
    """Running mean and variance, weight, bias and ε of a batch norm; None if it takes the batch's own statistics."""
    if norm.training or not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
        return None
    if norm.running_mean is None or norm.running_var is None:
        return None
    return norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps


# ---- layers ---------------------------------------------------------------------------------------------------------
def pointwise_conv(layer: nn.Module, x: Tensor) -> Tensor:
    """A 1×1 convolution (N, c, L) → (N, C, L), on a CPU as a product of matrices, which is faster there."""
    weight, bias = weight_and_bias(layer)
    as_convolution = x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    if as_convolution or bias is None or not is_plain_layer(layer):
        return layer(x)
    return torch.baddbmm(bias.unsqueeze(-1), weight.squeeze(-1).expand(x.shape[0], -1, -1), x)


def one_map_conv(layer: nn.Module, x: Tensor) -> Tensor:
    """A convolution without bias whose result has one channel, by the primitive for it where x is an image.

    A tracer records a weight as that of the layer that is called, so under one the layer is called.
    """
    hooked = layer._forward_hooks or layer._forward_pre_hooks
    if type(layer) is not nn.Conv2d or hooked or torch.jit.is_tracing():
        return layer(x)
    return conv_to_one(x, layer.weight)


# ---- mechanisms -----------------------------------------------------------------------------------------------------
def squeeze_excite(module: nn.Module, x: Tensor, reduce: nn.Module, expand: nn.Module) -> Tensor | None:
    """se and cse: x · σ(expand(ReLU(reduce(mean x)))), with gradients and captures too."""
    if not is_plain_layer(reduce, expand):
        return None
    y, gate = fused_squeeze_excite(x, *weight_and_bias(reduce), *weight_and_bias(expand))
    record(module, channel=gate)
    return y


def cbam(module: "ConvolutionalBlockAttention", x: Tensor) -> Tensor | None:
    """CBAM on images, channels before positions, with the paper's pools."""
    channel, spatial = module.channel_gate, module.spatial_gate
    if torch.is_grad_enabled() or capturing() or channel is None or spatial is None:
        return None
    form = module.order, channel.pools, spatial.descriptor, module.spatial_dims, module.switch.hard
    if form != ("channel-spatial", ("avg", "max"), "pools", 2, None):
        return None
    layers = channel.reduce, channel.expand, spatial.conv, spatial.norm
    if has_hooks(channel, spatial) or not is_plain_layer(*layers):
        return None
    norm = batch_norm_statistics(spatial.norm)
    reduce, expand, (w, _) = map(weight_and_bias, layers[:3])
    if max(w.shape[2:]) > LARGEST_KERNEL:
        return None
    if not inference.can_fuse_inference(x, (*reduce, *expand, w, *(norm or ())[:4])):
        return None
    if norm is not None or type(spatial.norm) is nn.Identity:
        return inference.cbam(x, reduce, expand, w, norm, max_first=spatial.max_first)
    gate, logits = inference.cbam_gates(x, reduce, expand, w, max_first=spatial.max_first)
    return gate_map(x, channel=gate, position=torch.sigmoid(spatial.norm(logits)).squeeze(1))


def coordinate_attention(module: "CoordinateAttention", x: Tensor) -> Tensor | None:
    """Coordinate attention on contiguous images, in evaluation mode."""
    if torch.is_grad_enabled() or capturing() or module.spatial_dims != 2 or not x.is_contiguous():
        return None
    norm, layers = batch_norm_statistics(module.norm), (module.reduce, *module.gates)
    if norm is None or has_hooks(module.gates) or not is_plain_layer(module.norm, *layers):
        return None
    reduce, rows, columns = map(weight_and_bias, layers)
    if not inference.can_fuse_inference(x, (*reduce, *rows, *columns, *norm[:4])):
        return None
    return inference.coordinate(x, reduce, norm, rows, columns)


def global_context(module: "GlobalContext", x: Tensor) -> Tensor | None:
    """Global context with attention pooling and any fusion."""
    if torch.is_grad_enabled() or capturing() or module.pooling != "att":
        return None
    transforms = [t for t in (module.mul, module.add) if t is not None]
    layers = [layer for t in transforms for layer in t]
    if has_hooks(*transforms) or not is_plain_layer(module.mask, *layers):
        return None
    w, b = module.mask.weight.flatten(), module.mask.bias
    mul, add = (None if t is None else _tensors_of(t) for t in (module.mul, module.add))
    eps = {layer.eps for layer in layers if isinstance(layer, nn.LayerNorm)}
    if len(eps) > 1 or not inference.can_fuse_inference(x, (w, b, *(mul or ()), *(add or ()))):
        return None
    return inference.global_context(x, w, b, mul, add, eps.pop())


def _tensors_of(transform: "Transform") -> list[Tensor | None]:
    """W₁, b₁, weight and bias of the layer norm, W₂, b₂."""
    return [t for k in (0, 1, 3) for t in weight_and_bias(transform[k])]
