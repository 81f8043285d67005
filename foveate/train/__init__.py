"""One training: the loop, its checkpoint, and the machine it ran on."""

from foveate.train.checkpoint import CHECKPOINT, TrainingFailed
from foveate.train.loop import batches_an_epoch, epoch_order, evenly, learning_rate, train
from foveate.train.machine import machine, versions

__all__ = [
    "CHECKPOINT",
    "TrainingFailed",
    "batches_an_epoch",
    "epoch_order",
    "evenly",
    "learning_rate",
    "machine",
    "train",
    "versions",
]
