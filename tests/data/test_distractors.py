"""Scattered digits among distractors: what changes with their number, and what does not."""

import numpy as np
import pytest
import torch

from foveate.data import open_data, scattered_digits
from foveate.data.distractors import digits_among, letters
from foveate.spec import DataSpec


def opened(**options):
    return open_data(DataSpec(train_items=20, test_items=20, options=options))


def test_digits_stay_where_they_are_whatever_is_beside_them():
    usual = scattered_digits(10, 0, 32, "test")
    few = digits_among(10, 0, 32, "test", distractors=2, kind="both")
    many = digits_among(10, 0, 32, "test", distractors=6, kind="both")
    for key in ("labels", "boxes", "masks", "originals"):
        np.testing.assert_array_equal(few[key], usual[key])
        np.testing.assert_array_equal(many[key], usual[key])
    np.testing.assert_array_equal(many["distractors"][:, :2], few["distractors"])
    none = digits_among(10, 0, 32, "test", distractors=0, kind="both")["images"].astype(int)
    grown = few["images"].astype(int) - none
    assert (grown >= 0).all(), "distractors add ink and nothing else"
    for image, boxes in zip(grown, few["distractors"].astype(int), strict=True):
        there = np.zeros((32, 32), bool)
        for x0, y0, x1, y1 in boxes:
            there[y0:y1, x0:x1] = True
        assert not image[~there].any(), "all of it inside their boxes"
    assert grown.any((1, 2)).all()


def test_letters_are_letters_and_pieces_come_from_the_digits_of_the_part():
    shapes = letters()
    assert len({ink.tobytes() for ink in shapes}) == len(shapes) == 17
    assert all(ink.shape == (9, 7) and set(np.unique(ink)) == {0, 16} for ink in shapes)
    parts = [digits_among(10, 0, 32, "train", distractors=3, kind=kind)["images"] for kind in ("letters", "pieces")]
    assert (parts[0] != parts[1]).any((1, 2)).all()


def test_the_boxes_of_distractors_are_a_target_that_moves_with_the_image():
    data = opened(distractors=3, distractors_are="letters")
    assert data.description.endswith("a handwritten digit among 3 letters, with noise")
    assert data.targets["distractors"].names[:4] == ("x0 of 0", "y0 of 0", "x1 of 0", "y1 of 0")
    still, moved = (data.train.batch(range(20), one).targets["distractors"] for one in (None, (0, 0)))
    assert still.shape == (20, 12)
    assert not torch.equal(still, moved)
    assert opened(distractors=0).targets.keys() == opened().targets.keys()
    assert opened(distractors=0).fingerprint != opened().fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distractors": 33}, "distractors: wanted a number from 0 to 32; got 33"),
        ({"distractors": True}, "distractors: wanted a number from 0 to 32; got True"),
        ({"distractors": 2, "distractors_are": "words"}, "distractors_are: wanted pieces, letters, both; got 'words'"),
        ({"distractors_are": "letters"}, "distractors_are: goes with distractors = a number; got 'letters'"),
    ],
)
def test_an_option_out_of_its_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        opened(**options)
