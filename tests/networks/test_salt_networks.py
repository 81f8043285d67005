"""Networks from shot gathers to velocity models."""

import pytest
import torch

import foveate
from foveate.attention import made_by
from foveate.networks.salt_unet import PLACES


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_inversionnet_has_as_many_parameters_as_published():
    assert round(count(foveate.create_network("inversionnet")) / 1e6, 2) == 24.41  # OpenFWI, table of its networks


@pytest.mark.parametrize(("halvings", "samples"), [(2, 250), (3, 500), (4, 1000)])
def test_inversionnet_takes_gathers_of_every_kept_sample(halvings, samples):
    network = foveate.create_network("inversionnet", halvings=halvings).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 5, samples, 70)).shape == (1, 1, 70, 70)
        with pytest.raises(ValueError, match=rf"halvings={halvings}; got \({samples // 2}, 70\)"):
            network(torch.zeros(1, 5, samples // 2, 70))


def test_salt_unet_has_half_a_million_parameters_and_gives_both_sizes():
    network = foveate.create_network("salt_unet").eval()
    assert count(network) == 490_193
    large = foveate.create_network("salt_unet", in_channels=29, width=4, out=[201, 301]).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 5, 250, 70)).shape == (2, 1, 70, 70)
        assert network(torch.zeros(1, 5, 1000, 70)).shape == (1, 1, 70, 70)
        assert large(torch.zeros(1, 29, 400, 301)).shape == (1, 1, 201, 301)


@pytest.mark.parametrize("place", PLACES)
def test_salt_unet_has_attention_at_the_place_that_is_named(place):
    network = foveate.create_network(
        "salt_unet", width=4, attention="se", at=[place], attention_options={"reduction": 2}
    )
    found = [name for name, module in network.named_modules() if made_by(module) is not None]
    wanted = {"stem": ["stem.6"], "bottleneck": ["encoder.3.6"]}
    levels = [f"{place}.{level}" + ("" if place == "skip" else ".6") for level in range(3)]
    assert found == wanted.get(place, levels)
    assert network(torch.randn(2, 5, 64, 24)).shape == (2, 1, 70, 70)


def test_gates_are_given_the_map_from_below_and_skips_can_be_left_out():
    gated = foveate.create_network("salt_unet", width=4, attention="attention_gate", at=["skip"])
    assert [gate.gate_channels for gate in gated.skip] == [32, 16, 8]
    with foveate.capture(gated) as seen:
        gated(torch.randn(2, 5, 64, 24))
    assert set(seen.maps) == {"skip.0", "skip.1", "skip.2"}
    without = foveate.create_network("salt_unet", width=4, skip=False)
    assert count(without) < count(foveate.create_network("salt_unet", width=4))
    assert without(torch.randn(2, 5, 64, 24)).shape == (2, 1, 70, 70)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"attention": "attention_gate"}, r"gates skips, at=\['skip'\]; got at=\['decoder'\]"),
        ({"attention": "se", "at": ["skips"]}, "at must list some of .*; got 'skips'"),
        ({"attention": "se", "at": ["skip"], "skip": False}, "needs skip=True"),
        ({"at": ["skip"]}, "need attention="),
        ({"width": 0}, "width must be a positive whole number"),
        ({"out": [70]}, r"out must be the cells along depth and x"),
    ],
)
def test_options_of_salt_unet_that_cannot_be_are_refused(options, line):
    with pytest.raises(ValueError, match=line):
        foveate.create_network("salt_unet", **options)
