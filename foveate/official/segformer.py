"""MiT's attention as its authors released it: NVlabs/SegFormer."""

from foveate.attention import create_attention
from foveate.official._conversions import official
from foveate.official._shared import Built, only

SOURCE = "NVlabs/SegFormer"
KEYS = {"q": "query", "kv": "key_value", "proj": "out", "sr": "reduce"}


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
