"""The layout of a feature tensor, read from a trace, and the module that gives it to attention as a map."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from foveate.insertion.probe import CONVOLUTIONS, Node, Trace

_AXES = ("L", "HW", "DHW")
FRAMES_IN_BATCH = "(NT)CHW"
_SCATTERING = {"Unroll": "are not in the order of their grid", "PatchDropout": "are dropped at random in training"}
"""Class names of modules behind which tokens are no grid, those of Hiera and of timm's ``patch_drop_rate``."""


@dataclass(frozen=True)
class Layout:
    """Where channels and positions are.

    Attributes:
        name: ``"NCHW"`` (``"NCL"``, ``"NCDHW"``), ``"NHWC"`` (``"NDHWC"``), or ``"NLC"``; ``"NLC+1"`` has one class or
            register token before the grid, ``"NC(HW)"`` has the grid on one axis behind the channels; ``"(NT)CHW"`` has
            the frames of clips in its batch.
        channels: C.
        shape: spatial sizes; of tokens, those of the grid that they were made from.
        prefix: tokens before the grid, which attention never sees.
        input_shape: spatial sizes of the network's input; empty if it takes no single map.
    """

    name: str
    channels: int
    shape: tuple[int, ...]
    prefix: int = 0
    input_shape: tuple[int, ...] = ()


@dataclass(eq=False)
class InputShape:
    """The spatial sizes of the input of the forward pass that runs; empty if it has no map among its arguments."""

    sizes: tuple[int, ...] = ()

    def __getstate__(self) -> dict[str, tuple[int, ...]]:
        return {"sizes": ()}


def map_sizes(args: Iterable[object]) -> tuple[int, ...]:
    """Spatial sizes of the first tensor with two or three of them among arguments; empty if there is none."""
    return next((tuple(x.shape[2:]) for x in args if isinstance(x, torch.Tensor) and x.ndim in (4, 5)), ())


