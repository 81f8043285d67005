"""The mix-attention of U-MixFormer, and MiT's attention in mmseg's form, as released: julian-klitzing/u-mixformer.

Tokens go in and out as there, but sizes are given as one (height, width) of the queries.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from foveate.attention import create_attention
from foveate.networks.umixformer import MixAttention, MixBlock, PooledStages
from foveate.official._conversions import official
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


def _unpacked(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Of nn.MultiheadAttention's rows for queries, keys and values in one: those of the queries apart."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("attn.in_proj_"):
            kind, width = key.removeprefix("attn.in_proj_"), len(value) // 3
            found |= {f"attn.q.{kind}": value[:width], f"attn.kv.{kind}": value[width:]}
        else:
            found[key] = value
    return found


@official(SOURCE, "EfficientMultiheadAttention", decode=_unpacked)
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


def _without_dead(prefix: str) -> Callable[[Mapping[str, Any]], dict[str, Tensor]]:
    """The tensors but those that the released class owns and whose result it never uses."""
    dead = (f"{prefix}sr.", f"{prefix}norm.")
    return lambda state: {key: value for key, value in state.items() if not key.startswith(dead)}


@official(SOURCE, "CrossAttention", decode=_without_dead(""))
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


@official(SOURCE, "Block", decode=_without_dead("attn."))
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
