"""Where sites are found: exact names on known networks, and on hand-written ones that add in every way."""

import pytest
import timm
import torch
import torchvision
from insertion_networks import Attending, Decoder, Functional, HandWritten, Plain
from torch import nn

from foveate.insertion import Site, format_sites, sites
from foveate.networks import create_network

X = torch.randn(1, 3, 64, 64)
META = X.to("meta")
RESNET18 = [f"layer{stage}.{block}.bn2" for stage in range(1, 5) for block in range(2)]
RESNET50 = [f"layer{s}.{b}.bn3" for s, n in zip(range(1, 5), (3, 4, 6, 3), strict=True) for b in range(n)]
STAGES = ["layer1", "layer2", "layer3", "layer4"]


def build(spec: str) -> nn.Module:
    """On the meta device: places do not depend on weights, and nothing is computed."""
    library, name = spec.split(":")
    with torch.device("meta"):
        if library == "timm":
            return timm.create_model(name)
        if name.startswith("regnet"):  # computes its widths with tensors
            with torch.device("cpu"):
                return torchvision.models.get_model(name, weights=None).to("meta")
        return torchvision.models.get_model(name, weights=None)


def names(model: nn.Module, at: object = "block", x: torch.Tensor = X) -> list[str]:
    return [site.name for site in sites(model, x, at)]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("torchvision:resnet18", RESNET18),
        ("torchvision:resnet50", RESNET50),
        ("timm:resnet18", RESNET18),
        ("timm:resnet50", RESNET50),
        ("timm:resnet26d", [f"layer{s}.{b}.bn3" for s in range(1, 5) for b in range(2)]),
        ("timm:seresnet18", [name.replace("bn2", "se") for name in RESNET18]),
    ],
)
def test_residual_networks_exactly(model: str, expected: list[str]) -> None:
    net = build(model)
    assert names(net, x=META) == expected
    assert names(net, "stage", META) == STAGES
    last = sites(net, META, "stage")[-1]
    assert (last.attached_to, last.channels, last.shape, last.stage) == (
        max(n for n in (e.rpartition(".")[0] for e in expected)),
        net.get_submodule(expected[-1].rsplit(".", 1)[0]).conv1.in_channels,
        (2, 2),
        4,
    )


def test_a_site_says_all() -> None:
    found = sites(build("torchvision:resnet18"), META)
    assert [s.kind for s in found] == ["block", "block", "stage"] * 4
    assert found[3] == Site("layer2.0.bn2", "block", 128, (8, 8), 2, "layer2.0.bn2", "output", "BatchNorm2d")
    assert found[5] == Site("layer2", "stage", 128, (8, 8), 2, "layer2.1", "output", "Sequential")


@pytest.mark.parametrize("size", [32, 33, 224])
def test_at_any_size(size: int) -> None:
    x = torch.empty(1, 3, size, size, device="meta")
    assert names(build("torchvision:resnet18"), x=x) == RESNET18
    assert names(build("torchvision:resnet18"), "stage", x) == STAGES


@pytest.mark.parametrize("name", ["resnet8", "resnet14"])
def test_our_own_small_ones(name: str) -> None:
    found = names(create_network(name, num_classes=10), x=torch.randn(1, 3, 32, 32))
    per_stage = (int(name[6:]) - 2) // 6
    assert len(found) == 3 * per_stage
    assert all(name.startswith(f"layer{1 + i // per_stage}.{i % per_stage}.") for i, name in enumerate(found))
    assert names(create_network(name, num_classes=10), "stage") == ["layer1", "layer2", "layer3"]


@pytest.mark.parametrize(
    ("model", "blocks", "first", "last", "stages"),
    [
        ("torchvision:mobilenet_v2", 10, "features.3.conv.3", "features.16.conv.3", 7),
        ("torchvision:mobilenet_v3_small", 6, "features.3.block.2.1", "features.11.block.3.1", 5),
        ("timm:mobilenetv2_035", 10, "blocks.1.1.bn3", "blocks.5.2.bn3", 7),
        ("timm:mobilenetv3_small_050", 7, "blocks.1.1.bn3", "blocks.4.2.bn3", 4),
        ("timm:efficientnet_b0", 9, "blocks.1.1.bn3", "blocks.5.3.bn3", 7),
        ("timm:regnety_002", 13, "s1.b1.conv3.bn", "s4.b7.conv3.bn", 4),
        ("torchvision:regnet_x_400mf", 22, "trunk_output.block1.block1-0.f.c.1", None, 4),
        ("timm:convnext_atto", 12, "stages.0.blocks.0.mlp.fc2", "stages.3.blocks.1.mlp.fc2", 4),
        ("timm:convnext_tiny", 18, "stages.0.blocks.0.drop_path", "stages.3.blocks.2.drop_path", 4),
        ("torchvision:convnext_tiny", 18, "features.1.0.block.6", "features.7.2.block.6", 4),
        ("timm:resnetv2_50", 16, "stages.0.blocks.0.conv3", "stages.3.blocks.2.conv3", 4),
        ("torchvision:vgg11_bn", 8, "features.2", "features.27", 5),
        ("timm:vgg11", 8, "features.1", "features.19", 5),
        ("torchvision:alexnet", 5, "features.1", "features.11", 4),
        ("torchvision:densenet121", 58, "features.denseblock1.denselayer1", "features.denseblock4.denselayer16", 4),
        ("torchvision:squeezenet1_1", 8, "features.3", "features.12", 4),
        ("torchvision:shufflenet_v2_x0_5", 16, "stage2.0", "stage4.3", 3),
    ],
)
def test_other_families(model: str, blocks: int, first: str, last: str | None, stages: int) -> None:
    net = build(model)
    found = names(net, x=META)
    assert (len(found), found[0]) == (blocks, first)
    assert last in (None, found[-1])
    assert len(names(net, "stage", META)) == stages


