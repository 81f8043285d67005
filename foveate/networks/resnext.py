"""ResNeXt: residual networks of grouped convolutions. arXiv:1611.05431."""

from functools import partial

from foveate.networks._registry import register_network
from foveate.networks.resnet import DEPTHS, ResNet

IMAGENET = ((50, 32, 4), (101, 32, 4), (101, 32, 8), (101, 64, 4))  # depth, groups, width of a group
CIFAR = ((29, 8, 64), (29, 16, 64))

for _depth, _groups, _width in IMAGENET:
    register_network(f"resnext{_depth}_{_groups}x{_width}d")(
        partial(ResNet, DEPTHS[_depth][1], groups=_groups, base_width=_width)
    )
for _depth, _groups, _width in CIFAR:
    register_network(f"resnext{_depth}_{_groups}x{_width}d", shape=(3, 32, 32))(
        partial(
            ResNet,
            ((_depth - 2) // 9,) * 3,
            num_classes=10,
            stem="cifar",
            widths=(64, 128, 256),
            groups=_groups,
            base_width=_width,
        )
    )
