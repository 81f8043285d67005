"""Batches of a split on a device, read while the one before is used."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import torch
from torch import Tensor

from foveate.data.dataset import Batch, Split

MOST_READERS = 8


def evaluation_parts(split: Split, items: Sequence[int], size: int, positions: int) -> list[list[int]]:
    """The items in order in parts of items that evaluation gives in one size.

    A part has at most `size` items of `positions` positions; of larger items fewer, at least one.
    """
    parts: list[list[int]] = []
    for item in items:
        last = parts[-1] if parts else []
        most = size if split.positions is None else max(1, min(size, size * positions // int(split.positions[item])))
        if last and len(last) < most and (split.shapes is None or split.shapes[item] == split.shapes[last[0]]):
            last.append(item)
        else:
            parts.append([item])
    return parts


def reader_threads(device: torch.device, threads: int, cores: int) -> int:
    """How many threads read while a training computes: on a CPU as many as compute, beside a GPU up to 8 more.

    The batches do not depend on it.

    Args:
        device: that computes.
        threads: of the training, on the CPU.
        cores: that the process may use.
    """
    return threads if device.type == "cpu" else max(threads, min(MOST_READERS, cores - 1))


def read_ahead(
    split: Split,
    parts: Iterable[Sequence[int]],
    augment: tuple[int, int] | None = None,
    *,
    device: torch.device | str = "cpu",
    channels: Callable[[int], int] = lambda channels: channels,
    channels_last: bool = False,
    threads: int = 1,
) -> Iterator[Batch]:
    """Each part's batch on the device, in order.

    Args:
        split: what is read.
        parts: the items of each batch.
        augment: as `Split.batch` takes it.
        device: where the batches go.
        channels: (of the data) -> of the network: samples of one channel are repeated for networks that take three.
        channels_last: memory format of 4-D inputs.
        threads: that read; as many batches are read ahead.
    """

    def read(part: Sequence[int]) -> Batch:
        batch = split.batch(part, augment)
        if isinstance(batch.inputs, Tensor):
            inputs = batch.inputs.expand(-1, channels(batch.inputs.shape[1]), *batch.inputs.shape[2:])
            return Batch(inputs, batch.targets, batch.items)
        return batch

    waiting = iter(parts)
    with ThreadPoolExecutor(threads) as readers:
        coming: deque[Future[Batch]] = deque(readers.submit(read, part) for part in islice(waiting, threads))
        while coming:
            batch = coming.popleft().result()
            coming.extend(readers.submit(read, part) for part in islice(waiting, 1))
            yield batch.to(device, channels_last=channels_last)
