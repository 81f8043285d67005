"""What every data set is to the rest: two splits that give batches, and what one sample and its targets are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.registry import Registry, check_options, is_file_reference, read_from_file
from foveate.spec import DataSpec

Progress = Callable[[int, int], None]
IGNORED = 255  # a mask's value for pixels that count nowhere


@dataclass(frozen=True)
class Target:
    """What one entry of a batch's targets is.

    Attributes:
        kind: "class": int64 (N,) or, with several labels a sample, float (N, K); "mask": int64 (N, *S), IGNORED where
            nothing is known; "values": float32 (N, K); "map": float32 (N, K, *S); "other": the task knows.
        names: of the classes, or of the K values.
        unit: of values and maps: "px", "m/s", …; targets stay in it.
    """

    kind: Literal["class", "mask", "values", "map", "other"]
    names: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class Batch:
    """Samples of a split: what the network takes, what it should give, and which samples they are.

    Attributes:
        inputs: a tensor (N, C, *S), or a list or dict of tensors.
        targets: as inputs; the data sets of the library give a dict with the names of `Dataset.targets`.
        items: int64 (N,), the samples' numbers in the split.
    """

    inputs: Any
    targets: Any
    items: Tensor

    def __len__(self) -> int:
        return len(self.items)

    def to(self, device: torch.device | str, *, channels_last: bool = False) -> "Batch":
        """The batch on a device; `channels_last` is the memory format of 4-D inputs."""
        return Batch(
            _moved(self.inputs, device, channels_last), _moved(self.targets, device, False), self.items.to(device)
        )


def _moved(value: Any, device: torch.device | str, channels_last: bool) -> Any:
    if isinstance(value, Tensor):
        layout = torch.channels_last if channels_last and value.dim() == 4 else torch.preserve_format
        return value.to(device, memory_format=layout, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _moved(entry, device, channels_last) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(entry, device, channels_last) for entry in value)
    return value


class Split(ABC):
    """Samples, given in batches. Nothing changes after it is made: any number of threads may read at once.

    Attributes:
        strata: (n,) what a subset keeps in proportion, such as class numbers; None: nothing.
    """

    strata: NDArray[np.int64] | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        """The samples of these numbers, ready for the network: a pure function of the arguments.

        augment=(seed, epoch) changes each sample at random, by numbers that depend on (seed, epoch, item) alone; None
        is the transform of evaluation.

        Raises: IndexError: if the split has no such number. ValueError: if a file cannot be read any more.
        """

    def name_of(self, item: int) -> str:
        """What the item is called in scores and galleries: its file, or its number."""
        return str(item)

    def checked(self, items: Sequence[int]) -> NDArray[np.int64]:
        """The numbers as an array. Raises: IndexError: if the split has no such number."""
        wanted = np.asarray(items, np.int64).reshape(-1)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"wanted items from 0 to {len(self) - 1}, got {wanted.min()} to {wanted.max()}")
        return wanted


@dataclass(frozen=True)
class Dataset:
    """A data set, opened and checked.

    Attributes:
        name: for titles.
        inputs: (C, *S) of one sample; S is what a batch has where the samples of the set differ.
        targets: what a batch's targets hold, by name: {"label": Target("class", ("cat", "dog"))}.
        train, test: the splits.
        fingerprint: 16 hexadecimal digits of a hash of the contents: changed data are other data.
        description: one line: what, how many, of what size.
        about: facts for the report, such as {"augmentation": "shift by up to 2 pixels, mirror images"}.
        prepare: from a file of the user's to one sample (C, *S) as the test split gives it; None: not for this kind.
    """

    name: str
    inputs: tuple[int, ...]
    targets: Mapping[str, Target]
    train: Split
    test: Split
    fingerprint: str
    description: str
    about: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Any], Tensor] | None = None


class Opener(Protocol):
    """What opens a kind of data: options of its own are keyword arguments."""

    def __call__(self, spec: DataSpec, *, progress: Progress | None = None, **options: Any) -> Dataset: ...


KINDS: Registry[Callable[..., Dataset]] = Registry("kind of data", "foveate.data")


def register_data(kind: str) -> Callable[[Callable[..., Dataset]], Callable[..., Dataset]]:
    """Decorator: a function (spec, *, progress=None, **options) -> Dataset becomes a kind of data.

    In a study: [data] kind = "…", source = "…", options = { … }.

    Raises: ValueError: if the name is taken.
    """

    def decorate(opener: Callable[..., Dataset]) -> Callable[..., Dataset]:
        KINDS.add(kind, opener)
        return opener

    return decorate


def opener_of(spec: DataSpec) -> Callable[..., Dataset]:
    """The function that opens this kind, its options checked.

    Raises: LookupError: if there is no such kind or file. TypeError: if the kind has no such option.
    """
    opener = read_from_file(spec.kind, "a function") if is_file_reference(spec.kind) else KINDS.get(spec.kind)
    check_options(f"kind of data {spec.kind!r}", opener, spec.options, skip=("spec", "progress"))
    return opener
