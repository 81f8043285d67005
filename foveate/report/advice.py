"""The page of a search for what to insert where, its table for a spreadsheet, and the one for the terminal."""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.files import write_whole
from foveate.report import numbers
from foveate.report.forest import forest
from foveate.report.page import Figure, environment
from foveate.report.scatter import score_latency
from foveate.report.table import no_formula
from foveate.summary import Advice, Candidate, Times, signed, to_json

if TYPE_CHECKING:
    from rich.console import Group

SHOWN = 12  # candidates in the terminal


def write_advice(found: Advice, folder: Path | str) -> Path:
    """Write the page of a search and return it.

    Into `folder`: index.html, table.csv, summary.json (the advice without the studies, which have summaries of their
    own), and as .png and .svg score_latency (the search on the validation part) and paired_differences (the
    confirmation).

    Raises: OSError: the folder cannot be written; it names the file.
    """
    drawn = {
        "score_latency": score_latency(found.searched) if found.searched else None,
        "paired_differences": forest(found.confirmed) if found.confirmed else None,
    }
    drawings = {name: drawing for name, drawing in drawn.items() if drawing is not None}
    files: dict[str, bytes] = {}
    for name, drawing in drawings.items():
        files |= {f"{name}.svg": drawing.standalone().encode(), f"{name}.png": drawing.png()}
    values = to_json(found) | {"searched": None, "confirmed": None}
    files["summary.json"] = f"{json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)}\n".encode()
    files["table.csv"] = csv_text(found).encode()
    html = (
        environment()
        .get_template("advice.html.j2")
        .render(
            found=found,
            metric=found.metric,
            about=dict.fromkeys(("data", "command", "pages")) | found.about,
            ranked=ranked(found),
            gain=gain_text,
            ratio=ratio_text,
            figures=dict.fromkeys(drawn) | {name: Figure.of(drawing) for name, drawing in drawings.items()},
            title=question(found),
            files=sorted([*drawings, "table.csv", "summary.json"]),
        )
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (files | {"index.html": html.encode()}).items():
        write_whole(folder / name, content)
    return folder / "index.html"


def question(found: Advice) -> str:
    """What the search is about."""
    if found.null_check:
        return f"Does a search among copies of {found.network} find something that helps?"
    return f"What helps {found.network} within a latency budget of {found.budget}?"


def ranked(found: Advice) -> list[Candidate]:
    """The candidates: those that went furthest first, then by gain; those that were not trained last."""
    return sorted(found.candidates, key=lambda one: (-one.rung, -(one.gain if one.gain is not None else -1e9)))


def gain_text(found: Advice, one: Candidate) -> str:
    """ "+1.3", or why there is none."""
    if one.gain is None:
        return "a run failed" if one.gains else numbers.NONE
    return signed(found.metric, [one.gain if found.metric.better == "higher" else -one.gain])[0]


def ratio_text(times: Times | None) -> tuple[str, str]:
    """ "1.03" and "1.01 to 1.05"."""
    return (numbers.NONE, "") if times is None else (f"{times.median:.2f}", f"{times.low:.2f} to {times.high:.2f}")


def csv_text(found: Advice) -> str:
    """One line a candidate, in the order proposed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("candidate", "rung", "seeds", f"{found.metric.name} gain on the validation part", "latency ratio", "low",
         "high", "on the Pareto front", "not trained because")
    )  # fmt: skip
    for one in found.candidates:
        times = one.latency_ratio
        ends = ("", "", "") if times is None else (times.median, times.low, times.high)
        gain = "" if one.gain is None else one.gain
        row = (no_formula(one.label), one.rung, len(one.gains), gain, *ends, one.on_front, no_formula(one.dropped))
        writer.writerow(row)
    return text.getvalue()


def advice_table(found: Advice) -> "Group":
    """The sentence and the best candidates, for the terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    unit = found.metric.difference_unit
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("candidate", f"gain, {unit or found.metric.name}", "seeds", "times plain's latency", ""):
        table.add_column(heading)
    order = ranked(found)
    for one in order[:SHOWN]:
        median, spread = ratio_text(one.latency_ratio)
        time = f"{median} ({spread})" if spread else median
        told = one.dropped or ("Pareto front" if one.on_front else "")
        table.add_row(Text(one.label), gain_text(found, one), str(len(one.gains)), time, Text(told))
    more = [f"… and {len(order) - SHOWN} more; in the report."] if len(order) > SHOWN else []
    foot = [*more, "Gains of the search are on the validation part and flatter the best; the sentence does not."]
    return Group(Text(f"{question(found)}\n"), Text(f"{found.text}\n", style="bold"), table, Text("\n".join(foot)))
