"""What every data set is to the rest: splits that give batches, and what one sample and its targets are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.data.annotation import Annotation
from foveate.data.problems import Problem
from foveate.registry import Registry, check_options, is_file_reference, read_from_file
from foveate.spec import DataSpec

Progress = Callable[[int, int], None]
Content = Path | bytes | NDArray[np.uint8]  # of an image: its file, the file's contents, or pixels (H, W, 3)
IGNORED = 255  # a mask's value for pixels that count nowhere


@dataclass(frozen=True)
class Target:
    """What one entry of a batch's targets is.

    Attributes:
        kind: "class": int64 (N,) or, with several labels a sample, float (N, K); "mask": int64 (N, *S), IGNORED where
            nothing is known; "values": float32 (N, K); "map": float32 (N, K, *S); "boxes": a list with an entry a
            sample, as `foveate.data.annotation.Annotation` says to a batch; "other": the task knows.
        names: of the classes, or of the K values.
        unit: of values and maps: "px", "m/s", …; targets stay in it.
        geometry: of values that are places in the sample, in pixels of the batch, x before y: "points" are K / 2 pairs,
            "boxes" are K / 4 pairs of opposite corners. They move with the sample. A pixel i spans [i, i + 1).
    """

    kind: Literal["class", "mask", "values", "map", "boxes", "other"]
    names: tuple[str, ...] = ()
    unit: str = ""
    geometry: Literal["", "points", "boxes"] = ""


@dataclass(frozen=True)
class Batch:
    """Samples of a split: what the network takes, what it should give, and which samples they are.

    Attributes:
        inputs: a tensor (N, C, *S), or a tuple or dict of tensors; or a list with a tensor (C, *S) a sample, where
            samples may differ in size.
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
        layout = torch.channels_last if channels_last and value.dim() == 4 else torch.contiguous_format
        return value.to(device, memory_format=layout, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _moved(entry, device, channels_last) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(entry, device, channels_last) for entry in value)
    return value


@dataclass(frozen=True)
class Levels:
    """How the inputs of a batch of images come from pixels of 0 to 255: (pixels − offset) · scale, a channel.

    Attributes:
        offset, scale: (C,).
        bgr: is blue the first channel?
    """

    offset: Tensor
    scale: Tensor
    bgr: bool = False

    def pixels(self, x: Tensor) -> NDArray[np.uint8]:
        """(N, C, H, W) as in a batch → uint8 (N, H, W, C), red first."""
        values = (x / self.scale.view(1, -1, 1, 1) + self.offset.view(1, -1, 1, 1)).round().clamp(0, 255)
        found = values.to(torch.uint8).permute(0, 2, 3, 1)
        return np.ascontiguousarray(found.numpy()[..., ::-1] if self.bgr else found.numpy())

    def normalised(self, pixels: NDArray[np.uint8]) -> Tensor:
        """The other way."""
        x = torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1] if self.bgr else pixels)).permute(0, 3, 1, 2)
        return x.float().contiguous().sub_(self.offset.view(1, -1, 1, 1)).mul_(self.scale.view(1, -1, 1, 1))


