"""MobileNets: where attention stands, TensorFlow's padding, torchvision's weights."""

import pytest
import torch
import torchvision

import foveate
from foveate.networks.mobilenet_v1 import SeparableUnit


def places(network):
    return {name: module for name, module in network.named_modules() if name.endswith((".attention", ".inner"))}


def test_coordinate_attention_stands_on_the_wide_part_of_all_blocks_but_the_first():
    with torch.device("meta"):
        found = places(foveate.create_network("ca_mobilenet_v2"))
    assert list(found) == [f"blocks.{i}.attention" for i in range(1, 17)]
    assert [module.channels for module in found.values()] == [
        *(96, 144, 144, 192, 192, 192, 384, 384, 384, 384),
        *(576, 576, 576, 960, 960, 960),
    ]


def test_eca_stands_behind_the_last_norm_of_every_block_with_kernel_1_below_96_channels():
    with torch.device("meta"):
        found = places(foveate.create_network("eca_mobilenet_v2"))
    assert len(found) == 17
    assert [module.weight.numel() for module in found.values()] == [1] * 10 + [3] * 7


def test_other_options_and_places_are_obeyed():
    with torch.device("meta"):
        plain = foveate.create_network("se_mobilenet_v2", attention_options={"reduction": 4})
        narrow = foveate.create_network("se_mobilenet_v2", place="narrow", attention_options={"reduction": 2})
        any_ = foveate.create_network("mobilenet_v2", attention="gc")
    assert len(places(narrow)) == 17
    assert len(places(any_)) == 16
    assert sum(p.numel() for p in plain.parameters()) > sum(p.numel() for p in narrow.parameters())


def test_attention_in_mobilenet_v1_stands_where_it_is_asked_to():
    with torch.device("meta"):
        assert len(places(foveate.create_network("se_mobilenet_v1"))) == 13
        assert len(places(foveate.create_network("cbam_mobilenet_v1"))) == 26
        deep = places(foveate.create_network("ca_mobilenet_v1", places=["depthwise"]))
    assert [module.channels for module in deep.values()][:3] == [32, 64, 128]
    unit = SeparableUnit(4, 8, attention=lambda channels: torch.nn.Threshold(1e9, -1.0))
    assert (unit(torch.randn(2, 4, 5, 5)) == -1).all(), "after the ReLU"


@pytest.mark.parametrize("size", [(64, 48), (33, 37), (1, 1)], ids=str)
@pytest.mark.parametrize("name", ["ca_mobilenet_v2", "cbam_mobilenet_v1"])
def test_mobile_networks_take_any_size(name, size):
    network = foveate.create_network(name, num_classes=4, in_channels=1, width=0.5).eval()
    with torch.no_grad():
        y = network(torch.randn(1, 1, *size))
    assert y.shape == (1, 4)
    assert y.isfinite().all()


def test_tensorflow_padding_shifts_even_images_and_not_odd_ones():
    symmetric = foveate.create_network("mobilenet_v2", num_classes=4, width=0.5).eval()
    tensorflow = foveate.create_network("mobilenet_v2", num_classes=4, width=0.5, padding="same_tensorflow").eval()
    tensorflow.load_state_dict(symmetric.state_dict())
    with torch.no_grad():
        odd, even = torch.randn(1, 3, 33, 33), torch.randn(1, 3, 32, 32)
        torch.testing.assert_close(symmetric(odd), tensorflow(odd))
        a, b = symmetric(even), tensorflow(even)
    assert (a - b).norm() > 0.05 * a.norm()


def test_torchvisions_mobilenet_loads_and_gives_its_outputs():
    theirs = torchvision.models.mobilenet_v2(num_classes=9, width_mult=0.75).eval()
    ours = foveate.official.load(
        "pytorch/vision", "MobileNetV2", {"num_classes": 9, "width_mult": 0.75}, theirs.state_dict()
    )
    x = torch.randn(1, 3, 64, 50)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
