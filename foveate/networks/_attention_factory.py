"""Where a residual network has attention, and with which options in which stage."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from foveate.attention import attention_class, create_attention
from foveate.networks._residual import PLACEMENTS, Attention

WHERE = (*PLACEMENTS, "kernel", "stage")
Options = Mapping[str, Any]
Blocks = Sequence[bool | Sequence[int]]


class AttentionFactory:
    """Builds the attention of a residual network, by stage and block.

    Args:
        name: of a mechanism; None: no attention anywhere.
        options: of the mechanism, or a list of them, one for each stage.
        placement: of `WHERE`.
        chosen: for each stage whether its blocks have attention, or which; None: all, with "stage" all but the last.
        blocks: number of blocks of each stage.
        block: the kind of block.
    """

    def __init__(
        self,
        name: str | None,
        options: Options | Sequence[Options] | None,
        placement: str,
        chosen: Blocks | None,
        blocks: Sequence[int],
        block: str,
    ) -> None:
        if placement not in WHERE:
            raise ValueError(f"placement must be one of {', '.join(map(repr, WHERE))}; got {placement!r}")
        if name is None and (options or chosen is not None or placement != "standard"):
            raise ValueError("attention_options, attention_blocks and placement need attention=; got none")
        if placement == "kernel":
            if block != "bottleneck":
                raise ValueError(f"placement='kernel' stands for the 3×3 of block='bottleneck'; got block={block!r}")
            if getattr(attention_class(str(name)), "replaces", None) != "convolution":
                raise ValueError(
                    f"placement='kernel' needs a mechanism that is a convolution, such as 'sk'; got {name!r}"
                )
        self.name, self.placement = name, placement
        self.options = (
            [options or {}] * len(blocks) if options is None or isinstance(options, Mapping) else list(options)
        )
        if len(self.options) != len(blocks):
            raise ValueError(
                f"attention_options must be options, or a list of them, one for each of {len(blocks)} stages;"
                f" got {len(self.options)}"
            )
        self.chosen = _chosen(chosen, blocks, placement)

    def in_block(self, stage: int, index: int) -> Attention | None:
        """Builds the attention on a block's branch, input, output or shortcut; None: it has none there."""
        return None if self.placement in ("kernel", "stage") else self._builder(stage, index)

    def instead_of_kernel(self, stage: int, index: int, stride: int) -> Attention | None:
        """Builds what replaces a block's 3×3, norm and ReLU; None: they stay."""
        build = self._builder(stage, index) if self.placement == "kernel" else None
        return build and partial(build, stride=stride)

    def after_stage(self, stage: int) -> Attention | None:
        """Builds the attention behind the stage; None: there is none."""
        return self._builder(stage, 0) if self.placement == "stage" else None

    def _builder(self, stage: int, index: int) -> "partial[nn.Module] | None":
        if self.name is None or index not in self.chosen[stage]:
            return None
        return partial(create_attention, self.name, **self.options[stage])


def _chosen(chosen: Blocks | None, blocks: Sequence[int], placement: str) -> list[set[int]]:
    if chosen is None:
        chosen = [placement != "stage" or stage + 1 < len(blocks) for stage in range(len(blocks))]
    if len(chosen) != len(blocks):
        raise ValueError(f"attention_blocks must have an entry for each of {len(blocks)} stages; got {len(chosen)}")
    found = []
    for stage, (entry, count) in enumerate(zip(chosen, blocks, strict=True)):
        count = 1 if placement == "stage" else count
        indices = set(range(count) if entry else ()) if isinstance(entry, bool) else set(entry)
        if odd := sorted(indices - set(range(count))):
            raise ValueError(f"attention_blocks: stage {stage} has the blocks 0 to {count - 1}; got {odd[0]!r}")
        found.append(indices)
    return found
