"""A study's rows, read back from its folder: its summary, and where it stands."""

import json
from pathlib import Path
from typing import Any

from foveate.spec import read_study
from foveate.store import Store
from foveate.study.analyse import analyse
from foveate.study.folder import RESULTS, STUDY


def summarise(folder: Path) -> dict[str, Any]:
    """The summary of the study in a folder, from what is finished so far. Raises: ValueError: it holds no study."""
    store = Store(folder / RESULTS, read_only=True)
    try:
        study = read_study(folder / STUDY)
        arms, labels, about = store.kept("arms"), store.kept("labels"), store.kept("about")
        if not arms:
            raise ValueError(f"{folder}: the study in it was never planned; run it first")
        runs = [run for run in store.runs() if run["key"] in labels]
        metrics = [row for row in store.metrics() if row["run"] in labels]
        history = [row for row in store.history() if row["run"] in labels]
        costs = _costs(store.costs())
        latency = store.kept("latency") or {}
    finally:
        store.close()
    seed_of = {run["key"]: run["seed"] for run in runs}
    results = [
        {"label": labels[row["run"]], "state": "done"} | {k: row[k] for k in ("seed", "metric", "value", "unit")}
        for row in metrics
        if row["metric"] == "accuracy"
    ]
    curves = [
        {"label": labels[row["run"]], "seed": seed_of[row["run"]]} | {k: row[k] for k in ("epoch", "metric", "value")}
        for row in history
    ]
    done = next((row for row in metrics), None)
    about |= {
        "machine": done["machine"] if done else "",
        "versions": json.loads(done["versions"]) if done else {},
        "latency": latency | {"device": study.train.device},
        "seconds": sum(row["value"] for row in metrics if row["metric"] == "seconds"),
        "failed": [
            {"label": labels[run["key"]], "seed": run["seed"], "error": run["error"]}
            for run in runs
            if run["state"] == "failed"
        ],
    }
    return analyse(study, arms, results, curves, costs, about)


def _costs(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    costs: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["low"] is None:
            value: Any = int(row["value"])
        else:
            value = {"median": row["value"], "low": row["low"], "high": row["high"]}
        costs.setdefault(row["arm"], {})[row["metric"]] = value
    return costs


def status(folder: Path) -> dict[str, Any]:
    """Where a study stands: {"states": {state: runs}, "runs": [{"arm", "seed", "state", "attempts", "error"}]}."""
    store = Store(folder / RESULTS, read_only=True)
    try:
        labels = store.kept("labels") or {}
        runs = [run for run in store.runs() if run["key"] in labels]
    finally:
        store.close()
    rows = [
        {"arm": labels[run["key"]]} | {k: run[k] for k in ("seed", "state", "attempts", "error", "key")} for run in runs
    ]
    states = {state: sum(row["state"] == state for row in rows) for state in ("done", "running", "todo", "failed")}
    return {"states": states, "runs": rows}
