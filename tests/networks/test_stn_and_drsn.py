"""A spatial transformer before any classifier; whole shrinkage networks."""

import copy

import pytest
import torch
import torch.nn.functional as F

import foveate
from foveate.networks.capsnet import margin_loss
from foveate.networks.stn import TransformedNetwork


@pytest.mark.parametrize("network", ["foveate:resnet8", "timm:resnet10t", "torchvision:squeezenet1_1"])
def test_a_transformer_before_any_network_starts_as_that_network(network):
    whole = foveate.create_network("stn_before", network=network, num_classes=4).eval()
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(whole(x), whole.network(x))
    whole(x).sum().backward()
    assert whole.stn.regression[-1].bias.grad.abs().sum() > 0


def test_a_transformer_before_a_network_of_ones_own():
    own = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    whole = TransformedNetwork(own, in_channels=1, stn_options={"size": (9, 7)})
    assert whole(torch.randn(2, 1, 20, 20)).shape == (2, 2)


def test_the_tutorials_network_loads_under_its_names():
    ours = foveate.create_network("stn_tutorial")
    names = {"stn.localisation": "localization", "stn.regression": "fc_loc"}
    state = {}
    for key, value in ours.state_dict().items():
        ours_, theirs = next(((a, b) for a, b in names.items() if key.startswith(a)), ("", ""))
        state[theirs + key.removeprefix(ours_)] = torch.randn(value.shape)
    loaded = foveate.official.load("pytorch/tutorials", "Net", {}, state)
    x = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        seen = loaded.stn(x)
        y = F.max_pool2d(F.conv2d(seen, state["conv1.weight"], state["conv1.bias"]), 2).relu()
        y = F.max_pool2d(F.conv2d(y, state["conv2.weight"], state["conv2.bias"]), 2).relu().reshape(-1, 320)
        y = F.linear(F.linear(y, state["fc1.weight"], state["fc1.bias"]).relu(), state["fc2.weight"], state["fc2.bias"])
        torch.testing.assert_close(loaded(x), y)
    with pytest.raises(ValueError, match="wanted images \\(N, 1, 28, 28\\); got \\(2, 1, 32, 32\\)"):
        loaded(torch.zeros(2, 1, 32, 32))


@pytest.mark.parametrize("length", [2048, 2047, 5])
def test_shrinkage_networks_take_any_length(length):
    network = foveate.create_network("drsn_cs_1d_6", num_classes=3).eval()
    x = torch.randn(1, 1, length)
    assert network(x).shape == (1, 3)
    halves = [network.stages[:i](network.conv1(F.pad(x, (0, 1) if length % 2 == 0 else (1, 1)))) for i in range(4)]
    assert [y.shape[2] for y in halves] == [-(-length // 2 ** (i + 1)) for i in range(4)]


def test_the_plain_twin_differs_by_the_thresholds_alone():
    shrunk, plain = (foveate.create_network(name) for name in ("drsn_cw_cifar", "drsn_plain_cifar"))
    assert {key for key in shrunk.state_dict() if ".shrink." not in key} == set(plain.state_dict())
    plain.load_state_dict({k: v for k, v in shrunk.state_dict().items() if ".shrink." not in k})
    x = torch.randn(2, 3, 32, 32)
    for module in shrunk.modules():
        if hasattr(module, "gate"):
            torch.nn.init.constant_(module.gate.expand.bias, -1e4)  # thresholds of 0
    torch.testing.assert_close(shrunk.eval()(x), plain.eval()(x))


def test_a_signal_network_says_what_it_takes():
    with pytest.raises(ValueError, match="wanted \\(N, 1, L\\); got shape \\(2, 2048\\)"):
        foveate.create_network("drsn_cw_1d_12")(torch.zeros(2, 2048))


def test_a_loss_of_the_network_behind_the_transformer_is_that_of_both():
    options = {"network_options": {"width": 8, "types": 1}, "stn_options": {"widths": (4, 4)}}
    network = foveate.create_network("stn_before", num_classes=3, network="foveate:capsnet", in_channels=1, **options)
    x, labels = torch.rand(2, 1, 28, 28), torch.tensor([0, 2])
    again = copy.deepcopy(network)
    assert again.loss.__self__ is again.network
    assert torch.equal(again.loss(again(x), labels), margin_loss(network(x), labels))
    assert not hasattr(foveate.create_network("stn_resnet20"), "loss")
