"""Writes docs/networks.md: what every network of ours costs and reached, counted here, read where said.

python docs/make_networks.py
"""

import tomllib
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import torch
from torch import nn

import foveate
from foveate.costs import macs
from foveate.networks import usual_shape

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "networks.md"
PUBLISHED = tomllib.loads((ROOT / "docs" / "published.toml").read_text(encoding="utf-8"))

HEAD = """# Networks

Made by `docs/make_networks.py`. `foveate.create_network(NAME, **options)` builds these; `foveate:NAME` is one wherever
a network is asked for. Multiply-adds are those of convolutions, linear layers and matrix products for one sample of the
size shown. Accuracies are **published** ones, of ImageNet's validation images unless the place says otherwise, and were
read there; the row's network is the published one in size, not always in its training. Weights: from whom
`foveate.official.load` and `foveate convert` take trained ones. `foveate cost foveate:NAME` measures latency on your
machine, and what attention adds to it.
"""
SEGMENTATION = """## Segmentation

`umixformer`, `segformer`, `feedformer` and `segnext` take any encoder: `encoder="mit_b2"`, `"lvt"`, `"mscan_s"`,
`"timm:resnet50"` or `"torchvision:convnext_tiny"`, any network with maps at strides 4, 8, 16 and 32; the names above
with an encoder in them are the published pairs. They take images of any size and give logits of the same size. A
network that starts from the weights of its encoder alone (`foveate study run --weights FILE`) says what it took of the
file. `umixformer_*` has 1.1 M (B0) to 4.2 M parameters less than published: those are never used; with
`variant="official"` they are there, so that checkpoints load. The published multiply-adds are those of that variant
too: the released decoder for Cityscapes (`form="cityscapes"`) computes queries of the whole grid that it drops, 0.2 to
1.6 % of its arithmetic, and the one for ADE20K fuses maps after resizing them. The 90.0 G published for MSCAN-T on
Cityscapes are not found again: its released network has 54.8 G.

SETR in training gives the outputs of its auxiliary heads too, `unet` those of its smaller maps with
`deep_supervision=True`, `danet_*` those of its branches; the task `segmentation` supervises each, and the attention
U-Net mixes its four scales into one answer. mIoU as published, single scale:
"""
TAIL = """
## The others

AlexNet, VGG, Inception, ResNet, DenseNet, Swin, PVT v2, ConvNeXt and some thousand more come from the libraries that
keep them, and every command and `foveate.insert` takes them by name:

| network | by name |
|---|---|
| AlexNet of 2014, one group (the paper's two are ours above) | `torchvision:alexnet` |
| VGG | `torchvision:vgg16_bn`, `timm:vgg16_bn` |
| SqueezeNet | `torchvision:squeezenet1_0` (songhan/SqueezeNet-Deep-Compression's weights: `foveate.official`) |
| GoogLeNet, Inception v3 | `torchvision:googlenet`, `torchvision:inception_v3` |
| Inception v4, Inception-ResNet v2 | `timm:inception_v4`, `timm:inception_resnet_v2` |
| ResNet, ResNeXt, Wide ResNet | `torchvision:resnet50`, `timm:resnet50d`; ours above where attention is built in |
| DenseNet | `torchvision:densenet121`, `timm:densenet121` |
| EfficientNet, RegNet | `timm:efficientnet_b0`, `timm:regnety_004` |
| MobileNetV3, MNASNet | `timm:mobilenetv3_large_100`, `torchvision:mnasnet1_0` |
| ConvNeXt | `torchvision:convnext_tiny`, `timm:convnext_tiny` |
| ViT, DeiT | `torchvision:vit_b_16`, `timm:deit_tiny_patch16_224` |
| Swin, Swin v2 | `torchvision:swin_t`, `timm:swin_tiny_patch4_window7_224`, `torchvision:swin_v2_t` |
| PVT v2 | `timm:pvt_v2_b0` |
| U-Net, FPN, DeepLabV3+, UPerNet, … of segmentation_models_pytorch | `smp:Unet`, `smp:UPerNet` (`foveate[peers]`) |
| SegFormer, UPerNet, MaskFormer, Mask2Former, DETR of transformers | `hf:mask2former`, `hf:detr_segmentation` |
| Faster and Mask R-CNN, RetinaNet, FCOS, SSD, SSDLite | `torchvision:ssd300_vgg16`, … ([detection](detection.md)) |
| DETR, RT-DETRv2, D-FINE, DEIMv2, RF-DETR | `hf:rt_detr_v2`, `hf:d_fine`, … ([detection](detection.md)) |
| others of transformers | a function in a file: `path.py:function` |

A network of transformers, or any other, is a function in a file of yours, here `mine.py:segformer`:

```text
def segformer(num_classes):
    from transformers import SegformerConfig, SegformerForImageClassification

    class Logits(SegformerForImageClassification):
        def forward(self, x):
            return super().forward(pixel_values=x).logits

    return Logits(SegformerConfig(num_labels=num_classes))
```
"""


def rows() -> list[str]:
    """Every name, and behind it the options that have a figure of their own."""
    extra = [key for key in (*PUBLISHED["rows"], *PUBLISHED["rows_without"]) if " " in key]
    return [key for name in foveate.list_networks() for key in (name, *(k for k in extra if k.split(" ")[0] == name))]


def build(key: str) -> tuple[nn.Module, torch.Tensor]:
    """The network of a row without memory, and a sample of its size."""
    name, _, options = key.partition(" ")
    shape = usual_shape(name)
    with torch.device("meta"):
        network = foveate.create_network(name, **tomllib.loads(f"o = {{{options}}}")["o"]).eval()
        return network, torch.empty(1, *shape)


@cache
def counted(key: str) -> tuple[int, int]:
    """Parameters and multiply-adds."""
    network, x = build(key)
    return sum(p.numel() for p in network.parameters()), macs(network, x)


def line(key: str) -> str:
    """One row of the table."""
    name, _, options = key.partition(" ")
    parameters, multiply_adds = counted(key)
    shape = "×".join(map(str, usual_shape(name)))
    top1, top5, place = PUBLISHED["rows"].get(key, (0, 0, ""))
    accuracy = f"{top1:g}{f' / {top5:g}' if top5 else ''} [{place}]" if top1 else ""
    patterns = PUBLISHED["weights"].items()
    weights = next((whose for pattern, whose in patterns if fnmatchcase(name, pattern)), "")
    title = f"`{name}`" + (f" {options}" if options else "")
    return f"| {title} | {shape} | {parameters:,} | {_short(multiply_adds)} | {accuracy} | {weights} |"


def _short(count: int) -> str:
    return f"{count / 1e9:.3f} G" if count >= 1e9 else f"{count / 1e6:.3g} M"


def segmentation() -> list[str]:
    """The table of published segmentation, and what stands before it."""
    lines = ["", SEGMENTATION, "| name | ADE20K mIoU % | Cityscapes mIoU % | read in |", "|---|---|---|---|"]
    for name, (ade20k, cityscapes, place) in PUBLISHED["segmentation"].items():
        lines.append(f"| {name} | {ade20k or ''} | {cityscapes or ''} | [{place}] |")
    return lines


def page() -> str:
    """The page's text."""
    lines = [
        HEAD,
        "| name | sample | parameters | multiply-adds | top-1 / top-5 % | weights |",
        "|---|---|---|---|---|---|",
    ]
    lines += [line(key) for key in rows()]
    lines += segmentation()
    lines += ["", "Places: " + "; ".join(f"[{key}] {text}" for key, text in PUBLISHED["places"].items()) + ".", TAIL]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
