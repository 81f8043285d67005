"""Which tensors of a network are its classifier: those whose shape follows the number of classes.

The network is built twice without memory, for n classes and for n + 1, and the shapes of its state are compared.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Build = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Head:
    """The tensors of a classifier.

    tensors: name → the axes that grow with the number of classes. sizes: (name, axis) → a, b of the size a·n + b at n
    classes: a is 1 for one linear layer, the number of anchors for a detector's convolution, 16 for capsules of 16.
    """

    tensors: dict[str, tuple[int, ...]]
    sizes: dict[tuple[str, int], tuple[int, int]]

    def allows(self, name: str, here: tuple[int, ...], there: tuple[int, ...]) -> bool:
        """Do two shapes of a tensor differ by the number of classes alone?"""
        axes = self.tensors.get(name, ())
        return len(here) == len(there) and all(
            a == b or axis in axes for axis, (a, b) in enumerate(zip(here, there, strict=True))
        )

    def outputs_of(self, state: Mapping[str, Tensor]) -> int | None:
        """How many classes a state dict is for; None where it has no tensor of the classifier.

        Raises: ValueError: its tensors are for different numbers, or for no whole one.
        """
        found: dict[int, str] = {}
        for (name, axis), (multiple, offset) in self.sizes.items():
            if name not in state or state[name].dim() <= axis:
                continue
            size = state[name].shape[axis]
            if multiple < 1 or (size - offset) % multiple or size <= offset:
                raise ValueError(f"{name}: wanted {multiple} · classes + {offset} on axis {axis}; got {size}")
            found.setdefault((size - offset) // multiple, name)
        if len(found) > 1:
            told = " and ".join(f"{name} for {count} classes" for count, name in found.items())
            raise ValueError(f"wanted a classifier for one number of classes; got {told}")
        return next(iter(found), None)


def find_head(build: Build, num_classes: int, *, built: nn.Module | None = None) -> Head:
    """The classifier of the networks that `build` makes: number of classes → network.

    Empty where the number of classes changes nothing, as in a function of one's own that does not take it.

    built: the network for `num_classes`, where there is one already.

    Raises: ValueError: the network cannot be built for one more class; what `build` raises at `num_classes`.
    """
    now = shapes_of(build_without_memory(lambda: build(num_classes)) if built is None else built)
    try:
        more = shapes_of(build_without_memory(lambda: build(num_classes + 1)))
    except Exception as error:  # a network of one's own may raise anything
        raise ValueError(
            f"the classifier is not known: built for {num_classes + 1} classes, the network raises {error}"
        ) from error
    sizes = {
        (name, axis): (other - size, size - (other - size) * num_classes)
        for name, shape in now.items()
        if len(more.get(name, ())) == len(shape)
        for axis, (size, other) in enumerate(zip(shape, more[name], strict=True))
        if size != other
    }
    tensors: dict[str, tuple[int, ...]] = {}
    for name, axis in sizes:
        tensors[name] = (*tensors.get(name, ()), axis)
    return Head(tensors, sizes)


def build_without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    """The network on the meta device; with memory where its constructor computes with values.

    torch's global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # initialisation of empty tensors
        try:
            with torch.device("meta"):
                return build()
        except (NotImplementedError, RuntimeError):
            return build()


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's state, by name."""
    state = model.state_dict()
    return {name: tuple(t.shape) for name, t in state.items() if isinstance(t, Tensor) and not is_lazy(t)}
