"""Numbers for maps: on the object or beside it, faithful or not, and those of gates."""

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.data import open_data
from foveate.data.dataset import Batch
from foveate.explain import (
    by_chance,
    channel_profiles,
    deletion,
    gate_numbers,
    gates_beside,
    insertion,
    localise,
    mean_interval,
    measure,
    object_masks,
    randomised,
    road,
    sanity_check,
)
from foveate.explain.cams import METHODS as CAMS
from foveate.explain.faithfulness import area, imputed
from foveate.explain.rollout import ROLLOUTS
from foveate.explaining import METHODS, Explaining
from foveate.networks import build_network
from foveate.spec import DataSpec

IMAGE = torch.linspace(-1, 1, 3 * 24 * 24).sin().reshape(3, 24, 24)


class Bright(nn.Module):
    """Class 1 where the upper left quarter is bright: what a faithful map shows is known."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Conv2d(1, 1, 1)
        nn.init.ones_(self.seen.weight)
        nn.init.zeros_(self.seen.bias)

    def forward(self, x):
        mean = self.seen(x)[:, :, :12, :12].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(mean), 4 * mean], 1)


def test_maps_are_held_against_objects():
    maps = torch.zeros(3, 4, 4)
    maps[0, 0, 0], maps[0, 3, 3] = 1.0, 0.5
    maps[1, 3, 3] = 1.0
    maps[2, 0, 0] = 1.0
    objects = torch.zeros(3, 4, 4, dtype=torch.bool)
    objects[:2, :2, :2] = True  # the third image has no object
    found = localise(maps, objects, threshold=0.5)
    assert found["pointing game"][:2].tolist() == [1, 0]
    assert found["energy inside"][0].item() == pytest.approx(2 / 3)
    assert found["coverage"][:2].tolist() == [0.25, 0]
    assert found["map IoU"][0].item() == pytest.approx(1 / 5)
    assert all(torch.isnan(values[2]) for values in found.values())
    assert localise(maps, objects, tolerance=2)["pointing game"][1] == 1
    chance = by_chance([objects])
    assert chance["pointing game, a random position"] == 0.25
    assert chance["pointing game, the middle of the image"] == 0
    with pytest.raises(ValueError, match="wanted maps and objects"):
        localise(maps, objects[:, :2])
    with pytest.raises(ValueError, match="threshold"):
        localise(maps, objects, threshold=0)


def test_objects_come_from_masks_or_boxes():
    boxes = torch.tensor([[1.0, 0.0, 3.0, 2.0]])
    wanted = torch.zeros(1, 4, 4, dtype=torch.bool)
    wanted[0, 0:2, 1:3] = True
    assert torch.equal(object_masks({"box": boxes}, (4, 4)), wanted)
    assert torch.equal(object_masks({"boxes": [{"boxes": boxes}]}, (4, 4)), wanted)
    assert torch.equal(object_masks({"mask": torch.where(wanted, 2, 255)}, (4, 4)), wanted)
    with pytest.raises(ValueError, match="wanted targets with masks or boxes of the objects; got label"):
        object_masks({"label": boxes}, (4, 4))


def test_curves_know_a_faithful_map_from_another():
    model, inputs = Bright(), torch.ones(1, 1, 24, 24)
    inputs[:, :, 12:] = -1
    targets = torch.tensor([1])
    there, elsewhere = torch.zeros(2, 1, 24, 24)
    there[:, :12, :12] = 1
    elsewhere[:, 12:, 12:] = 1
    for curve in (deletion, road):
        assert area(curve(model, inputs, targets, there)) < area(curve(model, inputs, targets, elsewhere))
    assert area(insertion(model, inputs, targets, there)) > area(insertion(model, inputs, targets, elsewhere))
    assert area(torch.full((2, 11), 0.3)).tolist() == pytest.approx([0.3, 0.3])


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # of the oracle
def test_imputation_equals_the_oracle():
    road_of = pytest.importorskip("pytorch_grad_cam.metrics.road")
    mask = torch.rand(24, 24).gt(0.4).float()
    wanted = road_of.NoisyLinearImputer(noise=0.0)(IMAGE, mask)
    found = imputed(IMAGE, (mask.flatten() == 0).nonzero()[:, 0])
    torch.testing.assert_close(found, wanted.float(), atol=1e-4, rtol=1e-4)


def test_an_interval_is_of_the_images():
    values = np.array([0.0, 1.0, np.nan, 1.0, 0.0])
    mean, low, high = mean_interval(values)
    assert mean == 0.5
    assert 0 <= low < 0.5 < high <= 1
    assert mean_interval(values) == (mean, low, high)
    with pytest.raises(ValueError, match="got none"):
        mean_interval(np.array([np.nan]))


def test_maps_of_a_trained_network_differ_from_those_of_random_weights():
    model = foveate.create_network("resnet8", num_classes=4, in_channels=3)
    batch = torch.stack([IMAGE, IMAGE.flip(1), IMAGE.flip(2)])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = randomised(model, 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not torch.equal(other.state_dict()["layer1.0.conv1.weight"], before["layer1.0.conv1.weight"])
    found = sanity_check(model, batch, seed=1)
    assert found.correlations.shape == (3,)
    assert -1 <= found.low <= found.mean <= found.high <= 1
    assert found.passed == (found.high < 0.5)

    class Edges(nn.Module):  # whatever its weights are, its map is the image
        def __init__(self) -> None:
            super().__init__()
            self.image = nn.Identity()
            self.head = nn.Linear(1, 1)

        def forward(self, x):
            return self.head.weight.abs() * self.image(x[:, :1] * 1.0).mean((2, 3)) * torch.tensor([[1.0, 0.0]])

    alike = sanity_check(Edges(), batch.abs())
    assert not alike.passed
    assert "may not show what the network learned" in alike.text


def test_gates_have_entropy_sparsity_and_profiles_by_class():
    model = foveate.create_network("resnet8", num_classes=2, in_channels=3)
    foveate.insert(model, "cbam", at="layer3.0.bn2", example=IMAGE[None])
    batch = torch.stack([IMAGE, IMAGE.flip(1), 2 * IMAGE, IMAGE.flip(2)])
    numbers = {(one.site, one.kind): one for one in gate_numbers(model, [batch[:2], batch[2:]])}
    assert set(numbers) == {("layer3.0.bn2", "channel"), ("layer3.0.bn2", "spatial")}
    assert all(0 <= one.sparsity[0] <= 1 and 0 <= one.entropy[0] <= 1 for one in numbers.values())
    from foveate.explain.gates import _of_each

    alike, one = _of_each(torch.ones(1, 8))[0], _of_each(torch.eye(8)[:1])[0]
    assert alike[:2].tolist() == pytest.approx([1, 0], abs=1e-6)
    assert one[:2].tolist() == pytest.approx([0, 1], abs=1e-6)
    (profile,) = channel_profiles(model, [(batch, torch.tensor([0, 1, 0, 1]))], 3)
    assert profile.means.shape == (3, 64)
    assert np.isnan(profile.means[2]).all()
    assert 0 <= profile.between <= 1
    with pytest.raises(ValueError, match="labels"):
        channel_profiles(model, [(batch, torch.tensor([0, 1, 0, 3]))], 3)


def test_a_network_is_measured_over_images_with_objects():
    data = open_data(DataSpec(train_items=10, test_items=20))
    model = foveate.create_network("resnet8", num_classes=10, in_channels=1)
    batches = [data.test.batch(range(at, at + 10), None) for at in (0, 10)]
    how = Explaining(curves=True, sanity=12)
    found = measure(model, batches, how)
    assert set(found.items) == {metric.name for metric in how.metrics()}
    assert found.numbers.tolist() == list(range(20))
    assert found.layers == ("layer3",)
    assert all(len(values) == 20 for values in found.items.values())
    assert np.isfinite(found.items["similarity to random weights"]).sum() == 12
    mean, low, high = found.means()["energy inside"]
    assert 0 < low <= mean <= high < 1
    without = Batch(batches[0].inputs, {"label": batches[0].targets["label"]}, batches[0].items)
    with pytest.raises(ValueError, match="masks or boxes"):
        measure(model, [without], how)
    assert (*CAMS, *ROLLOUTS) == METHODS


def test_of_a_detector_the_map_of_the_best_box_is_measured():
    data = open_data(DataSpec(kind="digit_boxes", size=64, train_items=2, test_items=3))
    name = "torchvision:ssdlite320_mobilenet_v3_large"
    model = build_network(name, num_classes=11, size=64, score_thresh=1e-4).eval()
    how = Explaining()
    found = measure(model, [data.test.batch([0, 1], None), data.test.batch([2], None)], how)
    assert set(found.items) == {metric.name for metric in how.metrics(detects=True)}
    there = [len(target["boxes"]) > 0 for target in data.test.batch(range(3), None).targets["boxes"]]
    assert 0 < sum(there) < 3
    assert all(np.isfinite(values).tolist() == there for values in found.items.values())
    assert found.items["coverage"][there].max() == 0  # of an untrained detector no gradient is left on its maps
    assert len(found.layers) > 1
    silent = build_network(name, num_classes=11, size=64, score_thresh=0.99).eval()
    assert np.isnan(measure(silent, [data.test.batch([0], None)], how).items["coverage"]).all()


def test_photos_with_boxes_are_a_set_to_classify(shared):
    source = str(shared / "data" / "det_neu")
    data = open_data(DataSpec(kind="boxed_classes", source=source, size=(64, 64), options={"box_scale": 2.08}))
    assert (len(data.train), len(data.test), len(data.targets["label"].names)) == (240, 60, 6)
    batch = data.test.batch([0, 59], None)
    assert batch.inputs.shape == (2, 3, 64, 64)
    assert batch.targets["label"].tolist() == [0, 5]
    assert 0 < batch.targets["mask"].float().mean() < 1
    with pytest.raises(ValueError, match="form: wanted one of coco"):
        open_data(DataSpec(kind="boxed_classes", source=source, options={"form": "cocoa"}))


def test_gates_stand_beside_those_of_other_networks_and_mixed_labels_are_of_other_items():
    spec = {"train_items": 40, "test_items": 20}
    plain, mixed = open_data(DataSpec(**spec)), open_data(DataSpec(kind="shuffled_labels", **spec))
    labels = [data.train.batch(range(40), None).targets["label"] for data in (plain, mixed)]
    assert labels[0].bincount().tolist() == labels[1].bincount().tolist()
    assert not torch.equal(*labels)
    assert torch.equal(*(data.test.batch(range(20), None).targets["label"] for data in (plain, mixed)))
    with pytest.raises(ValueError, match="wanted a set with a class of each item; 'digit_boxes' has none"):
        open_data(DataSpec(kind="shuffled_labels", options={"form": "digit_boxes"}, train_items=4, test_items=4))

    model = foveate.create_network("resnet8", num_classes=10, in_channels=1)
    batch = plain.test.batch(range(8), None).inputs
    foveate.insert(model, "se", at="layer?.0.bn2", example=batch)
    rows = gates_beside({"trained": model, "untrained": randomised(model)}, [batch])
    assert [row["network"] for row in rows] == ["trained", "untrained"] * 3
    assert rows[0]["site"] == rows[1]["site"] == "layer1.0.bn2"
    assert rows[0]["entropy"] != rows[1]["entropy"]
