"""U-MixFormer: a decoder in which each map attends to one grid that all stages are pooled to. arXiv:2312.06272."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import LazyAffinity, record
from foveate.kernels import attend, attention_weights
from foveate.networks._registry import register_network
from foveate.networks._segmentation import ADE20K, PHOTO, build, fused, register_pairs, resized
from foveate.networks._transformer import DropPath, Map, MixFeedForward, check_heads, start

FORMS = ("ade20k", "cityscapes")
VARIANTS = ("clean", "official", "paper")
SOURCES = ("mix", "cross", "self")
HEADS = (8, 5, 2, 1)  # deep to shallow
RATIOS = (1, 2, 4, 8)  # deep to shallow
ENCODERS = {  # encoder: channels of the fused map in the released configurations of each form
    "mit_b0": {"ade20k": 128, "cityscapes": 128},
    "mit_b1": {"ade20k": 128, "cityscapes": 128},
    "mit_b2": {"ade20k": 768, "cityscapes": 768},
    "mit_b3": {"ade20k": 768, "cityscapes": 128},
    "mit_b4": {"ade20k": 768, "cityscapes": 128},
    "mit_b5": {"ade20k": 768, "cityscapes": 128},
    **{name: {"ade20k": 128, "cityscapes": 128} for name in ("lvt", "mscan_t", "mscan_s", "mscan_b", "mscan_l")},
}

Tokens = Float[Tensor, "n p c"]


class PooledStages(nn.Module):
    """Maps of several stages averaged down to the grid of the deepest, and put side by side.

    Args:
        channels: widths of the maps, deep to shallow.
        ratios: what the sides of each map are divided by (rounded up). A map with ratio 1 is handed through as it is;
            the others pass a 1×1 convolution of their own after it.

    Shape: maps (N, C_j, H_j, W_j), deep to shallow → (N, ΣC_j, H, W).
    Init: torch's default.
    Raises: ValueError: maps of another number, or that do not end on one grid.
    """

    def __init__(self, channels: Sequence[int], *, ratios: Sequence[int] = (1, 2, 4, 8)) -> None:
        super().__init__()
        if len(channels) != len(ratios) or min(ratios, default=0) < 1:
            raise ValueError(
                f"PooledStages: wanted a positive ratio for each of {len(channels)} maps; got ratios={tuple(ratios)}"
            )
        self.ratios = tuple(ratios)
        pooled = (width for width, ratio in zip(channels, ratios, strict=True) if ratio > 1)
        self.align = nn.ModuleList(nn.Conv2d(width, width, 1) for width in pooled)

    def forward(self, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> Float[Tensor, "n t h w"]:
        if len(maps) != len(self.ratios):
            raise ValueError(f"PooledStages: wanted {len(self.ratios)} maps, deep to shallow; got {len(maps)}")
        return self.mix([averaged(x, ratio) for x, ratio in zip(maps, self.ratios, strict=True)])

    def mix(self, pooled: Sequence[Float[Tensor, "n _ _ _"]]) -> Float[Tensor, "n t h w"]:
        """Of maps that are averaged already."""
        layers = iter(self.align)
        pooled = [next(layers)(x) if ratio > 1 else x for x, ratio in zip(pooled, self.ratios, strict=True)]
        if any(x.shape[2:] != pooled[0].shape[2:] for x in pooled):
            got = ", ".join("×".join(map(str, x.shape[2:])) for x in pooled)
            raise ValueError(f"PooledStages: with ratios {self.ratios} the maps must end on one grid; got {got}")
        return torch.cat(pooled, 1)


def averaged(x: Map, ratio: int) -> Map:
    """The means of windows of ratio × ratio; those at the lower and right border may be smaller."""
    return F.avg_pool2d(x, ratio, ratio, ceil_mode=True) if ratio > 1 else x


class MixAttention(nn.Module):
    """Tokens of one map attend to tokens of all stages: W_o softmax(q kᵀ / √d) v, q = W_q x, [k, v] = W_kv GELU(y).

    Args:
        channels: C of the queries and of what comes out.
        mixed: T, width of the tokens that are attended to.
        heads: must divide C; each is d = C / heads wide.
        bias: biases of W_q and W_kv.

    Shape: x (N, P, C), y (N, K, T) → (N, P, C). Affinity rows on demand, means of the heads: (N, queries, K); `size`
        is the grid of x, if it has one, that queries are counted on.
    Cost: 2·C² + 2·C·T + C weights and P·K pairs of 2·C multiply-adds; no P×K map is stored, forward or backward.
    Init: truncated normal 0.02, biases 0.
    Raises: ValueError: heads that do not divide C.

    Source: Yeom, von Klitzing, "U-MixFormer: UNet-like Transformer with Mix-Attention for Efficient Semantic
        Segmentation", WACV 2025, arXiv:2312.06272. The released class also makes a layer norm of y that it then drops,
        and owns a convolution that it never runs; neither is here.
    """

    def __init__(self, channels: int, mixed: int, *, heads: int, bias: bool = False) -> None:
        super().__init__()
        check_heads("MixAttention", channels, heads)
        self.heads = heads
        self.query = nn.Linear(channels, channels, bias=bias)
        self.key_value = nn.Linear(mixed, 2 * channels, bias=bias)
        self.out = nn.Linear(channels, channels)
        start(self)

    def forward(self, x: Tokens, y: Tokens, size: Sequence[int] | None = None) -> Tokens:
        queries = self.query(x)
        keys, values = self.key_value(F.gelu(y)).chunk(2, -1)
        grid = x.shape[1:2] if size is None else size
        record(self, affinity=LazyAffinity(grid, lambda at: attention_weights(queries[:, at], keys, heads=self.heads)))
        return self.out(attend(queries, keys, values, heads=self.heads))

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


class HalfMixAttention(MixAttention):
    """Mix-attention whose queries are computed on half the grid: the form of the released Cityscapes networks.

        q = W_q GELU(LN(W x̄)),  [k, v] = W_kv GELU(LN(y)),  W_o softmax(q kᵀ / √d) v resized to the grid of x

    x̄ are the means of 2×2 windows; an odd side is continued by its last row or column.

    Shape: x (N, H·W, C), y (N, K, T), size (H, W) → (N, H·W, C).
    """

    def __init__(self, channels: int, mixed: int, *, heads: int, bias: bool = False) -> None:
        super().__init__(channels, mixed, heads=heads, bias=bias)
        self.align = nn.Conv2d(channels, channels, 1)
        self.of_aligned = nn.LayerNorm(channels)
        self.of_mixed = nn.LayerNorm(mixed)
        start(self)

    def forward(self, x: Tokens, y: Tokens, size: Sequence[int] | None = None) -> Tokens:
        if size is None:
            raise ValueError("HalfMixAttention: wanted the size (H, W) of x; got None")
        half = self.align(averaged(x.unflatten(1, tuple(size)).movedim(-1, 1), 2))
        grid = half.shape[2:]
        queries = F.gelu(self.of_aligned(half.flatten(2).mT))
        found = super().forward(queries, self.of_mixed(y), grid).unflatten(1, grid).movedim(-1, 1)
        whole = F.interpolate(found, scale_factor=2, mode="bilinear", align_corners=False)
        return whole[..., : size[0], : size[1]].flatten(2).mT


class ReleasedHalfMixAttention(HalfMixAttention):
    """As released: queries of the whole grid are computed too and dropped; the published multiply-adds have them."""

    def forward(self, x: Tokens, y: Tokens, size: Sequence[int] | None = None) -> Tokens:
        self.query(x)
        return super().forward(x, y, size)


class MixBlock(nn.Module):
    """Mix-attention and a feed-forward network, each beside the normalised tensor that it is made of.

        x₁ = LN(x);  a = x₁ + MixAttention(x₁, LN(y));  b = LN(a);  out = b + FeedForward(b)
        with norms="paper":  b = LN(x) + LN(MixAttention(x, LN(y)))

    Args:
        channels, mixed, heads, bias: as `MixAttention` has them.
        ratio: of the feed-forward network's width to C.
        drop_path: how often, in training, a sample goes without a sum's second term.
        attention: makes the attention, as `MixAttention` is made.
        norms: "official" or "paper".

    Shape: x (N, H·W, C), y (N, K, T), size (H, W) of x → (N, H·W, C).
    Source: as `MixAttention`. The paper normalises the attention's result and attends with x itself, the released code
        normalises the sum and attends with LN(x).
    """

    def __init__(
        self,
        channels: int,
        mixed: int,
        *,
        heads: int,
        ratio: float = 4,
        bias: bool = False,
        drop_path: float = 0.1,
        attention: Callable[..., nn.Module] = MixAttention,
        norms: str = "official",
    ) -> None:
        super().__init__()
        self.of_queries = nn.LayerNorm(channels)
        self.of_mixed = nn.LayerNorm(mixed)
        self.of_sum = nn.LayerNorm(channels)
        self.attention = attention(channels, mixed, heads=heads, bias=bias)
        self.forward_network = MixFeedForward(channels, int(channels * ratio))
        self.drop_path = DropPath(drop_path)
        self.norms = norms

    def forward(self, x: Tokens, y: Tensor, size: Sequence[int]) -> Tokens:
        normed, y = self.of_queries(x), self.of_mixed(y)
        if self.norms == "paper":
            b = normed + self.drop_path(self.of_sum(self.attention(x, y, size)))
        else:
            b = self.of_sum(normed + self.drop_path(self.attention(normed, y, size)))
        return b + self.drop_path(self.forward_network(b, size))


class UMixFormerDecoder(nn.Module):
    """Four blocks, deep to shallow, each for one map of the encoder; their results are fused at the largest size.

    The queries of a block are a map of the encoder. Its keys and values are the maps of all four stages, averaged to
    the grid of the deepest and put side by side, in which the results of the blocks before stand for the encoder's.

    Args:
        widths: channels of the encoder's maps, shallow to deep.
        num_classes: channels of the output.
        form: "ade20k", or "cityscapes": keys and values on half that grid, queries on half their own.
        variant: "clean" (default), "official": as released, with the weights that it owns and never uses, so that its
            checkpoints load, a fusion of maps that are resized first and, in "cityscapes", queries that are dropped
            (the same outputs, more arithmetic: that of the published counts), or "paper": norms where the paper has
            them (see `MixBlock`).
        kv: whose keys and values: "mix" (all stages), "cross" (the result of the block before; the deepest its own
            map), "self" (the block's own map), all on the same grid. The paper compares these; what it feeds the last
            two is our reading.
        embed: channels of the fused map.
        unused: with "official": inputs of the classifier that is never used.
        heads: of the blocks, deep to shallow. None: 8, 5, 2, 1, each lowered to a divisor of its width.
        ratios: what the sides of the maps are divided by, deep to shallow; "cityscapes" doubles them.
        drop_path, dropout: probabilities, in training.

    Shape: four maps (N, widths[i], ⌈H / s⌉, ⌈W / s⌉), s = 4, 8, 16, 32 → (N, num_classes, ⌈H / 4⌉, ⌈W / 4⌉).
    Init: blocks as `MixAttention`; convolutions that align, fuse and classify torch's default.
    Source: as `MixAttention`.
    Raises: ValueError: unknown values; heads that do not divide a width; maps that do not end on one grid.
    """

    def __init__(
        self,
        widths: Sequence[int],
        num_classes: int,
        *,
        form: str = "ade20k",
        variant: str = "clean",
        kv: str = "mix",
        embed: int = 128,
        heads: Sequence[int] | None = None,
        ratios: Sequence[int] = RATIOS,
        drop_path: float = 0.1,
        dropout: float = 0.1,
        unused: int = 256,
    ) -> None:
        super().__init__()
        for option, value, known in (("form", form, FORMS), ("variant", variant, VARIANTS), ("kv", kv, SOURCES)):
            if value not in known:
                raise ValueError(f"umixformer: {option} must be one of {', '.join(map(repr, known))}; got {value!r}")
        deep = tuple(widths)[::-1]
        if heads is None:
            heads = [divisor(width, most) for width, most in zip(deep, HEADS, strict=True)]
        if not len(deep) == len(heads) == len(ratios) == 4:
            raise ValueError(f"umixformer: wanted four widths, heads and ratios; got {widths}, {heads}, {ratios}")
        self.variant, self.kv = variant, kv
        self.ratios = tuple(ratio * (2 if form == "cityscapes" else 1) for ratio in ratios)
        attention: type[MixAttention] = MixAttention
        if form == "cityscapes":
            attention = ReleasedHalfMixAttention if variant == "official" else HalfMixAttention
        self.pooled, self.blocks = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(deep):
            read = self._read_by(i)
            self.pooled.append(PooledStages([deep[j] for j in read], ratios=[self.ratios[j] for j in read]))
            block = MixBlock(
                width,
                sum(deep[j] for j in read),
                heads=heads[i],
                drop_path=drop_path,
                attention=attention,
                norms="paper" if variant == "paper" else "official",
            )
            self.blocks.append(block)
        self.fuse = nn.Conv2d(sum(deep), embed, 1, bias=False)
        self.fuse_norm = nn.BatchNorm2d(embed)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(embed, num_classes, 1)
        if variant == "official":
            self.unused = _unused([sum(deep[j] for j in self._read_by(i)) for i in range(4)], unused, num_classes, form)

    def _read_by(self, block: int) -> list[int]:
        """The stages, 0 the deepest, whose maps are a block's keys and values."""
        return {"mix": [0, 1, 2, 3], "cross": [max(block - 1, 0)], "self": [block]}[self.kv]

    def forward(self, maps: Sequence[Map]) -> Float[Tensor, "n k h w"]:
        encoded = list(maps)[::-1]
        pooled = [averaged(x, ratio) for x, ratio in zip(encoded, self.ratios, strict=True)]
        decoded = []
        for i, block in enumerate(self.blocks):
            size, stages = encoded[i].shape[2:], self.pooled[i]
            assert isinstance(stages, PooledStages)
            y = stages.mix([pooled[j] for j in self._read_by(i)])
            found = block(encoded[i].flatten(2).mT, y.flatten(2).mT, size).unflatten(1, size).movedim(-1, 1)
            pooled[i] = averaged(found, self.ratios[i])
            decoded.append(found)
        return self.classify(self.dropout(F.relu(self.fuse_norm(self._fused(decoded)))))

    def _fused(self, maps: list[Map]) -> Map:
        if self.variant == "official":
            size = maps[-1].shape[2:]
            return self.fuse(torch.cat([*(resized(x, size) for x in maps[:-1]), maps[-1]], 1))
        return fused(maps, self.fuse)


def divisor(width: int, most: int) -> int:
    """The largest divisor of the width that is at most `most`."""
    return max(number for number in range(1, most + 1) if width % number == 0)


def _unused(mixed: Sequence[int], width: int, num_classes: int, form: str) -> nn.ModuleDict:
    """What the released decoder owns without ever running it; takes no gradient."""
    found: dict[str, nn.Module] = {"convolutions": nn.ModuleList(nn.Conv2d(t, t, 1) for t in mixed)}
    if form == "ade20k":
        found["norms"] = nn.ModuleList(nn.LayerNorm(t) for t in mixed)
    found["classify"] = nn.Conv2d(width, num_classes, 1)
    return nn.ModuleDict(found).requires_grad_(False)


def umixformer(
    num_classes: int = ADE20K,
    *,
    in_channels: int = 3,
    encoder: str = "mit_b0",
    encoder_options: Mapping[str, Any] | None = None,
    form: str = "ade20k",
    variant: str = "clean",
    kv: str = "mix",
    embed: int | None = None,
    heads: Sequence[int] | None = None,
    ratios: Sequence[int] = RATIOS,
    dropout: float = 0.1,
    unused: int = 256,
    full_size: bool = True,
) -> nn.Module:
    """The decoder over an encoder by name; options as `UMixFormerDecoder` has them.

    embed: None: as in the released configuration with this encoder and form, else 128. A MiT has 1e-6 in all norms, as
    in mmseg, with which the released networks were trained.
    """
    options = dict(encoder_options or {})
    if encoder.startswith("mit"):
        options = {"eps": 1e-6} | options
    if embed is None:
        embed = ENCODERS.get(encoder, {}).get(form, 128)
    return build(
        UMixFormerDecoder,
        num_classes=num_classes,
        in_channels=in_channels,
        encoder=encoder,
        encoder_options=options,
        full_size=full_size,
        form=form,
        variant=variant,
        kv=kv,
        embed=embed,
        heads=heads,
        ratios=ratios,
        dropout=dropout,
        unused=unused,
    )


register_network("umixformer", shape=PHOTO)(umixformer)
register_pairs("umixformer", umixformer, ENCODERS)
