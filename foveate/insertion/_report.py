"""Plain-text tables of sites and of what was put where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from foveate.insertion._sites import Site


@dataclass(frozen=True)
class Placement:
    """One attention module at one site.

    Attributes:
        site: where.
        attention: name or class name of the mechanism.
        parameters: number of weights that it adds.
        start: ``"paper"`` (its own initialisation), ``"identity"`` (that is the identity) or ``"blend"`` (made the
            identity by a :class:`~foveate.insertion.Blend`).
        macs: multiply-adds that it adds for one sample of the example's size, less those of a convolution that it
            bypasses; None without ``dry_run`` and for a module that cannot be counted on the meta device.
        unread: nothing that the model gives depends on it, as on the patches of a last block of which only the class
            token is read; it gets no gradient. Not looked for with ``dry_run``.
    """

    site: Site
    attention: str
    parameters: int
    start: str
    macs: int | None = None
    unread: bool = False


@dataclass(frozen=True)
class Report:
    """What :func:`~foveate.insertion.insert` put where; ``str(report)`` is a table.

    Attributes:
        placements: in the order in which the network reaches them.
        dry_run: whether nothing was done.
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
    if site.attached_to != site.name:
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
