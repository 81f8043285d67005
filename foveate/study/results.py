"""A study's rows, read back from its folder: its summary, and where it stands."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foveate.explaining import ALIKE, SIMILARITY
from foveate.files import read_json
from foveate.items import ITEMS, read_groups, read_items, read_tables
from foveate.spec import DRAWS, Metric, Study
from foveate.store import Store
from foveate.study.analyse import analyse
from foveate.study.analyse.classes import by_class
from foveate.study.analyse.items import of_metric
from foveate.study.analyse.null_check import null_check
from foveate.study.folder import RESULTS, STUDY, is_locked, is_paused
from foveate.study.ledger import read_ledger
from foveate.study.notes import in_words, read_notes
from foveate.study.standing import progress_of
from foveate.study.tuning import listed_values, standing_runs, tuning, validation_scores
from foveate.study_file import read_study
from foveate.summary import (
    DETAILS,
    Arm,
    ArmDetails,
    AttentionState,
    Claim,
    Cost,
    Failure,
    Logged,
    NullCheck,
    Score,
    Setting,
    Summary,
    Times,
    arm_details,
    corrupted_scores,
    is_corrupted_row,
)
from foveate.tasks.gallery import ATTENTION, EXAMPLES, MISTAKES
from foveate.train.attention_state import STATE
from foveate.training import validation_name


def summarise(folder: Path, more: Mapping[str, Sequence[Mapping[str, float]]] | None = None) -> Summary:
    """The summary of the study in a folder, from what is finished so far.

    more: key of a run → {"epoch", name: value} of each epoch that it has logged without being finished, for the curves.

    Raises: ValueError: it holds no study, or runs that measured one metric with different units or directions.
    """
    store = Store(folder / RESULTS, read_only=True)
    try:
        study = read_study(folder / STUDY)
        arms = [Arm(**{**row, "matches": tuple(row["matches"])}) for row in store.get_meta("arms") or []]
        if not arms:
            raise ValueError(f"{folder}: the study in it was never planned; run it first")
        metrics = [Metric.model_validate(row) for row in store.get_meta("metrics")]
        about, latency = store.get_meta("about"), store.get_meta("latency") or {}
        roofs = store.get_meta("roofs")
        planned = runs_of_the_plan(store)
        measured = [row for row in store.metrics() if row["run"] in planned]
        if study.null_check:  # seeds of their own are paired in their order
            planned = {key: run | {"seed": run["seed"] % DRAWS} for key, run in planned.items()}
            measured = [row | {"seed": row["seed"] % DRAWS} for row in measured]
        on_validation = validation_scores(measured, metrics[0])
        runs = standing_runs(planned, on_validation, metrics[0])
        unjudged = {validation_name(metric.name) for metric in metrics}
        rows = [row for row in measured if row["run"] in runs and row["metric"] not in unjudged]
        under = [row for row in rows if is_corrupted_row(row["metric"])]
        rows = [row for row in rows if not is_corrupted_row(row["metric"])]
        curves = [*_logged(store.history(), runs), *_logged(_unfinished(more or {}), runs)]
        costs = _costs(store.costs())
        ledger = read_ledger(store)
    finally:
        store.close()
    about |= {} if roofs is None else {"roofs": roofs}
    files = {key: _files(folder / "runs" / key) for key in runs}
    about |= _about(runs, files, measured) | {"latency": latency | {"device": study.train.device}}
    labels = {arm.label for arm in arms}
    items = _items(runs, files)
    groups = _groups(items)
    summary = analyse(
        _setting(study, about, arms, rows),
        _all_metrics(metrics, rows),
        arms,
        [Score(row["arm"], row["seed"], row["metric"], row["value"]) for row in rows],
        curves=curves,
        costs={label: cost for label, cost in costs.items() if label in labels},
        failed=[
            Failure(run["arm"], run["seed"], run["error"] or "no message")  # of listed values, every one failed
            for run in runs.values()
            if run["state"] == "failed"
        ],
        pending=[(run["arm"], run["seed"]) for run in runs.values() if run["state"] in ("todo", "running")],
        about=about,
        items=items,
        groups=groups,
        ledger=ledger,
        attention=_attention(runs, files),
    )
    chosen = tuning(study.train.listed, planned, on_validation, metrics[0], about.get("validation_items"))
    ends = [arm.at_an_end for arm in chosen.arms if arm.at_an_end] if chosen else []
    details = _details(runs, files)
    found = [f"{one.label}: {line}" for one in details for line in one.findings]
    notes = [*about.get("notes", ()), *ends, *_at_chance(summary), *_sanity_notes(summary), *found]
    notes += [*machine_notes(planned.values(), latency.get("where")), *map(in_words, read_notes(folder))]
    return replace(
        summary,
        about=summary.about | {"notes": notes},
        tuning=chosen,
        null_check=_null_check(summary, items, groups) if study.null_check else None,
        corrupted=corrupted_scores(
            metrics[0], [Score(row["arm"], row["seed"], row["metric"], row["value"]) for row in under]
        ),
        details=details,
        published=study.published,
        by_class=by_class(items, about.get("class_names") or [], summary.plain, groups, summary.setting.overlap),
    )


def machine_notes(runs: Iterable[Mapping[str, Any]], costs_on: str | None) -> list[str]:
    """Where runs were trained on machines of several types, which, and whether each seed stayed on one; and the machine
    of a cluster that costs were measured on."""
    of_seed: dict[int, set[str]] = {}
    for run in runs:
        if run["state"] == "done":
            of_seed.setdefault(run["seed"] % DRAWS, set()).add(run["machine"])
    machines = sorted(set().union(*of_seed.values()))
    notes = [] if costs_on is None else [f"costs were measured on {costs_on}, alone"]
    if len(machines) < 2:
        return notes
    mixed = [seed for seed, those in of_seed.items() if len(those) > 1]
    stay = "; all runs of a seed are on one, so that differences are between runs of one machine"
    if mixed:
        stay = f"; the runs of seed{'s' if len(mixed) > 1 else ''} {', '.join(map(str, mixed))} are on several"
    return [*notes, f"runs are on {len(machines)} types of machine ({'; '.join(machines)}){stay}"]


def _unfinished(logged: Mapping[str, Sequence[Mapping[str, float]]]) -> list[dict[str, Any]]:
    """Rows as of `Store.history`."""
    return [
        {"run": key, "epoch": int(entry["epoch"]), "metric": name, "value": value}
        for key, epochs in logged.items()
        for entry in epochs
        for name, value in entry.items()
        if name != "epoch"
    ]


def _logged(rows: Iterable[Mapping[str, Any]], runs: Mapping[str, Mapping[str, Any]]) -> list[Logged]:
    """Rows as of `Store.history`, those of these runs."""
    return [
        Logged(run["arm"], run["seed"], row["epoch"], row["metric"], row["value"])
        for row in rows
        if (run := runs.get(row["run"]))
    ]


def _null_check(summary: Summary, items: dict[str, dict[int, str]], groups: dict[str, str]) -> NullCheck:
    """Of every finished run of a study whose arms are one network."""
    found = [(arm.label, seed, value) for arm in summary.arms if arm.score for seed, value in arm.score.of_seeds()]
    paths = [items.get(label, {}).get(seed) for label, seed, _ in found]
    values = [
        None
        if path is None or (kept := read_items(path)) is None
        else of_metric(kept, summary.metric, read_tables(path))
        for path in paths
    ]
    scores, overlap = [value for *_, value in found], summary.setting.overlap
    return null_check(scores, values, groups, arms=len(summary.arms), overlap=overlap)


def _at_chance(summary: Summary) -> list[str]:
    """A note where the plain network is no better than the task's baseline."""
    chance = (summary.about.get("chance") or {}).get(summary.metric.name)
    score = next((arm.score for arm in summary.arms if arm.label == summary.plain), None)
    if chance is None or score is None:
        return []
    worst = (
        score.mean
        if score.low is None or score.high is None
        else {"lower": score.high}.get(summary.metric.better, score.low)
    )
    if summary.metric.gain(worst, chance) > 0:
        return []
    found, most = summary.metric.format(score.mean), summary.metric.format(chance)
    baseline = (
        summary.about.get("baseline") or "always giving the most frequent class"
    )  # of studies before it had a name
    return [
        f"the plain network ({found}) is not distinguishable from {baseline} ({most}): it "
        "has not learned the task, and a difference to it says little; train longer, with another learning rate, or "
        "from trained weights"
    ]


