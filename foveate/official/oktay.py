"""The grid attention blocks of ozan-oktay/Attention-Gated-Networks; each returns (gated map, attention map)."""

from collections.abc import Sequence
from functools import partial

from torch import nn

from foveate.attention import create_attention
from foveate.official._conversions import official

SOURCE = "ozan-oktay/Attention-Gated-Networks"
MODES = {
    "concatenation": {},
    "concatenation_debug": {"activation": "softplus"},
    "concatenation_residual": {"normalise": "softmax"},
}
TORR_MODES = {
    "concatenation_sigmoid": "sigmoid",
    "concatenation_softmax": "softmax",
    "concatenation_mean": "sum",
    "concatenation_mean_flow": "shifted_sum",
    "concatenation_range_normalise": "range",
}


def grid(
    spatial_dims: int,
    in_channels: int,
    gating_channels: int,
    inter_channels: int | None = None,
    mode: str = "concatenation",
    sub_sample_factor: int | Sequence[int] = 2,
) -> tuple[nn.Module, dict[str, str]]:
    if mode not in MODES:
        raise ValueError(f"GridAttentionBlock: mode must be one of {', '.join(MODES)}; got {mode!r}")
    module = create_attention(
        "attention_gate",
        in_channels,
        spatial_dims=spatial_dims,
        gate_channels=gating_channels,
        width=inter_channels,
        sub_sample=sub_sample_factor,
        return_map=True,
        **MODES[mode],
    )
    return module, {"W.0": "out", "W.1": "norm"}


def torr(
    spatial_dims: int,
    in_channels: int,
    gating_channels: int,
    inter_channels: int | None = None,
    mode: str = "concatenation",
    sub_sample_factor: int | Sequence[int] = 1,
    bn_layer: bool = True,
    use_W: bool = True,
    use_phi: bool = True,
    use_theta: bool = True,
    use_psi: bool = True,
    nonlinearity1: str | None = "relu",
) -> tuple[nn.Module, dict[str, str]]:
    if mode not in TORR_MODES:
        why = " (the official class builds it and then cannot run)" if mode == "concatenation" else ""
        raise ValueError(f"GridAttentionBlock_TORR: mode must be one of {', '.join(TORR_MODES)}; got {mode!r}{why}")
    if not (use_phi and use_theta and use_psi):
        raise ValueError("GridAttentionBlock_TORR: a block without its theta, phi or psi is not known here")
    if nonlinearity1 not in ("relu", "", None):
        raise ValueError(f"GridAttentionBlock_TORR: nonlinearity1 must be 'relu' or None; got {nonlinearity1!r}")
    module = create_attention(
        "attention_gate",
        in_channels,
        spatial_dims=spatial_dims,
        gate_channels=gating_channels,
        width=inter_channels,
        sub_sample=sub_sample_factor,
        gate_sub_sample=True,
        activation=nonlinearity1 or "none",
        normalise=TORR_MODES[mode],
        transform=("norm" if bn_layer else "conv") if use_W else "none",
        return_map=True,
    )
    return module, {"W.0": "out", "W.1": "norm"} if bn_layer else {"W": "out"}


for dims in (2, 3):
    official(SOURCE, f"GridAttentionBlock{dims}D")(partial(grid, dims))
    official(SOURCE, f"GridAttentionBlock{dims}D_TORR")(partial(torr, dims))
