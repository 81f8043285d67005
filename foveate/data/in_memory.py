"""Data sets that fit in memory (or in a mapped file) as whole arrays of one size: images, signals, volumes, maps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.data.augmentation import Edge, Movement
from foveate.data.dataset import IGNORED, Batch, Dataset, Levels, Split, Target
from foveate.data.decode import read_image
from foveate.data.subset import choose, positions
from foveate.spec import DataSpec

Samples = tuple[NDArray[Any], Mapping[str, NDArray[Any]]]  # inputs (n, C, *S) and targets (n, …) by name


class InMemory(Split):
    """Samples in one array. Augmentation: a shift by whole pixels and, where the content allows, a mirror image;
    masks, maps, points and boxes move with the sample.

    Args:
        inputs: (n, C, *S) uint8 or floats; may be a mapped file.
        targets: (n, …) by name.
        kinds: what each target is.
        size: S of a batch; other than the inputs' own, they are interpolated (masks: the nearest pixel).
        mean, std: of each channel; pixels of uint8 from 0 to 1.
        shift: the most pixels a sample is moved by, along each axis.
        edge: what moves in: its mirrored neighbourhood, or zeros. In masks it is IGNORED.
        flip: half of the samples are mirrored along their last axis.
        strata: (n,) what a subset keeps in proportion.
        numbers: (n,) the samples' numbers in the set that they were chosen from; None: 0 to n - 1.
        groups: (n,) what each sample belongs to.
    """

    def __init__(
        self,
        inputs: NDArray[Any],
        targets: Mapping[str, NDArray[Any]],
        kinds: Mapping[str, Target],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        size: tuple[int, ...] | None = None,
        shift: int = 0,
        edge: Edge = "constant",
        flip: bool = False,
        strata: NDArray[np.int64] | None = None,
        numbers: NDArray[np.int64] | None = None,
        groups: NDArray[np.str_] | None = None,
    ) -> None:
        self.inputs, self.targets, self.kinds = inputs, dict(targets), dict(kinds)
        self.size = tuple(inputs.shape[2:] if size is None else size)
        self.shift, self.edge, self.flip = shift, edge, flip
        self.strata, self.numbers, self.groups = strata, numbers, groups
        rank = (1,) * len(self.size)
        levels = 255 if inputs.dtype == np.uint8 else 1
        self._offset = torch.tensor(mean).view(1, -1, *rank) * levels
        self._scale = 1 / (torch.tensor(std).view(1, -1, *rank) * levels)
        if inputs.dtype == np.uint8 and len(self.size) == 2:
            self.levels = Levels(self._offset.flatten(), self._scale.flatten())

    def __len__(self) -> int:
        return len(self.inputs)

    def name_of(self, item: int) -> str:
        return str(item if self.numbers is None else self.numbers[item])

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        wanted = self.checked(items)
        chosen = self.inputs[wanted]
        movement = None
        if augment is not None and (self.shift or self.flip):
            movement = Movement.drawn(augment, wanted, len(self.size), reach=self.shift, flip=self.flip)
            chosen = movement.of_arrays(chosen, self.edge)
        targets = {
            name: self._target(values[wanted], self.kinds[name], movement) for name, values in self.targets.items()
        }
        return Batch(self.normalised(torch.from_numpy(chosen).float()), targets, torch.from_numpy(wanted))

    def normalised(self, x: Tensor) -> Tensor:
        """Inputs (N, C, *S), as they are in the array, in the batch's size and normalised; changes x."""
        if tuple(x.shape[2:]) != self.size:
            x = resized(x, self.size)
        return x.sub_(self._offset).mul_(self._scale)

    def _target(self, values: NDArray[Any], kind: Target, movement: Movement | None) -> Tensor:
        own = self.inputs.shape[2:]
        if kind.kind == "class":
            return torch.as_tensor(values, dtype=torch.int64 if values.ndim == 1 else torch.float32)
        if kind.kind == "mask":
            if movement is not None:
                values = movement.of_arrays(values[:, None], "constant", IGNORED)[:, 0]
            return torch.from_numpy(np.ascontiguousarray(nearest(values, self.size), np.int64))
        if kind.kind == "map":
            if movement is not None:
                values = movement.of_arrays(values, self.edge)
            x = torch.from_numpy(values).float()
            return x if tuple(x.shape[2:]) == self.size else resized(x, self.size)
        if kind.kind == "values" and kind.geometry:
            values = values.astype(np.float32)
            corners = 2 if kind.geometry == "boxes" else 1
            places = values.reshape(len(values), -1, corners, len(own))
            if movement is not None and corners == 2:
                places = movement.of_boxes(places, own)
            elif movement is not None:
                places = movement.of_points(places[:, :, 0], own)[:, :, None]
            factors = np.array([ours / theirs for ours, theirs in zip(self.size, own, strict=True)][::-1], np.float32)
            return torch.from_numpy((places * factors).reshape(values.shape))
        return torch.as_tensor(values, dtype=torch.float32 if kind.kind == "values" else None)


def prepare_image(split: InMemory) -> Callable[[Any], Tensor]:
    """What makes a file or PIL image a sample (C, H, W) as the split gives its own: the middle of the split's shape,
    resized and normalised."""
    channels, (height, width) = split.inputs.shape[1], split.size

    def prepare(source: Any) -> Tensor:
        image = read_image(source).convert("L" if channels == 1 else "RGB")
        factor = min(image.width / width, image.height / height)
        left, top = round((image.width - factor * width) / 2), round((image.height - factor * height) / 2)
        image = image.crop((left, top, image.width - left, image.height - top))
        pixels = np.array(image).reshape(1, image.height, image.width, channels).transpose(0, 3, 1, 2)
        return split.normalised(torch.from_numpy(np.ascontiguousarray(pixels)).float())[0]

    return prepare


def resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """(N, C, *S) interpolated linearly to another S of one, two or three axes, averaging where it becomes smaller."""

    def plane(x: Tensor, size: tuple[int, int]) -> Tensor:
        return torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)

    if len(size) == 1:
        return plane(x[:, :, None], (1, size[0]))[:, :, 0]
    if len(size) == 2:
        return plane(x, (size[0], size[1]))
    count, channels, depth = x.shape[:3]
    x = plane(x.flatten(1, 2), (size[1], size[2])).reshape(count, channels, depth, size[1] * size[2])
    return plane(x, (size[0], size[1] * size[2])).reshape(count, channels, *size)


def nearest(values: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """(N, *S) at another S: each new pixel is the one at whose place its centre lies."""
    for axis, side in enumerate(size, 1):
        if values.shape[axis] != side:
            places = (2 * np.arange(side) + 1) * values.shape[axis] // (2 * side)
            values = values.take(places, axis)
    return values


def statistics(inputs: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of (n, C, *S); pixels of uint8 from 0 to 1."""
    levels = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(inputs.shape[1]):
        values = inputs[:, channel]
        if inputs.dtype == np.uint8:
            counts = torch.bincount(torch.tensor(values).flatten(), minlength=256).numpy()
            mean = float(counts @ levels / counts.sum())
            deviation = max(float(counts @ (levels - mean) ** 2 / counts.sum()) ** 0.5, 1 / 255)
        else:
            mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)) or 1.0
        means.append(mean)
        deviations.append(deviation)
    return tuple(means), tuple(deviations)


def in_memory(
    spec: DataSpec,
    train: Samples,
    test: Samples,
    targets: Mapping[str, Target],
    *,
    name: str,
    fingerprint: str,
    content: str = "",
    shift: int = 0,
    edge: Edge = "constant",
    flip: bool = False,
    about: Mapping[str, str] | None = None,
    validation: Samples | None = None,
    groups: tuple[NDArray[np.str_], NDArray[np.str_]] | None = None,
    fixed_parts: str = "",
) -> Dataset:
    """The set made of whole arrays, limited and sized as the specification says; mean and deviation are those of its
    train samples. Subsets keep the share of each class where there is one target of classes, a number a sample.

    Args:
        spec: of the data.
        train, test: inputs (n, C, *S), uint8 or floats, and targets (n, …) by name.
        targets: what each target is.
        name: for titles.
        fingerprint: of the contents.
        content: what the samples are, in a few words, for the description.
        shift, edge, flip: of the augmentation, as `InMemory` takes them.
        about: facts for the report.
        validation: samples of a validation part of its own; None: there is none.
        groups: what each train and each test sample belongs to.
        fixed_parts: as `Dataset` takes it.

    Raises: ValueError: if train_items, test_items or size do not fit the arrays.
    """
    own = tuple(train[0].shape[2:])
    size = own if spec.size is None else spec.size
    if len(size) != len(own):
        raise ValueError(f"{name}: wanted a size of {len(own)} numbers, such as {list(own)}; got {list(size)}")
    classes = [key for key, kind in targets.items() if kind.kind == "class" and train[1][key].ndim == 1]
    key = classes[0] if len(classes) == 1 else "label" if "label" in classes else None
    splits: dict[str, InMemory] = {}
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    parts: list[tuple[str, str, int | None, Samples, NDArray[np.str_] | None]] = [
        ("train", "train_items", spec.train_items, train, groups and groups[0]),
        ("test", "test_items", spec.test_items, test, groups and groups[1]),
    ]
    if validation is not None:
        most = None if spec.test_items is None else min(spec.test_items, len(validation[0]))
        parts.insert(1, ("validation", "test_items", most, validation, None))
    for part, option, count, (inputs, values), belonging in parts:
        strata = values[key] if key is not None else None
        numbers = None
        if count is not None:
            numbers = choose(strata, positions(len(inputs)), count, wanted=option)
            inputs, strata = inputs[numbers], None if strata is None else strata[numbers]
            values = {key: array[numbers] for key, array in values.items()}
            belonging = None if belonging is None else belonging[numbers]
        if part == "train":
            mean, std = statistics(inputs)
        splits[part] = InMemory(
            inputs,
            values,
            targets,
            mean=mean,
            std=std,
            size=size,
            shift=shift,
            edge=edge,
            flip=flip,
            strata=strata,
            numbers=numbers,
            groups=belonging,
        )
    *others, last = (f"{len(split):,} {part}" for part, split in splits.items())
    counts = f"{', '.join(others)} and {last} {'images' if len(size) == 2 else 'samples'}"
    resize = "" if size == own else f", resized from {_sides(own)}"
    words = [f"{name}: {counts} of {_sides(size)} {'pixels' if len(size) > 1 else 'values'}{resize}"]
    words += [f", {len(targets[key].names)} classes"] if key is not None else []
    words += [f"; {content}"] if content else []
    return Dataset(
        name=name,
        inputs=(train[0].shape[1], *size),
        targets=targets,
        train=splits["train"],
        test=splits["test"],
        fingerprint=fingerprint,
        description="".join(words),
        about={"augmentation": augmentation(shift, flip), **(about or {})},
        prepare=prepare_image(splits["test"]) if len(size) == 2 and train[0].shape[1] in (1, 3) else None,
        validation=splits.get("validation"),
        fixed_parts=fixed_parts,
    )


def augmentation(shift: int, flip: bool) -> str:
    """In words, for the report."""
    return ", ".join([*([f"shift by up to {shift} pixels"] * bool(shift)), *(["mirror images"] * flip)]) or "none"


def _sides(size: Sequence[int]) -> str:
    return "×".join(map(str, size))
