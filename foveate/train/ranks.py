"""One training shared by the processes of torchrun: the items of a batch are divided among them, its gradient is theirs
together.

What is the same as in one process: the order of the items, the number of steps, the learning rate, and that the batch
size is that of the whole batch. What is not: a norm with batch statistics normalises with the items of its own rank,
and its running statistics are those of the first rank.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn

from foveate.train.schedule import evenly

Value = TypeVar("Value")
SEED_STEP = 1_000_003  # between the ranks' draws of dropout and the like
LONGEST_WAIT = timedelta(days=1)  # of a rank for another: the first one evaluates while the others wait


@dataclass(frozen=True)
class Ranks:
    """This process, and how many there are; one alone without torchrun."""

    number: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> "Ranks":
        """As torch.distributed says, where it is set up."""
        there = torch.distributed.is_available() and torch.distributed.is_initialized()
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size()) if there else cls()

    def check(self, smallest_batch: int) -> None:
        """Raises: ValueError: a batch has fewer items than there are ranks."""
        if smallest_batch < self.count:
            raise ValueError(f"batch_size: wanted {self.count} items or more, one for each rank; got {smallest_batch}")

    def share(self, parts: Sequence[list[int]]) -> list[list[int]]:
        """This rank's items of each batch."""
        return [evenly(part, self.count)[self.number] for part in parts]

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model, whose gradients are averaged over ranks after a backward pass."""
        if self.count == 1:
            return model
        device = next(model.parameters()).device
        own = None if device.type == "cpu" else [device.index]
        return nn.parallel.DistributedDataParallel(model, device_ids=own, find_unused_parameters=True)

    def sums(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Each number summed over ranks."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def from_first(self, value: Value) -> Value:
        """The first rank's value."""
        if self.count == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values)
        return values[0]

    def generators(self) -> list[dict[str, Tensor]]:
        """The state of every rank's generators, for a checkpoint."""
        own = {"generator": torch.get_rng_state()}
        if torch.cuda.is_available():
            own["cuda_generator"] = torch.cuda.get_rng_state()
        if self.count == 1:
            return [own]
        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, own)
        return found


def join_ranks(device: str) -> Ranks:
    """Set up torch.distributed where torchrun started this process.

    device: "cpu" (gloo) or "cuda" (NCCL; the current device becomes the GPU of the local rank).

    Raises: ValueError: a single GPU is named, or there are fewer GPUs than ranks.
    """
    if "LOCAL_RANK" not in os.environ:
        return Ranks()
    if device == "cpu":
        return _joined("gloo")
    local = int(os.environ["LOCAL_RANK"])
    if device != "cuda" or local >= torch.cuda.device_count():
        raise ValueError(
            f"--device: wanted cpu or cuda with a GPU for each rank under torchrun; got {device!r}, rank {local} and "
            f"{torch.cuda.device_count()} GPUs"
        )
    torch.cuda.set_device(local)
    return _joined("nccl")


def _joined(backend: str) -> Ranks:
    store, number, count = next(torch.distributed.rendezvous("env://"))
    if count == int(os.environ.get("LOCAL_WORLD_SIZE", 0)):
        # torchrun's store outlives a restart: without a part of its own this start may find addresses of the one before
        store = torch.distributed.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    torch.distributed.init_process_group(backend, store=store, rank=number, world_size=count, timeout=LONGEST_WAIT)
    return Ranks.here()


def leave_ranks() -> None:
    """Take down what `join_ranks` set up; nothing where it set up nothing."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def batch_sizes_in_words(batch_size: int, ranks: int) -> str:
    """What the learning rate belongs to: it is never scaled by the number of ranks."""
    if ranks == 1:
        return f"batch of {batch_size}"
    return (
        f"batch of {batch_size} over {ranks} ranks, about {batch_size / ranks:g} items each; the learning rate is that "
        "of the whole batch, as in one process; norms with batch statistics see the items of their own rank"
    )
