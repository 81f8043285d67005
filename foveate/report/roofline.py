"""A roofline: every operator's rate against its operations a byte, under what the machine can do."""

import math
from typing import TYPE_CHECKING, Any

from foveate.report import numbers
from foveate.report.drawing import Drawing, Scale, shorten
from foveate.report.labels import Box, place

if TYPE_CHECKING:
    from rich.console import Group

WIDTH, HEIGHT, SIZE, NAMED = 960.0, 600.0, 12.0, 5
LEFT, RIGHT, TOP, BELOW = 70.0, 24.0, 62.0, 96.0


def roofline_drawing(found: dict[str, Any]) -> Drawing:
    """One mark an operator, its area the time it takes; the slowest are named.

    found: of `foveate.costs.roofline`, as plain values, with "where" and "where_inserted", and "about" the network.
    """
    drawing = Drawing("roofline", WIDTH, HEIGHT, f"{found['about']} under the roof of the machine")
    points = [point for point in found["points"] if point["operations"] and point["bytes_moved"] and point["ms"]]
    drawing.text(10, 22, found["about"], size=14, style="strong")
    drawing.text(10, 42, where_in_words(found), style="muted")
    drawing.description = where_in_words(found)
    machine = found["machine"]
    peak = machine["gmacs_s"]
    cache, memory = machine["copy_gb_s"][0][1], machine["copy_gb_s"][-1][1]
    marks = [(_intensity(point), _rate(point)) for point in points]
    x = logarithmic([i for i, _ in marks] + [peak / memory * 4, 0.1], LEFT, WIDTH - RIGHT)
    y = logarithmic([r for _, r in marks] + [peak * 3], HEIGHT - BELOW, TOP)
    rate_axes(drawing, x, y)
    drawing.clip(LEFT, TOP, WIDTH - RIGHT - LEFT, HEIGHT - BELOW - TOP)
    roof_line(drawing, x, y, cache, peak, "reference")
    roof_line(drawing, x, y, memory, peak, "axis")
    drawing.unclip()
    whole = sum(point["ms"] for point in found["points"]) or 1.0
    at = [(x(math.log10(i)), y(math.log10(r))) for i, r in marks]
    for point, (px, py) in sorted(zip(points, at, strict=True), key=lambda pair: -pair[0]["ms"]):
        size = max(2.2, 26 * math.sqrt(point["ms"] / whole))
        drawing.mark(px, py, _role(point), _in_words(point), size=size, style="seed")
    _names(drawing, points, at)
    roof = f"roof: {peak:.0f} G multiply-adds/s; {cache:.0f} GB/s in cache (dashed), {memory:.0f} GB/s from memory"
    drawing.text(WIDTH - RIGHT, y(math.log10(peak)) - 8, roof, anchor="end", size=11, style="muted halo")
    _legend(drawing, points)
    return drawing


