"""What a network consists of, read from one pass on the meta device, and drawn."""

import xml.etree.ElementTree as ElementTree
from dataclasses import asdict

import pytest
import torch
from torch import nn

from foveate.architecture import Architecture, describe
from foveate.cli.draw import CHANNELS, described, mechanism_alone
from foveate.insertion import insert
from foveate.networks import create_network, example_input, list_networks, usual_shape
from foveate.networks.shufflenet_v1 import channel_shuffle
from foveate.report import architecture_drawing
from foveate.report.layered import layered


def of(name: str) -> Architecture:
    return described(f"foveate:{name}", usual_shape(name), None)


def permutation(found: Architecture, block: int) -> tuple[int, ...]:
    return next(step.permutation for step in found.blocks[block].steps if step.permutation)


def test_the_shuffle_of_a_unit_is_drawn_as_the_permutation_that_it_computes():
    found = of("shufflenet_v1")
    numbered = torch.arange(60.0).reshape(1, 60, 1, 1)
    assert permutation(found, 1) == tuple(channel_shuffle(numbered, 3, variant="official").flatten().int().tolist())
    second = permutation(of("shufflenet_v2"), 1)
    assert second == tuple(half * 58 + place for place in range(58) for half in range(2))


def test_a_unit_shows_its_branches_split_and_attention():
    found = of("se_shufflenet_v2")
    assert found.attention == {"se": 16}
    steps = found.blocks[1].steps
    assert [step.label for step in steps] == [
        "split", "1×1 convolution", "3×3 depthwise convolution", "1×1 convolution", "se", "concatenate",
        "channel shuffle, 2 groups of 58",
    ]  # fmt: skip
    assert steps[0].more == ("channels 0–57 of 116", "channels 58–115 of 116")
    assert steps[1].more == ("batch norm", "ReLU")
    assert steps[5].takes == (0, 4)
    inside = found.blocks[steps[4].block].steps
    assert [(step.label, step.more, step.takes) for step in inside] == [
        ("mean", (), (-1,)),
        ("linear", ("ReLU",), (0,)),
        ("linear", ("sigmoid",), (1,)),
        ("×", (), (-1, 2)),
    ]


def test_blocks_that_are_alike_are_one_row_and_are_drawn_once():
    found = of("resnet20")
    rows = [(step.name, step.label, step.repeats) for step in found.steps]
    assert rows[1:6] == [
        ("layer1.0", "BasicBlock", 3), ("layer2.0", "BasicBlock", 1), ("layer2.1", "BasicBlock", 2),
        ("layer3.0", "BasicBlock", 1), ("layer3.1", "BasicBlock", 2),
    ]  # fmt: skip
    assert found.parameters == sum(step.parameters for step in found.steps)
    assert sum(block.alike for block in found.blocks) == 9


def test_inserted_attention_is_marked_and_the_model_stays_as_it_was():
    model, example = create_network("resnet8"), example_input("foveate:resnet8")
    insert(model, "cbam", at="block", example=example)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = describe(model, example, "resnet8")
    assert found.attention == {"cbam": 3}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert "with cbam" in architecture_drawing(asdict(found)).standalone()


def test_a_gate_of_two_maps_names_both():
    found = of("attention_unet")
    assert next(block for block in found.blocks if block.attention).inputs == ("x", "g")


class Skipping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        unused = y.exp().sum()
        assert unused.shape == ()
        half = y[:, ::2]
        return self.second(torch.cat((y, half, half), 1))


def test_what_the_result_does_not_come_from_is_left_out():
    found = describe(Skipping(), torch.empty(1, 3, 4, 4))
    assert [(step.label, step.more, step.takes) for step in found.steps] == [
        ("3×3 convolution", (), (-1,)),
        ("select", ("every 2nd channel from 0",), (0,)),
        ("concatenate", (), (0, 1)),
        ("1×1 convolution", (), (2,)),
    ]


@pytest.mark.parametrize("name", ["shufflenet_v1", "attention_unet", "umixformer_mit_b0"])
def test_a_drawing_is_whole_and_stays_inside_its_paper(name):
    drawing = architecture_drawing(asdict(of(name)))
    root = ElementTree.fromstring(drawing.standalone())
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(box.get("x", 0)) >= 0
        assert float(box.get("x", 0)) + float(box.get("width", 0)) <= drawing.width
        assert float(box.get("y", 0)) + float(box.get("height", 0)) <= drawing.height


def test_boxes_of_a_layer_stand_apart_and_below_what_they_take_from():
    takes = [(), (0,), (0,), (1, 2), (0, 3)]
    found = layered(takes, [40.0] * 5, [20.0] * 5)
    assert abs(found.x[1] - found.x[2]) >= 40
    assert all(found.y[source] + 20 < found.y[box] for box, sources in enumerate(takes) for source in sources)
    assert set(found.lines) == {(source, box) for box, sources in enumerate(takes) for source in sources}


@pytest.mark.parametrize("name", ["se", "cbam", "sk", "sa", "nl"])
def test_a_mechanism_is_drawn_alone(name):
    found = mechanism_alone(name, CHANNELS)
    assert found.attention == {name: 1}
    assert len(found.blocks[0].steps) > 3


def test_a_mechanism_of_several_maps_is_refused_alone():
    with pytest.raises(ValueError, match="attention_gate takes several maps"):
        mechanism_alone("attention_gate", CHANNELS)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_networks())
def test_every_network_is_described_and_drawn(name):
    found = of(name)
    assert found.steps
    ElementTree.fromstring(architecture_drawing(asdict(found)).standalone())
