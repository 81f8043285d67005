"""Deep residual shrinkage networks for vibration signals, and a small one for CIFAR. doi:10.1109/TII.2019.2943898."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from foveate.attention.drsn import BiasedBatchNorm, he_truncated_
from foveate.networks._registry import register_network
from foveate.networks._same_padding import tensorflow_same
from foveate.networks._shrinkage import ShrinkageBlock

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BLOCKS = (6, 9, 12)  # of the released 1-D networks


class ShrinkageNetwork(nn.Module):
    """A convolution, stages of shrinkage blocks, batch norm, ReLU, a global mean, a linear layer.

    Everything is padded as TensorFlow's "same"; shortcuts have no weights.

    Args:
        num_classes: of the linear layer.
        shrinkage: "drsn_cw", "drsn_cs", or None for the plain pre-activation network they are compared with.
        spatial_dims: 1 for signals (N, C, L), 2 for images, 3 for volumes.
        in_channels: of the signal or image.
        stem: width of the first convolution.
        stem_stride: of the first convolution.
        stages: of each stage its width, the stride of its first block, and its blocks.
        reduction: hidden width of the threshold networks is the block's width // reduction.

    Shape: (N, in_channels, *S) → (N, num_classes), for any S. In training N is at least 2, for the threshold networks'
        batch norms.
    Source: Zhao, Zhong, Fu, Tang, Pecht, "Deep Residual Shrinkage Networks for Fault Diagnosis", IEEE Transactions on
        Industrial Informatics 16(7), 2020. Departures: none of the released files'; logits come out, not softmax.
    Init: TFLearn's: He normal cut at two deviations, biases 0, batch-norm weights N(1, 0.002).
    Raises: ValueError: a stage that is narrower than the one before, an unknown shrinkage.
    """

    def __init__(
        self,
        num_classes: int = 8,
        *,
        shrinkage: str | None = "drsn_cw",
        spatial_dims: int = 1,
        in_channels: int = 1,
        stem: int = 4,
        stem_stride: int = 2,
        stages: Sequence[tuple[int, int, int]] = ((4, 2, 4), (8, 2, 4), (16, 2, 4)),
        reduction: int = 1,
    ) -> None:
        super().__init__()
        if spatial_dims not in _CONV:
            raise ValueError(f"spatial_dims must be 1, 2 or 3; got {spatial_dims!r}")
        self.spatial_dims, self.in_channels = spatial_dims, in_channels
        convolution = _CONV[spatial_dims]
        self.conv1 = convolution(in_channels, stem, 3, stem_stride)
        channels = stem
        made = []
        for width, stride, repeats in stages:
            blocks = []
            for index in range(repeats):
                block = ShrinkageBlock(
                    channels,
                    width,
                    spatial_dims=spatial_dims,
                    stride=1 if index else stride,
                    shrinkage=shrinkage,
                    reduction=reduction,
                )
                blocks.append(block)
                channels = width
            made.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*made)
        self.norm = BiasedBatchNorm(channels)
        self.fc = nn.Linear(channels, num_classes)
        nn.init.normal_(self.norm.weight, 1.0, 0.002)
        he_truncated_(self.conv1)
        he_truncated_(self.fc)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            wanted = ", ".join("DHW"[-self.spatial_dims :] if self.spatial_dims > 1 else "L")
            raise ValueError(f"drsn: wanted (N, {self.in_channels}, {wanted}); got shape {tuple(x.shape)}")
        x = self.conv1(tensorflow_same(x, self.conv1.kernel_size, self.conv1.stride[0]))
        x = torch.relu(self.norm(self.stages(x)))
        return self.fc(x.flatten(2).mean(2))


def _signals(blocks: int) -> tuple[tuple[int, int, int], ...]:
    return tuple((width, 2, blocks // 3) for width in (4, 8, 16))


CIFAR_STAGES = ((16, 1, 1), (32, 2, 1), (32, 2, 1))
for _name, _shrinkage in (("drsn_cs", "drsn_cs"), ("drsn_cw", "drsn_cw"), ("drsn_plain", None)):
    for _blocks in BLOCKS:
        register_network(f"{_name}_1d_{_blocks}", shape=(1, 2048))(
            partial(ShrinkageNetwork, shrinkage=_shrinkage, stages=_signals(_blocks))
        )
    register_network(f"{_name}_cifar", shape=(3, 32, 32))(
        partial(
            ShrinkageNetwork,
            num_classes=10,
            shrinkage=_shrinkage,
            spatial_dims=2,
            in_channels=3,
            stem=16,
            stem_stride=1,
            stages=CIFAR_STAGES,
            reduction=4 if _shrinkage == "drsn_cw" else 1,
        )
    )
