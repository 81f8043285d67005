"""Attention of transformers followed from the output back to the image: roll-out, and what the class token reads.

Instead of multiplying the matrices of all layers, one row is passed back through them: how much each token counts for
the output. Keys that were pooled are spread over their positions, windows are cut out and put back, and where the grid
becomes finer each position's share is divided among those that it was made of.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from foveate.attention import capture
from foveate.explain.layers import list_layers
from foveate.explain.targets import Explained, explained
from foveate.explain.watch import evaluating
from foveate.insertion import inserted
from foveate.insertion.probe import CHILD


@dataclass(frozen=True)
class Attended:
    """The weights of one attention in one run, averaged over heads.

    Attributes:
        name: of the module.
        weights: (N or N · windows, queries, keys).
        shift: of windows, in positions along each axis.
    """

    name: str
    weights: Tensor
    shift: tuple[int, ...] = (0, 0)


class _Seen(TorchFunctionMode):
    """Sees attention where torch computes it: scaled dot products, multi-head attention, softmax over keys."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[tuple[str, nn.Module]] = []
        self.found: list[tuple[str, Tensor]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.note(_weights(*args, **kwargs))
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            given, weights = func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": True})
            self.note(weights[:, None])
            return given, weights if kwargs.get("need_weights", True) else None
        result = func(*args, **kwargs)
        if func in (torch.softmax, F.softmax, Tensor.softmax) and result.dim() == 4:
            self.note(result)
        return result

    def note(self, weights: Tensor) -> None:
        """Of (N, heads, queries, keys)."""
        names = (name for name, module in reversed(self.stack) if next(module.parameters(), None) is not None)
        name = next(names, "")  # that of a softmax is the attention around it
        if name and weights.dim() == 4:
            self.found.append((name, weights.detach().float().mean(1)))


def _weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The softmax of `F.scaled_dot_product_attention`."""
    products = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        products = products.masked_fill(torch.ones(products.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
    if attn_mask is not None:
        masked = attn_mask.dtype == torch.bool
        products = products.masked_fill(~attn_mask, -math.inf) if masked else products + attn_mask
    return products.softmax(-1)


@contextmanager
def _named(model: nn.Module, seen: _Seen) -> Iterator[list[str]]:
    """While this is open, the mode knows which module runs; gives the names in the order of their calls."""
    order: list[str] = []
    with ExitStack() as stack:
        for name, module in model.named_modules():

            def enter(module: nn.Module, _: Any, name: str = name) -> None:
                seen.stack.append((name, module))
                order.append(name)

            def leave(_: nn.Module, __: Any, ___: Any) -> None:
                seen.stack.pop()

            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield order


def attention_of(model: nn.Module, inputs: Any) -> list[Attended]:
    """Every attention of a network's own layers in the order of their calls.

    Modules that were inserted are left out.
    """
    seen = _Seen()
    with evaluating(model), torch.inference_mode(), _named(model, seen) as order, capture(model, "all") as own, seen:
        model(inputs)
    modules = dict(model.named_modules())
    found = [Attended(name, weights, _shift(modules, name)) for name, weights in seen.found]
    seen_names = {one.name for one in found}
    for name, maps in own.maps.items():
        if isinstance(maps.get("affinity"), Tensor) and name not in seen_names:
            found.append(Attended(name, maps["affinity"].float()))
    places = {name: place for place, name in enumerate(order)}
    sites = {name for name, _ in inserted(model)}
    mine = [one for one in found if CHILD not in one.name.split(".") and one.name in places.keys() - sites]
    return sorted(mine, key=lambda one: places[one.name])


def _shift(modules: dict[str, nn.Module], name: str) -> tuple[int, ...]:
    """The shift of the windows of a Swin block, which the attention or the block around it has."""
    parts = name.split(".")
    for end in (len(parts), len(parts) - 1):
        shift = getattr(modules.get(".".join(parts[:end])), "shift_size", None)
        if shift is not None:
            return (shift, shift) if isinstance(shift, int) else tuple(shift)
    return (0, 0)


@dataclass(frozen=True)
class _Row:
    """How much each token counts: (prefix + h · w,), its sum is kept."""

    values: Tensor
    prefix: int
    grid: tuple[int, int]

    def on_grid(self) -> Tensor:
        return self.values[self.prefix :].unflatten(0, self.grid)


def _start(model: nn.Module, last: Tensor, shape: tuple[int, int]) -> _Row:
    """What the output reads of the last tokens: the class token, or all of the grid alike."""
    queries = last.shape[1]
    prefix = queries - math.prod(shape) if queries > math.prod(shape) and len(last) == 1 else 0
    values = torch.zeros(prefix + math.prod(shape))
    if prefix and getattr(model, "global_pool", "token") in ("token", ""):
        values[0] = 1
    else:
        values[prefix:] = 1 / math.prod(shape)
    return _Row(values, prefix, shape)


def _read(row: _Row, one: Attended) -> _Row:
    """What the row reads through this attention, without the residual way."""
    if not _fits(row, one):
        grid = "×".join(map(str, row.grid))
        raise ValueError(
            f"{one.name}: its attention over {one.weights.shape[1]} positions follows no grid of {grid}; attention is "
            "followed through encoders, whose grids become coarser"
        )
    weights = one.weights.cpu()
    if len(weights) > 1:
        return _Row(_windows(row.on_grid(), weights, one.shift).flatten(), 0, row.grid)
    keys = row.values @ weights[0]
    if keys.numel() == row.values.numel():
        return _Row(keys, row.prefix, row.grid)
    scale = math.sqrt(keys.numel() / math.prod(row.grid))
    coarse = tuple(max(1, round(side * scale)) for side in row.grid)
    return _Row(_spread(keys.reshape(coarse), row.grid).flatten(), 0, row.grid)


def _fits(row: _Row, one: Attended) -> bool:
    """Are the queries of this attention the tokens of the row, and its keys these, or pooled ones?"""
    windows, queries, keys = one.weights.shape
    if windows == 1:
        pooled = (*(round(side * math.sqrt(keys / math.prod(row.grid))) for side in row.grid),)
        return queries == row.values.numel() and (keys == queries or math.prod(pooled) == keys)
    side = math.isqrt(queries)
    return side * side == queries == keys and windows == math.prod(-(-extent // side) for extent in row.grid)


def _windows(row: Tensor, weights: Tensor, shift: tuple[int, ...]) -> Tensor:
    """Of attention within windows of a grid that is padded and shifted, as Swin's."""
    (high, wide), side = row.shape, math.isqrt(weights.shape[1])
    padded = F.pad(row, (0, -wide % side, 0, -high % side))
    moved = [0 if side >= extent else by for by, extent in zip(shift, padded.shape, strict=True)]
    rolled = padded.roll([-by for by in moved], (0, 1))
    across = rolled.shape[1] // side
    cut = rolled.unflatten(0, (-1, side)).unflatten(2, (-1, side)).transpose(1, 2).reshape(-1, 1, side * side)
    read = (cut @ weights).reshape(-1, across, side, side).transpose(1, 2).reshape(rolled.shape)
    return read.roll(moved, (0, 1))[:high, :wide]


def _spread(coarse: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Each value divided among the positions of the finer grid that it stands for; the sum stays."""
    fine = F.interpolate(coarse[None, None], shape, mode="nearest")[0, 0]
    return fine * (coarse.sum() / fine.sum().clamp_min(1e-12))


def _finer(row: _Row, one: Attended) -> _Row:
    """The row on the grid of this attention's queries."""
    queries = one.weights.shape[1] if len(one.weights) == 1 else None
    if queries is None:
        side = math.isqrt(one.weights.shape[1])
        fits = [
            step
            for step in (1, 2, 4)
            if math.prod(-(-extent * step // side) for extent in row.grid) == len(one.weights)
        ]
        factor = fits[0] if fits else 1
    else:
        factor = round(math.sqrt(max(1.0, (queries - row.prefix) / math.prod(row.grid))))
    if factor == 1:
        return row
    shape = (row.grid[0] * factor, row.grid[1] * factor)
    if queries is not None and math.prod(shape) != queries:  # sides that were rounded up
        shape = _near(shape, queries)
    return _Row(_spread(row.on_grid(), shape).flatten(), 0, shape)


def _near(shape: tuple[int, int], count: int) -> tuple[int, int]:
    for down in (0, 1):
        for right in (0, 1):
            if (shape[0] - down) * (shape[1] - right) == count:
                return shape[0] - down, shape[1] - right
    raise ValueError(f"attention over {count} positions follows no grid like {shape[0]}×{shape[1]}")


def _attended(model: nn.Module, inputs: Any) -> tuple[list[Attended], tuple[int, int]]:
    """The attention to follow, and the grid of the last one's tokens."""
    if not isinstance(inputs, Tensor) or inputs.dim() != 4:
        raise ValueError("attention is followed in images (N, C, H, W); got other inputs")
    found = attention_of(model, inputs[:1])
    if not found:
        raise ValueError(
            f"{type(model).__name__} computes no attention between tokens; wanted a transformer, such as a ViT, Swin "
            "or SegFormer; gradcam explains any network"
        )
    tokens = [layer for layer in list_layers(model, inputs[:1]) if layer.name in _around(found[-1].name)]
    grid = tokens[-1].shape if tokens else _square(found[-1])
    return found, (grid[0], grid[1])


def _around(name: str) -> list[str]:
    """The module and those around it, innermost first."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _square(one: Attended) -> tuple[int, int]:
    side = math.isqrt(one.weights.shape[1])
    return side, side


def _of_each(
    model: nn.Module, inputs: Tensor, targets: Any, follow: Callable[[nn.Module, Tensor], tuple[Tensor, list[str]]]
) -> tuple[Tensor, tuple[str, ...], Explained]:
    found, names = [], list[str]()
    for one in inputs:
        row, names = follow(model, one[None])
        found.append(row)
    with evaluating(model), torch.no_grad():
        about = explained(model(inputs), targets)
    return torch.stack(found), tuple(names), about


def roll_out(model: nn.Module, inputs: Tensor, targets: Any = None) -> tuple[Tensor, tuple[str, ...], Explained]:
    """Attention roll-out: half of each layer's output is its input, half what its attention reads.

    Source: Abnar, Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, arXiv:2005.00928. Deviation: layers
    with windows, pooled keys or merged patches, which the paper does not have, as in the head of this file.

    Returns: maps (N, h, w) on the grid of the first layer, names of the modules, what the network gives.
    Raises: ValueError: if the network computes no attention between tokens.
    """

    def follow(model: nn.Module, one: Tensor) -> tuple[Tensor, list[str]]:
        found, grid = _attended(model, one)
        row = _start(model, found[-1].weights, grid)
        for attended in reversed(found):
            row = _finer(row, attended)
            read = _read(row, attended)
            row = _Row((row.values + read.values) / 2, row.prefix, row.grid)
        return row.on_grid(), [attended.name for attended in found]

    return _of_each(model, inputs, targets, follow)


def class_token(model: nn.Module, inputs: Tensor, targets: Any = None) -> tuple[Tensor, tuple[str, ...], Explained]:
    """What the class token reads in the last layer; without a class token, what the positions read on average.

    Source: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021, arXiv:2104.14294.

    Returns, raises: as `roll_out`.
    """

    def follow(model: nn.Module, one: Tensor) -> tuple[Tensor, list[str]]:
        found, grid = _attended(model, one)
        row = _start(model, found[-1].weights, grid)
        return _read(row, found[-1]).on_grid(), [found[-1].name]

    return _of_each(model, inputs, targets, follow)


def attention_rows(model: nn.Module, inputs: Any, point: tuple[float, float]) -> dict[str, NDArray[np.float32]]:
    """{module: (h, w)}: what the token at this point reads in each attention layer of a transformer, mean over heads.

    point: (y, x) in shares of the image. {}: the network has no attention between tokens of a grid, or its inputs are
        no images.
    """
    if not isinstance(inputs, Tensor) or inputs.dim() != 4:
        return {}
    found = attention_of(model, inputs[:1])
    layers = {layer.name: layer for layer in list_layers(model, inputs[:1])} if found else {}
    rows: dict[str, NDArray[np.float32]] = {}
    for one in found:
        for layer in (layers[name] for name in _around(one.name) if name in layers):
            grid = (layer.shape[0], layer.shape[1])
            values = torch.zeros(layer.prefix + math.prod(grid))
            at = [min(int(share * side), side - 1) for share, side in zip(point, grid, strict=True)]
            values[layer.prefix + at[0] * grid[1] + at[1]] = 1
            row = _Row(values, layer.prefix, grid)
            if _fits(row, one):  # the module's own map may be of windows
                rows[one.name] = _read(row, one).on_grid().numpy()
                break
    return rows


ROLLOUTS = {"rollout": roll_out, "classtoken": class_token}
