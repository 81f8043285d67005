"""Detection: losses of torchvision's kind, what is refused, which boxes are right."""

import numpy as np
import pytest
import torch
from torch import nn

from foveate.data import open_data
from foveate.networks import build_network
from foveate.spec import DataSpec
from foveate.study.predict_boxes import run_lengths
from foveate.tasks import create_task
from foveate.tasks.box_pictures import Shown, matched
from foveate.tasks.detection import as_torchvision, found_objects


@pytest.fixture(scope="module")
def digits():
    return open_data(DataSpec(kind="digit_boxes", size=48, train_items=12, test_items=6))


@pytest.fixture(scope="module")
def detector():
    return build_network("torchvision:ssdlite320_mobilenet_v3_large", num_classes=11, size=64)


def losses_of(task, model, data, items=(0, 1)):
    return task.loss(model, data.train.batch(items, None))


def test_the_loss_is_the_sum_of_the_detectors_own_each_by_its_weight(digits, detector):
    found = losses_of(create_task("detection", digits), detector.train(), digits)
    assert set(found) == {"bbox_regression", "classification", "loss"}
    torch.testing.assert_close(found["loss"], found["bbox_regression"] + found["classification"])
    weighted = create_task("detection", digits, loss_weights={"bbox_regression": 2.0})
    found = losses_of(weighted, detector, digits)
    torch.testing.assert_close(found["loss"], 2 * found["bbox_regression"] + found["classification"])
    with pytest.raises(ValueError, match="loss_weights: the detector has no loss 'box'"):
        losses_of(create_task("detection", digits, loss_weights={"box": 2.0}), detector, digits)


def test_labels_count_from_one_there_and_crowds_are_not_trained_on():
    target = {
        "boxes": torch.eye(4)[:2],
        "labels": torch.tensor([0, 4]),
        "crowd": torch.tensor([False, True]),
        "area": torch.ones(2),
        "masks": torch.ones(2, 3, 3, dtype=torch.bool),
    }
    found = as_torchvision(target)
    assert found["labels"].tolist() == [1]
    assert found["boxes"].shape == (1, 4)
    assert (found["masks"].shape, found["masks"].dtype) == ((1, 3, 3), torch.uint8)


def test_the_loss_in_evaluation_leaves_norms_modes_and_random_numbers_as_they_were(digits):
    model = build_network("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", num_classes=11, size=64).eval()
    model.backbone.train()  # a mode of its own
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes, random = [module.training for module in model.modules()], torch.get_rng_state()
    assert losses_of(create_task("detection", digits), model.eval(), digits)["loss"] > 0
    assert not any(module.training for module in model.modules())
    assert any(modes)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


class Wrong(nn.Module):
    def __init__(self, given):
        super().__init__()
        self.given = given

    def forward(self, images, targets=None):
        return self.given


def boxes(**changes):
    given = {"boxes": torch.zeros(1, 4), "labels": torch.ones(1, dtype=torch.int64), "scores": torch.ones(1)}
    return [{key: value for key, value in {**given, **changes}.items() if value is not None}] * 2


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Conv2d(3, 8, 3), "Conv2d takes no targets; detection wanted a detector"),
        (Wrong(torch.zeros(2, 4)), "wanted a list with the boxes of each of 2 images; got a tensor"),
        (Wrong(boxes()[:1]), "wanted a list with the boxes of each of 2 images; got a list of 1"),
        (Wrong(boxes(scores=None)), "wanted boxes, labels and scores of each image.*without 'scores'"),
        (Wrong(boxes(labels=torch.tensor([11]))), "wanted labels up to 10, those of the classes; got 11"),
    ],
)
def test_what_is_no_detector_is_refused_in_one_line(digits, model, message):
    with pytest.raises(ValueError, match=message):
        create_task("detection", digits).check(model, digits.train.batch((0, 1), None))


def test_boxes_of_the_background_are_no_objects():
    given = {"boxes": torch.eye(4), "labels": torch.tensor([0, 3, 0, 1]), "scores": torch.rand(4)}
    assert found_objects(given)["labels"].tolist() == [3, 1]
    assert Shown.of_result(given).labels.tolist() == [2, 0]


def test_a_box_is_right_once_and_by_its_class():
    def shown(corners, labels, scores):
        return Shown(np.array(corners, np.float32), np.array(labels), np.array(scores, np.float32))

    objects = shown([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 1], [1, 1])
    found = shown([[0, 0, 10, 9], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 4, 4]], [0, 0, 0, 0], [0.6, 0.9, 0.8, 0.7])
    right, seen = matched(found, objects)
    assert right.tolist() == [False, True, False, False]
    assert seen.tolist() == [True, False]


def test_run_lengths_go_down_the_columns_and_begin_with_zeros():
    assert run_lengths(np.array([[0, 1], [1, 1]], bool)) == {"size": [2, 2], "counts": [1, 3]}
    assert run_lengths(np.array([[1, 0]], bool)) == {"size": [1, 2], "counts": [0, 1, 1]}
