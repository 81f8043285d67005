"""Small sets on the device that trains: the same batches as on the CPU, bit for bit."""

import pytest
import torch

from foveate.data import open_data
from foveate.data.in_memory import InMemory
from foveate.data.on_device import OnDevice, kept_on, on_device
from foveate.spec import DataSpec

CPU, ROOM = torch.device("cpu"), 2**40


@pytest.fixture(scope="module")
def digits():
    return open_data(DataSpec(train_items=60, test_items=20, validation_fraction=0.2))


@pytest.mark.parametrize("edge", ["reflect", "constant"])
@pytest.mark.parametrize("flip", [True, False])
def test_batches_are_bit_equal(digits, edge, flip):
    whole = digits.test
    assert type(whole) is InMemory
    split = InMemory(whole.inputs, whole.targets, whole.kinds, mean=(0.4,), std=(0.2,), shift=5, edge=edge, flip=flip)
    near = on_device(split, CPU, ROOM)
    assert type(near) is OnDevice
    for augment in (None, (0, 0), (3, 7)):
        ours, theirs = near.batch(range(len(split)), augment), split.batch(range(len(split)), augment)
        assert torch.equal(ours.inputs, theirs.inputs)
        assert all(torch.equal(ours.targets[name], theirs.targets[name]) for name in theirs.targets)


def test_a_divided_set_is_kept_as_well_and_what_is_too_large_or_resized_is_not(digits):
    near = on_device(digits.train, CPU, ROOM)
    assert all(type(one) is OnDevice for one in near.splits)
    assert torch.equal(near.batch([3, 1], (0, 1)).inputs, digits.train.batch([3, 1], (0, 1)).inputs)
    assert near.name_of(5) == digits.train.name_of(5)
    assert on_device(digits.test, CPU, 1000) is digits.test
    whole = digits.test
    small = InMemory(whole.inputs, whole.targets, whole.kinds, mean=(0.4,), std=(0.2,), size=(16, 16))
    assert on_device(small, CPU, ROOM) is small
    assert kept_on(digits, CPU) is digits
