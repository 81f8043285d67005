"""U-MixFormer-B0 as released, written down plainly from its definition, for `segmentation.py` to compare with.

Every map of pairs is stored, the decoder's maps are resized before they are fused, and what the released code computes
and drops is computed. The tensors have the released names, so that `foveate.official` reads them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS, HEADS, REDUCTIONS = (32, 64, 160, 256), (1, 2, 5, 8), (8, 4, 2, 1)  # of MiT-B0
EPS = 1e-6  # of MiT's norms, as in mmseg


def as_map(tokens: Tensor, size: Sequence[int]) -> Tensor:
    """(N, H·W, C) → (N, C, H, W)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *size).contiguous()


def as_tokens(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, H·W, C)."""
    return x.flatten(2).transpose(1, 2).contiguous()


def mixed(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q kᵀ / √d) v in each head, with the map of pairs."""
    n, p, c = q.shape
    q, k, v = (t.reshape(n, -1, heads, c // heads).permute(0, 2, 1, 3) for t in (q, k, v))
    weights = ((q @ k.transpose(-2, -1)) * (c // heads) ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).reshape(n, p, c)


class PackedAttention(nn.Module):
    """Weights of queries, keys and values in one tensor."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * 0.1)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (F.linear(t, w, b) for t, w, b in zip((x, y, y), weights, biases, strict=True))
        return self.out_proj(mixed(q, k, v, self.heads))


class ReducedAttention(nn.Module):
    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.attn = PackedAttention(width, heads)
        self.reduction = reduction
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, reduction)
            self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        y = x
        if self.reduction > 1:
            y = self.norm(as_tokens(self.sr(as_map(x, size))))
        return self.attn(x, y)


class EncoderFeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.layers = nn.Sequential(
            nn.Conv2d(width, hidden, 1), depthwise, nn.GELU(), nn.Dropout(0.0), nn.Conv2d(hidden, width, 1)
        )

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return as_tokens(self.layers(as_map(x, size)))


class EncoderBlock(nn.Module):
    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attn = ReducedAttention(width, heads, reduction)
        self.ffn = EncoderFeedForward(width, 4 * width)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        x = x + self.attn(self.norm1(x), size)
        return x + self.ffn(self.norm2(x), size)


class Embedding(nn.Module):
    def __init__(self, channels: int, width: int, size: int, stride: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, size, stride, size // 2)
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor) -> tuple[Tensor, Sequence[int]]:
        x = self.projection(x)
        return self.norm(as_tokens(x)), x.shape[2:]


class Encoder(nn.Module):
    """MiT-B0: an image → four maps, shallow to deep."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for i, (before, width) in enumerate(zip((3, *WIDTHS[:-1]), WIDTHS, strict=True)):
            blocks = nn.ModuleList(EncoderBlock(width, HEADS[i], REDUCTIONS[i]) for _ in range(2))
            embed = Embedding(before, width, 3 if i else 7, 2 if i else 4)
            self.layers.append(nn.ModuleList([embed, blocks, nn.LayerNorm(width, eps=EPS)]))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for embed, blocks, norm in self.layers:  # type: ignore[misc]
            x, size = embed(x)
            for block in blocks:
                x = block(x, size)
            x = as_map(norm(x), size)
            maps.append(x)
        return maps


class PooledKeys(nn.Module):
    """Four maps, deep to shallow, averaged to the deepest grid, a 1×1 convolution for each but the first."""

    def __init__(self, widths: Sequence[int], ratios: Sequence[int]) -> None:
        super().__init__()
        self.ratios = ratios
        self.sr_list = nn.ModuleList(
            nn.Conv2d(width, width, 1) for width, ratio in zip(widths, ratios, strict=True) if ratio > 1
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        found, layers = [], iter(self.sr_list)
        for x, ratio in zip(maps, self.ratios, strict=True):
            found.append(next(layers)(F.avg_pool2d(x, ratio, ratio, ceil_mode=True)) if ratio > 1 else x)
        return as_tokens(torch.cat(found, 1))


class CrossAttention(nn.Module):
    def __init__(self, width: int, total: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(total, 2 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.sr = nn.Conv2d(total, total, 1)  # never run
        self.norm = nn.LayerNorm(total)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.norm(y)  # dropped
        k, v = self.kv(F.gelu(y)).chunk(2, -1)
        return self.proj(mixed(self.q(x), k, v, self.heads))


class DepthwiseConvolution(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return as_tokens(self.dwconv(as_map(x, size)))


class DecoderFeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dwconv = DepthwiseConvolution(hidden)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return self.fc2(F.gelu(self.dwconv(self.fc1(x), size)))


class DecoderBlock(nn.Module):
    def __init__(self, width: int, total: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(total), nn.LayerNorm(width)
        self.attn = CrossAttention(width, total, heads)
        self.mlp = DecoderFeedForward(width, 4 * width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        size = x.shape[2:]
        x, y = self.norm1(as_tokens(x)), self.norm2(y)
        x = self.norm3(x + self.attn(x, y))
        return as_map(x + self.mlp(x, size), size)


class Fusion(nn.Module):
    def __init__(self, total: int, embed: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(total, embed, 1, bias=False), nn.BatchNorm2d(embed)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Decoder(nn.Module):
    """The released decoder for ADE20K: four maps, shallow to deep → logits at a quarter of the image."""

    def __init__(self, num_classes: int, embed: int = 128, unused: int = 256) -> None:
        super().__init__()
        deep, total = WIDTHS[::-1], sum(WIDTHS)
        for i, (width, heads) in enumerate(zip(deep, HEADS[::-1], strict=True)):
            setattr(self, f"attn_c{4 - i}", DecoderBlock(width, total, heads))
            setattr(self, f"cat_key{i + 1}", PooledKeys(deep, (1, 2, 4, 8)))
        self.linear_fuse = Fusion(total, embed)
        self.linear_pred = nn.Conv2d(embed, num_classes, 1)
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(unused, num_classes, 1)  # never run

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        e1, e2, e3, e4 = maps
        d4 = self.attn_c4(e4, self.cat_key1([e4, e3, e2, e1]))
        d3 = self.attn_c3(e3, self.cat_key2([d4, e3, e2, e1]))
        d2 = self.attn_c2(e2, self.cat_key3([d4, d3, e2, e1]))
        d1 = self.attn_c1(e1, self.cat_key4([d4, d3, d2, e1]))
        wide = [F.interpolate(d, e1.shape[2:], mode="bilinear", align_corners=False) for d in (d4, d3, d2)]
        return self.linear_pred(self.dropout(self.linear_fuse(torch.cat([*wide, d1], 1))))


class UMixFormerB0(nn.Module):
    """An image (N, 3, H, W) → logits (N, num_classes, ⌈H / 4⌉, ⌈W / 4⌉)."""

    def __init__(self, num_classes: int = 150) -> None:
        super().__init__()
        self.backbone, self.decode_head = Encoder(), Decoder(num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode_head(self.backbone(x))
