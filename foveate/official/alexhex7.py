"""Non-local blocks as AlexHex7 released them: AlexHex7/Non-local_pytorch, one file of like-named classes a form."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from foveate.attention import create_attention
from foveate.attention.nl import FORMS
from foveate.official._conversions import official

SOURCE = "AlexHex7/Non-local_pytorch"


def form_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The form, read from the keys; the dot product has the embedded gaussian's keys and is chosen by name."""
    parts = {key.split(".")[0] for key in state}
    if "concat_project" in parts:
        return {"mode": "concatenation"}
    return {"mode": "embedded_gaussian" if parts & {"theta", "phi"} else "gaussian"}


def block(
    spatial_dims: int,
    in_channels: int,
    inter_channels: int | None = None,
    sub_sample: bool = True,
    bn_layer: bool = True,
    mode: str = "embedded_gaussian",
) -> tuple[nn.Module, dict[str, str]]:
    module = create_attention(
        "nl",
        in_channels,
        spatial_dims=spatial_dims,
        form=mode,
        width=inter_channels,
        sub_sample=sub_sample,
        pool_first=False if sub_sample else None,
        scale=False,
        norm=bn_layer,
    )
    keys = {"concat_project.0.weight": "join"}
    keys |= {"W.0": "out", "W.1": "norm"} if bn_layer else {"W": "out"}
    return module, keys | ({"g.0": "g", "phi.0": "phi"} if sub_sample else {})


def any_block(
    in_channels: int,
    inter_channels: int | None = None,
    dimension: int = 3,
    sub_sample: bool = True,
    bn_layer: bool = True,
    mode: str = "embedded_gaussian",
) -> tuple[nn.Module, dict[str, str]]:
    return block(dimension, in_channels, inter_channels, sub_sample, bn_layer, mode)


official(SOURCE, "_NonLocalBlockND", infer=form_of)(any_block)
for dims in (1, 2, 3):
    official(SOURCE, f"NONLocalBlock{dims}D", infer=form_of)(partial(block, dims))
for form in FORMS:
    official(SOURCE, f"non_local_{form}._NonLocalBlockND")(partial(any_block, mode=form))
    for dims in (1, 2, 3):
        official(SOURCE, f"non_local_{form}.NONLocalBlock{dims}D")(partial(block, dims, mode=form))
