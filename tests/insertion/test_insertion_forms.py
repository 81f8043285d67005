"""Counting rules, several mechanisms in one call, replacements, and what a dry run shows."""

import copy
import pickle

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from insertion_networks import Gate, HandWritten, lively
from torch import Tensor, nn

from foveate.insertion import draw, insert, inserted, remove, sites

META = torch.empty(2, 3, 64, 64, device="meta")
X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def on_meta(name: str, library: str = "torchvision") -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name) if library == "timm" else torchvision.models.get_model(name, weights=None)


def resnet() -> nn.Module:
    return lively(timm.create_model("resnet26d", num_classes=7))


@pytest.mark.parametrize(
    ("network", "at", "expected"),
    [
        ("resnet50", "nonlocal-1", ["layer3.4"]),
        ("resnet50", "nonlocal-5", ["layer2.1", "layer2.3", "layer3.1", "layer3.3", "layer3.5"]),
        ("resnet50", "nonlocal-10", [*(f"layer2.{i}" for i in range(4)), *(f"layer3.{i}" for i in range(6))]),
        ("resnet101", "nonlocal-5", ["layer2.1", "layer2.3", "layer3.6", "layer3.13", "layer3.20"]),
        ("resnet18", "nonlocal-1", ["layer3.0"]),
        ("resnet18", "block/2", [f"layer{i}.1.bn2" for i in range(1, 5)]),
        ("resnet18", "block/3", ["layer2.0.bn2", "layer3.1.bn2"]),
        ("resnet18", ["block/4", "layer1", "conv1"], ["conv1", "layer1", "layer2.1.bn2", "layer4.1.bn2"]),
        ("vgg11", "block/3", ["features.7", "features.14"]),
    ],
)  # fmt: skip
def test_counting(network: str, at: str | list[str], expected: list[str]) -> None:
    assert [s.name for s in sites(on_meta(network), META, at)] == expected


def test_both_branches_of_a_block_count_once() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=4)
    found = sites(model, X, "block/2")
    assert [s.name for s in found] == [f"blocks.{i}.{end}" for i in (1, 3) for end in ("attn.proj", "mlp.fc2")]


def test_after_the_blocks_last_activation() -> None:
    model = lively(torchvision.models.resnet50(weights=None))
    plain = copy.deepcopy(model.layer2[1])
    insert(model, Gate, at="nonlocal-5", example=X)
    x = torch.randn(2, 512, 4, 4)
    assert torch.equal(model.layer2[1](x), dict(inserted(model))["layer2.1"](plain(x)))


@pytest.mark.parametrize(
    ("network", "at", "message"),
    [
        ("resnet18", "nonlocal-5", "needs 2 and 3 blocks in the second and third stage; they have 2 and 2"),
        ("vgg11", "nonlocal-5", "second and third of four stages; this network has 5"),
        ("resnet50", "nonlocal-3", "wanted at='nonlocal-1', 'nonlocal-5' or 'nonlocal-10', got 'nonlocal-3'"),
        ("resnet18", "block/9", "this network has 8 blocks"),
        ("resnet18", "block/0", "nearest: block/2"),
    ],
)
def test_what_cannot_be_counted(network: str, at: str, message: str) -> None:
    with pytest.raises(LookupError, match=message):
        sites(on_meta(network), META, at)


def test_different_mechanisms_in_one_call() -> None:
    model = resnet()
    plain, state = model(X), list(model.state_dict())
    wanted = {"layer1.?": "se", "layer3.*.conv2": ("cbam", {"reduction": 8}), "layer4": Gate}
    report = insert(model, wanted, example=X, init="identity")  # type: ignore[arg-type]
    assert [(p.site.name, p.attention) for p in report] == [
        ("layer1.0", "se"),
        ("layer1.1", "se"),
        ("layer3.0.conv2", "cbam"),
        ("layer3.1.conv2", "cbam"),
        ("layer4", "Gate"),
    ]
    assert torch.equal(model(X), plain)
    remove(model)
    assert list(model.state_dict()) == state
    assert torch.equal(model(X), plain)


