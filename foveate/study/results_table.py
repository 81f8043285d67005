"""Results that somebody already has, from a table: the same verdict as a study's, without costs and curves.

A row is a run (or, with an item column, one item of a run). The columns are found by these rules:

    long form          variant, seed, and a column for each metric
    MLflow's runs      params.variant (or tags.variant), params.seed, metrics.NAME; `status` says which runs failed
    W&B's runs table   Name and State; variant, seed and the metric by name, or after "config." and "summary."
    W&B's API          columns name, summary, config that hold dicts, as its documentation writes them with pandas

Other names are given with variant=, seed= and item=.
"""

import ast
import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from foveate.registry import nearest
from foveate.spec import Metric
from foveate.study.analyse import analyse
from foveate.summary import Arm, Claim, Failure, Score, Setting, Summary

PLAIN_NAMES = ("plain", "none")
MISSING = {"", "nan", "none", "null", "n/a", "na"}
FAILED = {"failed", "crashed", "killed"}  # a run's state; of W&B and MLflow
UNFINISHED = {"running", "scheduled", "pending", "preempting"}


@dataclass(frozen=True)
class _Row:
    where: str
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of results, what they are called, and what errors call them."""

    rows: tuple[_Row, ...]
    name: str
    place: str


@dataclass
class _Columns:
    """Where a table has what: the metric's column, and those of other metrics in the long form."""

    variant: str
    seed: str
    value: str
    item: str | None
    group: str | None
    state: str | None
    others: list[str] = field(default_factory=list)


@dataclass
class _Runs:
    """What the rows say: label → seed → item → metric → value; nan where a run has none."""

    values: dict[str, dict[int, dict[str, dict[str, float]]]] = field(default_factory=dict)
    failed: list[Failure] = field(default_factory=list)
    pending: dict[tuple[str, int], str] = field(default_factory=dict)  # and the state
    notes: list[str] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)  # item → what it belongs to


def compare(
    results: Path | str | Iterable[Mapping[str, Any]] | Table,
    metric: Metric,
    *,
    plain: str | None = None,
    variant: str | None = None,
    seed: str | None = None,
    item: str | None = None,
    group: str | None = None,
    overlap: float = 0.0,
    claims: Sequence[Claim] = (),
    matters: float | None = None,
    command: str = "",
) -> Summary:
    """The summary of results that were trained elsewhere; `foveate.report.write_report` draws its page.

    Args:
        results: a CSV file, rows as mappings from column to value, or a table of `results_table.by_dataset`.
        metric: what the verdict is about; its name is that of the column.
        plain: the variant that the others are compared with; None: the one called "plain" or "none".
        variant, seed: names of these columns; None: as the rules above say.
        item: column that names the held-out item of a row; a seed's score is then the mean over its items.
        group: column that says what an item belongs to, such as a subject; groups are resampled whole.
        overlap: test over training items, where each seed was trained on a division of its own; 0: one for all.
        claims: the primary comparisons, named before the runs; (): each variant with plain.
        matters: the smallest difference that matters, in points of a percentage or the metric's unit; None: half a
            point, else 1 % of plain's mean.
        command: what a person would type to do this again, for the page.

    Other columns of a long form that hold numbers alone are described and not judged. A score that is missing or no
    finite number is a failed run, as is a run whose state says so.

    Raises: ValueError: in one line, with the line of the file: a seed that is missing or no whole number, a row that
        comes twice, text in place of a number, no such column (with the nearest), no plain variant. OSError.
    """
    table = results if isinstance(results, Table) else _read(results)
    name, place = table.name, table.place
    rows = [_opened(row) for row in table.rows]
    columns = _columns(rows, metric.name, variant, seed, item, group, place)
    metrics = [metric, *(Metric(name, unit="", better="neither") for name in columns.others)]
    runs = _gathered(rows, columns, metrics)
    reference = _plain_of(list(runs.values), plain, place)
    labels = [reference, *(label for label in runs.values if label != reference)]
    if len(labels) == 1:
        raise ValueError(f"{place}: wanted a variant to compare with {reference!r}; got none")
    scores, items = _scores(runs, metrics, with_items=columns.item is not None)
    runs.notes += [f"{label}, seed {number}, is {state}" for (label, number), state in runs.pending.items()]
    seeds = sorted({number for of_arm in runs.values.values() for number in of_arm} | {one for _, one in runs.pending})
    for label in labels:
        there = {*runs.values[label], *(number for arm, number in runs.pending if arm == label)}
        absent = [number for number in seeds if number not in there]
        if absent:
            runs.notes.append(f"{label} has no seed {', '.join(map(str, absent))}: left out of its pairs")
    setting = Setting(
        name=name,
        seeds=tuple(seeds),
        question=_question(labels, metric),
        reference="the plain network" if reference in PLAIN_NAMES else reference,
        matters=matters,
        overlap=overlap,
        compare=tuple(claims),
    )
    about: dict[str, Any] = {"data": f"{name}: {len(rows):,} rows, {len(labels)} variants", "notes": runs.notes}
    if command:
        about["command"] = command
    arms = [Arm(label, "plain" if label == reference else "attention") for label in labels]
    return analyse(
        setting,
        metrics,
        arms,
        scores,
        failed=runs.failed,
        pending=list(runs.pending),
        about=about,
        items=items,
        groups=runs.groups,
    )


