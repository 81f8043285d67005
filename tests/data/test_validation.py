"""The validation part of data that have none of their own, and what keeps it from being made."""

import numpy as np
import pytest
import torch

from foveate.data import open_data
from foveate.data.dataset import Target
from foveate.data.in_memory import in_memory
from foveate.data.validation import with_validation
from foveate.spec import DataSpec


def made(labels, *, validation=None, copies=False):
    """A set of 4×4 images of noise; with `copies`, all images of an even number are the image before them."""
    drawn = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 4, 4), np.uint8)
    if copies:
        drawn[1::2] = drawn[::2]
    labels = np.array(labels)
    test = (drawn[:4], {"label": labels[:4]})
    own = None if validation is None else (drawn[: len(validation)], {"label": np.array(validation)})
    kinds = {"label": Target("class", ("cat", "dog", "owl"))}
    return in_memory(DataSpec(), (drawn, {"label": labels}), test, kinds, name="noise", fingerprint="", validation=own)


def test_it_has_the_share_of_each_class_and_is_the_same_on_every_machine():
    data = open_data(DataSpec(train_items=300, test_items=50, validation_fraction=0.1))
    plain = open_data(DataSpec(train_items=300, test_items=50))
    assert (len(data.train), len(data.validation), plain.validation) == (270, 30, None)
    assert np.bincount(data.validation.strata).tolist() == [3] * 10
    assert [data.validation.name_of(item) for item in range(5)] == ["39", "50", "51", "53", "55"]
    item = int(data.validation.name_of(2))
    assert torch.equal(data.validation.batch([2], None).inputs, plain.train.batch([item], None).inputs)
    assert data.notes == ("30 of the 300 training items are the validation part and are not trained on",)


def test_samples_of_one_content_stay_on_one_side():
    data = with_validation(made([0] * 20 + [1] * 20, copies=True), 0.3)
    held = {int(data.validation.name_of(item)) for item in range(len(data.validation))}
    assert len(held) == 12
    assert {number ^ 1 for number in held} == held


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (made([0, 0, 1, 1, 2]), "noise: class 'owl' has 1 item, too few to hold out for validation; wanted at least 2"),
        (
            made([0, 0, 1, 1], copies=True),
            "noise: class 'cat' has 2 copies of one item, nothing to hold out for valida",
        ),
        (
            made([0, 0, 1, 1], validation=[0, 0]),
            "noise: the validation part has no item of the class 'dog' that the tr",
        ),
        (made([0, 0, 1, 1], validation=[]), "noise: wanted items in the validation part; got none"),
    ],
)
def test_a_part_without_items_or_without_a_class_is_refused(data, reason):
    with pytest.raises(ValueError, match=reason):
        with_validation(data, 0.5)