def roofline_table(found: dict[str, Any], shown: int = 12) -> "Group":
    """Where the time goes, and the slowest operators, for `rich.print`; fits 100 columns."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("operator", max_width=44, overflow="fold")
    for heading in ("ms", "%", "operations\na byte", "G operations\na second", "of the roof\n%"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("bound by")
    whole = sum(point["ms"] for point in found["points"]) or 1.0
    for point in sorted(found["points"], key=lambda point: -point["ms"])[:shown]:
        table.add_row(
            Text(f"{point['module']} {_name(point)}" + (" (inserted)" if point["inserted"] else "")),
            numbers.milliseconds(point["ms"]),
            f"{100 * point['ms'] / whole:.1f}",
            f"{_intensity(point):.2f}",
            f"{_rate(point):.2f}",
            f"{100 * _rate(point) / _under(found['machine'], point):.0f}" if point["operations"] else numbers.NONE,
            point["bound"],
        )
    return Group(Text(found["about"], style="bold"), Text(where_in_words(found)), Text(""), table)


def where_in_words(found: dict[str, Any]) -> str:
    """Where the time of the operators goes: "72.1 ms: bound by arithmetic 91 %, memory 8 %, launch 1 %"."""
    parts = []
    for key, name in (("where", "all operators"), ("where_inserted", "the inserted ones")):
        whole = sum(found[key].values())
        if whole:
            shares = ", ".join(f"{bound} {100 * ms / whole:.0f} %" for bound, ms in found[key].items())
            parts.append(f"{name} {numbers.milliseconds(whole)} ms: bound by {shares}")
    return "; ".join(parts)


def _intensity(point: dict[str, Any]) -> float:
    return float(point["operations"] / point["bytes_moved"]) if point["bytes_moved"] else 0.0


def _rate(point: dict[str, Any]) -> float:
    return float(point["operations"] / point["ms"] / 1e6) if point["ms"] else 0.0


def _under(machine: dict[str, Any], point: dict[str, Any]) -> float:
    """The roof over a point, by the bandwidth in cache."""
    return float(min(machine["gmacs_s"], _intensity(point) * machine["copy_gb_s"][0][1]))


def _role(point: dict[str, Any]) -> str:
    if point["inserted"]:
        return "attention"
    return "plain" if point["bound"] == "arithmetic" else "control"


def _name(point: dict[str, Any]) -> str:
    return str(point["operator"]).removeprefix("aten.").removeprefix("native_").rstrip("_")


def _in_words(point: dict[str, Any]) -> str:
    return f"{point['module']} {_name(point)}: {numbers.milliseconds(point['ms'])} ms, bound by {point['bound']}"


def logarithmic(values: list[float], start: float, end: float) -> Scale:
    """A scale of powers of ten: it is given logarithms."""
    low, high = math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.05
    return Scale(low, high, start, end, tuple(float(k) for k in range(math.ceil(low), math.floor(high) + 1)))


def roof_line(drawing: Drawing, x: Scale, y: Scale, bandwidth: float, peak: float, style: str) -> None:
    """What a bandwidth in GB/s and a peak in G operations a second allow."""
    corner = math.log10(peak / bandwidth)
    left = (x(x.low), y(x.low + math.log10(bandwidth)))
    drawing.path([left, (x(corner), y(math.log10(peak))), (x(x.high), y(math.log10(peak)))], style)


def rate_axes(drawing: Drawing, x: Scale, y: Scale) -> None:
    """Operations a byte across, operations a second upwards."""
    for tick in y.ticks:
        drawing.line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid")
        drawing.text(LEFT - 8, y(tick) + 4, f"{10**tick:g}", anchor="end", style="muted")
    for tick in x.ticks:
        drawing.line(x(tick), TOP, x(tick), HEIGHT - BELOW, "grid")
        drawing.text(x(tick), HEIGHT - BELOW + 18, f"{10**tick:g}", anchor="middle", style="muted")
    drawing.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BELOW + 38, "operations a byte", anchor="middle", style="muted")
    drawing.turned(18, (TOP + HEIGHT - BELOW) / 2, "G operations a second", style="muted")


def _names(drawing: Drawing, points: list[dict[str, Any]], at: list[tuple[float, float]]) -> None:
    slowest = sorted(range(len(points)), key=lambda i: -points[i]["ms"])[:NAMED]
    spots = [at[i] for i in slowest]
    names = [shorten(f"{points[i]['module']} {_name(points[i])}", 280, SIZE) for i in slowest]
    frame = Box(LEFT + 2, TOP, WIDTH - RIGHT, HEIGHT - BELOW - 2)
    for i, name, spot, where in zip(slowest, names, spots, place(spots, names, [], frame, SIZE), strict=True):
        if where.leader:
            box = where.box
            near = min(max(spot[0], box.left), box.right), min(max(spot[1], box.top), box.bottom)
            drawing.line(*spot, *near, "leader")
        drawing.text(where.x, where.y, name, size=SIZE, anchor=where.anchor, style=f"{_role(points[i])} halo")


def _legend(drawing: Drawing, points: list[dict[str, Any]]) -> None:
    words = {
        "plain": "bound by arithmetic",
        "control": "bound by memory or launch",
        "attention": "of the inserted modules",
    }
    left, there = LEFT, {_role(point) for point in points}
    for role in (role for role in words if role in there):
        drawing.mark(left + 6, HEIGHT - 16, role, style="seed")
        drawing.text(left + 18, HEIGHT - 12, words[role], style="muted")
        left += 40 + len(words[role]) * SIZE * 0.54
    note = "a multiply-add is one operation; area: time"
    drawing.text(WIDTH - RIGHT, HEIGHT - 12, note, anchor="end", style="muted")
