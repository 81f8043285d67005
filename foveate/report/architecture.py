"""The architecture of a network: its steps from input to output, and below them each kind of block and of attention.

Reads {"name", "shape", "parameters", "attention", "steps": [...], "blocks": [...]}, of
`foveate.architecture.describe` as plain values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foveate.report import numbers
from foveate.report.drawing import Drawing, shorten, width_of
from foveate.report.layered import Layered, layered

WIDTH, SIZE, SMALL = 960.0, 12.0, 11.0
NAMES, BOX, ROW, STEP_GAP = 190.0, 330.0, 26.0, 16.0  # of the overview: names at the left, boxes, their height
INNER, LINE, PERMUTED = 262.0, 15.0, 52.0  # of a block: widest box; a line; height of a permutation
LANE, PANEL_GAP, HEAD = 9.0, 34.0, 34.0
MOST_LINES = 128  # of a permutation
GROUPS = ("attention", "control", "plain")
Steps = Sequence[dict[str, Any]]


def architecture_drawing(found: dict[str, Any]) -> Drawing:
    """The whole figure; as wide as its widest block, at least 960 units."""
    panels = [_panel(number, block) for number, block in enumerate(found["blocks"])]
    width = max(WIDTH, *(panel.width + 40 for panel in panels), 0)
    shelves = _shelves(panels, width)
    rows = _row_tops(found["steps"])
    height = 66 + rows[-1] + ROW + 30 + sum(max(p.height for p in shelf) + PANEL_GAP for shelf in shelves)
    drawing = Drawing("architecture", width, height, f"{found['name']}: architecture")
    drawing.description = in_words(found)
    drawing.text(10, 24, found["name"], size=15, style="strong")
    drawing.text(10, 44, in_words(found), style="muted")
    _overview(drawing, found, 66, rows)
    top = 66 + rows[-1] + ROW + 30
    for shelf in shelves:
        left = 10.0
        for panel in shelf:
            panel.draw(drawing, left, top)
            left += panel.width + PANEL_GAP
        top += max(panel.height for panel in shelf) + PANEL_GAP
    return drawing


def in_words(found: dict[str, Any]) -> str:
    """ "of 3×224×224; 2,278,604 parameters; attention: se in 16 places"."""
    parts = [f"of {_shape(found['shape'])}", f"{numbers.whole(found['parameters'])} parameters"]
    said = ", ".join(f"{name} in {count} place{'s' if count > 1 else ''}" for name, count in found["attention"].items())
    return "; ".join([*parts, f"attention: {said}" if said else "no attention"])


def _overview(drawing: Drawing, found: dict[str, Any], top: float, rows: list[float]) -> None:
    steps: Steps = [{"name": "", "label": "input", "shape": found["shape"]} | _NOTHING, *found["steps"]]
    y = [top + at for at in rows]
    left, right = NAMES, NAMES + BOX
    lanes = _lanes(
        [(max(source + 1, 0), number + 1) for number, one in enumerate(found["steps"]) for source in one["takes"]]
    )
    aside = right + LANE * (1 + max(lanes.values(), default=-1)) + 12
    for (source, number), lane in lanes.items():
        at = right + LANE * (lane + 1)
        points = [(right, y[source] + ROW * 0.62), (at, y[source] + ROW * 0.62), (at, y[number] + ROW * 0.3)]
        drawing.path([*points, (right + 5, y[number] + ROW * 0.3)], "flow")
        drawing.path(_head(right, y[number] + ROW * 0.3, 0), "arrow", closed=True)
    for number, step in enumerate(steps):
        role = "attention" if step["attention"] else ""
        _box(drawing, left, y[number], BOX, ROW, role)
        label = step["label"] + (f" ×{step['repeats']}" if step["repeats"] > 1 else "")
        inside = _inside(found, step)
        drawing.text(left + 10, y[number] + 17, shorten(label, BOX - 120, SIZE), style=role or "strong")
        more = ", ".join(step["more"]) or inside
        room = BOX - 40 - width_of(label, SIZE)
        if more and room > 40:
            style = "attention" if inside and not step["more"] else "muted"
            drawing.text(right - 26, y[number] + 17, shorten(more, room, SMALL), size=SMALL, anchor="end", style=style)
        if step["block"] is not None:
            drawing.text(right - 8, y[number] + 17, _letter(step["block"]), size=SMALL, anchor="end", style="muted")
        drawing.text(
            left - 10, y[number] + 17, shorten(step["name"], NAMES - 20, SMALL), size=SMALL, anchor="end", style="muted"
        )
        said = [_shape(step["shape"])]
        said += [f"{numbers.compact(step['parameters'])} parameters"] if step["parameters"] else []
        drawing.text(aside, y[number] + 17, ",  ".join(said), size=SMALL, style="muted")
        if number and number - 1 in [max(source + 1, 0) for source in step["takes"]]:
            middle = left + BOX / 2
            drawing.line(middle, y[number - 1] + ROW, middle, y[number] - 4, "flow")
            drawing.path(_head(middle, y[number], 1), "arrow", closed=True)


_NOTHING: dict[str, Any] = {
    "attention": "", "repeats": 1, "more": (), "block": None, "parameters": 0, "takes": (), "width": "",
    "permutation": (),
}  # fmt: skip


def _inside(found: dict[str, Any], step: dict[str, Any]) -> str:
    """ "with se": the attention that the step's block contains."""
    if step["block"] is None or step["attention"]:
        return ""
    names, open_ = dict[str, None](), [step["block"]]
    seen = set[int]()
    while open_:
        block = open_.pop()
        if block in seen:
            continue
        seen.add(block)
        for one in found["blocks"][block]["steps"]:
            if one["attention"]:
                names[one["attention"]] = None
            elif one["block"] is not None:
                open_.append(one["block"])
    return f"with {', '.join(names)}" if names else ""


