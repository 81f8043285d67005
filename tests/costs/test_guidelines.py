"""The guideline analyser: its formulas by hand, what was planted is found and nothing else, any network can be read."""

import json
from dataclasses import asdict

import pytest
import torch
import torchvision
from torch import nn

import foveate
from foveate.costs import Machine, guidelines
from foveate.costs.places import least_memory_access, memory_access, product, read
from foveate.costs.pricing import change
from foveate.costs.trace import alone, traced
from foveate.networks import build_network
from foveate.report import guidelines_drawing, guidelines_table

ROOFS = Machine("cpu", "a processor", 1, "float32", ((10**6, 60.0), (10**8, 20.0)), 18.0, 50.0, 2.0, 8.0)


def looked_at(model, *shape):
    return guidelines(model, torch.randn(*shape), machine=ROOFS, measure=False)


def found(model, *shape):
    return [(p.guideline, p.where, p.what) for p in looked_at(model, *shape).places]


def test_memory_access_and_its_bound_by_hand():
    assert memory_access(49, 64, 256) == 49 * 320 + 64 * 256 == 32064
    assert memory_access(49, 64, 256, groups=4) == 49 * 320 + 4096
    b = 49 * 64 * 256
    assert least_memory_access(49, 64, 256) == pytest.approx(2 * (49 * b) ** 0.5 + b / 49) == pytest.approx(28928)
    for c in (1, 7, 64):
        assert memory_access(12, c, c) == pytest.approx(least_memory_access(12, c, c)), "reached where widths are equal"
    for c1, c2, positions in ((1, 2, 1), (3, 300, 49), (512, 32, 3136)):
        assert memory_access(positions, c1, c2) > least_memory_access(positions, c1, c2)


class Parallel(nn.Module):
    """Two branches with weights of their own, and a shortcut, which is no fragment."""

    def __init__(self, channels):
        super().__init__()
        self.a, self.b = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)], 1) + torch.cat([x, x], 1)


class Gate(nn.Module):
    """Squeeze and excitation: five launches on one number a channel, in series."""

    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x * self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


PLANTED = {
    "unequal": (
        nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 24, 1)),
        [("G1", "1", "8 → 24 on 64×64")],
    ),
    "a linear layer over positions": (nn.Linear(8, 24), [("G1", "the network", "8 → 24 on 64 positions")]),
    "grouped": (
        nn.Sequential(nn.Conv2d(8, 16, 3, groups=4), nn.Conv2d(16, 16, 1, groups=2)),
        [("G2", "0", "4 groups, 3×3, 8 → 16 on 62×62"), ("G2", "1", "2 groups, 1×1, 16 → 16 on 62×62")],
    ),
    "branches": (
        Parallel(8),
        [
            ("G3", "a to b", "2 branches of 1 + 1 launches, joined by cat"),
            ("G4", "the network", "cat"),
            ("G4", "the network", "cat, add"),
        ],
    ),
    "a series": (
        Gate(8),
        [
            ("G3", "down to up", "4 small launches in series: convolution, relu, convolution, sigmoid"),
            ("G4", "the network", "relu"),
            ("G4", "the network", "sigmoid, mul"),
        ],
    ),
    "elementwise": (
        nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Hardswish()),
        [("G4", "1 to 4", "batch_norm, relu, depthwise convolution, hardswish")],
    ),
    "nothing": (nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1), nn.MaxPool2d(2)), []),
}


@pytest.mark.parametrize("case", PLANTED)
def test_what_is_planted_is_found_and_nothing_else(case):
    model, expected = PLANTED[case]
    shape = (2, 64, 8) if isinstance(model, nn.Linear) else (2, 8, 64, 64)
    assert found(model, *shape) == expected


def test_the_figures_of_a_place_are_those_of_one_image():
    first, second = looked_at(nn.Conv2d(64, 256, 1), 1, 64, 7, 7), looked_at(nn.Conv2d(64, 256, 1), 3, 64, 7, 7)
    for one, images in ((first, 1), (second, 3)):
        (place,) = one.places
        assert (place.elements, place.least) == (32064, pytest.approx(28928))
        assert place.ratio == pytest.approx(32064 / 28928)
        assert place.macs == images * 49 * 64 * 256
        assert place.bytes_moved == 4 * (images * 49 * 320 + 64 * 256 + 256)
        assert place.change == "equal widths, 128 → 128"
        assert place.saves_ms is None
    strided = looked_at(nn.Conv2d(64, 256, 1, stride=2), 1, 64, 14, 14)
    assert strided.places[0].elements == 32064, "a strided 1×1 convolution reads only what it uses"


def test_groups_are_held_against_none_at_equal_arithmetic_on_the_same_input():
    (place,) = looked_at(nn.Conv2d(32, 64, 3, padding=1, groups=8, bias=False), 1, 32, 10, 10).places
    assert place.elements == 100 * (32 + 64) + 9 * 32 * 64 / 8
    assert place.least == 100 * (32 + 64 / 8) + 9 * 32 * 64 / 8
    assert place.macs == 100 * 9 * 32 * 64 // 8


def test_units_of_shufflenet_v2_conform_where_v1_and_grouped_residual_ones_do_not():
    counts = {}
    for name in ("foveate:shufflenet_v1", "torchvision:shufflenet_v2_x1_0", "torchvision:resnext50_32x4d"):
        network = build_network(name, num_classes=10)
        read_of_it = looked_at(network, 1, 3, 64, 64)
        counts[name] = {total.guideline: total.places / total.checked for total in read_of_it.totals}
    v1, v2, resnext = counts.values()
    assert v2["G2"] == 0
    assert min(v1["G2"], resnext["G2"]) > 0.2
    assert v2["G1"] < 0.1 < min(v1["G1"] + v1["G2"], resnext["G1"])
    unit = torchvision.models.shufflenet_v2_x1_0().stage2[1]
    assert {guideline for guideline, *_ in found(unit, 1, 116, 28, 28)} == {"G4"}


