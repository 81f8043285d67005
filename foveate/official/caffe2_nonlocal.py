"""C2D and I3D with non-local blocks as released in Caffe2: facebookresearch/video-nonlocal-net."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from foveate.networks import create_network
from foveate.official._conversions import official

SOURCE = "facebookresearch/video-nonlocal-net"
FORMS = {"softmax": "embedded_gaussian", "dot_product": "dot_product"}
_NORM = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}
_BLOB = re.compile(
    r"(?P<stem>conv1|res_conv1_bn)_(?P<stem_kind>w|s|b|rm|riv)"
    r"|res(?P<stage>\d)_(?P<block>\d+)_branch(?P<branch>1|2a|2b|2c)(?P<norm>_bn)?_(?P<kind>w|s|b|rm|riv)"
    r"|nonlocal_conv(?P<at>\d)_(?P<after>\d+)_(?P<layer>theta|phi|g|out|bn)_(?P<layer_kind>w|s|b|rm|riv)"
    r"|pred_(?P<pred>w|b)"
)


def named_as_ours(blobs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The blobs of the release by our names; those of its optimiser are left out, others keep their names."""
    found: dict[str, Tensor] = {}
    for name, value in blobs.items():
        if name.endswith("_momentum") or name in ("lr", "model_iter"):
            continue
        match = _BLOB.fullmatch(name)
        found[name if match is None else _ours(match)] = value
    return found


def _ours(match: "re.Match[str]") -> str:
    if match["stem"]:
        norm = match["stem"] != "conv1"
        return f"bn1.{_NORM[match['stem_kind']]}" if norm else "conv1.weight"
    if match["pred"]:
        return f"fc.{'weight' if match['pred'] == 'w' else 'bias'}"
    if match["layer"]:
        place = f"layer{int(match['at']) - 1}.{match['after']}.attention"
        if match["layer"] == "bn":
            return f"{place}.norm.{_NORM[match['layer_kind']]}"
        return f"{place}.{match['layer']}.{'weight' if match['layer_kind'] == 'w' else 'bias'}"
    place = f"layer{int(match['stage']) - 1}.{match['block']}"
    kind = _NORM[match["kind"]] if match["norm"] else "weight"
    if match["branch"] == "1":
        return f"{place}.downsample.{1 if match['norm'] else 0}.{kind}"
    return f"{place}.{'bn' if match['norm'] else 'conv'}{'abc'.index(match['branch'][1]) + 1}.{kind}"


def _read(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments that the tensors, by our names, give."""
    if "conv1.weight" not in state:
        return {}
    followed: list[list[int]] = [[], [], [], []]
    for name in state:
        if match := re.fullmatch(r"layer(\d)\.(\d+)\.attention\.g\.weight", name):
            followed[int(match[1]) - 1].append(int(match[2]))
    found: dict[str, Any] = {"blocks": [sorted(stage) for stage in followed]}
    found["depth"] = 101 if "layer3.6.conv1.weight" in state else 50
    found["arch"] = "c2d" if state["conv1.weight"].shape[2] == 1 else "i3d"
    if "fc.weight" in state:
        found["num_classes"] = len(state["fc.weight"])
    return found


@official(SOURCE, "resnet_video", infer=_read, decode=named_as_ours)
def resnet_video(
    depth: int = 50,
    arch: str = "c2d",
    blocks: int | list[list[int]] = 0,
    instantiation: str = "softmax",
    num_classes: int = 400,
) -> tuple[nn.Module, dict[str, str]]:
    """The network of 8 or 32 frames, from the blobs of the release as tensors by name.

    All but `instantiation`, "softmax" or "dot_product", is read from the blobs.
    """
    if arch not in ("c2d", "i3d"):
        raise ValueError(f"resnet_video: arch must be 'c2d' or 'i3d'; got {arch!r}")
    if instantiation not in FORMS:
        raise ValueError(f"resnet_video: instantiation must be one of {', '.join(FORMS)}; got {instantiation!r}")
    options: dict[str, Any] = {"blocks": blocks, "form": FORMS[instantiation]}
    return create_network(f"{arch}_resnet{depth}", num_classes=num_classes, **options), {}
