"""Order and learning rate of a training: pure functions of the seed, the epoch and the step."""

import math

import torch

from foveate.spec import Training


def learning_rate(step: int, steps: int, batches_an_epoch: int, spec: Training, highest: float | None = None) -> float:
    """Linear warm-up, then half a cosine down to zero; a function of the step alone.

    highest: of the group; None: `spec.lr`.
    """
    highest = spec.lr if highest is None else highest
    warmup = min(spec.warmup_epochs * batches_an_epoch, steps / 2)
    if step < warmup:
        return highest * (step + 1) / (warmup + 1)
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def batches_an_epoch(items: int, batch_size: int) -> int:
    """How many batches of at most `batch_size` use every item once."""
    return max(1, math.ceil(items / batch_size))


def evenly(order: list[int], count: int) -> list[list[int]]:
    """The order cut into `count` parts, none more than one longer than another: no small batch is left over."""
    return [order[i * len(order) // count : (i + 1) * len(order) // count] for i in range(count)]


def epoch_order(items: list[int], seed: int, epoch: int) -> list[int]:
    """The order of an epoch: a function of the seed and the epoch alone, so the same for every variant."""
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]