class Split(ABC):
    """Samples, given in batches. Nothing changes after it is made: any number of threads may read at once.

    Attributes:
        strata: (n,) what a subset keeps in proportion, such as class numbers; None: nothing.
        groups: (n,) what each item belongs to, such as a subject or a recording: items of one group stay on one side of
            a division and are resampled whole; None: each stands alone.
        contents_alike: (n,) equal numbers for copies of one item, in both splits of a set; None: not known.
        levels: how the inputs come from pixels; None: they are no images of 0 to 255.
        shapes: (n,) equal numbers for items that evaluation gives in one size, as one batch must be; None: all.
        positions: (n,) how many each item has there; None: as `Dataset.inputs` says.
        pixels: (n, K) positions of each class in the mask of each item; None: not known, or items have no masks.
        annotations: n: the boxes of each item in its own pixels, known without reading it; None: items have no boxes.
    """

    levels: Levels | None = None
    strata: NDArray[np.int64] | None = None
    groups: NDArray[np.str_] | None = None
    contents_alike: NDArray[np.int64] | None = None
    shapes: NDArray[np.int64] | None = None
    positions: NDArray[np.int64] | None = None
    pixels: NDArray[np.int64] | None = None
    annotations: Sequence[Annotation] | None = None

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
        validation: what training is stopped by and values are chosen on; None: `open_data` takes it out of `train`
            where `DataSpec.validation_fraction` says so.
        fingerprint: 16 hexadecimal digits of a hash of the contents: changed data are other data.
        description: one line: what, how many, of what size.
        notes: what a person should know about the data, a line each: what is left out, what stands there twice.
        about: facts for the report, such as {"augmentation": "shift by up to 2 pixels, mirror images"}.
        prepare: from a file of the user's (or an opened PIL image) to one sample (C, *S) as the test split gives it;
            None: not for this kind.
        scale_of: of data with boxes, from an image's (width, height) to pixels of its sample a pixel of it, along
            x and y; None: not known.
        fixed_parts: why train and test items must not be mixed, such as "its test digits are of other writers"; "":
            they may be.
    """

    name: str
    inputs: tuple[int, ...]
    targets: Mapping[str, Target]
    train: Split
    test: Split
    fingerprint: str
    description: str
    about: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    prepare: Callable[[Any], Tensor] | None = None
    validation: Split | None = None
    fixed_parts: str = ""
    scale_of: Callable[[tuple[int, int]], tuple[float, float]] | None = None


@dataclass(frozen=True)
class LabelledImages:
    """Images with their classes as they stand in a source, nothing decoded yet.

    Attributes:
        name: of the set.
        contents: n image files: their paths, their contents, or pixels (H, W, 3) uint8.
        names: n: what each is called.
        labels: n: the name of each image's class, or its number.
        classes: names of the classes, in the order of their numbers; () where the source does not say them.
        side: of small square images, all of one size, in pixels; else None.
        notes: on files that are left out.
    """

    name: str
    contents: Sequence[Content]
    names: Sequence[str]
    labels: Sequence[str | int]
    classes: tuple[str, ...] = ()
    side: int | None = None
    notes: tuple[str, ...] = ()


class Opener(Protocol):
    """What opens a kind of data: options of its own are keyword arguments."""

    def __call__(self, spec: DataSpec, *, progress: Progress | None = None, **options: Any) -> Dataset: ...


KINDS: Registry[Callable[..., Dataset]] = Registry("kind of data", "foveate.data")
RECOGNISERS: dict[str, Callable[[str], bool]] = {}  # of each kind that can tell its sources from others
CHECKS: dict[str, Callable[..., list[Problem]]] = {}  # of each kind that can list everything that is wrong at once
TASKS_OF: dict[str, tuple[str, ...]] = {}  # of each kind that is for some tasks, their names
EVALUATION: dict[str, Callable[..., LabelledImages]] = {}  # of each kind whose images `foveate evaluate` can test on


def register_data(
    kind: str,
    *,
    recognises: Callable[[str], bool] | None = None,
    check: Callable[..., list[Problem]] | None = None,
    evaluation_images: Callable[..., LabelledImages] | None = None,
    tasks: Sequence[str] = (),
) -> Callable[[Callable[..., Dataset]], Callable[..., Dataset]]:
    """Decorator: a function (spec, *, progress=None, **options) -> Dataset becomes a kind of data.

    In a study: [data] kind = "…", source = "…", options = { … }.

    Args:
        kind: its name.
        recognises: (source) -> bool: is the source of this kind? Asked where the kind is "auto"; a kind without it is
            only opened by its name.
        check: (folder, *, progress=None, **options) -> all problems and notes; without it, `foveate data check` opens
            the data set and shows the first error.
        evaluation_images: (folder, **options) -> the images that a classifier is tested on, for `foveate evaluate`.
        tasks: that its targets are for, where several kinds recognise a source, as many do the embedded one; (): those
            that none of these kinds is for.

    Raises: ValueError: if the name is taken.
    """

    def decorate(opener: Callable[..., Dataset]) -> Callable[..., Dataset]:
        KINDS.add(kind, opener)
        if recognises is not None:
            RECOGNISERS[kind] = recognises
        if check is not None:
            CHECKS[kind] = check
        if evaluation_images is not None:
            EVALUATION[kind] = evaluation_images
        if tasks:
            TASKS_OF[kind] = tuple(tasks)
        return opener

    return decorate


def opener_of(spec: DataSpec) -> Callable[..., Dataset]:
    """The function that opens this kind, its options checked.

    Raises: LookupError: if there is no such kind or file. TypeError: if the kind has no such option.
    """
    opener = read_from_file(spec.kind, "a function") if is_file_reference(spec.kind) else KINDS.get(spec.kind)
    check_options(f"kind of data {spec.kind!r}", opener, spec.options, skip=("spec", "progress"))
    return opener
