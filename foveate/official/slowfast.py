"""The non-local block of facebookresearch/SlowFast, which follows the Caffe2 release."""

from collections.abc import Sequence

from torch import nn

from foveate.attention import create_attention
from foveate.official._conversions import official

SOURCE = "facebookresearch/SlowFast"
FORMS = {"softmax": "embedded_gaussian", "dot_product": "dot_product"}
KEYS = {"conv_theta": "theta", "conv_phi": "phi", "conv_g": "g", "conv_out": "out", "bn": "norm"}


@official(SOURCE, "Nonlocal")
def non_local(
    dim: int,
    dim_inner: int,
    pool_size: Sequence[int] | None = None,
    instantiation: str = "softmax",
    zero_init_final_conv: bool = False,
    zero_init_final_norm: bool = True,
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
    norm_module: type[nn.Module] | str | None = None,
) -> tuple[nn.Module, dict[str, str]]:
    """The two zero_init arguments say how the official class starts, which loaded weights replace."""
    if instantiation not in FORMS:
        raise ValueError(f"Nonlocal: instantiation must be one of {', '.join(FORMS)}; got {instantiation!r}")
    if not (norm_module is None or norm_module is nn.BatchNorm3d or str(norm_module).endswith("BatchNorm3d")):
        raise ValueError(f"Nonlocal: norm_module must be BatchNorm3d; got {norm_module!r}")
    module = create_attention(
        "nl", dim, spatial_dims=3, form=FORMS[instantiation], width=dim_inner, sub_sample=pool_size or False
    )
    norm = module.get_submodule("norm")
    assert isinstance(norm, nn.BatchNorm3d)
    norm.eps, norm.momentum = norm_eps, norm_momentum
    return module, KEYS