@pytest.mark.parametrize(
    ("wanted", "options", "error", "message"),
    [
        ({"layer1.?": "se", "layer9": "cbam"}, {}, LookupError, "at='layer9' matches none"),
        ({"layer1.?": "se", "layer2.0": "cban"}, {}, LookupError, "did you mean 'cbam'"),
        ({"layer1.0": "se", "layer1.?": "cbam"}, {}, ValueError, "layer1.0: chosen for two mechanisms"),
        ({"layer1.0": "se"}, {"at": "block"}, TypeError, "gives the place and the options .* got at beside it"),
        ({"layer1.0": "se"}, {"reduction": 4}, TypeError, "got reduction beside it"),
        ({"layer1.0": ("se", 4)}, {}, TypeError, "wanted {place"),
        ({}, {}, TypeError, "got an empty mapping"),
    ],
)
def test_all_or_nothing(wanted: object, options: dict[str, object], error: type[Exception], message: str) -> None:
    model = resnet()
    with pytest.raises(error, match=message):
        insert(model, wanted, example=X, **options)  # type: ignore[arg-type]
    assert inserted(model) == []


REPLACED = {"sk": "layer[23].0.conv2", "drsn_cw": "layer2.0.act1", "drsn_cs": "layer3.0.act1"}


@pytest.mark.parametrize("name", REPLACED)
def test_replacements(name: str) -> None:
    model = lively(timm.create_model("resnet10t", num_classes=7))
    plain, state = model(X), copy.deepcopy(model.state_dict())
    report = insert(model, name, at=REPLACED[name], replace=True, example=X, init="identity")
    assert {p.site.side for p in report} == {"instead"}
    assert torch.equal(model(X), plain)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    model.load_state_dict(state, strict=True)
    model(X).square().sum().backward()
    for module in dict(inserted(model)).values():
        assert module.strength.grad.abs() > 0  # type: ignore[union-attr]
        module.strength.data.fill_(0.7)  # type: ignore[union-attr]
    changed = model(X)
    assert not torch.allclose(changed, plain)
    changed.sum().backward()  # in-place activations do not spoil what the mechanism saw
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(X), changed)
    remove(model)
    assert list(model.state_dict()) == list(state)
    assert torch.equal(model(X), plain)


@pytest.mark.parametrize("init", ["paper", "identity"])
def test_replacements_compile_and_export(init: str) -> None:
    torch._dynamo.reset()
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, 2, 1)).eval()
    insert(model, "drsn_cw", at="1", replace=True, example=X, init=init)
    insert(model, "sk", at="2", replace=True, example=X, init=init)
    for module in dict(inserted(model)).values() if init == "identity" else ():
        module.strength.data.fill_(0.7)  # type: ignore[union-attr]
    expected = model(X)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(X), expected)
    torch.testing.assert_close(torch.export.export(model, (X,)).module()(X), expected)


def test_a_replaced_module_is_bypassed() -> None:
    model = resnet()
    insert(model, "sk", at="layer2.0.conv2", replace=True, example=X, reduction=8)
    conv, x = model.layer2[0].conv2, torch.randn(2, 128, 8, 8)
    plain = remove(copy.deepcopy(conv))
    sk = dict(inserted(model))["layer2.0.conv2"]
    assert conv.stride == (2, 2)
    assert isinstance(conv, nn.Conv2d)
    assert torch.equal(conv(x), sk(x))
    assert sk(x).shape == plain(x).shape
    assert sk.branches[0][0].groups == conv.groups  # type: ignore[union-attr,index]
    assert "layer2.0.conv2.weight" in model.state_dict()
    insert(model, "sk", at="layer3.0.conv2", replace=True, example=X, kernels=((3, 1), (5, 1)), groups="depthwise")
    listed = dict(inserted(model))["layer3.0.conv2"].branches
    assert [(one[0].kernel_size, one[0].stride, one[0].groups) for one in listed] == [  # type: ignore[union-attr,index]
        ((3, 3), (2, 2), 256),
        ((5, 5), (2, 2), 256),
    ]


