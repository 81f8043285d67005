"""Plain-text tables of sites and of placements, the drawing of a network's stages, and counted multiply-adds."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from foveate.counting import count
from foveate.insertion.blend import Crossfade
from foveate.insertion.layouts import layout_of
from foveate.insertion.places import Places, above
from foveate.insertion.probe import Call
from foveate.insertion.site import Site


@dataclass(frozen=True)
class Placement:
    """One attention module at one site.

    Attributes:
        site: where.
        attention: name or class name of the mechanism.
        parameters: number of weights it adds.
        start: ``"paper"`` (its own initialisation), ``"identity"`` (that is the identity) or ``"blend"`` (made the
            identity by a :class:`~foveate.insertion.Blend`).
        macs: multiply-adds that it adds for one sample of the example's size, less those of a convolution that it
            bypasses; None without ``dry_run`` and for a module that cannot be counted on the meta device.
        unread: the outputs do not depend on it, as on the patches of a last block after which only the class token is
            read; it gets no gradient. Not checked with ``dry_run``.
        untrained: the network runs it under ``torch.no_grad``, so that it does not learn. Not checked with ``dry_run``.
    """

    site: Site
    attention: str
    parameters: int
    start: str
    macs: int | None = None
    unread: bool = False
    untrained: bool = False


@dataclass(frozen=True)
class Report:
    """What :func:`~foveate.insertion.insert` put where; ``str(report)`` is a table.

    Attributes:
        placements: in the order in which the network reaches them.
        dry_run: whether the model was left unchanged.
        drawing: the network's stages with a dot where each module lies; part of ``str(report)`` of a dry run.
    """

    placements: tuple[Placement, ...]
    dry_run: bool = False
    drawing: str = ""

    @property
    def parameters(self) -> int:
        """Number of weights added in all."""
        return sum(p.parameters for p in self.placements)

    def __len__(self) -> int:
        return len(self.placements)

    def __iter__(self) -> Iterator[Placement]:
        return iter(self.placements)

    @property
    def macs(self) -> int | None:
        """Multiply-adds added in all, for one sample; None where some are not known."""
        known = [p.macs for p in self.placements if p.macs is not None]
        return sum(known) if len(known) == len(self) else None

    def __str__(self) -> str:
        header = ["site", "kind", "layout", "channels", "shape", "attention", "start", "parameters"]
        rows = []
        for p in self.placements:
            site = p.site
            place = [_place(site), site.kind, site.layout, str(site.channels), _shape(site)]
            rows.append([*place, p.attention, p.start, f"{p.parameters:,}"])
        verb = "would be put in" if self.dry_run else "put in"
        total = f"{len(self)} {'module' if len(self) == 1 else 'modules'} {verb}, {self.parameters:,} parameters"
        if not self.dry_run:
            notes = [
                f"{p.site.name}: only the tokens before the grid are read behind it; attention here has no effect and "
                "gets no gradient"
                for p in self.placements
                if p.unread
            ] + [
                f"{p.site.name}: the network runs it under torch.no_grad; attention here gets no gradient"
                for p in self.placements
                if p.untrained
            ]
            return "\n".join([_table(header, rows), total, *notes])
        rows = [[*row, _number(p.macs)] for row, p in zip(rows, self.placements, strict=True)]
        total += f", {_number(self.macs)} multiply-adds a sample"
        return f"{self.drawing}\n\n{_table([*header, 'multiply-adds'], rows)}\n{total}"


def format_sites(sites: Sequence[Site]) -> str:
    """A plain-text table: name, kind, layout, channels, spatial shape, stage and class of each site."""
    header = ("site", "kind", "layout", "channels", "shape", "stage", "module")
    rows = []
    for s in sites:
        stage = "-" if s.stage is None else str(s.stage)
        rows.append((_place(s), s.kind, s.layout, str(s.channels), _shape(s), stage, s.module))
    return _table(header, rows)


def _place(site: Site) -> str:
    if site.entry is None and site.attached_to != site.name:
        return f"{site.name} (at {site.attached_to})"
    return site.name + {"output": "", "input": " (its input)", "instead": " (instead of it)"}[site.side]


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _shape(site: Site) -> str:
    return "×".join(map(str, site.shape))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    right = {"channels", "shape", "stage", "parameters", "multiply-adds"}
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            c.rjust(w) if h in right else c.ljust(w) for c, w, h in zip(line, widths, header, strict=True)
        ).rstrip()
        for line in lines
    )


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
            after = [s for s in sites if _gives(places, s, unit)]
            within = [s for s in sites if s not in after and _lies_in(places, s, unit)]
            drawn.update(after, within)
            marks.append(f"[{'●' * len(within) or ' '}]{'●' * len(after)}")
        behind = [s for s in sites if s not in drawn and _gives(places, s, end)]
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
    x = torch.empty((1, *site.takes(places.trace)[1:]), device="meta")
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


def _gives(places: Places, site: Site, call: Call) -> bool:
    """Whether the site's module, or a part of it, gives what the call does."""
    return site.entry is None and site.side != "input" and site.call(places.trace).output == call.output


def _output(call: Call) -> int:
    assert call.output is not None
    return call.output


def _lies_in(places: Places, site: Site, unit: Call) -> bool:
    call = places.trace.call_of(site.attached_to)
    return unit.index in (call.index, *above(places.trace, call.index))