class OnMap(nn.Module):
    r"""Runs an attention for maps on a tensor whose channels are last, whose positions share one axis, or whose batch
    has the frames of clips.

    Args:
        attention: module ``(N, C, *S) -> (N, C, *S)``.
        layout: of the input tensor.

    Shape:
        (N, \*S, C), (N, prefix + L, C), (N, C, L) or (N·T, C, H, W), and out in the same layout; the first ``prefix``
        tokens pass unchanged. T is that of the input.
        The grid of an input of another size than at insertion is as much smaller than the input as it was there,
        rounded up or down. Where the input is not known or that gives another number of tokens, the grid has the aspect
        ratio of insertion.

    Raises:
        ValueError: the number of tokens gives no such grid, the batch no whole number of clips.
    """

    def __init__(self, attention: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.attention = attention
        self.prefix, self.grid = layout.prefix, layout.shape
        self.strides = _strides(layout.input_shape, layout.shape)
        self.now: InputShape | None = None
        self.tokens, self.flat = layout.name.startswith("NLC"), layout.name.startswith("NC(")
        self.frames = layout.name == FRAMES_IN_BATCH

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.frames:
            sizes = () if self.now is None else self.now.sizes
            count = sizes[0] if len(sizes) == 3 else self.grid[0]
            if x.shape[0] % count:
                raise ValueError(f"wanted whole clips of {count} frames in the batch; got {x.shape[0]} images")
            clips = x.unflatten(0, (-1, count)).transpose(1, 2)
            return self.attention(clips).transpose(1, 2).flatten(0, 1)
        if self.flat:
            return self.attention(x.unflatten(2, self._grid(x.shape[2]))).flatten(2)
        if not self.tokens:
            return self.attention(x.movedim(-1, 1)).movedim(1, -1)
        maps = x[:, self.prefix :].mT.unflatten(2, self._grid(x.shape[1] - self.prefix))
        y = self.attention(maps).flatten(2).mT
        return torch.cat([x[:, : self.prefix], y.to(x.dtype)], 1) if self.prefix else y.contiguous()

    def _grid(self, length: int) -> tuple[int, ...]:
        for grid in self._grids_of_input():
            if math.prod(grid) == length:
                return grid
        area = math.prod(self.grid)
        if length == area:
            return self.grid
        scale = (length / area) ** (1 / len(self.grid))
        grid = tuple(round(size * scale) for size in self.grid)
        if math.prod(grid) != length:
            raise ValueError(
                f"wanted tokens of a grid like {'×'.join(map(str, self.grid))}"
                + (f" behind {self.prefix} others" if self.prefix else "")
                + f", as at insertion; got {length}, which is no such grid. Insert with an example of the new size"
            )
        return grid

    def _grids_of_input(self) -> Iterator[tuple[int, ...]]:
        """Grids that an input of this size may have."""
        if self.now is None:
            return
        sizes = self.now.sizes
        if len(sizes) == len(self.grid):
            for steps, up in self.strides:
                yield tuple(-(-n // step) if up else n // step for n, step in zip(sizes, steps, strict=True))

    def extra_repr(self) -> str:
        return f"grid={self.grid}, prefix={self.prefix}"


def _strides(whole: tuple[int, ...], grid: tuple[int, ...]) -> list[tuple[tuple[int, ...], bool]]:
    """Strides by axis that make the grid of the whole, and whether by rounding up; no more than eight.

    Height and width have the same; frames of a clip have their own.
    """
    if len(whole) != len(grid):
        return []
    found = [((step,) * len(grid[-2:]), up) for step, up in _steps(whole[-2:], grid[-2:])]
    if len(grid) == 3:
        frames = _steps(whole[:1], grid[:1])
        found = [((step, *steps), up) for steps, up in found for step, also in frames if also == up]
    return found[:8]


def _steps(whole: tuple[int, ...], grid: tuple[int, ...]) -> list[tuple[int, bool]]:
    """Strides of all axes alike; powers of two first."""
    fitting = [
        (step, up)
        for step in range(1, 4 * max(whole) + 1)
        for up in (True, False)
        if all((-(-size // step) if up else size // step) == n for size, n in zip(whole, grid, strict=True))
    ]
    return sorted(fitting, key=lambda one: (one[0].bit_count() > 1, one[0]))


def layout_of(trace: Trace, index: int) -> Layout | None:
    """The layout of a traced tensor; None if it is no feature tensor or its layout is not understood."""
    if index not in trace.layouts:
        trace.layouts[index] = _layout(trace, trace.nodes[index])
    found = trace.layouts[index]
    assert found is None or isinstance(found, Layout)
    return found


def _layout(trace: Trace, node: Node) -> Layout | None:
    rank, shape = len(node.shape) - 2, node.shape
    if node.is_map:
        found = _grid_of(trace, node, shape[2]) if rank == 1 else None
        if found is not None and found[0] == 0 and len(found[1]) > 1:
            return Layout(f"NC({_AXES[len(found[1]) - 1]})", shape[1], found[1], 0, _input_shape(trace))
        return Layout(f"NC{_AXES[rank - 1]}", shape[1], shape[2:])
    if rank not in (1, 2, 3) or node.axis != rank + 1 or shape[0] not in _batches(trace, node):
        return None
    if rank > 1:
        if not _scaled(trace, node):
            return None
        return Layout(f"N{_AXES[rank - 1]}C", shape[-1], shape[1:-1])
    found = _grid_of(trace, node, shape[1])
    if found is None or _scattered(trace):
        return None
    prefix, grid = found
    return Layout(f"NLC+{prefix}" if prefix else "NLC", shape[2], grid, prefix, _input_shape(trace))


def _input_shape(trace: Trace) -> tuple[int, ...]:
    inputs = (node.shape for node in trace.nodes if node.op == "input")
    return next((shape[2:] for shape in inputs if len(shape) in (4, 5)), ())


def frames_in_batch(trace: Trace, shape: tuple[int, ...]) -> tuple[int, ...]:
    """(T, H, W) of the input of clips whose frames are the batch of a map of this shape; empty if they are not."""
    clips = next((node.shape for node in trace.nodes if node.op == "input" and len(node.shape) == 5), None)
    return clips[2:] if clips is not None and len(shape) == 4 and shape[0] == clips[0] * clips[2] else ()


def _scattered(trace: Trace) -> str:
    """Why tokens are no grid; "" if nothing scatters them."""
    return next((_SCATTERING[kind] for call in trace.calls if (kind := type(call.module).__name__) in _SCATTERING), "")


def what_is_seen(trace: Trace, index: int) -> str:
    """A phrase about a tensor without a layout: its shape, and why no layout was found."""
    node = trace.nodes[index]
    seen = f"a tensor {node.shape}"
    if len(node.shape) not in (3, 4, 5):
        return f"{seen}, no map (N, C, *S) with one to three spatial axes and no tokens (N, L, C)"
    if node.axis is None:
        return f"{seen}, whose channel axis is not known"
    seen += f" with channels on axis {node.axis}"
    if node.axis != len(node.shape) - 1:
        return f"{seen}, which is neither (N, C, *S) nor channels last"
    batches = _batches(trace, node)
    if node.shape[0] not in batches:
        known = " or ".join(map(str, sorted(batches))) or "unknown"
        return f"{seen}, whose first axis is not the batch ({known}): windows, or sequence first"
    if len(node.shape) > 3:
        return f"{seen}, whose other axes are no map that was seen before at another scale: windows"
    if reason := _scattered(trace):
        return f"{seen}, whose tokens {reason}"
    grids = dict.fromkeys("×".join(map(str, g)) for _, g in _grids(trace, node))
    return (
        f"{seen}, whose {node.shape[1]} tokens are no grid that was seen before"
        + (f" ({', '.join(list(grids)[-3:])})" if grids else "")
        + ", with or without tokens put before it"
    )


def _ancestors(trace: Trace, node: Node) -> Iterator[Node]:
    """Latest first."""
    past = trace.ancestors[node.index]
    return (trace.nodes[i] for i in reversed(range(node.index)) if past >> i & 1)


def _batches(trace: Trace, node: Node) -> set[int]:
    """Batch sizes that the inputs and convolutions behind a tensor had."""
    return {n.shape[0] for n in _ancestors(trace, node) if n.shape and (n.op == "input" or n.op in CONVOLUTIONS)}


def _scaled(trace: Trace, node: Node) -> bool:
    """Whether the last two of the positions are those of an input or convolution, a whole number of times smaller."""
    high, wide = node.shape[-3:-1]

    def fits(of: tuple[int, int]) -> bool:
        if not of[0] % high and not of[1] % wide and of[0] // high == of[1] // wide:
            return True
        if not high % of[0] and not wide % of[1] and high // of[0] == wide // of[1]:
            return True  # larger
        steps = {max(1, round(of[0] / high)), max(1, round(of[1] / wide)), max(1, -(-of[1] // wide))}
        return any(high in (of[0] // s, -(-of[0] // s)) and wide in (of[1] // s, -(-of[1] // s)) for s in steps)

    seen = (n for n in _ancestors(trace, node) if len(n.shape) > 3 and (n.op == "input" or n.op in CONVOLUTIONS))
    return any(fits((n.shape[-2], n.shape[-1])) or fits((n.shape[-3], n.shape[-2])) for n in seen)


def _grids(trace: Trace, node: Node) -> Iterator[tuple[Node, tuple[int, ...]]]:
    """Spatial sizes of all maps behind a tensor, of the same batch or with the heads in it, latest first."""
    for past in _ancestors(trace, node):
        rank = len(past.shape) - 2
        if rank not in (1, 2, 3) or past.op == "input":
            continue
        if past.shape[0] != node.shape[0] and (past.op not in CONVOLUTIONS or past.shape[0] % node.shape[0]):
            continue
        if past.axis == 1:
            yield past, past.shape[2:]
        elif rank > 1 and past.axis == rank + 1:
            yield past, past.shape[1:-1]


def _axes_of(grid: tuple[int, ...]) -> tuple[int, int]:
    """How many axes have several positions, and how many there are."""
    return sum(size > 1 for size in grid), len(grid)


def _grid_of(trace: Trace, node: Node, length: int) -> tuple[int, tuple[int, ...]] | None:
    """The number of tokens before the grid, and the grid, of ``length`` tokens."""
    fitting = [grid for _, grid in _grids(trace, node) if math.prod(grid) == length]
    # the latest of those with most axes: (N, C, L) is a map that was flattened
    best = max(fitting, key=_axes_of, default=None)
    if best is not None and _axes_of(best)[0] > 1:
        return 0, best
    for past in (node, *_ancestors(trace, node)):
        if (
            past.joined is not None
            and len(past.shape) in (3, 4)
            and (past.shape[0], past.shape[-2])
            == (
                node.shape[0],
                length,
            )
        ):  # (N, L, C), or (N, heads, L, C)
            before, inside = past.joined
            if 0 < before == length - inside:
                found = _grid_of(trace, past, inside)
                if found is not None and (best is None or _axes_of(found[1])[0] > 1):
                    return before + found[0], found[1]
    if best is not None:
        return 0, best
    image = next((n.shape for n in _ancestors(trace, node) if n.op == "input" and len(n.shape) == 4), None)
    if length > 1 and image is not None and image[0] == node.shape[0]:  # cut into patches without a convolution
        high, wide = image[2:]
        step = math.isqrt(high * wide // length)
        if step and not high % step and not wide % step and (high // step) * (wide // step) == length:
            return 0, (high // step, wide // step)
    return None