def test_a_replacement_of_the_users_own() -> None:
    class Wide(nn.Conv2d):
        replaces = "convolution"

        def __init__(self, channels: int, *, kernel_size: int) -> None:
            super().__init__(channels, channels, kernel_size + 2, padding=kernel_size // 2 + 1)

    model = resnet()
    insert(model, Wide, at="layer1.*.conv2", replace=True, example=X)
    assert {m.kernel_size for m in dict(inserted(model)).values()} == {(5, 5)}  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"layer2.0.conv2: Wide replaces .* has stride 2, which Wide has not"):
        insert(resnet(), Wide, at="layer2.0.conv2", replace=True, example=X)


@pytest.mark.parametrize(
    ("name", "at", "options", "message"),
    [
        ("se", "layer1.0.conv2", {}, "se replaces nothing: its class has no attribute replaces"),
        ("sk", "layer2.0.conv1", {}, "layer2.0.conv1: sk replaces an odd .* this Conv2d makes 128 channels of 256"),
        ("sk", "block", {}, "layer1.0.bn3: sk replaces .* this BatchNorm2d is no convolution"),
        ("sk", "stage", {}, "layer1: sk replaces .* this Sequential is no convolution"),
        ("sk", "layer2.1.conv2", {"stride": 2}, "has stride 1, not 2"),
        ("drsn_cw", "layer1.0.bn1", {}, "drsn_cw replaces an activation; this BatchNorm2d is no activation"),
    ],
)
def test_what_cannot_be_replaced(name: str, at: str, options: dict[str, object], message: str) -> None:
    model = resnet()
    with pytest.raises(ValueError, match=message):
        insert(model, name, at=at, replace=True, example=X, **options)  # type: ignore[arg-type]
    assert inserted(model) == []


def test_a_convolution_with_a_step_in_it_is_none_to_replace() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 3, padding=2, dilation=2), nn.Conv2d(32, 32, 3))
    with pytest.raises(ValueError, match=r"1: sk .* strides \(1, 1\) and dilations \(2, 2\)"):
        insert(model, "sk", at="1", replace=True, example=X)
    with pytest.raises(ValueError, match=r"2: sk .* pads by \(0, 0\) \(zeros\), wanted 1"):
        insert(model, "sk", at="2", replace=True, example=X)


def test_the_drawing() -> None:
    lines = draw(on_meta("resnet50"), META, ["block/2", "stage", "conv1"]).splitlines()
    assert lines[0].split() == ["stage", "resolution", "channels", "blocks"]
    assert lines[2].split() == ["2", "8×8", "512", "4", "[●]-[", "]-[●]-[", "]●"]
    assert lines[5] == "outside of these blocks: ● (conv1)"
    assert draw(lively(HandWritten()), X).splitlines()[1].split()[-1] == "[●]-[●]●"
    assert draw(nn.Sequential(nn.Conv2d(3, 4, 3)), X, "0").startswith(("stage", "no stages were seen"))


def test_a_dry_run_draws_and_counts() -> None:
    report = insert(on_meta("resnet50"), "nl", at="nonlocal-5", example=META, dry_run=True)
    positions, width = 64, 512
    inner = width // 2
    assert report.placements[0].macs == 4 * positions * width * inner + 2 * positions**2 * inner
    assert report.macs == sum(p.macs for p in report if p.macs is not None)
    text = str(report)
    assert text.startswith(report.drawing)
    assert text.endswith(f"{report.parameters:,} parameters, {report.macs:,} multiply-adds a sample")
    assert insert(on_meta("resnet50"), "se", example=META).macs is None


def test_a_replacement_saves_what_it_bypasses() -> None:
    model = on_meta("resnet26d", "timm")
    paper, blended = (
        insert(model, "sk", at="layer2.1.conv2", replace=True, example=META, dry_run=True, init=init).macs
        for init in ("paper", "identity")
    )
    assert paper is not None
    assert blended is not None
    assert blended - paper == 128 * 128 * 9 * 8 * 8


def test_what_cannot_be_counted_is_unknown() -> None:
    class Looks(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x) if x.sum() > 0 else x

    report = insert(lively(HandWritten()), Looks, example=X, dry_run=True)
    assert report.macs is None
    assert str(report).endswith("0 parameters, unknown multiply-adds a sample")
