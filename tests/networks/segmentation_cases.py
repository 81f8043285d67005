"""One of each network for segmentation, small: case → its name, its options, the channels and axes of its images."""

from typing import Any, NamedTuple

import pytest
import torch

import foveate

TINY = {"widths": [8, 16, 20, 32], "depths": [1, 1, 1, 1], "heads": [1, 2, 5, 8]}
LITE = TINY | {"heads": [2, 2, 5, 8]}
SCAN = {"widths": [8, 16, 20, 32], "depths": [1, 1, 1, 1]}
VIT = {"encoder": "timm:vit_tiny_patch16_224", "encoder_options": {"depth": 4, "embed_dim": 24}, "embed": 8}
MIXED = {"encoder": "mit", "encoder_options": TINY, "embed": 16}
HYBRID = {"depth": 1, "embed_dim": 48, "num_heads": 3}
EVERYWHERE = ["encoder", "bottleneck", "skip", "decoder"]
SUPERVISED = {"widths": [8, 16, 32], "deep_supervision": True}


class Case(NamedTuple):
    name: str
    options: dict[str, Any]
    channels: int = 3
    dims: int = 2


CASES = {
    "umixformer": Case("umixformer", MIXED),
    "umixformer cityscapes": Case("umixformer", MIXED | {"form": "cityscapes"}),
    "segformer": Case("segformer", {"encoder": "mscan", "encoder_options": SCAN, "embed": 16}),
    "feedformer": Case("feedformer", {"encoder": "lvt", "encoder_options": LITE, "embed": 16}),
    "segnext": Case("segnext", {"encoder": "mscan", "encoder_options": SCAN, "embed": 64}),
    "danet": Case("danet_resnet50", {}),
    "setr naive": Case("setr_naive", VIT),
    "setr pup": Case("setr_pup", VIT),
    "setr mla": Case("setr_mla", VIT),
    "transunet": Case("transunet", {"encoder_options": HYBRID, "widths": [16, 8, 8, 4]}),
    "swin_unet": Case("swin_unet", {"encoder_options": {"embed_dim": 12}}),
    "attention_unet": Case("attention_unet", {"widths": [4, 8, 16, 32, 64]}),
    "attention_unet3d": Case("attention_unet3d", {"widths": [4, 4, 8, 8, 16]}, 1, 3),
    "unet scse": Case("unet", SUPERVISED | {"attention": "scse", "at": EVERYWHERE}),
    "unet gates": Case("unet", {"widths": [8, 16, 32], "attention": "attention_gate", "at": ["skip"]}),
}
LARGE = ("danet", "transunet")  # whose widths are not options


def built(case, **options):
    one = CASES[case]
    torch.manual_seed(0)
    return foveate.create_network(one.name, num_classes=3, in_channels=one.channels, **one.options | options).eval()


def image(case, *size, count=1):
    one = CASES[case]
    return torch.randn(count, one.channels, *size[: one.dims])


def slow(cases):
    return [pytest.param(case, marks=[pytest.mark.slow] * (case in cases)) for case in CASES]