def by_dataset(results: Path | str | Iterable[Mapping[str, Any]], column: str) -> dict[str, Table]:
    """Name → table of each data set, for `compare`; `foveate.study.analyse.across` says what they say together.

    column: of the data sets' names. Raises: ValueError: as `compare`; a row without a name. OSError.
    """
    table = _read(results)
    known = list(dict.fromkeys(name for row in table.rows for name in row.cells))
    if column not in known:
        raise ValueError(f"{table.place}: has no column {column!r}; {nearest(column, known)}")
    parts: dict[str, list[_Row]] = {}
    for row in table.rows:
        name = str(row.cells.get(column) or "").strip()
        if not name:
            raise ValueError(f"{row.where}: column {column!r}: wanted the name of a data set; got nothing")
        cells = {other: value for other, value in row.cells.items() if other != column}
        parts.setdefault(name, []).append(_Row(row.where, cells))
    return {name: Table(tuple(rows), name, f"{table.place}, {name}") for name, rows in parts.items()}


def _read(results: Path | str | Iterable[Mapping[str, Any]]) -> Table:
    if isinstance(results, (str, Path)):
        path = Path(results)
        table = Table(tuple(_rows_of(path)), path.name, str(path))
    else:
        rows = tuple(_Row(f"row {n}", row) for n, row in enumerate(results, 1))
        table = Table(rows, "results", "results")
    if not table.rows:
        raise ValueError(f"{table.place}: wanted a row for each variant and seed; got none")
    return table


def _question(labels: list[str], metric: Metric) -> str:
    plain, *variants = labels
    who = f"Does {variants[0]}" if len(variants) == 1 else f"Does any of {len(variants)} variants"
    return f"{who} beat {plain} in {metric.name}?"


def _rows_of(path: Path) -> Iterator[_Row]:
    """Raises: ValueError: no text table; a row longer than the header; a column that comes twice."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count), strict=True)
            header = [name.strip() for name in next(reader, [])]
            if twice := [name for name in header if name and header.count(name) > 1]:
                raise ValueError(f"{path}:1: wanted each column once; got {twice[0]!r} twice")
            for cells in reader:
                if len(cells) > len(header):
                    raise ValueError(f"{path}:{reader.line_num}: wanted {len(header)} cells; got {len(cells)}")
                if any(cell.strip() for cell in cells):
                    row = dict(zip(header, cells, strict=False))
                    yield _Row(f"{path}:{reader.line_num}", row)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: wanted a CSV file in UTF-8 ({error.reason} at byte {error.start})") from None
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: not CSV ({error})") from None


def _opened(row: _Row) -> _Row:
    """The row with the dicts of W&B's API as columns config.NAME and summary.NAME."""
    cells = dict(row.cells)
    if not {"config", "summary"} <= set(cells):
        return row
    for column in ("config", "summary"):
        content = cells.pop(column)
        if isinstance(content, str):
            try:
                content = ast.literal_eval(content)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                raise ValueError(f"{row.where}: column {column!r}: wanted a dict; got {content[:60]!r}") from None
        if not isinstance(content, Mapping):
            raise ValueError(f"{row.where}: column {column!r}: wanted a dict; got {type(content).__name__}")
        cells |= {f"{column}.{name}": value for name, value in content.items()}
    return _Row(row.where, cells)


def _columns(
    rows: Sequence[_Row],
    metric: str,
    variant: str | None,
    seed: str | None,
    item: str | None,
    group: str | None,
    place: str,
) -> _Columns:
    known = list(dict.fromkeys(column for row in rows for column in row.cells))
    exported = any(name.startswith(("metrics.", "params.", "summary.", "config.")) for name in known)
    exported = exported or {"Name", "State"} <= set(known)

    def find(what: str, given: str | None, *usual: str) -> str:
        for name in (given,) if given else usual:
            if name in known:
                return name
        flag = "" if given or what == "metric" else f" (or name another with --{what})"
        raise ValueError(f"{place}: has no column {given or usual[0]!r}{flag}; {nearest(given or usual[0], known)}")

    found = _Columns(
        variant=find("variant", variant, "variant", "params.variant", "tags.variant", "config.variant"),
        seed=find("seed", seed, "seed", "params.seed", "tags.seed", "config.seed"),
        value=find("metric", None, metric, f"metrics.{metric}", f"summary.{metric}"),
        item=find("item", item) if item else None,
        group=find("group", group) if group else None,
        state=next((name for name in ("status", "State", "state") if exported and name in known), None),
    )
    if group and not item:
        raise ValueError(f"{place}: --group says what an item belongs to; wanted --item COLUMN as well")
    taken = {found.variant, found.seed, found.value, found.item, found.group}
    if not exported:
        found.others = [name for name in known if _is_name(name) and name not in taken and _all_numbers(rows, name)]
    return found


