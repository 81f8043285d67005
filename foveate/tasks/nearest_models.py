"""What velocity models are guessed without a network: the mean model, and the mean of the nearest by their gathers."""

import numpy as np
import torch
from torch import Tensor

from foveate.data.dataset import Dataset, Split

NEIGHBOURS = 5
MOST = 2000  # training models that are looked at, evenly among them
EVERY = 2  # of samples and receivers, for distances
PART = 128  # models at a time


def mean_model(train: Split) -> Tensor:
    """(H, W), m/s: the mean of the training models, of at most 2,000."""
    total, count = torch.zeros(()), 0
    for items in _in_parts(train):
        velocity = train.batch(items, None).targets["velocity"]
        total, count = total + velocity.double().sum(0)[0], count + len(items)
    return (total / count).float()


def nearest_models(data: Dataset) -> Tensor:
    """(n, H, W), m/s: for each test model the mean of the 5 training models whose scaled gathers are nearest."""
    tests = [_features(data.test, items) for items in _in_parts(data.test)]
    wanted = torch.cat([features for features, _ in tests])
    squares = wanted.square().sum(1)
    distances, models = [], []
    for items in _in_parts(data.train):
        features, velocity = _features(data.train, items)
        distances.append(squares[:, None] - 2 * wanted @ features.T + features.square().sum(1))
        models.append(velocity)
    near = torch.cat(distances, 1).topk(min(NEIGHBOURS, len(torch.cat(models))), largest=False).indices
    return torch.cat(models)[near].mean(1)


def _features(split: Split, items: list[int]) -> tuple[Tensor, Tensor]:
    batch = split.batch(items, None)
    return batch.inputs[:, :, ::EVERY, ::EVERY].flatten(1), batch.targets["velocity"][:, 0]


def _in_parts(split: Split) -> list[list[int]]:
    items = np.unique(np.linspace(0, len(split) - 1, min(len(split), MOST)).astype(np.int64)).tolist()
    return [items[start : start + PART] for start in range(0, len(items), PART)]
