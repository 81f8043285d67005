"""One row a published network of the residual family: its name in the table of counts, ours, the options."""

import re
from collections.abc import Iterable
from typing import Any

import pytest


def _rows() -> dict[str, tuple[str, dict[str, Any]]]:
    rows: dict[str, tuple[str, dict[str, Any]]] = {}
    for depth in (18, 34, 50, 101):
        for attention, name in ((None, "resnet"), ("BAM", "bam_resnet"), ("CBAM", "cbam_resnet")):
            rows[f"jongchan ResidualNet ImageNet {depth} {attention}"] = f"{name}{depth}", {}
            if depth in (18, 50):
                small = {"stem": "cifar", "num_classes": 100}
                rows[f"jongchan ResidualNet CIFAR100 {depth} {attention}"] = f"{name}{depth}", small
    for depth in (18, 34, 50, 101, 152):
        rows[f"pytorchinsight se_resnet{depth}"] = f"se_resnet{depth}", {"layout": "torch"}
        rows[f"moskomule se_resnet{depth}"] = f"se_resnet{depth}", {"layout": "torch", "bias": False}
        rows[f"ecanet eca_resnet{depth} k=[3,3,3,3] (constructor default)"] = f"eca_resnet{depth}", {}
    for depth, sizes in (
        (18, "3, 5, 7, 7"),
        (34, "3, 3, 5, 7"),
        (50, "3, 5, 5, 7"),
        (101, "3, 3, 5, 7"),
        (152, "3, 3, 5, 7"),
    ):
        released = {"kernel_sizes": "released"}
        rows[f"ecanet eca_resnet{depth} k=[{sizes}] (released checkpoint name)"] = f"eca_resnet{depth}", released
    for depth, sizes in ((50, "5,5,5,7"), (18, "3,5,5,5")):
        adaptive = {"kernel_sizes": "adaptive"}
        rows[f"ecanet eca_resnet{depth} k=[{sizes}] (adaptive formula)"] = f"eca_resnet{depth}", adaptive
    for depth in (18, 50, 101, 152):
        rows[f"pytorchinsight sge_resnet{depth}"] = f"sge_resnet{depth}", {}
    for depth in (50, 101):
        rows[f"pytorchinsight sk_resnet{depth}"] = f"sk_resnet{depth}", {}
    rows["pytorchinsight old_resnet50"] = "resnet50", {}
    rows["pytorchinsight bam_resnet50"] = "bam_resnet50", {}
    rows["pytorchinsight cbam_resnet50"] = "cbam_resnet50", {}
    for name in (
        "se_resnet50",
        "se_resnet101",
        "se_resnet152",
        "se_resnext50_32x4d",
        "se_resnext101_32x4d",
        "senet154",
    ):
        rows[f"cadene {name}"] = name, {}
        caffe = re.sub(
            r"^se_res(net|next)(\d+).*", lambda m: f"SE-Res{'NeXt' if m[1] == 'next' else 'Net'}-{m[2]}", name
        )
        rows[f"caffe {caffe.replace('senet154', 'SENet-154')} (official prototxt)"] = name, {}
    for depth in (50, 101):
        rows[f"caffe SKNet-{depth} (official prototxt)"] = f"sknet{depth}", {}
    for depth in (50, 101, 152):
        rows[f"sanet sa_resnet{depth}"] = f"sa_resnet{depth}", {}
    for ratio in (4, 8, 16, 32):
        rows[f"gcnet resnet50 c3-c5 r{ratio} att+add (+1000-way fc)"] = "gc_resnet50", {"ratio": 1 / ratio}
    rows["gcnet resnet50 c3-c5 r16 avg+add (+1000-way fc)"] = "gc_resnet50", {"pooling": "avg"}
    rows["gcnet resnet50 c3-c5 r16 att+scale (+1000-way fc)"] = "gc_resnet50", {"fusion": "mul"}
    rows["gcnet resnet50 c3-c5 r16 att+add+scale (+1000-way fc)"] = "gc_resnet50", {"fusion": "both"}
    rows["gcnet resnet50 c3-c5 none (+1000-way fc)"] = "resnet50", {}
    rows["gcnet resnet101 c3-c5 r16 (+1000-way fc)"] = "gc_resnet101", {}
    rows["timm resnet50"] = "resnet50", {}
    rows["timm legacy_seresnet50"] = "se_resnet50", {}
    rows["timm seresnet50"] = "se_resnet50", {"layout": "torch"}
    rows["timm skresnext50_32x4d"] = "sknet50", {"stem": "imagenet"}
    return rows


ROWS = _rows()
ELSEWHERE = ("eca_mobilenet_v2", "coordatt", "danet", "drsn", "stn", "timm skresnet", "timm ecaresnet", "timm gcresnet")
"""Rows of the table that are not of this family, or timm's own networks, which come from timm."""

# Known from the papers, or from their authors' code, where the table has no row.
PUBLISHED = {
    "resnext50_32x4d": ({}, 25_028_904),  # 25.03 M in CBAM's tables, as torchvision
    "resnext101_32x4d": ({}, 44_177_704),  # 44.18 M there
    "resnext29_8x64d": ({"num_classes": 10}, 34_426_698),  # 34.4 M
    "wide_resnet18": ({"factor": 1.5}, 25_875_816),  # 25.88 M in CBAM's tables
    "wide_resnet28_10": ({"num_classes": 10}, 36_479_194),  # 36.5 M
    "resnet110": ({"num_classes": 10}, 1_727_962),  # 1.7 M
}


def deep_are_slow(names: Iterable[str]) -> list[Any]:
    """More than 100 layers are the same blocks again, and so are GCNet's other ratios and timm's ports."""
    deep = re.compile(r"net_?1\d\d|ImageNet 101|c5 r(4|8|32) |timm (res|legacy)|^caffe SE-ResN")
    return [pytest.param(name, marks=[pytest.mark.slow] * bool(deep.search(name))) for name in names]
