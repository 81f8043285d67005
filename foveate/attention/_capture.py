"""What mechanisms saw: gates, masks and affinities, recorded while a `capture` is open, free of cost otherwise."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Queries = str | Sequence[int | tuple[int, ...]]


class Rows(NamedTuple):
    """An affinity that is not kept whole: the sizes of the axes that a query counts along, and indices → rows."""

    sizes: Sequence[int]
    at: Callable[[Tensor], Tensor]  # flat indices (Q,) → (N, Q, K)


class Seen:
    """What a capture holds. `maps` is {module name: {"channel": (N, C), "spatial": (N, *S), …}}, detached.

    Names are those of the model inside torch.compile and the data-parallel wrappers; the model itself is "".
    A module that runs several times within the capture keeps its last maps.
    """

    def __init__(self, model: nn.Module, queries: Queries | None = None) -> None:
        self.maps: dict[str, dict[str, Any]] = {}
        self.queries = queries
        modules = dict(model.named_modules())
        self._names = {id(module): _site(name, modules) for name, module in modules.items()}

    def _add(self, module: nn.Module, maps: dict[str, Any]) -> None:
        if (name := self._names.get(id(module))) is None:
            return
        for key, value in maps.items():
            if isinstance(value, Rows):
                chosen = None if self.queries is None else _indices(self.queries, value.sizes, name)
                if chosen is None:
                    continue
                with torch.no_grad():
                    value = value.at(torch.tensor(chosen, dtype=torch.long))
            self.maps.setdefault(name, {})[key] = value.detach() if isinstance(value, Tensor) else value


def _indices(queries: Queries, sizes: Sequence[int], name: str) -> list[int] | None:
    """Flat indices of the queries on a grid of these sizes; None for points of several axes on a grid of one."""
    count = math.prod(sizes)
    if isinstance(queries, str):
        return list(range(count))
    chosen = []
    for query in queries:
        point = (query,) if isinstance(query, int) else tuple(query)
        grid = (count,) if isinstance(query, int) else tuple(sizes)
        if len(grid) == 1 < len(point):
            return None
        if len(point) != len(grid) or not all(0 <= i < size for i, size in zip(point, grid, strict=True)):
            where = "×".join(map(str, sizes))
            raise ValueError(
                f"capture: query {query!r} is no position of {name or 'the module'}, whose grid is {where}"
            )
        index = 0
        for i, size in zip(point, grid, strict=True):
            index = index * size + i
        chosen.append(index)
    return chosen


def _site(name: str, modules: dict[str, nn.Module]) -> str:
    """The name of the site that an inserted module stands at, as `foveate.sites` gives it; else the module's name."""
    parts = name.split(".")
    if "foveate" not in parts:
        return _unwrapped(parts, modules)
    above = parts.index("foveate")
    site = getattr(modules[".".join(parts[: above + 1])], "_foveate_site", None)
    return site.name if site is not None else _unwrapped(parts[:above], modules)


def _unwrapped(parts: list[str], modules: dict[str, nn.Module]) -> str:
    """The name without the parts that torch.compile and the data-parallel wrappers put into it."""
    kept = []
    for i, part in enumerate(parts):
        wraps = isinstance(modules[".".join(parts[:i])], nn.DataParallel | nn.parallel.DistributedDataParallel)
        if part != "_orig_mod" and not (wraps and part == "module"):
            kept.append(part)
    return ".".join(kept)


_open: list[Seen] = []


@contextmanager
def capture(model: nn.Module, queries: Queries | None = None) -> Iterator[Seen]:
    """Record what the attention mechanisms in the model see.

        with foveate.capture(model) as seen:
            model(x)
        seen.maps["layer1.0.bn2"]["channel"]  # (N, C)

    An affinity of every position to every other is seldom wanted whole. `queries` says of which positions to keep it:
    a list of points such as (y, x), or of whole numbers (the flattened position; the channel where channels attend to
    one another), gives "affinity" (N, queries, keys); "all" gives every row; without queries it is left out. Where a
    grid has one axis only (a signal, the channels), points of several axes leave it out.

    Works in training and evaluation; a compiled model runs its uncompiled code inside the capture, since a compiled
    graph has no place to look into. Nothing of the model is changed.

    Raises: ValueError: another word than "all"; a query outside the grid of a module that runs within the capture.
    """
    if isinstance(queries, str) and queries != "all":
        raise ValueError(f"capture: queries must be 'all' or a list of positions; got {queries!r}")
    seen = Seen(model, queries)
    _open.append(seen)
    previous = torch.compiler.set_stance("force_eager")
    try:
        with previous:
            yield seen
    finally:
        _open.remove(seen)


def capturing() -> bool:
    """Whether a capture is open; asked before computing what is only computed to be shown."""
    return not torch.compiler.is_compiling() and bool(_open)


def record(module: nn.Module, **maps: Any) -> None:
    """Called by a mechanism with what it computed: channel (N, C), spatial (N, *S), affinity `Rows`, …

    Outside a capture it does nothing.
    """
    if torch.compiler.is_compiling() or not _open:
        return
    for seen in _open:
        seen._add(module, maps)
