"""Every class of the channel and spatial families: its keys, its shapes, its size in the official networks."""

import json
from typing import Any

import pytest
import torch
from torch import nn

import foveate
from foveate.official._conversions import _find, to_official, to_ours

JONGCHAN, INSIGHT, SENET = "Jongchan/attention-module", "implus/PytorchInsight", "hujie-frank/SENet"
CADENE, MOSKOMULE, GCNET = "Cadene/pretrained-models.pytorch", "moskomule/senet.pytorch", "xvjiarui/GCNet"
HALVING = {"inplanes": 16, "planes": 16, "stride": 2, "downsample": True}
PLAIN = {"inplanes": 64, "planes": 16}
UNIT = {"in_channels": 8, "mid": 16, "out": 24, "projection": True, "groups": 4, "r": 4}
BLOCKS = [
    (JONGCHAN, "Bottleneck"),
    (JONGCHAN, "BasicBlock"),
    (INSIGHT, "resnet_se.Bottleneck"),
    (INSIGHT, "resnet_se.BasicBlock"),
    (INSIGHT, "resnet_bam.Bottleneck"),
    (INSIGHT, "resnet_bam.BasicBlock"),
    (INSIGHT, "resnet_cbam.Bottleneck"),
    (INSIGHT, "resnet_cbam.BasicBlock"),
    (INSIGHT, "resnet_sk.BasicBlock"),
    (MOSKOMULE, "SEBottleneck"),
    (MOSKOMULE, "SEBasicBlock"),
]
NARROW = {"inp": 8, "oup": 12, "stride": 2, "k_size": 1}
CASES: list[tuple[str, str, dict[str, Any], int]] = [
    *((source, cls, HALVING, 16) for source, cls in BLOCKS),
    *((source, cls, PLAIN, 64) for source, cls in BLOCKS if cls.endswith("Bottleneck")),
    (INSIGHT, "resnet_sge.Bottleneck", {**HALVING, "sge_groups": 4}, 16),
    (INSIGHT, "resnet_sge.BasicBlock", {**HALVING, "planes": 64}, 16),
    (INSIGHT, "resnet_sge.SpatialGroupEnhance", {"channels": 64}, 64),
    (INSIGHT, "resnet_se.SELayer", {"channel": 32}, 32),
    (INSIGHT, "resnet_sk.Bottleneck", {**HALVING, "planes": 64}, 16),
    (INSIGHT, "resnet_bam.BAM", {"gate_channel": 32}, 32),
    (INSIGHT, "resnet_cbam.CBAM", {"gate_channels": 32, "no_spatial": True}, 32),
    (JONGCHAN, "BAM", {"gate_channel": 48}, 48),
    (JONGCHAN, "bam.ChannelGate", {"gate_channel": 32, "reduction_ratio": 8, "num_layers": 3}, 32),
    (JONGCHAN, "ChannelGate", {"gate_channel": 32, "num_layers": 0}, 32),
    (JONGCHAN, "ChannelGate", {"gate_channels": 32, "pool_types": ["avg", "lse"]}, 32),
    (JONGCHAN, "bam.SpatialGate", {"gate_channel": 32, "dilation_conv_num": 3, "dilation_val": 2}, 32),
    (JONGCHAN, "SpatialGate", {"gate_channel": 32}, 32),
    (JONGCHAN, "SpatialGate", {"channels": 5}, 5),
    (CADENE, "SEModule", {"channels": 32, "reduction": 8}, 32),
    (CADENE, "SEResNetBottleneck", {**HALVING, "groups": 1, "reduction": 16}, 16),
    (CADENE, "SEResNeXtBottleneck", {**HALVING, "groups": 32, "reduction": 16}, 16),
    (CADENE, "SEResNeXtBottleneck", {**PLAIN, "groups": 4, "reduction": 16, "base_width": 8}, 64),
    (CADENE, "SEBottleneck", {**HALVING, "groups": 8, "reduction": 16}, 16),
    (CADENE, "SEBottleneck", {**HALVING, "groups": 8, "reduction": 16, "downsample_kernel_size": 3}, 16),
    (MOSKOMULE, "SELayer", {"channel": 32}, 32),
    (MOSKOMULE, "CifarSEBasicBlock", {"inplanes": 16, "planes": 32, "stride": 2}, 16),
    (MOSKOMULE, "CifarSEBasicBlock", {"inplanes": 16, "planes": 16, "reduction": 4}, 16),
    (SENET, "models/SE-ResNet-50.prototxt, block conv2_1", {**UNIT, "groups": 1}, 8),
    (SENET, "models/SE-ResNeXt-101.prototxt, block conv4_23", {**UNIT, "in_channels": 24, "projection": False}, 24),
    (SENET, "models/SENet-154.prototxt, block conv3_1", {**UNIT, "stride": 2}, 8),
    ("implus/SKNet", "models/sknet101.prototxt, block conv4_1", {**UNIT, "stride": 2}, 8),
    ("implus/SKNet", "models/sknet50.prototxt, block conv5_3", {**UNIT, "d": 3, "branches": 3}, 8),
    ("implus/SKNet", "models/sknet50.prototxt, SK convolution of block conv3_1", {"channels": 32, "stride": 2}, 32),
    ("BangguWu/ECANet", "eca_ns.eca_layer", {"channel": 8, "k_size": 5}, 8),
    ("BangguWu/ECANet", "eca_mobilenetv2.InvertedResidual", {**NARROW, "expand_ratio": 6}, 8),
    ("BangguWu/ECANet", "eca_mobilenetv2.InvertedResidual", {**NARROW, "expand_ratio": 1}, 8),
    ("wofmanaf/SA-Net", "sa_layer", {"channel": 128}, 128),
    ("wofmanaf/SA-Net", "SABottleneck", {**HALVING, "planes": 32}, 16),
    ("wofmanaf/SA-Net", "SABottleneck", {**PLAIN, "groups": 2, "base_width": 128, "dilation": 2, "sa_groups": 8}, 64),
    ("houqb/CoordAttention", "coordatt.CoordAtt", {"inp": 320, "oup": 320}, 320),
    ("houqb/CoordAttention", "mbv2_ca.CoordAtt", {"inp": 32, "oup": 32, "groups": 2}, 32),
    ("houqb/CoordAttention", "mbv2_ca.InvertedResidual", {"inp": 8, "oup": 12, "stride": 2, "expand_ratio": 6}, 8),
    ("houqb/CoordAttention", "mbv2_ca.InvertedResidual", {"inp": 8, "oup": 8, "stride": 1, "expand_ratio": 1}, 8),
    (GCNET, "mmdet.ops.gcb.ContextBlock", {"inplanes": 32, "ratio": 1 / 16, "pooling_type": "avg"}, 32),
    (GCNET, "ContextBlock", {"inplanes": 32, "ratio": 0.25, "fusion_types": ["channel_add", "channel_mul"]}, 32),
    (GCNET, "mmdet resnet.Bottleneck", {**HALVING, "style": "caffe", "gcb": {"ratio": 1 / 16}}, 16),
    (GCNET, "mmdet resnet.Bottleneck", {**PLAIN, "dilation": 2}, 64),
]
FOLLOWS = [f"{cls.split('.')[-1]}-{i}" for i, (_, cls, _, _) in enumerate(CASES)]


