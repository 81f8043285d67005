"""What networks cost: tables for the terminal, one for a spreadsheet, and a picture of counts beside times.

Reads {"about": {…}, "networks": {name: figures}}; the others are compared with the first, the plain network.
"""

import csv
import io
from typing import TYPE_CHECKING, Any

from foveate.report import numbers
from foveate.report.drawing import Drawing, bounds, scale, shorten, width_of

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

LEVELS = {"per_stage": "stage", "per_module": "module", "per_operator": "operator"}
MIB = 2**20
ON_ZEROS = (
    "on zeros: the share of the multiply-adds that convolutions spend on channels and positions that are 0 throughout"
    " in this batch; dense convolutions, as torch's and onnxruntime's are, compute them all the same, so the times have"
    " nothing of it: it is what a backend could skip that selects channels or positions"
)
Figures = dict[str, Any]


def costs_table(whole: Figures) -> "Group":
    """What is counted, what is measured, and the rows of each level; for `rich.print`."""
    from rich.console import Group
    from rich.text import Text

    networks: dict[str, Figures] = whole["networks"]
    parts: list[Any] = [Text(_head(whole["about"])), _counted(networks), Text(""), _measured(networks)]
    if len(networks) > 1:
        parts.append(Text(_ranking(whole["ranking"])))
    for level, what in LEVELS.items():
        for name, figures in networks.items():
            if level in figures:
                rows = figures[level]
                inserted = {place: sums for place, sums in rows.items() if "ms" in sums}
                head = f"{name}, each inserted module" if inserted else f"{name}, {what} by {what}"
                parts += [Text(""), Text(head), _rows(inserted or rows, parameters=level != "per_operator")]
    if whole.get("throughput"):
        parts += [Text(""), Text("images a second (where a repeat falls)"), _throughput(whole["throughput"])]
    notes: dict[str, list[str]] = {}
    for name, figures in networks.items():
        for note in figures["notes"]:
            notes.setdefault(note, []).append(name)
    for note, names in notes.items():
        who = "" if len(names) == len(networks) else f" ({', '.join(names)})"
        parts.append(Text(f"note: {note}{who}"))
    if any(figures["zero_macs"] is not None for figures in networks.values()):
        parts.append(Text(f"note: {ON_ZEROS}"))
    parts += [Text(f"note: {note}") for note in whole.get("said", [])]
    return Group(*parts)


def _head(about: Figures) -> str:
    size = "×".join(map(str, about["shape"][2:]))
    ways = [about["dtype"], *(way for way in ("amp", "channels_last", "compile") if about[way])]
    threads = f", {about['threads']} thread{'s' if about['threads'] > 1 else ''}" if about["device"] == "cpu" else ""
    return (
        f"{about['model']}, batch {about['shape'][0]} of {size}, {about['target']} on {about['device']}{threads}, "
        f"{' '.join(way.replace('_', ' ') for way in ways)}\n"
        "first line: totals; others: what they add. A multiply-add is two FLOPs. Times: median (range of a repeat).\n"
        "slower, faster: the 95 % interval leaves out 1; it allows for the 2 % by which two copies of a network differ."
    )


def _counted(networks: dict[str, Figures]) -> "Table":
    lateral = any(figures["skip_bytes"] for figures in networks.values())
    gated = any(figures["zero_macs"] is not None for figures in networks.values())
    table = _table("counted", "parameters", "multiply-adds", "other operations", "bytes moved", "kept in training",
                   "launches", *(["kept by skips"] if lateral else []), *(["on zeros"] if gated else []))  # fmt: skip
    plain = next(iter(networks.values()))
    for name, figures in networks.items():
        base = None if figures is plain else plain
        table.add_row(
            name,
            _added(figures, base, lambda f: f["parameters"], numbers.whole),
            _added(figures, base, lambda f: f["macs"]) + ("" if not figures["unknown"] else " + unknown"),
            _added(figures, base, lambda f: f["elementwise"] + f["reductions"]),
            _added(figures, base, lambda f: f["bytes_moved"]),
            _added(figures, base, lambda f: f["activation_bytes"]),
            _added(figures, base, lambda f: f["launches"], numbers.whole),
            *([_added(figures, base, lambda f: f["skip_bytes"] or 0)] if lateral else []),
            *([f"{100 * figures['zero_macs'] / max(figures['macs'], 1):.1f} %"] if gated else []),
        )
    return table


