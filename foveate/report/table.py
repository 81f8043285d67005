"""The table of a study: for a spreadsheet (plain numbers, units in the headings) and for the terminal (100 columns)."""

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foveate.report import numbers
from foveate.report.drawing import shorten
from foveate.spec import Metric
from foveate.summary import ArmSummary, Comparison, Summary, Tried

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

COMBINATIONS = 6  # of listed values, as columns of the terminal
ENDS = ("mean", "low", "high")


def csv_text(summary: Summary) -> str:
    """One line an arm, the judged metric first; an empty cell is a number that does not exist.

    Percent and points are hundredths of a fraction; `better` says which direction of the judged metric is better.
    """
    lines = [_csv_row(summary, arm) for arm in summary.arms]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _csv_row(summary: Summary, arm: ArmSummary) -> dict[str, Any]:
    metric, cost, times = summary.metric, arm.cost, arm.cost_change.latency
    row: dict[str, Any] = {
        "variant": no_formula(arm.label),
        "kind": arm.kind,
        "domain": arm.domain,
        "seeds": len(arm.score.seeds) if arm.score else 0,
        "failed_seeds": len(arm.failed),
        "metric": no_formula(metric.name),
        "better": metric.better,
    }
    row |= _values(metric, arm)
    for name, one in (("difference_to_plain", arm.against_plain), ("difference_to_control", arm.against_control)):
        row |= _differences(metric, name, one)
        row |= {f"{name}_p": one and one.p, f"{name}_p_holm": one and one.p_holm}
        row |= {f"{name}_verdict": one and one.word}
    row["control"] = no_formula(arm.control or "")
    match = next((one for one in arm.cost_matches if one.matched), None)
    row |= {"control_form": arm.form, "control_of": no_formula(", ".join(arm.matches))}
    row |= {"control_match": match and match.what, "control_added": match and match.added}
    row |= {"control_added_by_variant": match and match.wanted, "control_mismatch_percent": match and match.percent}
    for other in summary.metrics[1:]:
        row |= _values(other, arm)
        row |= _differences(other, f"{other.name}_difference_to_plain", arm.descriptive.get(other.name))
    for verb in ("better", "worse", "equal"):
        row[f"items_{verb}"] = arm.items and getattr(arm.items, verb)
    row |= _choices(summary, arm.label)
    found = arm.attention
    for name in ("strength", "change"):
        span = found and getattr(found, name)
        row |= {f"attention_{name}_{end}": span and getattr(span, end) for end in ENDS}
    for name in ("gates", "without_gradient", "constant", "saturated"):
        row[f"attention_{name}"] = found and getattr(found, name)
    row["parameters"], row["multiply_adds"] = cost.parameters, cost.macs
    row["kept_for_backward_bytes"] = cost.activation_bytes
    for key, time in (("latency_ms", cost.latency_ms), ("train_step_ms", cost.train_step_ms)):
        row |= {f"{key}_{end}": time and getattr(time, end) for end in ("median", "low", "high")}
    row |= _convergence(arm)
    row |= {f"latency_to_plain_{end}": times and getattr(times, end) for end in ("ratio", "low", "high")}
    if paper := summary.published:
        row |= {no_formula(f"published {one}"): paper.figure(arm.label, n) for n, one in enumerate(paper.columns)}
    row["verdict"] = arm.verdict.text
    return row


def _convergence(arm: ArmSummary) -> dict[str, Any]:
    found = arm.convergence
    return {
        "epochs_to_plain_median": found and found.median,
        "seeds_that_reach_plain": found and sum(epoch is not None for epoch in found.epochs),
        "seconds_to_plain": found and found.seconds,
        "time_to_plain_ratio": found and found.ratio,
        "diverged_seeds": found and len(found.diverged),
    }


def _choices(summary: Summary, label: str) -> dict[str, Any]:
    """What was chosen, and for each combination its validation score and the number of seeds that chose it."""
    if summary.tuning is None:
        return {}
    metric = summary.metric
    unit = "percent" if metric.shown == "percent" else metric.unit
    row: dict[str, Any] = {"chosen": summary.tuning.of(label).text}
    for one in summary.tuning.of(label).tried:
        name = one.text.replace(", ", "_").replace(" ", "=")
        row[_heading(f"validation_{metric.name}", name, unit)] = _shown(metric, one.score.mean if one.score else None)
        row[f"seeds_chosen_{name}"] = len(one.chosen)
    return row


