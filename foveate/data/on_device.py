"""Small data sets kept on the device that trains: batches are picked, moved and normalised there.

The batches are those of `InMemory` on the CPU, bit for bit; only the copy to the device in every step is saved.
"""

import copy
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from foveate.data.augmentation import Edge, Movement
from foveate.data.dataset import Batch, Dataset, Split
from foveate.data.in_memory import InMemory
from foveate.data.resplit import Part

SHARE = 8  # a set is kept where it takes at most this part of the device's free memory


class OnDevice(InMemory):
    """An `InMemory` split whose inputs are on a device."""

    def __init__(self, split: InMemory, device: torch.device) -> None:
        self.__dict__.update(split.__dict__)
        self.kept = torch.from_numpy(split.inputs).to(device)
        self._offset, self._scale = self._offset.to(device), self._scale.to(device)

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        wanted = self.checked(items)
        x = self.kept[torch.from_numpy(wanted).to(self.kept.device)]
        movement = None
        if augment is not None and (self.shift or self.flip):
            movement = Movement.drawn(augment, wanted, len(self.size), reach=self.shift, flip=self.flip)
            x = moved(x, movement, self.edge)
        targets = {
            name: self._target(values[wanted], self.kinds[name], movement) for name, values in self.targets.items()
        }
        return Batch(self.normalised(x.float()), targets, torch.from_numpy(wanted))


def moved(x: Tensor, movement: Movement, edge: Edge) -> Tensor:
    """(B, C, *S) as `Movement.of_arrays` moves arrays."""
    last = x.dim() - 1
    for axis in range(2, x.dim()):
        side = x.shape[axis]
        places = torch.arange(side, device=x.device).expand(len(x), side)
        if axis == last:
            mirrored = torch.from_numpy(movement.mirrored).to(x.device)[:, None]
            places = torch.where(mirrored, places.flip(1), places)
        places = places - torch.from_numpy(movement.shifts[:, axis - 2]).to(x.device)[:, None]
        inside = (places >= 0) & (places < side)
        places = places.abs() if edge == "reflect" else places
        places = torch.where(places >= side, 2 * (side - 1) - places, places).clamp(0, side - 1)
        shape = [len(x), *(side if one == axis else 1 for one in range(1, x.dim()))]
        x = x.gather(axis, places.reshape(shape).expand_as(x))
        if edge == "constant":
            x = x * inside.reshape(shape)
    return x


def kept_on(data: Dataset, device: torch.device) -> Dataset:
    """The data set with the splits that fit kept on a GPU; on a CPU, where they are in memory already, as it is."""
    if device.type != "cuda":
        return data
    room = torch.cuda.mem_get_info(device)[0] // SHARE
    return dataclasses.replace(
        data,
        train=on_device(data.train, device, room),
        test=on_device(data.test, device, room),
        validation=None if data.validation is None else on_device(data.validation, device, room),
    )


def on_device(split: Split, device: torch.device, room: int) -> Split:
    """The split with what is in memory and takes at most `room` bytes kept on the device; what is resized is not."""
    if isinstance(split, Part):
        found = copy.copy(split)
        found.splits = [on_device(one, device, room) for one in split.splits]
        return found
    fits = type(split) is InMemory and split.inputs.nbytes <= room and split.size == tuple(split.inputs.shape[2:])
    return OnDevice(split, device) if fits and isinstance(split, InMemory) else split
