"""CGNet, with a squeeze-and-excitation gate in every unit: a network whose trained weights check the scores of masks.

Source: Wu, Tang, Zhang, Cao, Zhang, "CGNet: A Light-weight Context Guided Network for Semantic Segmentation", 2018,
arXiv:1811.08201. Named as the released weights are (wutianyiRosun/CGNet, CamVid, M = 3, N = 21).
"""

import torch
import torch.nn.functional as F
from torch import nn

MEAN = (105.65772, 103.329765, 99.6254)  # of 0 to 255: in the release the blue one comes first, over RGB images
EPS = 1e-3  # of all batch norms


class NormAct(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.bn, self.act = nn.BatchNorm2d(width, eps=EPS), nn.PReLU(width)

    def forward(self, x):
        return self.act(self.bn(x))


class Conv(nn.Module):
    """A convolution without bias, and as `norm` says batch norm and PReLU."""

    def __init__(self, channels, width, size, stride=1, dilation=1, groups=1, norm=False):
        super().__init__()
        padding = size // 2 * dilation
        self.conv = nn.Conv2d(channels, width, size, stride, padding, dilation, groups, bias=False)
        if norm:
            self.bn, self.act = nn.BatchNorm2d(width, eps=EPS), nn.PReLU(width)
        self.norm = norm

    def forward(self, x):
        x = self.conv(x)
        return self.act(self.bn(x)) if self.norm else x


class Gate(nn.Module):
    def __init__(self, width, reduction):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(width, width // reduction), nn.ReLU(), nn.Linear(width // reduction, width), nn.Sigmoid()
        )

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class Unit(nn.Module):
    """What lies here and what lies around, side by side, gated by what the whole image holds."""

    def __init__(self, width, dilation, reduction):
        super().__init__()
        half = width // 2
        self.conv1x1 = Conv(width, half, 1, norm=True)
        self.F_loc, self.F_sur = Conv(half, half, 3, groups=half), Conv(half, half, 3, dilation=dilation, groups=half)
        self.bn_prelu, self.F_glo = NormAct(width), Gate(width, reduction)

    def forward(self, x):
        y = self.conv1x1(x)
        return x + self.F_glo(self.bn_prelu(torch.cat([self.F_loc(y), self.F_sur(y)], 1)))


class Down(nn.Module):
    """The same at half the size, without the sum."""

    def __init__(self, channels, width, dilation, reduction):
        super().__init__()
        self.conv1x1 = Conv(channels, width, 3, stride=2, norm=True)
        self.F_loc, self.F_sur = Conv(width, width, 3, groups=width), Conv(width, width, 3, 1, dilation, groups=width)
        self.bn, self.act = nn.BatchNorm2d(2 * width, eps=EPS), nn.PReLU(2 * width)
        self.reduce, self.F_glo = Conv(2 * width, width, 1), Gate(width, reduction)

    def forward(self, x):
        y = self.conv1x1(x)
        return self.F_glo(self.reduce(self.act(self.bn(torch.cat([self.F_loc(y), self.F_sur(y)], 1)))))


class CGNet(nn.Module):
    """(N, 3, H, W), RGB from 0 to 255 less `MEAN` → logits (N, num_classes, ⌈H / 8⌉, ⌈W / 8⌉)."""

    def __init__(self, num_classes, shallow=3, deep=21):
        super().__init__()
        self.level1_0, self.level1_1, self.level1_2 = (
            Conv(channels, 32, 3, stride, norm=True) for channels, stride in ((3, 2), (32, 1), (32, 1))
        )
        self.b1 = NormAct(32 + 3)
        self.level2_0 = Down(32 + 3, 64, 2, 8)
        self.level2 = nn.ModuleList(Unit(64, 2, 8) for _ in range(shallow - 1))
        self.bn_prelu_2 = NormAct(128 + 3)
        self.level3_0 = Down(128 + 3, 128, 4, 16)
        self.level3 = nn.ModuleList(Unit(128, 4, 16) for _ in range(deep - 1))
        self.bn_prelu_3 = NormAct(256)
        self.classifier = nn.Sequential(Conv(256, num_classes, 1))

    def forward(self, x):
        half = F.avg_pool2d(x, 3, 2, 1)
        quarter = F.avg_pool2d(half, 3, 2, 1)
        y = self.level1_2(self.level1_1(self.level1_0(x)))
        first = y = self.level2_0(self.b1(torch.cat([y, half], 1)))
        for unit in self.level2:
            y = unit(y)
        first = y = self.level3_0(self.bn_prelu_2(torch.cat([y, first, quarter], 1)))
        for unit in self.level3:
            y = unit(y)
        return self.classifier(self.bn_prelu_3(torch.cat([first, y], 1)))