def _measured(networks: dict[str, Figures]) -> "Table":
    several, trained = len(networks) > 1, any(figures["train_step_ms"] for figures in networks.values())
    heads = ["latency ms", *(["times plain (95 %)", ""] if several else []), "peak MiB"]
    heads += ["training step ms", *(["times plain (95 %)"] if several else []), "peak MiB"] if trained else []
    energy = any(figures["energy_mj"] is not None for figures in networks.values())
    lateral = any(figures["skip_ratio"] for figures in networks.values())
    heads += ["times without skips (95 %)"] if lateral else []
    table = _table("measured", *heads, *(["energy mJ"] if energy else []))
    for number, (name, figures) in enumerate(networks.items()):
        cells = [_time(figures["latency_ms"])]
        if several:
            cells += [_ratio(figures["latency_ratio"]), figures["told"]] if number else ["", ""]
        cells.append(_mib(figures["peak_mib"]))
        if trained:
            cells.append(_time(figures["train_step_ms"]))
            cells += [_ratio(figures["train_step_ratio"]) if number else ""] if several else []
            cells.append(_mib(figures["train_peak_mib"]))
        if lateral:
            cells.append(_ratio(figures["skip_ratio"]) if figures["skip_ratio"] else "")
        table.add_row(name, *cells, *([_mib(figures["energy_mj"])] if energy else []))
    return table


def _ranking(ranking: Figures) -> str:
    """The order by median, and every pair whose order is not sure, so that no row is contradicted."""
    order, alike = ranking["order"], ranking["alike"]
    pairs = len(order) * (len(order) - 1) // 2
    text = f"fastest to slowest, by median: {', '.join(order)}"
    if not alike:
        return f"{text}; each differs from every other" if pairs > 1 else text
    if len(alike) == pairs > 1:
        return f"{text}; no two are distinguishable"
    return f"{text}; not distinguishable: {', '.join(f'{a} and {b}' for a, b in alike)}"


def _rows(level: dict[str, Figures], *, parameters: bool) -> "Table":
    timed = any("ms" in sums for sums in level.values())
    heads = ["multiply-adds", "other operations", "bytes moved", "kept in training", "launches"]
    table = _table("", *(["parameters"] if parameters else []), *heads, *(["ms"] if timed else []))
    for name, sums in level.items():
        table.add_row(
            name or "(whole)",
            *([numbers.whole(sums["parameters"])] if parameters else []),
            numbers.compact(sums["macs"]) + (" + unknown" if sums["unknown"] else ""),
            numbers.compact(sums["elementwise"] + sums["reductions"]),
            numbers.compact(sums["bytes_moved"]),
            numbers.compact(sums["activation_bytes"]),
            numbers.whole(sums["launches"]),
            *([_time(sums["ms"]) if "ms" in sums else ""] if timed else []),
        )
    return table


def _throughput(rows: list[Figures]) -> "Table":
    table = _table("batch", *rows[0]["images_s"])
    for row in rows:
        table.add_row(str(row["batch_size"]), *(_time(time) for time in row["images_s"].values()))
    return table


def _table(first: str, *headings: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 1), header_style="dim")
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _added(figures: Figures, base: Figures | None, of: Any, say: Any = numbers.compact) -> str:
    if base is None:
        return str(say(of(figures)))
    more = of(figures) - of(base)
    return "0" if more == 0 else f"{'+' if more > 0 else '−'}{say(abs(more))}"


def _time(time: Figures | None) -> str:
    return (
        numbers.NONE
        if time is None
        else f"{numbers.milliseconds(time['median'])} ({numbers.spread(time['low'], time['high'])})"
    )


def _ratio(ratio: Figures | None) -> str:
    return numbers.NONE if ratio is None else f"×{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"


def _mib(value: float | None) -> str:
    return numbers.NONE if value is None else f"{value:.1f}"


COUNTS = ("parameters", "macs", "elementwise", "reductions", "bytes_read", "bytes_written", "activation_bytes",
          "launches", "unknown")  # fmt: skip
TIMES = ("latency_ms", "latency_ratio", "train_step_ms", "train_step_ratio")