def _values(metric: Metric, arm: ArmSummary) -> dict[str, float | None]:
    unit = "percent" if metric.shown == "percent" else metric.unit
    found = arm.estimates.get(metric.name)
    return {_heading(metric.name, end, unit): _shown(metric, getattr(found, end, None)) for end in ENDS}


def _differences(metric: Metric, name: str, found: Comparison | None) -> dict[str, float | None]:
    unit = metric.difference_unit
    return {_heading(name, end, unit): _shown(metric, getattr(found, end, None)) for end in ENDS}


def _heading(name: str, end: str, unit: str) -> str:
    return no_formula("_".join(filter(None, [name, end, unit])))


def _shown(metric: Metric, value: float | None) -> float | None:
    if value is None or metric.factor == 1:
        return value
    return round(metric.factor * value, 6)


def by_domain(arms: Sequence[ArmSummary]) -> list[ArmSummary]:
    """The arms in their order, but those with attention grouped by what it works on, in the order of first places."""
    attended = [arm for arm in arms if arm.kind == "attention"]
    domains = list(dict.fromkeys(arm.domain for arm in attended))
    grouped = iter(sorted(attended, key=lambda arm: domains.index(arm.domain)))
    return [next(grouped) if arm.kind == "attention" else arm for arm in arms]


def no_formula(text: str) -> str:
    """A label that a spreadsheet would run as a formula, made text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def terminal_table(summary: Summary) -> "Group":
    """The answer, the table and what the seeds can show, for `rich.print`; fits 100 columns."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    metric = summary.metric
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", expand=False)
    table.add_column("variant\n", max_width=23, overflow="fold")
    costed = any(arm.cost.parameters is not None or arm.cost.latency_ms for arm in summary.arms)
    arms = by_domain(summary.arms)
    several = len({arm.domain for arm in arms if arm.kind == "attention"}) > 1
    if several:
        table.add_column("works\non", max_width=9, overflow="fold")
    headings = [f"{shorten(metric.name, 14, 1 / 0.53)}\n{metric.shown_unit}", f"to plain\n{metric.difference_unit}"]
    for heading in headings + (["para-\nmeters", "mult.-\nadds"] if costed else []):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    if costed:
        table.add_column("latency, ms\nmedian (spread)", justify="right", no_wrap=True)
    table.add_column("verdict\n", max_width=18 if costed else 40, overflow="fold")
    groups = [(arm.kind, arm.domain) for arm in arms]
    for index, arm in enumerate(arms):
        label, *cells = _cells(metric, arm, costed)
        cells = [label, *([arm.domain] if several else []), *cells]
        table.add_row(*(Text(cell) for cell in cells), style="dim" if arm.kind == "control" else "")
        if index + 1 < len(groups) and groups[index + 1] != groups[index]:
            table.add_section()
    answer = summary.answer
    head = Text(f"{answer.question}\n") + Text(answer.short, style="bold") + Text(f". {answer.text}\n")
    return Group(
        head, table, *_published(summary), *_tuning(summary), Text("\n" + "\n".join(_notes(summary)), style="dim")
    )


def _published(summary: Summary) -> list["RenderableType"]:
    """The paper's figures, an arm a row."""
    from rich.table import Table
    from rich.text import Text

    if (paper := summary.published) is None:
        return []
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", expand=False)
    table.add_column("variant", max_width=23, overflow="fold")
    for column in paper.columns:
        table.add_column(Text(column), justify="right", overflow="fold")
    for arm in (one for one in summary.arms if one.kind != "control"):
        cells = [paper.shown(arm.label, number) for number in range(len(paper.columns))]
        table.add_row(*(Text(cell) for cell in (arm.label, *cells)))
    head = f"\nAs published, beside and not compared. {paper.source}: {paper.setting}"
    return [Text(head), table, *([Text(paper.note, style="dim")] if paper.note else [])]


