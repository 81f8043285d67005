"""What lateral connections keep in memory: maps that are read again after coarser ones were computed from them.

A map (N, C, *S) of two or three axes is kept by a lateral connection from the operator that made it to the last that
reads it, if a convolution, pooling or resampling made a smaller map of more than one position from it, and an operator
that reads it after that gives a tensor at least as large, none of whose other operands comes from such a smaller map
without having been made larger since (by resampling or a transposed convolution). A residual connection around a
strided block, a gate from pooled maps and attention over fewer keys keep nothing in this sense.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from foveate.counting.inputs import Batch, call
from foveate.counting.traffic import bytes_of, storage_of, tensors_in
from foveate.counting.watch import as_found, fused_attention_off, module_paths


@dataclass(frozen=True)
class KeptMap:
    """One map that a lateral connection keeps.

    Attributes:
        made_in, read_in: modules whose operators made it, and first read it again.
        shape: of the map.
        bytes: of its storage.
        made, again, last: numbers in the forward pass of the operators that made it, first read it again as above, and
            read it last.
    """

    made_in: str
    read_in: str
    shape: tuple[int, ...]
    bytes: int
    made: int
    again: int
    last: int


@dataclass(frozen=True)
class Skips:
    """What lateral connections keep during one forward pass in inference, and of how many operators it is."""

    maps: tuple[KeptMap, ...] = ()
    operators: int = 0

    @property
    def bytes(self) -> int:
        """The most that they keep at one time."""
        starts = {one.made for one in self.maps}
        return max((sum(m.bytes for m in self.maps if m.made <= at < m.last) for at in starts), default=0)


Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Read:
    """One operator that reads a map: its number and module, the map as it sees it, and whether it keeps the map."""

    number: int
    module: str
    shape: Shape
    keeps: bool


@dataclass
class _Made:
    """What is known of the memory that an operator wrote."""

    number: int
    module: str
    shape: Shape
    bytes: int
    from_maps: set[int] = field(default_factory=set)  # storages that it was computed from, itself included
    shrunk: bool = False  # did its operator make a smaller map?
    smaller: bool = False  # was it computed from a smaller map, without having been made larger since?
    reads: list[_Read] = field(default_factory=list)


def skips(model: nn.Module, x: Batch) -> Skips:
    """The maps that lateral connections keep in a forward pass over x, in inference; the model is left as found.

    Raises: as `count`.
    """
    watch = _Lives(model)
    with as_found(model), fused_attention_off():
        model.eval()
        with torch.no_grad(), watch.following(), watch:
            call(model, x)
    return Skips(tuple(watch.kept()), watch.number)


class _Lives(TorchDispatchMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = module_paths(model)
        self.running: list[nn.Module] = []
        self.made: dict[int, _Made] = {}
        self.number = 0
        self.alive: list[Tensor] = []  # or addresses would be given out again

    @contextmanager
    def following(self) -> Iterator[None]:
        """Knows which module is running."""

        def enter(module: nn.Module, args: Any) -> None:
            self.running.append(module)

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            self.running.pop()

        before = nn.modules.module.register_module_forward_pre_hook(enter)
        after = nn.modules.module.register_module_forward_hook(leave)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.number += 1
        given = {storage_of(t): tuple(t.shape) for t in tensors_in(args, kwargs) if storage_of(t) in self.made}
        for t in tensors_in(result):
            if storage_of(t) not in given:
                self._note(t, given, _resizes(func))
        return result

    def _note(self, t: Tensor, given: dict[int, Shape], resizes: bool) -> None:
        module = self.names.get(self.running[-1], "") if self.running else ""
        one = _Made(self.number, module, tuple(t.shape), bytes_of(t), {storage_of(t)})
        self.alive.append(t)
        here = _positions(one.shape)
        alike = [_positions(shape) for shape in given.values() if resizes and len(shape) == len(one.shape)]
        one.shrunk = any(positions > here > 1 for positions in alike)
        came = [self.made[key] for key in given]
        one.from_maps |= {key for other in came for key in other.from_maps}
        grew = any(positions < here for positions in alike)
        one.smaller = (one.shrunk or any(other.smaller for other in came)) and not grew
        self.made[storage_of(t)] = one
        for key, shape in given.items():
            others = [self.made[name] for name in given if name != key]
            own = self.made[key].shape
            if len(own) == len(one.shape) > 3:
                large = here >= _positions(shape if math.prod(shape) == math.prod(own) else own)  # not a part of it
            else:
                large = math.prod(one.shape) >= math.prod(shape)
            keeps = large and not any(other.smaller and key in other.from_maps for other in others)
            self.made[key].reads.append(_Read(self.number, module, shape, keeps))

    def kept(self) -> Iterator[KeptMap]:
        """In the order in which they were made."""
        for key, one in self.made.items():
            shape = next((read.shape for read in one.reads if len(read.shape) in (4, 5)), ())
            smaller = [
                other.number
                for other in self.made.values()
                if other.shrunk
                and other is not one
                and key in other.from_maps
                and _positions(other.shape) < _positions(shape)
            ]
            again = next((read for read in one.reads if smaller and read.keeps and read.number > min(smaller)), None)
            if shape and again is not None:
                last = one.reads[-1].number
                yield KeptMap(one.module, again.module, shape, one.bytes, one.number, again.number, last)


def _resizes(func: Any) -> bool:
    """Is it a convolution, a pooling or a resampling?"""
    return any(word in str(func) for word in ("convolution", "pool", "upsample", "interpolate", "pixel_shuffle"))


def _positions(shape: Shape) -> int:
    return math.prod(shape[2:])


def passes(model: nn.Module, x: Batch, found: Skips) -> tuple[Callable[[], object], Callable[[], object]] | None:
    """Two forward passes to be timed in turns: with these maps, and without any of them.

    Without: operators that read such a map again are given zeros that take no memory, so that the arithmetic is the
    same and the map is neither kept nor read again. Both are watched alike, operator by operator. The model must be in
    evaluation mode.

    Returns: None: without the maps the network runs other operators, so that there is nothing to compare.
    """

    def step(left_out: Mapping[int, int]) -> Callable[[], int]:
        def run() -> int:
            with torch.no_grad(), fused_attention_off(), _LeavingOut(left_out) as watch:
                call(model, x)
            return watch.number

        return run

    with_them, without = step({}), step({one.made: one.again for one in found.maps})
    return (with_them, without) if with_them() == without() == found.operators else None


class _LeavingOut(TorchDispatchMode):
    """again: number of the operator that makes a map → of the first that is given zeros in its place."""

    def __init__(self, again: Mapping[int, int]) -> None:
        super().__init__()
        self.again = again
        self.number = 0
        self.made: dict[int, int] = {}  # storage of a map → number of its maker

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.number += 1
        if any(self._left_out(t) for t in tensors_in(args, kwargs)):
            args, kwargs = tree_map_only(Tensor, lambda t: _zeros(t) if self._left_out(t) else t, (args, kwargs))
        result = func(*args, **kwargs)
        for t in tensors_in(result):
            if self.number in self.again:
                self.made[storage_of(t)] = self.number
            elif storage_of(t) in self.made and self.made[storage_of(t)] not in self._makers_of(args, kwargs):
                del self.made[storage_of(t)]  # the memory of a map that is gone, given out again
        return result

    def _left_out(self, t: Tensor) -> bool:
        maker = self.made.get(storage_of(t))
        return maker is not None and self.number >= self.again[maker]

    def _makers_of(self, *values: Any) -> set[int | None]:
        return {self.made.get(storage_of(t)) for t in tensors_in(*values)}


def _zeros(t: Tensor) -> Tensor:
    return torch.zeros((), dtype=t.dtype, device=t.device).expand(t.shape)
