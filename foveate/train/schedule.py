"""Order and learning rate of a training: pure functions of the seed, the epoch and the step."""

import math

import torch

from foveate.spec import Training


def learning_rate(step: int, steps: int, batches_an_epoch: int, spec: Training, highest: float | None = None) -> float:
    """Linear warm-up and the schedule of the specification, down to zero; a function of the step alone.

    "cosine": half a cosine from the end of the warm-up on. "poly": (1 − step / steps) ^ power from the first step on,
    during the warm-up times its share. A warm-up of w steps has the share (step + 1) / (w + 1), with a ratio r it has
    r + (1 − r) · step / w. Poly and ratio are mmsegmentation's, with which SegFormer was trained (arXiv:2105.15203:
    power 1, 1500 of 160,000 steps, r = 1e-6).

    highest: of the group; None: `spec.lr`.
    """
    highest = spec.lr if highest is None else highest
    warmup = min(spec.warmup_epochs * batches_an_epoch, steps / 2)
    if spec.schedule == "poly":
        highest = highest * (1 - step / steps) ** (1.0 if spec.power is None else spec.power)
    if step < warmup:
        if spec.warmup_ratio is not None:
            return highest * (spec.warmup_ratio + (1 - spec.warmup_ratio) * step / warmup)
        return highest * (step + 1) / (warmup + 1)
    if spec.schedule == "poly":
        return highest
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
