"""What inserted attention weighs, as maps and pictures."""

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.networks import build_network
from foveate.tasks.gallery import LESS, MODULES, MORE, attention_maps, attention_pictures, coloured


@pytest.fixture
def images():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def with_attention(name, images, **options):
    torch.manual_seed(0)
    model = foveate.create_network("resnet8", num_classes=4).eval()
    foveate.insert(model, name, example=images, **options)
    return model


def test_a_spatial_mask_is_the_captured_one_over_its_mean(images):
    model = with_attention("cbam", images)
    maps = attention_maps(model, images)
    with foveate.capture(model) as seen:
        model(images)
    assert list(maps) == list(seen.maps)
    for site, found in maps.items():
        mask = seen.maps[site]["spatial"]
        torch.testing.assert_close(found, mask / mask.mean((1, 2), keepdim=True))


def test_a_gate_of_channels_weighs_where_its_channels_are():
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1, bias=False)
            self.conv.weight.data = torch.eye(2)[..., None, None]

        def forward(self, x):
            return self.conv(x)

    x = torch.zeros(1, 2, 4, 4)
    x[0, 0, :, :2] = 1  # the first channel on the left, the second on the right
    x[0, 1, :, 2:] = 1
    model = Halves().eval()
    foveate.insert(model, "se", at="conv", example=x, reduction=2)
    ((_, se),) = foveate.inserted(model)
    nn.init.zeros_(se.expand.weight)
    se.expand.bias.data = torch.tensor([1.0, 0.25]).clamp_max(1 - 1e-6).logit()
    (found,) = attention_maps(model, x).values()
    assert found[0, 0].tolist() == pytest.approx([1.6, 1.6, 0.4, 0.4])


def test_the_maps_of_a_detector_are_cut_to_each_image():
    options = {"size": 64, "backbone": "timm:test_resnet", "channels": 32}
    model = build_network("torchvision:fcos_resnet50_fpn", num_classes=4, **options).eval()
    images = [torch.rand(3, 64, 64), torch.rand(3, 32, 64)]
    foveate.insert(model, "cbam", at="head", example=(images,), reduction=4)
    whole, half = attention_maps(model, images)["backbone:0"]
    assert (whole.shape, half.shape) == ((8, 8), (4, 8))
    assert half.mean() == pytest.approx(1, abs=1e-5)
    pictures = attention_pictures(model, images, lambda number, picture: np.full_like(picture, 10 * number))
    assert [int(picture[0, 0, 0]) for picture in pictures] == [0, 10]


def test_the_model_is_as_it_was(images):
    model = with_attention("se", images).train()
    state = {name: value.clone() for name, value in model.eval().state_dict().items()}
    attention_pictures(model, images)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_picture_has_the_image_and_at_most_six_modules_side_by_side():
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    model = foveate.create_network("resnet20", num_classes=4, in_channels=1).eval()
    foveate.insert(model, "gc", example=images, ratio=0.25)
    assert len(foveate.inserted(model)) == 9
    pictures = attention_pictures(model, images)
    assert len(pictures) == 2
    assert {picture.shape for picture in pictures} == {(180, (1 + MODULES) * 164, 3)}


def test_more_than_the_mean_is_orange_less_is_blue_and_the_mean_has_no_colour():
    grey = np.zeros((2, 3, 3), np.uint8)
    picture = coloured(grey, torch.tensor([[0.5, 1.0, 2.0], [0.01, 1.0, 9.0]]))
    for row in picture:
        assert row[0].tolist() == [int(0.75 * part) for part in LESS]
        assert row[1].tolist() == [0, 0, 0]
        assert row[2].tolist() == [int(0.75 * part) for part in MORE]


def test_a_plain_network_has_none(images):
    assert attention_pictures(foveate.create_network("resnet8", num_classes=4).eval(), images) == []


def test_attention_that_a_network_is_built_with_is_drawn_over_what_the_task_puts_under_it(images):
    torch.manual_seed(0)
    model = foveate.create_network("unet_small", attention="attention_gate", at=["skip"]).eval()
    assert list(attention_maps(model, images)) == ["skip.0", "skip.1", "skip.2"]
    asked = []

    def black(site):
        asked.append(site)
        return [np.zeros((40, 40, 3), np.uint8)] * 3

    rows = attention_pictures(model, images, background=black)
    assert asked == ["", "skip.0", "skip.1", "skip.2"]
    assert len(rows) == 3
    assert not rows[0][:40, :40].any()
