"""A data set of given tensors, for tests of tasks."""

import torch

from foveate.data import Batch, Dataset, Split, Target

LABEL = {"label": Target("class", ("a", "b", "c"))}
MASK = {"mask": Target("mask", ("ground", "thing"))}
PLACE = {"place": Target("values", ("x", "y"), "px")}


class Given(Split):
    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def __len__(self):
        return len(self.inputs)

    def batch(self, items, augment):
        chosen = torch.from_numpy(self.checked(items))
        return Batch(self.inputs[chosen], {name: one[chosen] for name, one in self.targets.items()}, chosen)


def given(targets, values, inputs=None):
    """A data set with these targets; train and test are the same items."""
    (first, *_) = values.values()
    inputs = torch.zeros(len(first), 1, 4, 4) if inputs is None else inputs
    split = Given(inputs, values)
    return Dataset("given", tuple(inputs.shape[1:]), targets, split, split, "0" * 16, "given tensors")
