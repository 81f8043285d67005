"""A network with attention, for the tests of other tools."""

import pickle

import torch
from insertion_networks import Gate, HandWritten, lively
from torch import nn

from foveate.insertion import insert

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def plain():
    torch.manual_seed(0)
    return lively(HandWritten())


def attended(at="block", model=None):
    model = plain() if model is None else model
    insert(model, Gate, at=at, example=X, seed=1)
    return model


def synced(model):
    return nn.SyncBatchNorm.convert_sync_batchnorm(model).eval()


def pickled(model):
    return pickle.loads(pickle.dumps(model))
