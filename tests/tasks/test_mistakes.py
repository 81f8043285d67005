"""Pieces of images around right, wrong and missed boxes, in the colours of each."""

import numpy as np
import torch

from foveate.tasks.box_pictures import MISSED, RIGHT, WRONG, Shown
from foveate.tasks.mistakes import PIECES, SIDE, items_to_look_at, mistakes_sheet


def shown(boxes, labels, scores=None):
    scores = np.ones(len(labels)) if scores is None else scores
    return Shown(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, int), np.array(scores, np.float32))


def columns_with(picture, row, colour):
    """Places in a row of the sheet whose piece has the colour."""
    cell = picture.shape[1] // PIECES, picture.shape[0] // 3
    pieces = [picture[row * cell[1] : (row + 1) * cell[1], n * cell[0] : (n + 1) * cell[0]] for n in range(PIECES)]
    return [number for number, one in enumerate(pieces) if (one == np.array(colour)).all(2).any()]


def test_right_wrong_and_missed_boxes_have_a_row_and_a_colour_each():
    image = torch.full((3, 60, 60), 0.5)
    objects = shown([[5, 5, 25, 25], [30, 30, 50, 50]], [0, 1])
    found = shown([[5, 5, 25, 25], [30, 30, 50, 50], [0, 40, 12, 58]], [0, 0, 1], [0.9, 0.8, 0.7])
    picture = mistakes_sheet([image], [objects], [found], ("cat", "dog"))
    assert picture.shape[1] > PIECES * SIDE
    assert columns_with(picture, 0, RIGHT) == [0]
    assert columns_with(picture, 1, WRONG) == [0, 1]
    assert columns_with(picture, 2, MISSED) == [0]
    assert mistakes_sheet([image], [shown([], [])], [shown([], [])], ("cat", "dog")) is None


def test_the_surest_wrong_detections_and_the_most_missed_boxes_are_looked_at():
    found = {
        "item": np.array([0, 1, 2, 2]),
        "score": np.array([0.2, 0.9, 0.5, 0.4]),
        "matched": np.array([[0], [0], [1], [0]]),
        "ignored": np.array([[0], [0], [0], [1]]),
    }
    boxes = {"item": np.array([2, 3, 3]), "counted": np.array([[True], [True], [True]])}
    assert items_to_look_at({"detections": found, "boxes": boxes}) == [1, 0, 3, 2]
