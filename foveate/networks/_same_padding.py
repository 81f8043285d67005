"""TensorFlow's "same" padding, which networks trained there need."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def tensorflow_same(x: Tensor, kernel_size: Sequence[int], stride: int) -> Tensor:
    """Zeros around x so that a convolution gives ⌈side/stride⌉: an odd one goes behind, as TensorFlow has it.

    With stride 2, kernel 3 and an even side that is one zero behind and none before, where padding=1 would shift the
    result by a position.
    """
    pad: list[int] = []
    for side, kernel in zip(reversed(x.shape[2:]), reversed(kernel_size), strict=True):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pad += [total // 2, total - total // 2]
    return F.pad(x, pad)


class SameConv2d(nn.Conv2d):
    """A convolution under `tensorflow_same` padding; square stride, no padding of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(tensorflow_same(input, self.kernel_size, self.stride[0]))
