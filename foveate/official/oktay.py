"""The 3-D network of ozan-oktay/Attention-Gated-Networks, and its blocks, which return (gated map, attention map)."""

from collections.abc import Sequence
from functools import partial

from torch import nn

from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.networks.attention_unet import WIDTHS
from foveate.official._conversions import official
from foveate.official._shared import only

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


def _block_keys(there: str, here: str) -> dict[str, str]:
    return {f"{there}.conv{i + 1}.{j}": f"{here}.{i}.{j}" for i in (0, 1) for j in (0, 1)}


@official(SOURCE, "unet_CT_single_att_dsv_3D")
def attention_unet(
    feature_scale: int = 4,
    n_classes: int = 21,
    is_deconv: bool = True,
    in_channels: int = 3,
    nonlocal_mode: str = "concatenation",
    attention_dsample: Sequence[int] = (2, 2, 2),
    is_batchnorm: bool = True,
) -> tuple[nn.Module, dict[str, str]]:
    del is_deconv  # the released class upsamples linearly either way
    only("unet_CT_single_att_dsv_3D", nonlocal_mode=(nonlocal_mode, "concatenation"), is_batchnorm=(is_batchnorm, True))
    only("unet_CT_single_att_dsv_3D", attention_dsample=(tuple(attention_dsample), (2, 2, 2)))
    widths = [width // feature_scale for width in WIDTHS]
    network = create_network("attention_unet3d", num_classes=n_classes, in_channels=in_channels, widths=widths)
    keys = {"gating.conv1": "signal", "dsv1": "scales.0", "final": "mix"}
    keys |= {f"dsv{i + 1}.dsv.0": f"scales.{i}" for i in (1, 2, 3)}
    for i in range(4):
        keys |= _block_keys(f"conv{i + 1}", f"encoder.{i}") | _block_keys(f"up_concat{4 - i}.conv", f"decoder.{i}")
    keys |= _block_keys("center", "encoder.4")
    for i in range(3):
        block = f"attentionblock{4 - i}"
        keys |= {f"{block}.combine_gates": f"skips.{i}.combine", f"{block}.gate_block_1": f"skips.{i}.gate"}
        keys |= {
            f"{block}.gate_block_1.W.0": f"skips.{i}.gate.out",
            f"{block}.gate_block_1.W.1": f"skips.{i}.gate.norm",
        }
    return network, keys


for dims in (2, 3):
    official(SOURCE, f"GridAttentionBlock{dims}D")(partial(grid, dims))
    official(SOURCE, f"GridAttentionBlock{dims}D_TORR")(partial(torr, dims))
