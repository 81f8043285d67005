"""U-Net: its size, its resolutions and its skips."""

import pytest
import torch

from foveate.networks import create_network
from foveate.networks.unet import UNet


def test_the_network_of_the_paper_has_the_parameters_of_the_implementations_in_use():
    with torch.device("meta"):
        model = UNet(2, in_channels=3)
    assert (
        sum(parameter.numel() for parameter in model.parameters()) == 31_037_698
    )  # with batch norm, github.com/milesial


def test_every_pixel_gets_logits_whatever_the_sides_and_wrong_sides_are_named():
    model = create_network("unet_small", num_classes=5, in_channels=1).eval()
    assert model(torch.zeros(2, 1, 16, 24)).shape == (2, 5, 16, 24)
    with pytest.raises(ValueError, match=r"unet: wanted sides that are multiples of 8; got \(16, 20\)"):
        model(torch.zeros(2, 1, 16, 20))
    with pytest.raises(ValueError, match=r"unet: wanted two or more widths; got \[4\]"):
        UNet(widths=(4,))


def test_each_resolution_reaches_the_output_by_its_skip_and_from_below():
    torch.manual_seed(0)
    model = UNet(2, in_channels=1, widths=(4, 8, 16)).eval()
    x = torch.randn(1, 1, 16, 16)
    whole = model(x)
    for number in range(2):  # without the upsampled half, then without the skip half, of a decoder's input
        first = model.decoder[number][0]
        half = first.in_channels // 2
        for channels in (slice(None, half), slice(half, None)):
            kept = first.weight.detach().clone()
            with torch.no_grad():
                first.weight[:, channels] = 0
                assert (model(x) - whole).abs().max() > 1e-5
                first.weight.copy_(kept)
    assert torch.equal(model(x), whole)
