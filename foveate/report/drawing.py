"""The few strokes that our figures need, as SVG text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from foveate.report.colours import LIGHT, PRINT_FONT, drawing_rules

CHAR = 0.53  # mean width of a character of our fonts, in units of its size


@dataclass(frozen=True)
class Scale:
    """Numbers → pixels, linear; `ticks` are round numbers inside."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...] = ()

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def clip(self, value: float) -> float:
        return min(max(value, self.low), self.high)

    def label(self, tick: float) -> str:
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else 1.0
        if abs(tick) < 1e-9 * step:
            return "0"
        if not 1e-5 <= step < 1e7:
            return f"{tick:.3g}".replace("-", "−")
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return f"{tick:.{digits}f}".replace("-", "−")


def scale(low: float, high: float, start: float, end: float, count: int = 5) -> Scale:
    """A scale from `low` to `high`, widened where they are equal, with about `count` round ticks."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = 0.01 * max(abs(low), abs(high)) or 0.5
        low, high = low - room, high + room
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    ticks = tuple(step * k for k in range(first, math.floor(high / step + 1e-9) + 1))
    return Scale(low, high, start, end, ticks)


def bounds(
    marks: Sequence[float], ends: Sequence[float], *, margin: float = 0.06, reach: float = 4.0
) -> tuple[float, float]:
    """From-to that holds every mark, and every interval end that is not `reach` times farther out than the marks."""
    low, high = min(marks), max(marks)
    span = max(high - low, 0.01 * abs(high)) or 1.0
    low = max(min([low, *ends]), low - reach * span)
    high = min(max([high, *ends]), high + reach * span)
    pad = max(margin * (high - low), (span - (high - low)) / 2)  # equal values get room for round ticks
    return low - pad, high + pad


def width_of(text: str, size: float) -> float:
    """About how wide a text is drawn, in pixels."""
    return len(text) * size * CHAR


def shorten(text: str, width: float, size: float) -> str:
    """The text, its middle left out where it would be wider than `width`."""
    room = max(4, int(width / (size * CHAR)))
    if len(text) <= room:
        return text
    tail = (room - 1) // 2
    return f"{text[: room - 1 - tail]}…{text[-tail:]}"


@dataclass
class Drawing:
    """A figure: strokes collected in order, a title and a description for those who cannot see it.

    reading: what it shows, in a sentence. data: its numbers, a heading and rows.
    """

    name: str
    width: float
    height: float
    title: str
    description: str = ""
    reading: str = ""
    data: Sequence[Sequence[object]] = ()
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>')

    def path(self, points: Sequence[tuple[float, float]], style: str, *, closed: bool = False) -> None:
        steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path d="M{steps}{" Z" if closed else ""}" class="{style}"/>')

    def curve(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """A line through the points that leaves and reaches each of them upright."""
        steps = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
        for (x, y), (to_x, to_y) in pairwise(points):
            middle = (y + to_y) / 2
            steps += f" C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
        self.parts.append(f'<path d="{steps}" class="{style}"/>')

    def box(self, x: float, y: float, width: float, height: float, style: str) -> None:
        """A rectangle with round corners."""
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4"'
        self.parts.append(f'<rect {place} class="{style}"/>')

    def clip(self, x: float, y: float, width: float, height: float) -> None:
        """From here to `unclip` nothing is drawn outside this box."""
        name = f"{self.name}-clip-{len(self.parts)}"
        box = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        self.parts.append(f'<clipPath id="{name}">{box}</clipPath><g clip-path="url(#{name})">')

    def unclip(self) -> None:
        self.parts.append("</g>")

    def text(self, x: float, y: float, text: str, *, size: float = 12, anchor: str = "start", style: str = "") -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}"'
        self.parts.append(f'<text {place} class="{style}">{escape(text)}</text>')

    def turned(self, x: float, y: float, text: str, *, size: float = 12, style: str = "") -> None:
        """Text that reads upwards, centred at (x, y)."""
        self.parts.append(
            f'<text transform="translate({x:.1f} {y:.1f}) rotate(-90)" font-size="{size:g}" text-anchor="middle" '
            f'class="{style}">{escape(text)}</text>'
        )

    def mark(self, x: float, y: float, role: str, hint: str = "", *, size: float = 5, style: str = "") -> None:
        """Plain: a square; attention: a disc; control: a diamond. `hint` shows under the pointer."""
        inside = f"<title>{escape(hint)}</title>" if hint else ""
        style = f"{role} {style}".strip()
        if role == "attention":
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" class="{style}">{inside}</circle>')
            return
        reach = size * (1.3 if role == "control" else 0.9)
        corners = [(0, -1), (1, 0), (0, 1), (-1, 0)] if role == "control" else [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        steps = " L".join(f"{x + reach * dx:.1f} {y + reach * dy:.1f}" for dx, dy in corners)
        self.parts.append(f'<path d="M{steps} Z" class="{style}">{inside}</path>')

    def interval(
        self, along: Scale, low: float, high: float, across: float, role: str, *, upright: bool = False
    ) -> None:
        """A bar from low to high; where the scale cuts it an arrow head shows that it goes on."""
        ends = [(along(along.clip(value)), value != along.clip(value)) for value in (low, high)]
        (start, _), (end, _) = ends
        self._segment(start, end, across, f"{role} bar", upright)
        for position, cut in ends:
            outward = math.copysign(1, position - (start + end) / 2) if start != end else 0
            if cut:
                tips = [(position - 6 * outward, across - 4), (position, across), (position - 6 * outward, across + 4)]
                self.path([(y, x) if upright else (x, y) for x, y in tips], f"{role} bar")
            else:
                self._cap(position, across, f"{role} bar", upright)

    def _segment(self, start: float, end: float, across: float, style: str, upright: bool) -> None:
        if upright:
            self.line(across, start, across, end, style)
        else:
            self.line(start, across, end, across, style)

    def _cap(self, position: float, across: float, style: str, upright: bool) -> None:
        self._segment(across - 3.5, across + 3.5, position, style, not upright)

    def _body(self, extra: str = "") -> str:
        return (
            f'viewBox="0 0 {self.width:g} {self.height:g}" class="figure" role="img" '
            f'aria-labelledby="{self.name}-title {self.name}-description"{extra}>'
            f'<title id="{self.name}-title">{escape(self.title)}</title>'
            f'<desc id="{self.name}-description">{escape(self.description)}</desc>'
        )

    def inline(self) -> str:
        """For the page, which brings the style sheet."""
        return f"<svg {self._body()}{''.join(self.parts)}</svg>"

    def standalone(self) -> str:
        """A file of its own, on white, with its styles inside."""
        size = f' width="{self.width:g}" height="{self.height:g}"'
        paper = f'<rect width="{self.width:g}" height="{self.height:g}" class="paper"/>'
        style = f"<style>{drawing_rules(LIGHT, PRINT_FONT)}</style>"
        return f'<svg xmlns="http://www.w3.org/2000/svg" {self._body(size)}{style}{paper}{"".join(self.parts)}</svg>\n'

    def png(self, zoom: float = 2.0) -> bytes:
        """The same as a picture, `zoom` pixels to the unit."""
        import vl_convert

        picture: bytes = vl_convert.svg_to_png(self.standalone(), scale=zoom)
        return picture
