"""The lite vision transformer as its authors released it: Chenglin-Yang/LVT. Maps go in and out, channels first."""

from collections.abc import Mapping, Sequence
from typing import Any

from foveate.networks.lvt import ConvolutionalSelfAttention, RecursiveAtrousSelfAttention
from foveate.official._conversions import official
from foveate.official._segmentation import EncoderPart, alone, below, without
from foveate.official._shared import Built, only

SOURCE = "Chenglin-Yang/LVT"
CSA = {"attn": "weigh", "weight": "value", "proj": "out"}
RASA = {"q": "query", "kv": "key_value", "proj": "out", "ds": "atrous", "sr": "reduce"}
FEED = {"mlp.fc1": "feed.expand", "mlp.depconv": "feed.depthwise", "mlp.fc2": "feed.reduce"}


@official(SOURCE, "CSA")
def csa(
    in_dim: int,
    out_dim: int,
    num_heads: int,
    kernel_size: int = 3,
    padding: int = 1,
    stride: int = 2,
    qkv_bias: bool = False,
    attn_drop: float = 0.0,
) -> Built:
    only("CSA", out_dim=(out_dim, in_dim), qkv_bias=(qkv_bias, False), attn_drop=(attn_drop, 0.0))
    only("CSA", kernel_size=(kernel_size, 3), padding=(padding, 1), stride=(stride, 2))
    return ConvolutionalSelfAttention(in_dim, heads=num_heads), CSA


def _recursion(rasa_cfg: Mapping[str, Any] | None) -> dict[str, Any]:
    if rasa_cfg is None:
        raise ValueError("Attention: wanted rasa_cfg; without it the released class is plain attention, unknown here")
    only("Attention", act_layer=("SiLU" in str(rasa_cfg.get("act_layer", "SiLU")), True))
    return {"steps": rasa_cfg.get("r_num", 2), "dilations": list(rasa_cfg.get("atrous_rates", (1, 3, 5)))}


@official(SOURCE, "Attention")
def attention(
    dim: int,
    num_heads: int = 8,
    qkv_bias: bool = False,
    qk_scale: float | None = None,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    rasa_cfg: Mapping[str, Any] | None = None,
    sr_ratio: int = 1,
) -> Built:
    only("Attention", qkv_bias=(qkv_bias, False), qk_scale=(qk_scale or None, None))
    only("Attention", attn_drop=(attn_drop, 0.0), proj_drop=(proj_drop, 0.0))
    return RecursiveAtrousSelfAttention(dim, heads=num_heads, reduction=sr_ratio, **_recursion(rasa_cfg)), RASA


def _keys(kinds: Sequence[str]) -> dict[str, str]:
    keys: dict[str, str] = {}
    for i, kind in enumerate(kinds):
        inside = below("attn", CSA if kind == "csa" else RASA | {"norm": "norm"}, "attention")
        keys |= below(f"backbone.{i}.1.*", FEED | inside | {"norm1": "norm1", "norm2": "norm2"}, f"stages.{i}.*")
        keys |= {f"backbone.{i}.0.proj": f"embeds.{i}.conv", f"backbone.{i}.0.norm": f"embeds.{i}.norm"}
    return keys


KINDS = ("csa", "rasa", "rasa", "rasa")
KEYS = _keys(KINDS)


def lvt(
    layers: Sequence[int] = (2, 2, 2, 2),
    in_chans: int = 3,
    embed_dims: Sequence[int] = (64, 64, 160, 256),
    num_heads: Sequence[int] = (2, 2, 5, 8),
    sa_layers: Sequence[str] = KINDS,
    rasa_cfg: Mapping[str, Any] | None = None,
    mlp_ratios: Sequence[float] = (4, 8, 4, 4),
    mlp_depconv: Sequence[bool] = (False, True, True, True),
    sr_ratios: Sequence[int] = (8, 4, 2, 1),
    qkv_bias: bool = False,
    drop_path_rate: float = 0.0,
    with_cls_head: bool = False,
) -> EncoderPart:
    """The encoder of the released segmentation code."""
    only("lite_vision_transformer", with_cls_head=(with_cls_head, False), qkv_bias=(qkv_bias, False))
    options = {"widths": list(embed_dims), "depths": list(layers), "heads": list(num_heads), "kinds": list(sa_layers)}
    options |= {"ratios": list(mlp_ratios), "convolves": list(mlp_depconv), "reductions": list(sr_ratios)}
    options |= _recursion(rasa_cfg or {}) | {"drop_path": drop_path_rate}
    return EncoderPart("lvt", options, _keys(sa_layers), in_chans)


official(SOURCE, "lite_vision_transformer", decode=without(r"^(head|norm|post_network|aux_head)\."))(alone(lvt))
