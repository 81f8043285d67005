"""The residual family: sizes to the last digit, multiply-adds, every name forward and backward, mistakes told."""

import functools
import json

import pytest
import torch
import torchvision
from golden import OWN_GOLDEN, SHARED
from residual_cases import ELSEWHERE, PUBLISHED, ROWS, deep_are_slow
from torch.utils.flop_counter import FlopCounterMode

import foveate
from foveate.networks import build_wider
from foveate.networks.resnet import resnet


@pytest.fixture(scope="module")
def counts():
    path = SHARED / "spec/param_counts.json"
    path = path if path.is_file() else OWN_GOLDEN / "param_counts.json"
    return json.loads(path.read_text())["channel_and_spatial"]["networks"]


def build(name, **options):
    with torch.device("meta"):
        return foveate.create_network(name, **options)


@functools.cache
def sizes(name, options):
    network = build(name, **json.loads(options))
    return sum(p.numel() for p in network.parameters()), sum(b.numel() for b in network.buffers())


@functools.cache
def multiply_adds(name, options):
    """Of convolutions and linear layers at 224: what the table counts."""
    network = build(name, **json.loads(options)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, 224, 224, device="meta"))
    counted = counter.get_flop_counts()["Global"]
    return sum(n for op, n in counted.items() if str(op).split(".")[1] in ("convolution", "addmm", "mm")) // 2


@pytest.mark.parametrize("row", ROWS)
def test_counts_are_those_published(row, counts):
    name, options = ROWS[row]
    assert sizes(name, json.dumps(options)) == (counts[row]["params"], counts[row]["buffers"])


@pytest.mark.parametrize("row", deep_are_slow(row for row in ROWS if "CIFAR100" not in row))
def test_multiply_adds_are_those_published(row, counts):
    name, options = ROWS[row]
    wanted = counts[row]["macs_224_conv"] + counts[row]["macs_224_linear"]
    assert multiply_adds(name, json.dumps(options)) == pytest.approx(wanted, rel=1e-3)


def test_every_row_of_the_table_has_its_network(counts):
    assert {row for row in counts if not any(part in row for part in ELSEWHERE)} == set(ROWS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_that_other_tables_give(name):
    options, parameters = PUBLISHED[name]
    assert sum(p.numel() for p in build(name, **options).parameters()) == parameters


LIGHT = {
    "resnet18": {},
    "preact_resnet18": {"attention": "se", "placement": "pre"},
    "preact_resnet50": {"attention": "cbam", "placement": "identity"},
    "preact_resnet20": {"attention": "eca", "placement": "post"},
    "se_resnet18": {"stem": "cifar"},
    "cbam_resnet18": {},
    "bam_resnet18": {},
    "sge_resnet18": {},
    "eca_resnet18": {"kernel_sizes": [3, 5, 7, 9]},
    "gc_resnet50": {"stages": [False, [1], True, False], "ratio": 0.25},
    "sknet26": {},
    "nl_resnet50": {"blocks": 1, "sub_sample": True},
    "resnext50_32x4d": {"attention": "bam", "placement": "stage", "attention_blocks": [True, False, True, True]},
    "wide_resnet16_8": {"attention": "sge", "attention_options": {"groups": 16}},
}


@pytest.mark.parametrize("name", LIGHT)
def test_a_network_learns_and_comes_back_from_its_state(name, tmp_path):
    options = {"num_classes": 5, "in_channels": 3} | LIGHT[name]
    torch.manual_seed(3)
    network = foveate.create_network(name, **options)
    x = torch.randn(2, 3, 45, 39)
    network.train()(x).square().sum().backward()
    silent = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not silent
    assert sum(bool(p.grad.any()) for p in network.parameters()) > 0.5 * len(list(network.parameters()))
    wanted = network.eval()(x)
    assert wanted.shape == (2, 5)
    torch.testing.assert_close(network(x[:1]), wanted[:1])
    again = foveate.create_network(name, **options)
    again.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(again.eval()(x), wanted)
    loaded = foveate.load(foveate.save(network, tmp_path / "net.safetensors"))
    assert torch.equal(loaded(x), wanted)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_plain_networks_are_torchvisions(name):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, num_classes=11).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    ours = foveate.create_network(name, num_classes=11).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(1, 3, 70, 65)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_the_caffe_stem_rounds_up_without_padding():
    x = torch.randn(1, 3, 224, 224)
    network = foveate.create_network("resnet18", stem="caffe")
    y = torch.nn.functional.conv2d(x, network.conv1.weight, stride=2, padding=3)
    y = torch.relu((y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), False, keepdim=True) + 1e-5).sqrt())
    bordered = torch.nn.functional.pad(y, (0, 1, 0, 1))  # a window over the border sees what is there, at least 0
    wanted = bordered.unfold(2, 3, 2).unfold(3, 3, 2).amax((4, 5))
    torch.testing.assert_close(network.maxpool(torch.relu(network.bn1(network.conv1(x)))), wanted, rtol=1e-4, atol=1e-5)


