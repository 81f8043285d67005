"""The non-local block of facebookresearch/SlowFast, which follows the Caffe2 release, and its networks C2D and I3D."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.networks import create_network
from foveate.networks.resnet import DEPTHS
from foveate.official._conversions import official

SOURCE = "facebookresearch/SlowFast"
FORMS = {"softmax": "embedded_gaussian", "dot_product": "dot_product"}
ARCHS = ("c2d", "i3d")
KEYS = {"conv_theta": "theta", "conv_phi": "phi", "conv_g": "g", "conv_out": "out", "bn": "norm"}
BLOCK_KEYS = {"branch1": "downsample.0", "branch1_bn": "downsample.1"}
BLOCK_KEYS |= {f"branch2.{letter}": f"conv{number}" for number, letter in enumerate("abc", 1)}
BLOCK_KEYS |= {f"branch2.{letter}_bn": f"bn{number}" for number, letter in enumerate("abc", 1)}


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


def _classes_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The number of classes, which the network's last layer has."""
    return {"num_classes": len(state["head.projection.weight"])} if "head.projection.weight" in state else {}


@official(SOURCE, "ResNet", infer=_classes_of)
def resnet(cfg: Mapping[str, Any], num_classes: int = 400) -> tuple[nn.Module, dict[str, str]]:
    """C2D and I3D of one pathway.

    cfg: the configuration as nested mappings: MODEL.ARCH "c2d" or "i3d", RESNET.DEPTH, NONLOCAL.LOCATION, POOL and
        INSTANTIATION; what it says of training is not needed.
    """
    model, non_local_part = cfg.get("MODEL", {}), cfg.get("NONLOCAL", {})
    arch, depth = model.get("ARCH"), cfg.get("RESNET", {}).get("DEPTH", 50)
    if arch not in ARCHS:
        raise ValueError(f"ResNet: MODEL.ARCH must be one of {', '.join(map(repr, ARCHS))}; got {arch!r}")
    form = non_local_part.get("INSTANTIATION", "dot_product")
    if form not in FORMS:
        raise ValueError(f"ResNet: NONLOCAL.INSTANTIATION must be one of {', '.join(FORMS)}; got {form!r}")
    blocks = [list(stage[0]) for stage in non_local_part.get("LOCATION", [[[]]] * 4)]
    pools = {tuple(pool) for stage in non_local_part.get("POOL", [[[1, 2, 2]]]) for pool in stage}
    if pools not in ({(1, 2, 2)}, {(1, 1, 1)}):
        raise ValueError(f"ResNet: NONLOCAL.POOL must be [1, 2, 2] or [1, 1, 1] everywhere; got {sorted(pools)}")
    options: dict[str, Any] = {"stem": "slowfast", "blocks": blocks, "form": FORMS[form]}
    options["sub_sample"] = pools == {(1, 2, 2)}
    network = create_network(f"{arch}_resnet{depth}", num_classes=num_classes, **options)
    keys = {"s1.pathway0_stem.conv": "conv1", "s1.pathway0_stem.bn": "bn1", "head.projection": "fc"}
    for stage, count in enumerate(DEPTHS[depth][1]):
        for index in range(count):
            theirs, ours = f"s{stage + 2}.pathway0_res{index}", f"layer{stage + 1}.{index}"
            keys |= {f"{theirs}.{a}": f"{ours}.{b}" for a, b in BLOCK_KEYS.items()}
        for index in blocks[stage]:
            theirs, ours = f"s{stage + 2}.pathway0_nonlocal{index}", f"layer{stage + 1}.{index}.attention"
            keys |= {f"{theirs}.{a}": f"{ours}.{b}" for a, b in KEYS.items()}
    return network, keys