def _row_tops(steps: Steps) -> list[float]:
    return [(ROW + STEP_GAP) * number for number in range(len(steps) + 1)]


def _lanes(lines: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """A lane beside the boxes for each line that passes some, short ones next to them."""
    taken: list[list[tuple[int, int]]] = []
    found = {}
    for start, end in sorted({one for one in lines if one[1] - one[0] > 1}, key=lambda one: one[1] - one[0]):
        free = next((n for n, lane in enumerate(taken) if all(end <= a or start >= b for a, b in lane)), len(taken))
        if free == len(taken):
            taken.append([])
        taken[free].append((start, end))
        found[start, end] = free
    return found


@dataclass(frozen=True)
class _Panel:
    """The figure of one block."""

    number: int
    block: dict[str, Any]
    places: Layered
    widths: list[float]
    heights: list[float]

    @property
    def title(self) -> str:
        kind = "attention" if self.block["attention"] else "block"
        alike = f", {self.block['alike']} alike" if self.block["alike"] > 1 else ""
        return f"{_letter(self.number)}  {self.block['title']} ({kind}{alike})"

    @property
    def width(self) -> float:
        return max(self.places.width + 24, width_of(self.title, 13) + 24, width_of(self.block["name"], SMALL) + 24)

    @property
    def height(self) -> float:
        return HEAD + self.places.height + 30

    def draw(self, drawing: Drawing, left: float, top: float) -> None:
        role = "attention" if self.block["attention"] else ""
        drawing.text(left, top + 14, self.title, size=13, style=f"strong {role}".strip())
        drawing.text(left, top + 30, self.block["name"], size=SMALL, style="muted")
        shift = left + (self.width - self.places.width) / 2
        down = top + HEAD + 12
        for points in self.places.lines.values():
            moved = [(x + shift, y + down) for x, y in points]
            moved[-1] = (moved[-1][0], moved[-1][1] - 4)
            drawing.curve(moved, "flow")
            drawing.path(_head(moved[-1][0], moved[-1][1] + 4, 1), "arrow", closed=True)
        for step, x, y, wide, high in zip(
            [*self.block["inputs"], *self.block["steps"]],
            self.places.x,
            self.places.y,
            self.widths,
            self.heights,
            strict=True,
        ):
            _inner(drawing, step, x + shift - wide / 2, y + down, wide, high)


def _panel(number: int, block: dict[str, Any]) -> _Panel:
    steps: Steps = block["steps"]
    given = len(block["inputs"])
    widths = [*(width_of(name, SIZE) + 24 for name in block["inputs"]), *(_wide(step) for step in steps)]
    heights = [20.0] * given + [_high(step) for step in steps]
    takes = [()] * given + [
        tuple(source + given if source >= 0 else -1 - source for source in step["takes"]) for step in steps
    ]
    return _Panel(number, block, layered(takes, widths, heights), widths, heights)


def _lines(step: dict[str, Any]) -> list[str]:
    """What stands in a step's box below its label."""
    found = [step["width"]] if step["width"] else []
    return [*found, ", ".join(step["more"])] if step["more"] else found


def _wide(step: dict[str, Any]) -> float:
    if step["permutation"]:
        return INNER
    longest = max([width_of(_called(step), SIZE), *(width_of(line, SMALL) for line in _lines(step))])
    return min(INNER, max(longest + 22, 40.0))


def _called(step: dict[str, Any]) -> str:
    """The label, and the letter of the block that shows its inside."""
    return str(step["label"]) + (f" {_letter(step['block'])}" if step["block"] is not None else "")


def _high(step: dict[str, Any]) -> float:
    return 24 + LINE * len(_lines(step)) + (PERMUTED if step["permutation"] else 0)


def _inner(drawing: Drawing, step: dict[str, Any] | str, left: float, top: float, wide: float, high: float) -> None:
    if isinstance(step, str):
        drawing.text(left + wide / 2, top + 14, step, anchor="middle", style="strong")
        return
    role = "attention" if step["attention"] else ""
    _box(drawing, left, top, wide, high, role)
    middle = left + wide / 2
    drawing.text(middle, top + 16, shorten(_called(step), wide - 10, SIZE), anchor="middle", style=role or "strong")
    for number, line in enumerate(_lines(step)):
        at = top + 16 + LINE * (number + 1)
        drawing.text(middle, at, shorten(line, wide - 10, SMALL), size=SMALL, anchor="middle", style="muted")
    if step["permutation"]:
        _permutation(drawing, step["permutation"], left + 8, top + 24, wide - 16, PERMUTED - 8)


def _permutation(drawing: Drawing, channels: Sequence[int], left: float, top: float, wide: float, high: float) -> None:
    """A line from each channel of the source, above, to its place, below; a group that stays together has one
    colour."""
    count = len(channels)
    size = max(channels[1] - channels[0], 1)
    shown = range(count) if count <= MOST_LINES else sorted({i * count // MOST_LINES for i in range(MOST_LINES)})
    for place in shown:
        source = channels[place]
        start, end = left + wide * (source + 0.5) / count, left + wide * (place + 0.5) / count
        group = source // size if count // size <= size else source % size
        role = GROUPS[group % len(GROUPS)]
        drawing.line(start, top, end, top + high, f"{role} thread")
    drawing.line(left, top, left + wide, top, "axis")
    drawing.line(left, top + high, left + wide, top + high, "axis")


def _shelves(panels: Sequence[_Panel], width: float) -> list[list[_Panel]]:
    shelves: list[list[_Panel]] = []
    room = 0.0
    for panel in panels:
        if not shelves or room < panel.width:
            shelves.append([])
            room = width - 20
        shelves[-1].append(panel)
        room -= panel.width + PANEL_GAP
    return shelves


def _box(drawing: Drawing, left: float, top: float, wide: float, high: float, role: str) -> None:
    drawing.box(left, top, wide, high, "box")
    if role:
        drawing.box(left, top, wide, high, f"{role} band")
        drawing.box(left, top, wide, high, f"{role} bar")


def _head(x: float, y: float, down: int) -> list[tuple[float, float]]:
    """The head of an arrow that ends at (x, y), from above or from the right."""
    if down:
        return [(x - 4, y - 6), (x + 4, y - 6), (x, y)]
    return [(x + 6, y - 4), (x + 6, y + 4), (x, y)]


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _letter(number: int) -> str:
    """0 → "A", 26 → "A2"."""
    turn, place = divmod(number, 26)
    return chr(ord("A") + place) + (str(turn + 1) if turn else "")