def test_first_weights_are_those_of_the_released_code():
    cbam = foveate.create_network("cbam_resnet50")
    gate = cbam.layer2[1].attention
    assert not gate.spatial_gate.norm.weight.any()
    assert not gate.channel_gate.reduce.bias.any()
    x = torch.randn(2, 512, 5, 5)
    with foveate.capture(gate) as seen:
        gate(x)
    assert torch.equal(next(iter(seen.maps.values()))["spatial"], torch.full((2, 5, 5), 0.5))
    assert cbam.layer3[1].conv2.weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)
    assert cbam.layer3[0].downsample[0].weight.abs().max().item() <= 512**-0.5  # torch's default is uniform
    assert not cbam.fc.bias.any()
    sk = foveate.create_network("sknet26")
    assert sk.layer4[0].middle.reduce.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert sk.layer4[1].conv1.weight.std().item() == pytest.approx((2 / 2048) ** 0.5, rel=0.02)
    assert sk.fc.weight.std().item() == pytest.approx(0.01, rel=0.02)
    gc = foveate.create_network("gc_resnet50", zero_init=True)
    assert not gc.layer2[1].attention.add[3].weight.any()
    assert not gc.layer2[1].bn3.weight.any()


def test_attention_stands_in_the_blocks_that_were_asked_for():
    def where(name, **options):
        return [key for key, module in build(name, **options).named_modules() if key.endswith("attention")]

    assert where("nl_resnet50") == [f"layer{b}.attention" for b in ("2.1", "2.3", "3.1", "3.3", "3.5")]
    assert where("nl_resnet101") == [f"layer{b}.attention" for b in ("2.1", "2.3", "3.6", "3.13", "3.20")]
    assert where("nl_resnet50", blocks=1) == ["layer3.4.attention"]
    assert len(where("nl_resnet50", blocks=10)) == 10
    assert {key.split(".")[0] for key in where("gc_resnet50")} == {"layer2", "layer3", "layer4"}
    assert list(build("bam_resnet50").between) == ["layer1", "layer2", "layer3"]
    sizes = [
        build("eca_resnet50", kernel_sizes="adaptive").get_submodule(f"layer{i}.0.attention") for i in (1, 2, 3, 4)
    ]
    assert [eca.kernel_size for eca in sizes] == [5, 5, 5, 7]
    assert build("sknet101").layer2[0].middle.reduce.out_features == 16
    assert build("sknet101", as_released=False).layer2[0].middle.reduce.out_features == 32


