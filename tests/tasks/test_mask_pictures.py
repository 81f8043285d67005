"""Masks as pictures: colours that differ, errors by kind, a legend of what is there."""

import numpy as np
import pytest

from foveate.data.dataset import IGNORED
from foveate.tasks.mask_pictures import ADDED, CONFUSED, KINDS, MISSED, error_map, legend, mask_image, overlay, palette

NAMES = ("background", "salt", "rock")
GREY = np.full((2, 3, 3), 100, np.uint8)


@pytest.mark.parametrize("count", [2, 11, 19, 150, 256])
def test_every_class_has_a_colour_of_its_own_that_no_kind_of_error_has(count):
    colours = [tuple(one) for one in palette([str(number) for number in range(count)]).tolist()]
    assert len({*colours, *KINDS.values()}) == count + len(KINDS)


def test_errors_are_coloured_by_kind_and_what_is_not_known_is_white():
    target = np.array([[1, 0, 1], [1, IGNORED, 0]])
    answer = np.array([[0, 2, 2], [1, 1, 0]])
    drawn = error_map(GREY, answer, target, NAMES)
    assert [tuple(pixel) for pixel in drawn[0].tolist()] == [KINDS[MISSED], KINDS[ADDED], KINDS[CONFUSED]]
    assert drawn[1].tolist() == [[140] * 3, [255] * 3, [140] * 3]
    streets = error_map(GREY, answer, target, ("road", "car", "tree"))
    assert [tuple(pixel) for pixel in streets[0].tolist()] == [KINDS[CONFUSED]] * 3, "no class is a background"


def test_a_background_is_clear_and_masks_are_shown_at_the_size_of_the_picture():
    mask = np.array([[0, 1, IGNORED]], np.uint8)
    drawn = overlay(GREY.repeat(2, 1), mask, NAMES)
    assert (drawn[:, :2] == 100).all()
    expected = np.asarray(0.45 * 100 + 0.55 * palette(NAMES)[1].astype(float), np.uint8)
    assert (np.abs(drawn[:, 2:4].astype(int) - expected) <= 1).all()
    assert mask_image(mask, NAMES).mode == "P"


def test_a_legend_names_what_is_there_in_rows_of_the_width():
    whole, one = legend(NAMES, 300, errors=True), legend(NAMES, 300, only=[1])
    assert whole.shape[0] > one.shape[0]
    assert whole.shape[1] == one.shape[1] == 300
    assert (one == palette(NAMES)[1]).all(2).any()
    assert not (one == palette(NAMES)[2]).all(2).any()
