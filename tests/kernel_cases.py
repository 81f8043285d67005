"""One row per primitive of foveate.kernels: its inputs for a map of any shape, and the call."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from foveate.kernels import (
    accumulate_branch_gradients,
    accumulate_gradient,
    attention_pool,
    channel_pool,
    conv_to_one,
    convolve_channels,
    gate_map,
    gate_strips,
    global_pool,
    mix_branches,
    pool_branches,
    pool_strips,
    sa_gate,
    sge_gate,
    shrink,
    squeeze_excite,
)

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
    accumulated = accumulate_gradient(x, impl=impl)
    pooled = global_pool(accumulated, ("mean", "max", "magnitude", "variance"))
    gate = torch.sigmoid(pooled[0] + pooled[1] + pooled[2] * pooled[3])
    return [gate_map(accumulated, channel=gate, position=position, added=added)]


def quarters(shape: Shape) -> Tensor:
    """Multiples of 1/4, so that sums of products are exact, in bfloat16 as well."""
    return torch.randint(-8, 9, shape, dtype=torch.float64) / 4


def far_from_0(shape: Shape) -> Tensor:
    """A map far from 0, which decides the sign of a sum with it."""
    x = a_map(shape)
    return x + 8 * x.sign()


def squeezed_and_joined(impl: str, x: Tensor, residual: Tensor) -> list[Tensor]:
    accumulated = accumulate_gradient(x, impl=impl)
    (mean,) = global_pool(accumulated, ("mean",))
    return [gate_map(accumulated, channel=torch.sigmoid(mean), residual=residual, activation="relu")]


def channels_then_positions(impl: str, x: Tensor, weight: Tensor) -> list[Tensor]:
    accumulated = accumulate_gradient(x, impl=impl)
    mean, largest = global_pool(accumulated, ("mean", "max"))
    channel = torch.sigmoid((mean + largest) * weight)
    pooled = channel_pool(accumulated, channel)
    return [gate_map(accumulated, channel=channel, position=torch.sigmoid(pooled[0] - pooled[1]))]


def attended_and_added(impl: str, x: Tensor, w: Tensor, b: Tensor) -> list[Tensor]:
    accumulated = accumulate_gradient(x, impl=impl)
    context, _ = attention_pool(accumulated, w, b)
    return [gate_map(accumulated, channel=torch.sigmoid(context), added=context * w)]


def branches_of(count: int) -> Callable[[Shape], list[Tensor]]:
    """`count` maps: the first, weights (N, M, C), and the other maps."""
    return lambda shape: [
        a_map(shape),
        torch.rand(shape[0], count, shape[1], dtype=torch.float64),
        *(a_map(shape) for _ in range(count - 1)),
    ]


def pooled_and_mixed(impl: str, x: Tensor, weights: Tensor, *others: Tensor) -> list[Tensor]:
    branches = accumulate_branch_gradients([x, *others], impl=impl)
    pooled = pool_branches(branches)
    return [mix_branches(branches, torch.softmax(weights * pooled.unsqueeze(1), 1))]


def doubled(shape: Shape) -> Tensor:
    """A map of twice as many channels."""
    return a_map((shape[0], 2 * shape[1], *shape[2:]))


def k_of(shape: Shape) -> int:
    """K of sa_gate for `doubled`: 3 channels where they divide, else 1."""
    return 3 if shape[1] % 3 == 0 else 1


def shrunk(impl: str, x: Tensor, factor: Tensor) -> list[Tensor]:
    accumulated = accumulate_gradient(x, impl=impl)
    (magnitude,) = global_pool(accumulated, ("magnitude",))
    return [shrink(accumulated, factor * magnitude)]


def in_2d(shape: Shape) -> Shape:
    return shape if len(shape) > 3 else (*shape[:2], 11, shape[2] // 11)


def to_convolve(shape: Shape) -> list[Tensor]:
    n, m, h, *w = in_2d(shape)
    return [a_map((n, m, h, math.prod(w))), torch.randn(1, m, 5, 7, dtype=torch.float64)]


def with_strips(shape: Shape) -> list[Tensor]:
    x = a_map(in_2d(shape))
    rows, columns = pool_strips(x, impl="reference")
    return [x, torch.rand_like(rows), torch.rand_like(columns)]


def pooled_and_gated_strips(impl: str, x: Tensor, r: Tensor, c: Tensor) -> list[Tensor]:
    accumulated = accumulate_gradient(x, impl=impl)
    rows, columns = pool_strips(accumulated)
    return [gate_strips(accumulated, torch.sigmoid(rows * r), torch.sigmoid(columns * c))]


def two_layers(shape: Shape) -> list[Tensor]:
    """A map, and two layers whose hidden values are far from 0."""
    channels, hidden = shape[1], max(1, shape[1] // 2)
    sides = 1 - 2 * (torch.arange(hidden, dtype=torch.float64) % 2)
    first, second = (torch.randn(*size, dtype=torch.float64) for size in ((hidden, channels), (channels, hidden)))
    return [a_map(shape), 0.1 * first / channels**0.5, 2 * sides, second, of_channels(shape)[0]]


CASES = [
    Case(
        "global_pool",
        lambda shape: [a_map(shape)],
        lambda impl, x: global_pool(x, ("mean", "max", "magnitude", "variance"), impl=impl),
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
    Case(
        "gate_map and a residual",
        lambda shape: [a_map(shape), of_channels(shape), of_positions(shape), of_channels(shape), a_map(shape)],
        lambda impl, x, c, p, a, r: [gate_map(x, channel=c, position=p, added=a, residual=r, impl=impl)],
    ),
    Case(
        "gate_map of channels, residual, relu",
        lambda shape: [quarters(shape), quarters(shape[:2]), quarters(shape) + 1 / 32],  # no sum is near 0
        lambda impl, x, c, r: [gate_map(x, channel=c, residual=r, activation="relu", impl=impl)],
    ),
    Case(
        "gate_map of positions, relu",
        lambda shape: [a_map(shape), of_positions(shape)],
        lambda impl, x, p: [gate_map(x, position=p, activation="relu", impl=impl)],
    ),
    Case("squeezed, gated and joined", lambda shape: [a_map(shape), far_from_0(shape)], squeezed_and_joined),
    Case(
        "channel_pool",
        lambda shape: [a_map(shape)],
        lambda impl, x: [*channel_pool(x, impl=impl)],
    ),
    Case(
        "channel_pool of a scaled map",
        lambda shape: [a_map(shape), of_channels(shape)],
        lambda impl, x, c: [*channel_pool(x, c, impl=impl)],
    ),
    Case(
        "attention_pool",
        lambda shape: [a_map(shape), torch.randn(shape[1], dtype=torch.float64), torch.randn(1, dtype=torch.float64)],
        lambda impl, x, w, b: [attention_pool(x, w, b, impl=impl)[0]],
    ),
    Case(
        "attended and added",
        lambda shape: [a_map(shape), torch.randn(shape[1], dtype=torch.float64), torch.randn(1, dtype=torch.float64)],
        attended_and_added,
    ),
    Case("channels, then positions", lambda shape: [a_map(shape), of_channels(shape)], channels_then_positions),
    Case(
        "sa_gate",
        lambda shape: [doubled(shape), *(torch.randn(2 * k_of(shape), dtype=torch.float64) for _ in "ab")],
        lambda impl, x, w, b: [sa_gate(x, w, b, impl=impl)],
    ),
    Case(
        "sge_gate",
        lambda shape: [doubled(shape), *(torch.randn(shape[1], dtype=torch.float64) for _ in "ab")],
        lambda impl, x, w, b: [sge_gate(x, w, b, impl=impl)],
    ),
    Case(
        "shrink",
        lambda shape: [a_map(shape), of_channels(shape)],
        lambda impl, x, t: [shrink(x, t, impl=impl)],
    ),
    Case("shrunk by its own size", lambda shape: [a_map(shape), of_channels(shape)], shrunk),
    Case("conv_to_one", to_convolve, lambda impl, x, w: [conv_to_one(x, w, impl=impl)]),
    Case("pool_strips", lambda shape: [a_map(in_2d(shape))], lambda impl, x: [*pool_strips(x, impl=impl)]),
    Case("gate_strips", with_strips, lambda impl, x, r, c: [gate_strips(x, r, c, impl=impl)]),
    Case("strips pooled and gated", with_strips, pooled_and_gated_strips),
    Case(
        "pool_branches",
        lambda shape: [a_map(shape), a_map(shape)],
        lambda impl, x, z: [pool_branches([x, z], impl=impl)],
    ),
    Case("mix_branches", branches_of(3), lambda impl, x, w, *z: [mix_branches([x, *z], w, impl=impl)]),
    Case("branches pooled and mixed", branches_of(2), pooled_and_mixed),
    Case("squeeze_excite", two_layers, lambda impl, *given: [squeeze_excite(*given, impl=impl)[0]]),
    Case(
        "squeeze_excite without biases",
        lambda shape: [a_map(shape), of_channels(shape), of_channels(shape).T.contiguous()],
        lambda impl, x, w1, w2: [squeeze_excite(x, w1, None, w2, None, impl=impl)[0]],
    ),
    Case(
        "convolve_channels",
        lambda shape: [a_map(shape), torch.randn(1, 1, 3, dtype=torch.float64)],
        lambda impl, x, w: [convolve_channels(x, w, impl=impl)[0]],
    ),
    Case(
        "convolve_channels, a kernel for each",
        lambda shape: [a_map(shape), torch.randn(shape[1], 1, 5, dtype=torch.float64)],
        lambda impl, x, w: [convolve_channels(x, w, impl=impl)[0]],
    ),
    Case("shared", lambda shape: [a_map(shape), of_positions(shape), of_channels(shape)], squeezed_and_gated),
]
