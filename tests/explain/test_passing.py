"""What attention lets through on the object and on distractors."""

import pytest
import torch
from torch import nn

import foveate
from foveate.data.dataset import Batch
from foveate.explain.measure import measure
from foveate.explain.passing import passing
from foveate.explaining import ON_DISTRACTORS, ON_OBJECTS, SELECTIVITY, Explaining


def batch(distractors):
    """Two images of 8×8: a bright object in the left upper corner, a dark distractor in the right lower."""
    x = torch.zeros(2, 1, 8, 8)
    x[:, :, :4, :4], x[:, :, 4:, 4:] = 2.0, 0.5
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]] * 2)
    targets = {"label": torch.tensor([0, 1]), "box": box, "distractors": torch.tensor([distractors] * 2)}
    return Batch(x, targets, torch.arange(2))


BESIDE = [4.0, 4.0, 8.0, 8.0, 0.0, 0.0, 2.0, 2.0]  # the second lies on the object


def test_a_soft_threshold_lets_strong_maps_through_and_weak_ones_not():
    model = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(64, 2))
    plain = passing(model, batch(BESIDE))
    assert plain[ON_OBJECTS].tolist() == plain[ON_DISTRACTORS].tolist() == [1, 1]
    foveate.insert(model, "drsn_cw", at="0", example=batch(BESIDE).inputs, reduction=1)
    with foveate.capture(model.eval()) as seen:
        model(batch(BESIDE).inputs)
    threshold = float(seen.maps["0"]["threshold"][0, 0])
    assert 0 < threshold < 0.5
    found = passing(model, batch(BESIDE))
    assert found[ON_OBJECTS].tolist() == pytest.approx([(2 - threshold) / 2] * 2, rel=1e-4)
    assert found[ON_DISTRACTORS].tolist() == pytest.approx([(0.5 - threshold) / 0.5] * 2, rel=1e-4)
    torch.testing.assert_close(found[SELECTIVITY], found[ON_OBJECTS] - found[ON_DISTRACTORS])


@pytest.mark.parametrize("name", ["gc", "nl", "sk", "stn"])
def test_mechanisms_that_gate_nothing_have_no_share(name):
    model = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.Flatten(), nn.Linear(2048, 2))
    foveate.insert(model, name, at="0", example=batch(BESIDE).inputs)
    assert passing(model, batch(BESIDE))[ON_OBJECTS].tolist() == [1, 1]


def test_images_without_a_visible_distractor_have_no_share():
    found = passing(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), batch([0.0, 0.0, 2.0, 2.0]))
    assert found[ON_OBJECTS].tolist() == [1, 1]
    assert found[ON_DISTRACTORS].isnan().all()


def test_it_is_one_of_the_numbers_of_a_study_that_asks_for_it():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2))
    how = Explaining(passing=True, sanity=0)
    units = {metric.name: metric.unit for metric in how.metrics()}
    assert units[ON_OBJECTS] == units[ON_DISTRACTORS] == "fraction"
    assert units[SELECTIVITY] == "", "a difference may be less than 0, a fraction not"
    assert measure(model, [batch(BESIDE)], how).items[SELECTIVITY].tolist() == [0, 0]
    without = batch(BESIDE)
    del without.targets["distractors"]
    with pytest.raises(ValueError, match="passing wanted data with the target 'distractors'"):
        measure(model, [without], how)
