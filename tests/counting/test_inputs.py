"""Counts and costs of networks that take several arguments, keywords, lists of images, or targets."""

import pytest
import torch
from torch import nn

import foveate
from foveate.costs import Setting, costs, macs
from foveate.counting import batch_size, count, first_samples, first_tensor, placed, repeated
from foveate.networks import build_network, example_input

X = torch.randn(4, 3, 16, 16)


class Two(nn.Module):
    """Two images, the second by keyword, and how much of it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x, other=None, scale=1.0):
        y = self.conv(x)
        return y if other is None else y + scale * self.conv(other)


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, *, pixel_values, bool_mask=None):
        return {"logits": self.conv(pixel_values).mean((2, 3))}


class Several(nn.Module):
    """A list of images, as a detector takes it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, images):
        return [self.conv(image[None]) for image in images]


ONE = 4 * 14 * 14 * 27 * 8  # multiply-adds of the convolution over the batch
GIVEN = {
    "a tensor": (Two, X, ONE),
    "a tuple of arguments": (Two, (X, X, 0.5), 2 * ONE),
    "keywords": (Keywords, {"pixel_values": X}, ONE),
    "a list of images": (Several, list(X), ONE),
    "a list as the only argument": (Several, (list(X),), ONE),
}


@pytest.mark.parametrize("case", GIVEN)
def test_a_batch_of_every_form_is_counted_and_measured(case):
    cls, x, wanted = GIVEN[case]
    model = cls()
    assert batch_size(x) == 4
    assert macs(model, x) == wanted
    assert count(model, x).total.activation_bytes > 0
    found = foveate.cost(model, x, budget_s=0, repeats=2, training=True)
    assert found.macs == wanted
    assert found.batch_size == 4
    assert found.latency_ms.median > 0
    assert found.train_step_ms.median > 0
    assert found.peak_mib >= 0, found.notes
    assert macs(model, first_samples(x, 1)) == wanted // 4
    assert macs(model, repeated(x, 3)) == 3 * wanted // 4


@pytest.mark.parametrize("case", GIVEN)
def test_a_batch_of_every_form_is_cast_with_its_network(case):
    cls, x, wanted = GIVEN[case]
    given = placed(x, "cpu", torch.bfloat16, channels_last=True)
    assert first_tensor(given).dtype == torch.bfloat16
    found = costs({"net": cls()}, x, setting=Setting(dtype="bf16"), budget_s=0, repeats=2, memory=False)["net"]
    assert found.macs == wanted
    assert {row.dtype for row in found.counted.rows if row.kind == "product"} == {"bfloat16"}


@pytest.mark.parametrize("x", [(), [], {}, {"size": 3}, "image", None])
def test_a_batch_without_a_tensor_is_refused(x):
    with pytest.raises(TypeError, match="wanted a batch: a tensor, a tuple of arguments, a list of images, or a dict"):
        count(Two(), x)


@pytest.fixture(scope="module")
def detector():
    return build_network("torchvision:ssdlite320_mobilenet_v3_large", num_classes=3)


def test_a_detector_is_counted_in_training_with_its_targets(detector):
    x = example_input("torchvision:ssdlite320_mobilenet_v3_large", batch_size=2, targets=True)
    assert [sorted(target) for target in x[1]] == [["boxes", "labels"]] * 2
    found = count(detector, x)
    assert found.untrained == ""
    assert found.total.activation_bytes > 10 * sum(image.numel() for image in x[0])
    assert count(detector, x, kept=False).macs == found.macs > 4e8


def test_a_detector_without_targets_is_counted_in_evaluation_mode_and_that_is_said(detector):
    x = example_input("torchvision:ssdlite320_mobilenet_v3_large")
    found = foveate.cost(detector, x, budget_s=0, repeats=2, memory=False)
    assert found.activation_bytes > 0
    (note,) = [note for note in found.notes if note.startswith("activation bytes")]
    assert "of evaluation mode: in training mode the network refuses" in note
    assert "targets should not be none" in note


@pytest.mark.parametrize(
    ("name", "keys"),
    [("maskrcnn_resnet50_fpn", {"boxes", "labels", "masks"}), ("keypointrcnn_resnet50_fpn", {"boxes", "keypoints"})],
)
def test_targets_have_what_the_detector_is_trained_on(name, keys):
    _, (target,) = example_input(f"torchvision:{name}", (3, 64, 48), targets=True)
    assert keys <= target.keys()
    assert target["boxes"].tolist() == [[12, 16, 36, 48]]
