"""Colours by role, distinguishable with every common colour blindness (Okabe and Ito), always paired with a shape."""

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1c2733",
    "muted": "#5b6875",
    "grid": "#e4e8ec",
    "line": "#b9c2cb",
    "plain": "#3d4854",
    "attention": "#0068a8",
    "control": "#c05300",
}
DARK = {
    "paper": "#14191f",
    "ink": "#e6eaee",
    "muted": "#9ba7b3",
    "grid": "#28313a",
    "line": "#4a5661",
    "plain": "#c3ccd5",
    "attention": "#5bb5f0",
    "control": "#f0a04b",
}
FONT = (
    "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', "
    "'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', sans-serif"
)
PRINT_FONT = (
    "Roboto, 'Liberation Sans', Arial, sans-serif"  # Roboto comes with vl-convert, so PNGs look alike everywhere
)

_DRAWING = """
.figure text {{ fill: {ink}; font-family: {font}; }}
.figure text.halo {{ stroke: {paper}; stroke-width: 3; paint-order: stroke; stroke-linejoin: round; }}
.figure text.muted {{ fill: {muted}; }}
.figure text.strong {{ font-weight: 600; }}
.figure .paper {{ fill: {paper}; }}
.figure .grid {{ stroke: {grid}; stroke-width: 1; fill: none; }}
.figure .axis {{ stroke: {line}; stroke-width: 1; fill: none; }}
.figure .reference {{ stroke: {muted}; stroke-width: 1.2; stroke-dasharray: 5 4; fill: none; }}
.figure .box {{ fill: {paper}; stroke: {line}; stroke-width: 1; }}
.figure .flow {{ stroke: {muted}; stroke-width: 1.1; fill: none; }}
.figure .arrow {{ fill: {muted}; stroke: none; }}
.figure .leader {{ stroke: {line}; stroke-width: 0.8; fill: none; }}
"""
_ROLE = """
.figure .{role} {{ fill: {colour}; stroke: {colour}; }}
.figure .{role}.bar {{ fill: none; stroke-width: 1.8; stroke-opacity: 0.65; }}
.figure .{role}.curve {{ fill: none; stroke-width: 2; stroke-linejoin: round; }}
.figure .{role}.band {{ stroke: none; fill-opacity: 0.18; }}
.figure .{role}.seed {{ stroke: none; fill-opacity: 0.4; }}
.figure .{role}.open {{ fill: {paper}; stroke-width: 2; }}
.figure .{role}.thin {{ stroke-width: 1.4; stroke-opacity: 0.6; }}
.figure .{role}.thread {{ fill: none; stroke-width: 0.9; stroke-opacity: 0.8; }}
.figure text.{role} {{ fill: {colour}; stroke: none; }}
.figure text.{role}.halo {{ stroke: {paper}; stroke-width: 3.5; stroke-opacity: 0.85; }}
"""


def drawing_rules(colours: dict[str, str], font: str) -> str:
    """The style sheet of a figure; on the page the colours are CSS variables, in a file of its own they are fixed."""
    roles = "".join(_ROLE.format(role=role, colour=colours[role], paper=colours["paper"]) for role in ROLES)
    return _DRAWING.format(font=font, **colours) + roles


ROLES = ("plain", "attention", "control")
VARIABLES = {name: f"var(--{name})" for name in LIGHT}
