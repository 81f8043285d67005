"""Pre-activation ResNets. arXiv:1603.05027."""

from functools import partial

from foveate.networks._registry import register_network
from foveate.networks.resnet import DEPTHS, ResNet

CIFAR = (20, 56, 110, 164)

for _depth, (_block, _blocks) in DEPTHS.items():
    register_network(f"preact_resnet{_depth}")(partial(ResNet, _blocks, block=f"preact-{_block}"))
for _depth in CIFAR:
    _bottleneck = _depth == 164  # 9n + 2 layers; the others have 6n + 2
    register_network(f"preact_resnet{_depth}", shape=(3, 32, 32))(
        partial(
            ResNet,
            ((_depth - 2) // (9 if _bottleneck else 6),) * 3,
            num_classes=10,
            block="preact-bottleneck" if _bottleneck else "preact-basic",
            stem="cifar",
            widths=(16, 32, 64),
            shortcut="projection" if _bottleneck else "pad",
        )
    )
