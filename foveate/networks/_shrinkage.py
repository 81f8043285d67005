"""Residual shrinkage blocks: pre-activation residual blocks with a soft threshold. doi:10.1109/TII.2019.2943898."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.attention.drsn import BiasedBatchNorm, he_truncated_
from foveate.networks._residual import PadShortcut
from foveate.networks._same_padding import tensorflow_same

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class ShrinkageBlock(nn.Module):
    """BN, ReLU, convolution, BN, ReLU, convolution, soft threshold, plus the input; no ReLU after the add.

        y = shrink(conv₂(ReLU(BN(conv₁(ReLU(BN(x))))))) + shortcut(x)

    The shortcut has no weights: every stride-th position, and zero channels before and behind (one more behind when
    the growth is odd). The convolutions have biases and TensorFlow's "same" padding; the batch norms keep the biased
    moving variance.

    Args:
        channels: C of the input.
        width: channels of the output, at least `channels`.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        kernel_size: of both convolutions, one number or one an axis; the released 1-D files run signals as
            (N, C, 1, L) under (1, 3), which is spatial_dims=1 under 3.
        stride: of the first convolution and of the shortcut.
        shrinkage: "drsn_cw", "drsn_cs", or None for the plain pre-activation block that the paper compares with.
        reduction: hidden width width // reduction of the threshold network.
        eps, momentum: of all batch norms (momentum is torch's: 1 − TensorFlow's decay).

    Shape: (N, channels, *S) → (N, width, *⌈S/stride⌉).
    Init: TFLearn's: He normal cut at two deviations, biases 0, batch-norm weights N(1, 0.002).
    Raises: ValueError: width < channels, an unknown shrinkage.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        spatial_dims: int = 2,
        kernel_size: int | Sequence[int] = 3,
        stride: int = 1,
        shrinkage: str | None = "drsn_cw",
        reduction: int = 1,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if width < channels:
            raise ValueError(
                f"ShrinkageBlock: the shortcut can only add zero channels, so width must be at least {channels};"
                f" got {width}"
            )
        if shrinkage not in ("drsn_cw", "drsn_cs", None):
            raise ValueError(f"ShrinkageBlock: shrinkage must be 'drsn_cw', 'drsn_cs' or None; got {shrinkage!r}")
        kernel = (kernel_size,) * spatial_dims if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(kernel) != spatial_dims:
            raise ValueError(f"ShrinkageBlock: kernel_size must have {spatial_dims} numbers; got {kernel_size!r}")
        self.kernel_size, self.stride = kernel, stride
        self.shortcut = PadShortcut(width - channels, stride) if width > channels or stride > 1 else None
        convolution = _CONV[spatial_dims]
        self.bn1 = BiasedBatchNorm(channels)
        self.conv1 = convolution(channels, width, kernel, stride)  # type: ignore[arg-type]
        self.bn2 = BiasedBatchNorm(width)
        self.conv2 = convolution(width, width, kernel)  # type: ignore[arg-type]
        self.shrink = (
            create_attention(shrinkage, width, spatial_dims=spatial_dims, reduction=reduction) if shrinkage else None
        )
        for module in self.modules():
            if isinstance(module, BiasedBatchNorm):
                module.eps, module.momentum = eps, momentum
        for norm in (self.bn1, self.bn2):
            nn.init.normal_(norm.weight, 1.0, 0.002)
        for layer in (self.conv1, self.conv2):
            he_truncated_(layer)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(tensorflow_same(torch.relu(self.bn1(x)), self.kernel_size, self.stride))
        y = self.conv2(tensorflow_same(torch.relu(self.bn2(y)), self.kernel_size, 1))
        y = y if self.shrink is None else self.shrink(y)
        return y + (x if self.shortcut is None else self.shortcut(x))
