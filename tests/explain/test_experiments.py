"""The papers' experiments find what is put in, and nothing where there is nothing."""

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.explain.experiments import (
    branch_by_scale,
    enlarged,
    holm,
    strips_on_objects,
    threshold_by_noise,
)


class Sized(nn.Module):
    """Behaves as an SK module whose last branch counts more for brighter images, or for none."""

    def __init__(self, follows: bool) -> None:
        super().__init__()
        self.follows = follows

    def forward(self, x):
        from foveate.attention._capture import record

        share = x.mean((1, 2, 3)).sigmoid() if self.follows else torch.full((len(x),), 0.5)
        last = share[:, None].expand(-1, 4)
        record(self, branch=torch.stack([1 - last, last], 1))
        return x


def dots(sizes):
    images = torch.zeros(len(sizes), 1, 32, 32)
    for image, side in zip(images, sizes, strict=True):
        image[0, 16 - side : 16 + side, 16 - side : 16 + side] = 1
    return images


def test_the_larger_branch_is_seen_to_follow_the_object_and_its_absence_too():
    found = branch_by_scale(nn.Sequential(Sized(True), Sized(False)), [dots([3, 4, 5, 6]), dots([4, 5, 6, 7])])
    assert [one.site for one in found] == ["0", "1"]
    assert found[0].shows_it
    assert not found[1].shows_it
    assert (np.diff(found[0].weights[:, 1]) > 0).all()
    assert (found[0].rising, found[1].rising) == (1.0, 0.0)
    assert (found[0].depth, found[1].depth) == (0.0, 1.0)
    assert enlarged(dots([4]), 2.0).sum() > 3 * dots([4]).sum()
    with pytest.raises(ValueError, match="records no branch weights"):
        branch_by_scale(nn.Conv2d(1, 1, 1), [dots([3])])


def test_real_modules_are_measured():
    images = dots([4, 6, 8])
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    foveate.insert(model, "sk", at="2", example=images, replace=True, groups=1)
    (found,) = branch_by_scale(model, [images])
    assert found.weights.sum(1).tolist() == pytest.approx([1, 1, 1])

    foveate.remove(model)
    foveate.insert(model, "drsn_cw", at="3", example=images)
    (found,) = threshold_by_noise(model, [images, images])
    assert found.thresholds.shape == (5,)
    assert -1 <= found.trend[1] <= found.trend[0] <= found.trend[2] <= 1
    (alike,) = threshold_by_noise(model, [images, images], rescaled=True)
    assert alike.thresholds[0] == found.thresholds[0]
    assert alike.thresholds[-1] < found.thresholds[-1], "noise no longer makes the image stronger"
    with pytest.raises(ValueError, match="falling"):
        threshold_by_noise(model, [images], (0, 10))

    foveate.remove(model)
    foveate.insert(model, "ca", at="3", example=images)
    (found,) = strips_on_objects(model, [(images, images[:, 0] > 0)])
    assert 0 < found.by_chance[0] < 1
    assert found.both[0] <= min(found.rows[0], found.columns[0])
    with pytest.raises(ValueError, match="no image has one"):
        strips_on_objects(model, [(images, torch.zeros(3, 32, 32, dtype=torch.bool))])


def test_p_values_are_corrected_by_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
