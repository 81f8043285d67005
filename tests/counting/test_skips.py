"""What lateral connections keep in memory, against numbers counted by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import foveate
from foveate.counting import passes, skips

X = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class TwoLevels(nn.Module):
    """A U-Net of two levels: 4 channels at 16×16, 8 at 8×8."""

    def __init__(self, skip=True):
        super().__init__()
        self.skip = skip
        self.above, self.below = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(8 if skip else 4, 2, 1)

    def forward(self, x):
        x = F.relu(self.above(x))
        y = self.up(F.relu(self.below(F.max_pool2d(x, 2))))
        return self.out(torch.cat([x, y], 1) if self.skip else y)


def test_a_u_net_of_two_levels_keeps_its_upper_map():
    found = skips(TwoLevels(), X)
    assert [(one.made_in, one.shape, one.bytes) for one in found.maps] == [("", (1, 4, 16, 16), 4 * 16 * 16 * 4)]
    assert found.bytes == 4 * 16 * 16 * 4
    assert skips(TwoLevels(skip=False), X).bytes == 0
    assert skips(TwoLevels(), X.expand(3, -1, -1, -1)).bytes == 3 * 4 * 16 * 16 * 4


def test_without_its_skip_the_pass_gives_what_zeros_there_give():
    model = TwoLevels().eval()
    with_them, without = passes(model, X, skips(model, X))
    assert with_them() == without()
    seen = []
    model.out.register_forward_hook(lambda module, args, y: seen.append(args[0][:, :4]))
    with_them()
    without()
    assert seen[0].abs().sum() > 0
    assert seen[1].abs().sum() == 0


@pytest.mark.parametrize(
    ("name", "size", "maps"),
    [
        ("unet_small", 32, [(16, 32), (32, 16), (64, 8)]),
        ("attention_unet", 32, [(64, 32), (128, 16), (256, 8), (512, 4)]),
        ("segformer_mit_b0", 64, [(32, 16), (64, 8), (160, 4)]),
        ("resnet20", 32, []),
        ("se_resnet18", 32, []),
        ("nl_resnet50", 32, []),
    ],
)
def test_networks_keep_the_maps_that_their_decoders_read(name, size, maps):
    found = skips(foveate.create_network(name, num_classes=2), torch.randn(1, 3, size, size))
    assert [one.shape for one in found.maps] == [(1, channels, side, side) for channels, side in maps]
    assert found.bytes == sum(4 * channels * side * side for channels, side in maps)
