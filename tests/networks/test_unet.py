"""U-Net: its size, its resolutions and its skips."""

import pytest
import torch

import foveate
from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.networks.unet import UNet


def test_the_network_of_the_paper_has_the_parameters_of_the_implementations_in_use():
    with torch.device("meta"):
        model = UNet(2, in_channels=3)
    assert (
        sum(parameter.numel() for parameter in model.parameters()) == 31_037_698
    )  # with batch norm, github.com/milesial


def test_every_pixel_gets_logits_whatever_the_sides():
    model = create_network("unet_small", num_classes=5, in_channels=1).eval()
    x = torch.randn(2, 1, 101, 5)
    whole = torch.nn.functional.pad(x, (0, 3, 0, 3), mode="replicate")
    assert torch.equal(model(x), model(whole)[..., :101, :5])
    assert model(x[..., :1, :1]).shape == (2, 5, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (4,)}, r"unet: wanted two or more widths; got \[4\]"),
        (
            {"attention": "se", "at": ["skips"]},
            "at must list some of 'encoder', 'bottleneck', 'skip', 'decoder'; got 'skips'",
        ),
        ({"attention": "se", "at": "skip"}, "at must list some of .*; got 'skip'"),
        ({"at": ["skip"]}, "at and attention_options need attention=; got none"),
        ({"attention": "attention_gate", "at": ["decoder"]}, r"gates skips, at=\['skip'\]; got at=\['decoder'\]"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        UNet(**options)


@pytest.mark.parametrize("attention", ["se", "scse", "attention_gate"])
def test_attention_stands_where_it_is_put(attention):
    places = ["skip"] if attention == "attention_gate" else ["encoder", "bottleneck", "skip", "decoder"]
    options = {"reduction": 4} if attention == "se" else {}
    model = UNet(2, widths=(8, 16, 32), attention=attention, at=places, attention_options=options)
    kinds = {type(create_attention(attention, 16))}
    found = [name for name, module in model.named_modules() if type(module) in kinds]
    skips = ["skip.0", "skip.1"]
    others = ["encoder.0.6", "encoder.1.6", "encoder.2.6", *skips, "decoder.0.6", "decoder.1.6"]
    assert found == (skips if attention == "attention_gate" else others)
    model(torch.randn(2, 3, 13, 9)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_attention_is_inserted_at_each_place_by_name():
    x = torch.zeros(1, 3, 16, 16)
    for place in ("encoder.?", "skip.?", "decoder.?"):
        model = UNet(2, widths=(8, 16, 32)).eval()
        plain = model(x)
        report = foveate.insert(model, "se", at=[place], example=x, init="identity", reduction=4)
        assert len(report) == (3 if place == "encoder.?" else 2)
        torch.testing.assert_close(model(x), plain)


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
