"""Where attention stands in a residual block: the four places of the SE paper's ablation, written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import foveate
from foveate.networks._residual import PLACEMENTS, BasicBlock, Bottleneck


def normed(x: Tensor, norm: nn.Module) -> Tensor:
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


def excited(x: Tensor, se: nn.Module) -> Tensor:
    hidden = torch.relu(x.mean((2, 3)) @ se.reduce.weight.T + se.reduce.bias)
    return x * torch.sigmoid(hidden @ se.expand.weight.T + se.expand.bias)[:, :, None, None]


def stirred(module: nn.Module) -> nn.Module:
    """The module in float64 and evaluation, with every norm off its initial value."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            if "bn" in name or "downsample.1" in name:
                value.add_(0.3 * torch.randn_like(value))
        for name, value in module.named_buffers():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + (0.5 if name.endswith("var") else -0.5))
    return module.double().eval()


def written_out(block: nn.Module, x: Tensor, stride: int) -> Tensor:
    def gate(place: str, y: Tensor) -> Tensor:
        return excited(y, block.attention) if place == block.placement else y

    y = gate("pre", x)
    if isinstance(block, BasicBlock):
        y = torch.relu(normed(F.conv2d(y, block.conv1.weight, None, stride, 1), block.bn1))
        y = normed(F.conv2d(y, block.conv2.weight, None, 1, 1), block.bn2)
    else:
        y = torch.relu(normed(F.conv2d(y, block.conv1.weight), block.bn1))
        y = torch.relu(normed(F.conv2d(y, block.conv2.weight, None, stride, 1), block.bn2))
        y = normed(F.conv2d(y, block.conv3.weight), block.bn3)
    y = gate("standard", y)
    way = x
    if block.downsample is not None:
        way = normed(F.conv2d(x, block.downsample[0].weight, None, stride), block.downsample[1])
    return gate("post", torch.relu(y + gate("identity", way)))


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("cls", [BasicBlock, Bottleneck])
def test_attention_stands_where_it_is_asked_to(cls, stride, placement):
    channels, width = (6, 8 // cls.expansion) if stride == 2 else (8, 8 // cls.expansion)
    block = stirred(
        cls(
            channels,
            width,
            stride=stride,
            shortcut="projection" if stride == 2 else None,
            attention=lambda c: foveate.create_attention("se", c, reduction=2),
            placement=placement,
        )
    )
    assert block.attention.channels == (channels if placement == "pre" else 8)
    x = torch.randn(2, channels, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(block(x), written_out(block, x, stride), rtol=1e-12, atol=1e-12)


def test_a_network_is_built_with_attention_in_every_block():
    x = torch.randn(2, 3, 12, 9)
    outputs = {}
    for placement in PLACEMENTS:
        torch.manual_seed(1)
        options = {"attention": "se", "attention_options": {"reduction": 4}, "placement": placement}
        network = foveate.create_network("resnet8", num_classes=5, **options).eval()
        outputs[placement] = network(x)
        with foveate.capture(network) as seen:
            network(x)
        assert list(seen.maps) == [f"layer{i}.0.attention" for i in (1, 2, 3)]
        first = 16 if placement == "pre" else 32
        assert seen.maps["layer2.0.attention"]["channel"].shape == (2, first)
    assert all(y.shape == (2, 5) for y in outputs.values())
    assert len({tuple(y.flatten().tolist()) for y in outputs.values()}) == 4
    plain = foveate.create_network("resnet8", num_classes=5)
    assert plain.state_dict().keys() == {k for k in network.state_dict() if ".attention." not in k}


def test_attention_keeps_its_own_first_weights():
    network = foveate.create_network("resnet8", num_classes=5, attention="nl", attention_options={"norm": False})
    assert not network.layer1[0].attention.out.weight.any()


def test_a_mistaken_placement_is_refused():
    with pytest.raises(
        ValueError,
        match="placement must be one of 'standard', 'pre', 'post', 'identity', 'kernel', 'stage'; got 'before'",
    ):
        foveate.create_network("resnet8", num_classes=5, attention="se", placement="before")
    with pytest.raises(ValueError, match="need attention=; got none"):
        foveate.create_network("resnet8", num_classes=5, placement="pre")
    with pytest.raises(TypeError, match="did you mean 'reduction'"):
        foveate.create_network("resnet8", num_classes=5, attention="se", attention_options={"reducton": 4})