def test_a_network_without_classifier_gives_the_means():
    network = foveate.create_network("resnet18", num_classes=0).eval()
    x = torch.randn(2, 3, 40, 40)
    maps = network.features(x)
    assert [tuple(m.shape) for m in maps] == [(2, 64, 10, 10), (2, 128, 5, 5), (2, 256, 3, 3), (2, 512, 2, 2)]
    torch.testing.assert_close(network(x), maps[-1].mean((2, 3)))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18", {"stem": "imagnet"}, "stem must be one of .*, 'cifar'; got 'imagnet'"),
        ("resnet18", {"block": "wide"}, "block must be one of 'basic', .*; got 'wide'"),
        ("resnet18", {"groups": 2}, "groups is no option of block='basic'"),
        ("preact_resnet50", {"stride_on_first": True}, "stride_on_first is no option of block='preact-bottleneck'"),
        ("preact_resnet50", {"zero_init": True}, "zero_init is no option of block='preact-bottleneck'"),
        ("preact_resnet50", {"shortcut": "wide"}, "shortcut must be one of 'projection', 'pad'; got 'wide'"),
        ("resnet18", {"widths": (64, 128)}, "wanted a number of blocks and a width for each stage"),
        ("resnet50", {"attention_blocks": [True] * 4}, "need attention=; got none"),
        ("resnet50", {"attention": "se", "attention_blocks": [True] * 3}, "an entry for each of 4 stages; got 3"),
        ("resnet50", {"attention": "se", "attention_blocks": [[3], [], [], []]}, "has the blocks 0 to 2; got 3"),
        ("resnet50", {"attention": "se", "attention_options": [{}] * 3}, "one for each of 4 stages; got 3"),
        ("resnet50", {"attention": "se", "placement": "kernel"}, "needs a mechanism that is a convolution.*got 'se'"),
        ("resnet18", {"attention": "sk", "placement": "kernel"}, "stands for the 3×3 of block='bottleneck'"),
        ("se_resnet50", {"layout": "tf"}, "layout must be 'caffe' or 'torch'; got 'tf'"),
        ("eca_resnet50", {"kernel_sizes": (3, 4, 3, 3)}, "kernel_size must be .*odd.*4"),
        ("eca_resnet50", {"kernel_sizes": (3, 3)}, "one for each of 4 stages; got 2"),
        ("eca_resnet50", {"kernel_sizes": "paper"}, "'released' or 'adaptive'; got 'paper'"),
        ("nl_resnet50", {"blocks": 3}, "blocks must be 1, 5 or 10; got 3"),
        ("sa_resnet50", {"groups": 48}, "sa: .* groups = 96; got 256"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line(name, options, message):
    with pytest.raises(ValueError, match=message) as error:
        build(name, **options)
    assert "\n" not in str(error.value)


def test_an_unknown_name_or_option_is_named_with_the_nearest():
    with pytest.raises(LookupError, match="did you mean 'se_resnet50'"):
        foveate.create_network("se_resnet5")
    with pytest.raises(TypeError, match="se_resnet50 has no option 'reducton'; did you mean 'reduction'"):
        foveate.create_network("se_resnet50", reducton=8)
    with pytest.raises(LookupError, match="no attention is called 'see'"):
        foveate.create_network("resnet18", attention="see")
    with pytest.raises(ValueError, match="depth must be one of 18, 34, 50, 101, 152; got 26"):
        resnet(26)


@pytest.mark.parametrize("factor", [1.25, 1 + 5 / 64])
@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet50", "preact_resnet18", "wide_resnet16_8", "resnet56", "resnext50_32x4d", "resnext29_8x64d"],
)
def test_plain_networks_can_be_widened(name, factor):
    """Grouped ones too: their widths stay multiples of the groups."""
    with torch.device("meta"):
        plain = build_wider(name, 1.0, num_classes=10, in_channels=3)
        wide = build_wider(name, factor, num_classes=10, in_channels=3)
    assert wide(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 10)
    ratio = sum(p.numel() for p in wide.parameters()) / sum(p.numel() for p in plain.parameters())
    assert factor**2 * 0.9 < ratio < factor**2 * 1.1
    assert wide.state_dict().keys() == plain.state_dict().keys()
