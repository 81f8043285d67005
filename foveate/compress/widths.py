"""An attention mechanism made narrower: some channels of its map are gone.

Which axes of its tensors follow the channels of the map, and which its inner width, is found by building it without
memory at other widths.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveate.attention import Made, attention_options, create_attention, made_by
from foveate.networks import build_without_memory

SHUFFLING = {"sa"}  # their channels leave in another order than they come
BY_WIDTH = ("heads", "kernel_size")  # options whose default depends on the width, and that must stay
Shapes = dict[str, tuple[int, ...]]
Axis = tuple[str, int, int]  # name of a tensor, axis, its size


@dataclass(frozen=True)
class Narrowing:
    """How one mechanism is made narrower.

    Attributes:
        made: how it was built, with every option that would be another one at another width.
        groups: parts of equal size that the channels fall into, which must lose the same places each.
    """

    made: Made
    groups: int

    @classmethod
    def of(cls, module: nn.Module) -> "Narrowing | None":
        """None: the width must stay: the mechanism shuffles channels, or was made narrower before."""
        made = made_by(module)
        if made is None or made.name in SHUFFLING:
            return None
        whole = cls(_settled(module, made), 1)
        if whole.shapes(made.channels) != _shapes(module):
            return None  # it is narrower than it was built
        divisors = (n for n in range(1, made.channels + 1) if made.channels % n == 0)
        return next((cls(whole.made, n) for n in divisors if whole.shapes(made.channels + n) is not None), None)

    def shapes(self, channels: int) -> Shapes | None:
        """Of its tensors at another width; None where it cannot have it."""
        made = self.made
        try:
            return _shapes(
                build_without_memory(
                    lambda: create_attention(made.name, channels, spatial_dims=made.spatial_dims, **made.options)
                )
            )
        except ValueError:
            return None

    def state(self, module: nn.Module, keep: list[int]) -> dict[str, Tensor]:
        """The state of the mechanism with these channels alone.

        Inner widths become those that it has where it is built for so few channels, and the inner channels with the
        largest weights stay. Where it cannot be built for so few, they stay as they are.
        """
        state, wanted = module.state_dict(), self.shapes(len(keep))
        following = set(self._following(_shapes(module)))
        inner = _inner_axes(_shapes(module), wanted, following) if wanted else set()
        kept = _largest(state, inner, wanted) if inner and wanted else []
        for name, value in list(state.items()):
            for axis, size in enumerate(value.shape):
                if (name, axis, size) in following:
                    state[name] = _some(state[name], axis, _of_channels(keep, size, self.made.channels))
                elif (name, axis, size) in inner:
                    state[name] = _some(state[name], axis, _repeated(kept, size, _least(inner)))
        return state

    def _following(self, here: Shapes) -> Iterator[Axis]:
        """The axes whose sizes are a multiple or a part of the channels."""
        channels = self.made.channels
        there = self.shapes(channels + self.groups)
        assert there is not None
        for name, shape in here.items():
            for axis, size in enumerate(shape):
                grown = there[name][axis] - size
                if grown and grown * channels == size * self.groups:
                    yield name, axis, size


def _settled(module: nn.Module, made: Made) -> Made:
    """With the values of options that depend on the width where they are not given."""
    defaults = attention_options(made.name)
    by_width = (name for name in BY_WIDTH if defaults.get(name, 0) is None and hasattr(module, name))
    found = {name: getattr(module, name) for name in by_width}
    return Made(made.name, made.channels, made.spatial_dims, found | made.options)


def _shapes(module: nn.Module) -> Shapes:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def _of_channels(keep: list[int], size: int, channels: int) -> list[int]:
    """Which places of an axis stay: one axis may have all channels several times, or one part of them."""
    if size < channels:
        return [place for place in keep if place < size]
    return [place + start for start in range(0, size, channels) for place in keep]


def _inner_axes(here: Shapes, wanted: Shapes, following: set[Axis]) -> set[Axis]:
    """The other axes that differ at the new width; none where one of them is no axis of channels."""
    inner = {
        (name, axis, size)
        for name, shape in here.items()
        for axis, size in enumerate(shape)
        if (name, axis, size) not in following and wanted[name][axis] != size
    }
    if not inner:
        return inner
    least, new = _least(inner), min(wanted[name][axis] for name, axis, _ in inner)
    fits = all(axis < 2 and size * new == wanted[name][axis] * least for name, axis, size in inner)
    return inner if fits else set()


def _least(inner: set[Axis]) -> int:
    """The inner width; an axis may have a multiple of it."""
    return min(size for _, _, size in inner)


def _largest(state: dict[str, Tensor], inner: set[Axis], wanted: Shapes) -> list[int]:
    """The inner channels with the largest weights, as many as stay."""
    total = torch.zeros(_least(inner), dtype=torch.float64)
    for name, axis, size in inner:
        if "running" not in name:
            squares = state[name].detach().double().cpu().square().movedim(axis, 0).reshape(size, -1).sum(1)
            total += squares.reshape(-1, len(total)).sum(0)
    name, axis, _ = min(inner, key=lambda one: one[2])
    return sorted(total.topk(wanted[name][axis]).indices.tolist())


def _repeated(kept: list[int], size: int, width: int) -> list[int]:
    return [place + start for start in range(0, size, width) for place in kept]


def _some(value: Tensor, axis: int, places: list[int]) -> Tensor:
    return value.index_select(axis, torch.tensor(places, device=value.device))
