"""One training: the loop, its order and rate, its checkpoint; and a person's own trainer in its place."""

from foveate.train.checkpoint import CHECKPOINT, TrainingFailed, TrainingStopped
from foveate.train.loop import evaluate, train
from foveate.train.schedule import batches_an_epoch, epoch_order, evenly, learning_rate
from foveate.train.trainer import Context, train_with

__all__ = [
    "CHECKPOINT",
    "Context",
    "TrainingFailed",
    "TrainingStopped",
    "batches_an_epoch",
    "epoch_order",
    "evaluate",
    "evenly",
    "learning_rate",
    "train",
    "train_with",
]
