"""The guideline study: one panel an experiment, the time of every variant against the reference of its experiment."""

import csv
import io
import json
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.files import write_whole
from foveate.report import numbers
from foveate.report.drawing import Drawing, Scale, bounds, scale, shorten

if TYPE_CHECKING:
    from rich.console import Group

WIDTH, ROW, HEAD, FOOT, NAMES, GAP, SIZE = 960.0, 23.0, 50.0, 44.0, 176.0, 28.0, 12.0


def experiments(study: dict[str, Any]) -> Drawing:
    """Each guideline a row of panels, one a width; marks are medians, bars their 95 % intervals."""
    rows = [list(group) for _, group in groupby(study["experiments"], key=lambda one: one["guideline"])]
    heights = [HEAD + ROW * max(len(one["rows"]) for one in row) + FOOT for row in rows]
    drawing = Drawing("guideline-study", WIDTH, sum(heights) + 34, "Time of each variant to that of its reference")
    drawing.description = " ".join(
        f"{one['guideline']} at {one['width']} channels: {one['verdict']} ({one['why']})."
        for one in study["experiments"]
    )
    top = 6.0
    for row, height in zip(rows, heights, strict=True):
        panel = (WIDTH - 16 - GAP * (len(row) - 1)) / len(row)
        x = _shared_scale(row, panel - NAMES)
        for column, one in enumerate(row):
            _panel(drawing, one, x, 8 + column * (panel + GAP), top, panel)
        top += height
    foot = (
        "blue: variants; dark: the reference, measured twice (shaded: what the second gave). Bars: 95 % of the median."
    )
    drawing.text(WIDTH - 10, drawing.height - 22, foot, anchor="end", style="muted")
    threads = f"{study['threads']} thread{'s' if study['threads'] > 1 else ''}"
    about = f"{study['machine']}, {threads}, batch {study['batch_size']}, torch {study['versions']['torch']}"
    drawing.text(WIDTH - 10, drawing.height - 7, about, anchor="end", style="muted")
    return drawing


def _shared_scale(row: list[dict[str, Any]], width: float) -> Scale:
    ratios = [variant["ratio"] for one in row for variant in one["rows"]]
    ends = [ratio[end] for ratio in ratios for end in ("low", "high")]
    low, high = bounds([1.0, *(ratio["median"] for ratio in ratios)], ends, reach=0.6)
    return scale(max(0.0, low), max(high, 1.1), 0, width, 5)


def _panel(drawing: Drawing, one: dict[str, Any], x: Scale, left: float, top: float, width: float) -> None:
    here = Scale(x.low, x.high, left + NAMES, left + width, x.ticks)
    start, end = top + HEAD, top + HEAD + ROW * len(one["rows"])
    head = f"{one['guideline']} at {one['width']} channels: {one['verdict']}"
    drawing.text(left, top + 16, head, size=14, style="strong")
    drawing.text(left, top + 33, f"{one['claim']}?", size=SIZE, style="muted")
    again = one["rows"][1]["ratio"]
    band = [here(here.clip(again[key])) for key in ("low", "high")]
    corners = [(band[0], start), (band[1], start), (band[1], end), (band[0], end)]
    drawing.path(corners, "plain band", closed=True)
    for tick in here.ticks:
        drawing.line(here(tick), start, here(tick), end, "grid")
        drawing.text(here(tick), end + 15, f"×{here.label(tick)}", anchor="middle", style="muted", size=11)
    drawing.line(here(1.0), start - 4, here(1.0), end, "reference")
    for index, row in enumerate(one["rows"]):
        middle, ratio = start + ROW * (index + 0.5), row["ratio"]
        role = "plain" if index < 2 else "attention"
        name = shorten(f"{row['name']}  ({row['widths']})", NAMES - 10, SIZE)
        drawing.text(left + NAMES - 10, middle + 4, name, anchor="end", style=role)
        hint = f"{row['name']}: {numbers.milliseconds(row['latency_ms']['median'])} ms, {row['told']}"
        if index:
            drawing.interval(here, ratio["low"], ratio["high"], middle, role)
        drawing.mark(here(here.clip(ratio["median"])), middle, role, hint, size=4.5)


def experiments_table(study: dict[str, Any]) -> "Group":
    """Every experiment with its verdict, for `rich.print`; fits 100 columns."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = []
    for one in study["experiments"]:
        head = f"{one['guideline']} at {one['width']} channels, {one['claim']}: "
        parts.append(Text(head) + Text(one["verdict"], style="bold"))
        table = Table(box=None, padding=(0, 1, 0, 1), header_style="dim")
        table.add_column("", no_wrap=True, min_width=16)
        for heading in ("channels", "mult.-adds", "ms (95 %)", "to the reference (95 %)"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for row in one["rows"]:
            ratio, time = row["ratio"], row["latency_ms"]
            table.add_row(
                row["name"],
                row["widths"],
                numbers.compact(row["macs"]),
                f"{numbers.milliseconds(time['median'])} ({numbers.spread(time['low'], time['high'])})",
                f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})",
                row["told"],
            )
        parts.append(table)
    parts.append(Text("Ratios are at equal multiply-adds, paired by round; medians with 95 % intervals.", style="dim"))
    return Group(*parts)


def experiments_csv(study: dict[str, Any]) -> str:
    """One line a variant."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("median", "low", "high")
    head = ["guideline", "width", "variant", "channels", "multiply_adds"]
    writer.writerow([*head, *(f"ms_{end}" for end in ends), *(f"ratio_{end}" for end in ends), "told", "verdict"])
    for one in study["experiments"]:
        for row in one["rows"]:
            what = [one["guideline"], one["width"], row["name"], row["widths"], row["macs"]]
            times = [row[key][end] for key in ("latency_ms", "ratio") for end in ends]
            writer.writerow([*what, *times, row["told"], one["verdict"]])
    return text.getvalue()


def write_experiments(study: dict[str, Any], folder: Path | str) -> None:
    """Write experiments.png, .svg, .csv and .json into the folder, made where it is missing; each replaced whole.

    Raises: OSError: the folder cannot be written; it names the file.
    """
    drawing = experiments(study)
    files = {
        "experiments.png": drawing.png(),
        "experiments.svg": drawing.standalone().encode(),
        "experiments.csv": experiments_csv(study).encode(),
        "experiments.json": f"{json.dumps(study, indent=1, ensure_ascii=False, allow_nan=False)}\n".encode(),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(folder / name, content)
