"""MSCAN as its authors released it: Visual-Attention-Network/SegNeXt; and with the names that mmseg gives it."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from foveate.networks.mscan import MSCANBlock, MultiScaleConvolutionalAttention
from foveate.official._conversions import official
from foveate.official._segmentation import EncoderPart, State, alone, below, only_batch_norm, without
from foveate.official._shared import Built, only

SOURCE = "Visual-Attention-Network/SegNeXt"
GATE = {"conv0": "square", "conv3": "mix"}
GATE |= {f"conv{i}_1": f"rows.{i}" for i in range(3)} | {f"conv{i}_2": f"columns.{i}" for i in range(3)}
BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "layer_scale_1": "scale1.weight",
    "layer_scale_2": "scale2.weight",
    "attn.proj_1": "attention.before",
    "attn.proj_2": "attention.after",
    **below("attn.spatial_gating_unit", GATE, "attention.gate"),
    "mlp.fc1": "feed.expand",
    "mlp.dwconv.dwconv": "feed.depthwise",
    "mlp.fc2": "feed.reduce",
}


def _keys() -> dict[str, str]:
    keys: dict[str, str] = {}
    for i in range(4):
        keys |= below(f"block{i + 1}.*", BLOCK, f"stages.{i}.*") | {f"norm{i + 1}": f"norms.{i}"}
        if i:
            keys |= {f"patch_embed{i + 1}.proj": f"embeds.{i}.0", f"patch_embed{i + 1}.norm": f"embeds.{i}.1"}
    return keys | {"patch_embed1.proj": "embeds.0"}


KEYS = _keys()


def named_as_released(state: State) -> dict[str, Tensor]:
    """mmseg's port calls the depthwise convolution of a feed-forward network `mlp.dwconv` alone."""
    names = {key: key.replace("mlp.dwconv.", "mlp.dwconv.dwconv.") for key in state if "mlp.dwconv.dwconv." not in key}
    return {names.get(key, key): value for key, value in state.items()}


@official(SOURCE, "AttentionModule")
def attention(dim: int) -> Built:
    return MultiScaleConvolutionalAttention(dim), GATE


@official(SOURCE, "Block", decode=named_as_released)
def block(
    dim: int,
    mlp_ratio: float = 4.0,
    drop: float = 0.0,
    drop_path: float = 0.0,
    norm_cfg: Mapping[str, Any] | None = None,
) -> Built:
    """On maps, where the released class takes tokens, height and width."""
    only("Block", drop=(drop, 0.0))
    only_batch_norm("Block", norm_cfg)
    return MSCANBlock(dim, mlp_ratio, drop_path), BLOCK


def mscan(
    in_chans: int = 3,
    embed_dims: Sequence[int] = (64, 128, 256, 512),
    mlp_ratios: Sequence[float] = (4, 4, 4, 4),
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    depths: Sequence[int] = (3, 4, 6, 3),
    num_stages: int = 4,
    norm_cfg: Mapping[str, Any] | None = None,
) -> EncoderPart:
    only("MSCAN", drop_rate=(drop_rate, 0.0), num_stages=(num_stages, 4))
    only_batch_norm("MSCAN", norm_cfg)
    options = {"widths": list(embed_dims), "depths": list(depths), "ratios": list(mlp_ratios)}
    return EncoderPart("mscan", options | {"drop_path": drop_path_rate}, KEYS, in_chans)


def _without_classifier(state: State) -> dict[str, Tensor]:
    return without(r"^head\.")(named_as_released(state))


official(SOURCE, "MSCAN", decode=_without_classifier)(alone(mscan))
