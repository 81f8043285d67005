"""U-MixFormer, MiT in mmseg's form and FeedFormer's decoder as released: julian-klitzing/u-mixformer.

Blocks take and give tokens as there, but sizes are given as one (height, width) of the queries.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.networks.feedformer import ENCODERS as FED
from foveate.networks.feedformer import FeedFormerDecoder
from foveate.networks.umixformer import ENCODERS, MixAttention, MixBlock, PooledStages, UMixFormerDecoder
from foveate.official import lvt, segformer, segnext
from foveate.official._conversions import Decode, official
from foveate.official._segmentation import (
    EncoderPart,
    State,
    alone,
    below,
    decode_head,
    together,
    whole_keys,
    without,
)
from foveate.official._shared import Built, only

SOURCE = "julian-klitzing/u-mixformer"
ATTENTION = {"q": "query", "kv": "key_value", "proj": "out"}
BLOCK = {
    "norm1": "of_queries",
    "norm2": "of_mixed",
    "norm3": "of_sum",
    "mlp.fc1": "forward_network.expand",
    "mlp.dwconv.dwconv": "forward_network.depthwise",
    "mlp.fc2": "forward_network.reduce",
    **{f"attn.{theirs}": f"attention.{ours}" for theirs, ours in ATTENTION.items()},
}


def unpacked(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Of nn.MultiheadAttention's rows for queries, keys and values in one: those of the queries apart."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        head, packed, kind = key.rpartition("attn.in_proj_")
        if packed:
            width = len(value) // 3
            found |= {f"{head}attn.q.{kind}": value[:width], f"{head}attn.kv.{kind}": value[width:]}
        else:
            found[key] = value
    return found


@official(SOURCE, "EfficientMultiheadAttention", decode=unpacked)
def efficient_attention(
    embed_dims: int,
    num_heads: int,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    batch_first: bool = True,
    qkv_bias: bool = False,
    norm_cfg: Mapping[str, Any] | None = None,
    sr_ratio: int = 1,
) -> Built:
    """On maps, and without the sum that the released class ends with."""
    only("EfficientMultiheadAttention", attn_drop=(attn_drop, 0.0), proj_drop=(proj_drop, 0.0))
    only("EfficientMultiheadAttention", batch_first=(batch_first, True))
    norm = {"type": "LN", "eps": 1e-5, **(norm_cfg or {})}
    only("EfficientMultiheadAttention", norm_cfg=(norm["type"], "LN"))
    options: dict[str, Any] = {"heads": num_heads, "reduction": sr_ratio, "bias": qkv_bias, "out_bias": qkv_bias}
    module = create_attention("sra", embed_dims, form="bare", eps=norm["eps"], **options)
    return module, {"attn.q": "query", "attn.kv": "key_value", "attn.out_proj": "out", "sr": "reduce"}


@official(SOURCE, "CrossAttention", decode=without(r"^(sr|norm)\."))
def cross_attention(
    dim1: int,
    dim2: int,
    num_heads: int = 8,
    qkv_bias: bool = False,
    qk_scale: float | None = None,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    pool_ratio: int = 16,
) -> Built:
    only("CrossAttention", qk_scale=(qk_scale or None, None), attn_drop=(attn_drop, 0.0), proj_drop=(proj_drop, 0.0))
    del pool_ratio  # of a pooling that is never run
    return MixAttention(dim1, dim2, heads=num_heads, bias=qkv_bias), ATTENTION


@official(SOURCE, "CatKey")
def cat_key(pool_ratio: Sequence[int] = (1, 2, 4, 8), dim: Sequence[int] = (256, 160, 64, 32)) -> Built:
    return PooledStages(dim, ratios=pool_ratio), {"sr_list": "align"}


@official(SOURCE, "Block", decode=without(r"^attn\.(sr|norm)\."))
def block(
    dim1: int,
    dim2: int,
    num_heads: int,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = False,
    qk_scale: float | None = None,
    drop: float = 0.0,
    attn_drop: float = 0.0,
    drop_path: float = 0.0,
    pool_ratio: int = 16,
) -> Built:
    only("Block", qk_scale=(qk_scale or None, None), drop=(drop, 0.0), attn_drop=(attn_drop, 0.0))
    del pool_ratio
    module = MixBlock(dim1, dim2, heads=num_heads, ratio=mlp_ratio, bias=qkv_bias, drop_path=drop_path)
    return module, BLOCK


def _mit_keys() -> dict[str, str]:
    inside = {"attn.attn.q": "query", "attn.attn.kv": "key_value", "attn.attn.out_proj": "out"}
    inside |= {"attn.sr": "reduce", "attn.norm": "norm"}
    block = {theirs: f"attention.{ours}" for theirs, ours in inside.items()} | {"norm1": "norm1", "norm2": "norm2"}
    block |= {"ffn.layers.0": "feed.expand", "ffn.layers.1": "feed.depthwise", "ffn.layers.4": "feed.reduce"}
    keys: dict[str, str] = {}
    for i in range(4):
        keys |= below(f"layers.{i}.1.*", block, f"stages.{i}.blocks.*")
        keys |= {f"layers.{i}.0.projection": f"stages.{i}.embed.conv", f"layers.{i}.0.norm": f"stages.{i}.embed.norm"}
        keys |= {f"layers.{i}.2": f"stages.{i}.norm"}
    return keys


MIT_KEYS = _mit_keys()


def mit(
    in_channels: int = 3,
    embed_dims: int = 64,
    num_stages: int = 4,
    num_layers: Sequence[int] = (3, 4, 6, 3),
    num_heads: Sequence[int] = (1, 2, 4, 8),
    patch_sizes: Sequence[int] = (7, 3, 3, 3),
    strides: Sequence[int] = (4, 2, 2, 2),
    sr_ratios: Sequence[int] = (8, 4, 2, 1),
    out_indices: Sequence[int] = (0, 1, 2, 3),
    mlp_ratio: float = 4,
    qkv_bias: bool = True,
    drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> EncoderPart:
    """mmseg's MiT: ε is 1e-6 in all norms, and `qkv_bias` is of the layer after the attention too."""
    cls = "MixVisionTransformer"
    only(cls, num_stages=(num_stages, 4), out_indices=(tuple(out_indices), (0, 1, 2, 3)))
    only(cls, patch_sizes=(tuple(patch_sizes), (7, 3, 3, 3)), strides=(tuple(strides), (4, 2, 2, 2)))
    only(cls, drop_rate=(drop_rate, 0.0), attn_drop_rate=(attn_drop_rate, 0.0))
    options = {"widths": [embed_dims * heads for heads in num_heads], "depths": list(num_layers), "eps": 1e-6}
    options |= {"heads": list(num_heads), "reductions": list(sr_ratios), "ratios": [mlp_ratio] * 4}
    options |= {"bias": qkv_bias, "out_bias": qkv_bias, "drop_path": drop_path_rate}
    return EncoderPart("mit", options, MIT_KEYS, in_channels)


