"""One row per primitive of foveate.kernels: inputs of any map shape, and what is computed from them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from foveate.kernels import gate_map, pool_planes, share

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """inputs: shape of the map → float64 tensors, the map first. run: (impl, *inputs) → outputs."""

    name: str
    inputs: Callable[[Shape], list[Tensor]]
    run: Callable[..., list[Tensor]]


def a_map(shape: Shape) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def of_channels(shape: Shape) -> Tensor:
    return torch.rand(shape[:2], dtype=torch.float64)


def of_positions(shape: Shape) -> Tensor:
    return torch.rand((shape[0], *shape[2:]), dtype=torch.float64)


def squeezed_and_gated(impl: str, x: Tensor, position: Tensor, added: Tensor) -> list[Tensor]:
    shared = share(x, impl=impl)
    pooled = pool_planes(shared, ("mean", "max", "magnitude", "variance"))
    gate = torch.sigmoid(pooled[0] + pooled[1] + pooled[2] * pooled[3])
    return [gate_map(shared, channel=gate, position=position, added=added)]


CASES = [
    Case(
        "pool_planes",
        lambda shape: [a_map(shape)],
        lambda impl, x: pool_planes(x, ("mean", "max", "magnitude", "variance"), impl=impl),
    ),
    Case(
        "gate_map",
        lambda shape: [a_map(shape), of_channels(shape), of_positions(shape), of_channels(shape)],
        lambda impl, x, c, p, a: [gate_map(x, channel=c, position=p, added=a, impl=impl)],
    ),
    Case(
        "gate_map of channels",
        lambda shape: [a_map(shape), of_channels(shape)],
        lambda impl, x, c: [gate_map(x, channel=c, impl=impl)],
    ),
    Case(
        "gate_map of positions",
        lambda shape: [a_map(shape), of_positions(shape)],
        lambda impl, x, p: [gate_map(x, position=p, impl=impl)],
    ),
    Case("shared", lambda shape: [a_map(shape), of_positions(shape), of_channels(shape)], squeezed_and_gated),
]