CONVOLUTIONS = [
    (nn.Conv2d(8, 24, 1), (2, 8, 9, 7)),
    (nn.Conv2d(8, 24, 1, stride=2, bias=False), (2, 8, 9, 7)),
    (nn.Conv2d(12, 24, 3, padding=1, groups=4), (1, 12, 9, 7)),
    (nn.Conv1d(8, 16, 3, groups=2), (2, 8, 9)),
    (nn.Conv3d(6, 15, 1, bias=False), (2, 6, 3, 5, 7)),
    (nn.ConvTranspose2d(8, 16, 2, stride=2, groups=4), (1, 8, 5, 5)),
    (nn.Linear(8, 24), (2, 16, 8)),
    (nn.Linear(8, 24, bias=False), (2, 16, 8)),
    (nn.Conv2d(8, 24, 1).to(memory_format=torch.channels_last), (2, 8, 9, 7)),
    (nn.Sequential(nn.Conv2d(8, 24, 1), nn.Conv2d(24, 24, 1)).bfloat16(), (2, 8, 9, 7)),
]


@pytest.mark.parametrize(("model", "shape"), CONVOLUTIONS, ids=lambda value: str(value).split(" ")[0][:40])
def test_the_changed_operator_runs_at_equal_arithmetic(model, shape):
    x = torch.randn(shape, dtype=next(model.parameters()).dtype)
    if getattr(model, "weight", torch.zeros(1)).dim() == 4 and not model.weight.is_contiguous():
        x = x.to(memory_format=torch.channels_last)
    calls = traced(model, x)
    places = [place for place in read(calls, shape[0], ROOFS).places if place.guideline in ("G1", "G2")]
    assert places
    for place in places:
        asked = change(place, calls, shape[0], ROOFS)
        call = calls[place.calls[0]]
        assert asked.step is not None
        asked.step()()
        call.alone()()
        assert 0.6 < asked.scale < 1.7, "rounded widths"
        assert asked.predicted_ms > 0
        one = product(call, shape[0])
        assert one.images * one.macs == call.row.macs


def test_operands_made_again_have_their_strides():
    x = torch.randn(2, 8, 5, 7).to(memory_format=torch.channels_last)
    (call,) = traced(nn.Conv2d(8, 4, 1).to(memory_format=torch.channels_last), x)
    operand = call.args[0]
    assert operand.made().stride() == x.stride()
    assert operand.resized(2, 16, 5, 7).made().is_contiguous(memory_format=torch.channels_last)
    assert call.args[1].weight
    alone(torch.ops.aten.neg.default, (operand,))()


def test_a_measured_network_is_priced_and_left_as_it_was():
    network = foveate.create_network("resnet8", num_classes=3)
    foveate.insert(network, "se", example=torch.zeros(2, 3, 16, 16))
    network.train()
    network.layer1.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    read_of_it = guidelines(network, torch.randn(2, 3, 16, 16), machine=ROOFS, budget_s=0.0)
    assert network.training
    assert not network.layer1[0].bn1.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert read_of_it.latency_ms.median > 0
    assert torch.backends.mha.get_fastpath_enabled()
    assert {total.guideline for total in read_of_it.totals} == {"G1", "G2", "G3", "G4"}
    assert any(place.change for place in read_of_it.places)
    for place in read_of_it.places:
        assert 0 < place.measured_ms.low <= place.measured_ms.median <= place.measured_ms.high
        assert 0 < place.share < 1
        if place.change:
            assert place.saves_ms.low <= place.saves_ms.median <= place.saves_ms.high
            assert place.saves_ms.high <= place.measured_ms.high
    fourth = read_of_it.totals[3]
    assert fourth.launches == sum(place.launches for place in read_of_it.of("G4"))
    assert 0 < fourth.share < 1
    plain = json.loads(json.dumps(asdict(read_of_it) | {"about": "resnet8"}))
    assert "G4 elementwise operators" in guidelines_drawing(plain).standalone()
    assert guidelines_table(plain).renderables


NETWORKS = [
    "timm:convnext_atto",
    "timm:vit_tiny_patch16_224",
    "timm:ghostnet_050",
    "timm:hrnet_w18_small",
    "torchvision:googlenet",
    "torchvision:densenet121",
    "torchvision:swin_t",
]


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks_can_be_read(name):
    _, _, short = name.partition(":")
    options = {"init_weights": False, "aux_logits": False} if short == "googlenet" else {}
    network = build_network(name, num_classes=10, **options)
    read_of_it = looked_at(network, 1, 3, 224, 224)
    assert not read_of_it.unknown
    found_of = {total.guideline: total.places for total in read_of_it.totals}
    assert found_of["G4"] > 5
    if short in ("googlenet", "hrnet_w18_small"):
        assert found_of["G3"] >= 8
    if short in ("convnext_atto", "vit_tiny_patch16_224"):
        assert found_of["G1"] >= 24, "the linear layers of their blocks"
    assert all(place.predicted_ms > 0 for place in read_of_it.places)


def test_a_batch_that_the_network_refuses_is_told():
    with pytest.raises(ValueError, match="refuses a batch of shape"):
        looked_at(nn.Conv2d(3, 4, 1), 1, 5, 8, 8)