official(SOURCE, "MixVisionTransformer", decode=unpacked)(alone(mit))

FUSION = {"linear_fuse.conv": "fuse", "linear_fuse.bn": "fuse_norm", "linear_pred": "classify"}


def _decoder_keys(form: str) -> dict[str, str]:
    keys = FUSION | {"conv_seg": "unused.classify"}
    half = {"sr1": "align", "norm1": "of_aligned", "norm2": "of_mixed"} if form == "cityscapes" else {}
    unused = {"sr2": "convolutions"} if form == "cityscapes" else {"sr": "convolutions", "norm": "norms"}
    for i in range(4):
        block = f"attn_c{4 - i}"
        keys |= {f"cat_key{i + 1}.sr_list": f"pooled.{i}.align"} | below(block, BLOCK, f"blocks.{i}")
        keys |= below(f"{block}.attn", half, f"blocks.{i}.attention")
        keys |= {f"{block}.attn.{theirs}": f"unused.{ours}.{i}" for theirs, ours in unused.items()}
    return keys


def _describe(form: str, channels: int, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    known = {"embed_dim", "num_heads", "pool_ratio"}
    only("APFormerHead", decoder_params=(sorted(params), sorted(known & set(params))))
    options = {"form": form, "variant": "official", "embed": params.get("embed_dim", 128), "unused": channels}
    options |= {
        "heads": list(params.get("num_heads", (8, 5, 2, 1))),
        "ratios": list(params.get("pool_ratio", (1, 2, 4, 8))),
    }
    return options, _decoder_keys(form)


def _describe_feed(channels: int, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    del channels, params  # of a classifier that is never run; ignored by the released class
    inside = {"sr": "align", "norm": "of_aligned"}
    keys = dict(FUSION)
    for i, block in enumerate(("attn_c4_c1", "attn_c3_c1", "attn_c2_c1")):
        keys |= below(block, BLOCK, f"blocks.{i}") | below(f"{block}.attn", inside, f"blocks.{i}.attention")
    return {"heads": [8, 5, 2], "embed": 128}, keys


HEADS = {  # class there: how it is described
    "APFormerHead2": partial(_describe, "ade20k"),
    "APFormerHeadCity": partial(_describe, "cityscapes"),
}
BACKBONES: dict[str, tuple[Callable[..., EncoderPart], Decode | None]] = {
    "MixVisionTransformer": (mit, unpacked),
    "lite_vision_transformer": (lvt.lvt, None),
    "MSCAN": (segnext.mscan, segnext.named_as_released),
}
for _cls, _how in HEADS.items():
    _head = decode_head(_cls, UMixFormerDecoder, "umixformer", _how)
    official(SOURCE, _cls)(alone(_head))
    for _backbone, (_encoder, _decode) in BACKBONES.items():
        official(SOURCE, f"{_backbone} + {_cls}", decode=_decode)(together(_encoder, _head))

_feed = decode_head("FeedFormerHead", FeedFormerDecoder, "feedformer", _describe_feed)
official(SOURCE, "FeedFormerHead", decode=segformer.DEAD)(alone(_feed))


def _without_classifier(state: State) -> dict[str, Tensor]:
    return segformer.DEAD(unpacked(state))


official(SOURCE, "MixVisionTransformer + FeedFormerHead", decode=_without_classifier)(together(mit, _feed))


def _encoder_keys(encoder: str) -> dict[str, str]:
    return MIT_KEYS if encoder.startswith("mit") else segnext.KEYS if encoder.startswith("mscan") else lvt.KEYS


def _named(state: State) -> dict[str, Tensor]:
    return segnext.named_as_released(unpacked(state))


def _read(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Classes and width of a whole network's state dict."""
    if "decode_head.linear_pred.bias" not in state:
        return {}
    embed, classes = len(state["decode_head.linear_fuse.conv.weight"]), len(state["decode_head.linear_pred.bias"])
    return {"embed": embed, "num_classes": classes}


def _read_form(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """And the form."""
    return _read(state) | {"form": "cityscapes" if "decode_head.attn_c4.attn.sr2.weight" in state else "ade20k"}


def _whole(encoder: str, num_classes: int = 150, form: str = "ade20k", embed: int | None = None) -> Built:
    """As trained, with logits as large as the image; form and widths are read from the weights."""
    network = create_network(
        f"umixformer_{encoder}", num_classes=num_classes, variant="official", form=form, embed=embed
    )
    return network, whole_keys(_encoder_keys(encoder), _decoder_keys(form))


def _whole_feed(encoder: str, num_classes: int = 150, embed: int | None = None) -> Built:
    options: dict[str, Any] = {"embed": embed} | ({"encoder_options": {"eps": 1e-6}} if "mit" in encoder else {})
    network = create_network(f"feedformer_{encoder}", num_classes=num_classes, **options)
    return network, whole_keys(_encoder_keys(encoder), _describe_feed(0, {})[1])


for _name in ENCODERS:
    official(SOURCE, f"umixformer_{_name}", decode=_named, infer=_read_form)(partial(_whole, _name))
for _name in FED:
    official(SOURCE, f"feedformer_{_name}", decode=_without_classifier, infer=_read)(partial(_whole_feed, _name))
