"""MiT and SegFormer's decoder as their authors released them: NVlabs/SegFormer."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.networks.mit import SIZES
from foveate.networks.segformer import EMBED, SegFormerDecoder
from foveate.official._conversions import official
from foveate.official._segmentation import EncoderPart, alone, below, decode_head, together, whole_keys, without
from foveate.official._shared import Built, only

SOURCE = "NVlabs/SegFormer"
KEYS = {"q": "query", "kv": "key_value", "proj": "out", "sr": "reduce"}
BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    **{f"attn.{theirs}": f"attention.{ours}" for theirs, ours in KEYS.items()},
    "attn.norm": "attention.norm",
    "mlp.fc1": "feed.expand",
    "mlp.dwconv.dwconv": "feed.depthwise",
    "mlp.fc2": "feed.reduce",
}
HEAD = {
    **{f"linear_c{i}.proj": f"linears.{i - 1}" for i in (1, 2, 3, 4)},
    "linear_fuse.conv": "fuse",
    "linear_fuse.bn": "fuse_norm",
    "linear_pred": "classify",
}


@official(SOURCE, "Attention")
def attention(
    dim: int,
    num_heads: int = 8,
    qkv_bias: bool = False,
    qk_scale: float | None = None,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    sr_ratio: int = 1,
) -> Built:
    """On maps, where the released class takes tokens, height and width."""
    only("Attention", qk_scale=(qk_scale or None, None), attn_drop=(attn_drop, 0.0), proj_drop=(proj_drop, 0.0))
    return create_attention("sra", dim, heads=num_heads, reduction=sr_ratio, bias=qkv_bias, form="bare"), KEYS


def _mit_keys() -> dict[str, str]:
    keys: dict[str, str] = {}
    for i in range(4):
        keys |= below(f"block{i + 1}.*", BLOCK, f"stages.{i}.blocks.*")
        keys |= {f"patch_embed{i + 1}.proj": f"stages.{i}.embed.conv"}
        keys |= {f"patch_embed{i + 1}.norm": f"stages.{i}.embed.norm", f"norm{i + 1}": f"stages.{i}.norm"}
    return keys


MIT_KEYS = _mit_keys()


def mit(
    img_size: int = 224,
    patch_size: int = 16,
    in_chans: int = 3,
    embed_dims: Sequence[int] = (64, 128, 256, 512),
    num_heads: Sequence[int] = (1, 2, 4, 8),
    mlp_ratios: Sequence[float] = (4, 4, 4, 4),
    qkv_bias: bool = False,
    qk_scale: float | None = None,
    drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    norm_layer: Any = "eps=1e-6",
    depths: Sequence[int] = (3, 4, 6, 3),
    sr_ratios: Sequence[int] = (8, 4, 2, 1),
) -> EncoderPart:
    del img_size, patch_size  # of no layer
    cls = "MixVisionTransformer"
    only(cls, qk_scale=(qk_scale or None, None), drop_rate=(drop_rate, 0.0), attn_drop_rate=(attn_drop_rate, 0.0))
    if "1e-06" not in str(norm_layer).replace("1e-6", "1e-06"):
        raise ValueError(f"{cls}: norm_layer must be a layer norm with eps=1e-6; got {norm_layer!r}")
    options = {"widths": list(embed_dims), "depths": list(depths), "heads": list(num_heads), "bias": qkv_bias}
    options |= {"reductions": list(sr_ratios), "ratios": list(mlp_ratios), "drop_path": drop_path_rate}
    return EncoderPart("mit", options, MIT_KEYS, in_chans)


official(SOURCE, "MixVisionTransformer", decode=without(r"^head\."))(alone(mit))


def _classifier(size: str, num_classes: int = 1000) -> Built:
    """As trained on ImageNet."""
    keys = {theirs: f"encoder.{ours}" for theirs, ours in MIT_KEYS.items()}
    return create_network(f"mit_{size}", num_classes=num_classes), keys | {"head": "fc"}


def _describe(channels: int, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    del channels  # of a classifier that is never run
    only("SegFormerHead", decoder_params=(sorted(params), sorted({"embed_dim"} & set(params))))
    return {"embed": params.get("embed_dim", 256)}, HEAD


head = decode_head("SegFormerHead", SegFormerDecoder, "segformer", _describe)
DEAD = without(r"^(decode_head\.)?conv_seg\.")


def classes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return (
        {"num_classes": len(state["decode_head.linear_pred.bias"])} if "decode_head.linear_pred.bias" in state else {}
    )


def _whole(encoder: str, num_classes: int = 150) -> Built:
    """As trained, with logits as large as the image."""
    return create_network(f"segformer_{encoder}", num_classes=num_classes), whole_keys(MIT_KEYS, HEAD)


official(SOURCE, "SegFormerHead", decode=DEAD)(alone(head))
official(SOURCE, "MixVisionTransformer + SegFormerHead", decode=DEAD)(together(mit, head))
for _size in SIZES:
    official(SOURCE, f"mit_{_size}")(partial(_classifier, _size))
for _encoder in EMBED:
    official(SOURCE, f"segformer_{_encoder}", decode=DEAD, infer=classes)(partial(_whole, _encoder))