def official_state(source: str, cls: str, ctor: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Random weights under the official names, in float64."""
    module, prefixes = _find(source, cls).build(**ctor)
    state = {}
    for key, value in module.state_dict().items():
        name = to_official(key, prefixes)
        assert to_ours(name, prefixes) == key, "the names must map both ways"
        state[name] = torch.rand(value.shape, dtype=torch.float64) + 0.5 if value.is_floating_point() else value
    return state


@pytest.mark.parametrize(("source", "cls", "ctor", "channels"), CASES, ids=FOLLOWS)
def test_loads_a_checkpoint_and_runs_on_one_odd_map(source, cls, ctor, channels):
    state = official_state(source, cls, ctor)
    module = foveate.official.load(source, cls, ctor, state)
    assert not module.training
    prefixes = _find(source, cls).build(**ctor)[1]
    ours = module.state_dict()
    assert ours.keys() == {to_ours(key, prefixes) for key in state}
    assert all(torch.equal(ours[to_ours(key, prefixes)], value) for key, value in state.items())
    x = torch.randn(1, channels, 7, 5, dtype=torch.float64)
    assert module(x).isfinite().all()


@pytest.mark.parametrize(("source", "cls", "ctor", "channels"), CASES[::4], ids=FOLLOWS[::4])
def test_names_a_missing_key_as_the_official_code_does(source, cls, ctor, channels):
    state = official_state(source, cls, ctor)
    gone = next(reversed([key for key, value in state.items() if value.is_floating_point()]))
    del state[gone]
    with pytest.raises(ValueError, match=f"missing key '{gone}'"):
        foveate.official.load(source, cls, ctor, state)


def test_takes_caffe_keys_with_the_name_of_their_block():
    source, cls = SENET, "models/SE-ResNet-50.prototxt, block conv2_1"
    ctor = {**UNIT, "groups": 1}
    short = official_state(source, cls, ctor)
    long = {f"conv2_1_{key}": value for key, value in short.items()}
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    short_net, long_net = (foveate.official.load(source, cls, ctor, state) for state in (short, long))
    assert torch.equal(short_net(x), long_net(x))


@pytest.fixture(scope="module")
def counts(request) -> dict[str, Any]:
    return json.loads((request.getfixturevalue("shared") / "spec" / "param_counts.json").read_text())[
        "channel_and_spatial"
    ]


def size(source: str, cls: str, **ctor: Any) -> int:
    with torch.device("meta"):
        module: nn.Module = _find(source, cls).build(**ctor)[0]
    return sum(p.numel() for p in module.parameters())


STEM, CLASSIFIER = 9408 + 128, 2048 * 1000 + 1000
R50, R101, R152 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
OF_DEPTH = {"50": R50, "101": R101, "152": R152, "154": R152}


def bottlenecks(source: str, cls: str, depths: tuple[int, ...], plain_from: int = 64, **ctor: Any) -> int:
    total, before = 0, plain_from
    for stage, depth in enumerate(depths):
        planes = 64 << stage
        first = {**ctor, "inplanes": before, "planes": planes, "downsample": True}
        if "downsample_kernel_size" in ctor and stage == 0:
            first["downsample_kernel_size"] = 1
        later = {**ctor, "inplanes": 4 * planes, "planes": planes}
        total += size(source, cls, **first) + (depth - 1) * size(source, cls, **later)
        before = 4 * planes
    return total


@pytest.mark.parametrize(
    ("network", "source", "cls", "ctor"),
    [
        ("pytorchinsight se_resnet152", INSIGHT, "resnet_se.Bottleneck", {}),
        ("pytorchinsight sge_resnet101", INSIGHT, "resnet_sge.Bottleneck", {}),
        ("pytorchinsight sk_resnet50", INSIGHT, "resnet_sk.Bottleneck", {}),
        ("pytorchinsight sk_resnet101", INSIGHT, "resnet_sk.Bottleneck", {}),
        ("pytorchinsight cbam_resnet50", INSIGHT, "resnet_cbam.Bottleneck", {"use_cbam": True}),
        ("cadene se_resnet101", CADENE, "SEResNetBottleneck", {"groups": 1, "reduction": 16}),
        ("cadene se_resnext50_32x4d", CADENE, "SEResNeXtBottleneck", {"groups": 32, "reduction": 16}),
        ("cadene se_resnext101_32x4d", CADENE, "SEResNeXtBottleneck", {"groups": 32, "reduction": 16}),
        ("moskomule se_resnet50", MOSKOMULE, "SEBottleneck", {}),
        ("sanet sa_resnet50", "wofmanaf/SA-Net", "SABottleneck", {}),
        ("sanet sa_resnet101", "wofmanaf/SA-Net", "SABottleneck", {}),
    ],
)
def test_bottlenecks_add_up_to_the_official_network(counts, network, source, cls, ctor):
    depths = OF_DEPTH[network.split("resne")[1].split("_")[0].strip("xt")]
    blocks = bottlenecks(source, cls, depths, **ctor)
    assert STEM + blocks + CLASSIFIER == counts["networks"][network]["params"]


def test_senet_154_adds_up(counts):
    stem = 9 * (3 * 64 + 64 * 64 + 64 * 128) + 2 * (64 + 64 + 128)
    ctor = {"groups": 64, "reduction": 16, "downsample_kernel_size": 3}
    blocks = bottlenecks(CADENE, "SEBottleneck", R152, plain_from=128, **ctor)
    assert stem + blocks + CLASSIFIER == counts["networks"]["cadene senet154"]["params"]
    graph = [
        size(
            SENET,
            f"models/SENet-154.prototxt, block conv{stage}_{n}",
            in_channels=(128 if stage == 2 else 128 << (stage - 2)) if n == 1 else 256 << (stage - 2),
            mid=256 << (stage - 2),
            out=256 << (stage - 2),
            projection=n == 1,
        )
        for stage, depth in enumerate(R152, 2)
        for n in range(1, depth + 1)
    ]
    assert stem + sum(graph) + CLASSIFIER == counts["networks"]["caffe SENet-154 (official prototxt)"]["params"]


@pytest.mark.parametrize(
    ("network", "source", "graph", "mid"),
    [
        ("caffe SE-ResNet-50 (official prototxt)", SENET, "models/SE-ResNet-50.prototxt", 64),
        ("caffe SE-ResNeXt-101 (official prototxt)", SENET, "models/SE-ResNeXt-101.prototxt", 128),
        ("caffe SKNet-50 (official prototxt)", "implus/SKNet", "models/sknet50.prototxt", 128),
        ("caffe SKNet-101 (official prototxt)", "implus/SKNet", "models/sknet101.prototxt", 128),
    ],
)
def test_caffe_graphs_add_up(counts, network, source, graph, mid):
    total = STEM + CLASSIFIER
    for stage, depth in enumerate(R101 if "101" in graph else R50):
        for n in range(1, depth + 1):
            before = (64 if stage == 0 else 128 << stage) if n == 1 else 256 << stage
            ctor = {"in_channels": before, "mid": mid << stage, "out": 256 << stage, "projection": n == 1}
            total += size(source, f"{graph}, block conv{stage + 2}_{n}", **ctor)
    assert total == counts["networks"][network]["params"]


@pytest.mark.parametrize("ratio", [4, 8, 16, 32])
def test_gcnet_adds_up(counts, ratio):
    total, before = STEM + CLASSIFIER, 64
    for stage, depth in enumerate(R50):
        gcb = {"gcb": {"ratio": 1 / ratio}} if stage else {}
        planes = 64 << stage
        first = {"inplanes": before, "planes": planes, "downsample": True, **gcb}
        later = {"inplanes": 4 * planes, "planes": planes, **gcb}
        total += size(GCNET, "mmdet resnet.Bottleneck", **first)
        total += (depth - 1) * size(GCNET, "mmdet resnet.Bottleneck", **later)
        before = 4 * planes
    assert total == counts["networks"][f"gcnet resnet50 c3-c5 r{ratio} att+add (+1000-way fc)"]["params"]


@pytest.mark.parametrize("channels", [64, 128, 256, 512, 1024, 2048])
def test_modules_have_the_official_sizes(counts, channels):
    official = counts["modules"][str(channels)]
    of = foveate.create_attention
    with torch.device("meta"):
        ours = {
            "bam r16": of("bam", channels),
            "sge 64 groups": of("sge", channels),
            "sa 64 groups": of("sa", channels) if channels % 128 == 0 else None,
            "coordatt r32": of("ca", channels),
            "gc r16 att+add": of("gc", channels),
            "gc r4 att+add": of("gc", channels, ratio=1 / 4),
        }
    for name, module in ours.items():
        assert official[name] == (None if module is None else sum(p.numel() for p in module.parameters())), name


def test_mbv2_ca_adds_up(counts):
    total = 9 * 3 * 32 + 64 + 320 * 1280 + 2560 + 1280 * 1000 + 1000
    before = 32
    for expansion, width, depth, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for n in range(depth):
            ctor = {"inp": before, "oup": width, "stride": 1 if n else stride, "expand_ratio": expansion}
            total += size("houqb/CoordAttention", "mbv2_ca.InvertedResidual", **ctor)
            before = width
    assert total == counts["networks"]["coordatt mbv2_ca width 1.0"]["params"]