def costs_csv(whole: Figures) -> str:
    """One line a network, then one for each stage, module and operator where there are any.

    macs are multiply-adds of the batch; an empty cell is a number that does not exist; module lines have their own
    latency_ms where they were timed.
    """
    lines = []
    for name, figures in whole["networks"].items():
        line = {"network": _safe(name), "level": "network", "name": "", "batch_size": figures["batch_size"]}
        line |= {key: figures[key] for key in COUNTS} | {"unknown": sum(figures["unknown"].values())}
        for key in TIMES:
            line |= {f"{key}_{end}": (figures[key] or {}).get(end) for end in ("median", "low", "high")}
        lines.append(line | {key: figures[key] for key in ("peak_mib", "train_peak_mib", "energy_mj")})
        for level, what in LEVELS.items():
            for row, sums in figures.get(level, {}).items():
                line = {"network": _safe(name), "level": what, "name": row} | {key: sums[key] for key in COUNTS}
                line |= {f"latency_ms_{end}": value for end, value in sums.get("ms", {}).items()}
                lines.append(line)
    return _csv(lines)


def _csv(lines: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _safe(name: str) -> str:
    """A spreadsheet must not take a name for a formula."""
    return f"'{name}" if name[:1] in "=+-@" else name


WIDTH, ROW, TOP, SIZE = 960.0, 30.0, 34.0, 12.0
MARKS = (("macs", "control", "multiply-adds"), ("bytes_moved", "plain", "bytes moved"))


def costs_picture(whole: Figures) -> Drawing:
    """Each network's multiply-adds, bytes and latency, in times those of the plain network."""
    (_, plain), *others = whole["networks"].items()
    height = TOP + ROW * max(1, len(others)) + 66
    drawing = Drawing("costs", WIDTH, height, "Counts and latency of each network to those of the plain one")
    if not others:
        drawing.height, drawing.description = 90, "Nothing to draw: the plain network alone was measured."
        drawing.text(WIDTH / 2, 50, drawing.description, size=14, anchor="middle", style="muted")
        return drawing
    drawing.description = " ".join(
        f"{name}: latency times {one['latency_ratio']['median']:.3f}, multiply-adds times "
        f"{_times(one, plain, 'macs'):.3f}, bytes times {_times(one, plain, 'bytes_moved'):.3f}."
        for name, one in others
    )
    names = min(300.0, max(110.0, 16 + max(width_of(name, SIZE) for name, _ in others)))
    marks = [_times(one, plain, key) for _, one in others for key, *_ in MARKS]
    marks += [one["latency_ratio"]["median"] for _, one in others]
    ends = [one["latency_ratio"][end] for _, one in others for end in ("low", "high")]
    low, high = bounds([1.0, *marks], ends, reach=1.0)
    x = scale(max(0.0, low), high, names, WIDTH - 16, 7)
    bottom = TOP + ROW * len(others)
    for tick in x.ticks:
        drawing.line(x(tick), TOP, x(tick), bottom, "grid")
        drawing.text(x(tick), bottom + 18, f"×{x.label(tick)}", anchor="middle", style="muted")
    drawing.line(x(1.0), TOP - 6, x(1.0), bottom, "reference")
    for row, (name, one) in enumerate(others):
        middle, ratio = TOP + ROW * (row + 0.5), one["latency_ratio"]
        drawing.text(names - 12, middle + 4, shorten(name, names - 14, SIZE), anchor="end", style="attention")
        drawing.interval(x, ratio["low"], ratio["high"], middle, "attention")
        for key, role, what in MARKS:
            times = _times(one, plain, key)
            drawing.mark(x(x.clip(times)), middle, role, f"{name}: {what} ×{times:.3f}", size=4.5)
        hint = f"{name}: latency {_ratio(ratio)}, {one['told']}"
        drawing.mark(x(x.clip(ratio["median"])), middle, "attention", hint)
    foot = "disc: latency, with its 95 % interval; diamond: multiply-adds; square: bytes moved; line: the plain network"
    drawing.text(WIDTH - 12, height - 24, foot, anchor="end", style="muted")
    drawing.text(WIDTH - 12, height - 8, _head(whole["about"]).split("\n")[0], anchor="end", style="muted", size=11)
    return drawing


def _times(one: Figures, plain: Figures, key: str) -> float:
    return float(one[key] / plain[key]) if plain[key] else 1.0
