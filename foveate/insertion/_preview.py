"""What a placement would look like and cost: a plain-text drawing, and counted multiply-adds."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from foveate.counting import count
from foveate.insertion._attach import Crossfade
from foveate.insertion._layouts import layout_of
from foveate.insertion._probe import Call
from foveate.insertion._sites import Places, Site
from foveate.insertion._stages import above

BLOCKS_A_LINE = 16
LEGEND = "[ ] a block  ● attention: in the brackets within the block, behind them after it"


def drawing(places: Places, sites: Sequence[Site]) -> str:
    """The stages of a network, a line each, with a dot where each of ``sites`` lies."""
    head = ("stage", "resolution", "channels", "blocks", "")
    rows, drawn = [head], set[Site]()
    for number, (end, units) in enumerate(places.stages, 1):
        layout = layout_of(places.trace, _output(units[-1]))
        assert layout is not None
        marks = []
        for unit in units:
            after = [s for s in sites if _output(_call(places, s)) == unit.output and s.side != "input"]
            within = [s for s in sites if s not in after and _lies_in(places, s, unit)]
            drawn.update(after, within)
            marks.append(f"[{'●' * len(within) or ' '}]{'●' * len(after)}")
        behind = [s for s in sites if s not in drawn and _output(_call(places, s)) == end.output]
        drawn.update(behind)
        lines = ["-".join(marks[i : i + BLOCKS_A_LINE]) for i in range(0, len(marks), BLOCKS_A_LINE)]
        lines[-1] += f"-{'●' * len(behind)}" if behind else ""
        size = "×".join(map(str, layout.shape))
        rows.append((str(number), size, str(layout.channels), str(len(units)), lines[0]))
        rows += [("", "", "", "", line) for line in lines[1:]]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    text = ["  ".join([*(c.rjust(w) for c, w in zip(row, widths, strict=False)), row[4]]).rstrip() for row in rows]
    if not places.stages:
        text = ["no stages were seen"]
    elsewhere = [s for s in sites if s not in drawn]
    if elsewhere:
        names = ", ".join(s.name for s in elsewhere[:8]) + (", ..." if len(elsewhere) > 8 else "")
        text.append(f"outside of these blocks: {'●' * len(elsewhere)} ({names})")
    return "\n".join([*text, LEGEND])


def added_macs(places: Places, site: Site, new: nn.Module) -> int | None:
    """Multiply-adds of one sample that ``new`` adds to a forward pass, less those of a convolution that it bypasses.

    Counted on the meta device; None for a module that cannot run there.
    """
    call = places.trace.call_of(site.attached_to)
    node = call.output if site.side == "output" else call.inputs[0]
    assert node is not None
    x = torch.empty((1, *places.trace.nodes[node].shape[1:]), device="meta")
    with torch.no_grad():
        try:
            twin = copy.deepcopy(new).float().to("meta").eval()
            if site.side != "instead":
                return count(twin, x, kept=False).macs
            host = copy.deepcopy(call.module).float().to("meta")
            if isinstance(twin, Crossfade):
                return count(twin, (x, host(x)), kept=False).macs
            return count(twin, x, kept=False).macs - count(host, x, kept=False).macs
        except (NotImplementedError, RuntimeError, ValueError):
            return None


def _call(places: Places, site: Site) -> Call:
    return places.trace.call_of(site.name)


def _output(call: Call) -> int:
    assert call.output is not None
    return call.output


def _lies_in(places: Places, site: Site, unit: Call) -> bool:
    call = places.trace.call_of(site.attached_to)
    return unit.index in (call.index, *above(places.trace, call.index))
