"""What a network's own attention computes for one image, and how it is drawn."""

import numpy as np
import pytest
import torch
import torchvision

import foveate
from foveate.explain import affinity_row, explain, heat, overlay, own_maps, own_pictures

IMAGE = torch.linspace(-1, 1, 3 * 48 * 64).sin().reshape(3, 48, 64)
KINDS = {
    "se": {"channel"},
    "cbam": {"channel", "spatial"},
    "ca": {"height", "width"},
    "nl": {"affinity"},
    "drsn_cs": {"threshold"},
    "gc": {"spatial", "added"},
}


@pytest.mark.parametrize("name", KINDS)
def test_gates_stand_beside_the_map(name):
    model = torchvision.models.resnet18(num_classes=4)
    foveate.insert(model, name, at="layer3.1.bn2", example=IMAGE[None])
    found = explain(model, IMAGE, point=(0.5, 0.75))
    gates = found.about.gates["layer3.1.bn2"]
    assert set(gates) == KINDS[name]
    if name == "nl":
        assert gates["affinity"].shape == (3, 4)
    if name == "cbam":
        assert gates["channel"].shape == (256,)
        assert gates["spatial"].shape == (3, 4)
    drawn = own_pictures(np.zeros((48, 64, 3), np.uint8), found.about.gates, (0.5, 0.75))
    assert set(drawn) == {f"layer3.1.bn2: {kind}" for kind in gates}
    assert all(picture.dtype == np.uint8 and picture.shape[2] == 3 for picture in drawn.values())


def test_a_row_is_that_of_the_point():
    model = torchvision.models.resnet18(num_classes=4)
    foveate.insert(model, "nl", at="layer3.1.bn2", example=IMAGE[None])
    with foveate.capture(model, "all") as seen, torch.no_grad():
        model.eval()(IMAGE[None])
    every = seen.maps["layer3.1.bn2"]["affinity"][0]
    row = affinity_row(model, IMAGE[None], (0.5, 0.75))["layer3.1.bn2"]
    np.testing.assert_allclose(row.flatten(), every[1 * 4 + 3], atol=1e-6)
    with pytest.raises(ValueError, match=r"point: wanted \(y, x\) in shares of the image"):
        affinity_row(model, IMAGE[None], (20, 30))


def test_a_network_without_attention_has_no_gates():
    assert own_maps(torchvision.models.resnet18(num_classes=4), IMAGE[None]) == {}


def test_colours_go_from_dark_to_bright():
    colours = heat(np.array([[0.0, 0.5, 1.0]]))
    assert (np.diff(colours.astype(int).sum(2)) > 0).all()
    picture = np.full((6, 8, 3), 100, np.uint8)
    drawn = overlay(picture, np.array([[0.0, 1.0]]))
    assert drawn.shape == picture.shape
    assert drawn[:, 0].sum() < drawn[:, -1].sum()
