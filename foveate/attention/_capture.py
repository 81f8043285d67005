"""Captures: the gates, masks and affinities that mechanisms compute, recorded while a `capture` is open."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Points = Sequence[int | tuple[int, ...]]
Queries = str | Points | Callable[[Sequence[int]], Points | None]


class LazyAffinity(NamedTuple):
    """An affinity whose rows are computed on demand.

    sizes: of the axes of the queries. at: flat indices of queries (Q,) → rows (N, Q, K).
    """

    sizes: Sequence[int]
    at: Callable[[Tensor], Tensor]


class Captured:
    """The maps of a capture: `maps` is {module name: {"channel": (N, C), "spatial": (N, *S), …}}, detached.

    Names are those of the model inside torch.compile and the data-parallel wrappers; the model itself is "".
    For a module that runs several times within the capture, the maps of the last run remain. `grids` has the sizes of
    the grid of each affinity's queries.
    """

    def __init__(self, model: nn.Module, queries: Queries | None = None) -> None:
        self.maps: dict[str, dict[str, Any]] = {}
        self.grids: dict[str, tuple[int, ...]] = {}
        self.queries = queries
        modules = dict(model.named_modules())
        self._names = {id(module): _site(name, modules) for name, module in modules.items()}

    def _add(self, module: nn.Module, maps: dict[str, Any]) -> None:
        if (name := self._names.get(id(module))) is None:
            return
        for key, value in maps.items():
            if isinstance(value, LazyAffinity):
                chosen = None if self.queries is None else _indices(self.queries, value.sizes, name)
                if chosen is None:
                    continue
                self.grids[name] = tuple(value.sizes)
                with torch.no_grad():
                    value = value.at(torch.tensor(chosen, dtype=torch.long))
            self.maps.setdefault(name, {})[key] = value.detach() if isinstance(value, Tensor) else value


def _indices(queries: Queries, sizes: Sequence[int], name: str) -> list[int] | None:
    """Flat indices of the queries on a grid of these sizes; None for points of several axes on a grid of one."""
    count = math.prod(sizes)
    if isinstance(queries, str):
        return list(range(count))
    points = queries(sizes) if callable(queries) else queries
    if points is None:
        return None
    chosen = []
    for query in points:
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
    """The name of an inserted module's site, as in `foveate.sites`; for other modules their own name."""
    parts = name.split(".")
    if "foveate" not in parts:
        return _unwrapped(parts, modules)
    above = parts.index("foveate")
    # a module that carries several has each one level deeper, where it has the site of its own
    holders = (modules.get(".".join(parts[:end])) for end in (above + 2, above + 1))
    site = next(
        (vars(one)["_foveate_site"] for one in holders if one is not None and "_foveate_site" in vars(one)), None
    )
    return site.name if site is not None else _unwrapped(parts[:above], modules)


def _unwrapped(parts: list[str], modules: dict[str, nn.Module]) -> str:
    """The name without the parts that torch.compile and the data-parallel wrappers add."""
    kept = []
    for i, part in enumerate(parts):
        wraps = isinstance(modules[".".join(parts[:i])], nn.DataParallel | nn.parallel.DistributedDataParallel)
        if part != "_orig_mod" and not (wraps and part == "module"):
            kept.append(part)
    return ".".join(kept)


_active: list[Captured] = []


@contextmanager
def capture(model: nn.Module, queries: Queries | None = None) -> Iterator[Captured]:
    """Record the maps that the attention mechanisms in the model compute.

        with foveate.capture(model) as seen:
            model(x)
        seen.maps["layer1.0.bn2"]["channel"]  # (N, C)

    Args:
        model: any module; in training or evaluation mode, and not changed.
        queries: the positions whose rows of an affinity map are recorded, as "affinity" (N, queries, keys): a list of
            points such as (y, x) or of flat positions (channels, where channels attend to one another), or "all"; or a
            function from the sizes of a module's grid to such a list, or None for none of it. None: no affinity. Where
            a grid has one axis (a signal, channels), points of several axes are left out.

    Inside the capture a compiled model runs its uncompiled code, since a compiled graph cannot be recorded.

    Raises: ValueError: another word than "all"; a query outside the grid of a module that runs within the capture; a
        TorchScript module, which records nothing.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("capture: a TorchScript module records nothing; give the network that it was made from")
    if isinstance(queries, str) and queries != "all":
        raise ValueError(f"capture: queries must be 'all' or a list of positions; got {queries!r}")
    seen = Captured(model, queries)
    _active.append(seen)
    previous = torch.compiler.set_stance("force_eager")
    try:
        with previous:
            yield seen
    finally:
        _active.remove(seen)


def capturing() -> bool:
    """Is a capture open? For maps that are computed only to be recorded."""
    return not torch.compiler.is_compiling() and bool(_active)


def record(module: nn.Module, **maps: Any) -> None:
    """Add a module's maps to all open captures: channel (N, C), spatial (N, *S), affinity (a `LazyAffinity`), …

    Mechanisms call this in their forward pass; outside a capture it does nothing.
    """
    if torch.compiler.is_compiling() or not _active:
        return
    for seen in _active:
        seen._add(module, maps)
