"""Deep residual shrinkage as its authors released it: zhao62/Deep-Residual-Shrinkage-Networks (TFLearn and Keras).

Weights come as PyTorch lays them out: convolutions (out, in, *kernel), linear layers (out, in). Of several blocks in
one call, the official variables carry no block number of their own; here block i has its keys under "i.".
"""

import re
from collections.abc import Sequence
from functools import partial

from torch import nn

from foveate.networks._shrinkage import ShrinkageBlock
from foveate.official._conversions import Build, official

SOURCE = "zhao62/Deep-Residual-Shrinkage-Networks"
GATE_KEYS = {"fc1": "shrink.gate.reduce", "bn_fc": "shrink.gate.norm", "fc2": "shrink.gate.expand"}


def _reduction(gate_hidden: str) -> int:
    """The r of "out_channels" (1) or "out_channels//r"."""
    found = re.fullmatch(r"\s*out_channels\s*(?://\s*([1-9]\d*))?\s*", gate_hidden)
    if found is None:
        raise ValueError(f"gate_hidden must be 'out_channels' or 'out_channels//r'; got {gate_hidden!r}")
    return int(found[1] or 1)


def _blocks(
    in_channels: int, out_channels: int, nb_blocks: int, downsample: bool, downsample_strides: int, block: partial
) -> tuple[nn.Module, dict[str, str]]:
    """nb_blocks in a row; every one of them strides when `downsample`, as in the official loop."""
    if nb_blocks < 1:
        raise ValueError(f"nb_blocks must be at least 1; got {nb_blocks}")
    stride = downsample_strides if downsample else 1
    widths = [in_channels] + [out_channels] * (nb_blocks - 1)
    blocks = [block(width, out_channels, stride=stride) for width in widths]
    if nb_blocks == 1:
        return blocks[0], GATE_KEYS
    keys = {f"{i}.{theirs}": f"{i}.{ours}" for i in range(nb_blocks) for theirs, ours in GATE_KEYS.items()}
    return nn.Sequential(*blocks), keys


def _tflearn(cls: str, shrinkage: str, kernel_default: Sequence[int], gate_default: str) -> Build:
    @official(SOURCE, cls)
    def build(
        in_channels: int,
        out_channels: int,
        nb_blocks: int = 1,
        downsample: bool = False,
        downsample_strides: int = 2,
        kernel: Sequence[int] = kernel_default,
        gate_hidden: str = gate_default,
    ) -> tuple[nn.Module, dict[str, str]]:
        block = partial(
            ShrinkageBlock, kernel_size=tuple(kernel), shrinkage=shrinkage, reduction=_reduction(gate_hidden)
        )
        return _blocks(in_channels, out_channels, nb_blocks, downsample, downsample_strides, block)

    return build


cs_1d = _tflearn("DRSN_1D_TFLearn.rar/appendix.py:residual_shrinkage_block_cs", "drsn_cs", (1, 3), "out_channels")
cw_1d = _tflearn("DRSN_1D_TFLearn.rar/appendix.py:residual_shrinkage_block_cw", "drsn_cw", (1, 3), "out_channels")
cw_2d = _tflearn("DRSN_TFLearn.py:residual_shrinkage_block", "drsn_cw", (3, 3), "out_channels//4")


@official(SOURCE, "DRSN_Keras.py:residual_shrinkage_block")
def keras(
    in_channels: int,
    out_channels: int,
    nb_blocks: int = 1,
    downsample: bool = False,
    downsample_strides: int = 2,
    kernel: Sequence[int] = (3, 3),
    gate_hidden: str = "out_channels",
) -> tuple[nn.Module, dict[str, str]]:
    """The Keras file, which its author warns about: eps 1e-3, decay 0.99, and three things it cannot do.

    Keras's own moving variance is scaled by n/(n − 1 − eps), ours is the biased one: evaluation and gradients agree,
    `running_var` after further training steps does not.
    """
    if (out_channels - in_channels) % 2:
        raise ValueError(f"the Keras block pads both ends alike: growth must be even; got {in_channels}→{out_channels}")
    if nb_blocks > 1 and in_channels != out_channels:
        raise ValueError(
            f"the Keras loop pads every block's shortcut again: with nb_blocks={nb_blocks} out_channels must be"
            f" {in_channels}; got {out_channels}"
        )
    if downsample and downsample_strides != 2:
        raise ValueError(f"the Keras shortcut always strides by 2; got downsample_strides={downsample_strides}")
    block = partial(
        ShrinkageBlock,
        kernel_size=tuple(kernel),
        shrinkage="drsn_cw",
        reduction=_reduction(gate_hidden),
        eps=1e-3,
        momentum=0.01,
    )
    return _blocks(in_channels, out_channels, nb_blocks, downsample, downsample_strides, block)
