"""A network against ShuffleNet v2's guidelines: a table for the terminal, and a picture of what each place costs."""

from typing import TYPE_CHECKING, Any

from foveate.report import numbers
from foveate.report.drawing import Drawing, Scale, scale, shorten

if TYPE_CHECKING:
    from rich.console import Group

ASKS = {
    "G1": "unequal widths",
    "G2": "group convolutions",
    "G3": "fragments",
    "G4": "elementwise operators",
}
OF = {"G1": "1×1 convolutions", "G2": "convolutions", "G3": "launches", "G4": "launches"}
WIDTH, ROW, HEAD, NAMES, SIZE, SHOWN = 960.0, 34.0, 48.0, 430.0, 12.0, 5


def guidelines_table(found: dict[str, Any], shown: int = SHOWN) -> "Group":
    """Each guideline with the places whose change saves most, for `rich.print`; fits 100 columns.

    found: of `foveate.costs.guidelines`, as plain values, and under "about" the network in words.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = [Text(found["about"], style="bold"), Text(_whole(found))]
    for total in found["totals"]:
        parts.append(Text(f"\n{headline(total)}", style="bold"))
        places = first_to_change(found, total["guideline"])
        if not places:
            continue
        table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
        access = total["guideline"] in ("G1", "G2")
        table.add_column("", width=34 if access else 43, overflow="fold")
        columns = ["access\nto least"] * access + ["predicted\nms", "measured\nms", "of all\n%"]
        for heading in columns:
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("the change would save\nms (95 %)", width=29, overflow="fold")
        for place in places[:shown]:
            table.add_row(*(Text(cell) for cell in _cells(place)))
        parts.append(table)
        if len(places) > shown:
            parts.append(Text(f"and {len(places) - shown} more; --json has all", style="dim"))
    return Group(*parts, Text(f"\n{_notes(found)}", style="dim"))


def first_to_change(found: dict[str, Any], guideline: str) -> list[dict[str, Any]]:
    """The places of a guideline, those first whose change saves most; as measured, or predicted where it was not."""
    places = [place for place in found["places"] if place["guideline"] == guideline]
    return sorted(places, key=lambda place: (-_saving(place), -_price(place)))


def _saving(place: dict[str, Any]) -> float:
    if place["change"] is None:
        return 0.0
    return float(place["saves_ms"]["median"] if place["saves_ms"] else place["saves_predicted_ms"])


def headline(total: dict[str, Any]) -> str:
    """What was found for one guideline, its price and what all its changes would do to it, in one line."""
    name = total["guideline"]
    if not total["places"]:
        return f"{name} {ASKS[name]}: none of {total['checked']} {OF[name]}"
    many = str(total["places"])
    if OF[name] == "launches":
        many += f" place{'s' if total['places'] > 1 else ''} with {total['launches']}"
    text = f"{name} {ASKS[name]}: {many} of {total['checked']} {OF[name]}"
    if total["measured_ms"]:
        text += f", {numbers.milliseconds(total['measured_ms']['median'])} ms ({100 * total['share']:.0f} %)"
        text += f"; all changes: {_short(-total['saves_ms'], '+')} ms"
    return text


def _whole(found: dict[str, Any]) -> str:
    text = f"{found['launches']} launches, {found['small_launches']} of them small"
    if found["latency_ms"]:
        share = f"{100 * found['small_share']:.1f} % of the time" if found["small_launches"] else ""
        time = found["latency_ms"]
        spread = numbers.spread(time["low"], time["high"])
        text = f"{numbers.milliseconds(time['median'])} ms a pass ({spread}), {text} {share}".rstrip()
    return text + (f"; not known: {', '.join(found['unknown'])}" if found["unknown"] else "")


def _cells(place: dict[str, Any]) -> list[str]:
    cells = [f"{place['where']}\n  {place['what']}"]
    if place["elements"] is not None:
        cells.append(f"{place['elements'] / place['least']:.2f}")
    now = place["measured_ms"]
    cells += [numbers.milliseconds(place["predicted_ms"]), numbers.milliseconds(now["median"]) if now else numbers.NONE]
    cells.append(numbers.NONE if place["share"] is None else f"{100 * place['share']:.1f}")
    saves = place["saves_ms"]
    if place["change"] is None:
        return [*cells, numbers.NONE]
    told = f"{_short(place['saves_predicted_ms'])} predicted"
    if saves:
        told = f"{_short(saves['median'])} ({_short(saves['low'])} to {_short(saves['high'])})"
    return [*cells, f"{told}\n{place['change']}"]


def _short(value: float, sign: str = "") -> str:
    """Two decimals, more only where there would be nothing left."""
    digits = 2 if abs(value) >= 0.0995 else 3
    text = f"{value:{sign}.{digits}f}"
    return ("0" if float(text) == 0 else text).replace("-", "−")


def _price(place: dict[str, Any]) -> float:
    return float(place["measured_ms"]["median"] if place["measured_ms"] else place["predicted_ms"])


def _notes(found: dict[str, Any]) -> str:
    machine = found["machine"]
    cache, memory = machine["copy_gb_s"][0][1], machine["copy_gb_s"][-1][1]
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return (
        "Measured: in the network, operator by operator. Predicted: launches, arithmetic and traffic at this\n"
        f"machine's best rates: {machine['gmacs_s']:.0f} G multiply-adds/s, {cache:.0f} GB/s in cache, {memory:.0f} "
        f"from memory ({machine['dtype']}, {threads}).\n"
        "Access: elements an image by the paper's formula, to its bound (G1), to no groups (G2).\n"
        "Guidelines overlap: do not add them up."
    )


def guidelines_drawing(found: dict[str, Any], shown: int = 6) -> Drawing:
    """The places of each guideline whose change saves most: what they cost (light), what of it the change would save
    (dark), and what was predicted (diamond)."""
    groups = [(total, first_to_change(found, total["guideline"])[:shown]) for total in found["totals"]]
    height = 30 + sum(HEAD + ROW * len(places) for _, places in groups) + 62
    drawing = Drawing("guidelines", WIDTH, height, f"{found['about']} against four guidelines")
    drawing.description = " ".join(f"{headline(total)}." for total, _ in groups)
    drawing.text(10, 20, found["about"], size=14, style="strong")
    ends = [_price(place) for _, places in groups for place in places]
    ends += [place["predicted_ms"] for _, places in groups for place in places]
    x = scale(0.0, 1.04 * max(ends, default=1.0), NAMES, WIDTH - 70, 6)
    top = 30.0
    for total, places in groups:
        drawing.text(10, top + 28, headline(total), size=13, style="strong")
        top += HEAD
        for tick in x.ticks if places else ():
            drawing.line(x(tick), top - 6, x(tick), top + ROW * len(places) - 4, "grid")
        for place in places:
            _bar(drawing, place, x, top)
            top += ROW
    for tick in x.ticks:
        drawing.text(x(tick), top + 14, x.label(tick), anchor="middle", style="muted")
    drawing.text((NAMES + WIDTH - 70) / 2, top + 32, "milliseconds", anchor="middle", style="muted")
    foot = (
        "light: the place in the network; dark: of it saved by the change; line: 95 % of the saving; diamond: predicted"
    )
    drawing.text(WIDTH - 10, height - 8, foot, anchor="end", style="muted")
    return drawing


def _bar(drawing: Drawing, place: dict[str, Any], x: Scale, top: float) -> None:
    middle, price = top + ROW / 2 - 4, _price(place)
    where = shorten(place["where"], NAMES - 20, SIZE)
    drawing.text(NAMES - 10, middle, where, anchor="end")
    drawing.text(NAMES - 10, middle + 13, shorten(place["what"], NAMES - 20, 11), size=11, anchor="end", style="muted")
    _block(drawing, x(0), x(price), middle, "attention band")
    saves = place["saves_ms"]
    if saves:
        gone = min(max(saves["median"], 0.0), price)
        _block(drawing, x(0), x(gone), middle, "attention seed")
        drawing.line(
            x(max(0.0, saves["low"])), middle, x(min(max(0.0, saves["high"]), x.high)), middle, "attention bar"
        )
    hint = f"{place['where']}: predicted {numbers.milliseconds(place['predicted_ms'])} ms"
    drawing.mark(x(place["predicted_ms"]), middle, "control", hint, size=3.5)
    after = f"×{place['elements'] / place['least']:.2f}" if place["elements"] is not None else f"{place['launches']}"
    unit = "" if place["elements"] is not None else " launches" if place["launches"] > 1 else " launch"
    drawing.text(WIDTH - 8, middle + 4, after + unit, anchor="end", size=11, style="muted")


def _block(drawing: Drawing, left: float, right: float, middle: float, style: str) -> None:
    corners = [(left, middle - 8), (right, middle - 8), (right, middle + 8), (left, middle + 8)]
    drawing.path(corners, style, closed=True)