def _sanity_notes(summary: Summary) -> list[str]:
    """A note for each arm whose maps the network with random weights shares."""
    found = []
    for arm in summary.arms:
        score = arm.estimates.get(SIMILARITY)
        if score is not None and score.mean >= ALIKE:
            found.append(
                f"{arm.label}: its maps may not show what it learned: those with random weights are alike "
                f"(mean rank correlation {score.mean:.2f}; Adebayo et al., 2018, arXiv:1810.03292)"
            )
    return found


def _setting(study: Study, about: dict[str, Any], arms: list[Arm], rows: list[dict[str, Any]]) -> Setting:
    own = {arm.label for arm in arms if arm.epochs is not None}  # controls that train longer
    own |= {variant.label for variant in study.variants if variant.prune is not None}
    ran = [int(row["value"]) for row in rows if row["metric"] == "epochs" and row["arm"] not in own]
    epochs = None if study.trainer or "epochs" in study.train.listed else study.train.epochs
    words: dict[str, str] = {}
    if study.null_check:
        words["question"] = f"Does a copy of {study.network} beat it?"
    elif len(study.variants) > 1 and not any(variant.insert for variant in study.variants):
        plain = study.variants[0].label or study.network
        others = study.variants[1:]
        what = f"any of {len(others)} variants" if len(others) > 1 else others[0].label
        if any(one.network for one in others):
            what = "another network"
        words = {"question": f"Does {what} beat {plain}?", "reference": plain}
    return Setting(
        name=study.name,
        network=study.network,
        seeds=study.seeds,
        control=study.control,
        epochs=epochs,
        epochs_ran=(min(ran), max(ran)) if ran and epochs else None,
        matters=study.matters,
        overlap=about["test_items"] / about["train_items"] if study.resplit else 0.0,
        **words,
        compare=tuple(Claim(one.arm, one.against, one.metric) for one in study.compare),
    )


