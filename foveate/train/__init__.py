"""One training: the loop, its order and rate, its checkpoint; and a person's own trainer in its place."""

from foveate.train.checkpoint import CHECKPOINT, TrainingFailed, TrainingStopped
from foveate.train.evaluation import evaluate
from foveate.train.loop import repeated_step, torch_settings, train
from foveate.train.ranks import Ranks, batch_sizes_in_words, join_ranks, leave_ranks
from foveate.train.schedule import batches_an_epoch, epoch_order, evenly, learning_rate
from foveate.train.trainer import Context, train_with

__all__ = [
    "CHECKPOINT",
    "Context",
    "Ranks",
    "TrainingFailed",
    "TrainingStopped",
    "batch_sizes_in_words",
    "batches_an_epoch",
    "epoch_order",
    "evaluate",
    "evenly",
    "join_ranks",
    "learning_rate",
    "leave_ranks",
    "repeated_step",
    "torch_settings",
    "train",
    "train_with",
]
