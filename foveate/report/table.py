"""The table of a study: for a spreadsheet (plain numbers, units in the headings) and for the terminal (100 columns)."""

import csv
import io
from typing import TYPE_CHECKING, Any

from foveate.report import numbers

if TYPE_CHECKING:
    from rich.console import Group

HEADINGS = {"against_plain": "difference_to_plain", "against_control": "difference_to_control"}


def csv_text(summary: dict[str, Any]) -> str:
    """One line an arm. Points are hundredths of accuracy; an empty cell is a number that does not exist."""
    lines = [_csv_row(arm) for arm in summary["arms"]]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _csv_row(arm: dict[str, Any]) -> dict[str, Any]:
    found, cost, change = arm["accuracy"] or {}, arm["cost"], arm["cost_change"]
    row: dict[str, Any] = {
        "variant": _no_formula(arm["label"]),
        "kind": arm["kind"],
        "seeds": len(found.get("seeds", [])),
    }
    for key in ("mean", "low", "high"):
        row[f"accuracy_{key}_percent"] = _hundred(found.get(key))
    for key, heading in HEADINGS.items():
        one = arm[key] or {}
        for end in ("mean", "low", "high"):
            row[f"{heading}_{end}_points"] = _hundred(one.get(end))
        row[f"{heading}_p"], row[f"{heading}_p_holm"] = one.get("p"), one.get("p_holm")
    row["control"] = _no_formula(arm["control"] or "")
    row["parameters"], row["multiply_adds"] = cost["parameters"], cost["macs"]
    for key in ("latency_ms", "train_step_ms"):
        for end in ("median", "low", "high"):
            row[f"{key}_{end}"] = (cost[key] or {}).get(end)
    for end in ("ratio", "low", "high"):
        row[f"latency_to_plain_{end}"] = (change["latency"] or {}).get(end)
    row["verdict"] = arm["verdict"]["text"]
    return row


def _hundred(fraction: float | None) -> float | None:
    return None if fraction is None else round(100 * fraction, 6)


def _no_formula(text: str) -> str:
    """A label that a spreadsheet would run as a formula, made text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def terminal_table(summary: dict[str, Any]) -> "Group":
    """The answer, the table and what the seeds can show, for `rich.print`; fits 100 columns."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", expand=False)
    table.add_column("variant\n", max_width=23, overflow="fold")
    for heading in ("accuracy\n%", "to plain\npoints", "para-\nmeters", "mult.-\nadds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("latency, ms\nmedian (spread)", justify="right", no_wrap=True)
    table.add_column("verdict\n", max_width=18, overflow="fold")
    kinds = [arm["kind"] for arm in summary["arms"]]
    for index, arm in enumerate(summary["arms"]):
        table.add_row(*(Text(cell) for cell in _cells(arm)), style="dim" if arm["kind"] == "control" else "")
        if index + 1 < len(kinds) and kinds[index + 1] != arm["kind"]:
            table.add_section()
    answer = summary["answer"]
    head = Text(f"{answer['question']}\n") + Text(answer["short"], style="bold") + Text(f". {answer['text']}\n")
    notes = ["Intervals: 95 % Student t over seeds; differences paired by seed. Verdicts: Holm-corrected."]
    notes += [f"Note: {note}." for note in summary["about"].get("notes", [])]
    if summary["failed"]:
        many = len(summary["failed"]) > 1
        notes.append(
            f"{len(summary['failed'])} {'runs' if many else 'run'} failed; the report lists {'them' if many else 'it'}."
        )
    return Group(head, table, Text("\n" + "\n".join(notes), style="dim"))


def _cells(arm: dict[str, Any]) -> list[str]:
    mean, half = numbers.accuracy(arm["accuracy"])
    cost, one = arm["cost"], arm["against_plain"]
    times = cost["latency_ms"]
    latency = f"{numbers.milliseconds(times['median'])}\n({numbers.spread(times)})" if times else numbers.NONE
    return [
        arm["label"],
        f"{mean} ± {half}" if half else mean,
        one["text"].replace(" (", "\n(") if one else numbers.NONE,
        numbers.compact(cost["parameters"]),
        numbers.compact(cost["macs"]),
        latency,
        arm["verdict"]["short"],
    ]