def runs_of_the_plan(store: Store) -> dict[str, dict[str, Any]]:
    """Key → row of the runs of the study as it stands; a folder keeps those of earlier variants and seeds as well."""
    keys = set(store.get_meta("runs") or [])
    return {run["key"]: run for run in store.runs() if run["key"] in keys}


def _all_metrics(declared: list[Metric], rows: list[dict[str, Any]]) -> list[Metric]:
    """The declared metrics, then what else the runs measured, with the unit and direction that the rows give."""
    metrics = {metric.name: metric for metric in declared}
    for row in rows:
        metric = metrics.get(row["metric"])
        if metric is None:
            metric = metrics[row["metric"]] = Metric(row["metric"], row["unit"], row["better"])
        if (metric.unit, metric.better) != (row["unit"], row["better"]):
            raise ValueError(
                f"metric {metric.name!r}: {metric.better} is better, in {metric.unit or 'no unit'}; {row['arm']!r}, "
                f"seed {row['seed']}, measured it as {row['better']} is better, in {row['unit'] or 'no unit'}"
            )
    return list(metrics.values())


def _files(folder: Path) -> dict[str, str]:
    """Name → path of a run's files."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.path for entry in entries}
    except FileNotFoundError:  # not begun
        return {}


Files = Mapping[str, Mapping[str, str]]  # key of a run → as of `_files`


def _about(runs: dict[str, dict[str, Any]], files: Files, rows: list[dict[str, Any]]) -> dict[str, Any]:
    done = next((run for run in runs.values() if run["state"] == "done"), None)
    examples: dict[str, list[str]] = {}
    for key, run in runs.items():
        pictures = [files[key][name] for name in (EXAMPLES, MISTAKES, ATTENTION) if name in files[key]]
        if run["arm"] not in examples and pictures:  # of the first seed with one
            examples[run["arm"]] = pictures
    return {
        "machine": done["machine"] if done else "",
        "versions": json.loads(done["versions"]) if done else {},
        "seconds": sum(row["value"] for row in rows if row["metric"] == "seconds"),
        "examples": examples,
    }


def _items(runs: dict[str, dict[str, Any]], files: Files) -> dict[str, dict[int, str]]:
    items: dict[str, dict[int, str]] = {}
    for key, run in runs.items():
        if run["state"] == "done" and ITEMS in files[key]:
            items.setdefault(run["arm"], {})[run["seed"]] = files[key][ITEMS]
    return items


def _details(runs: dict[str, dict[str, Any]], files: Files) -> tuple[ArmDetails, ...]:
    found: dict[str, dict[int, Any]] = {}
    for key, run in runs.items():
        if run["state"] == "done" and DETAILS in files[key]:
            found.setdefault(run["arm"], {})[run["seed"]] = read_json(Path(files[key][DETAILS]))
    return tuple(arm_details(label, of_arm) for label, of_arm in found.items())


def _attention(runs: dict[str, dict[str, Any]], files: Files) -> list[AttentionState]:
    return [
        AttentionState.of(run["arm"], run["seed"], read_json(Path(files[key][STATE])))
        for key, run in runs.items()
        if STATE in files[key]
    ]


def _groups(items: dict[str, dict[int, str]]) -> dict[str, str]:
    """What each item belongs to, where the data say it."""
    groups: dict[str, str] = {}
    for of_arm in items.values():
        for path in of_arm.values():
            groups |= read_groups(path)
    return groups


def _costs(rows: list[dict[str, Any]]) -> dict[str, Cost]:
    costs: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["low"] is None:
            value: Any = int(row["value"])
        else:
            value = Times(row["value"], row["low"], row["high"])
        costs.setdefault(row["arm"], {})[row["metric"]] = value
    return {label: Cost(**values) for label, values in costs.items()}


def status(folder: Path) -> dict[str, Any]:
    """Where a study stands: {"states": {state: runs}, "runs": [{"arm", "seed", "values", "state", "attempts",
    "error", "key", "progress"}], "working", "paused"}.

    values: those of the run that the study lists. progress: (steps done, steps in all) of a run at work, 0 where not
    known yet. working: does a process work in the folder? paused: was it asked to stop at the next checkpoints?"""
    store = Store(folder / RESULTS, read_only=True)
    try:
        runs = runs_of_the_plan(store)
        listed = read_study(folder / STUDY).train.listed
        values = listed_values(listed, runs)
    finally:
        store.close()
    rows = [
        {name: run[name] for name in ("arm", "seed", "state", "attempts", "error", "key")} | {"values": values[key]}
        for key, run in runs.items()
    ]
    progress, working = progress_of(folder), is_locked(folder)
    rows = [row | {"progress": progress.get(row["key"])} for row in rows]
    if not working:  # a coordinator that was killed leaves its runs as "running"
        rows = [row | {"state": "todo"} if row["state"] == "running" else row for row in rows]
    states = {state: sum(row["state"] == state for row in rows) for state in ("done", "running", "todo", "failed")}
    return {"states": states, "runs": rows, "working": working, "paused": is_paused(folder)}
