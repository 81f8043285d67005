"""Official classes written out a second time, from ../shared/spec alone: the weights, the norm, the comparison."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from golden import assert_golden
from torch import Tensor

import foveate
from foveate.official._conversions import _find, to_ours

DOUBLE = torch.float64
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
relu, sigmoid = torch.relu, torch.sigmoid


class Weights:
    """Random weights under official keys, made when a formula first asks for them, so the keys are the formula's."""

    def __init__(self, seed: int, training: bool) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.state: dict[str, Tensor] = {}
        self.after: dict[str, Tensor] = {}
        self.training = training

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=DOUBLE)

    def __call__(self, key: str, *shape: int, about: float = 0.0) -> Tensor:
        if key not in self.state:
            scale = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.4
            self.state[key] = (about + scale * self.randn(*shape)).requires_grad_()
        return self.state[key]

    def conv(self, key: str, x: Tensor, out: int, size: int | Sequence[int] = 1, *rest: Any, bias: bool = False):
        """rest: stride, padding, dilation, groups."""
        dims = x.dim() - 2
        kernel = (size,) * dims if isinstance(size, int) else tuple(size)
        groups = rest[3] if len(rest) > 3 else 1
        weight = self(f"{key}.weight", out, x.shape[1] // groups, *kernel)
        return CONV[dims](x, weight, self(f"{key}.bias", out) if bias else None, *rest)

    def linear(self, key: str, x: Tensor, out: int, bias: bool = True) -> Tensor:
        weight = self(f"{key}.weight", out, x.shape[1])
        return F.linear(x, weight, self(f"{key}.bias", out) if bias else None)

    def norm(self, key: str, x: Tensor, momentum: float = 0.1, biased: bool = False) -> Tensor:
        """Batch norm, written out; what its running statistics should become stands in `after`."""
        width = x.shape[1]
        weight, bias = self(f"{key}.weight", width, about=1.0), self(f"{key}.bias", width)
        mean = self.state.setdefault(f"{key}.running_mean", 0.3 * self.randn(width))
        var = self.state.setdefault(f"{key}.running_var", 0.5 + self.randn(width).abs())
        column = (-1,) + (1,) * (x.dim() - 2)
        if self.training:
            over, count = [0, *range(2, x.dim())], x.numel() // width
            old_mean, old_var = mean, var
            mean = x.mean(over)
            var = (x - mean.reshape(column)).square().mean(over)
            unbiased = var if biased else var * count / (count - 1)
            self.after[f"{key}.running_mean"] = torch.lerp(old_mean, mean.detach(), momentum)
            self.after[f"{key}.running_var"] = torch.lerp(old_var, unbiased.detach(), momentum)
        x = (x - mean.reshape(column)) / (var.reshape(column) + 1e-5).sqrt()
        return x * weight.reshape(column) + bias.reshape(column)


def means(x: Tensor) -> Tensor:
    return x.flatten(2).mean(2)


def spread(gate: Tensor, x: Tensor) -> Tensor:
    return gate.reshape(gate.shape + (1,) * (x.dim() - gate.dim()))


def compare(
    source: str,
    cls: str,
    ctor: Mapping[str, Any],
    formula: Callable[..., Any],
    *shapes: Sequence[int],
    training: bool = False,
    names: Sequence[str] = (),
    ties: bool = False,
) -> None:
    """The loaded module against the formula: outputs, input and parameter gradients, running statistics.

    names: of the inputs, where they are given by name. ties: inputs after a ReLU, with many equal zeros.
    """
    weights = Weights(sum(map(ord, cls)), training)
    inputs = [weights.randn(*shape) for shape in shapes]
    inputs = [(x.relu() if ties else x).requires_grad_() for x in inputs]
    wanted = formula(weights, *inputs)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    cotangents = [weights.randn(*y.shape) for y in wanted]
    sum((y * c).sum() for y, c in zip(wanted, cotangents, strict=True)).backward()

    state = {key: value.detach().clone() for key, value in weights.state.items()}
    module = foveate.official.load(source, cls, ctor, state).train(training)
    own = [x.detach().clone().requires_grad_() for x in inputs]
    got = module(**dict(zip(names, own, strict=True))) if names else module(*own)
    got = got if isinstance(got, tuple) else (got,)
    assert len(got) == len(wanted)
    for i, (y, expected) in enumerate(zip(got, wanted, strict=True)):
        assert_golden(y, expected.detach(), f"output {i}")
    sum((y * c).sum() for y, c in zip(got, cotangents, strict=True)).backward()
    for i, (x, expected) in enumerate(zip(own, inputs, strict=True)):
        assert_golden(x.grad, expected.grad, f"input gradient {i}")
    recipe = _find(source, cls)
    prefixes = recipe.build(**{**(recipe.infer(state) if recipe.infer else {}), **ctor})[1]
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    learned = {key: value for key, value in weights.state.items() if value.requires_grad}
    scale = max((v.grad.abs().max().item() for v in learned.values() if v.grad is not None), default=1.0)
    for key, value in learned.items():
        grad, expected = (
            torch.zeros_like(t) if t.grad is None else t.grad for t in (tensors[to_ours(key, prefixes)], value)
        )
        assert_golden(grad.reshape(expected.shape), expected, f"gradient of {key}", scale)
    for key, expected in weights.after.items():
        assert_golden(tensors[to_ours(key, prefixes)], expected, f"{key} after the step")
