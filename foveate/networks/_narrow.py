"""A network's layers made narrower, to the shapes of the tensors of a pruned one."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

Shapes = Mapping[str, Sequence[int]]
_NARROWED = "_foveate_narrowed"


def narrow_to(model: nn.Module, shapes: Shapes) -> nn.Module:
    """Give every tensor of the network its shape among `shapes`, with undefined values; returns the network.

    Layers of torch get the numbers of channels that belong to their weights; a depthwise convolution stays depthwise,
    another one has as many groups as before. Works on the meta device.

    Args:
        shapes: of every tensor of the network's state, by name.

    Raises: ValueError: a tensor without a shape, of another rank, or that would become wider.
    """
    changed: dict[int, Tensor] = {}  # also where two modules share a tensor
    for prefix, module in model.named_modules():
        own = (module._parameters, module._buffers)
        before = {name: tuple(value.shape) for table in own for name, value in table.items() if value is not None}
        for table in own:
            for name, value in table.items():
                key = f"{prefix}.{name}" if prefix else name
                if value is None or name in module._non_persistent_buffers_set:
                    continue
                wanted = _checked(key, tuple(value.shape), shapes)
                if wanted != tuple(value.shape):
                    table[name] = changed.setdefault(id(value), _resized(value, wanted))
        if any(
            before[name] != tuple(value.shape) for table in own for name, value in table.items() if value is not None
        ):
            _note_widths(module)
    if changed:
        vars(model)[_NARROWED] = True
    return model


def is_narrowed(model: nn.Module) -> bool:
    """Has `narrow_to` made some of its layers narrower?"""
    return _NARROWED in vars(model)


def _checked(key: str, here: tuple[int, ...], shapes: Shapes) -> tuple[int, ...]:
    if key not in shapes:
        raise ValueError(f"{key!r} is missing")
    wanted = tuple(shapes[key])
    if len(wanted) != len(here) or any(not 0 < new <= old for new, old in zip(wanted, here, strict=True) if new != old):
        raise ValueError(f"{key}: wanted the shape {here} or a narrower one, got {wanted}")
    return wanted


def _resized(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    new = value.detach().new_empty(shape)
    return nn.Parameter(new, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else new


def _note_widths(layer: nn.Module) -> None:
    """Bring what a layer of torch's says of its widths in line with its weight."""
    weight = getattr(layer, "weight", None)
    shape = tuple(weight.shape) if isinstance(weight, Tensor) else ()
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = shape
    elif isinstance(layer, _ConvTransposeNd):
        layer.in_channels, layer.out_channels = shape[0], shape[1] * layer.groups
    elif isinstance(layer, _ConvNd):
        if layer.groups == layer.in_channels == layer.out_channels:
            layer.groups = shape[0]
        layer.out_channels, layer.in_channels = shape[0], shape[1] * layer.groups
    elif isinstance(layer, _NormBase):
        own = next(value for value in (layer.weight, layer.running_mean) if value is not None)
        layer.num_features = own.shape[0]
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = shape
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = shape[0]
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = shape[0]
