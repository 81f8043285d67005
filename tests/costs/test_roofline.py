"""The roofline: operations and bytes by hand, what holds an operator, inserted modules told from the others."""

import json
from dataclasses import asdict

import pytest
import torch
from torch import nn

import foveate
from foveate.costs import Machine, roofline
from foveate.report import roofline_drawing, roofline_table

ROOFS = Machine("cpu", "a processor", 1, "float32", ((10**6, 60.0), (10**8, 20.0)), 18.0, 50.0, 2.0, 8.0)


def plain(line, about="a network"):
    extra = {"where": line.where(), "where_inserted": line.where(inserted=True), "about": about}
    return json.loads(json.dumps(asdict(line) | extra))


def test_points_by_hand_and_what_holds_them():
    net = nn.Sequential(nn.Conv2d(64, 64, 3, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Sigmoid())
    conv, relu, pool, gate = roofline(net, torch.randn(1, 64, 30, 30), machine=ROOFS, budget_s=0.0).points
    assert conv.operations == 28 * 28 * 64 * 64 * 9
    assert conv.bytes_moved == 4 * (64 * 900 + 64 * 64 * 9 + 64 * 784)
    assert conv.intensity == pytest.approx(conv.operations / conv.bytes_moved)
    assert relu.operations == 64 * 784
    assert [point.bound for point in (conv, relu, pool, gate)] == ["arithmetic", "memory", "memory", "launch"]
    assert all(point.ms > 0 and point.rate > 0 for point in (conv, relu, pool, gate))


def test_inserted_modules_are_told_from_the_others():
    network = foveate.create_network("resnet8", num_classes=3)
    before = {name for name, _ in network.named_modules()}
    foveate.insert(network, "se", example=torch.zeros(2, 3, 32, 32))
    inserted = [name for name, _ in network.named_modules() if name not in before]
    network.train()
    line = roofline(network, torch.randn(2, 3, 32, 32), machine=ROOFS, inserted=inserted, budget_s=0.0)
    assert network.training
    theirs = [point for point in line.points if point.inserted]
    assert {point.operator for point in theirs} >= {"aten.sigmoid"}
    assert 0 < len(theirs) < len(line.points)
    assert sum(line.where(inserted=True).values()) == pytest.approx(sum(point.ms for point in theirs))
    assert sum(line.where().values()) == pytest.approx(sum(point.ms for point in line.points))
    found = plain(line)
    drawn = roofline_drawing(found).standalone()
    assert "of the inserted modules" in drawn
    assert "the inserted ones" in drawn
    assert roofline_table(found).renderables


def test_a_network_without_arithmetic_can_be_drawn():
    assert "roof:" in roofline_drawing(plain(roofline(nn.Identity(), torch.randn(1, 3), machine=ROOFS))).standalone()


def test_a_network_that_changes_its_mind_is_told():
    class Fickle(nn.Module):
        turns = 0

        def forward(self, x):
            self.turns += 1
            return x.relu() if self.turns % 2 else x.relu().relu()

    with pytest.raises(ValueError, match="runs the same operators on every pass"):
        roofline(Fickle(), torch.randn(1, 3), machine=ROOFS)