@pytest.mark.parametrize("add", ["plus", "torch.add", "in place", "method"])
def test_however_the_add_is_written(add: str) -> None:
    model, x = HandWritten(add), torch.randn(1, 3, 8, 8)
    assert names(model, x=x) == ["stage1.0.norm2", "stage1.1.norm2", "stage2.0.norm2", "stage2.1.norm2"]
    assert names(model, "stage", x) == ["stage1.1", "stage2"]


def test_functional_style_and_scaled_branches() -> None:
    assert names(Functional()) == ["a3", "b2"]
    with pytest.raises(LookupError, match="blocks are not modules"):
        names(Functional(), "stage")


def test_a_plain_network_of_convolutions() -> None:
    assert names(Plain()) == ["conv1", "conv2", "relu3"]


def test_adds_across_resolutions_are_no_residual_branches() -> None:
    assert names(Decoder()) == ["one.norm2", "two.norm2"]


def test_three_spatial_axes() -> None:
    found = sites(build("torchvision:r3d_18"), torch.empty(1, 3, 4, 32, 32, device="meta"), "block")
    assert [s.name for s in found[:2]] == ["layer1.0.conv2.1", "layer1.1.conv2.1"]
    assert found[0].shape == (4, 16, 16)


def test_segmentation_and_detection() -> None:
    with torch.device("meta"):
        segment = torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None)
    assert names(segment, x=META) == [f"backbone.{name}" for name in RESNET50]
    assert names(segment, "stage", META) == [f"backbone.{name}" for name in STAGES]
    detect = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=64
    )
    assert [s.name for s in sites(detect, [X[0]], "block")] == [f"backbone.body.{name}" for name in RESNET50]


def test_every_module_that_gives_a_map() -> None:
    found = sites(HandWritten(), torch.randn(1, 3, 8, 8), "module")
    assert {"stem", "stage1.0", "stage1.0.conv1", "stage2", "stage2.0.short"} <= {s.name for s in found}
    assert not {"head", "stage1", "stage1.0.relu"} & {s.name for s in found}


def test_on_real_weights() -> None:
    assert names(torchvision.models.resnet18(weights=None)) == RESNET18


def test_the_table_is_plain_text() -> None:
    lines = format_sites(sites(build("torchvision:resnet18"), META)).splitlines()
    assert lines[0].split() == ["site", "kind", "layout", "channels", "shape", "stage", "module"]
    assert lines[2].split() == ["layer1.0.bn2", "block", "NCHW", "64", "16×16", "1", "BatchNorm2d"]
    assert lines[4].split() == ["layer1", "(at", "layer1.1)", "stage", "NCHW", "64", "16×16", "1", "Sequential"]


@pytest.mark.parametrize("fails", [False, True])
def test_looking_leaves_everything_as_found(fails: bool) -> None:
    model = torchvision.models.resnet18(weights=None).train()
    model.layer1.eval()
    calls = []
    model.layer2.register_forward_hook(lambda *_: calls.append(1))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    attributes = [{k: id(v) for k, v in vars(m).items()} for m in model.modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    random = torch.get_rng_state()
    if fails:
        with pytest.raises(RuntimeError) as caught:
            sites(model, torch.randn(1, 5, 64, 64, generator=torch.Generator()))
        assert "foveate ran the model once" in caught.value.__notes__[0]
    else:
        sites(model, X)
    assert torch.equal(random, torch.get_rng_state())
    assert torch.is_grad_enabled()
    assert modes == [m.training for m in model.modules()]
    assert attributes == [{k: id(v) for k, v in vars(m).items()} for m in model.modules()]
    assert hooks == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert calls == ([] if fails else [1])


class Careless(nn.Module):
    """Keeps what it saw, counts in a buffer and draws random numbers, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("grid", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept = self.conv(x)
        self.seen += 1
        self.grid = torch.rand(2)
        return self.kept


def test_buffers_attributes_and_randomness_are_put_back() -> None:
    model, random = Careless(), torch.get_rng_state()
    sites(model, X, "conv")
    assert model.seen.item() == 0
    assert model.grid is None
    assert not hasattr(model, "kept")
    assert torch.equal(random, torch.get_rng_state())


def test_bad_models_and_examples() -> None:
    with pytest.raises(TypeError, match=r"wanted a torch.nn.Module, got str"):
        sites("resnet18", X)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="wanted example= a tensor"):
        sites(HandWritten(), (3, 8, 8))
    with pytest.raises(ValueError, match="lazy"):
        sites(nn.Sequential(nn.LazyConv2d(3, 3)), X)
    with pytest.raises(LookupError, match="no module of this network gives a feature map"):
        sites(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.randn(1, 3, 2, 2))
    with pytest.raises(ValueError, match=r"out_proj: it is never called .*MultiheadAttention"):
        sites(Attending(), X[..., :4, :4], "attend.out_proj")
