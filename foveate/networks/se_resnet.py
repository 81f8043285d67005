"""Squeeze-and-Excitation networks: SE-ResNet, SE-ResNeXt, SENet-154. arXiv:1709.01507."""

from functools import partial

from foveate.networks._registry import register_network
from foveate.networks.resnet import DEPTHS, ResNet, resnet

LAYOUTS = {"caffe": ("caffe", True), "torch": ("imagenet", False)}  # stem, stride on the first 1×1


def se_resnet(
    depth: int,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    layout: str | None = None,
    stem: str | None = None,
    reduction: int = 16,
    bias: bool = True,
    placement: str = "standard",
) -> ResNet:
    """SE-ResNet: the channel gate at the end of every branch.

    Args:
        depth: 18, 34, 50, 101 or 152.
        layout: "caffe" (the authors': bottlenecks stride in their first 1×1, the stem's max-pool is not padded and
            rounds up; 3.86 G multiply-adds at depth 50) or "torch" (the stride in the 3×3, a padded pool; 4.09 G).
            None: "caffe" from depth 50 on, "torch" for 18 and 34, of which only PyTorch releases exist.
        stem: overrides the layout's, "cifar" for small images.
        reduction: r of the gate's hidden width.
        bias: of the gate's layers; the authors' models have them, moskomule's and the journal paper's ablations not.
        placement: the places of the paper's ablation, as in `ResNet`.

    Shape: (N, in_channels, H, W) → (N, num_classes).
    Cost: 28,088,024 parameters at depth 50, 28,071,976 without biases.
    Init: that of `ResNet`; the gate's layers torch's default (the Caffe files give none).
    Source: Hu, Shen, Albanie, Sun, Wu, "Squeeze-and-Excitation Networks", CVPR 2018.
    Raises: ValueError: another depth, an unknown layout, stem or placement.
    """
    layout = layout or ("caffe" if depth >= 50 else "torch")
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be {' or '.join(map(repr, LAYOUTS))}; got {layout!r}")
    usual, on_first = LAYOUTS[layout]
    return resnet(
        depth,
        num_classes,
        in_channels=in_channels,
        stem=stem or usual,
        stride_on_first=on_first and depth >= 50,
        attention="se",
        attention_options={"reduction": reduction, "bias": bias},
        placement=placement,
    )


def se_resnext(
    depth: int,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    stem: str = "caffe",
    reduction: int = 16,
    bias: bool = True,
    placement: str = "standard",
) -> ResNet:
    """SE-ResNeXt 32×4d: grouped 3×3 that stride, the Caffe stem; options as of `se_resnet`.

    Cost: 27,559,896 parameters at depth 50, 48,955,416 at depth 101.
    """
    return resnet(
        depth,
        num_classes,
        in_channels=in_channels,
        stem=stem,
        groups=32,
        base_width=4,
        attention="se",
        attention_options={"reduction": reduction, "bias": bias},
        placement=placement,
    )


def senet154(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    reduction: int = 16,
    bias: bool = True,
    dropout: float = 0.2,
    placement: str = "standard",
) -> ResNet:
    """SENet-154: a stem of three 3×3, 64 groups, a first 1×1 of half the width, 3×3 projections where it strides.

    Args:
        dropout: before the linear layer.
        reduction, bias, placement: as in `se_resnet`.

    Shape: (N, in_channels, H, W) → (N, num_classes).
    Cost: 115,088,984 parameters, 20.7 G multiply-adds.
    """
    return resnet(
        152,
        num_classes,
        in_channels=in_channels,
        stem="caffe-deep",
        groups=64,
        base_width=4,
        narrow=True,
        shortcut="wide",
        dropout=dropout,
        attention="se",
        attention_options={"reduction": reduction, "bias": bias},
        placement=placement,
    )


for _depth in DEPTHS:
    register_network(f"se_resnet{_depth}")(partial(se_resnet, _depth))
for _depth in (50, 101):
    register_network(f"se_resnext{_depth}_32x4d")(partial(se_resnext, _depth))
register_network("senet154")(senet154)
