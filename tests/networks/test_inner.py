"""Widths inside a network: found by what happens to the channels, widened alone, at the cost that was told."""

import pytest
import torch
from torch import nn

from foveate.networks import build_network, extra_layers, grew_by, inner_widths
from foveate.networks._widen import widened_layers

X = torch.zeros(1, 3, 32, 32, device="meta")


class Odd(nn.Module):
    """Of its five convolutions one has an inner width, and that passes a depthwise one."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)  # added to
        self.grow = nn.Conv2d(8, 12, 1)  # inner
        self.each = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.shrink = nn.Conv2d(12, 8, 1)  # added
        self.halves = nn.Conv2d(8, 6, 1)  # cut in two
        self.fc = nn.Linear(3, 10)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = x + self.shrink(torch.relu(self.norm(self.each(self.grow(x)))))
        one, two = self.halves(x).chunk(2, 1)
        return self.fc((one * two).mean((2, 3)))


def test_only_what_nothing_else_reads_is_inner():
    (width,) = inner_widths(Odd, X)
    assert width.channels == 12
    assert [number for number, *_ in width.layers] == [1, 2, 3, 4]
    assert width.parameters == (8 + 1) + 9 + 2 + 8
    assert width.macs == (8 + 9 + 8) * 32 * 32
    with widened_layers({number: (taken, given) for number, taken, given in extra_layers([width], [5])}):
        wider = Odd()
    assert (wider.grow.out_channels, wider.each.groups, wider.norm.num_features, wider.stem.out_channels) == (
        *(17, 17, 17),
        8,
    )
    assert wider(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    assert grew_by(Odd(), wider, [width], [5])
    assert not grew_by(Odd(), wider, [width], [4])


@pytest.mark.parametrize(
    ("name", "count"), [("foveate:resnet8", 3), ("timm:convnext_atto", 12), ("foveate:unet_small", 7)]
)
def test_blocks_of_many_families_have_one(name, count):
    def build():
        return build_network(name, num_classes=4)

    widths = inner_widths(build, X)
    assert len(widths) == count
    more = list(range(1, count + 1))
    with widened_layers({number: (taken, given) for number, taken, given in extra_layers(widths, more)}):
        wider = build().eval()
    assert wider(torch.randn(1, 3, 32, 32)).isfinite().all()
    assert grew_by(build(), wider, widths, more)
