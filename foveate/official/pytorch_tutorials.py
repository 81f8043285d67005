"""The spatial transformer of PyTorch's tutorials (pytorch/tutorials); DeepMind released no code."""

from collections.abc import Sequence

from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.attention.stn import affine_sample
from foveate.networks.stn import TutorialNet
from foveate.official._conversions import official

SOURCE = "pytorch/tutorials"


class AffineSampler(nn.Module):
    """`affine_sample` as a module of two inputs, the map and theta."""

    def __init__(self, align_corners: bool, padding_mode: str, size: Sequence[int] | None) -> None:
        super().__init__()
        self.align_corners, self.padding_mode, self.size = align_corners, padding_mode, size

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        return affine_sample(x, theta, self.size, self.align_corners, self.padding_mode)


@official(SOURCE, "affine_grid+grid_sample")
def sampler(
    align_corners: bool = False, padding_mode: str = "zeros", out_size: Sequence[int] | None = None
) -> tuple[nn.Module, dict[str, str]]:
    """`out_size` is (H, W), or (N, C, H, W) as torch's affine_grid takes it."""
    size = None if out_size is None else tuple(out_size)[2 if len(out_size) > 3 else 0 :]
    return AffineSampler(align_corners, padding_mode, size), {}


@official(SOURCE, "Net.stn")
def tutorial(align_corners: bool = False) -> tuple[nn.Module, dict[str, str]]:
    module = create_attention("stn", 1, align_corners=align_corners, conv_padding="valid")
    return module, {"localization": "localisation", "fc_loc": "regression"}


@official(SOURCE, "Net")
def network(align_corners: bool = False) -> tuple[nn.Module, dict[str, str]]:
    """The whole digits network; its log-softmax is left to the loss."""
    parts = {"localization": "stn.localisation", "fc_loc": "stn.regression"}
    return TutorialNet(align_corners=align_corners), parts
