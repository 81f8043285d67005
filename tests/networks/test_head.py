"""Which tensors are the classifier: told by building for one more class, never by a layer's place or width."""

from functools import partial

import pytest
import torch
from torch import nn

from foveate.networks import build_network, build_wider, find_head, head_of, load_weights

HEADS = {  # network → classes → tensors, their axes, and how a size follows the number of classes
    "foveate:resnet8": (10, {"fc.weight": (0,), "fc.bias": (0,)}, {(1, 0)}),
    "foveate:capsnet": (10, {"weight": (1,)}, {(1, 0)}),
    "torchvision:squeezenet1_1": (512, {"classifier.1.weight": (0,), "classifier.1.bias": (0,)}, {(1, 0)}),
    "torchvision:fcn_resnet50": (21, {"classifier.4.weight": (0,), "classifier.4.bias": (0,)}, {(1, 0)}),
    "torchvision:ssdlite320_mobilenet_v3_large": (
        91,
        {f"head.classification_head.module_list.{i}.1.{kind}": (0,) for i in range(6) for kind in ("weight", "bias")},
        {(6, 0)},
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_tensors_that_follow_the_number_of_classes_are_the_classifier(name):
    classes, tensors, sizes = HEADS[name]
    random = torch.get_rng_state()
    head = head_of(name, num_classes=classes, in_channels=1 if name == "foveate:capsnet" else 3)
    assert torch.equal(random, torch.get_rng_state())
    assert head.tensors == tensors
    assert set(head.sizes.values()) == sizes


@pytest.mark.parametrize("name", HEADS)
def test_a_state_says_how_many_classes_it_is_for(name):
    channels = 1 if name == "foveate:capsnet" else 3
    with torch.device("meta"):
        state = build_network(name, num_classes=7, in_channels=channels).state_dict()
    assert head_of(name, num_classes=HEADS[name][0], in_channels=channels).outputs_of(state) == 7
    assert head_of(name, num_classes=HEADS[name][0], in_channels=channels).outputs_of({}) is None


class Boxes(nn.Module):
    """Three anchors, each with four sides, a score and its classes; the middle is as wide as the classes."""

    def __init__(self, num_classes):
        super().__init__()
        self.middle = nn.Linear(8, 10)
        self.boxes = nn.Conv1d(10, 3 * (num_classes + 5), 1)


def test_a_size_with_more_than_the_classes_is_understood():
    head = find_head(Boxes, 10)
    assert head.tensors == {"boxes.weight": (0,), "boxes.bias": (0,)}
    assert set(head.sizes.values()) == {(3, 15)}
    assert head.outputs_of(Boxes(2).state_dict()) == 2
    with pytest.raises(ValueError, match=r"boxes.weight: wanted 3 · classes \+ 15 on axis 0; got 22"):
        head.outputs_of({"boxes.weight": torch.zeros(22, 10, 1)})
    with pytest.raises(ValueError, match=r"boxes.weight for 2 classes and boxes.bias for 3 classes"):
        head.outputs_of({"boxes.weight": torch.zeros(21, 10, 1), "boxes.bias": torch.zeros(24)})


class Stubborn(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        if num_classes != 4:
            raise RuntimeError("four")
        self.scale = nn.Parameter(torch.arange(4.0) / float(torch.ones(()).item()))  # no value on the meta device


def test_a_network_for_one_number_of_classes_alone_is_refused_and_one_that_ignores_it_has_no_classifier():
    with pytest.raises(ValueError, match="the classifier is not known: built for 5 classes, the network raises four"):
        find_head(Stubborn, 4)
    assert find_head(lambda _: nn.Linear(2, 2), 4).tensors == {}


def test_classes_are_as_many_in_a_widened_network():
    with torch.device("meta"):
        wide = build_wider("torchvision:fcn_resnet50", 1.25, num_classes=21, in_channels=3).eval()
        assert wide(torch.empty(1, 3, 64, 64))["out"].shape == (1, 21, 64, 64)
        assert wide.backbone.conv1.weight.shape == (80, 3, 7, 7)


def test_a_middle_as_wide_as_the_classes_is_widened_and_counted_as_no_class(tmp_path):
    """One layer of the middle has as many outputs as there are classes; the guess by width left it narrow."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef net(num_classes):\n    return nn.Sequential(nn.Linear(3, 10), nn.ReLU(),"
        " nn.Linear(10, num_classes))\n"
    )
    wide = build_wider(f"{tmp_path}/net.py:net", 2.0, num_classes=10, in_channels=3)
    assert [tuple(wide[i].weight.shape) for i in (0, 2)] == [(20, 6), (10, 20)]


def test_weights_for_another_number_of_classes_leave_a_detector_its_own_classifier(tmp_path):
    name = "torchvision:ssdlite320_mobilenet_v3_large"
    torch.save(build_network(name, num_classes=3).state_dict(), tmp_path / "w")
    model = build_network(name, num_classes=2)
    fresh = load_weights(model, tmp_path / "w", head=partial(head_of, name, num_classes=2))
    assert sorted(fresh) == sorted(HEADS[name][1])
