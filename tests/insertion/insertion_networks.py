"""Networks and attentions of the insertion tests: real ones made lively, and hand-written ones."""

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn


def lively(model: nn.Module) -> nn.Module:
    """Random norms, so that no residual branch is silent (timm starts the last norm of each at zero)."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.LayerNorm):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (getattr(module, "running_mean", None), -0.5, 0.5),
                (getattr(module, "running_var", None), 0.5, 1.5),
            ):
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=generator)
    for name, weight in model.named_parameters():
        if name.endswith("gamma") or "layer_scale" in name:
            weight.data.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


class Gate(nn.Module):
    """A user's own attention: gates with weights, a norm with statistics, and far from the identity."""

    def __init__(self, channels: int, *, spatial_dims: int = 2, bias: float = -1.0) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[spatial_dims - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[spatial_dims - 1]
        self.norm = norm(channels)
        self.weigh = conv(channels, channels, 1, groups=channels)
        self.bias = nn.Parameter(torch.full((1,), bias))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.weigh(self.norm(x)) + self.bias)


class ZeroGamma(nn.Module):
    """Says that it starts as the identity; ``gamma`` decides whether that is true."""

    starts_as_identity = True

    def __init__(self, channels: int, *, gamma: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.tensor(gamma))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.conv(x)


class Block(nn.Module):
    """A basic block that adds in the way it is told to."""

    def __init__(self, inputs: int, outputs: int, stride: int, add: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.drop = nn.Dropout(0.1)
        self.relu = nn.ReLU(inplace=True)
        changes = stride > 1 or inputs != outputs
        self.short = nn.Conv2d(inputs, outputs, 1, stride) if changes else nn.Identity()
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.drop(self.norm2(self.conv2(y)))
        if self.add == "torch.add":
            y = torch.add(self.short(x), y)
        elif self.add == "in place":
            y += self.short(x)
        elif self.add == "method":
            y = y.add_(self.short(x))
        else:
            y = self.short(x) + y
        return self.relu(y)


class HandWritten(nn.Module):
    """A small residual network; its stages are lists that the forward pass walks through."""

    def __init__(self, add: str = "plus") -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.stage1 = nn.ModuleList([Block(8, 8, 1, add), Block(8, 8, 1, add)])
        self.stage2 = nn.Sequential(Block(8, 16, 2, add), Block(16, 16, 1, add))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.stage1:
            x = block(x)
        return self.head(self.stage2(x).mean((2, 3)))


class Functional(nn.Module):
    """Everything in one forward pass: functional activations, scaling of the branch, a projection with a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a1, self.a2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.a3, self.b1 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)
        self.b2, self.short = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(8, 16, 1, 2)
        self.norm = nn.BatchNorm2d(16)
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a1(x))
        x = F.relu(x + self.scale * self.a3(F.relu(self.a2(x))))
        y = self.b2(F.relu(self.b1(x)))
        y += F.batch_norm(self.short(x), None, None, training=True)
        return self.head(F.adaptive_avg_pool2d(F.relu(self.norm(y)), 1).flatten(1))


class Plain(nn.Module):
    """Convolutions with functional activations and one pool used twice: no residual branch, no block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        return self.relu3(self.conv3(x)).mean((2, 3))


class Decoder(nn.Module):
    """Residual blocks and a pyramid that adds across resolutions, which closes no residual branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one, self.two = Block(8, 8, 1, "plus"), Block(8, 16, 2, "plus")
        self.lateral, self.top = nn.Conv2d(8, 4, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(self.stem(x))
        two = self.two(one)
        return self.lateral(one) + F.interpolate(self.top(two), scale_factor=2)


class Attending(nn.Module):
    """``out_proj`` of MultiheadAttention is never called: its weights are read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.conv(x).flatten(2).mT
        return self.attend(tokens, tokens, tokens)[0]


class Heads(nn.Module):
    """(N, L, C) to (N, heads, L, C / heads)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (2, x.shape[2] // 2)).transpose(1, 2)


class Mix(nn.Module):
    """Self-attention written out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = Heads()
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.heads(x)
        return self.out(F.scaled_dot_product_attention(y, y, y).transpose(1, 2).flatten(2)) * 0.5


class TokenBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.mix = Mix(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 20), nn.GELU(), nn.Linear(20, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(self.norm1(x))
        return self.mlp(self.norm2(x)) + x


class Tokens(nn.Module):
    """Patches cut by a convolution, a class token before them, two blocks in a list; may drop some tokens."""

    def __init__(self, drop: int = 0) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 8, 8)
        self.first = nn.Parameter(torch.zeros(1, 1, 12))
        self.blocks = nn.ModuleList([TokenBlock(12), TokenBlock(12)])
        self.head = nn.Linear(12, 3)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        if self.drop:
            x = F.interpolate(x, size=64)
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1)
        x = x[:, self.drop :]
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class SequenceFirst(nn.Module):
    """Tokens (L, N, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.mix = nn.Conv2d(3, 12, 2, 2), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).permute(2, 0, 1)
        return (x + self.mix(x)).mean(0)


X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def resnet() -> nn.Module:
    return lively(torchvision.models.resnet18(weights=None, num_classes=7))


def everything(model: nn.Module) -> list[object]:
    """All that must be the same again after removal."""
    return [
        (name, type(m), m.training, sorted(vars(m)), *(list(getattr(m, k)) for k in vars(m) if k.endswith("hooks")))
        for name, m in model.named_modules()
    ]