def _is_name(column: str) -> bool:
    """Can a metric be called so? An index column without a name is none."""
    try:
        return bool(Metric(column))
    except ValueError:
        return False


def _all_numbers(rows: Sequence[_Row], column: str) -> bool:
    """Does the column hold numbers, and nothing else but empty cells?"""
    cells = [str(row.cells.get(column, "")).strip() for row in rows]
    given = [cell for cell in cells if cell.lower() not in MISSING]
    try:
        return bool([float(cell) for cell in given])
    except ValueError:
        return False


def _gathered(rows: Sequence[_Row], columns: _Columns, metrics: Sequence[Metric]) -> _Runs:
    runs = _Runs()
    names = [columns.value, *columns.others]
    seen: dict[tuple[str, int, str], str] = {}
    for row in rows:
        label = str(row.cells.get(columns.variant) or "").strip()
        if not label:
            raise ValueError(f"{row.where}: column {columns.variant!r}: wanted the name of a variant; got nothing")
        seed = _seed(row, columns.seed)
        item = str(row.cells.get(columns.item) or "").strip() if columns.item else ""
        if columns.item and not item:
            raise ValueError(f"{row.where}: column {columns.item!r}: wanted the name of an item; got nothing")
        state = str(row.cells.get(columns.state) or "").strip().lower() if columns.state else ""
        if state in UNFINISHED:
            runs.pending[label, seed] = state
            runs.values.setdefault(label, {})
            continue
        what = f"{label!r}, seed {seed}{f', item {item!r}' if item else ''}"
        if (label, seed, item) in seen:
            first = seen[label, seed, item].rpartition(":")[2]
            hint = "" if columns.item else "; rows of single items need --item COLUMN"
            raise ValueError(f"{row.where}: {what} was given before, in {_line(first)}{hint}")
        seen[label, seed, item] = row.where
        if columns.group:
            group = str(row.cells.get(columns.group) or "").strip()
            if not group:
                raise ValueError(f"{row.where}: column {columns.group!r}: wanted what the item belongs to; got nothing")
            if runs.groups.setdefault(item, group) != group:
                raise ValueError(
                    f"{row.where}: item {item!r} belongs to {runs.groups[item]!r} in another row and to {group!r} here"
                )
        values = {one.name: _number(row, name) for one, name in zip(metrics, names, strict=True)}
        if state in FAILED:
            failure = Failure(label, seed, f"its state is {state}")
            runs.failed += [] if failure in runs.failed else [failure]
            values = {}
        runs.values.setdefault(label, {}).setdefault(seed, {})[item] = values
    return runs


def _line(text: str) -> str:
    return text if text.startswith("row ") else f"line {text}"


def _seed(row: _Row, column: str) -> int:
    cell = row.cells.get(column)
    text = "" if cell is None else str(cell).strip()
    try:
        value = float(text)
        if value == int(value) and not isinstance(cell, bool):
            return int(text) if text.isdigit() else int(value)
    except (ValueError, OverflowError):
        pass
    got = repr(text[:60]) if text else "nothing"
    raise ValueError(f"{row.where}: column {column!r}: wanted a seed, a whole number; got {got}")


def _number(row: _Row, column: str) -> float:
    cell = row.cells.get(column)
    text = "" if cell is None else str(cell).strip()
    if text.lower() in MISSING:
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{row.where}: column {column!r}: wanted a number; got {text[:60]!r}") from None


def _plain_of(labels: list[str], given: str | None, place: str) -> str:
    if given is not None:
        if given not in labels:
            raise ValueError(f"{place}: has no variant {given!r} to compare with; {nearest(given, labels)}")
        return given
    found = [label for label in labels if label in PLAIN_NAMES]
    if not found:
        few = f"{', '.join(labels[:8])}{', …' if len(labels) > 8 else ''}"
        raise ValueError(f"{place}: wanted a variant called 'plain' or 'none', or its name as --plain; got {few}")
    return found[0]


def _scores(
    runs: _Runs, metrics: Sequence[Metric], *, with_items: bool
) -> tuple[list[Score], dict[str, dict[int, Any]] | None]:
    """Scores of the runs that did not fail, and with an item column names and values of the judged metric."""
    failed = {(failure.label, failure.seed) for failure in runs.failed}
    rows: list[Score] = []
    items: dict[str, dict[int, Any]] = {}
    for label, of_arm in runs.values.items():
        for seed, of_run in of_arm.items():
            if (label, seed) in failed:
                continue
            for number, metric in enumerate(metrics):
                values = [entry[metric.name] for entry in of_run.values()]
                mean = math.fsum(values) / len(values)
                if number == 0 or math.isfinite(mean):  # an empty cell of another column is no failure
                    rows.append(Score(label, seed, metric.name, mean))
            if with_items:
                values = [entry[metrics[0].name] for entry in of_run.values()]
                items.setdefault(label, {})[seed] = (list(of_run), np.array(values))
    return rows, items if with_items else None
