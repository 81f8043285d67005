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
    """

    site: Site
    attention: str
    parameters: int
    start: str


@dataclass(frozen=True)
class Report:
    """What :func:`~foveate.insertion.insert` put where; ``str(report)`` is a table."""

    placements: tuple[Placement, ...]
    dry_run: bool = False

    @property
    def parameters(self) -> int:
        """Number of weights added in all."""
        return sum(p.parameters for p in self.placements)

    def __len__(self) -> int:
        return len(self.placements)

    def __iter__(self) -> Iterator[Placement]:
        return iter(self.placements)

    def __str__(self) -> str:
        header = ("site", "kind", "channels", "shape", "attention", "start", "parameters")
        rows = [
            (
                _place(p.site),
                p.site.kind,
                str(p.site.channels),
                _shape(p.site),
                p.attention,
                p.start,
                f"{p.parameters:,}",
            )
            for p in self.placements
        ]
        verb = "would be put in" if self.dry_run else "put in"
        modules = "module" if len(self) == 1 else "modules"
        return f"{_table(header, rows)}\n{len(self)} {modules} {verb}, {self.parameters:,} parameters"


def format_sites(sites: Sequence[Site]) -> str:
    """A plain-text table: name, kind, channels, spatial shape, stage and class of each site."""
    header = ("site", "kind", "channels", "shape", "stage", "module")
    rows = [
        (_place(s), s.kind, str(s.channels), _shape(s), "-" if s.stage is None else str(s.stage), s.module)
        for s in sites
    ]
    return _table(header, rows)


def _place(site: Site) -> str:
    if site.attached_to != site.name:
        return f"{site.name} (at {site.attached_to})"
    return f"{site.name} (its input)" if site.side == "input" else site.name


def _shape(site: Site) -> str:
    return "×".join(map(str, site.shape))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    right = {"channels", "shape", "stage", "parameters"}
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            c.rjust(w) if h in right else c.ljust(w) for c, w, h in zip(line, widths, header, strict=True)
        ).rstrip()
        for line in lines
    )