def _tuning(summary: Summary) -> list["RenderableType"]:
    """What was tried and chosen: every combination where a few fit, else the chosen ones."""
    from rich.table import Table
    from rich.text import Text

    if summary.tuning is None:
        return []
    shown = summary.tuning.arms[0].tried
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", expand=False)
    table.add_column("variant", max_width=23, overflow="fold")
    few = len(shown) <= COMBINATIONS and sum(len(one.text) + 2 for one in shown) <= 70
    for one in shown if few else []:
        table.add_column(Text(one.text), justify="right")
    if not few:
        table.add_column("chosen", max_width=70, overflow="fold")
    for arm in summary.tuning.arms:
        cells = [_tried(summary.metric, one) for one in arm.tried] if few else [arm.text or numbers.NONE]
        table.add_row(*(Text(cell) for cell in (arm.label, *cells)))
    end = "; in brackets, the seeds that chose it" if few else ""
    return [Text(f"\n{summary.tuning.text}{end}:"), table]


def _tried(metric: Metric, one: Tried) -> str:
    """ "81.2 (3)": the mean on the validation part and the seeds that chose it; "failed" where no run has one."""
    if one.score is None:
        return "failed" if one.failed else numbers.NONE
    return metric.number(one.score.mean) + (f" ({len(one.chosen)})" if one.chosen else "")


def _notes(summary: Summary) -> list[str]:
    notes = [line for line in (summary.answer.about, summary.answer.risk, summary.answer.looks) if line]
    notes += [f"{summary.null_check.text}."] if summary.null_check else []
    notes.append("Intervals: 95 %, of one comparison; differences paired by seed.")
    claims = "1 comparison" if summary.claims == 1 else f"{summary.claims} comparisons"
    look = "" if summary.look == 1 else f" and look {summary.look}"
    margin = f"; a difference matters from {summary.margin.text}" if summary.margin.value else ""
    notes.append(f"Verdicts: corrected for {claims}{look}{margin}.")
    if "stopped" in (epochs := numbers.epochs(summary.setting)):
        notes.append(f"Early stopping by the loss on the validation part: {epochs}.")
    if summary.metric.better == "lower":
        notes.append(f"{summary.metric.name}: lower is better.")
    if batch := (summary.about.get("latency") or {}).get("batch_size"):
        notes.append(f"Multiply-adds: of one item; latency: of a batch of {batch}.")
    if len(summary.metrics) > 1:
        notes.append(f"Also measured: {', '.join(one.name for one in summary.metrics[1:])}; in the report.")
    if reached := [f"{arm.label} {arm.convergence.text}" for arm in summary.arms if arm.convergence]:
        notes.append(f"To plain's final score, median over seeds: {'; '.join(reached)}.")
    for arm in summary.arms:
        if arm.convergence and arm.convergence.diverged:
            notes.append(f"{arm.label} diverged in {len(arm.convergence.diverged)} of {arm.convergence.runs} runs.")
    notes += [f"{arm.label}: {arm.attention.text}." for arm in summary.arms if arm.attention and arm.attention.text]
    notes += [f"{line}." for line in numbers.controls(summary)]
    notes += [f"Note: {note}." for note in summary.about.get("notes", [])]
    if summary.failed:
        many = len(summary.failed) > 1
        runs, them = ("runs", "them") if many else ("run", "it")
        notes.append(f"{len(summary.failed)} {runs} failed; the report lists {them}.")
    return notes


def _cells(metric: Metric, arm: ArmSummary, costed: bool) -> list[str]:
    mean, half = numbers.estimate(metric, arm.score)
    strength = f"\nstrength {arm.attention.strength_text}" if arm.attention and arm.attention.strength else ""
    cells = [arm.label + strength, f"{mean} ± {half}" if half else mean]
    cells.append(arm.against_plain.text.replace(" (", "\n(") if arm.against_plain else numbers.NONE)
    if costed:
        times = arm.cost.latency_ms
        cells += [numbers.compact(arm.cost.parameters), numbers.compact(arm.cost.macs)]
        spread = f"{numbers.milliseconds(times.median)}\n({numbers.spread(times.low, times.high)})" if times else ""
        cells.append(spread or numbers.NONE)
    return [*cells, arm.verdict.short]
